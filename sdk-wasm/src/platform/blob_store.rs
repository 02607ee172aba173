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

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};

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
pub struct Chosen {
    /// The store.
    pub store: Arc<dyn BlobStore>,
    /// `opfs-sync`, `indexeddb` or `memory`.
    pub name: &'static str,
    /// What was missing, and what happens instead.
    pub missing: Vec<Missing>,
}

impl std::fmt::Debug for Chosen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Chosen")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// One way to keep a blob in a browser.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Home {
    /// OPFS, behind a synchronous handle: dedicated workers only.
    SyncFile,
    /// OPFS, read whole and replaced whole.
    WholeFile,
    /// IndexedDB, in pages.
    Pages,
}

/// A store that keeps every blob in the same way, as the conformance suite wants it.
///
/// # Errors
/// [`StoreError::Denied`] where the browser refuses storage.
pub async fn store_in(home: Home) -> Result<Arc<dyn BlobStore>, StoreError> {
    Ok(shared(BrowserStore {
        files: Files::reach().await?,
        database: Database::default(),
        home: match home {
            Home::SyncFile => |_| Home::SyncFile,
            Home::WholeFile => |_| Home::WholeFile,
            Home::Pages => |_| Home::Pages,
        },
    }))
}

/// Where a dedicated worker keeps a blob.
fn in_worker(name: &str) -> Home {
    let file = name == CONSENT || name.ends_with(".gguf");
    if file { Home::SyncFile } else { Home::Pages }
}

/// Where a service worker keeps it.
fn in_service_worker(name: &str) -> Home {
    if name == CONSENT {
        Home::WholeFile
    } else {
        Home::Pages
    }
}

/// The best store of those at or below `wanted` on the ladder `opfs-sync`, `indexeddb`, `memory`.
/// Creates nothing.
pub async fn choose(wanted: &str) -> Chosen {
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
                    home: if sync { in_worker } else { in_service_worker },
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

/// The core asks for an `Arc`; in a browser it never leaves its thread.
fn shared<T>(value: T) -> Arc<T> {
    Arc::new(value)
}

struct BrowserStore {
    files: Files,
    database: Database,
    home: fn(&str) -> Home,
}

impl BrowserStore {
    async fn open(&self, name: &str, create: bool) -> Result<Arc<dyn Blob>, StoreError> {
        check_blob_name(name)?;
        match (self.home)(name) {
            Home::SyncFile => self.files.open_sync(name, create).await,
            Home::WholeFile => self.files.open_whole(name, create).await,
            Home::Pages => self.database.open(name, create).await,
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
        match (self.home)(name) {
            Home::SyncFile | Home::WholeFile => self.files.delete(name).await?,
            Home::Pages => self.database.delete(name).await?,
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

/// The blobs that are open, so that two who open the same one see the same bytes.
struct Opened<T>(RefCell<BTreeMap<String, Weak<T>>>);

impl<T> Default for Opened<T> {
    fn default() -> Self {
        Self(RefCell::default())
    }
}

impl<T> Opened<T> {
    fn get(&self, name: &str) -> Option<Arc<T>> {
        let mut open = self.0.borrow_mut();
        open.retain(|_, blob| blob.strong_count() > 0);
        open.get(name).and_then(Weak::upgrade)
    }

    fn keep(&self, name: &str, blob: T) -> Arc<T> {
        let blob = shared(blob);
        self.0.borrow_mut().insert(name.to_owned(), Arc::downgrade(&blob));
        blob
    }

    fn forget(&self, name: &str) -> Option<Arc<T>> {
        self.0.borrow_mut().remove(name).and_then(|blob| blob.upgrade())
    }
}
