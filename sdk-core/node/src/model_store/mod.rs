//! Models on this device: fetched in verified chunks, resumed, evicted, deleted.

mod fetch;
mod file;
pub(crate) mod journal;
mod lending;
mod peers;
pub(crate) mod progress;
mod reading;
mod room;
pub(crate) mod sources;

use std::collections::BTreeMap;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::lock::{Mutex as AsyncMutex, OwnedMutexGuard};
use futures::task::AtomicWaker;
use kwaainet_platform::{Blob, BlobStore, MemoryBlobStore, Platform, StoreError};
use kwaainet_types::{CHUNK_BYTES, KeepModel, ModelEntry, Permit, RunAi};
use sha2::{Digest, Sha256};

use crate::NodeError;
use crate::cancel::Stop;
use crate::resources::SharedResources;
pub(crate) use file::ModelFile;
use journal::{Journal, chunk_len, file_blob, journal_blob};
pub(crate) use peers::Peers;
pub(crate) use reading::Reading;

/// Where a model's bytes are put. It lives no longer than the permit it rests on.
#[derive(Debug, Clone, Copy)]
pub struct Shelf<'permit> {
    kept: bool,
    permit: PhantomData<&'permit ()>,
}

impl<'permit> Shelf<'permit> {
    /// On the device, where it outlives the page or process.
    pub fn on_device(_permit: &'permit Permit<KeepModel>) -> Self {
        Self {
            kept: true,
            permit: PhantomData,
        }
    }

    /// In memory, for as long as the node runs.
    pub fn in_memory(_permit: &'permit Permit<RunAi>) -> Self {
        Self {
            kept: false,
            permit: PhantomData,
        }
    }
}

/// Where to fetch from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origins<'a> {
    pub(crate) gateways: &'a [String],
    /// URL that relative sources are relative to.
    pub(crate) base: Option<&'a str>,
}

/// Leave to change what is here of a model. One at a time has it; others wait.
#[derive(Debug)]
pub(crate) struct Alone {
    _guard: OwnedMutexGuard<()>,
}

type Journals = BTreeMap<String, Journal>;

/// The models of this device.
pub struct ModelStore {
    platform: Platform,
    resources: SharedResources,
    memory: MemoryBlobStore,
    /// Journals of the device and of memory.
    journals: [Mutex<Journals>; 2],
    scanned: AsyncMutex<bool>,
    /// Held by whoever fetches, loads or checks a model.
    alone: Mutex<BTreeMap<String, Arc<AsyncMutex<()>>>>,
    /// Wakes the one who loads from a file whose chunks are still arriving.
    arrival: AtomicWaker,
    /// How often a model is in use; it is not evicted meanwhile.
    pins: Mutex<BTreeMap<String, usize>>,
}

impl std::fmt::Debug for ModelStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ModelStore").finish_non_exhaustive()
    }
}

/// A model in use.
pub(crate) struct Pin<'a> {
    store: &'a ModelStore,
    id: String,
}

impl Drop for Pin<'_> {
    fn drop(&mut self) {
        let mut pins = lock(&self.store.pins);
        if let Some(count) = pins.get_mut(&self.id) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                pins.remove(&self.id);
            }
        }
    }
}

