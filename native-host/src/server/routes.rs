//! From a request to its reply.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Body as _, Bytes, Incoming};
use hyper::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_MAX_AGE, ALLOW, CONNECTION, CONTENT_TYPE, HeaderValue, ORIGIN, VARY,
};
use hyper::{Method, Request, StatusCode};
use kwaainet_node::Cancel;
use kwaainet_types::{ChatDelta, ChatDone, Chunk, ErrorBody, ErrorCode, MOST_PROMPT_BYTES, ModelStatus};
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::Shared;
use super::guard::Refusal;
use super::openai::{self, Kind, Shape};
use super::reply::{ApiError, CancelOnDrop, EventStream, Reply, document, empty, event, stream};
use crate::generator::Job;

/// Largest body: the longest prompt, with room for escapes and the other fields.
const MOST_BODY: usize = 2 * MOST_PROMPT_BYTES;
/// A client must send its body within that time.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// An error within that time gets its own status; after it, a stream begins and an error becomes an event.
const HEAD_PATIENCE: Duration = Duration::from_secs(20);

/// Answers one request.
pub(crate) async fn answer(shared: &Arc<Shared>, request: Request<Incoming>) -> Reply {
    let origin = request.headers().get(ORIGIN).cloned();
    let has_body = !request.body().is_end_stream();
    let mut reply = match route(shared, request).await {
        Ok(reply) => reply,
        Err(error) => error.reply(),
    };
    // The body may not have been read; what is left of it must not be taken for the next request.
    let read_first = [StatusCode::BAD_REQUEST, StatusCode::TOO_MANY_REQUESTS];
    if has_body && reply.status().is_client_error() && !read_first.contains(&reply.status()) {
        reply
            .headers_mut()
            .insert(CONNECTION, HeaderValue::from_static("close"));
    }
    if let Some(allowed) = origin.and_then(|origin| shared.app.guard.allowed(&origin)) {
        reply.headers_mut().insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        reply
            .headers_mut()
            .append(VARY, HeaderValue::from_static("origin"));
    }
    reply
}

fn refuse(refusal: Refusal) -> ApiError {
    match refusal {
        Refusal::Host => ApiError::new(
            StatusCode::FORBIDDEN,
            "host_not_allowed",
            "the Host header names another machine: call this server as 127.0.0.1 or localhost",
        ),
        Refusal::Origin => ApiError::new(
            StatusCode::FORBIDDEN,
            "origin_not_allowed",
            "web pages of this origin may not call: start the server with --allow-origin to let them",
        ),
        Refusal::Key => ApiError::new(
            StatusCode::UNAUTHORIZED,
            "invalid_api_key",
            "no or wrong API key: send the one that the server was started with as \"Authorization: Bearer …\"",
        ),
    }
}

async fn route(shared: &Arc<Shared>, request: Request<Incoming>) -> Result<Reply, ApiError> {
    let guard = &shared.app.guard;
    guard.check_source(request.headers()).map_err(refuse)?;
    if request.method() == Method::OPTIONS {
        return Ok(preflight());
    }
    let path = request.uri().path().to_owned();
    let path = path.trim_end_matches('/');
    if path != "/health" {
        guard.check_key(request.headers()).map_err(refuse)?;
    }
    let get = *request.method() == Method::GET;
    let post = *request.method() == Method::POST;
    match path {
        "/health" if get => Ok(health()),
        "/v1/models" if get => models(shared).await,
        "/v1/chat/completions" if post => complete(shared, Kind::Chat, request).await,
        "/v1/completions" if post => complete(shared, Kind::Text, request).await,
        "/v1/embeddings" if post => Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            "unsupported",
            "these models write text and make no embeddings; an embedding model cannot be served in this version",
        )),
        "/health" | "/v1/models" => Ok(wrong_method("GET")),
        "/v1/chat/completions" | "/v1/completions" | "/v1/embeddings" => Ok(wrong_method("POST")),
        _ => match path.strip_prefix("/v1/models/") {
            Some(id) if get => model(shared, id).await,
            Some(_) => Ok(wrong_method("GET")),
            None => Err(ApiError::new(
                StatusCode::NOT_FOUND,
                "unknown_url",
                format!(
                    "there is no {path}: this server has /health, /v1/models, /v1/chat/completions, /v1/completions"
                ),
            )),
        },
    }
}

