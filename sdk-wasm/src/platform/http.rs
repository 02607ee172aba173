//! HTTP GET, by `fetch`, without cookies, credentials or referrer.

use js_sys::{Reflect, Uint8Array};
use kwaainet_platform::{BoxFuture, ByteStream, HttpClient, HttpError, HttpRequest, HttpResponse, boxed};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;
use web_sys::{
    AbortController, ReadableStreamDefaultReader, ReferrerPolicy, Request, RequestCache, RequestCredentials,
    RequestInit, RequestMode, Response,
};

use crate::error::reason;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_name = fetch)]
    fn fetch(request: &Request) -> js_sys::Promise;
}

/// The browser's network.
#[derive(Debug)]
pub(crate) struct BrowserHttp;

impl HttpClient for BrowserHttp {
    fn get(&self, request: HttpRequest) -> BoxFuture<'_, Result<HttpResponse, HttpError>> {
        boxed(get(request))
    }
}

async fn get(request: HttpRequest) -> Result<HttpResponse, HttpError> {
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
    let reader = response
        .body()
        .map(|body| body.get_reader().unchecked_into::<ReadableStreamDefaultReader>());
    Ok(HttpResponse {
        status: response.status(),
        content_length,
        body: Box::new(Body { url, abort, reader }),
    })
}

struct Body {
    url: String,
    abort: AbortController,
    /// `None` at the end, and for answers without a body.
    reader: Option<ReadableStreamDefaultReader>,
}

impl ByteStream for Body {
    fn next(&mut self) -> BoxFuture<'_, Option<Result<Vec<u8>, HttpError>>> {
        boxed(async move {
            let reader = self.reader.as_ref()?;
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
                Ok(bytes) => Ok(bytes.to_vec()),
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
