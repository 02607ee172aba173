//! Messages of bytes over a `MessagePort`. The buffers are handed over, not copied, by the browser.

use futures::StreamExt as _;
use futures::channel::mpsc;
use js_sys::{Array, Uint8Array};
use wasm_bindgen::prelude::*;
use web_sys::{MessageEvent, MessagePort};

use crate::spawn;

#[wasm_bindgen]
extern "C" {
    /// web-sys knows no `close` event of ports (HTML, 9.4.4, since 2024).
    #[wasm_bindgen(extends = MessagePort)]
    type ClosingPort;
    #[wasm_bindgen(method, setter, js_name = onclose)]
    fn set_onclose(this: &ClosingPort, listener: &JsValue);
}

/// Both directions of a port, until either end of them is dropped or the other side is gone. It says so with an empty
/// message, which no protocol of ours has; where it cannot, most browsers do (Firefox 153 has no `close` event).
pub fn bytes_over(port: MessagePort) -> (mpsc::UnboundedSender<Vec<u8>>, mpsc::UnboundedReceiver<Vec<u8>>) {
    let (to, mut outgoing) = mpsc::unbounded::<Vec<u8>>();
    let (incoming, from) = mpsc::unbounded();
    let on_message = {
        let incoming = incoming.clone();
        Closure::<dyn FnMut(MessageEvent)>::new(move |event: MessageEvent| {
            // Whatever is no buffer reads as an empty message, too.
            let bytes = Uint8Array::new(&event.data()).to_vec();
            if bytes.is_empty() {
                incoming.close_channel();
            } else {
                let _gone = incoming.unbounded_send(bytes);
            }
        })
    };
    let on_close = Closure::<dyn FnMut()>::new(move || incoming.close_channel());
    port.set_onmessage(Some(on_message.as_ref().unchecked_ref()));
    port.unchecked_ref::<ClosingPort>().set_onclose(on_close.as_ref());
    spawn(async move {
        while let Some(bytes) = outgoing.next().await {
            let buffer = Uint8Array::from(bytes.as_slice()).buffer();
            let _gone = port.post_message_with_transferable(&buffer, &Array::of1(&buffer));
        }
        let _gone = port.post_message(&Uint8Array::new_with_length(0).buffer());
        port.close();
        // Firefox delivers even then what had arrived before.
        port.set_onmessage(None);
        port.unchecked_ref::<ClosingPort>().set_onclose(&JsValue::NULL);
        drop((on_message, on_close));
    });
    (to, from)
}
