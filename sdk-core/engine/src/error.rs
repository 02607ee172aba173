//! What can go wrong between a model file and its answer.

use kwaainet_platform::StoreError;
use kwaainet_types::ErrorCode;

use crate::chat_template::TemplateError;
use crate::gguf::GgufError;
use crate::grammar::GrammarError;
use crate::sampler::OptionsError;
use crate::tokenizer::TokenizerError;

/// Why the engine could not do what it was asked.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum EngineError {
    /// The model file's header is bad, or uses a quantisation that is not supported.
    #[error(transparent)]
    Gguf(#[from] GgufError),
    /// A sound file of an architecture that is not implemented.
    #[error(
        "the architecture {architecture:?} is not supported: llama (which Mistral's files say, too), mistral3, phi3, qwen2, qwen3 and gemma3 are"
    )]
    UnsupportedArchitecture {
        /// `general.architecture` of the file.
        architecture: String,
    },
    /// A sound file of a known architecture that uses a feature which is not implemented.
    #[error("this model uses {feature}, which is not supported")]
    UnsupportedFeature {
        /// The feature, in words.
        feature: String,
    },
    /// A tensor that the architecture needs is not there.
    #[error("the model file has no tensor {name:?}")]
    MissingTensor {
        /// The tensor.
        name: String,
    },
    /// A tensor has another shape than the metadata says.
    #[error("tensor {name:?} has the shape {found:?}, but the metadata asks for {expected:?}")]
    TensorShape {
        /// The tensor.
        name: String,
        /// The shape that the metadata asks for, in ggml's order.
        expected: Vec<u64>,
        /// Its shape.
        found: Vec<u64>,
    },
    /// Metadata that contradicts itself.
    #[error("the model file is not valid: {reason}")]
    InvalidModel {
        /// What is wrong.
        reason: String,
    },
    /// A weight, or a computed value, is not a number.
    #[error("{what} holds a value that is not a finite number: the model file is damaged")]
    NotFinite {
        /// Where it was found.
        what: String,
    },
    /// The model's bytes could not be read.
    #[error("the model file cannot be read: {0}")]
    Read(#[source] StoreError),
    /// The model does not fit.
    #[error(
        "the model needs {needed} bytes of memory, {limit} are allowed: choose a smaller model or a shorter context"
    )]
    OutOfMemory {
        /// Bytes needed for weights, KV cache and scratch.
        needed: u64,
        /// Bytes allowed.
        limit: u64,
    },
    /// The text is longer than the context.
    #[error(
        "the text has {needed} tokens, but the context holds {available}: shorten it or load the model with a longer context"
    )]
    ContextFull {
        /// Tokens that were to be evaluated.
        needed: usize,
        /// Tokens that fit.
        available: usize,
    },
    /// Layers that the model has not.
    #[error("there are no layers {wanted:?} to load: the model has 0..{layers}")]
    NoSuchLayers {
        /// Those that were asked for.
        wanted: std::ops::Range<usize>,
        /// How many the model has.
        layers: usize,
    },
    /// Input that these layers cannot begin with.
    #[error("{0}")]
    WrongInput(String),
    /// Nothing to evaluate.
    #[error("there is no token to evaluate: give at least one")]
    NoTokens,
    /// A call in the wrong order.
    #[error("{0}")]
    WrongOrder(&'static str),
    /// A token id outside the vocabulary.
    #[error("token {token} is outside the vocabulary of {vocabulary}")]
    UnknownToken {
        /// The token.
        token: u32,
        /// Size of the vocabulary.
        vocabulary: u32,
    },
    /// No model is loaded under this id.
    #[error("no model is loaded under the id {0:?}")]
    NotLoaded(String),
    /// The vocabulary in the file cannot be used.
    #[error("the tokenizer of this model cannot be used: {0}")]
    Tokenizer(#[from] TokenizerError),
    /// A sampling option out of range.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// The grammar that the answer must follow cannot be used.
    #[error(transparent)]
    Grammar(#[from] GrammarError),
    /// A tool whose arguments cannot be held to their schema.
    #[error("tools: the parameters of {name:?} cannot be used: {error}")]
    Tool {
        /// The tool.
        name: String,
        /// What is wrong with its schema.
        error: GrammarError,
    },
    /// The chat template in the file cannot be used, or refuses the conversation.
    #[error("the chat template of this model cannot be used: {0}")]
    Template(#[from] TemplateError),
    /// The chat template in the file cannot be used.
    #[error("the chat template of this model cannot be used: {0}")]
    ChatTemplate(String),
}

impl EngineError {
    /// The word for programs.
    pub const fn code(&self) -> ErrorCode {
        match self {
            Self::Gguf(GgufError::UnknownDType { .. } | GgufError::UnknownVersion { .. })
            | Self::UnsupportedArchitecture { .. }
            | Self::UnsupportedFeature { .. } => ErrorCode::ModelUnsupported,
            Self::Gguf(GgufError::Read(_)) | Self::Read(_) => ErrorCode::Internal,
            Self::Tokenizer(TokenizerError::TextTooLong { .. } | TokenizerError::UnknownToken { .. }) => {
                ErrorCode::BadRequest
            }
            Self::Gguf(_)
            | Self::MissingTensor { .. }
            | Self::TensorShape { .. }
            | Self::InvalidModel { .. }
            | Self::NotFinite { .. }
            | Self::Tokenizer(_) => ErrorCode::ModelInvalid,
            Self::Template(TemplateError::Raised(_)) => ErrorCode::BadRequest,
            Self::ChatTemplate(_) | Self::Template(_) => ErrorCode::TemplateInvalid,
            Self::OutOfMemory { .. } => ErrorCode::OutOfMemory,
            Self::ContextFull { .. } => ErrorCode::ContextTooLong,
            Self::NoTokens
            | Self::NoSuchLayers { .. }
            | Self::WrongInput(_)
            | Self::UnknownToken { .. }
            | Self::Options(_)
            | Self::Grammar(_)
            | Self::Tool { .. } => ErrorCode::BadRequest,
            Self::NotLoaded(_) => ErrorCode::ModelNotFound,
            Self::WrongOrder(_) => ErrorCode::Internal,
        }
    }
}
