//! A network in memory: a hundred nodes in one test, without sockets, and the same at every run.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::channel::{mpsc, oneshot};
use futures::future::{self, Either, Shared};
use futures::{FutureExt, SinkExt, StreamExt};
use kwaainet_platform::{BoxFuture, boxed};

use crate::{
    Address, Incoming, Keypair, MessageReceiver, MessageSender, MessageStream, Network, NetworkError, PeerId,
    PeerInfo, Protocol, Reach, RecordKey,
};

/// Messages on their way in one direction, before the sender waits for the reader.
const IN_FLIGHT: usize = 16;
/// Streams that a node was offered and has not taken yet, per protocol.
const UNTAKEN: usize = 64;
/// Publishers whose record is kept per key.
const RECORDS: usize = 64;

/// What connects the nodes, and can be told to fail. Clones are the same hub.
#[derive(Debug, Clone, Default)]
pub struct MemoryHub(Arc<Mutex<HubState>>);

#[derive(Debug, Default)]
struct HubState {
    nodes: BTreeMap<PeerId, Node>,
    links: BTreeMap<(PeerId, PeerId), Link>,
    cut: Vec<(PeerId, PeerId)>,
    /// The newest record of every publisher.
    records: BTreeMap<RecordKey, BTreeMap<PeerId, Vec<u8>>>,
}

#[derive(Debug, Default)]
struct Node {
    served: BTreeMap<&'static str, mpsc::Sender<MessageStream>>,
}

/// A connection. When it is dropped, both ends of all its streams break.
#[derive(Debug)]
struct Link {
    closed: Closed,
    /// Bytes from the first peer of the key to the second, and back.
    bytes: [Arc<AtomicU64>; 2],
    _close: oneshot::Sender<()>,
}

type Closed = Shared<oneshot::Receiver<()>>;

fn key(one: PeerId, other: PeerId) -> (PeerId, PeerId) {
    (one.min(other), one.max(other))
}

impl MemoryHub {
    /// A node with this key. A node that joins twice begins anew.
    pub fn join(&self, keypair: &Keypair) -> MemoryNetwork {
        let peer = keypair.peer_id();
        self.leave(peer);
        self.lock().nodes.insert(peer, Node::default());
        MemoryNetwork {
            hub: self.clone(),
            peer,
        }
    }

    /// Takes a node away as a closed tab does: without a word.
    pub fn leave(&self, peer: PeerId) {
        let mut state = self.lock();
        state.nodes.remove(&peer);
        state
            .links
            .retain(|(one, other), _| *one != peer && *other != peer);
    }

    /// Breaks the way between two nodes, until it is mended.
    pub fn cut(&self, one: PeerId, other: PeerId) {
        let mut state = self.lock();
        state.links.remove(&key(one, other));
        state.cut.push(key(one, other));
    }

    /// Undoes [`Self::cut`].
    pub fn mend(&self, one: PeerId, other: PeerId) {
        self.lock().cut.retain(|pair| *pair != key(one, other));
    }

    fn lock(&self) -> MutexGuard<'_, HubState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One node's view of a [`MemoryHub`].
#[derive(Debug, Clone)]
pub struct MemoryNetwork {
    hub: MemoryHub,
    peer: PeerId,
}

impl MemoryNetwork {
    fn address_of(peer: PeerId) -> Address {
        #[expect(clippy::expect_used, reason = "a peer id has 52 characters")]
        Address::new(format!("/memory/{peer}")).expect("short")
    }

    fn unreachable(peer: PeerId, reason: &str) -> NetworkError {
        NetworkError::Unreachable {
            peer,
            reason: reason.to_owned(),
        }
    }

    fn connect(&self, peer: PeerId) -> Result<(), NetworkError> {
        let mut state = self.hub.lock();
        if !state.nodes.contains_key(&self.peer) {
            return Err(NetworkError::Closed);
        }
        let pair = key(self.peer, peer);
        if peer == self.peer || !state.nodes.contains_key(&peer) || state.cut.contains(&pair) {
            return Err(Self::unreachable(peer, "nobody answers"));
        }
        state.links.entry(pair).or_insert_with(|| {
            let (close, closed) = oneshot::channel();
            Link {
                closed: closed.shared(),
                bytes: Default::default(),
                _close: close,
            }
        });
        Ok(())
    }

