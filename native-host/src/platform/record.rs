//! A small blob: held in memory while it is open, replaced on disk as a whole.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use kwaainet_platform::{Blob, BoxFuture, ReadAt, StoreError};

use super::blob_store::{explain, lock, outside};

/// Records are held in memory; a larger one is a mistake.
const LARGEST_RECORD: u64 = 64 << 20;

/// A small file, held in memory while it is open.
#[derive(Debug)]
pub(super) struct Record {
    path: PathBuf,
    state: Mutex<RecordState>,
}

#[derive(Debug)]
struct RecordState {
    bytes: Vec<u8>,
    changed: bool,
    deleted: bool,
}

pub(super) fn temporary(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    // The leading dot keeps it out of `list`.
    path.with_file_name(format!(".{name}.tmp"))
}

impl Record {
    pub(super) fn open(name: &str, path: PathBuf, create: bool) -> Result<Self, StoreError> {
        let bytes = match fs::metadata(&path) {
            Ok(metadata) if metadata.len() > LARGEST_RECORD => {
                return Err(StoreError::Invalid(format!(
                    "{name} has {} bytes: a record has at most {LARGEST_RECORD}",
                    metadata.len()
                )));
            }
            Ok(_) => fs::read(&path).map_err(|error| explain(error, &path, 0))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound && create => {
                File::create(&path).map_err(|error| explain(error, &path, 0))?;
                Vec::new()
            }
            Err(error) => return Err(explain(error, &path, 0)),
        };
        let state = Mutex::new(RecordState {
            bytes,
            changed: false,
            deleted: false,
        });
        Ok(Self { path, state })
    }

    /// From now on, whoever still holds it writes into the void.
    pub(super) fn forget(&self) {
        lock(&self.state).deleted = true;
    }

    fn change(&self, size: u64, change: impl FnOnce(&mut Vec<u8>, usize)) -> Result<(), StoreError> {
        let size = usize::try_from(size)
            .ok()
            .filter(|size| *size as u64 <= LARGEST_RECORD);
        let Some(size) = size else {
            return Err(StoreError::Invalid(format!(
                "a record has at most {LARGEST_RECORD} bytes"
            )));
        };
        let mut state = lock(&self.state);
        change(&mut state.bytes, size);
        state.changed = true;
        Ok(())
    }

    fn replace(&self, durable: bool) -> Result<(), StoreError> {
        let mut state = lock(&self.state);
        if !state.changed || state.deleted {
            return Ok(());
        }
        let temporary = temporary(&self.path);
        let write = || -> io::Result<()> {
            let mut file = File::create(&temporary)?;
            // Two processes that write the same record take turns.
            drop(file.lock());
            file.write_all(&state.bytes)?;
            if durable {
                file.sync_all()?;
            }
            fs::rename(&temporary, &self.path)?;
            #[cfg(unix)]
            if durable && let Some(dir) = self.path.parent() {
                File::open(dir)?.sync_all()?;
            }
            Ok(())
        };
        write().map_err(|error| explain(error, &self.path, state.bytes.len() as u64))?;
        state.changed = false;
        Ok(())
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        // Only flushed bytes are promised; the rest is written if that is possible.
        drop(self.replace(false));
    }
}

impl ReadAt for Record {
    fn size(&self) -> u64 {
        lock(&self.state).bytes.len() as u64
    }

    fn read_at<'a>(&'a self, offset: u64, buf: &'a mut [u8]) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            let state = lock(&self.state);
            let start = usize::try_from(offset).unwrap_or(usize::MAX);
            let from = state.bytes.get(start..start.saturating_add(buf.len()));
            buf.copy_from_slice(from.ok_or_else(|| outside(offset, buf.len(), state.bytes.len() as u64))?);
            Ok(())
        })
    }
}

impl Blob for Record {
    fn write_at<'a>(&'a self, offset: u64, new: &'a [u8]) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move {
            self.change(offset.saturating_add(new.len() as u64), |bytes, end| {
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                if let Some(to) = bytes.get_mut(end - new.len()..end) {
                    to.copy_from_slice(new);
                }
            })
        })
    }

    fn flush(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async { self.replace(true) })
    }

    fn set_size(&self, size: u64) -> BoxFuture<'_, Result<(), StoreError>> {
        Box::pin(async move { self.change(size, |bytes, size| bytes.resize(size, 0)) })
    }
}
