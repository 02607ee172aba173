//! The one task that owns libp2p's swarm: it does what handles ask, and notes what happens.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::channel::{mpsc, oneshot};
use futures::{FutureExt, StreamExt};
use kwaainet_network::{Address, Keypair, NetworkError, PeerId, Reach};
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::timeout::TransportTimeout;
use libp2p::core::transport::{Boxed, OrTransport, upgrade};
use libp2p::core::{ConnectedPoint, Transport};
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, DialError, SwarmEvent};
use libp2p::{Multiaddr, Swarm, identify, kad, noise, ping, relay, swarm, yamux};

use crate::behaviour::{Behaviour, BehaviourEvent, KAD};
use crate::ids;
use crate::network::{Setup, Spawn};
use crate::state::{Connected, Shared};
use crate::substreams::{OpenReply, Served};

/// A connection without streams is closed after this, unless the host says otherwise.
const IDLE: Duration = Duration::from_secs(60);
/// From the first packet to a connection that is encrypted and can carry streams. Without it a socket that says nothing
/// would be kept for ever.
const HANDSHAKE: Duration = Duration::from_secs(8);
/// Addresses that a peer may say it listens at.
const MOST_ADDRESSES: usize = 8;

type DialReply = oneshot::Sender<Result<(), String>>;
type ClosestReply = oneshot::Sender<Vec<(PeerId, Vec<Address>)>>;

/// What a handle asks.
#[derive(Debug)]
pub(crate) enum Command {
    Dial {
        peer: libp2p::PeerId,
        at: Vec<Multiaddr>,
        reply: DialReply,
    },
    Disconnect {
        peer: libp2p::PeerId,
    },
    Listen {
        at: Multiaddr,
        reply: oneshot::Sender<Result<(), String>>,
    },
    Open {
        to: libp2p::PeerId,
        peer: PeerId,
        protocol: &'static str,
        reply: OpenReply,
    },
    /// The next round trip that libp2p's ping measures.
    RoundTrip {
        peer: libp2p::PeerId,
        reply: oneshot::Sender<Duration>,
    },
    Closest {
        key: Vec<u8>,
        reply: ClosestReply,
    },
}

pub(crate) struct Driver {
    swarm: Swarm<Behaviour>,
    orders: mpsc::Receiver<Command>,
    shared: Arc<Shared>,
    dials: HashMap<ConnectionId, (libp2p::PeerId, Vec<DialReply>)>,
    lookups: HashMap<kad::QueryId, ClosestReply>,
    trips: Vec<(libp2p::PeerId, oneshot::Sender<Duration>)>,
}

struct Executor(Spawn);

impl swarm::Executor for Executor {
    fn exec(&self, future: std::pin::Pin<Box<dyn Future<Output = ()> + 'static + Send>>) {
        (self.0)(future);
    }
}

impl Driver {
    pub(crate) fn new(
        keypair: &Keypair,
        setup: &Setup,
        transport: Boxed<(libp2p::PeerId, StreamMuxerBox)>,
        spawn: &Spawn,
        orders: mpsc::Receiver<Command>,
        shared: Arc<Shared>,
    ) -> Result<Self, NetworkError> {
        let keypair = ids::keypair(keypair).ok_or(NetworkError::Closed)?;
        let peer = keypair.public().to_peer_id();
        let (through_relays, relayed) = relay::client::new(peer);
        let noise = noise::Config::new(&keypair).map_err(|_| NetworkError::Closed)?;
        let through_relays = through_relays
            .upgrade(upgrade::Version::V1Lazy)
            .authenticate(noise)
            .multiplex(yamux::Config::default())
            .boxed();
        let transport = OrTransport::new(through_relays, transport).map(|either, _| either.into_inner());
        let transport = TransportTimeout::new(transport, HANDSHAKE).boxed();
        let behaviour = Behaviour::new(&keypair, relayed, setup);
        let config = swarm::Config::with_executor(Executor(Arc::clone(spawn)))
            .with_idle_connection_timeout(setup.idle.unwrap_or(IDLE));
        Ok(Self {
            swarm: Swarm::new(transport, behaviour, peer, config),
            orders,
            shared,
            dials: HashMap::new(),
            lookups: HashMap::new(),
            trips: Vec::new(),
        })
    }

