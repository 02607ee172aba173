//! A model's file, as the bench's page lends it.

use js_sys::{Function, Uint8Array};
use kwaainet_platform::{BoxFuture, ReadAt, StoreError, boxed};
use wasm_bindgen::JsValue;

/// A file on the device: `read(offset, into)` fills the array and is synchronous.
pub(crate) struct File {
    pub(crate) read: Function,
    pub(crate) size: u64,
}

impl ReadAt for File {
    fn size(&self) -> u64 {
        self.size
    }

    fn read_at<'a>(&'a self, offset: u64, buf: &'a mut [u8]) -> BoxFuture<'a, Result<(), StoreError>> {
        boxed(async move {
            let array = Uint8Array::new_with_length(buf.len() as u32);
            let at = JsValue::from_f64(offset as f64);
            self.read
                .call2(&JsValue::NULL, &at, &array)
                .map_err(|error| StoreError::Invalid(format!("{error:?}")))?;
            array.copy_to(buf);
            Ok(())
        })
    }
}