    /// Both ends of a new stream to a connected peer; the far one has been handed over.
    fn open_now(&self, peer: PeerId, protocol: Protocol) -> Result<MessageStream, NetworkError> {
        let mut state = self.hub.lock();
        let HubState { nodes, links, .. } = &mut *state;
        if !nodes.contains_key(&self.peer) {
            return Err(NetworkError::Closed);
        }
        let pair = key(self.peer, peer);
        let link = links
            .get(&pair)
            .ok_or_else(|| Self::unreachable(peer, "not connected"))?;
        let taker = nodes
            .get_mut(&peer)
            .and_then(|node| node.served.get_mut(protocol.name));
        let taker = taker.ok_or(NetworkError::NotSpoken {
            peer,
            protocol: protocol.name,
        })?;
        let [forth, back] = &link.bytes;
        let (forth, back) = if pair.0 == self.peer {
            (forth, back)
        } else {
            (back, forth)
        };
        let half = |peer, (to, from), bytes: (&Arc<AtomicU64>, &Arc<AtomicU64>)| MessageStream {
            peer,
            sender: Box::new(MemorySender {
                peer,
                protocol,
                to,
                bytes: Arc::clone(bytes.0),
                closed: link.closed.clone(),
            }),
            receiver: Box::new(MemoryReceiver {
                peer,
                from,
                closed: Some(link.closed.clone()),
            }),
        };
        let ((to_there, there), (to_here, here)) = (mpsc::channel(IN_FLIGHT), mpsc::channel(IN_FLIGHT));
        taker
            .try_send(half(self.peer, (to_here, there), (back, forth)))
            .map_err(|_full| NetworkError::Busy(format!("{peer} takes no more streams now")))?;
        Ok(half(peer, (to_there, here), (forth, back)))
    }
}

struct MemorySender {
    peer: PeerId,
    protocol: Protocol,
    to: mpsc::Sender<Vec<u8>>,
    bytes: Arc<AtomicU64>,
    closed: Closed,
}

impl MessageSender for MemorySender {
    fn send(&mut self, message: Vec<u8>) -> BoxFuture<'_, Result<(), NetworkError>> {
        boxed(async move {
            let (bytes, limit) = (message.len() as u64, self.protocol.longest);
            if message.len() > limit {
                return Err(NetworkError::TooLong {
                    bytes,
                    limit,
                    protocol: self.protocol.name,
                });
            }
            match future::select(self.closed.clone(), self.to.send(message)).await {
                Either::Right((Ok(()), _)) => {
                    self.bytes.fetch_add(bytes, Ordering::Relaxed);
                    Ok(())
                }
                _ => Err(broken(self.peer)),
            }
        })
    }
}

struct MemoryReceiver {
    peer: PeerId,
    from: mpsc::Receiver<Vec<u8>>,
    /// Gone after an error: nothing follows it.
    closed: Option<Closed>,
}

impl MessageReceiver for MemoryReceiver {
    fn next(&mut self) -> BoxFuture<'_, Option<Result<Vec<u8>, NetworkError>>> {
        boxed(async move {
            let closed = self.closed.clone()?;
            match future::select(closed, self.from.next()).await {
                Either::Right((message, _)) => message.map(Ok),
                Either::Left(_) => {
                    self.closed = None;
                    Some(Err(broken(self.peer)))
                }
            }
        })
    }
}

fn broken(peer: PeerId) -> NetworkError {
    NetworkError::Broken {
        peer,
        reason: "the connection is gone".to_owned(),
    }
}

struct MemoryIncoming {
    hub: MemoryHub,
    peer: PeerId,
    protocol: &'static str,
    from: mpsc::Receiver<MessageStream>,
}

impl Incoming for MemoryIncoming {
    fn next(&mut self) -> BoxFuture<'_, Option<MessageStream>> {
        boxed(self.from.next())
    }
}

impl Drop for MemoryIncoming {
    fn drop(&mut self) {
        if let Some(node) = self.hub.lock().nodes.get_mut(&self.peer) {
            // A node that has joined again may serve it anew: only what no receiver is left for is taken away.
            self.from.close();
            let stale = node
                .served
                .get(self.protocol)
                .is_some_and(mpsc::Sender::is_closed);
            if stale {
                node.served.remove(self.protocol);
            }
        }
    }
}

