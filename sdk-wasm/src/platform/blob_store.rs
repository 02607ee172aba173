//! Blobs in a browser: model files in the origin's private file system, small ones in IndexedDB.
//!
//! | host | `*.gguf` | `consent.json` | everything else (journals, stamps) |
//! |---|---|---|---|
//! | dedicated worker | OPFS, synchronous handle | OPFS, synchronous handle | IndexedDB |
//! | service worker | IndexedDB, pages of 1 MiB | OPFS, replaced whole | IndexedDB |
//!
//! The record of consent is a file because our frame looks for it before it may create anything, and asking
//! for a file that is not there creates nothing. A writable of the asynchronous file system copies the whole
//! file whenever it is opened, so that a model of 98 MB, kept chunk by chunk, would cost gigabytes of copies:
//! a service worker, which has no synchronous handles, keeps models in IndexedDB.

mod database;
mod files;

use std::sync::Arc;

use kwaainet_platform::{
    Blob, BlobInfo, BlobStore, BoxFuture, MemoryBlobStore, StoreError, StoreRoom, boxed, check_blob_name,
};
use kwaainet_types::Missing;

use database::Database;
use files::Files;

/// Name of our directory and of our database.
const NAME: &str = "kwaainet";
/// The blob that the frame reads by itself.
const CONSENT: &str = "consent.json";

/// A store, what it is called in the capability report, and the rungs that were missing on the way to it.
pub(crate) struct Chosen {
    pub(crate) store: Arc<dyn BlobStore>,
    pub(crate) name: &'static str,
    pub(crate) missing: Vec<Missing>,
}

/// The best store of those at or below `wanted` on the ladder `opfs-sync`, `indexeddb`, `memory`.
/// Creates nothing.
pub(crate) async fn choose(wanted: &str) -> Chosen {
    let mut missing = Vec::new();
    let mut without = |what: &str, instead: &str| {
        missing.push(Missing {
            what: what.to_owned(),
            instead: instead.to_owned(),
        });
    };
    let mut name = "memory";
    let mut store: Arc<dyn BlobStore> = Arc::new(MemoryBlobStore::default());
    if wanted != "memory" {
        match (Files::reach().await, database::exists().await) {
            (Ok(files), Ok(_)) => {
                let sync = wanted == "opfs-sync" && Files::has_sync_handles();
                if wanted == "opfs-sync" && !sync {
                    without(
                        "FileSystemFileHandle.createSyncAccessHandle",
                        "models are kept in IndexedDB",
                    );
                }
                name = if sync { "opfs-sync" } else { "indexeddb" };
                store = shared(BrowserStore {
                    files,
                    database: Database::default(),
                    sync,
                });
            }
            (Err(error), _) | (_, Err(error)) => {
                without(
                    &format!("storage ({error})"),
                    "nothing is kept: the model is fetched at each visit",
                );
            }
        }
    }
    Chosen { store, name, missing }
}

#[expect(
    clippy::arc_with_non_send_sync,
    reason = "the core asks for an Arc; in a browser it never leaves its thread"
)]
fn shared<T>(value: T) -> Arc<T> {
    Arc::new(value)
}

struct BrowserStore {
    files: Files,
    database: Database,
    sync: bool,
}

impl BrowserStore {
    fn in_files(&self, name: &str) -> bool {
        name == CONSENT || (self.sync && name.ends_with(".gguf"))
    }

    async fn open(&self, name: &str, create: bool) -> Result<Arc<dyn Blob>, StoreError> {
        check_blob_name(name)?;
        if !self.in_files(name) {
            return self.database.open(name, create).await;
        }
        if self.sync {
            self.files.open_sync(name, create).await
        } else {
            self.files.open_whole(name, create).await
        }
    }

    async fn list(&self) -> Result<Vec<BlobInfo>, StoreError> {
        let mut blobs = self.files.list().await?;
        blobs.extend(self.database.list().await?);
        blobs.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(blobs)
    }

    async fn delete(&self, name: &str) -> Result<(), StoreError> {
        check_blob_name(name)?;
        if self.in_files(name) {
            self.files.delete(name).await?;
        } else {
            self.database.delete(name).await?;
        }
        // Whoever takes back their consent finds not even an empty folder.
        if self.list().await?.is_empty() {
            self.files.delete_directory().await?;
            self.database.delete_all().await?;
        }
        Ok(())
    }
}

impl BlobStore for BrowserStore {
    fn open<'a>(&'a self, name: &'a str, create: bool) -> BoxFuture<'a, Result<Arc<dyn Blob>, StoreError>> {
        boxed(self.open(name, create))
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<BlobInfo>, StoreError>> {
        boxed(self.list())
    }

    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        boxed(self.delete(name))
    }

    fn room(&self) -> BoxFuture<'_, Result<StoreRoom, StoreError>> {
        boxed(async {
            let used = self.list().await?.iter().map(|blob| blob.size).sum();
            Ok(StoreRoom {
                used,
                available: files::estimate_available().await,
                persistent: true,
            })
        })
    }
}

/// Puts the browser's own numbers into "no room".
async fn with_numbers(error: StoreError, needed: u64) -> StoreError {
    match error {
        StoreError::Full { .. } => StoreError::Full {
            needed,
            available: files::estimate_available().await,
        },
        other => other,
    }
}
