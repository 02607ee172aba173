//! What every command and the server need of a model: answers, and which models there are.

use kwaainet_node::Cancel;
use kwaainet_types::{
    ChatDone, ChatMessage, Chunk, ErrorBody, ModelStatus, ResponseFormat, SamplingOptions, ToolOptions,
};

/// What to answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Prompt {
    /// A conversation, put into words by the model's chat template.
    Chat(Vec<ChatMessage>),
    /// Text as it is.
    Raw(String),
}

/// One answer to be made.
#[derive(Debug, Clone, PartialEq)]
pub struct Job {
    /// Which model; the configured one when absent.
    pub model: Option<String>,
    /// What to answer.
    pub prompt: Prompt,
    /// How to choose tokens.
    pub sampling: SamplingOptions,
    /// Most tokens.
    pub max_tokens: Option<u32>,
    /// Texts that end the answer.
    pub stops: Vec<String>,
    /// What the answer must look like.
    pub format: Option<ResponseFormat>,
    /// What the model may call.
    pub tools: ToolOptions,
}

/// Makes answers. The methods block: call them on a thread that may wait.
pub trait Generator: Send + Sync {
    /// The models that can be asked for.
    ///
    /// # Errors
    /// When the catalogue cannot be had.
    fn models(&self) -> Result<Vec<ModelStatus>, ErrorBody>;

    /// Makes one answer; pieces and progress go to `on` as they come.
    ///
    /// # Errors
    /// As the node says; [`kwaainet_types::ErrorCode::Cancelled`] or a done with that reason after `cancel`.
    fn generate(
        &self,
        job: Job,
        cancel: &Cancel,
        on: &(dyn Fn(Chunk) + Send + Sync),
    ) -> Result<ChatDone, ErrorBody>;
}