fn preflight() -> Reply {
    let mut reply = empty(StatusCode::NO_CONTENT);
    let headers = reply.headers_mut();
    headers.insert(
        ACCESS_CONTROL_ALLOW_METHODS,
        HeaderValue::from_static("GET, POST"),
    );
    headers.insert(
        ACCESS_CONTROL_ALLOW_HEADERS,
        HeaderValue::from_static("authorization, content-type, *"),
    );
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    // A page on the internet that calls a private address: https://wicg.github.io/private-network-access/
    headers.insert(
        "access-control-allow-private-network",
        HeaderValue::from_static("true"),
    );
    reply
}

fn wrong_method(allowed: &'static str) -> Reply {
    let error = ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "method_not_allowed",
        format!("this URL takes {allowed} requests"),
    );
    let mut reply = error.reply();
    reply
        .headers_mut()
        .insert(ALLOW, HeaderValue::from_static(allowed));
    reply
}

fn health() -> Reply {
    let body = json!({ "status": "ok", "version": env!("CARGO_PKG_VERSION") });
    document(StatusCode::OK, &body)
}

async fn statuses(shared: &Arc<Shared>) -> Result<Vec<ModelStatus>, ApiError> {
    let generator = Arc::clone(&shared.app.generator);
    let models = tokio::task::spawn_blocking(move || generator.models()).await;
    Ok(models.map_err(|_| stopped())??)
}

fn stopped() -> ErrorBody {
    ErrorBody::new(
        ErrorCode::Internal,
        "the answer was given up because of a defect; see the server's output",
    )
}

async fn models(shared: &Arc<Shared>) -> Result<Reply, ApiError> {
    let list = statuses(shared).await?;
    let data: Vec<_> = list
        .iter()
        .map(|status| openai::model(status, shared.started_unix_s))
        .collect();
    Ok(document(
        StatusCode::OK,
        &json!({ "object": "list", "data": data }),
    ))
}

async fn model(shared: &Arc<Shared>, id: &str) -> Result<Reply, ApiError> {
    let list = statuses(shared).await?;
    match list.iter().find(|status| status.id == id) {
        Some(status) => Ok(document(
            StatusCode::OK,
            &openai::model(status, shared.started_unix_s),
        )),
        None => Err(ApiError::new(
            StatusCode::NOT_FOUND,
            "model_not_found",
            format!("there is no model {id:?}: GET /v1/models lists those that there are"),
        )),
    }
}

async fn read_body(request: Request<Incoming>) -> Result<Bytes, ApiError> {
    let too_large = || {
        ApiError::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "request_too_large",
            format!("the body is larger than {MOST_BODY} bytes"),
        )
    };
    // A content type that a form cannot send makes browsers ask first (CORS), so a page cannot post blindly.
    let json = request
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    if !json.is_some_and(|kind| kind.to_ascii_lowercase().starts_with("application/json")) {
        return Err(ApiError::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "unsupported_media_type",
            "send the request with content-type application/json",
        ));
    }
    if request.body().size_hint().lower() > MOST_BODY as u64 {
        return Err(too_large());
    }
    let body = Limited::new(request.into_body(), MOST_BODY).collect();
    match tokio::time::timeout(BODY_TIMEOUT, body).await {
        Err(_) => Err(ApiError::new(
            StatusCode::REQUEST_TIMEOUT,
            "timeout",
            "the body did not arrive in time",
        )),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => Err(too_large()),
        Ok(Err(error)) => Err(ApiError::new(
            StatusCode::BAD_REQUEST,
            "invalid_body",
            error.to_string(),
        )),
        Ok(Ok(body)) => Ok(body.to_bytes()),
    }
}

/// Throws `cancel` when the server's time to end gracefully is over.
async fn stop_with(shared: Arc<Shared>, cancel: Cancel) {
    shared.stop.cancelled().await;
    cancel.cancel();
}

struct Running {
    pieces: mpsc::UnboundedReceiver<ChatDelta>,
    done: oneshot::Receiver<Result<ChatDone, ErrorBody>>,
    client: CancelOnDrop,
    stopper: tokio::task::AbortHandle,
}

