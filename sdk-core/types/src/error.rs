//! One list of error codes for every border: page and worker, HTTP, command line.

use serde::{Deserialize, Serialize};

/// What went wrong, as a word that programs can test for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[cfg_attr(feature = "ts", derive(tsify::Tsify))]
#[non_exhaustive]
pub enum ErrorCode {
    /// The request contradicts itself or has a value out of range.
    BadRequest,
    /// Too many commands are in flight; send it again when one has been answered.
    Busy,
    /// The caller cancelled it.
    Cancelled,
    /// Nobody agreed to this, or the agreement was withdrawn.
    ConsentRequired,
    /// The agreement is over.
    ConsentExpired,
    /// Only the panel on our own origin, or the operator, may ask for this.
    NotAllowed,
    /// The prompt does not fit into the model's context.
    ContextTooLong,
    /// The catalogue has no such model.
    ModelNotFound,
    /// The model file is broken or lies about itself.
    ModelInvalid,
    /// The model is sound but uses an architecture or quantisation that is not implemented.
    ModelUnsupported,
    /// The chat template of the model cannot be run.
    TemplateInvalid,
    /// The model needs more memory than the cap or the device allows.
    OutOfMemory,
    /// No room on the device, or above the storage cap.
    StorageFull,
    /// The browser or system refuses storage.
    StorageDenied,
    /// Another tab or process holds the file.
    StorageInUse,
    /// A source cannot be reached.
    NetworkUnreachable,
    /// Bytes do not match their hash; they were thrown away.
    IntegrityFailed,
    /// The catalogue's signature or content is wrong.
    CatalogueInvalid,
    /// Page and node speak different versions of the protocol.
    VersionMismatch,
    /// The site or browser blocks what this host needs.
    HostBlocked,
    /// The node was stopped in the middle; what was delivered stays valid.
    Interrupted,
    /// This build or model cannot do that.
    Unsupported,
    /// A defect of ours.
    Internal,
}

impl ErrorCode {
    /// Whether the same request may succeed later without being changed.
    pub fn is_retryable(self) -> bool {
        matches!(
            self,
            Self::Busy | Self::StorageInUse | Self::NetworkUnreachable | Self::Interrupted
        )
    }
}

/// An error as it crosses a border. Never holds prompts, answers or secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "ts", derive(tsify::Tsify))]
#[error("{message}")]
pub struct ErrorBody {
    /// The word for programs.
    pub code: ErrorCode,
    /// What happened and what to do about it, in a sentence.
    pub message: String,
    /// Whether the same request may succeed later.
    pub retryable: bool,
}

impl ErrorBody {
    /// An error whose retryability follows from its code.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: message.into(),
            retryable: code.is_retryable(),
        }
    }
}
