//! From a model file to weights in memory.

mod config;
mod info;
mod tensors;

pub use info::{ModelInfo, check_runnable};
