//! candle with the exports that the bench's page calls: load a GGUF, read a prompt, decode a token. As in candle's own
//! browser examples, but for the file, which is read piece by piece and not held in memory a second time.

use std::io::{BufReader, Error, Read, Result, Seek, SeekFrom};

use candle_core::quantized::gguf_file::Content;
use candle_core::{Device, IndexOp, Tensor};
use candle_transformers::models::{quantized_gemma3, quantized_llama};
use js_sys::{Function, Uint8Array};
use wasm_bindgen::prelude::*;

/// A file on the device: `read(offset, into)` fills the array and is synchronous.
struct File {
    read: Function,
    size: u64,
    at: u64,
}

impl Read for File {
    fn read(&mut self, buf: &mut [u8]) -> Result<usize> {
        let len = usize::try_from(self.size.saturating_sub(self.at))
            .unwrap_or(usize::MAX)
            .min(buf.len());
        let array = Uint8Array::new_with_length(len as u32);
        self.read
            .call2(&JsValue::NULL, &JsValue::from_f64(self.at as f64), &array)
            .map_err(|error| Error::other(format!("{error:?}")))?;
        array.copy_to(&mut buf[..len]);
        self.at += len as u64;
        Ok(len)
    }
}

impl Seek for File {
    fn seek(&mut self, to: SeekFrom) -> Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.size.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or_else(|| Error::other("before the first byte"))?;
        Ok(self.at)
    }
}

enum Weights {
    Llama(quantized_llama::ModelWeights),
    Gemma(quantized_gemma3::ModelWeights),
}

/// A model, and how far its cache goes.
#[wasm_bindgen]
pub struct Model {
    weights: Weights,
    device: Device,
    position: usize,
}

#[wasm_bindgen]
impl Model {
    /// # Errors
    /// What candle says.
    #[wasm_bindgen(constructor)]
    pub fn load(read: Function, size: f64) -> std::result::Result<Model, JsError> {
        std::panic::set_hook(Box::new(|info| wasm_bindgen::throw_str(&info.to_string())));
        let device = Device::Cpu;
        let file = File {
            read,
            size: size as u64,
            at: 0,
        };
        let mut file = BufReader::with_capacity(1 << 16, file);
        let content = Content::read(&mut file)?;
        let architecture = content.metadata.get("general.architecture");
        let is_gemma =
            architecture.is_some_and(|name| name.to_string().is_ok_and(|name| name.starts_with("gemma")));
        let weights = if is_gemma {
            Weights::Gemma(quantized_gemma3::ModelWeights::from_gguf(
                content, &mut file, &device,
            )?)
        } else {
            Weights::Llama(quantized_llama::ModelWeights::from_gguf(
                content, &mut file, &device,
            )?)
        };
        Ok(Self {
            weights,
            device,
            position: 0,
        })
    }

    /// Reads a prompt from the beginning, and returns the most likely next token.
    ///
    /// # Errors
    /// What candle says.
    pub fn prefill(&mut self, tokens: &[u32]) -> std::result::Result<u32, JsError> {
        // A prompt that starts at 0 replaces Gemma's cache by itself.
        if let Weights::Llama(model) = &mut self.weights {
            model.clear_kv_cache();
        }
        self.position = 0;
        self.forward(tokens)
    }

    /// Reads one token more.
    ///
    /// # Errors
    /// What candle says.
    pub fn decode(&mut self, token: u32) -> std::result::Result<u32, JsError> {
        self.forward(&[token])
    }

    fn forward(&mut self, tokens: &[u32]) -> std::result::Result<u32, JsError> {
        let input = Tensor::new(tokens, &self.device)?.unsqueeze(0)?;
        let logits = match &mut self.weights {
            Weights::Llama(model) => model.forward(&input, self.position)?,
            Weights::Gemma(model) => model.forward(&input, self.position)?,
        };
        self.position += tokens.len();
        Ok(logits.i(0)?.argmax(0)?.to_scalar::<u32>()?)
    }
}
