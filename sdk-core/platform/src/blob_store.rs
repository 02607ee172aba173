//! Bytes kept under a name: model files, journals, records.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::pages::Pages;
use crate::{BoxFuture, MaybeSend, MaybeSync, boxed};

/// Why a store could not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The device, or the browser's quota for this site, has no room left.
    #[error("no room left on this device: {needed} more bytes are needed, {available} are available")]
    Full {
        /// Bytes that were to be written.
        needed: u64,
        /// Bytes that the host says are left; an estimate in browsers.
        available: u64,
    },
    /// The host refuses storage (private window, blocked by a setting, no permission).
    #[error("storage is denied: {0}")]
    Denied(String),
    /// Another tab or process holds the blob open.
    #[error("{0} is in use by another tab or process")]
    InUse(String),
    /// There is no blob of that name.
    #[error("{0} is not stored on this device")]
    NotFound(String),
    /// A read or write outside the blob, or a name that the store cannot keep.
    #[error("{0}")]
    Invalid(String),
    /// Anything else the host reported.
    #[error("storage failed: {0}")]
    Io(String),
}

/// Random-access bytes: an open blob, a byte slice, a file.
pub trait ReadAt: MaybeSend + MaybeSync {
    /// Length in bytes.
    fn size(&self) -> u64;

    /// Fills `buf` from `offset` on.
    ///
    /// # Errors
    /// [`StoreError::Invalid`] when the range ends behind the last byte.
    fn read_at<'a>(&'a self, offset: u64, buf: &'a mut [u8]) -> BoxFuture<'a, Result<(), StoreError>>;
}

/// An open blob. Dropping it closes it; what was flushed survives a kill.
pub trait Blob: ReadAt {
    /// Writes at `offset`, growing the blob (a gap reads as zeros).
    fn write_at<'a>(&'a self, offset: u64, bytes: &'a [u8]) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Makes everything written so far durable.
    fn flush(&self) -> BoxFuture<'_, Result<(), StoreError>>;

    /// Cuts or grows the blob.
    fn set_size(&self, size: u64) -> BoxFuture<'_, Result<(), StoreError>>;
}

/// What is kept, by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BlobInfo {
    /// The blob's name.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
}

/// What the host says about room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreRoom {
    /// Bytes in use by this store.
    pub used: u64,
    /// Bytes that may still be written; an estimate in browsers.
    pub available: u64,
    /// Whether blobs outlive the page or process.
    pub persistent: bool,
}

/// Named blobs. Names are `[a-z0-9._-]{1,120}` and never start with a dot.
pub trait BlobStore: MaybeSend + MaybeSync {
    /// Opens a blob for reading and writing, creating an empty one if there is none and `create` is set.
    fn open<'a>(&'a self, name: &'a str, create: bool) -> BoxFuture<'a, Result<Arc<dyn Blob>, StoreError>>;

    /// Every blob, in name order.
    fn list(&self) -> BoxFuture<'_, Result<Vec<BlobInfo>, StoreError>>;

    /// Deletes a blob; deleting what is not there is fine.
    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), StoreError>>;

    /// How much is used and left.
    fn room(&self) -> BoxFuture<'_, Result<StoreRoom, StoreError>>;
}

/// Checks a blob name, so that no store ever sees a path.
///
/// # Errors
/// [`StoreError::Invalid`] with the rule.
///
/// ```
/// assert!(kwaainet_platform::check_blob_name("model.gguf").is_ok());
/// assert!(kwaainet_platform::check_blob_name("../secret").is_err());
/// ```
pub fn check_blob_name(name: &str) -> Result<(), StoreError> {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-');
    if name.is_empty() || name.len() > 120 || name.starts_with('.') || !name.bytes().all(fits) {
        return Err(StoreError::Invalid(format!(
            "{name:?} is not a blob name: use 1 to 120 of a-z 0-9 . _ - and no leading dot"
        )));
    }
    Ok(())
}

type SharedPages = Arc<Mutex<Pages>>;

/// A store in memory: the fake of every test, and the store of a visitor who does not keep the model.
#[derive(Debug, Clone)]
pub struct MemoryBlobStore {
    blobs: Arc<Mutex<BTreeMap<String, SharedPages>>>,
    capacity: u64,
}

