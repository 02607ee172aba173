//! The origin's private file system (WHATWG File System).

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::time::Duration;

use js_sys::{Array, Promise, Reflect, Uint8Array};
use kwaainet_platform::{Blob, BlobInfo, BoxFuture, Clock as _, ReadAt, StoreError, boxed};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{
    File, FileSystemDirectoryHandle, FileSystemFileHandle, FileSystemGetDirectoryOptions,
    FileSystemGetFileOptions, FileSystemReadWriteOptions, FileSystemSyncAccessHandle,
};

use super::{NAME, Opened, with_numbers};
use crate::error::{reason, store_error};
use kwaainet_browser::BrowserClock;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = ["navigator", "storage"], js_name = getDirectory, catch)]
    fn get_directory() -> Result<Promise, JsValue>;
    #[wasm_bindgen(js_namespace = ["navigator", "storage"], js_name = estimate, catch)]
    fn estimate() -> Result<Promise, JsValue>;

    /// The part of FileSystemFileHandle that web-sys holds back as unstable.
    #[wasm_bindgen(js_name = FileSystemFileHandle)]
    type WritableHandle;
    #[wasm_bindgen(method, js_class = "FileSystemFileHandle", js_name = createWritable, catch)]
    fn create_writable(this: &WritableHandle) -> Result<Promise, JsValue>;
    #[wasm_bindgen(js_name = FileSystemWritableFileStream)]
    type Writable;
    #[wasm_bindgen(method, js_class = "FileSystemWritableFileStream", catch)]
    fn write(this: &Writable, bytes: &Uint8Array) -> Result<Promise, JsValue>;
    #[wasm_bindgen(method, js_class = "FileSystemWritableFileStream", catch)]
    fn close(this: &Writable) -> Result<Promise, JsValue>;
}

/// Waits between tries for a handle that another worker still holds: the one of a closed tab was seen to stay
/// open for 20 ms after its lock had gone. About 1.6 s in all; then somebody really uses it.
const RETRIES_MS: [u64; 7] = [15, 25, 50, 100, 200, 400, 800];

/// Our directory.
pub(super) struct Files {
    root: FileSystemDirectoryHandle,
    clock: BrowserClock,
    /// A synchronous handle is exclusive, so everybody who opens a blob here gets the same one.
    open: Opened<SyncBlob>,
    whole: Opened<WholeBlob>,
}

impl Files {
    /// Reaches the file system without creating anything.
    pub(super) async fn reach() -> Result<Self, StoreError> {
        let failed = |error: JsValue| StoreError::Denied(reason(&error));
        let root = JsFuture::from(get_directory().map_err(failed)?)
            .await
            .map_err(failed)?;
        Ok(Self {
            root: root.unchecked_into(),
            clock: BrowserClock::new().map_err(failed)?,
            open: Opened::default(),
            whole: Opened::default(),
        })
    }

    pub(super) fn has_sync_handles() -> bool {
        let get = |from: &JsValue, name: &str| Reflect::get(from, &name.into()).unwrap_or_default();
        let prototype = get(&get(&js_sys::global(), "FileSystemFileHandle"), "prototype");
        get(&prototype, "createSyncAccessHandle").is_function()
    }

    async fn directory(&self, create: bool) -> Result<FileSystemDirectoryHandle, JsValue> {
        let options = FileSystemGetDirectoryOptions::new();
        options.set_create(create);
        let directory = JsFuture::from(self.root.get_directory_handle_with_options(NAME, &options)).await?;
        Ok(directory.unchecked_into())
    }

    async fn file(&self, name: &str, create: bool) -> Result<FileSystemFileHandle, JsValue> {
        let options = FileSystemGetFileOptions::new();
        options.set_create(create);
        let directory = self.directory(create).await?;
        let file = JsFuture::from(directory.get_file_handle_with_options(name, &options)).await?;
        Ok(file.unchecked_into())
    }

    /// Runs `attempt` again while the blob is in use elsewhere.
    async fn patiently<T>(&self, attempt: impl AsyncFn() -> Result<T, StoreError>) -> Result<T, StoreError> {
        for wait in RETRIES_MS {
            match attempt().await {
                Err(StoreError::InUse(_)) => self.clock.sleep(Duration::from_millis(wait)).await,
                done => return done,
            }
        }
        attempt().await
    }

    /// A blob behind a synchronous handle: dedicated workers only.
    pub(super) async fn open_sync(&self, name: &str, create: bool) -> Result<Arc<dyn Blob>, StoreError> {
        if let Some(blob) = self.open.get(name) {
            return Ok(blob);
        }
        let failed = |error: JsValue| store_error(name, &error);
        let file = self.file(name, create).await.map_err(failed)?;
        let handle: FileSystemSyncAccessHandle = self
            .patiently(async || {
                let handle = JsFuture::from(file.create_sync_access_handle()).await;
                Ok(handle.map_err(failed)?.unchecked_into())
            })
            .await?;
        let size = handle.get_size().map_err(failed)? as u64;
        Ok(self.open.keep(
            name,
            SyncBlob {
                name: name.to_owned(),
                handle,
                size: Cell::new(size),
                deleted: Cell::new(false),
            },
        ))
    }

