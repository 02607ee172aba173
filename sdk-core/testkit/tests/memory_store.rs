//! The fake passes the suite that the real stores must pass.

use std::sync::Arc;

use kwaainet_platform::{BlobStore, MemoryBlobStore};
use kwaainet_testkit::{Yielding, blob_store_suite, block_on};

#[test]
fn the_store_in_memory_conforms() {
    block_on(blob_store_suite(async || {
        Arc::new(MemoryBlobStore::default()) as Arc<dyn BlobStore>
    }));
}

#[test]
fn a_store_that_lets_go_of_the_thread_conforms_too() {
    block_on(blob_store_suite(async || {
        Arc::new(Yielding(MemoryBlobStore::default())) as Arc<dyn BlobStore>
    }));
}
