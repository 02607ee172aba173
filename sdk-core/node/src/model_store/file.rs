//! A model's file on its shelf: whole, or with chunks still to come.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::lock::Mutex as AsyncMutex;
use kwaainet_platform::{Blob, StoreError};
use kwaainet_types::{CHUNK_BYTES, ModelEntry, ModelSource, Permit, RunAi};

use super::fetch::{Fetch, Writer};
use super::journal::{file_blob, journal_blob};
use super::peers::Peers;
use super::progress::{Meter, OnProgress};
use super::{Alone, ModelStore, Origins, Pin, Shelf};
use crate::NodeError;
use crate::cancel::Stop;

/// An open file of a model. The model is not evicted meanwhile.
pub(crate) struct ModelFile<'a> {
    pub(super) store: &'a ModelStore,
    pub(super) shelf: &'a Shelf<'a>,
    pub(super) entry: &'a ModelEntry,
    pub(super) blob: Arc<dyn Blob>,
    /// Set when the header's judge needs its bytes no more.
    pub(super) judged: AtomicBool,
    /// Set when the judge found that the model can never run here.
    pub(super) refused: AtomicBool,
    /// Set when [`Self::fetch`] is done.
    pub(super) fetched: AtomicBool,
    _alone: &'a Alone,
    _pin: Pin<'a>,
}

impl std::fmt::Debug for ModelFile<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ModelFile").finish_non_exhaustive()
    }
}

impl ModelStore {
    /// Opens a model's file, for whoever is alone with it, and makes room for what is missing of it.
    pub(crate) async fn open<'a>(
        &'a self,
        alone: &'a Alone,
        shelf: &'a Shelf<'a>,
        entry: &'a ModelEntry,
    ) -> Result<ModelFile<'a>, NodeError> {
        let pin = self.pin(&entry.id);
        if shelf.kept {
            self.scan().await?;
        }
        self.open_journal(shelf, entry).await?;
        let missing = self.missing_bytes(shelf, entry);
        if missing > 0 {
            self.make_room(shelf, entry, missing).await?;
        }
        let blob = self.blobs(shelf).open(&file_blob(&entry.id), true).await?;
        Ok(ModelFile {
            store: self,
            shelf,
            entry,
            blob,
            judged: AtomicBool::new(missing == 0),
            refused: AtomicBool::new(false),
            fetched: AtomicBool::new(false),
            _alone: alone,
            _pin: pin,
        })
    }
}

impl ModelFile<'_> {
    pub(crate) fn entry(&self) -> &ModelEntry {
        self.entry
    }

    /// Whether it lies on the device, and not only in memory.
    pub(crate) fn is_kept(&self) -> bool {
        self.shelf.kept
    }

    pub(crate) fn is_whole(&self) -> bool {
        self.missing_bytes() == 0
    }

    /// The chunks that are here, a bit for each; bit 0 of byte 0 is the first.
    pub(crate) fn bits(&self) -> Vec<u8> {
        let journals = self.store.journals(self.shelf);
        journals
            .get(&self.entry.id)
            .map_or_else(Vec::new, |journal| journal.bits().to_vec())
    }

    fn missing_bytes(&self) -> u64 {
        self.store.missing_bytes(self.shelf, self.entry)
    }

    /// Whether these bytes have arrived, and may be read.
    pub(super) fn has(&self, offset: u64, len: usize) -> Result<bool, StoreError> {
        let end = offset.saturating_add(len as u64).min(self.entry.bytes);
        let mut chunks = offset / CHUNK_BYTES..end.div_ceil(CHUNK_BYTES);
        let journals = self.store.journals(self.shelf);
        // Deleted under our feet: what is missing would never arrive.
        let gone = || StoreError::NotFound(journal_blob(&self.entry.id));
        let journal = journals.get(&self.entry.id).ok_or_else(gone)?;
        Ok(self.judged.load(Ordering::Relaxed) && chunks.all(|chunk| journal.has(chunk as usize)))
    }

    /// Fetches what is missing, and notes that the model is being used.
    ///
    /// Dropping the future at any moment loses at most the chunk that was arriving.
    pub(crate) async fn fetch(
        &self,
        permit: &Permit<RunAi>,
        origins: Origins<'_>,
        peers: Option<Peers<'_>>,
        stop: &Stop,
        to: &dyn OnProgress,
    ) -> Result<ModelSource, NodeError> {
        let (store, entry, missing) = (self.store, self.entry, self.missing_bytes());
        let mut source = ModelSource::Device;
        if missing > 0 {
            let done = entry.bytes.saturating_sub(missing);
            let clock = &*store.platform.clock;
            let fetch = Fetch {
                store,
                file: self,
                origins,
                stop,
                writer: AsyncMutex::new(Writer {
                    meter: Meter::new(&entry.id, done, entry.bytes, clock, to),
                    header_needs: Some(0),
                }),
            };
            fetch.run(permit, peers).await?;
            source = ModelSource::Network;
        }
        store.touch(self.shelf, &entry.id).await?;
        self.fetched.store(true, Ordering::Relaxed);
        store.arrival.wake();
        Ok(source)
    }

    /// Closes the file, and deletes what was fetched of a model that can never run here.
    pub(crate) async fn close(self) -> Result<(), StoreError> {
        let Self {
            store,
            shelf,
            entry,
            blob,
            refused,
            ..
        } = self;
        drop(blob);
        if refused.into_inner() {
            store.remove(shelf, &entry.id).await?;
        }
        Ok(())
    }
}