    /// What is served, for the handles.
    pub(crate) fn served(&self) -> Served {
        self.swarm.behaviour().streams.served()
    }

    /// Runs until every handle is dropped.
    pub(crate) async fn run(mut self) {
        loop {
            futures::select_biased! {
                order = self.orders.next() => match order {
                    Some(order) => self.obey(order),
                    None => break,
                },
                event = self.swarm.select_next_some().fuse() => self.note(event),
            }
        }
        self.served().end();
        let mut state = self.shared.lock();
        state.closed = true;
        state.peers.clear();
    }

    fn obey(&mut self, order: Command) {
        match order {
            Command::Dial { peer, at, reply } => self.dial(peer, at, reply),
            Command::Disconnect { peer } => drop(self.swarm.disconnect_peer_id(peer)),
            Command::Listen { at, reply } => {
                let said = self
                    .swarm
                    .listen_on(at)
                    .map(drop)
                    .map_err(|error| error.to_string());
                drop(reply.send(said));
            }
            Command::Open {
                to,
                peer,
                protocol,
                reply,
            } => {
                self.swarm.behaviour_mut().streams.open(to, peer, protocol, reply);
            }
            Command::RoundTrip { peer, reply } => {
                // Those who have stopped waiting are many only if somebody asks much and waits little.
                self.trips.retain(|(_, reply)| !reply.is_canceled());
                self.trips.push((peer, reply));
            }
            Command::Closest { key, reply } => {
                let query = self.swarm.behaviour_mut().kad.get_closest_peers(key);
                self.lookups.insert(query, reply);
            }
        }
    }

    fn dial(&mut self, peer: libp2p::PeerId, at: Vec<Multiaddr>, reply: DialReply) {
        if self.swarm.is_connected(&peer) {
            drop(reply.send(Ok(())));
            return;
        }
        if let Some((_, waiting)) = self.dials.values_mut().find(|(to, _)| *to == peer) {
            waiting.push(reply);
            return;
        }
        let options = DialOpts::peer_id(peer)
            .addresses(at)
            .extend_addresses_through_behaviour()
            // Another behaviour may be dialling it too; ours has the addresses.
            .condition(PeerCondition::Disconnected)
            .build();
        let id = options.connection_id();
        match self.swarm.dial(options) {
            Ok(()) => drop(self.dials.insert(id, (peer, vec![reply]))),
            Err(error) => drop(reply.send(Err(why(&error)))),
        }
    }

    fn answer_dials(
        &mut self,
        which: impl Fn(ConnectionId, libp2p::PeerId) -> bool,
        said: &Result<(), String>,
    ) {
        self.dials.retain(|id, (peer, replies)| {
            let answered = which(*id, *peer);
            if answered {
                for reply in replies.drain(..) {
                    drop(reply.send(said.clone()));
                }
            }
            !answered
        });
    }

