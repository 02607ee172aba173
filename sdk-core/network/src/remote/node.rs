//! The node's half.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use futures::StreamExt;
use futures::channel::{mpsc, oneshot};
use kwaainet_platform::{BoxFuture, boxed};

use super::Port;
use super::stream::{Flow, cost};
use super::wire::{Fault, OfStream, Report, Request, ToHost, ToNode, longest};
use crate::{
    Address, Incoming, MessageReceiver, MessageSender, MessageStream, Network, NetworkError, PeerId,
    PeerInfo, Protocol, RecordKey,
};

/// What a call comes to: records, if it asked for any.
type Answer = Result<Vec<Vec<u8>>, Fault>;

/// Streams that came in and were not taken yet, per protocol.
const UNTAKEN: usize = 64;
/// Streams whose number the other half gave begin here.
pub(super) const ACCEPTED: u32 = 1 << 31;

/// A network behind a port. Clones are the same one; when the last is dropped, the other half ends.
#[derive(Clone)]
pub struct RemoteNetwork(Arc<Shared>);

struct Shared {
    peer: PeerId,
    to: mpsc::UnboundedSender<Vec<u8>>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    closed: bool,
    /// Of calls, streams and slots.
    last_number: u32,
    peers: Vec<PeerInfo>,
    addresses: Vec<Address>,
    calls: BTreeMap<u32, oneshot::Sender<Answer>>,
    streams: BTreeMap<u32, Flow>,
    slots: BTreeMap<u32, (Protocol, mpsc::Sender<MessageStream>)>,
}

impl std::fmt::Debug for RemoteNetwork {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RemoteNetwork")
            .field("peer", &self.0.peer)
            .finish_non_exhaustive()
    }
}

impl RemoteNetwork {
    /// Waits for the other half to say who it is. The future moves the port's messages, and ends with it.
    ///
    /// `None` if the other half is gone, or says something else.
    pub async fn connect(mut port: Port) -> Option<(Self, BoxFuture<'static, ()>)> {
        let Report::Hello { peer } = ToNode::from_bytes(port.from.next().await?)?.0 else {
            return None;
        };
        let shared = Arc::new(Shared {
            peer,
            to: port.to,
            state: Mutex::default(),
        });
        let (mover, mut from) = (Mover(Arc::downgrade(&shared)), port.from);
        let moving = async move {
            while let Some(bytes) = from.next().await {
                let told = mover.0.upgrade().is_some_and(|node| node.hear(bytes).is_some());
                if !told {
                    break;
                }
            }
        };
        Some((Self(shared), boxed(moving)))
    }

    async fn call(&self, request: impl FnOnce(u32) -> Request) -> Answer {
        let (reply, answer) = oneshot::channel();
        let call = {
            let mut state = self.0.lock();
            if state.closed {
                return Err(Fault::Closed);
            }
            let call = state.number();
            state.calls.insert(call, reply);
            call
        };
        let _cancel = Cancel { node: self, call };
        self.0.say(request(call));
        answer.await.unwrap_or(Err(Fault::Closed))
    }

    fn stream(&self, number: u32, peer: PeerId, protocol: Protocol) -> MessageStream {
        Shared::stream(&self.0, number, peer, protocol)
    }

    /// Calls and streams that are known.
    #[cfg(test)]
    pub(super) fn left_behind(&self) -> (usize, usize) {
        let state = self.0.lock();
        (state.calls.len(), state.streams.len())
    }
}

/// Without it nothing arrives any more, and whoever waits is told so.
struct Mover(Weak<Shared>);

impl Drop for Mover {
    fn drop(&mut self) {
        if let Some(node) = self.0.upgrade() {
            node.close();
        }
    }
}

/// Tells the other half when nobody waits for a call any more.
struct Cancel<'a> {
    node: &'a RemoteNetwork,
    call: u32,
}

impl Drop for Cancel<'_> {
    fn drop(&mut self) {
        let waited = self.node.0.lock().calls.remove(&self.call).is_some();
        if waited {
            self.node.0.say(Request::Cancel { call: self.call });
        }
    }
}

/// Forgets a stream that was not opened after all.
struct Opening<'a> {
    node: &'a RemoteNetwork,
    stream: Option<u32>,
}

impl Drop for Opening<'_> {
    fn drop(&mut self) {
        if let Some(stream) = self.stream {
            self.node.0.leave(stream);
        }
    }
}

