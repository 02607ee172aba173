//! Data that every part shares.
mod consent;
pub use consent::*;