/// Goes on when one blob cannot be deleted, and reports the first such failure.
async fn delete_all(store: &dyn BlobStore) -> Result<(), StoreError> {
    let mut outcome = Ok(());
    for blob in store.list().await? {
        outcome = outcome.and(store.delete(&blob.name).await);
    }
    outcome
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl ModelStore {
    pub(crate) fn new(platform: Platform, resources: SharedResources) -> Self {
        Self {
            platform,
            resources,
            memory: MemoryBlobStore::default(),
            journals: [Mutex::default(), Mutex::default()],
            scanned: AsyncMutex::new(false),
            alone: Mutex::default(),
            arrival: AtomicWaker::new(),
            pins: Mutex::default(),
        }
    }

    fn blobs(&self, shelf: &Shelf<'_>) -> &dyn BlobStore {
        if shelf.kept {
            &*self.platform.store
        } else {
            &self.memory
        }
    }

    fn journals(&self, shelf: &Shelf<'_>) -> MutexGuard<'_, Journals> {
        let [device, memory] = &self.journals;
        lock(if shelf.kept { device } else { memory })
    }

    /// Keeps a model from being evicted.
    pub(crate) fn pin(&self, id: &str) -> Pin<'_> {
        let mut pins = lock(&self.pins);
        let count = pins.entry(id.to_owned()).or_default();
        *count = count.saturating_add(1);
        Pin {
            store: self,
            id: id.to_owned(),
        }
    }

    /// Reads what is on the device, once. Creates nothing.
    pub(crate) async fn scan(&self) -> Result<(), StoreError> {
        let mut scanned = self.scanned.lock().await;
        if *scanned {
            return Ok(());
        }
        let store = &*self.platform.store;
        for blob in store.list().await? {
            if let Some(id) = blob.name.strip_suffix(".journal")
                && let Some(journal) = Journal::read(store, id).await?
            {
                let [device, _] = &self.journals;
                lock(device).insert(id.to_owned(), journal);
            }
        }
        *scanned = true;
        Ok(())
    }

    /// Verified bytes of a model, on the device or in memory.
    pub(crate) fn stored_bytes(&self, entry: &ModelEntry) -> u64 {
        self.journals
            .iter()
            .filter_map(|journals| {
                lock(journals)
                    .get(&entry.id)
                    .filter(|journal| journal.is_of(entry))
                    .map(|journal| journal.verified_bytes(entry))
            })
            .max()
            .unwrap_or(0)
    }

    /// Waits for whoever fetches, loads or checks this model.
    pub(crate) async fn alone(&self, id: &str) -> Alone {
        let alone = Arc::clone(lock(&self.alone).entry(id.to_owned()).or_default());
        Alone {
            _guard: alone.lock_owned().await,
        }
    }

    /// Makes sure that there is a journal that is about this very file.
    async fn open_journal(&self, shelf: &Shelf<'_>, entry: &ModelEntry) -> Result<(), NodeError> {
        let known = self.journals(shelf).get(&entry.id).cloned();
        let file = file_blob(&entry.id);
        let blob = match self.blobs(shelf).open(&file, false).await {
            Ok(blob) => Some(blob),
            Err(StoreError::NotFound(_)) => None,
            Err(error) => return Err(error.into()),
        };
        let size = blob.as_ref().map_or(0, |blob| blob.size());
        if let Some(journal) = known.filter(|journal| journal.is_of(entry)) {
            // A file that is shorter than its journal says was tampered with.
            let needed = (0..entry.chunk_hashes.len())
                .rev()
                .find(|chunk| journal.has(*chunk))
                .map_or(0, |last| {
                    (last as u64).saturating_mul(CHUNK_BYTES) + chunk_len(entry, last) as u64
                });
            if size >= needed {
                return Ok(());
            }
        }
        // Another edition of the model, or a damaged journal: chunks that are right need not be fetched again.
        let mut journal = Journal::empty(entry, 0);
        if let Some(blob) = blob {
            for chunk in 0..entry.chunk_hashes.len() {
                if self.is_right(&*blob, entry, chunk).await? {
                    journal.set(chunk, true);
                }
            }
            if size > entry.bytes {
                blob.set_size(entry.bytes).await?;
            }
        }
        journal
            .write(self.blobs(shelf), &entry.id)
            .await
            .map_err(|error| self.no_room(error, entry))?;
        self.journals(shelf).insert(entry.id.clone(), journal);
        Ok(())
    }

    /// The host's "full" in words that name the model.
    fn no_room(&self, error: StoreError, entry: &ModelEntry) -> NodeError {
        match error {
            StoreError::Full { available, .. } => NodeError::NoRoom {
                id: entry.id.clone(),
                needed: entry.bytes,
                available,
            },
            other => other.into(),
        }
    }

    async fn is_right(&self, blob: &dyn Blob, entry: &ModelEntry, chunk: usize) -> Result<bool, StoreError> {
        let from = (chunk as u64).saturating_mul(CHUNK_BYTES);
        let len = chunk_len(entry, chunk);
        if blob.size() < from.saturating_add(len as u64) {
            return Ok(false);
        }
        let mut bytes = vec![0; len];
        blob.read_at(from, &mut bytes).await?;
        let busy = self.resources.begin();
        let hash = hex::encode(Sha256::digest(&bytes));
        self.resources.end(&busy);
        Ok(entry
            .chunk_hashes
            .get(chunk)
            .is_some_and(|expected| expected.eq_ignore_ascii_case(&hash)))
    }

    /// Hashes every chunk on the device again; those that are wrong will be fetched again. Returns them.
    pub(crate) async fn verify(
        &self,
        _alone: &Alone,
        entry: &ModelEntry,
        stop: &Stop,
    ) -> Result<Vec<usize>, NodeError> {
        self.scan().await?;
        let shelf = Shelf {
            kept: true,
            permit: PhantomData,
        };
        let blob = self.platform.store.open(&file_blob(&entry.id), false).await?;
        let missing = {
            let journals = self.journals(&shelf);
            let journal = journals.get(&entry.id).filter(|journal| journal.is_of(entry));
            journal.map_or_else(Vec::new, |journal| journal.missing(entry))
        };
        let mut wrong = Vec::new();
        for chunk in 0..entry.chunk_hashes.len() {
            // What has not arrived is not wrong.
            if missing.binary_search(&chunk).is_ok() {
                continue;
            }
            if !self.is_right(&*blob, entry, chunk).await? {
                wrong.push(chunk);
            }
            self.resources.wait(stop).await?;
        }
        let changed = {
            let mut journals = self.journals(&shelf);
            journals.get_mut(&entry.id).map(|journal| {
                for chunk in &wrong {
                    journal.set(*chunk, false);
                }
                journal.clone()
            })
        };
        if let Some(journal) = changed.filter(|_| !wrong.is_empty()) {
            journal.write(&*self.platform.store, &entry.id).await?;
        }
        Ok(wrong)
    }

    fn missing(&self, shelf: &Shelf<'_>, entry: &ModelEntry) -> Vec<usize> {
        self.journals(shelf)
            .get(&entry.id)
            .map_or_else(|| (0..entry.chunk_hashes.len()).collect(), |j| j.missing(entry))
    }

    fn missing_bytes(&self, shelf: &Shelf<'_>, entry: &ModelEntry) -> u64 {
        let verified = self
            .journals(shelf)
            .get(&entry.id)
            .map_or(0, |j| j.verified_bytes(entry));
        entry.bytes.saturating_sub(verified)
    }

    /// Verified bytes without a gap from the start.
    fn verified_prefix(&self, shelf: &Shelf<'_>, entry: &ModelEntry) -> u64 {
        let journals = self.journals(shelf);
        let Some(journal) = journals.get(&entry.id) else {
            return 0;
        };
        let chunks = (0..entry.chunk_hashes.len())
            .take_while(|chunk| journal.has(*chunk))
            .count();
        (chunks as u64).saturating_mul(CHUNK_BYTES).min(entry.bytes)
    }

    /// Notes that a chunk is verified and written.
    async fn enter(&self, shelf: &Shelf<'_>, entry: &ModelEntry, chunk: usize) -> Result<(), NodeError> {
        // Deleted under our feet: without a journal the fetch would never end.
        let gone = || StoreError::NotFound(journal_blob(&entry.id));
        let mut journal = self.journals(shelf).get(&entry.id).cloned().ok_or_else(gone)?;
        journal.set(chunk, true);
        journal.write_bit(self.blobs(shelf), &entry.id, chunk).await?;
        self.journals(shelf)
            .get_mut(&entry.id)
            .ok_or_else(gone)?
            .set(chunk, true);
        self.arrival.wake();
        Ok(())
    }

    /// Notes that a model was used just now.
    async fn touch(&self, shelf: &Shelf<'_>, id: &str) -> Result<(), NodeError> {
        let journal = {
            let mut journals = self.journals(shelf);
            let latest = journals.values().map(|journal| journal.used).max().unwrap_or(0);
            let Some(journal) = journals.get_mut(id) else {
                return Ok(());
            };
            if journal.used == latest && latest > 0 {
                return Ok(());
            }
            journal.used = latest.saturating_add(1);
            journal.clone()
        };
        Ok(journal.write(self.blobs(shelf), id).await?)
    }

    async fn remove(&self, shelf: &Shelf<'_>, id: &str) -> Result<(), StoreError> {
        self.journals(shelf).remove(id);
        let blobs = self.blobs(shelf);
        // The journal first: a file without one is verified again, a journal without a file would lie.
        blobs.delete(&journal_blob(id)).await?;
        blobs.delete(&file_blob(id)).await
    }

    /// Deletes a model from the device and from memory, unless it is being fetched or loaded.
    pub(crate) async fn delete(&self, id: &str) -> Result<(), NodeError> {
        let alone = lock(&self.alone).get(id).cloned();
        let _meanwhile = match &alone {
            Some(alone) => Some(alone.try_lock().ok_or_else(|| NodeError::InUse(id.to_owned()))?),
            None => None,
        };
        if lock(&self.pins).contains_key(id) {
            return Err(NodeError::InUse(id.to_owned()));
        }
        for kept in [true, false] {
            let shelf = Shelf {
                kept,
                permit: PhantomData,
            };
            self.remove(&shelf, id).await?;
        }
        Ok(())
    }

    /// Forgets a model that was only in memory.
    pub(crate) async fn forget_in_memory(&self, id: &str) -> Result<(), StoreError> {
        let shelf = Shelf {
            kept: false,
            permit: PhantomData,
        };
        self.remove(&shelf, id).await
    }

    /// Deletes every blob on the device, models or not.
    pub(crate) async fn delete_kept(&self) -> Result<(), StoreError> {
        let [device, _] = &self.journals;
        lock(device).clear();
        delete_all(&*self.platform.store).await
    }

    /// Deletes every blob, on the device and in memory.
    pub(crate) async fn delete_everything(&self) -> Result<(), StoreError> {
        let [_, memory] = &self.journals;
        lock(memory).clear();
        let kept = self.delete_kept().await;
        delete_all(&self.memory).await.and(kept)
    }
}
