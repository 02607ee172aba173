//! IndexedDB (W3C IndexedDB 3.0), through rexie: journals and stamps, and models in a service worker.

use std::cell::Cell;
use std::error::Error as _;
use std::rc::Rc;
use std::sync::Arc;

use futures::future::{join, join_all};
use futures::lock::Mutex;
use js_sys::{Array, Promise, Reflect, Uint8Array};
use kwaainet_platform::{Blob, BlobInfo, BoxFuture, ReadAt, StoreError, boxed};
use rexie::{KeyRange, ObjectStore, Rexie, Store, TransactionMode, TransactionResult};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

use super::files::{estimate_available, out_of_range};
use super::{NAME, Opened};
use crate::error::reason;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = indexedDB, js_name = databases, catch)]
    fn databases() -> Result<Promise, JsValue>;
}

/// Pieces of a blob, by `[name, number]`. A page is what one write of the model store fills.
const PAGES: &str = "pages";
/// Sizes of the blobs, by name.
const SIZES: &str = "sizes";
const PAGE_BYTES: u64 = 1 << 20;

/// Whether our database is there. Opening it to find out would create it.
pub(super) async fn exists() -> Result<bool, StoreError> {
    let denied = |error: JsValue| StoreError::Denied(reason(&error));
    let all = JsFuture::from(databases().map_err(denied)?)
        .await
        .map_err(denied)?;
    Ok(Array::from(&all)
        .iter()
        .any(|database| Reflect::get(&database, &"name".into()).is_ok_and(|name| name == NAME)))
}

fn failed(error: &rexie::Error) -> StoreError {
    // The browser's own exception sits in one of many variants, by what was being done.
    let detail = error
        .source()
        .map_or_else(|| error.to_string(), ToString::to_string);
    let debug = format!("{error:?}");
    if debug.contains("QuotaExceededError") {
        return StoreError::Full {
            needed: 0,
            available: 0,
        };
    }
    if debug.contains("SecurityError") || debug.contains("NotAllowedError") {
        return StoreError::Denied(detail);
    }
    StoreError::Io(detail)
}

/// Our database, opened when it is first needed.
#[derive(Default)]
pub(super) struct Database {
    connection: Rc<Connection>,
    open: Opened<PagedBlob>,
}

#[derive(Default)]
struct Connection(Mutex<Option<Rc<Rexie>>>);

impl Connection {
    /// `None`: there is no database yet and `create` is not set.
    async fn get(&self, create: bool) -> Result<Option<Rc<Rexie>>, StoreError> {
        let mut open = self.0.lock().await;
        if let Some(rexie) = &*open {
            return Ok(Some(Rc::clone(rexie)));
        }
        if !create && !exists().await? {
            return Ok(None);
        }
        let rexie = Rexie::builder(NAME)
            .version(1)
            .add_object_store(ObjectStore::new(PAGES))
            .add_object_store(ObjectStore::new(SIZES))
            .build()
            .await
            .map_err(|error| failed(&error))?;
        let rexie = Rc::new(rexie);
        *open = Some(Rc::clone(&rexie));
        Ok(Some(rexie))
    }

    /// Changes pages and sizes in one transaction: all of it or nothing. `change` must send every request
    /// before it first waits for one.
    async fn change<T>(
        &self,
        needed: u64,
        change: impl AsyncFnOnce(&Store, &Store) -> rexie::Result<T>,
    ) -> Result<(), StoreError> {
        let changed = async {
            let Some(rexie) = self.get(true).await? else {
                return Ok(TransactionResult::Aborted);
            };
            let run = async {
                let transaction = rexie.transaction(&[PAGES, SIZES], TransactionMode::ReadWrite)?;
                change(&transaction.store(PAGES)?, &transaction.store(SIZES)?).await?;
                transaction.done().await
            };
            run.await.map_err(|error| failed(&error))
        };
        match changed.await {
            Ok(TransactionResult::Committed) => Ok(()),
            // We abort nothing: an aborted transaction is one for which there was no room.
            Ok(TransactionResult::Aborted) | Err(StoreError::Full { .. }) => Err(StoreError::Full {
                needed,
                available: estimate_available().await,
            }),
            Err(error) => Err(error),
        }
    }
}

