//! What can go wrong in a node, each with its word for programs.

use kwaainet_engine::EngineError;
use kwaainet_platform::StoreError;
use kwaainet_types::{ConsentError, ErrorBody, ErrorCode};

use crate::catalogue::CatalogueError;

/// Why the node could not do what it was asked.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum NodeError {
    /// A request or configuration that contradicts itself.
    #[error("{0}")]
    BadRequest(String),
    /// The queue is full.
    #[error("{waiting} requests are waiting already: send it again when one has been answered")]
    Busy {
        /// How many wait.
        waiting: usize,
    },
    /// The caller cancelled.
    #[error("it was cancelled")]
    Cancelled,
    /// No consent, or no longer.
    #[error(transparent)]
    Consent(#[from] ConsentError),
    /// Consent was withdrawn while the work was going on.
    #[error("consent was withdrawn, so the work was stopped")]
    Withdrawn,
    /// The asker may not ask that.
    #[error("{0}")]
    NotAllowed(&'static str),
    /// The catalogue does not have it.
    #[error("there is no model {id:?}: {hint}")]
    ModelNotFound {
        /// The id asked for.
        id: String,
        /// Which there are.
        hint: String,
    },
    /// The engine refused.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A model that cannot be deleted just now.
    #[error("the model {0} is being fetched or loaded: stop that, or wait until it is done")]
    InUse(String),
    /// A model that is larger than the storage cap.
    #[error(
        "the model {id} has {} but at most {} may be kept on this device: raise the storage cap or choose a smaller model",
        megabytes(*.needed), megabytes(*.allowed)
    )]
    AboveStorageCap {
        /// The model.
        id: String,
        /// Its size.
        needed: u64,
        /// The cap.
        allowed: u64,
    },
    /// The device has less room than the model needs.
    #[error(
        "the model {id} needs {} more room but this device offers {}: free some space or choose a smaller model",
        megabytes(*.needed), megabytes(*.available)
    )]
    NoRoom {
        /// The model.
        id: String,
        /// Bytes still to be written.
        needed: u64,
        /// Bytes that the host says are left.
        available: u64,
    },
    /// A model that does not fit into the memory cap.
    #[error(
        "the model {id} needs {} of memory but {} are allowed: raise the memory cap or choose a smaller model",
        megabytes(*.needed), megabytes(*.allowed)
    )]
    AboveMemoryCap {
        /// The model.
        id: String,
        /// Bytes needed at least.
        needed: u64,
        /// The cap.
        allowed: u64,
    },
    /// A conversation that leaves no room for an answer.
    #[error(
        "the conversation has {prompt} tokens, but the context holds {context}, one of them for the answer at least: \
         shorten the conversation or configure a longer context"
    )]
    PromptTooLong {
        /// Tokens of the conversation.
        prompt: usize,
        /// Tokens of the context.
        context: usize,
    },
    /// No source could be reached.
    #[error("{what} cannot be fetched: {reason}. Check the connection; what has arrived is kept")]
    Network {
        /// The model or catalogue.
        what: String,
        /// What the last source said.
        reason: String,
    },
    /// Every source gave wrong bytes.
    #[error(
        "every source of {what} gives wrong bytes ({reason}); they were thrown away. Tell the site's owner"
    )]
    Integrity {
        /// The model.
        what: String,
        /// Which part.
        reason: String,
    },
    /// The catalogue cannot be trusted.
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    /// Not in this version.
    #[error("{0}")]
    Unsupported(String),
}

/// Bytes for people: decimal megabytes, as download sizes are shown everywhere.
fn megabytes(bytes: u64) -> String {
    format!("{}.{} MB", bytes / 1_000_000, bytes % 1_000_000 / 100_000)
}

impl NodeError {
    /// The word for programs.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::BadRequest(_) | Self::Consent(ConsentError::Invalid(_)) => ErrorCode::BadRequest,
            Self::Busy { .. } => ErrorCode::Busy,
            Self::Cancelled => ErrorCode::Cancelled,
            Self::Consent(ConsentError::Expired) => ErrorCode::ConsentExpired,
            Self::Consent(_) | Self::Withdrawn => ErrorCode::ConsentRequired,
            Self::NotAllowed(_) => ErrorCode::NotAllowed,
            Self::ModelNotFound { .. } => ErrorCode::ModelNotFound,
            Self::Engine(error) => error.code(),
            Self::Store(error) => store_code(error),
            Self::InUse(_) => ErrorCode::StorageInUse,
            Self::AboveStorageCap { .. } | Self::NoRoom { .. } => ErrorCode::StorageFull,
            Self::AboveMemoryCap { .. } => ErrorCode::OutOfMemory,
            Self::PromptTooLong { .. } => ErrorCode::ContextTooLong,
            Self::Network { .. } => ErrorCode::NetworkUnreachable,
            Self::Integrity { .. } => ErrorCode::IntegrityFailed,
            Self::Catalogue(_) => ErrorCode::CatalogueInvalid,
            Self::Unsupported(_) => ErrorCode::Unsupported,
        }
    }
}

fn store_code(error: &StoreError) -> ErrorCode {
    match error {
        StoreError::Full { .. } => ErrorCode::StorageFull,
        StoreError::Denied(_) => ErrorCode::StorageDenied,
        StoreError::InUse(_) => ErrorCode::StorageInUse,
        _ => ErrorCode::Internal,
    }
}

impl From<NodeError> for ErrorBody {
    fn from(error: NodeError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

impl From<ErrorBody> for NodeError {
    // The checks of `kwaainet-types` give bodies; all of them are about bad requests.
    fn from(body: ErrorBody) -> Self {
        Self::BadRequest(body.message)
    }
}
