//! The native home of KwaaiNet: the operating system lent to the core, and the operator's program on top of it.
//!
//! `platform` implements the core's capabilities with files, threads and sockets; `commands` and `server` are two
//! borders of the same [`KwaaiNetCore`](kwaainet_node::KwaaiNetCore). It must not know a browser, and decides nothing
//! that a browser's node would decide too: models, consent, caps and answers are the core's.
//! The entry type is [`host::Host`], a node with this machine's capabilities.

pub mod cli;
pub mod commands;
pub mod config;
mod error;
pub mod generator;
pub mod host;
pub mod machine;
pub mod platform;
pub mod server;
pub mod settings;
pub mod ui;

pub use error::{HostError, exit};
