//! What the node asks of an engine, so that its own logic can be tested without a model.

use std::sync::Arc;

use kwaainet_engine::{EngineError, Grammar, SamplerOptions, ToolFormat};
use kwaainet_platform::{BoxFuture, MaybeSend, MaybeSync, ReadAt};
use kwaainet_types::{ChatMessage, FinishReason, KvFormat, Permit, RunAi, ToolOptions};

/// How a model is to be loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadWish {
    /// Longest prompt plus answer, in tokens; less if the model was trained for less.
    pub context_length: u32,
    /// How conversations are remembered.
    pub kv_format: KvFormat,
    /// Memory for weights, caches and scratch together.
    pub memory_bytes: u64,
    /// Answers to be made at the same time; fewer if memory does not allow it.
    pub answers: usize,
}

/// What to generate from.
#[derive(Debug, Clone, PartialEq)]
pub struct RunOptions {
    /// How tokens are chosen.
    pub sampler: SamplerOptions,
    /// Most tokens of the whole answer, resumed ones included.
    pub max_tokens: usize,
    /// Strings that end the answer.
    pub stops: Vec<String>,
    /// Tokens of the answer that were delivered before an interruption.
    pub resume: Vec<u32>,
    /// Most tokens to guess ahead; the engine's own number if `None`.
    pub guesses: Option<usize>,
    /// What the answer must follow.
    pub grammar: Option<Grammar>,
    /// Control tokens, by their texts, that count as text in this answer.
    pub marks: Vec<String>,
}

/// One step's result.
#[derive(Debug, Clone, PartialEq)]
pub enum RunStep {
    /// A slice of the prompt was read.
    Prefilled,
    /// A token was chosen. The text may lag behind.
    Token {
        /// Its id.
        id: u32,
        /// Text that is certain now.
        text: String,
    },
    /// The answer is over.
    Finished {
        /// Why.
        reason: FinishReason,
        /// Text that was held back.
        text: String,
    },
}

/// Told how many bytes of how many were loaded.
pub type LoadProgress<'a> = &'a (dyn LoadObserver + 'a);

/// Watches a load.
pub trait LoadObserver: MaybeSend + MaybeSync {
    /// `done` of `total` bytes are in memory.
    fn loaded(&self, done: u64, total: u64);
}

impl<F: Fn(u64, u64) + MaybeSend + MaybeSync> LoadObserver for F {
    fn loaded(&self, done: u64, total: u64) {
        self(done, total);
    }
}

/// Loads models.
pub trait InferenceEngine: MaybeSend + MaybeSync {
    /// Reads a model into memory.
    fn load<'a>(
        &'a self,
        permit: &'a Permit<RunAi>,
        file: &'a dyn ReadAt,
        wish: LoadWish,
        progress: LoadProgress<'a>,
    ) -> BoxFuture<'a, Result<Arc<dyn RunnableModel>, EngineError>>;
}

/// A model in memory.
pub trait RunnableModel: MaybeSend + MaybeSync {
    /// Bytes it takes.
    fn memory_bytes(&self) -> u64;

    /// Longest prompt plus answer, in tokens.
    fn context_length(&self) -> usize;

    /// Answers that it can make at the same time.
    fn answers(&self) -> usize {
        1
    }

    /// The tokens of a conversation, by the model's own template; some templates tell the model the date.
    ///
    /// # Errors
    /// When the template or the tokenizer cannot be used.
    fn conversation(
        &self,
        messages: &[ChatMessage],
        tools: &ToolOptions,
        now_unix_ms: u64,
    ) -> Result<Vec<u32>, EngineError>;

    /// How the model writes calls of tools.
    ///
    /// # Errors
    /// When the template cannot be used.
    fn tool_format(&self) -> Result<ToolFormat, EngineError> {
        Ok(ToolFormat::Generic)
    }

    /// The tokens of a text to be continued, without any template.
    ///
    /// # Errors
    /// When the tokenizer cannot be used.
    fn text(&self, text: &str) -> Result<Vec<u32>, EngineError>;

    /// Begins an answer. Tokens that the run before had read already are taken over.
    ///
    /// # Errors
    /// When an option is out of range.
    fn start(
        &self,
        permit: &Permit<RunAi>,
        prompt: &[u32],
        options: RunOptions,
    ) -> Result<Box<dyn Run>, EngineError>;
}

/// An answer in the making.
pub trait Run: MaybeSend {
    /// Tokens of the prompt that were taken over from the run before.
    fn reused_tokens(&self) -> usize;

    /// The text of the tokens that were resumed; it was delivered before.
    fn resumed_text(&self) -> String;

    /// Does the next piece of work: as much of the prompt as `slice` tokens are, or chooses one token.
    ///
    /// # Errors
    /// [`EngineError`]; the run is over then.
    fn step(&mut self, permit: &Permit<RunAi>, slice: usize) -> Result<RunStep, EngineError>;

    /// How many tokens went through the model for the newest [`RunStep::Token`].
    fn evaluated_in_step(&self) -> usize;
}
