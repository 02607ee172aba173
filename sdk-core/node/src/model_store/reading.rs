//! One reading of a model's file, from its beginning to its end, by whoever loads it.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;

use kwaainet_platform::{BoxFuture, ReadAt, StoreError, boxed};
use kwaainet_types::CHUNK_BYTES;

use super::ModelFile;
use super::journal::file_blob;
use crate::turn::Turn;

/// Reads chunks as they arrive. Gives way when it would have to wait for the network while others wait for the engine.
///
/// Of a file that is only in memory each chunk is freed as soon as the reader is past it: it lives on in the form that the
/// engine keeps. A reading that is dropped before it has served therefore costs fetching those chunks again; what is on
/// the device stays there.
pub(crate) struct Reading<'a> {
    file: &'a ModelFile<'a>,
    turn: &'a Turn,
    has_given_way: AtomicBool,
    /// Chunks that were freed, from the first on.
    freed: AtomicU64,
}

impl<'a> Reading<'a> {
    /// For whoever has this turn, the whole of it: so there is one at a time.
    pub(crate) fn new(file: &'a ModelFile<'a>, turn: &'a Turn) -> Self {
        Self {
            file,
            turn,
            has_given_way: AtomicBool::new(false),
            freed: AtomicU64::new(0),
        }
    }

    /// Whether it ended because others wanted the engine.
    pub(crate) fn has_given_way(&self) -> bool {
        self.has_given_way.load(Ordering::Relaxed)
    }

    /// Waits until the fetch is done, of bytes that were not read too.
    pub(crate) async fn fetched(&self) -> Result<(), StoreError> {
        self.until(|| Ok(self.file.fetched.load(Ordering::Relaxed))).await
    }

    /// Waits for the network, unless others wait for the engine.
    async fn until(&self, arrived: impl Fn() -> Result<bool, StoreError>) -> Result<(), StoreError> {
        poll_fn(|context| {
            self.file.store.arrival.register(context.waker());
            if arrived()? {
                return Poll::Ready(Ok(()));
            }
            if self.turn.poll_wanted(context).is_ready() {
                self.has_given_way.store(true, Ordering::Relaxed);
                return Poll::Ready(Err(StoreError::InUse("the engine".to_owned())));
            }
            Poll::Pending
        })
        .await
    }

    /// Frees what lies before `offset` as a whole.
    fn free(&self, offset: u64) {
        if self.file.shelf.kept {
            return;
        }
        let chunks = offset / CHUNK_BYTES;
        self.freed.store(chunks, Ordering::Relaxed);
        let name = file_blob(&self.file.entry.id);
        self.file.store.memory.let_go(&name, 0..chunks * CHUNK_BYTES);
    }
}

impl ReadAt for Reading<'_> {
    fn size(&self) -> u64 {
        self.file.entry.bytes
    }

    fn read_at<'a>(&'a self, offset: u64, buf: &'a mut [u8]) -> BoxFuture<'a, Result<(), StoreError>> {
        boxed(async move {
            if offset / CHUNK_BYTES < self.freed.load(Ordering::Relaxed) {
                return Err(StoreError::Invalid(format!(
                    "byte {offset} was freed: a model in memory is read once, from its beginning to its end"
                )));
            }
            self.free(offset);
            self.until(|| self.file.has(offset, buf.len())).await?;
            self.file.blob.read_at(offset, buf).await
        })
    }
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        // After a load that came to its end there is no journal left; after any other it must not claim what was freed.
        let mut journals = self.file.store.journals(self.file.shelf);
        if let Some(journal) = journals.get_mut(&self.file.entry.id) {
            for chunk in 0..*self.freed.get_mut() {
                journal.set(chunk as usize, false);
            }
        }
    }
}