impl State {
    fn number(&mut self) -> u32 {
        self.last_number = (self.last_number + 1) % ACCEPTED;
        self.last_number
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn say(&self, request: Request) {
        // The other half may be gone; whoever waits is told so by `close`.
        let _ = self.to.unbounded_send(ToHost(request).into_bytes());
    }

    fn say_of(&self, stream: u32, what: OfStream) {
        self.say(Request::Stream { stream, what });
    }

    /// `None` for what cannot be: the port ends.
    fn hear(self: &Arc<Self>, bytes: Vec<u8>) -> Option<()> {
        let mut state = self.lock();
        match ToNode::from_bytes(bytes)?.0 {
            Report::Hello { .. } => return None,
            Report::Addresses(addresses) => state.addresses = addresses,
            Report::Peers(peers) => state.peers = peers,
            Report::Done { call } => Self::answer(&mut state, call, Ok(Vec::new())),
            Report::Found { call, records } => Self::answer(&mut state, call, Ok(records)),
            Report::Failed { call, fault } => Self::answer(&mut state, call, Err(fault)),
            Report::Accepted { slot, stream, peer } => {
                if stream < ACCEPTED || state.streams.contains_key(&stream) {
                    return None;
                }
                let Some((protocol, mut taker)) = state.slots.get(&slot).cloned() else {
                    drop(state);
                    // It was unserved meanwhile.
                    self.leave(stream);
                    return Some(());
                };
                state.streams.insert(stream, Flow::new(longest(protocol)));
                drop(state);
                // One too many is dropped, and so ended.
                let _ = taker.try_send(Self::stream(self, stream, peer, protocol));
            }
            Report::Ended { slot } => drop(state.slots.remove(&slot)),
            Report::Stream { stream, what } => {
                // What was on its way when the stream was left is nobody's.
                let flow = state.streams.get(&stream).cloned();
                drop(state);
                if flow.is_some_and(|flow| !flow.heard(what)) {
                    return None;
                }
            }
        }
        Some(())
    }

    fn answer(state: &mut State, call: u32, answer: Result<Vec<Vec<u8>>, Fault>) {
        if let Some(waiting) = state.calls.remove(&call) {
            let _ = waiting.send(answer);
        }
    }

    fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.peers.clear();
        state.addresses.clear();
        // Whoever waits for a call or for a stream sees the end of its channel.
        let (calls, slots) = (std::mem::take(&mut state.calls), std::mem::take(&mut state.slots));
        let streams: Vec<Flow> = state.streams.values().cloned().collect();
        drop(state);
        drop((calls, slots));
        streams.iter().for_each(|flow| flow.end(&Fault::Closed));
    }

    /// Neither reads nor writes the stream any more.
    fn leave(&self, stream: u32) {
        self.lock().streams.remove(&stream);
        self.say_of(stream, OfStream::Finish);
        self.say_of(stream, OfStream::Stop);
    }

    fn stream(self: &Arc<Self>, number: u32, peer: PeerId, protocol: Protocol) -> MessageStream {
        let flow = self.lock().streams.get(&number).cloned();
        let half = Half {
            // Gone only if the port is.
            flow: flow.unwrap_or_else(|| {
                let flow = Flow::new(longest(protocol));
                flow.end(&Fault::Closed);
                flow
            }),
            node: Arc::downgrade(self),
            number,
            peer,
            protocol,
            _last: Arc::new(Last {
                node: Arc::downgrade(self),
                number,
            }),
        };
        MessageStream {
            peer,
            sender: Box::new(RemoteSender(half.clone())),
            receiver: Box::new(RemoteReceiver(half)),
        }
    }
}

#[derive(Clone)]
struct Half {
    flow: Flow,
    node: Weak<Shared>,
    number: u32,
    peer: PeerId,
    protocol: Protocol,
    _last: Arc<Last>,
}

/// Forgets the stream when both halves are dropped.
struct Last {
    node: Weak<Shared>,
    number: u32,
}

impl Drop for Last {
    fn drop(&mut self) {
        if let Some(node) = self.node.upgrade() {
            node.lock().streams.remove(&self.number);
        }
    }
}

impl Half {
    fn say(&self, what: OfStream) {
        if let Some(node) = self.node.upgrade() {
            node.say_of(self.number, what);
        }
    }

    fn error(&self, fault: Fault) -> NetworkError {
        fault.about(self.peer, self.protocol.name)
    }
}

struct RemoteSender(Half);

impl MessageSender for RemoteSender {
    fn send(&mut self, message: Vec<u8>) -> BoxFuture<'_, Result<(), NetworkError>> {
        boxed(async move {
            let Half { flow, protocol, .. } = &self.0;
            if message.len() > protocol.longest {
                return Err(NetworkError::TooLong {
                    bytes: message.len() as u64,
                    limit: protocol.longest,
                    protocol: protocol.name,
                });
            }
            flow.may_send().await.map_err(|fault| self.0.error(fault))?;
            flow.sent(message.len());
            self.0.say(OfStream::Data(message));
            Ok(())
        })
    }
}

