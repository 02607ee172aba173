//! One error for the whole program, and the exit code that it makes.

use std::io;
use std::path::{Path, PathBuf};

use kwaainet_platform::StoreError;
use kwaainet_types::{ErrorBody, ErrorCode};

/// Exit codes, as `kwaainet --help` and docs/guide-operators.md list them.
pub mod exit {
    /// It worked.
    pub const OK: u8 = 0;
    /// It failed in a way that no other code names.
    pub const FAILURE: u8 = 1;
    /// The command line, the configuration or the request is wrong.
    pub const USAGE: u8 = 2;
    /// There is no such model, or it cannot be run by this version.
    pub const MODEL: u8 = 3;
    /// A source or address cannot be reached or used.
    pub const NETWORK: u8 = 4;
    /// Bytes or signatures are not what they should be.
    pub const INTEGRITY: u8 = 5;
    /// Not enough memory or storage, or above a cap.
    pub const ROOM: u8 = 6;
    /// Ctrl-C (128 + SIGINT).
    pub const INTERRUPTED: u8 = 130;
}

/// What can go wrong in the program.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// Wrong flags or values, with what to do instead.
    #[error("{0}")]
    Usage(String),
    /// A configuration file that cannot be used.
    #[error("{}: {reason}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The node or engine refused; the body says why.
    #[error(transparent)]
    Node(#[from] ErrorBody),
    /// A file of the operator's cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// An address that cannot be listened on.
    #[error("cannot listen on {address}: {reason}")]
    Listen {
        /// The address.
        address: String,
        /// Why, and what to do.
        reason: String,
    },
    /// Standard output or input failed.
    #[error("standard output or input: {0}")]
    Pipe(#[from] io::Error),
    /// Some of what was asked failed; each was reported when it did.
    #[error("{0}")]
    Failed(String),
}

impl HostError {
    /// An error about a file of the operator's.
    pub fn file(path: &Path, source: io::Error) -> Self {
        Self::File {
            path: path.to_owned(),
            source,
        }
    }

    /// An error with a code of the protocol.
    pub fn node(code: ErrorCode, message: impl Into<String>) -> Self {
        Self::Node(ErrorBody::new(code, message))
    }

    /// Nobody reads our output any more (`kwaainet … | head -1`): a reason to stop, and no fault.
    pub fn is_closed_pipe(&self) -> bool {
        matches!(self, Self::Pipe(error) if error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// The word for programs.
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Usage(_) | Self::Config { .. } => ErrorCode::BadRequest,
            Self::Node(body) => body.code,
            Self::File { source, .. } if is_missing(source) => ErrorCode::ModelNotFound,
            Self::File { source, .. } if source.kind() == io::ErrorKind::StorageFull => {
                ErrorCode::StorageFull
            }
            Self::Listen { .. } => ErrorCode::NetworkUnreachable,
            Self::File { .. } | Self::Pipe(_) | Self::Failed(_) => ErrorCode::Internal,
        }
    }

    /// What the program ends with.
    pub fn exit_code(&self) -> u8 {
        if self.is_closed_pipe() {
            return exit::OK;
        }
        match self.code() {
            ErrorCode::BadRequest | ErrorCode::ContextTooLong => exit::USAGE,
            ErrorCode::ModelNotFound
            | ErrorCode::ModelUnsupported
            | ErrorCode::TemplateInvalid
            | ErrorCode::Unsupported => exit::MODEL,
            ErrorCode::NetworkUnreachable => exit::NETWORK,
            ErrorCode::IntegrityFailed | ErrorCode::CatalogueInvalid | ErrorCode::ModelInvalid => {
                exit::INTEGRITY
            }
            ErrorCode::OutOfMemory | ErrorCode::StorageFull => exit::ROOM,
            ErrorCode::Cancelled => exit::INTERRUPTED,
            _ => exit::FAILURE,
        }
    }

    /// The error as programs read it (`--json`).
    pub fn body(&self) -> ErrorBody {
        match self {
            Self::Node(body) => body.clone(),
            other => ErrorBody::new(other.code(), other.to_string()),
        }
    }
}

fn is_missing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::IsADirectory
    )
}

impl From<kwaainet_node::NodeError> for HostError {
    fn from(error: kwaainet_node::NodeError) -> Self {
        Self::Node(error.into())
    }
}

impl From<kwaainet_engine::EngineError> for HostError {
    fn from(error: kwaainet_engine::EngineError) -> Self {
        Self::from(kwaainet_node::NodeError::from(error))
    }
}

impl From<StoreError> for HostError {
    fn from(error: StoreError) -> Self {
        // A file that the operator named is a model that is not there, unlike a blob of ours.
        if let StoreError::NotFound(path) = &error {
            return Self::node(ErrorCode::ModelNotFound, format!("there is no file {path}"));
        }
        Self::from(kwaainet_node::NodeError::from(error))
    }
}

impl From<kwaainet_node::catalogue::CatalogueError> for HostError {
    fn from(error: kwaainet_node::catalogue::CatalogueError) -> Self {
        Self::from(kwaainet_node::NodeError::from(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_the_guide() {
        let of = |code| HostError::node(code, "x").exit_code();
        assert_eq!(of(ErrorCode::BadRequest), 2);
        assert_eq!(of(ErrorCode::ModelNotFound), 3);
        assert_eq!(of(ErrorCode::ModelUnsupported), 3);
        assert_eq!(of(ErrorCode::NetworkUnreachable), 4);
        assert_eq!(of(ErrorCode::IntegrityFailed), 5);
        assert_eq!(of(ErrorCode::ModelInvalid), 5);
        assert_eq!(of(ErrorCode::StorageFull), 6);
        assert_eq!(of(ErrorCode::OutOfMemory), 6);
        assert_eq!(of(ErrorCode::Cancelled), 130);
        assert_eq!(of(ErrorCode::Internal), 1);
        assert_eq!(HostError::Usage("x".into()).exit_code(), 2);
        let pipe = HostError::Pipe(io::ErrorKind::BrokenPipe.into());
        assert_eq!((pipe.is_closed_pipe(), pipe.exit_code()), (true, 0));
    }
}
