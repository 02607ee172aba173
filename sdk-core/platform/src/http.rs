//! HTTP GET with ranges, lent by the host (`fetch` in browsers, a TLS client natively).

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::{BoxFuture, MaybeSend, MaybeSync, boxed};

/// A GET for a whole resource or a byte range of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpRequest {
    /// Absolute URL.
    pub url: String,
    /// First byte and number of bytes, sent as `Range`.
    pub range: Option<(u64, u64)>,
}

/// Why nothing, or only a part, arrived.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// No connection, a connection that broke, a blocked request.
    #[error("{url} cannot be reached: {reason}")]
    Network {
        /// What was asked for.
        url: String,
        /// What the host said.
        reason: String,
    },
    /// The URL is not one this host may fetch.
    #[error("{0} is not a URL that can be fetched here")]
    BadUrl(String),
}

/// The start of an answer; the body follows piece by piece.
pub struct HttpResponse {
    /// Status code; 206 for a range.
    pub status: u16,
    /// `Content-Length`, if the server gave one.
    pub content_length: Option<u64>,
    /// The body.
    pub body: Box<dyn ByteStream>,
}

impl std::fmt::Debug for HttpResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HttpResponse")
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

/// A body that arrives in pieces. Dropping it ends the transfer.
pub trait ByteStream: MaybeSend {
    /// The next piece; `None` at the end.
    fn next(&mut self) -> BoxFuture<'_, Option<Result<Vec<u8>, HttpError>>>;
}

/// Fetches, without cookies, credentials or referrer.
pub trait HttpClient: MaybeSend + MaybeSync {
    /// Sends the request and resolves when the head of the answer is there.
    fn get(&self, request: HttpRequest) -> BoxFuture<'_, Result<HttpResponse, HttpError>>;
}

/// A web server in memory that can cut connections and serve wrong bytes.
#[derive(Debug, Clone, Default)]
pub struct MemoryHttp {
    state: Arc<Mutex<MemoryHttpState>>,
}

#[derive(Debug, Default)]
struct MemoryHttpState {
    files: BTreeMap<String, Vec<u8>>,
    /// Connections to be cut, each after so many bytes of body.
    cuts: Vec<u64>,
    requests: Vec<HttpRequest>,
}

impl MemoryHttp {
    /// Serves `bytes` at `url`.
    pub fn serve(&self, url: &str, bytes: Vec<u8>) {
        self.lock().files.insert(url.to_owned(), bytes);
    }

    /// Cuts the next connection (after those already planned) when `after` bytes of its body were sent.
    pub fn cut_next(&self, after: u64) {
        self.lock().cuts.push(after);
    }

    /// Everything that was asked for so far.
    pub fn requests(&self) -> Vec<HttpRequest> {
        self.lock().requests.clone()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, MemoryHttpState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct MemoryBody {
    url: String,
    bytes: std::vec::IntoIter<u8>,
    cut_after: Option<u64>,
}

impl ByteStream for MemoryBody {
    fn next(&mut self) -> BoxFuture<'_, Option<Result<Vec<u8>, HttpError>>> {
        boxed(async move {
            let piece = self.cut_after.map_or(64 * 1024, |left| left.min(64 * 1024)) as usize;
            if piece == 0 {
                return Some(Err(HttpError::Network {
                    url: self.url.clone(),
                    reason: "the connection was cut".to_owned(),
                }));
            }
            let bytes: Vec<u8> = self.bytes.by_ref().take(piece).collect();
            if let Some(left) = &mut self.cut_after {
                *left = left.saturating_sub(bytes.len() as u64);
            }
            (!bytes.is_empty()).then_some(Ok(bytes))
        })
    }
}

impl HttpClient for MemoryHttp {
    fn get(&self, request: HttpRequest) -> BoxFuture<'_, Result<HttpResponse, HttpError>> {
        boxed(async move {
            let mut state = self.lock();
            state.requests.push(request.clone());
            let cut_after = (!state.cuts.is_empty()).then(|| state.cuts.remove(0));
            let (status, bytes) = match (state.files.get(&request.url), request.range) {
                (None, _) => (404, Vec::new()),
                (Some(file), None) => (200, file.clone()),
                (Some(file), Some((first, len))) => {
                    let first = usize::try_from(first).unwrap_or(usize::MAX).min(file.len());
                    let end = first
                        .saturating_add(usize::try_from(len).unwrap_or(usize::MAX))
                        .min(file.len());
                    (206, file.get(first..end).unwrap_or_default().to_vec())
                }
            };
            Ok(HttpResponse {
                status,
                content_length: Some(bytes.len() as u64),
                body: Box::new(MemoryBody {
                    url: request.url,
                    bytes: bytes.into_iter(),
                    cut_after,
                }),
            })
        })
    }
}