impl Database {
    pub(super) async fn open(&self, name: &str, create: bool) -> Result<Arc<dyn Blob>, StoreError> {
        if let Some(blob) = self.open.get(name) {
            return Ok(blob);
        }
        let not_found = || StoreError::NotFound(name.to_owned());
        let rexie = self.connection.get(create).await?.ok_or_else(not_found)?;
        let size = async {
            let transaction = rexie.transaction(&[SIZES], TransactionMode::ReadOnly)?;
            transaction.store(SIZES)?.get(name.into()).await
        };
        let size = size.await.map_err(|error| failed(&error))?;
        if size.is_none() {
            if !create {
                return Err(not_found());
            }
            self.connection
                .change(0, async |_, sizes| sizes.put(&0.into(), Some(&name.into())).await)
                .await?;
        }
        Ok(self.open.keep(
            name,
            PagedBlob {
                name: name.to_owned(),
                connection: Rc::clone(&self.connection),
                size: Cell::new(size.and_then(|size| size.as_f64()).unwrap_or(0.0) as u64),
                deleted: Cell::new(false),
            },
        ))
    }

    pub(super) async fn list(&self) -> Result<Vec<BlobInfo>, StoreError> {
        let Some(rexie) = self.connection.get(false).await? else {
            return Ok(Vec::new());
        };
        let sizes = async {
            let transaction = rexie.transaction(&[SIZES], TransactionMode::ReadOnly)?;
            transaction.store(SIZES)?.scan(None, None, None, None).await
        };
        let sizes = sizes.await.map_err(|error| failed(&error))?;
        Ok(sizes
            .into_iter()
            .filter_map(|(name, size)| {
                Some(BlobInfo {
                    name: name.as_string()?,
                    size: size.as_f64()? as u64,
                })
            })
            .collect())
    }

    pub(super) async fn delete(&self, name: &str) -> Result<(), StoreError> {
        if let Some(blob) = self.open.forget(name) {
            blob.deleted.set(true);
        }
        if self.connection.get(false).await?.is_none() {
            return Ok(());
        }
        self.connection
            .change(0, async |pages, sizes| {
                let all = pages_from(name, 0)?;
                let (pages, sizes) = join(pages.delete(all.into()), sizes.delete(name.into())).await;
                pages.and(sizes)
            })
            .await
    }

    /// Removes the database itself.
    pub(super) async fn delete_all(&self) -> Result<(), StoreError> {
        let mut open = self.connection.0.lock().await;
        match open.take().map(Rc::try_unwrap) {
            Some(Ok(rexie)) => rexie.close(),
            // Somebody is in the middle of a transaction, so it is not empty for long.
            Some(Err(rexie)) => {
                *open = Some(rexie);
                return Ok(());
            }
            None => {}
        }
        if exists().await? {
            Rexie::delete(NAME).await.map_err(|error| failed(&error))?;
        }
        Ok(())
    }
}

fn key(name: &str, page: u64) -> JsValue {
    Array::of2(&name.into(), &(page as f64).into()).into()
}

/// Keys of a blob's pages from `first` on.
fn pages_from(name: &str, first: u64) -> rexie::Result<KeyRange> {
    let last = key(name, 1 << 52);
    KeyRange::bound(&key(name, first), &last, None, None).map_err(Into::into)
}

struct PagedBlob {
    name: String,
    connection: Rc<Connection>,
    size: Cell<u64>,
    deleted: Cell<bool>,
}

impl PagedBlob {
    fn is_there(&self) -> Result<(), StoreError> {
        if self.deleted.get() {
            return Err(StoreError::NotFound(self.name.clone()));
        }
        Ok(())
    }

    /// The bytes of a page as they are kept; what was never written is shorter or empty.
    async fn page(&self, page: u64) -> Result<Vec<u8>, StoreError> {
        let Some(rexie) = self.connection.get(false).await? else {
            return Err(StoreError::NotFound(self.name.clone()));
        };
        let value = async {
            let transaction = rexie.transaction(&[PAGES], TransactionMode::ReadOnly)?;
            transaction.store(PAGES)?.get(key(&self.name, page)).await
        };
        let value = value.await.map_err(|error| failed(&error))?;
        Ok(value
            .map(|value| Uint8Array::new(&value).to_vec())
            .unwrap_or_default())
    }

