//! Streams of our own protocols, in and out of every connection.
//!
//! `libp2p-stream` does this too, and drops every stream that comes while the one before it is still being taken: of fifty
//! that a peer opened at once some were lost. Here as many wait as [`UNTAKEN`] says, for each protocol.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use futures::channel::{mpsc, oneshot};
use futures::future::{Ready, ready};
use kwaainet_network::{NetworkError, PeerId};
use libp2p::Multiaddr;
use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::core::upgrade::{InboundUpgrade, OutboundUpgrade, UpgradeInfo};
use libp2p::swarm::handler::{
    ConnectionEvent, DialUpgradeError, FullyNegotiatedInbound, FullyNegotiatedOutbound,
};
use libp2p::swarm::{
    ConnectionClosed, ConnectionDenied, ConnectionHandler, ConnectionHandlerEvent, ConnectionId, FromSwarm,
    NetworkBehaviour, NotifyHandler, Stream, StreamProtocol, StreamUpgradeError, SubstreamProtocol, THandler,
    THandlerInEvent, THandlerOutEvent, ToSwarm,
};

use crate::ids;

/// Streams that a peer opened and nobody has taken yet, per protocol. What comes on top is dropped.
const UNTAKEN: usize = 64;

/// Answers who asked for a stream.
pub(crate) type OpenReply = oneshot::Sender<Result<Stream, NetworkError>>;
/// Who opened it, and the stream.
pub(crate) type Opened = (PeerId, Stream);

/// What this node serves; handles and connections share it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Served(Arc<Mutex<BTreeMap<&'static str, mpsc::Sender<Opened>>>>);

impl Served {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<&'static str, mpsc::Sender<Opened>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Streams of a protocol from now on, until they are dropped.
    pub(crate) fn begin(&self, protocol: &'static str) -> Result<mpsc::Receiver<Opened>, NetworkError> {
        let mut served = self.lock();
        served.retain(|_, to| !to.is_closed());
        if served.contains_key(protocol) {
            return Err(NetworkError::AlreadyServed(protocol));
        }
        let (to, from) = mpsc::channel(UNTAKEN);
        served.insert(protocol, to);
        Ok(from)
    }

    fn names(&self) -> Vec<StreamProtocol> {
        let served = self.lock();
        let open = served.iter().filter(|(_, to)| !to.is_closed());
        open.map(|(name, _)| StreamProtocol::new(name)).collect()
    }

    fn hand_over(&self, protocol: &StreamProtocol, opened: Opened) {
        if let Some(to) = self.lock().get_mut(protocol.as_ref()) {
            // A peer that opens more than anybody takes loses them.
            drop(to.try_send(opened));
        }
    }

    /// The node has left: nothing comes in any more.
    pub(crate) fn end(&self) {
        self.lock().clear();
    }
}

/// The behaviour. It dials nobody.
#[derive(Debug, Default)]
pub(crate) struct Substreams {
    served: Served,
    connections: HashMap<libp2p::PeerId, Vec<ConnectionId>>,
    orders: VecDeque<(libp2p::PeerId, ConnectionId, Order)>,
}

/// A stream that a handle asks for.
#[derive(Debug)]
pub(crate) struct Order {
    peer: PeerId,
    protocol: &'static str,
    reply: OpenReply,
}

impl Substreams {
    pub(crate) fn served(&self) -> Served {
        self.served.clone()
    }

    /// Opens a stream on the newest connection to a peer, a direct one where there is one: where two are left of one
    /// dialled by both, the older may be about to close.
    pub(crate) fn open(
        &mut self,
        to: libp2p::PeerId,
        peer: PeerId,
        protocol: &'static str,
        reply: OpenReply,
    ) {
        match self.connections.get(&to).and_then(|all| all.last()) {
            Some(connection) => self.orders.push_back((
                to,
                *connection,
                Order {
                    peer,
                    protocol,
                    reply,
                },
            )),
            None => {
                let reason = "it is not connected".to_owned();
                drop(reply.send(Err(NetworkError::Unreachable { peer, reason })));
            }
        }
    }
}

