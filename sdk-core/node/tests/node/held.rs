//! A network that holds a file back at any byte, and tasks that run until they wait for it.

use std::cell::RefCell;
use std::future::poll_fn;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::task::{Poll, Waker};
use std::time::Duration;

use futures::executor::{LocalPool, LocalSpawner};
use futures::task::LocalSpawnExt as _;
use kwaainet_node::{Cancel, KwaaiNetCore};
use kwaainet_platform::{
    BoxFuture, ByteStream, Clock, HttpClient, HttpError, HttpRequest, HttpResponse, ManualClock, MemoryHttp,
    boxed,
};
use kwaainet_types::{Chunk, Command, ErrorBody, Origin, Reply};

use crate::home::{Collected, Home};

/// How far a file is let through, and who waits for more of it.
#[derive(Clone, Default)]
pub(crate) struct Gate(Arc<Mutex<(u64, Vec<Waker>)>>);

impl Gate {
    pub(crate) fn open(&self, up_to: u64) {
        let mut state = self.0.lock().unwrap();
        state.0 = up_to;
        state.1.drain(..).for_each(Waker::wake);
    }
}

struct HeldHttp {
    http: MemoryHttp,
    url: String,
    gate: Gate,
}

impl HttpClient for HeldHttp {
    fn get(&self, request: HttpRequest) -> BoxFuture<'_, Result<HttpResponse, HttpError>> {
        boxed(async move {
            let is_held = request.url == self.url;
            let at = request.range.map_or(0, |(from, _)| from);
            let mut response = self.http.get(request).await?;
            if is_held {
                response.body = Box::new(HeldBody {
                    body: response.body,
                    at,
                    gate: self.gate.clone(),
                });
            }
            Ok(response)
        })
    }
}

struct HeldBody {
    body: Box<dyn ByteStream>,
    at: u64,
    gate: Gate,
}

impl ByteStream for HeldBody {
    fn next(&mut self) -> BoxFuture<'_, Option<Result<Vec<u8>, HttpError>>> {
        boxed(async move {
            poll_fn(|context| {
                let mut state = self.gate.0.lock().unwrap();
                if self.at < state.0 {
                    return Poll::Ready(());
                }
                state.1.push(context.waker().clone());
                Poll::Pending
            })
            .await;
            let piece = self.body.next().await;
            if let Some(Ok(piece)) = &piece {
                self.at += piece.len() as u64;
            }
            piece
        })
    }
}

/// Time in which no connection is ever given up.
struct Patient(Arc<ManualClock>);

impl Clock for Patient {
    fn monotonic_ms(&self) -> f64 {
        self.0.monotonic_ms()
    }

    fn unix_ms(&self) -> u64 {
        self.0.unix_ms()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'_, ()> {
        if duration < Duration::from_secs(10) {
            self.0.advance(duration);
            boxed(async {})
        } else {
            boxed(std::future::pending())
        }
    }
}

impl Home {
    /// Holds this URL's file back where the gate says.
    pub(crate) fn held(mut self, url: &str) -> (Self, Gate) {
        let gate = Gate::default();
        self.platform.clock = Arc::new(Patient(Arc::clone(&self.clock)));
        self.replace_http(HeldHttp {
            http: self.http.clone(),
            url: url.to_owned(),
            gate: gate.clone(),
        });
        (self, gate)
    }
}

/// A command under way, and what it has given out.
#[derive(Clone, Default)]
pub(crate) struct Told {
    pub(crate) out: Arc<Collected>,
    pub(crate) cancel: Cancel,
    reply: Rc<RefCell<Option<Result<Reply, ErrorBody>>>>,
}

impl Told {
    pub(crate) fn reply(&self) -> Option<Result<Reply, ErrorBody>> {
        self.reply.borrow().clone()
    }
}

/// Tasks on one thread. Only those are polled that were woken.
pub(crate) struct Tasks {
    pool: LocalPool,
    spawner: LocalSpawner,
}

impl Tasks {
    pub(crate) fn new() -> Self {
        let pool = LocalPool::new();
        let spawner = pool.spawner();
        Self { pool, spawner }
    }

    /// Begins a command, and runs everything until it waits.
    pub(crate) fn tell(&mut self, node: &Arc<KwaaiNetCore>, origin: Origin, command: Command) -> Told {
        let told = Told::default();
        let (node, task) = (Arc::clone(node), told.clone());
        let run = async move {
            let out = |chunk: Chunk| task.out.0.lock().unwrap().push(chunk);
            let reply = node.dispatch(origin, command, &out, &task.cancel).await;
            *task.reply.borrow_mut() = Some(reply);
        };
        self.spawner.spawn_local(run).unwrap();
        self.run();
        told
    }

    pub(crate) fn load(&mut self, node: &Arc<KwaaiNetCore>, model: &str) -> Told {
        let model = Some(model.to_owned());
        self.tell(node, Origin::Site, Command::LoadModel { model })
    }

    pub(crate) fn run(&mut self) {
        self.pool.run_until_stalled();
    }
}