    async fn read(&self, offset: u64, buf: &mut [u8]) -> Result<(), StoreError> {
        self.is_there()?;
        let end = offset.checked_add(buf.len() as u64);
        if end.is_none_or(|end| end > self.size.get()) {
            return Err(out_of_range(offset, buf.len(), self.size.get()));
        }
        let (mut at, mut rest) = (offset, buf);
        while !rest.is_empty() {
            let page = self.page(at / PAGE_BYTES).await?;
            let within = (at % PAGE_BYTES) as usize;
            let length = rest.len().min(PAGE_BYTES as usize - within);
            let (piece, others) = rest.split_at_mut(length);
            let kept = page.get(within..).unwrap_or_default();
            let kept = kept.get(..length).unwrap_or(kept);
            let (known, gap) = piece.split_at_mut(kept.len());
            known.copy_from_slice(kept);
            gap.fill(0);
            at += length as u64;
            rest = others;
        }
        Ok(())
    }

    async fn write(&self, offset: u64, bytes: &[u8]) -> Result<(), StoreError> {
        self.is_there()?;
        let Some(end) = offset.checked_add(bytes.len() as u64) else {
            return Err(out_of_range(offset, bytes.len(), self.size.get()));
        };
        let mut changed = Vec::new();
        let (mut at, mut rest) = (offset, bytes);
        while !rest.is_empty() {
            let within = (at % PAGE_BYTES) as usize;
            let (piece, others) = rest.split_at(rest.len().min(PAGE_BYTES as usize - within));
            let whole = within == 0 && piece.len() as u64 == PAGE_BYTES;
            // A blob has one writer, so nothing changes between this read and the write.
            let mut page = if whole {
                Vec::new()
            } else {
                self.page(at / PAGE_BYTES).await?
            };
            if page.len() < within + piece.len() {
                page.resize(within + piece.len(), 0);
            }
            if let Some(to) = page.get_mut(within..within + piece.len()) {
                to.copy_from_slice(piece);
            }
            changed.push((
                key(&self.name, at / PAGE_BYTES),
                Uint8Array::new_from_slice(&page),
            ));
            at += piece.len() as u64;
            rest = others;
        }
        let size = self.size.get().max(end);
        self.connection
            .change(bytes.len() as u64, async |pages, sizes| {
                let puts = changed.iter().map(|(key, page)| pages.put(page, Some(key)));
                let (puts, size) = join(
                    join_all(puts),
                    sizes.put(&(size as f64).into(), Some(&self.name.as_str().into())),
                )
                .await;
                puts.into_iter().collect::<rexie::Result<Vec<_>>>()?;
                size
            })
            .await?;
        self.size.set(size);
        Ok(())
    }

    async fn resize(&self, size: u64) -> Result<(), StoreError> {
        self.is_there()?;
        let last = size / PAGE_BYTES;
        let mut kept = self.page(last).await?;
        kept.truncate((size % PAGE_BYTES) as usize);
        let kept = Uint8Array::new_from_slice(&kept);
        self.connection
            .change(0, async |pages, sizes| {
                let behind = pages_from(&self.name, last)?;
                // In this order: requests of one transaction are carried out as they were sent.
                let cut = pages.delete(behind.into());
                let (last, name, size) = (
                    key(&self.name, last),
                    self.name.as_str().into(),
                    (size as f64).into(),
                );
                let last = pages.put(&kept, Some(&last));
                let size = sizes.put(&size, Some(&name));
                let (cut, (last, size)) = join(cut, join(last, size)).await;
                cut.and(last).and(size)
            })
            .await?;
        self.size.set(size);
        Ok(())
    }
}

impl ReadAt for PagedBlob {
    fn size(&self) -> u64 {
        self.size.get()
    }

    fn read_at<'a>(&'a self, offset: u64, buf: &'a mut [u8]) -> BoxFuture<'a, Result<(), StoreError>> {
        boxed(self.read(offset, buf))
    }
}

impl Blob for PagedBlob {
    fn write_at<'a>(&'a self, offset: u64, bytes: &'a [u8]) -> BoxFuture<'a, Result<(), StoreError>> {
        boxed(self.write(offset, bytes))
    }

    /// Every write is a transaction of its own; there is nothing left to do.
    fn flush(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        boxed(std::future::ready(Ok(())))
    }

    fn set_size(&self, size: u64) -> BoxFuture<'_, Result<(), StoreError>> {
        boxed(self.resize(size))
    }
}
