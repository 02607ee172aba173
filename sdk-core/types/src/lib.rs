//! Data that every part of KwaaiNet shares: consent, configuration, protocol, error codes.
//!
//! This crate must not know async, I/O or any other crate of the tree. Its centre is
//! [`Envelope`], the one message type between page and node:
//!
//! ```
//! use kwaainet_types::{Command, Envelope, Message, PROTOCOL_VERSION};
//! let json = r#"{"v":1,"id":7,"kind":"command","body":{"type":"models"}}"#;
//! let envelope: Envelope = serde_json::from_str(json).unwrap();
//! assert_eq!(envelope.v, PROTOCOL_VERSION);
//! assert_eq!(envelope.message, Message::Command(Command::Models));
//! ```

mod chat;
mod config;
mod consent;
mod error;
mod model;
mod network;
mod protocol;
mod tools;

pub use chat::*;
pub use config::*;
pub use consent::*;
pub use error::*;
pub use model::*;
pub use network::*;
pub use protocol::*;
pub use tools::*;
