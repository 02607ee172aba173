//! What tests of several crates share: builders, faulty capabilities, one conformance suite per capability.
//!
//! For dev-dependencies only, so it may panic. The entry points are [`blob_store_suite`], which every home of a
//! [`BlobStore`](kwaainet_platform::BlobStore) must pass, and [`block_on`]:
//!
//! ```
//! use std::sync::Arc;
//! use kwaainet_platform::{BlobStore, MemoryBlobStore};
//! kwaainet_testkit::block_on(kwaainet_testkit::blob_store_suite(async || {
//!     Arc::new(MemoryBlobStore::default()) as Arc<dyn BlobStore>
//! }));
//! ```
#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test helper fails by panicking"
)]

mod builders;
#[cfg(feature = "node")]
mod catalogue;
mod faults;
mod idle;
#[cfg(feature = "network")]
mod network_suite;
mod store_suite;
mod threads;
pub mod tiny_gguf;

pub use builders::{ask, consent_record, host_report};
#[cfg(feature = "node")]
pub use catalogue::{CATALOGUE_SECRET, CatalogueBuilder, catalogue_key};
pub use faults::{DeniedStore, Yielding, poll_times};
pub use idle::IdleClock;
#[cfg(feature = "network")]
pub use network_suite::{End, network_suite};
pub use store_suite::blob_store_suite;
pub use threads::NewThreads;

/// Runs a future on this thread. (In a browser, tests are async themselves.)
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    futures::executor::block_on(future)
}