    /// A small blob that is read whole and replaced whole, with the file system's asynchronous half.
    pub(super) async fn open_whole(&self, name: &str, create: bool) -> Result<Arc<dyn Blob>, StoreError> {
        if let Some(blob) = self.whole.get(name) {
            return Ok(blob);
        }
        let failed = |error: JsValue| store_error(name, &error);
        let handle = self.file(name, create).await.map_err(failed)?;
        let file: File = JsFuture::from(handle.get_file())
            .await
            .map_err(failed)?
            .unchecked_into();
        let bytes = JsFuture::from(file.array_buffer()).await.map_err(failed)?;
        Ok(self.whole.keep(
            name,
            WholeBlob {
                name: name.to_owned(),
                handle: handle.unchecked_into(),
                bytes: RefCell::new(Uint8Array::new(&bytes).to_vec()),
            },
        ))
    }

    pub(super) async fn list(&self) -> Result<Vec<BlobInfo>, StoreError> {
        let failed = |error: JsValue| store_error(NAME, &error);
        let directory = match self.directory(false).await.map_err(failed) {
            Ok(directory) => directory,
            Err(StoreError::NotFound(_)) => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let entries = directory.entries();
        let mut blobs = Vec::new();
        loop {
            let next = JsFuture::from(entries.next().map_err(failed)?)
                .await
                .map_err(failed)?;
            let get = |name: &str| Reflect::get(&next, &name.into()).unwrap_or_default();
            if get("done").is_truthy() {
                return Ok(blobs);
            }
            let entry: Array = get("value").unchecked_into();
            let Some(name) = entry.get(0).as_string() else {
                continue;
            };
            let size = match self.open.get(&name) {
                Some(blob) => blob.size(),
                None => {
                    let handle: FileSystemFileHandle = entry.get(1).unchecked_into();
                    let file = JsFuture::from(handle.get_file()).await.map_err(failed);
                    match file {
                        Ok(file) => file.unchecked_into::<File>().size() as u64,
                        // Deleted or replaced since it was listed: another tab's, or the browser's own file
                        // behind a writable.
                        Err(StoreError::NotFound(_)) => continue,
                        Err(error) => return Err(error),
                    }
                }
            };
            blobs.push(BlobInfo { name, size });
        }
    }

    pub(super) async fn delete(&self, name: &str) -> Result<(), StoreError> {
        if let Some(blob) = self.open.forget(name) {
            blob.deleted.set(true);
            blob.handle.close();
        }
        self.whole.forget(name);
        let Ok(directory) = self.directory(false).await else {
            return Ok(());
        };
        self.remove(&directory, name).await
    }

    /// Removes the directory, which must be empty.
    pub(super) async fn delete_directory(&self) -> Result<(), StoreError> {
        self.remove(&self.root, NAME).await
    }

    async fn remove(&self, from: &FileSystemDirectoryHandle, name: &str) -> Result<(), StoreError> {
        let removed = self
            .patiently(async || {
                let removed = JsFuture::from(from.remove_entry(name)).await;
                removed.map(drop).map_err(|error| store_error(name, &error))
            })
            .await;
        match removed {
            Err(StoreError::NotFound(_)) => Ok(()),
            removed => removed,
        }
    }
}

/// What the browser says is left for this site. A hint: browsers round it or make it up.
pub(super) async fn estimate_available() -> u64 {
    let Ok(Ok(estimate)) = futures::future::OptionFuture::from(estimate().ok().map(JsFuture::from))
        .await
        .ok_or(())
    else {
        return 0;
    };
    let number = |name: &str| {
        Reflect::get(&estimate, &name.into())
            .ok()
            .and_then(|value| value.as_f64())
            .unwrap_or(0.0)
    };
    (number("quota") - number("usage")).max(0.0) as u64
}

struct SyncBlob {
    name: String,
    handle: FileSystemSyncAccessHandle,
    size: Cell<u64>,
    deleted: Cell<bool>,
}

impl SyncBlob {
    fn failed(&self, error: &JsValue) -> StoreError {
        if self.deleted.get() {
            return StoreError::NotFound(self.name.clone());
        }
        store_error(&self.name, error)
    }

