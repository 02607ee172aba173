//! The one task that owns libp2p's swarm: it does what handles ask, and notes what happens.

mod events;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use futures::channel::{mpsc, oneshot};
use futures::{FutureExt, StreamExt};
use kwaainet_network::{Keypair, NetworkError, PeerId};
use kwaainet_platform::{BoxFuture, Clock, boxed};
use libp2p::allow_block_list::NotAllowed;
use libp2p::core::transport::timeout::TransportTimeout;
use libp2p::core::transport::{OrTransport, upgrade};
use libp2p::core::{ConnectedPoint, Transport};
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::swarm::{ConnectionId, DialError};
use libp2p::{Multiaddr, Swarm, kad, noise, relay, swarm};

use crate::behaviour::Behaviour;
use crate::gate::Gate;
use crate::ids;
use crate::network::{Contact, Nearest, Parts, Setup, Spawn};
use crate::places::{Lost, Places};
use crate::state::Shared;
use crate::substreams::{OpenReply, Served};

/// A connection without streams is closed after this, unless the host says otherwise.
const IDLE: Duration = Duration::from_secs(60);
/// From the first packet to a connection that is encrypted and can carry streams. Without it a socket that says nothing
/// would be kept for ever. AutoNAT gives an answer 10 s: who cannot be called must be told so in time.
const HANDSHAKE: Duration = Duration::from_secs(8);
/// When relays are asked for a place again, after none had one.
const REST: Duration = Duration::from_secs(15);

type DialReply = oneshot::Sender<Result<(), String>>;
type ClosestReply = oneshot::Sender<Nearest>;

/// A connection that a handle asks for.
#[derive(Debug)]
pub(crate) struct Dial {
    pub(crate) peer: libp2p::PeerId,
    pub(crate) at: Vec<Multiaddr>,
    pub(crate) reply: oneshot::Sender<Result<(), String>>,
}

/// What a handle asks.
#[derive(Debug)]
pub(crate) enum Command {
    Dial(Dial),
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
    connections: HashMap<ConnectionId, Connection>,
    /// Peers that have told what they speak, and how they see us.
    introduced: HashSet<libp2p::PeerId>,
    /// Dials through a relay that is still to introduce itself.
    waiting: Vec<(libp2p::PeerId, Dial)>,
    contact: Contact,
    clock: Arc<dyn Clock>,
    /// `None` for who needs no place: a relay, and who is not called.
    places: Option<Places>,
    /// Until relays are asked again.
    rest: Option<BoxFuture<'static, ()>>,
}

/// One of the connections with a peer.
struct Connection {
    peer: libp2p::PeerId,
    endpoint: ConnectedPoint,
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
        parts: Parts,
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
            .multiplex(crate::muxer())
            .boxed();
        let direct = match setup.contact {
            Contact::Relayed => Gate::new(parts.transport, Arc::clone(&shared)).boxed(),
            Contact::CallsOnly | Contact::Open => parts.transport,
        };
        let transport = OrTransport::new(through_relays, direct).map(|either, _| either.into_inner());
        let transport = TransportTimeout::new(transport, HANDSHAKE).boxed();
        let behaviour = Behaviour::new(&keypair, relayed, setup);
        let config = swarm::Config::with_executor(Executor(parts.spawn))
            .with_idle_connection_timeout(setup.idle.unwrap_or(IDLE));
        Ok(Self {
            swarm: Swarm::new(transport, behaviour, peer, config),
            orders,
            shared,
            dials: HashMap::new(),
            lookups: HashMap::new(),
            trips: Vec::new(),
            connections: HashMap::new(),
            introduced: HashSet::new(),
            waiting: Vec::new(),
            contact: setup.contact,
            clock: parts.clock,
            places: (setup.contact != Contact::CallsOnly && !setup.relays).then(Places::default),
            rest: None,
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
                () = rested(&mut self.rest).fuse() => {
                    self.rest = None;
                    self.ask_for_a_place();
                }
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
            Command::Dial(Dial { peer, at, reply }) => self.dial(peer, at, reply),
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
        if let Some(relay) = self.introduction(&at) {
            self.waiting.push((relay, Dial { peer, at, reply }));
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

    /// The relay to wait for, where all addresses lead through one. Both sides open their routers only if they know how
    /// others see them, which a relay tells when it introduces itself; libp2p tries that once, as soon as they are
    /// connected.
    fn introduction(&mut self, at: &[Multiaddr]) -> Option<libp2p::PeerId> {
        let first = ids::relay_of(at.first()?)?;
        let punches = cfg!(feature = "direct") && self.contact != Contact::Relayed;
        if !punches || !at.iter().all(ids::is_relayed) {
            return None;
        }
        let (relay, address) = first;
        if self.introduced.contains(&relay) {
            return None;
        }
        if !self.swarm.is_connected(&relay) {
            let options = DialOpts::peer_id(relay).addresses(vec![address]).build();
            match self.swarm.dial(options) {
                Ok(()) | Err(DialError::DialPeerConditionFalse(_)) => {}
                // The dial itself will say why.
                Err(_) => return None,
            }
        }
        Some(relay)
    }

    /// A relay has introduced itself, or is connected and never will.
    fn introduce(&mut self, relay: libp2p::PeerId) {
        self.introduced.insert(relay);
        for (_, dial) in self.waiting_for(relay) {
            self.dial(dial.peer, dial.at, dial.reply);
        }
    }

    /// There is no way to a relay; to whom it should have led there may be others.
    fn give_up(&mut self, relay: libp2p::PeerId, why: &str) {
        for (_, mut dial) in self.waiting_for(relay) {
            dial.at
                .retain(|at| ids::relay_of(at).is_some_and(|(through, _)| through != relay));
            if dial.at.is_empty() {
                drop(dial.reply.send(Err(why.to_owned())));
            } else {
                self.dial(dial.peer, dial.at, dial.reply);
            }
        }
    }

    fn waiting_for(&mut self, relay: libp2p::PeerId) -> Vec<(libp2p::PeerId, Dial)> {
        self.waiting.extract_if(.., |(of, _)| *of == relay).collect()
    }

    fn ask_for_a_place(&mut self) {
        while self.rest.is_none()
            && let Some(places) = &mut self.places
            && let Some(at) = places.next()
        {
            match self.swarm.listen_on(at) {
                Ok(place) => places.asked(place),
                Err(_) => {
                    let lost = places.refused();
                    self.place_lost(&lost);
                }
            }
        }
    }

    fn place_lost(&mut self, lost: &Lost) {
        match lost {
            Lost::Nothing => {}
            Lost::AskNext => self.rest = None,
            Lost::Rest => {
                let clock = Arc::clone(&self.clock);
                self.rest = Some(boxed(async move { clock.sleep(REST).await }));
            }
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
}

/// For ever, where there is no rest.
async fn rested(rest: &mut Option<BoxFuture<'static, ()>>) {
    match rest {
        Some(rest) => rest.await,
        None => std::future::pending().await,
    }
}

/// What a person can do something about.
fn why(error: &DialError) -> String {
    match error {
        DialError::NoAddresses => "no address of it is known".to_owned(),
        DialError::WrongPeerId { obtained, .. } => format!("{obtained} answers at its address"),
        DialError::LocalPeerId { .. } => "that is this node itself".to_owned(),
        DialError::Denied { cause } if cause.downcast_ref::<NotAllowed>().is_some() => {
            "it is none of those with whom this node may connect".to_owned()
        }
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
