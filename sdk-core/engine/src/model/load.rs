//! A model in memory: its layers, its tokenizer, and how it writes a conversation.

use std::sync::{Arc, OnceLock};

use kwaainet_platform::{MaybeSend, Parallel, ReadAt, Sequential};
use kwaainet_types::{Permit, RunAi};

use super::blocks::ModelBlocks;
use super::config::Config;
use super::info::{ModelInfo, describe};
use super::tensors::{TensorMap, Use};
use super::weights::READ;
use crate::backend::cpu::Cpu;
use crate::backend::{Backend, KvFormat, Shape};
use crate::chat_template::{ChatTemplate, TemplateError};
use crate::error::EngineError;
use crate::executor::shape_of;
use crate::gguf::Gguf;
use crate::grammar::Vocabulary;
use crate::tokenizer::Tokenizer;

/// Longer than any model was trained for; keeps sizes in range whatever a file claims.
const LONGEST_CONTEXT: u32 = 1 << 21;

/// How a model is loaded.
#[derive(Clone)]
pub struct LoadOptions {
    /// Longest context of a session; the model's own limit applies too.
    pub context_length: u32,
    /// How a session remembers keys and values.
    pub kv_format: KvFormat,
    /// Processors to compute on.
    pub parallel: Arc<dyn Parallel>,
    /// Most memory for weights, one session's KV cache and scratch.
    pub memory_limit: Option<u64>,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            context_length: 2048,
            kv_format: KvFormat::F16,
            parallel: Arc::new(Sequential),
            memory_limit: None,
        }
    }
}

impl std::fmt::Debug for LoadOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoadOptions")
            .field("context_length", &self.context_length)
            .field("kv_format", &self.kv_format)
            .field("memory_limit", &self.memory_limit)
            .finish_non_exhaustive()
    }
}

/// Bytes that a model and one session take. Known from the header, before anything is allocated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryPlan {
    /// Weights, as they are kept in memory.
    pub weights: u64,
    /// Keys and values of the whole context.
    pub kv_cache: u64,
    /// Buffers of the forward pass, and of reading.
    pub scratch: u64,
}

impl MemoryPlan {
    /// What a model would take with these options.
    ///
    /// # Errors
    /// As [`check_runnable`](crate::check_runnable).
    pub fn of(gguf: &Gguf, options: &LoadOptions) -> Result<Self, EngineError> {
        let config = Config::read(gguf)?;
        let tensors = TensorMap::find(gguf, &config)?;
        let context = context_of(&config, options);
        let shape = shape_of(&config, config.layers, &tensors, context, options.kv_format);
        Ok(Self::new(
            &Cpu::new(Arc::clone(&options.parallel)),
            &tensors,
            &shape,
        ))
    }

    pub(super) fn new<B: Backend>(backend: &B, tensors: &TensorMap, shape: &Shape) -> Self {
        let weights = tensors.tensors.values().fold(0_u64, |sum, (tensor, used_as)| {
            sum.saturating_add(match *used_as {
                Use::Matrix { rows, columns } => backend.matrix_bytes(tensor.dtype, rows, columns),
                Use::Vector { len } => 4 * len as u64,
            })
        });
        let (kv_cache, scratch) = backend.session_bytes(shape);
        Self {
            weights,
            kv_cache,
            scratch: scratch.saturating_add(READ as u64),
        }
    }

    /// All of it.
    pub fn total(&self) -> u64 {
        self.weights
            .saturating_add(self.kv_cache)
            .saturating_add(self.scratch)
    }
}

pub(super) fn context_of(config: &Config, options: &LoadOptions) -> usize {
    // INVARIANT: all are at least 1, so a session can hold a token.
    options
        .context_length
        .max(1)
        .min(config.context)
        .min(LONGEST_CONTEXT) as usize
}

/// A model in memory, ready to be run. Sessions share it.
pub struct LoadedModel {
    pub(crate) blocks: ModelBlocks,
    info: ModelInfo,
    tokenizer: Tokenizer,
    vocabulary: OnceLock<Vocabulary>,
    template: Result<ChatTemplate, TemplateError>,
}

impl std::fmt::Debug for LoadedModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoadedModel")
            .field("info", &self.info)
            .field("blocks", &self.blocks)
            .finish_non_exhaustive()
    }
}

/// Told how many bytes of all have been read.
pub trait Progress: FnMut(u64, u64) + MaybeSend {}
impl<F: FnMut(u64, u64) + MaybeSend> Progress for F {}

impl LoadedModel {
    /// Reads a model in pieces of at most 1 MiB, straight into its final buffers.
    ///
    /// # Errors
    /// [`EngineError`]: before any tensor is read if the header is bad, not supported, or the model would not fit
    /// into `options.memory_limit`.
    pub async fn load(
        permit: &Permit<RunAi>,
        source: &dyn ReadAt,
        options: LoadOptions,
        progress: &mut dyn Progress,
    ) -> Result<Self, EngineError> {
        let gguf = Gguf::read(source).await?;
        let config = Config::read(&gguf)?;
        let info = describe(&gguf, &config)?;
        let tokenizer = Tokenizer::from_metadata(&gguf.metadata)?;
        // A template that cannot be used leaves a model that can still complete plain text.
        let template = ChatTemplate::from_metadata(&gguf.metadata, &tokenizer);
        let all = 0..config.layers;
        Ok(Self {
            blocks: ModelBlocks::read(permit, &gguf, config, all, source, options, progress).await?,
            info,
            tokenizer,
            vocabulary: OnceLock::new(),
            template,
        })
    }

    /// What the model is.
    pub fn info(&self) -> &ModelInfo {
        &self.info
    }

    /// Its tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The bytes of its tokens, sorted when a grammar first asks for them.
    pub(crate) fn vocabulary(&self) -> &Vocabulary {
        self.vocabulary.get_or_init(|| Vocabulary::new(&self.tokenizer))
    }

    /// How it writes a conversation.
    ///
    /// # Errors
    /// [`EngineError::Template`] when the file's template cannot be used.
    pub fn chat_template(&self) -> Result<&ChatTemplate, EngineError> {
        self.template.as_ref().map_err(|error| error.clone().into())
    }

    /// Bytes of the weights and of one session.
    pub fn memory_bytes(&self) -> u64 {
        self.blocks.memory_plan().total()
    }

    /// Where those bytes go.
    pub fn memory_plan(&self) -> MemoryPlan {
        self.blocks.memory_plan()
    }

    /// Tokens that a session can hold.
    pub fn context_length(&self) -> usize {
        self.blocks.context_length()
    }

    /// Bytes of weights that a token of an answer reads: all, but of an embedding table that is no output head a row.
    pub fn decode_bytes(&self) -> u64 {
        self.blocks.decode_bytes()
    }

    /// What computes, with its instruction set: `cpu (avx2)`.
    pub fn backend(&self) -> String {
        self.blocks.backend()
    }
}