fn start(shared: &Arc<Shared>, job: Job, place: OwnedSemaphorePermit) -> Running {
    let cancel = Cancel::new();
    let stopper = tokio::spawn(stop_with(Arc::clone(shared), cancel.clone())).abort_handle();
    let client = CancelOnDrop(cancel.clone());
    // Not bounded by the channel but by the context's length: a slow client must not hold the engine.
    let (to, pieces) = mpsc::unbounded_channel();
    let (done_to, done) = oneshot::channel();
    let generator = Arc::clone(&shared.app.generator);
    tokio::task::spawn_blocking(move || {
        let on = |chunk: Chunk| {
            if let Chunk::Delta { delta } = chunk {
                drop(to.send(delta));
            }
        };
        let outcome = generator.generate(job, &cancel, &on);
        drop(place);
        drop(done_to.send(outcome));
    });
    Running {
        pieces,
        done,
        client,
        stopper,
    }
}

async fn complete(shared: &Arc<Shared>, kind: Kind, request: Request<Incoming>) -> Result<Reply, ApiError> {
    let body = read_body(request).await?;
    let asked = openai::parse(kind, &body)?;
    let Ok(place) = Arc::clone(&shared.answers).try_acquire_owned() else {
        return Err(ErrorBody::new(
            ErrorCode::Busy,
            "too many requests are waiting: send it again when one has been answered",
        )
        .into());
    };
    let prefix = match kind {
        Kind::Chat => "chatcmpl",
        Kind::Text => "cmpl",
    };
    let shape = Shape {
        kind,
        id: format!(
            "{prefix}-{:016x}{:016x}",
            shared.app.random.next_u64(),
            shared.app.random.next_u64()
        ),
        created: shared.app.clock.unix_ms() / 1000,
        model: asked
            .job
            .model
            .clone()
            .unwrap_or_else(|| shared.app.model.clone()),
        include_usage: asked.include_usage,
    };
    let mut running = start(shared, asked.job, place);
    if !asked.stream {
        return whole(shape, running).await;
    }
    // Most errors come before the first piece; they deserve a status of their own.
    let first = tokio::time::timeout(HEAD_PATIENCE, running.pieces.recv()).await;
    if let Ok(None) = first {
        let outcome = (&mut running.done).await.unwrap_or_else(|_| Err(stopped()));
        running.stopper.abort();
        let done = outcome?;
        return Ok(stream(events(shape, None, Some(done), running)));
    }
    Ok(stream(events(shape, first.ok().flatten(), None, running)))
}

async fn whole(shape: Shape, mut running: Running) -> Result<Reply, ApiError> {
    let mut text = String::new();
    while let Some(delta) = running.pieces.recv().await {
        text.push_str(&delta.text);
    }
    let outcome = (&mut running.done).await.unwrap_or_else(|_| Err(stopped()));
    running.stopper.abort();
    let done = outcome?;
    text.push_str(&done.text);
    Ok(document(StatusCode::OK, &shape.whole(&text, &done)))
}

/// The stream of an answer: the first piece if there is one, then those to come, unless it is `done` already.
fn events(shape: Shape, first: Option<ChatDelta>, done: Option<ChatDone>, running: Running) -> EventStream {
    let Running {
        mut pieces,
        done: outcome,
        client,
        stopper,
    } = running;
    let (to, body) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let send = |value: &serde_json::Value| drop(to.send(event(value)));
        shape.first().iter().for_each(send);
        first.and_then(|delta| shape.delta(&delta)).iter().for_each(send);
        let outcome = match done {
            Some(done) => Ok(done),
            None => {
                while let Some(delta) = pieces.recv().await {
                    shape.delta(&delta).iter().for_each(send);
                }
                outcome.await.unwrap_or_else(|_| Err(stopped()))
            }
        };
        stopper.abort();
        match outcome {
            Ok(done) => {
                shape.last(&done).iter().for_each(send);
                drop(to.send(Bytes::from_static(b"data: [DONE]\n\n")));
            }
            Err(error) => send(&ApiError::from(error).json()),
        }
    });
    EventStream::new(body, client)
}
