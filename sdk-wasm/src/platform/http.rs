//! HTTP GET, by `fetch`, without cookies, credentials or referrer.

use std::rc::Rc;
use std::time::Duration;

use js_sys::{ArrayBuffer, Function, Reflect, Uint8Array};
use kwaainet_platform::{
    BoxFuture, ByteStream, Clock as _, HttpClient, HttpError, HttpRequest, HttpResponse, boxed,
};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{
    AbortController, ReadableStream, ReadableStreamByobReader, ReadableStreamDefaultReader,
    ReadableStreamGetReaderOptions, ReadableStreamReaderMode, ReferrerPolicy, Request, RequestCache,
    RequestCredentials, RequestInit, RequestMode, Response,
};

use crate::error::reason;
use kwaainet_browser::BrowserClock;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_name = fetch)]
    fn fetch(request: &Request) -> js_sys::Promise;
}

/// A body that is there already is read in microtasks, and nothing else happens in a worker meanwhile: no
/// cancel arrives and no progress leaves. So a turn of the event loop is taken as often as this.
const LONGEST_TURN_MS: f64 = 8.0;

/// The browser's network.
pub(crate) struct BrowserHttp {
    clock: Rc<BrowserClock>,
}

impl BrowserHttp {
    pub(crate) fn new() -> Result<Self, JsValue> {
        Ok(Self {
            clock: Rc::new(BrowserClock::new()?),
        })
    }
}

impl HttpClient for BrowserHttp {
    fn get(&self, request: HttpRequest) -> BoxFuture<'_, Result<HttpResponse, HttpError>> {
        boxed(get(request, Rc::clone(&self.clock)))
    }
}

async fn get(request: HttpRequest, clock: Rc<BrowserClock>) -> Result<HttpResponse, HttpError> {
    let HttpRequest { url, range } = request;
    let unreachable = |error: JsValue| HttpError::Network {
        url: url.clone(),
        reason: reason(&error),
    };
    let abort = AbortController::new().map_err(unreachable)?;
    let init = RequestInit::new();
    init.set_mode(RequestMode::Cors);
    init.set_credentials(RequestCredentials::Omit);
    init.set_referrer_policy(ReferrerPolicy::NoReferrer);
    init.set_signal(Some(&abort.signal()));
    // A model goes into our own store; the HTTP cache would keep a second copy of it.
    init.set_cache(if range.is_some() {
        RequestCache::NoStore
    } else {
        RequestCache::NoCache
    });
    let Ok(request) = Request::new_with_str_and_init(&url, &init) else {
        return Err(HttpError::BadUrl(url));
    };
    if let Some((first, length)) = range {
        // RFC 9110, 14.1.2: both ends are included. One range of this form needs no CORS preflight.
        let last = first.saturating_add(length).saturating_sub(1);
        request
            .headers()
            .set("Range", &format!("bytes={first}-{last}"))
            .map_err(unreachable)?;
    }
    let response: Response = JsFuture::from(fetch(&request))
        .await
        .map_err(unreachable)?
        .unchecked_into();
    let content_length = response
        .headers()
        .get("Content-Length")
        .ok()
        .flatten()
        .and_then(|length| length.parse().ok());
    let reader = response.body().map(|body| Reader::of(&body));
    Ok(HttpResponse {
        status: response.status(),
        content_length,
        body: Box::new(Body {
            url,
            abort,
            reader,
            turn: clock.monotonic_ms(),
            clock,
        }),
    })
}

/// Bytes that are read at once, where the buffer is ours.
const BUFFER_BYTES: u32 = 256 * 1024;

enum Reader {
    /// The browser makes an array for each piece, and does not hurry to free them while the worker computes: with a model
    /// that is loaded while it arrives, that was a hundred megabytes.
    Default(ReadableStreamDefaultReader),
    /// It fills the same buffer each time; `None` while the browser has it.
    Byob(ReadableStreamByobReader, Option<ArrayBuffer>),
}

impl Reader {
    fn of(body: &ReadableStream) -> Self {
        let options = ReadableStreamGetReaderOptions::new();
        options.set_mode(ReadableStreamReaderMode::Byob);
        // By hand, because it throws where bodies are not streams of bytes.
        let reader = Reflect::get(body, &"getReader".into())
            .and_then(|method| method.unchecked_into::<Function>().call1(body, &options));
        match reader {
            Ok(reader) => Self::Byob(reader.unchecked_into(), None),
            Err(_) => Self::Default(body.get_reader().unchecked_into()),
        }
    }

    fn read(&mut self) -> js_sys::Promise {
        match self {
            Self::Default(reader) => reader.read(),
            Self::Byob(reader, buffer) => {
                let buffer = buffer.take().unwrap_or_else(|| ArrayBuffer::new(BUFFER_BYTES));
                reader.read_with_array_buffer_view(&Uint8Array::new(&buffer))
            }
        }
    }

    /// What the browser gives back in place of the buffer that it was lent.
    fn take_back(&mut self, piece: &Uint8Array) {
        if let Self::Byob(_, buffer) = self {
            *buffer = Some(piece.buffer());
        }
    }
}

struct Body {
    url: String,
    abort: AbortController,
    /// `None` at the end, and for answers without a body.
    reader: Option<Reader>,
    clock: Rc<BrowserClock>,
    /// When the event loop last had a turn.
    turn: f64,
}

impl ByteStream for Body {
    fn next(&mut self) -> BoxFuture<'_, Option<Result<Vec<u8>, HttpError>>> {
        boxed(async move {
            if self.clock.monotonic_ms() - self.turn > LONGEST_TURN_MS {
                self.clock.sleep(Duration::ZERO).await;
                self.turn = self.clock.monotonic_ms();
            }
            let reader = self.reader.as_mut()?;
            let failed = |error: JsValue| HttpError::Network {
                url: self.url.clone(),
                reason: reason(&error),
            };
            let piece = match JsFuture::from(reader.read()).await {
                Ok(piece) => piece,
                Err(error) => {
                    let error = failed(error);
                    self.reader = None;
                    return Some(Err(error));
                }
            };
            let done = Reflect::get(&piece, &"done".into()).is_ok_and(|done| done.is_truthy());
            if done {
                self.reader = None;
                return None;
            }
            let value = Reflect::get(&piece, &"value".into()).unwrap_or_default();
            Some(match value.dyn_into::<Uint8Array>() {
                Ok(bytes) => {
                    let copy = bytes.to_vec();
                    reader.take_back(&bytes);
                    Ok(copy)
                }
                Err(_) => Err(failed("the body is not made of bytes".into())),
            })
        })
    }
}

impl Drop for Body {
    /// Ends the transfer, also in the middle.
    fn drop(&mut self) {
        if self.reader.is_some() {
            self.abort.abort();
        }
    }
}
