//! The conformance suites of the capabilities, on a browser's own. `tests/e2e/wasm.test.mjs` runs them in a worker.
#![cfg(target_family = "wasm")]

use kwaainet_sdk_wasm::platform::blob_store::{Home, store_in};
use kwaainet_testkit::blob_store_suite;
use wasm_bindgen::prelude::*;

/// Runs the suite of blob stores; traps with the name of the rule that is broken.
///
/// # Errors
/// When there is no such home, or the browser refuses it.
#[wasm_bindgen]
pub async fn run_blob_store_suite(home: String) -> Result<(), JsError> {
    let home = match home.as_str() {
        "sync file" => Home::SyncFile,
        "whole file" => Home::WholeFile,
        "pages" => Home::Pages,
        _ => return Err(JsError::new(&format!("there is no home called {home}"))),
    };
    let store = store_in(home).await?;
    blob_store_suite(async || store.clone()).await;
    Ok(())
}
