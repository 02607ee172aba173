//! The half beside the connections.

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::time::Duration;

use futures::StreamExt;
use futures::channel::mpsc;
use futures::future::{AbortHandle, Abortable, Either, FutureExt, join, select};
use futures::stream::FuturesUnordered;
use kwaainet_platform::{BoxFuture, Clock, boxed};

use super::Port;
use super::node::ACCEPTED;
use super::stream::{Flow, cost};
use super::wire::{Fault, OfStream, Report, Request, ToHost, ToNode};
use crate::{Address, Incoming, MessageReceiver, MessageSender, MessageStream, Network, PeerInfo, Protocol};

/// How often the node is told how much was said to whom, if nothing else happens.
const NEWS: Duration = Duration::from_millis(500);
/// Names of protocols in the life of a process: the node has a handful.
const NAMES: usize = 64;

/// Does on a network what the other half of the port says. Ends with the port, and leaves nothing behind.
pub async fn serve_remote(network: Arc<dyn Network>, clock: Arc<dyn Clock>, port: Port) {
    let Port { to, mut from } = port;
    let mut host = Host {
        network,
        to,
        told: (Vec::new(), Vec::new()),
        last_accepted: ACCEPTED - 1,
        calls: BTreeMap::new(),
        slots: BTreeMap::new(),
        streams: BTreeMap::new(),
        tasks: FuturesUnordered::new(),
    };
    host.say(Report::Hello {
        peer: host.network.local_peer(),
    });
    host.tell_news();
    let mut news = clock.sleep(NEWS);
    loop {
        let event = poll_fn(|context| {
            // First what was aborted: a protocol that was unserved can be served anew by the next message.
            if let Poll::Ready(Some(event)) = host.tasks.poll_next_unpin(context) {
                return Poll::Ready(Either::Right(event));
            }
            if let Poll::Ready(message) = from.poll_next_unpin(context) {
                return Poll::Ready(Either::Left(message));
            }
            news.poll_unpin(context).map(|()| Either::Right(Event::News))
        })
        .await;
        match event {
            Either::Left(message) => {
                let Some(ToHost(request)) = message.and_then(ToHost::from_bytes) else {
                    return;
                };
                if host.does(request).is_none() {
                    return;
                }
            }
            Either::Right(Event::News) => {
                host.tell_news();
                news = clock.sleep(NEWS);
            }
            Either::Right(event) => host.happened(event),
        }
    }
}

struct Host {
    network: Arc<dyn Network>,
    to: mpsc::UnboundedSender<Vec<u8>>,
    told: (Vec<Address>, Vec<PeerInfo>),
    last_accepted: u32,
    calls: BTreeMap<u32, AbortHandle>,
    slots: BTreeMap<u32, (Protocol, AbortHandle)>,
    streams: BTreeMap<u32, Flow>,
    tasks: FuturesUnordered<BoxFuture<'static, Event>>,
}

enum Event {
    News,
    Called(u32, Report),
    Opened(u32, u32, Protocol, MessageStream),
    Came(u32, Box<dyn Incoming>, Option<MessageStream>),
    StreamOver(u32),
    /// What was aborted.
    Nothing,
}

/// The one name that lives as long as the process; `None` for one name too many.
fn interned(name: &str) -> Option<&'static str> {
    static NAMES_SO_FAR: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut names = NAMES_SO_FAR.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = names.get(name) {
        return Some(known);
    }
    if names.len() >= NAMES {
        return None;
    }
    let name: &'static str = Box::leak(name.to_owned().into_boxed_str());
    names.insert(name);
    Some(name)
}

fn protocol(name: &str, longest: u32) -> Option<Protocol> {
    Some(Protocol {
        name: interned(name)?,
        longest: longest as usize,
    })
}

impl Host {
    fn say(&self, report: Report) {
        // The node may be gone; the port ends then.
        let _ = self.to.unbounded_send(ToNode(report).into_bytes());
    }

    /// Tells what has changed of peers and addresses.
    fn tell_news(&mut self) {
        let news = (self.network.addresses(), self.network.peers());
        if news.0 != self.told.0 {
            self.say(Report::Addresses(news.0.clone()));
        }
        if news.1 != self.told.1 {
            self.say(Report::Peers(news.1.clone()));
        }
        self.told = news;
    }

    fn call(&mut self, call: u32, work: impl FnOnce(Arc<dyn Network>) -> BoxFuture<'static, Event>) {
        let (abort, registration) = AbortHandle::new_pair();
        self.calls.insert(call, abort);
        let work = Abortable::new(work(Arc::clone(&self.network)), registration);
        self.tasks
            .push(boxed(work.map(|done| done.unwrap_or(Event::Nothing))));
    }

