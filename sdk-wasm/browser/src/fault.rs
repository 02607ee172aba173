//! A defect of ours must be heard: a panic in wasm traps, and a trap alone says "unreachable executed".

use wasm_bindgen::prelude::*;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_namespace = console)]
    fn error(message: &str);
    /// Set by the worker, to tell the frame why the node died.
    #[wasm_bindgen(js_name = onKwaainetFault, js_namespace = globalThis, catch)]
    fn on_fault(message: &str) -> Result<(), JsValue>;
}

/// Reports panics before the trap. Runs once, when the module starts.
#[wasm_bindgen(start)]
fn report_panics() {
    std::panic::set_hook(Box::new(|info| {
        let message = info.to_string();
        error(&message);
        // Nobody listens in the threads of the pool.
        let _deaf = on_fault(&message);
    }));
}