    fn note(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::ConnectionEstablished {
                peer_id, endpoint, ..
            } => {
                self.connected(&peer_id, &endpoint);
                self.answer_dials(|_, peer| peer == peer_id, &Ok(()));
            }
            SwarmEvent::ConnectionClosed {
                peer_id,
                num_established: 0,
                ..
            } => {
                if let Some(peer) = ids::ours(&peer_id) {
                    self.shared.lock().peers.remove(&peer);
                }
            }
            SwarmEvent::OutgoingConnectionError {
                connection_id, error, ..
            } => {
                self.answer_dials(|id, _| id == connection_id, &Err(why(&error)));
            }
            SwarmEvent::NewListenAddr { address, .. } => {
                // On this host's own networks it is where others reach us; whoever is behind a router asks a relay.
                self.swarm.add_external_address(address.clone());
                if let Some(address) = ids::address(&without_peer(address)) {
                    self.shared.lock().listening.push(address);
                }
            }
            SwarmEvent::ExpiredListenAddr { address, .. } => self.unlisten(address),
            // A relay that vanishes takes the addresses with it that lead through it.
            SwarmEvent::ListenerClosed { addresses, .. } => {
                for address in addresses {
                    self.unlisten(address);
                }
            }
            SwarmEvent::Behaviour(BehaviourEvent::Identify(identify::Event::Received {
                peer_id,
                info,
                ..
            })) => {
                self.learn(&peer_id, info);
            }
            SwarmEvent::Behaviour(BehaviourEvent::Ping(ping::Event {
                peer,
                result: Ok(trip),
                ..
            })) => {
                for (_, reply) in self.trips.extract_if(.., |(of, _)| *of == peer) {
                    let _ = reply.send(trip);
                }
            }
            SwarmEvent::Behaviour(BehaviourEvent::Kad(kad::Event::OutboundQueryProgressed {
                id,
                result: kad::QueryResult::GetClosestPeers(result),
                step,
                ..
            })) if step.last => self.found(id, result),
            _ => {}
        }
    }

    fn unlisten(&mut self, address: Multiaddr) {
        self.swarm.remove_external_address(&address);
        if let Some(address) = ids::address(&without_peer(address)) {
            self.shared.lock().listening.retain(|known| *known != address);
        }
    }

    fn connected(&mut self, peer: &libp2p::PeerId, endpoint: &ConnectedPoint) {
        let (Some(peer), Some(address)) = (ids::ours(peer), ids::address(endpoint.get_remote_address()))
        else {
            return;
        };
        let reach = if endpoint.is_relayed() {
            Reach::Relayed
        } else {
            Reach::Direct
        };
        let mut state = self.shared.lock();
        let traffic = state.traffic(peer);
        let connected = Connected {
            address,
            reach,
            traffic,
        };
        // A direct connection beside a relayed one is the one that is used.
        let keep = state
            .peers
            .get(&peer)
            .is_some_and(|known| known.reach == Reach::Direct);
        if !keep {
            state.peers.insert(peer, connected);
        }
    }

    /// A peer says where it listens, on a connection that proves who it is. Only those who route are worth knowing.
    fn learn(&mut self, peer: &libp2p::PeerId, info: identify::Info) {
        if ids::ours(peer).is_none() || !info.protocols.contains(&KAD) {
            return;
        }
        for address in info.listen_addrs.into_iter().take(MOST_ADDRESSES) {
            self.swarm.behaviour_mut().kad.add_address(peer, address);
        }
    }

    fn found(&mut self, query: kad::QueryId, result: kad::GetClosestPeersResult) {
        let Some(reply) = self.lookups.remove(&query) else {
            return;
        };
        let peers = match result {
            Ok(found) => found.peers,
            Err(kad::GetClosestPeersError::Timeout { peers, .. }) => peers,
        };
        let known = |info: kad::PeerInfo| {
            let addresses = info.addrs.iter().take(MOST_ADDRESSES).filter_map(ids::address);
            Some((ids::ours(&info.peer_id)?, addresses.collect()))
        };
        drop(reply.send(peers.into_iter().filter_map(known).collect()));
    }
}

fn without_peer(mut address: Multiaddr) -> Multiaddr {
    if let Some(libp2p::multiaddr::Protocol::P2p(_)) = address.iter().last() {
        address.pop();
    }
    address
}

/// What a person can do something about.
fn why(error: &DialError) -> String {
    match error {
        DialError::NoAddresses => "no address of it is known".to_owned(),
        DialError::WrongPeerId { obtained, .. } => format!("{obtained} answers at its address"),
        DialError::LocalPeerId { .. } => "that is this node itself".to_owned(),
        DialError::Transport(tried) => {
            let said = tried
                .iter()
                .take(3)
                .map(|(at, error)| format!("{at}: {}", root(error)));
            said.collect::<Vec<_>>().join("; ")
        }
        other => root(other),
    }
}

/// An error's innermost cause: the layers above it say the same with more words.
fn root(error: &dyn std::error::Error) -> String {
    let mut inner = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string().replace('\n', " ")
}
