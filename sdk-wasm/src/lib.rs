//! The node in a browser's worker: bindings, and what a browser lends the core.
//!
//! It has few exports and no ideas: what happens is decided in `kwaainet-node`, which this crate starts with a
//! browser's clock, randomness, storage, network and threads, and connects to message ports. It must not know
//! the page, the panel or the loader. Its entry is `start_node`, which gives a `NodeHandle`.
//!
//! Natively only the thread pool is compiled, so that its tests run with real threads.

#[cfg(any(target_family = "wasm", test))]
pub mod platform;

#[cfg(target_family = "wasm")]
mod error;
#[cfg(target_family = "wasm")]
mod node;
#[cfg(target_family = "wasm")]
mod port;
#[cfg(target_family = "wasm")]
mod threads;

#[cfg(target_family = "wasm")]
pub use node::{NodeHandle, start_node};
#[cfg(target_family = "wasm")]
pub use port::PortLike;