impl NetworkBehaviour for Substreams {
    type ConnectionHandler = Handler;
    type ToSwarm = Infallible;

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        peer: libp2p::PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::new(&peer, self.served.clone()))
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        peer: libp2p::PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(Handler::new(&peer, self.served.clone()))
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(established) => {
                let known = self.connections.entry(established.peer_id).or_default();
                if established.endpoint.is_relayed() {
                    // For as long as there is no direct one.
                    known.insert(0, established.connection_id);
                } else {
                    known.push(established.connection_id);
                }
            }
            FromSwarm::ConnectionClosed(ConnectionClosed {
                peer_id,
                connection_id,
                ..
            }) => {
                if let Some(known) = self.connections.get_mut(&peer_id) {
                    known.retain(|one| *one != connection_id);
                    if known.is_empty() {
                        self.connections.remove(&peer_id);
                    }
                }
            }
            _ => {}
        }
    }

    fn on_connection_handler_event(
        &mut self,
        _: libp2p::PeerId,
        _: ConnectionId,
        never: THandlerOutEvent<Self>,
    ) {
        match never {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        // `open` is called by the task that polls the swarm, just before it polls: nobody need be woken.
        match self.orders.pop_front() {
            Some((peer_id, connection, event)) => Poll::Ready(ToSwarm::NotifyHandler {
                peer_id,
                handler: NotifyHandler::One(connection),
                event,
            }),
            None => Poll::Pending,
        }
    }
}

/// One connection's streams.
#[derive(Debug)]
pub(crate) struct Handler {
    /// `None` for a peer whose key is not Ed25519: it gets no streams.
    peer: Option<PeerId>,
    served: Served,
    orders: VecDeque<Order>,
}

impl Handler {
    fn new(peer: &libp2p::PeerId, served: Served) -> Self {
        Self {
            peer: ids::ours(peer),
            served,
            orders: VecDeque::new(),
        }
    }
}

/// The protocols of one stream, of which the negotiation picks one.
#[derive(Debug, Clone)]
pub(crate) struct AnyOf(Vec<StreamProtocol>);

impl UpgradeInfo for AnyOf {
    type Info = StreamProtocol;
    type InfoIter = std::vec::IntoIter<StreamProtocol>;

    fn protocol_info(&self) -> Self::InfoIter {
        self.0.clone().into_iter()
    }
}

impl InboundUpgrade<Stream> for AnyOf {
    type Output = (StreamProtocol, Stream);
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_inbound(self, stream: Stream, protocol: StreamProtocol) -> Self::Future {
        ready(Ok((protocol, stream)))
    }
}

impl OutboundUpgrade<Stream> for AnyOf {
    type Output = Stream;
    type Error = Infallible;
    type Future = Ready<Result<Self::Output, Infallible>>;

    fn upgrade_outbound(self, stream: Stream, _: StreamProtocol) -> Self::Future {
        ready(Ok(stream))
    }
}

impl ConnectionHandler for Handler {
    type FromBehaviour = Order;
    type ToBehaviour = Infallible;
    type InboundProtocol = AnyOf;
    type OutboundProtocol = AnyOf;
    type InboundOpenInfo = ();
    type OutboundOpenInfo = Order;

    fn listen_protocol(&self) -> SubstreamProtocol<AnyOf> {
        let served = self.peer.map(|_| self.served.names());
        SubstreamProtocol::new(AnyOf(served.unwrap_or_default()), ())
    }

    fn on_behaviour_event(&mut self, order: Order) {
        self.orders.push_back(order);
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ConnectionHandlerEvent<AnyOf, Order, Infallible>> {
        // Orders come by `on_behaviour_event`, after which libp2p polls.
        match self.orders.pop_front() {
            Some(order) => {
                let protocol = AnyOf(vec![StreamProtocol::new(order.protocol)]);
                let protocol = SubstreamProtocol::new(protocol, order);
                Poll::Ready(ConnectionHandlerEvent::OutboundSubstreamRequest { protocol })
            }
            None => Poll::Pending,
        }
    }

    fn on_connection_event(&mut self, event: ConnectionEvent<'_, AnyOf, AnyOf, (), Order>) {
        match event {
            ConnectionEvent::FullyNegotiatedInbound(FullyNegotiatedInbound {
                protocol: (name, stream),
                ..
            }) => {
                if let Some(peer) = self.peer {
                    self.served.hand_over(&name, (peer, stream));
                }
            }
            ConnectionEvent::FullyNegotiatedOutbound(FullyNegotiatedOutbound { protocol, info }) => {
                drop(info.reply.send(Ok(protocol)));
            }
            ConnectionEvent::DialUpgradeError(DialUpgradeError {
                info:
                    Order {
                        peer,
                        protocol,
                        reply,
                    },
                error,
            }) => {
                let error = match error {
                    StreamUpgradeError::NegotiationFailed => NetworkError::NotSpoken { peer, protocol },
                    StreamUpgradeError::Timeout => broken(peer, "it does not answer"),
                    StreamUpgradeError::Io(error) => broken(peer, &error.to_string()),
                    StreamUpgradeError::Apply(never) => match never {},
                };
                drop(reply.send(Err(error)));
            }
            _ => {}
        }
    }
}

fn broken(peer: PeerId, reason: &str) -> NetworkError {
    NetworkError::Broken {
        peer,
        reason: reason.to_owned(),
    }
}
