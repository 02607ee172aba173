//! Our engine with the exports of `../candle` and with as little around it: all layers of a model, tokens in, a token out. No
//! tokenizer, chat template or grammar.

#[path = "../../engine/src/file.rs"]
mod file;

use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use js_sys::Function;
use kwaainet_engine::gguf::Gguf;
use kwaainet_engine::{
    BlockInput, BlockSession, EngineError, LoadOptions, ModelBlocks, Wanted, check_runnable,
};
use kwaainet_types::{ConsentGrant, Permit, RunAi};
use wasm_bindgen::prelude::*;

use self::file::File;

async fn all_layers(permit: &Permit<RunAi>, file: &File) -> Result<ModelBlocks, EngineError> {
    let layers = check_runnable(&Gguf::read(file).await?)?.layers as usize;
    ModelBlocks::load(permit, file, 0..layers, LoadOptions::default(), &mut |_, _| {}).await
}

/// The layers, and what they have read.
#[wasm_bindgen]
pub struct Model {
    session: BlockSession,
    permit: Permit<RunAi>,
}

#[wasm_bindgen]
impl Model {
    /// # Errors
    /// What the engine says.
    #[wasm_bindgen(constructor)]
    pub fn load(read: Function, size: f64) -> Result<Model, JsError> {
        let file = File {
            read,
            size: size as u64,
        };
        let permit = ConsentGrant::of_operator(0).permit::<RunAi>(0)?;
        let blocks = {
            let loading = pin!(all_layers(&permit, &file));
            // The file never makes it wait.
            match loading.poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(blocks) => blocks?,
                Poll::Pending => return Err(JsError::new("the file is not there at once")),
            }
        };
        Ok(Self {
            session: BlockSession::new(Arc::new(blocks))?,
            permit,
        })
    }

    /// Reads a prompt from the beginning, and returns the most likely next token.
    ///
    /// # Errors
    /// What the engine says.
    pub fn prefill(&mut self, tokens: &[u32]) -> Result<u32, JsError> {
        self.session.rewind(0)?;
        self.forward(tokens)
    }

    /// Reads one token more.
    ///
    /// # Errors
    /// What the engine says.
    pub fn decode(&mut self, token: u32) -> Result<u32, JsError> {
        self.forward(&[token])
    }

    fn forward(&mut self, tokens: &[u32]) -> Result<u32, JsError> {
        let input = BlockInput::Tokens(tokens);
        let logits = self.session.forward(&self.permit, input, Wanted::Last)?;
        let best = (0_u32..).zip(&logits).max_by(|(_, a), (_, b)| a.total_cmp(b));
        Ok(best.map_or(0, |(token, _)| token))
    }
}
