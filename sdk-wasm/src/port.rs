//! Envelopes over a message port: plain objects on the browser's side, `kwaainet-types` on ours.

use futures::channel::mpsc;
use kwaainet_node::not_an_envelope;
use kwaainet_types::{
    Envelope, ErrorBody, ErrorCode, MOST_IN_FLIGHT, MOST_MESSAGE_BYTES, Message, PROTOCOL_VERSION,
};
use serde::Serialize as _;
use wasm_bindgen::prelude::*;

/// Messages that may wait to be looked at. The node answers `busy` above [`MOST_IN_FLIGHT`] commands; this is
/// only for a burst that arrives between two of its turns.
const MOST_WAITING: usize = 64 * MOST_IN_FLIGHT;

#[wasm_bindgen(typescript_custom_section)]
const PORT: &str = r#"
/** A MessagePort, or anything that behaves like one. */
export interface PortLike {
    postMessage(message: unknown): void;
    onmessage: ((event: MessageEvent) => void) | null;
    start?(): void;
}
"#;

#[wasm_bindgen]
extern "C" {
    /// See the TypeScript above.
    #[wasm_bindgen(typescript_type = "PortLike")]
    #[derive(Clone, PartialEq)]
    pub type PortLike;
    #[wasm_bindgen(method, catch, js_name = postMessage)]
    fn post_message(this: &PortLike, message: &JsValue) -> Result<(), JsValue>;
    #[wasm_bindgen(method, setter, js_name = onmessage)]
    fn set_onmessage(this: &PortLike, listener: &JsValue);
    #[wasm_bindgen(method, setter, js_name = onclose)]
    fn set_onclose(this: &PortLike, listener: &JsValue);
    #[wasm_bindgen(method, getter, js_name = start)]
    fn start(this: &PortLike) -> Option<js_sys::Function>;

    type MessageEventLike;
    #[wasm_bindgen(method, getter)]
    fn data(this: &MessageEventLike) -> JsValue;

    #[wasm_bindgen(js_namespace = JSON, catch)]
    fn stringify(value: &JsValue) -> Result<Option<js_sys::JsString>, JsValue>;
}

/// A port that is being listened to, until this is dropped.
pub(crate) struct Attached {
    pub(crate) port: PortLike,
    _on_message: Closure<dyn FnMut(MessageEventLike)>,
    _on_close: Closure<dyn FnMut()>,
}

impl Drop for Attached {
    fn drop(&mut self) {
        self.port.set_onmessage(&JsValue::NULL);
        self.port.set_onclose(&JsValue::NULL);
    }
}

/// Listens to a port. `closed` is called when the browser says that its other end is gone.
pub(crate) fn listen(
    port: PortLike,
    closed: impl FnOnce(&PortLike) + 'static,
) -> (Attached, mpsc::Receiver<Envelope>) {
    let (mut send, receive) = mpsc::channel(MOST_WAITING);
    let on_message = {
        let port = port.clone();
        Closure::new(move |event: MessageEventLike| {
            let refusal = match read(&event.data()) {
                Ok(envelope) => {
                    let id = envelope.id;
                    if send.try_send(envelope).is_ok() {
                        return;
                    }
                    let message =
                        format!("more than {MOST_WAITING} messages are waiting: send it again later");
                    Envelope {
                        v: PROTOCOL_VERSION,
                        id,
                        message: Message::Error(ErrorBody::new(ErrorCode::Busy, message)),
                    }
                }
                Err(refusal) => *refusal,
            };
            write(&port, &refusal);
        })
    };
    let on_close = {
        let (port, mut closed) = (port.clone(), Some(closed));
        Closure::new(move || {
            if let Some(closed) = closed.take() {
                closed(&port);
            }
        })
    };
    port.set_onmessage(on_message.as_ref());
    port.set_onclose(on_close.as_ref());
    if let Some(start) = port.start() {
        let _started = start.call0(&port);
    }
    let attached = Attached {
        port,
        _on_message: on_message,
        _on_close: on_close,
    };
    (attached, receive)
}

/// Reads a message as its JSON, so that it means here exactly what it means in the golden files, and so that
/// its size is known and a cyclic one cannot be followed.
fn read(message: &JsValue) -> Result<Envelope, Box<Envelope>> {
    let id = js_sys::Reflect::get(message, &"id".into())
        .ok()
        .and_then(|id| id.as_f64())
        .filter(|id| *id >= 0.0 && *id <= f64::from(u32::MAX))
        .unwrap_or(0.0) as u32;
    let json = stringify(message).ok().flatten();
    let json = json.ok_or_else(|| Box::new(not_an_envelope(id, "it cannot be written as JSON")))?;
    if json.length() as usize > MOST_MESSAGE_BYTES {
        let reason = format!(
            "it has {} characters; the most is {MOST_MESSAGE_BYTES}",
            json.length()
        );
        return Err(Box::new(not_an_envelope(id, &reason)));
    }
    serde_json::from_str(&String::from(json))
        .map_err(|error| Box::new(not_an_envelope(id, &error.to_string())))
}

/// Sends a message. A port whose other end is gone swallows it, as ports do.
pub(crate) fn write(port: &PortLike, envelope: &Envelope) {
    let serializer = serde_wasm_bindgen::Serializer::new().serialize_maps_as_objects(true);
    match envelope.serialize(&serializer) {
        Ok(message) => {
            let _gone = port.post_message(&message);
        }
        Err(error) => {
            // INVARIANT: every envelope can be written: maps have string keys and numbers are below 2^53.
            let message = format!("an answer could not be written: {error}");
            let error = Message::Error(ErrorBody::new(ErrorCode::Internal, message));
            if !matches!(envelope.message, Message::Error(_)) {
                write(
                    port,
                    &Envelope {
                        v: envelope.v,
                        id: envelope.id,
                        message: error,
                    },
                );
            }
        }
    }
}