    fn read(&self, offset: u64, buf: &mut [u8]) -> Result<(), StoreError> {
        if offset
            .checked_add(buf.len() as u64)
            .is_none_or(|end| end > self.size.get())
        {
            return Err(out_of_range(offset, buf.len(), self.size.get()));
        }
        let mut done = 0;
        while let Some(rest) = buf.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let options = at(offset + done as u64);
            let read = self.handle.read_with_u8_array_and_options(rest, &options);
            let read = read.map_err(|error| self.failed(&error))? as usize;
            if read == 0 {
                return Err(StoreError::Io(format!("{} ended early", self.name)));
            }
            done += read;
        }
        Ok(())
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
        let mut done = 0;
        while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
            let options = at(offset + done as u64);
            let written = self.handle.write_with_u8_array_and_options(rest, &options);
            let written = written.map_err(|error| self.failed(&error))? as usize;
            if written == 0 {
                return Err(StoreError::Full {
                    needed: rest.len() as u64,
                    available: 0,
                });
            }
            done += written;
        }
        let end = offset + bytes.len() as u64;
        self.size.set(self.size.get().max(end));
        Ok(())
    }
}

fn at(offset: u64) -> FileSystemReadWriteOptions {
    let options = FileSystemReadWriteOptions::new();
    options.set_at(offset as f64);
    options
}

pub(super) fn out_of_range(offset: u64, length: usize, size: u64) -> StoreError {
    StoreError::Invalid(format!(
        "bytes {offset} to {} were asked of a blob of {size}",
        offset.saturating_add(length as u64)
    ))
}

impl Drop for SyncBlob {
    fn drop(&mut self) {
        self.handle.close();
    }
}

impl ReadAt for SyncBlob {
    fn size(&self) -> u64 {
        self.size.get()
    }

    fn read_at<'a>(&'a self, offset: u64, buf: &'a mut [u8]) -> BoxFuture<'a, Result<(), StoreError>> {
        boxed(std::future::ready(self.read(offset, buf)))
    }
}

impl Blob for SyncBlob {
    fn write_at<'a>(&'a self, offset: u64, bytes: &'a [u8]) -> BoxFuture<'a, Result<(), StoreError>> {
        boxed(async move {
            match self.write(offset, bytes) {
                Ok(()) => Ok(()),
                Err(error) => Err(with_numbers(error, bytes.len() as u64).await),
            }
        })
    }

    fn flush(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        boxed(std::future::ready(
            self.handle.flush().map_err(|error| self.failed(&error)),
        ))
    }

    fn set_size(&self, size: u64) -> BoxFuture<'_, Result<(), StoreError>> {
        boxed(async move {
            let needed = size.saturating_sub(self.size.get());
            match self.handle.truncate_with_f64(size as f64) {
                Ok(()) => {
                    self.size.set(size);
                    Ok(())
                }
                Err(error) => Err(with_numbers(self.failed(&error), needed).await),
            }
        })
    }
}

struct WholeBlob {
    name: String,
    handle: WritableHandle,
    bytes: RefCell<Vec<u8>>,
}

impl WholeBlob {
    async fn replace(&self) -> Result<(), JsValue> {
        let writable: Writable = JsFuture::from(self.handle.create_writable()?)
            .await?
            .unchecked_into();
        let bytes = Uint8Array::new_from_slice(&self.bytes.borrow());
        JsFuture::from(writable.write(&bytes)?).await?;
        // Only now does the file change, at once.
        JsFuture::from(writable.close()?).await?;
        Ok(())
    }
}

impl ReadAt for WholeBlob {
    fn size(&self) -> u64 {
        self.bytes.borrow().len() as u64
    }

    fn read_at<'a>(&'a self, offset: u64, buf: &'a mut [u8]) -> BoxFuture<'a, Result<(), StoreError>> {
        boxed(async move {
            let bytes = self.bytes.borrow();
            let from = usize::try_from(offset)
                .ok()
                .and_then(|start| bytes.get(start..start.checked_add(buf.len())?))
                .ok_or_else(|| out_of_range(offset, buf.len(), bytes.len() as u64))?;
            buf.copy_from_slice(from);
            Ok(())
        })
    }
}

impl Blob for WholeBlob {
    fn write_at<'a>(&'a self, offset: u64, new: &'a [u8]) -> BoxFuture<'a, Result<(), StoreError>> {
        boxed(async move {
            let mut bytes = self.bytes.borrow_mut();
            let start = usize::try_from(offset).map_err(|_| out_of_range(offset, new.len(), 0))?;
            let end = start.saturating_add(new.len());
            if bytes.len() < end {
                bytes.resize(end, 0);
            }
            if let Some(to) = bytes.get_mut(start..end) {
                to.copy_from_slice(new);
            }
            Ok(())
        })
    }

    fn flush(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        boxed(async move {
            match self.replace().await {
                Ok(()) => Ok(()),
                Err(error) => Err(with_numbers(store_error(&self.name, &error), self.size()).await),
            }
        })
    }

    fn set_size(&self, size: u64) -> BoxFuture<'_, Result<(), StoreError>> {
        boxed(async move {
            let size = usize::try_from(size).map_err(|_| out_of_range(size, 0, 0))?;
            self.bytes.borrow_mut().resize(size, 0);
            Ok(())
        })
    }
}