impl Network for MemoryNetwork {
    fn local_peer(&self) -> PeerId {
        self.peer
    }

    fn addresses(&self) -> Vec<Address> {
        Address::new(format!("/memory/{0}/p2p/{0}", self.peer))
            .into_iter()
            .collect()
    }

    fn peers(&self) -> Vec<PeerInfo> {
        let state = self.hub.lock();
        let ours = state
            .links
            .iter()
            .filter(|((one, other), _)| *one == self.peer || *other == self.peer);
        ours.map(|((one, other), link)| {
            let [forth, back] = link.bytes.each_ref().map(|bytes| bytes.load(Ordering::Relaxed));
            let (peer, sent, received) = if *one == self.peer {
                (*other, forth, back)
            } else {
                (*one, back, forth)
            };
            PeerInfo {
                peer,
                address: Self::address_of(peer),
                reach: Reach::Direct,
                sent,
                received,
            }
        })
        .collect()
    }

    fn dial(&self, peer: PeerId, _addresses: Vec<Address>) -> BoxFuture<'_, Result<(), NetworkError>> {
        boxed(future::ready(self.connect(peer)))
    }

    fn disconnect(&self, peer: PeerId) {
        self.hub.lock().links.remove(&key(self.peer, peer));
    }

    fn open(&self, peer: PeerId, protocol: Protocol) -> BoxFuture<'_, Result<MessageStream, NetworkError>> {
        boxed(future::ready(self.open_now(peer, protocol)))
    }

    fn serve(&self, protocol: Protocol) -> Result<Box<dyn Incoming>, NetworkError> {
        let mut state = self.hub.lock();
        let node = state.nodes.get_mut(&self.peer).ok_or(NetworkError::Closed)?;
        if node.served.contains_key(protocol.name) {
            return Err(NetworkError::AlreadyServed(protocol.name));
        }
        let (to, from) = mpsc::channel(UNTAKEN);
        node.served.insert(protocol.name, to);
        let (hub, peer) = (self.hub.clone(), self.peer);
        Ok(Box::new(MemoryIncoming {
            hub,
            peer,
            protocol: protocol.name,
            from,
        }))
    }

    fn publish(&self, key: RecordKey, record: Vec<u8>) -> BoxFuture<'_, Result<(), NetworkError>> {
        boxed(async move {
            let mut state = self.hub.lock();
            if !state.nodes.contains_key(&self.peer) {
                return Err(NetworkError::Closed);
            }
            let kept = state.records.entry(key).or_default();
            if kept.len() >= RECORDS && !kept.contains_key(&self.peer) {
                return Err(NetworkError::Busy(
                    "nobody takes more records under this key".to_owned(),
                ));
            }
            kept.insert(self.peer, record);
            Ok(())
        })
    }

    fn find(&self, key: RecordKey, limit: usize) -> BoxFuture<'_, Result<Vec<Vec<u8>>, NetworkError>> {
        boxed(async move {
            let state = self.hub.lock();
            if !state.nodes.contains_key(&self.peer) {
                return Err(NetworkError::Closed);
            }
            let kept = state.records.get(&key).into_iter().flat_map(BTreeMap::values);
            Ok(kept.take(limit).cloned().collect())
        })
    }
}

#[cfg(test)]
mod tests {
    use futures::executor::block_on;

    use super::*;

    const ECHO: Protocol = Protocol {
        name: "/test/echo/1",
        longest: 1 << 10,
    };

    fn two() -> (MemoryHub, MemoryNetwork, MemoryNetwork) {
        let hub = MemoryHub::default();
        let [one, other] = [1, 2].map(|seed| hub.join(&Keypair::from_seed([seed; 32])));
        (hub, one, other)
    }

    /// A stream from the first to the second, both ends.
    fn stream(one: &MemoryNetwork, other: &MemoryNetwork) -> (MessageStream, MessageStream) {
        let mut incoming = other.serve(ECHO).unwrap();
        block_on(one.dial(other.peer, vec![])).unwrap();
        let near = block_on(one.open(other.peer, ECHO)).unwrap();
        (near, block_on(incoming.next()).unwrap())
    }