impl Default for MemoryBlobStore {
    fn default() -> Self {
        Self::with_capacity(u64::MAX)
    }
}

impl MemoryBlobStore {
    /// A store that is full at `capacity` bytes.
    pub fn with_capacity(capacity: u64) -> Self {
        Self {
            blobs: Arc::default(),
            capacity,
        }
    }

    /// Frees the memory of a part of a blob, by the MiB; it reads as zeros from then on.
    pub fn let_go(&self, name: &str, range: Range<u64>) {
        if let Some(pages) = lock(&self.blobs).get(name) {
            lock(pages).let_go(range);
        }
    }

    fn used(&self) -> u64 {
        lock(&self.blobs).values().map(|pages| lock(pages).held()).sum()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug)]
struct MemoryBlob {
    store: MemoryBlobStore,
    pages: SharedPages,
}

impl ReadAt for MemoryBlob {
    fn size(&self) -> u64 {
        lock(&self.pages).size()
    }

    fn read_at<'a>(&'a self, offset: u64, buf: &'a mut [u8]) -> BoxFuture<'a, Result<(), StoreError>> {
        boxed(async move { lock(&self.pages).read(offset, buf) })
    }
}

impl ReadAt for Vec<u8> {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read_at<'a>(&'a self, offset: u64, buf: &'a mut [u8]) -> BoxFuture<'a, Result<(), StoreError>> {
        boxed(async move {
            let start = usize::try_from(offset).ok();
            let range = start.and_then(|start| Some(start..start.checked_add(buf.len())?));
            let from = range.and_then(|range| self.get(range)).ok_or_else(|| {
                StoreError::Invalid(format!(
                    "bytes {offset} to {} were asked of a file of {}",
                    offset.saturating_add(buf.len() as u64),
                    self.len()
                ))
            })?;
            buf.copy_from_slice(from);
            Ok(())
        })
    }
}

impl Blob for MemoryBlob {
    fn write_at<'a>(&'a self, offset: u64, new: &'a [u8]) -> BoxFuture<'a, Result<(), StoreError>> {
        boxed(async move {
            if offset.checked_add(new.len() as u64).is_none() {
                return Err(StoreError::Invalid(format!("offset {offset} is out of reach")));
            }
            let needed = lock(&self.pages).growth(offset, new.len());
            let available = self.store.capacity.saturating_sub(self.store.used());
            if needed > available {
                return Err(StoreError::Full { needed, available });
            }
            lock(&self.pages).write(offset, new);
            Ok(())
        })
    }

    fn flush(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        boxed(async { Ok(()) })
    }

    fn set_size(&self, size: u64) -> BoxFuture<'_, Result<(), StoreError>> {
        boxed(async move {
            lock(&self.pages).set_size(size);
            Ok(())
        })
    }
}

impl BlobStore for MemoryBlobStore {
    fn open<'a>(&'a self, name: &'a str, create: bool) -> BoxFuture<'a, Result<Arc<dyn Blob>, StoreError>> {
        boxed(async move {
            check_blob_name(name)?;
            let mut blobs = lock(&self.blobs);
            if !create && !blobs.contains_key(name) {
                return Err(StoreError::NotFound(name.to_owned()));
            }
            let pages = Arc::clone(blobs.entry(name.to_owned()).or_default());
            Ok(Arc::new(MemoryBlob {
                store: self.clone(),
                pages,
            }) as Arc<dyn Blob>)
        })
    }

    fn list(&self) -> BoxFuture<'_, Result<Vec<BlobInfo>, StoreError>> {
        boxed(async move {
            let blobs = lock(&self.blobs);
            Ok(blobs
                .iter()
                .map(|(name, pages)| BlobInfo {
                    name: name.clone(),
                    size: lock(pages).size(),
                })
                .collect())
        })
    }

    fn delete<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        boxed(async move {
            check_blob_name(name)?;
            lock(&self.blobs).remove(name);
            Ok(())
        })
    }

    fn room(&self) -> BoxFuture<'_, Result<StoreRoom, StoreError>> {
        boxed(async move {
            let used = self.used();
            Ok(StoreRoom {
                used,
                available: self.capacity.saturating_sub(used),
                persistent: false,
            })
        })
    }
}
