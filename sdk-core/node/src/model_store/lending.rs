//! What is here of a model, for peers.

use kwaainet_platform::StoreError;
use kwaainet_types::{CHUNK_BYTES, ModelEntry};
use sha2::{Digest, Sha256};

use super::journal::{Journal, chunk_len, file_blob};
use super::{ModelStore, lock};

impl ModelStore {
    /// Sees what other processes of this machine have fetched meanwhile.
    pub(crate) async fn look_again(&self) -> Result<(), StoreError> {
        self.scan().await?;
        let store = &*self.platform.store;
        for blob in store.list().await? {
            if let Some(id) = blob.name.strip_suffix(".journal")
                && let Some(read) = Journal::read(store, id).await?
            {
                let [device, _] = &self.journals;
                let mut device = lock(device);
                device
                    .entry(id.to_owned())
                    .or_insert_with(|| read.clone())
                    .add(&read);
            }
        }
        Ok(())
    }

    /// The chunks of a model that lie verified on the device, a bit for each; `None` if there are none.
    pub(crate) fn kept_bits(&self, entry: &ModelEntry) -> Option<Vec<u8>> {
        let [device, _] = &self.journals;
        let journals = lock(device);
        let journal = journals.get(&entry.id).filter(|journal| journal.is_of(entry))?;
        journal
            .bits()
            .iter()
            .any(|byte| *byte != 0)
            .then(|| journal.bits().to_vec())
    }

    /// A chunk from the device, hashed again: whoever is given a rotten one would take us for a liar.
    pub(crate) async fn kept_chunk(&self, entry: &ModelEntry, chunk: usize) -> Option<Vec<u8>> {
        let [device, _] = &self.journals;
        let is_here = |journal: &&Journal| journal.is_of(entry) && journal.has(chunk);
        lock(device).get(&entry.id).filter(is_here)?;
        let blob = match self.platform.store.open(&file_blob(&entry.id), false).await {
            Ok(blob) => blob,
            Err(StoreError::NotFound(_)) => {
                // Another process deleted it.
                lock(device).remove(&entry.id);
                return None;
            }
            // Somebody writes to it just now.
            Err(_) => return None,
        };
        let mut bytes = vec![0; chunk_len(entry, chunk)];
        blob.read_at((chunk as u64).saturating_mul(CHUNK_BYTES), &mut bytes)
            .await
            .ok()?;
        let busy = self.resources.begin();
        let hash = hex::encode(Sha256::digest(&bytes));
        self.resources.end(&busy);
        let is_right = entry
            .chunk_hashes
            .get(chunk)
            .is_some_and(|hash_of| hash_of.eq_ignore_ascii_case(&hash));
        if !is_right && let Some(journal) = lock(device).get_mut(&entry.id) {
            journal.set(chunk, false);
        }
        is_right.then_some(bytes)
    }
}
