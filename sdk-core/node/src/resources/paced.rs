//! Computing between reads, under the processor cap.

use std::sync::{Mutex, PoisonError};

use kwaainet_platform::{BoxFuture, ReadAt, StoreError, boxed};

use super::{Busy, ResourceManager};
use crate::cancel::Stop;

/// A file whose reader computes between two reads: that is paid for, and slept off where the cap asks for it. Waiting
/// for the bytes costs nothing.
pub(crate) struct Paced<'a> {
    file: &'a dyn ReadAt,
    resources: &'a ResourceManager,
    stop: &'a Stop,
    busy: Mutex<Option<Busy>>,
}

impl<'a> Paced<'a> {
    pub(crate) fn new(file: &'a dyn ReadAt, resources: &'a ResourceManager, stop: &'a Stop) -> Self {
        Self {
            file,
            resources,
            stop,
            busy: Mutex::new(Some(resources.begin())),
        }
    }

    fn pay(&self, next: Option<Busy>) {
        let before = {
            let mut busy = self.busy.lock().unwrap_or_else(PoisonError::into_inner);
            std::mem::replace(&mut *busy, next)
        };
        if let Some(busy) = before {
            self.resources.end(&busy);
        }
    }
}

impl ReadAt for Paced<'_> {
    fn size(&self) -> u64 {
        self.file.size()
    }

    fn read_at<'a>(&'a self, offset: u64, buf: &'a mut [u8]) -> BoxFuture<'a, Result<(), StoreError>> {
        boxed(async move {
            self.pay(None);
            let rested = self.resources.wait(self.stop).await;
            rested.map_err(|stopped| StoreError::Io(stopped.to_string()))?;
            self.file.read_at(offset, buf).await?;
            self.pay(Some(self.resources.begin()));
            Ok(())
        })
    }
}

impl Drop for Paced<'_> {
    fn drop(&mut self) {
        self.pay(None);
    }
}
