//! What a browser lends the core. Each file implements the trait of the same file in `sdk-core/platform`.

#[cfg(target_family = "wasm")]
pub mod blob_store;
#[cfg(target_family = "wasm")]
pub(crate) mod http;
#[cfg(target_family = "wasm")]
pub(crate) mod network;
#[cfg(any(target_feature = "atomics", test))]
pub(crate) mod parallel;