    /// `None` for what cannot be: the port ends.
    fn does(&mut self, request: Request) -> Option<()> {
        match request {
            Request::Dial {
                call,
                peer,
                addresses,
            } => self.call(call, move |network| {
                boxed(async move {
                    let dialled = network.dial(peer, addresses).await;
                    Event::Called(call, done(call, dialled.map_err(Fault::from)))
                })
            }),
            Request::Open {
                call,
                stream,
                peer,
                name,
                longest,
            } => {
                if stream >= ACCEPTED || self.streams.contains_key(&stream) {
                    return None;
                }
                let protocol = protocol(&name, longest)?;
                self.call(call, move |network| {
                    boxed(async move {
                        match network.open(peer, protocol).await {
                            Ok(opened) => Event::Opened(call, stream, protocol, opened),
                            Err(error) => Event::Called(call, done(call, Err(error.into()))),
                        }
                    })
                });
            }
            Request::Publish { call, key, record } => self.call(call, move |network| {
                boxed(async move {
                    let published = network.publish(key, record).await;
                    Event::Called(call, done(call, published.map_err(Fault::from)))
                })
            }),
            Request::Find { call, key, limit } => self.call(call, move |network| {
                boxed(async move {
                    let report = match network.find(key, limit as usize).await {
                        Ok(records) => Report::Found { call, records },
                        Err(error) => done(call, Err(error.into())),
                    };
                    Event::Called(call, report)
                })
            }),
            Request::Cancel { call } => {
                if let Some(abort) = self.calls.remove(&call) {
                    abort.abort();
                }
            }
            Request::Disconnect { peer } => {
                self.network.disconnect(peer);
                self.tell_news();
            }
            Request::Serve { slot, name, longest } => {
                let protocol = protocol(&name, longest)?;
                match self.network.serve(protocol) {
                    Ok(incoming) => self.await_stream(slot, protocol, incoming),
                    Err(_) => self.say(Report::Ended { slot }),
                }
            }
            Request::Unserve { slot } => {
                if let Some((_, abort)) = self.slots.remove(&slot) {
                    abort.abort();
                }
            }
            Request::Stream { stream, what } => {
                // What was on its way when the stream ended is nobody's.
                let flow = self.streams.get(&stream);
                if flow.is_some_and(|flow| !flow.heard(what)) {
                    return None;
                }
            }
        }
        Some(())
    }

    fn await_stream(&mut self, slot: u32, protocol: Protocol, mut incoming: Box<dyn Incoming>) {
        let (abort, registration) = AbortHandle::new_pair();
        self.slots.insert(slot, (protocol, abort));
        let next = async move {
            let stream = incoming.next().await;
            Event::Came(slot, incoming, stream)
        };
        let next = Abortable::new(next, registration);
        self.tasks
            .push(boxed(next.map(|came| came.unwrap_or(Event::Nothing))));
    }

    fn happened(&mut self, event: Event) {
        match event {
            Event::News | Event::Nothing => {}
            Event::Called(call, report) => {
                // Cancelled in the very moment: nobody waits.
                if self.calls.remove(&call).is_some() {
                    self.tell_news();
                    self.say(report);
                }
            }
            Event::Opened(call, stream, protocol, opened) => {
                if self.calls.remove(&call).is_some() {
                    self.tell_news();
                    self.say(Report::Done { call });
                    self.run(stream, protocol, opened);
                }
            }
            Event::Came(slot, incoming, stream) => {
                let Some((protocol, _)) = self.slots.remove(&slot) else {
                    return;
                };
                let Some(opened) = stream else {
                    self.say(Report::Ended { slot });
                    return;
                };
                self.last_accepted = self.last_accepted.wrapping_add(1).max(ACCEPTED);
                let (stream, peer) = (self.last_accepted, opened.peer);
                self.tell_news();
                self.say(Report::Accepted { slot, stream, peer });
                self.run(stream, protocol, opened);
                self.await_stream(slot, protocol, incoming);
            }
            Event::StreamOver(stream) => {
                self.streams.remove(&stream);
                self.tell_news();
            }
        }
    }

    /// Moves a stream's messages both ways.
    fn run(&mut self, number: u32, protocol: Protocol, stream: MessageStream) {
        let flow = Flow::new(super::wire::longest(protocol));
        self.streams.insert(number, flow.clone());
        let to = self.to.clone();
        let MessageStream { sender, receiver, .. } = stream;
        self.tasks.push(boxed(async move {
            let say = |what| {
                let report = Report::Stream { stream: number, what };
                let _ = to.unbounded_send(ToNode(report).into_bytes());
            };
            join(send(sender, &flow, &say), receive(receiver, &flow, &say)).await;
            Event::StreamOver(number)
        }));
    }
}

fn done(call: u32, outcome: Result<(), Fault>) -> Report {
    match outcome {
        Ok(()) => Report::Done { call },
        Err(fault) => Report::Failed { call, fault },
    }
}

/// From the node to the peer.
async fn send(mut sender: Box<dyn MessageSender>, flow: &Flow, say: &impl Fn(OfStream)) {
    while let Some(Ok(message)) = flow.next().await {
        let bytes = message.len();
        if let Err(error) = sender.send(message).await {
            say(OfStream::SendBroken(error.into()));
            return;
        }
        say(OfStream::Credit(cost(bytes)));
    }
}

/// From the peer to the node.
async fn receive(mut receiver: Box<dyn MessageReceiver>, flow: &Flow, say: &impl Fn(OfStream)) {
    loop {
        if flow.may_send().await.is_err() {
            return;
        }
        let stopped = std::pin::pin!(flow.stopped());
        let message = match select(receiver.next(), stopped).await {
            Either::Left((message, _)) => message,
            Either::Right(_) => return,
        };
        match message {
            Some(Ok(bytes)) => {
                flow.sent(bytes.len());
                say(OfStream::Data(bytes));
            }
            Some(Err(error)) => return say(OfStream::ReceiveBroken(error.into())),
            None => return say(OfStream::Finish),
        }
    }
}
