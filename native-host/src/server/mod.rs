//! OpenAI-compatible HTTP for programs of this machine.
//!
//! hyper on one thread for the connections; each answer is made on a thread of its own, because the engine
//! computes without pause.

mod control;
mod guard;
mod openai;
mod reply;
mod routes;
mod tools;

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use kwaainet_node::Cancel;
use kwaainet_platform::{Clock, Random};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

pub use control::Control;
pub use guard::Guard;

use crate::HostError;
use crate::generator::Generator;

/// Open connections; more wait in the system's queue.
const MOST_CONNECTIONS: usize = 256;
/// Answers asked for at the same time; one is made at a time, and one more is answered with 429.
const MOST_ANSWERS: usize = 32;
/// A client must send the head of a request within that time.
const HEAD_TIMEOUT: Duration = Duration::from_secs(30);
/// Answers that are being made when the server is stopped may go on for that long.
const GRACE: Duration = Duration::from_secs(5);

/// What the routes need.
pub struct App {
    /// Makes the answers.
    pub generator: Arc<dyn Generator>,
    /// The model that answers when a request names none.
    pub model: String,
    /// For `created`.
    pub clock: Arc<dyn Clock>,
    /// For ids.
    pub random: Arc<dyn Random>,
    /// Who may call.
    pub guard: Guard,
}

impl std::fmt::Debug for App {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("App")
            .field("guard", &self.guard)
            .finish_non_exhaustive()
    }
}

/// An [`App`] with what is shared by its connections.
pub(crate) struct Shared {
    pub(crate) app: App,
    pub(crate) answers: Arc<Semaphore>,
    pub(crate) started_unix_s: u64,
    /// Thrown when the time to end gracefully is over.
    pub(crate) stop: Cancel,
}

/// A server that has its address and answers nobody yet.
#[derive(Debug)]
pub struct Server {
    listener: std::net::TcpListener,
    address: SocketAddr,
}

impl Server {
    /// Takes the address.
    ///
    /// # Errors
    /// [`HostError::Listen`] that says what to do.
    pub fn bind(host: &str, port: u16) -> Result<Self, HostError> {
        let fail = |reason: String| HostError::Listen {
            address: format!("{host}:{port}"),
            reason,
        };
        let addresses: Vec<SocketAddr> = (host, port)
            .to_socket_addrs()
            .map_err(|error| {
                fail(format!(
                    "{error}. Use an address of this machine, such as 127.0.0.1"
                ))
            })?
            .collect();
        let listener = std::net::TcpListener::bind(addresses.as_slice()).map_err(|error| {
            fail(match error.kind() {
                std::io::ErrorKind::AddrInUse => {
                    "another program uses this port. Stop it, or choose another one with --port (0 takes a free one)"
                        .to_owned()
                }
                std::io::ErrorKind::PermissionDenied => {
                    "the system does not allow it. Choose a port above 1023".to_owned()
                }
                std::io::ErrorKind::AddrNotAvailable => "this machine does not have that address".to_owned(),
                _ => error.to_string(),
            })
        })?;
        let address = listener.local_addr().map_err(|error| fail(error.to_string()))?;
        listener
            .set_nonblocking(true)
            .map_err(|error| fail(error.to_string()))?;
        Ok(Self { listener, address })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Answers until `stop` is thrown, then lets what runs finish for a few seconds.
    ///
    /// # Errors
    /// When the system gives no runtime.
    pub fn run(self, app: App, stop: &Cancel) -> Result<(), HostError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            .max_blocking_threads(MOST_ANSWERS + 32)
            .build()?;
        let outcome = runtime.block_on(self.accept(app, stop));
        // A thread that still computes sees its cancel switch within a step; do not wait for more.
        runtime.shutdown_timeout(Duration::from_secs(2));
        outcome
    }

    async fn accept(self, app: App, stop: &Cancel) -> Result<(), HostError> {
        let listener = TcpListener::from_std(self.listener)?;
        let shared = Arc::new(Shared {
            started_unix_s: app.clock.unix_ms() / 1000,
            app,
            answers: Arc::new(Semaphore::new(MOST_ANSWERS)),
            stop: Cancel::new(),
        });
        let room = Arc::new(Semaphore::new(MOST_CONNECTIONS));
        let (ending, ended) = watch::channel(false);
        let mut connections = JoinSet::new();
        loop {
            let Ok(place) = Arc::clone(&room).acquire_owned().await else {
                break;
            };
            let stream = tokio::select! {
                () = stop.cancelled() => break,
                // Keeps the set from growing with connections that are over.
                Some(_) = connections.join_next() => continue,
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(_) => {
                        // Out of file descriptors, or the client has gone: others may still be served.
                        tokio::time::sleep(Duration::from_millis(50)).await;
                        continue;
                    }
                },
            };
            let connection = connection(Arc::clone(&shared), stream, ended.clone());
            connections.spawn(async move {
                connection.await;
                drop(place);
            });
        }
        drop(listener);
        let _ = ending.send(true);
        let finish = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(GRACE, finish).await.is_err() {
            shared.stop.cancel();
            let finish = async { while connections.join_next().await.is_some() {} };
            drop(tokio::time::timeout(Duration::from_secs(2), finish).await);
        }
        Ok(())
    }
}

async fn connection(shared: Arc<Shared>, stream: TcpStream, mut ended: watch::Receiver<bool>) {
    // Pieces of an answer are small and must leave at once.
    drop(stream.set_nodelay(true));
    let service = service_fn(move |request| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, std::convert::Infallible>(routes::answer(&shared, request).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_headers(64)
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    // An error of a connection concerns its client, who knows already.
    tokio::select! {
        _ = connection.as_mut() => return,
        _ = ended.wait_for(|ended| *ended) => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}
