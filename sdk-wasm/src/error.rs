//! What a browser throws, in our words.

use kwaainet_platform::StoreError;
use wasm_bindgen::prelude::*;

/// A DOMException's name, e.g. `QuotaExceededError`; empty for anything else.
pub(crate) fn name(error: &JsValue) -> String {
    error
        .dyn_ref::<js_sys::Error>()
        .map(|error| String::from(error.name()))
        .or_else(|| {
            error
                .dyn_ref::<web_sys::DomException>()
                .map(web_sys::DomException::name)
        })
        .unwrap_or_default()
}

/// What the browser said.
pub(crate) fn reason(error: &JsValue) -> String {
    if let Some(exception) = error.dyn_ref::<web_sys::DomException>() {
        return format!("{}: {}", exception.name(), exception.message());
    }
    if let Some(error) = error.dyn_ref::<js_sys::Error>() {
        return String::from(error.message());
    }
    error.as_string().unwrap_or_else(|| format!("{error:?}"))
}

/// Why a blob could not be reached. Names: WHATWG File System, 2.2; W3C IndexedDB 3.0, 3.
pub(crate) fn store_error(blob: &str, error: &JsValue) -> StoreError {
    match name(error).as_str() {
        "NotFoundError" => StoreError::NotFound(blob.to_owned()),
        "NoModificationAllowedError" | "InvalidStateError" => StoreError::InUse(blob.to_owned()),
        "SecurityError" | "NotAllowedError" => StoreError::Denied(reason(error)),
        // The numbers are filled in by whoever can ask for an estimate.
        "QuotaExceededError" => StoreError::Full {
            needed: 0,
            available: 0,
        },
        _ => StoreError::Io(format!("{blob}: {}", reason(error))),
    }
}
