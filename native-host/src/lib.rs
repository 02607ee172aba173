//! The native home of KwaaiNet: the operating system lent to the core, and the operator's program on top of it.

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