    #[test]
    fn messages_arrive_in_order_and_are_counted_on_both_sides() {
        let (_hub, one, other) = two();
        let (mut near, mut far) = stream(&one, &other);
        assert_eq!((near.peer, far.peer), (other.peer, one.peer));
        block_on(near.sender.send(vec![1; 10])).unwrap();
        block_on(near.sender.send(vec![2])).unwrap();
        assert_eq!(block_on(far.receiver.next()), Some(Ok(vec![1; 10])));
        assert_eq!(block_on(far.receiver.next()), Some(Ok(vec![2])));
        drop(near.sender);
        assert_eq!(block_on(far.receiver.next()), None);
        assert_eq!((one.peers()[0].sent, one.peers()[0].received), (11, 0));
        assert_eq!((other.peers()[0].sent, other.peers()[0].received), (0, 11));
    }

    #[test]
    fn a_reader_that_does_not_read_holds_the_sender_up() {
        let (_hub, one, other) = two();
        let (mut near, far) = stream(&one, &other);
        let sent = (0..1000)
            .take_while(|_| near.sender.send(vec![0]).now_or_never().is_some())
            .count();
        assert!((IN_FLIGHT..2 * IN_FLIGHT).contains(&sent), "{sent}");
        drop(far);
        assert!(matches!(
            block_on(near.sender.send(vec![0])),
            Err(NetworkError::Broken { .. })
        ));
    }

    #[test]
    fn a_message_that_is_too_long_is_refused_before_it_is_sent() {
        let (_hub, one, other) = two();
        let (mut near, _far) = stream(&one, &other);
        let error = block_on(near.sender.send(vec![0; 1025])).unwrap_err();
        assert_eq!(
            error,
            NetworkError::TooLong {
                bytes: 1025,
                limit: 1024,
                protocol: ECHO.name
            }
        );
    }

    #[test]
    fn a_node_that_leaves_breaks_its_streams_and_cannot_be_dialled() {
        let (hub, one, other) = two();
        let (mut near, _far) = stream(&one, &other);
        hub.leave(other.peer);
        assert!(matches!(
            block_on(near.receiver.next()),
            Some(Err(NetworkError::Broken { .. }))
        ));
        assert_eq!(block_on(near.receiver.next()), None);
        assert!(matches!(
            block_on(one.dial(other.peer, vec![])),
            Err(NetworkError::Unreachable { .. })
        ));
        assert_eq!(block_on(other.dial(one.peer, vec![])), Err(NetworkError::Closed));
    }

    #[test]
    fn a_cut_is_mended() {
        let (hub, one, other) = two();
        let _streams = stream(&one, &other);
        hub.cut(one.peer, other.peer);
        assert!(one.peers().is_empty());
        assert!(block_on(one.dial(other.peer, vec![])).is_err());
        hub.mend(one.peer, other.peer);
        assert_eq!(block_on(one.dial(other.peer, vec![])), Ok(()));
    }

    #[test]
    fn a_protocol_is_served_once_and_again_when_it_was_dropped() {
        let (_hub, one, other) = two();
        let incoming = other.serve(ECHO).unwrap();
        assert!(matches!(other.serve(ECHO), Err(NetworkError::AlreadyServed(_))));
        drop(incoming);
        block_on(one.dial(other.peer, vec![])).unwrap();
        assert!(matches!(
            block_on(one.open(other.peer, ECHO)),
            Err(NetworkError::NotSpoken { .. })
        ));
        assert!(other.serve(ECHO).is_ok());
    }

    #[test]
    fn a_publisher_has_one_record_under_a_key() {
        let (_hub, one, other) = two();
        let key = RecordKey([9; 32]);
        for record in [vec![1], vec![2]] {
            block_on(one.publish(key, record)).unwrap();
        }
        block_on(other.publish(key, vec![3])).unwrap();
        assert_eq!(block_on(one.find(key, 10)).unwrap().len(), 2);
        assert_eq!(block_on(one.find(key, 1)).unwrap().len(), 1);
        assert!(block_on(one.find(RecordKey([8; 32]), 10)).unwrap().is_empty());
    }
}
