//! Room for a model: under the cap, on the device, and at whose expense.

use kwaainet_types::ModelEntry;

use super::{ModelStore, Shelf, lock};
use crate::NodeError;

impl ModelStore {
    /// Makes sure that `needed` more bytes may be written, evicting the models that were not used for the longest.
    ///
    /// Never evicts a model that is in use or being fetched.
    pub(super) async fn make_room(
        &self,
        shelf: &Shelf<'_>,
        entry: &ModelEntry,
        needed: u64,
    ) -> Result<(), NodeError> {
        if !shelf.kept {
            let allowed = self.resources.memory_bytes();
            return if entry.bytes > allowed {
                Err(NodeError::AboveMemoryCap {
                    id: entry.id.clone(),
                    needed: entry.bytes,
                    allowed,
                })
            } else {
                Ok(())
            };
        }
        let allowed = self.resources.storage_bytes();
        if entry.bytes > allowed {
            return Err(NodeError::AboveStorageCap {
                id: entry.id.clone(),
                needed: entry.bytes,
                allowed,
            });
        }
        loop {
            let used = self.models_on_device().await?;
            let total: u64 = used.iter().map(|(_, bytes)| *bytes).sum();
            let above_cap = total.saturating_add(needed) > allowed;
            let available = self.platform.store.room().await?.available;
            if !above_cap && available >= needed {
                return Ok(());
            }
            let Some(victim) = self.least_used(&used) else {
                return Err(if above_cap {
                    NodeError::AboveStorageCap {
                        id: entry.id.clone(),
                        needed: total.saturating_add(needed),
                        allowed,
                    }
                } else {
                    NodeError::NoRoom {
                        id: entry.id.clone(),
                        needed,
                        available,
                    }
                });
            };
            self.remove(shelf, &victim).await?;
        }
    }

    async fn models_on_device(&self) -> Result<Vec<(String, u64)>, NodeError> {
        let blobs = self.platform.store.list().await?;
        Ok(blobs
            .into_iter()
            .filter_map(|blob| Some((blob.name.strip_suffix(".gguf")?.to_owned(), blob.size)))
            .collect())
    }

    fn least_used(&self, models: &[(String, u64)]) -> Option<String> {
        let pins = lock(&self.pins);
        let [device, _] = &self.journals;
        let journals = lock(device);
        models
            .iter()
            .map(|(id, _)| id)
            .filter(|id| !pins.contains_key(*id))
            // A file without a journal belongs to nobody: it goes first.
            .min_by_key(|id| journals.get(*id).map_or(0, |journal| journal.used))
            .cloned()
    }
}
