//! Randomness, from `crypto.getRandomValues`, which every context of a browser has.

use js_sys::Uint8Array;
use kwaainet_platform::Random;
use wasm_bindgen::prelude::*;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = crypto, js_name = getRandomValues)]
    fn get_random_values(bytes: &Uint8Array);
}

/// W3C WebCrypto, getRandomValues: more in one call is a QuotaExceededError.
const MOST_AT_ONCE: usize = 65_536;

/// The browser's generator.
#[derive(Debug)]
pub struct BrowserRandom;

impl Random for BrowserRandom {
    fn fill(&self, bytes: &mut [u8]) {
        for piece in bytes.chunks_mut(MOST_AT_ONCE) {
            // A fresh array: the browser refuses to fill memory that is shared between threads.
            let fresh = Uint8Array::new_with_length(piece.len() as u32);
            get_random_values(&fresh);
            fresh.copy_to(piece);
        }
    }
}
