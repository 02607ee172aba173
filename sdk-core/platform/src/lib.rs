//! What the outside world must lend the core: time, randomness, storage, HTTP.
//!
//! Each capability is a trait with an in-memory fake beside it; `sdk-wasm` and `native-host` implement it
//! in a file of the same name. This crate must not know a runtime, a browser or an operating system.
//! The entry type is [`Platform`], the bundle that a node is built with:
//!
//! ```
//! let platform = kwaainet_platform::Platform::in_memory();
//! assert_eq!(platform.clock.unix_ms(), 0);
//! ```

mod blob_store;
mod clock;
mod http;
mod pages;
mod parallel;
mod random;
mod send;

use std::sync::Arc;

pub use blob_store::{
    Blob, BlobInfo, BlobStore, MemoryBlobStore, ReadAt, StoreError, StoreRoom, check_blob_name,
};
pub use clock::{Clock, ManualClock};
pub use http::{ByteStream, HttpClient, HttpError, HttpRequest, HttpResponse, MemoryHttp};
pub use parallel::{Parallel, Sequential};
pub use random::{Random, SeededRandom};
pub use send::{BoxFuture, MaybeSend, MaybeSync, boxed};

/// Everything a node borrows from its host.
#[derive(Clone)]
pub struct Platform {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
    /// Storage that outlives the process, used only with consent to keep data on this device.
    pub store: Arc<dyn BlobStore>,
    /// HTTP.
    pub http: Arc<dyn HttpClient>,
    /// Spare processors.
    pub parallel: Arc<dyn Parallel>,
    /// Logical processors of this device; a CPU cap is a share of all of them.
    pub processors: usize,
}

impl std::fmt::Debug for Platform {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Platform")
            .field("processors", &self.processors)
            .finish_non_exhaustive()
    }
}

impl Platform {
    /// A host in memory: deterministic, and no trace is left.
    pub fn in_memory() -> Self {
        Self {
            clock: Arc::new(ManualClock::default()),
            random: Arc::new(SeededRandom::new(1)),
            store: Arc::new(MemoryBlobStore::default()),
            http: Arc::new(MemoryHttp::default()),
            parallel: Arc::new(Sequential),
            processors: 1,
        }
    }
}
