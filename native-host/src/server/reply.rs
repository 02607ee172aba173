//! Bodies and errors in OpenAI's shape.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use http_body_util::{Either, Full};
use hyper::body::{Body, Bytes, Frame};
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use hyper::{Response, StatusCode};
use kwaainet_node::Cancel;
use kwaainet_types::{ErrorBody, ErrorCode};
use serde_json::{Value, json};
use tokio::sync::mpsc;

/// A whole document or a stream of events.
pub(crate) type ReplyBody = Either<Full<Bytes>, EventStream>;
pub(crate) type Reply = Response<ReplyBody>;

/// Stops an answer when whoever asked for it has gone.
#[derive(Debug)]
pub(crate) struct CancelOnDrop(pub(crate) Cancel);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Server-sent events; hyper drops it when the client closes the connection.
#[derive(Debug)]
pub(crate) struct EventStream {
    events: mpsc::UnboundedReceiver<Bytes>,
    _client: CancelOnDrop,
}

impl EventStream {
    pub(crate) fn new(events: mpsc::UnboundedReceiver<Bytes>, client: CancelOnDrop) -> Self {
        Self {
            events,
            _client: client,
        }
    }
}

impl Body for EventStream {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        self.events
            .poll_recv(cx)
            .map(|event| event.map(|bytes| Ok(Frame::data(bytes))))
    }
}

/// One event with a JSON document.
pub(crate) fn event(value: &Value) -> Bytes {
    Bytes::from(format!("data: {value}\n\n"))
}

pub(crate) fn stream(body: EventStream) -> Reply {
    let mut reply = Response::new(Either::Right(body));
    let headers = reply.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/event-stream; charset=utf-8"),
    );
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    // Tells nginx and its like not to collect the pieces.
    headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
    reply
}

pub(crate) fn document(status: StatusCode, value: &Value) -> Reply {
    let mut reply = Response::new(Either::Left(Full::from(value.to_string())));
    *reply.status_mut() = status;
    let headers = reply.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    reply
}

pub(crate) fn empty(status: StatusCode) -> Reply {
    let mut reply = Response::new(Either::Left(Full::default()));
    *reply.status_mut() = status;
    reply
}

/// An error as OpenAI's clients parse it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ApiError {
    pub(crate) status: StatusCode,
    pub(crate) message: String,
    pub(crate) code: &'static str,
    pub(crate) param: Option<&'static str>,
}

impl ApiError {
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self {
            status,
            message: message.into(),
            code,
            param: None,
        }
    }

    /// A request that is wrong in one field.
    pub(crate) fn field(param: &'static str, message: impl Into<String>) -> Self {
        Self {
            param: Some(param),
            ..Self::new(StatusCode::BAD_REQUEST, "invalid_value", message)
        }
    }

    pub(crate) fn json(&self) -> Value {
        let kind = match self.status.as_u16() {
            401 => "authentication_error",
            403 => "permission_error",
            429 => "rate_limit_error",
            400..=499 => "invalid_request_error",
            _ => "server_error",
        };
        json!({ "error": { "message": self.message, "type": kind, "param": self.param, "code": self.code } })
    }

    pub(crate) fn reply(&self) -> Reply {
        let mut reply = document(self.status, &self.json());
        if matches!(
            self.status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
        ) {
            reply
                .headers_mut()
                .insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        reply
    }
}

impl From<ErrorBody> for ApiError {
    fn from(body: ErrorBody) -> Self {
        let (status, code) = match body.code {
            ErrorCode::BadRequest => (StatusCode::BAD_REQUEST, "invalid_value"),
            ErrorCode::ContextTooLong => (StatusCode::BAD_REQUEST, "context_length_exceeded"),
            ErrorCode::Unsupported | ErrorCode::ModelUnsupported => (StatusCode::BAD_REQUEST, "unsupported"),
            ErrorCode::NotAllowed => (StatusCode::FORBIDDEN, "not_allowed"),
            ErrorCode::ConsentRequired | ErrorCode::ConsentExpired => {
                (StatusCode::FORBIDDEN, "consent_required")
            }
            ErrorCode::ModelNotFound => (StatusCode::NOT_FOUND, "model_not_found"),
            ErrorCode::Busy => (StatusCode::TOO_MANY_REQUESTS, "busy"),
            ErrorCode::OutOfMemory | ErrorCode::StorageFull => (StatusCode::SERVICE_UNAVAILABLE, "no_room"),
            ErrorCode::NetworkUnreachable => (StatusCode::SERVICE_UNAVAILABLE, "network_unreachable"),
            ErrorCode::StorageInUse | ErrorCode::Interrupted | ErrorCode::Cancelled => {
                (StatusCode::SERVICE_UNAVAILABLE, "interrupted")
            }
            ErrorCode::ModelInvalid | ErrorCode::TemplateInvalid => {
                (StatusCode::INTERNAL_SERVER_ERROR, "model_invalid")
            }
            ErrorCode::IntegrityFailed | ErrorCode::CatalogueInvalid => {
                (StatusCode::INTERNAL_SERVER_ERROR, "integrity_failed")
            }
            _ => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
        };
        Self::new(status, code, body.message)
    }
}
