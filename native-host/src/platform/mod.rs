//! What the operating system lends the core. Each file has the name of its trait's file in `sdk-core/platform`.

mod blob_store;
mod clock;
mod http;
mod network;
mod parallel;
mod private;
mod random;
mod record;
mod webrtc;

pub use blob_store::{FileBlobStore, LocalFile, free_space};
pub use clock::SystemClock;
pub use http::{SystemHttp, file_url};
pub use network::{Node, open_node};
pub use parallel::ThreadPool;
pub use random::SystemRandom;