impl Drop for RemoteSender {
    fn drop(&mut self) {
        self.0.say(OfStream::Finish);
    }
}

struct RemoteReceiver(Half);

impl MessageReceiver for RemoteReceiver {
    fn next(&mut self) -> BoxFuture<'_, Option<Result<Vec<u8>, NetworkError>>> {
        boxed(async move {
            let message = self.0.flow.next().await?;
            if let Ok(bytes) = &message {
                self.0.say(OfStream::Credit(cost(bytes.len())));
            }
            Some(message.map_err(|fault| self.0.error(fault)))
        })
    }
}

impl Drop for RemoteReceiver {
    fn drop(&mut self) {
        self.0.say(OfStream::Stop);
    }
}

struct RemoteIncoming {
    node: Weak<Shared>,
    slot: u32,
    streams: mpsc::Receiver<MessageStream>,
}

impl Incoming for RemoteIncoming {
    fn next(&mut self) -> BoxFuture<'_, Option<MessageStream>> {
        boxed(self.streams.next())
    }
}

impl Drop for RemoteIncoming {
    fn drop(&mut self) {
        if let Some(node) = self.node.upgrade() {
            let slot = node.lock().slots.remove(&self.slot);
            drop(slot);
            node.say(Request::Unserve { slot: self.slot });
        }
    }
}

impl Network for RemoteNetwork {
    fn local_peer(&self) -> PeerId {
        self.0.peer
    }

    fn addresses(&self) -> Vec<Address> {
        self.0.lock().addresses.clone()
    }

    fn peers(&self) -> Vec<PeerInfo> {
        self.0.lock().peers.clone()
    }

    fn dial(&self, peer: PeerId, addresses: Vec<Address>) -> BoxFuture<'_, Result<(), NetworkError>> {
        boxed(async move {
            let dialled = self
                .call(|call| Request::Dial {
                    call,
                    peer,
                    addresses,
                })
                .await;
            dialled.map(drop).map_err(|fault| fault.about(peer, ""))
        })
    }

    fn disconnect(&self, peer: PeerId) {
        self.0.say(Request::Disconnect { peer });
    }

    fn open(&self, peer: PeerId, protocol: Protocol) -> BoxFuture<'_, Result<MessageStream, NetworkError>> {
        boxed(async move {
            let stream = {
                let mut state = self.0.lock();
                let stream = state.number();
                state.streams.insert(stream, Flow::new(longest(protocol)));
                stream
            };
            let mut opening = Opening {
                node: self,
                stream: Some(stream),
            };
            let request = |call| Request::Open {
                call,
                stream,
                peer,
                name: protocol.name.to_owned(),
                longest: longest(protocol),
            };
            let opened = self.call(request).await;
            opened.map_err(|fault| fault.about(peer, protocol.name))?;
            opening.stream = None;
            Ok(self.stream(stream, peer, protocol))
        })
    }

    /// It is served when the other half has read so: a moment later.
    fn serve(&self, protocol: Protocol) -> Result<Box<dyn Incoming>, NetworkError> {
        let (to, streams) = mpsc::channel(UNTAKEN);
        let slot = {
            let mut state = self.0.lock();
            if state.closed {
                return Err(NetworkError::Closed);
            }
            if state
                .slots
                .values()
                .any(|(served, _)| served.name == protocol.name)
            {
                return Err(NetworkError::AlreadyServed(protocol.name));
            }
            let slot = state.number();
            state.slots.insert(slot, (protocol, to));
            slot
        };
        self.0.say(Request::Serve {
            slot,
            name: protocol.name.to_owned(),
            longest: longest(protocol),
        });
        Ok(Box::new(RemoteIncoming {
            node: Arc::downgrade(&self.0),
            slot,
            streams,
        }))
    }

    fn publish(&self, key: RecordKey, record: Vec<u8>) -> BoxFuture<'_, Result<(), NetworkError>> {
        boxed(async move {
            let published = self.call(|call| Request::Publish { call, key, record }).await;
            published.map(drop).map_err(|fault| fault.about(self.0.peer, ""))
        })
    }

    fn find(&self, key: RecordKey, limit: usize) -> BoxFuture<'_, Result<Vec<Vec<u8>>, NetworkError>> {
        boxed(async move {
            let limit = u32::try_from(limit).unwrap_or(u32::MAX);
            let found = self.call(|call| Request::Find { call, key, limit }).await;
            found.map_err(|fault| fault.about(self.0.peer, ""))
        })
    }
}
