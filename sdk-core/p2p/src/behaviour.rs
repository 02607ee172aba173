//! What a node speaks with every peer.

use std::num::{NonZeroU32, NonZeroUsize};
use std::time::Duration;

use kwaainet_network::PeerId;
use libp2p::allow_block_list::{self, AllowedPeers};
use libp2p::swarm::NetworkBehaviour;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::{StreamProtocol, identify, identity, kad, ping, relay};

use crate::crowd::{CONNECTIONS, Crowd, WITH_ONE_PEER};
#[cfg(feature = "direct")]
use crate::direct::Direct;
use crate::doorstep::Doorstep;
use crate::ids;
use crate::network::{Contact, Setup};
use crate::substreams::Substreams;

/// What we call ourselves to other peers.
pub const AGENT: &str = concat!("kwaainet/", env!("CARGO_PKG_VERSION"));
/// A routing table of our own: peers of other networks cannot serve us, and need not know us.
pub(crate) const KAD: StreamProtocol = StreamProtocol::new("/kwaainet/kad/1.0.0");

/// Often enough to keep a router's table of connections warm, and what libp2p does by itself.
const PING: Duration = Duration::from_secs(15);
/// A lookup makes do with those that have answered by then. Peers that are gone cost a lookup 8 seconds each time, and those
/// that are there have answered long before (95 % of targets in 2 seconds, docs/scale.md). A search, which lasts 10 seconds at
/// most, has time left to ask them.
const LOOKUP: Duration = Duration::from_secs(5);

#[derive(NetworkBehaviour)]
pub(crate) struct Behaviour {
    pub(crate) crowd: Crowd,
    pub(crate) doorstep: Doorstep,
    pub(crate) allowed: Toggle<allow_block_list::Behaviour<AllowedPeers>>,
    pub(crate) identify: identify::Behaviour,
    pub(crate) ping: ping::Behaviour,
    pub(crate) kad: kad::Behaviour<kad::store::MemoryStore>,
    pub(crate) relayed: relay::client::Behaviour,
    pub(crate) relay: Toggle<relay::Behaviour>,
    #[cfg(feature = "direct")]
    pub(crate) direct: Direct,
    pub(crate) streams: Substreams,
}

impl Behaviour {
    pub(crate) fn new(keypair: &identity::Keypair, relayed: relay::client::Behaviour, setup: &Setup) -> Self {
        let peer = keypair.public().to_peer_id();
        let identify = identify::Config::new("/kwaainet/1".to_owned(), keypair.public())
            .with_agent_version(AGENT.to_owned())
            // A place at a relay is of use when others know it.
            .with_push_listen_addr_updates(true)
            .with_hide_listen_addrs(setup.contact == Contact::Relayed);
        let ping = ping::Config::new().with_interval(setup.ping_every.unwrap_or(PING));
        let relay = setup.relays.then(|| relay::Behaviour::new(peer, relaying(setup)));
        Self {
            crowd: Crowd::default(),
            doorstep: Doorstep::new(&setup.proxies),
            allowed: setup.allowed.as_deref().map(allowing).into(),
            identify: identify::Behaviour::new(identify),
            ping: ping::Behaviour::new(ping),
            kad: routing(peer, setup.serves),
            relayed,
            relay: relay.into(),
            #[cfg(feature = "direct")]
            direct: Direct::new(peer, setup),
            streams: Substreams::default(),
        }
    }
}

fn allowing(peers: &[PeerId]) -> allow_block_list::Behaviour<AllowedPeers> {
    let mut allowed = allow_block_list::Behaviour::default();
    for peer in peers.iter().filter_map(|peer| ids::theirs(*peer)) {
        allowed.allow_peer(peer);
    }
    allowed
}

/// What a relay does for others. Circuit relay v2 was made for the few messages that open two routers, and its defaults
/// (128 KiB and 2 minutes for 16 circuits) are for that. Here visitors who hide their address fetch models through it and
/// talk with those who run them, so a circuit carries a quantised model of a billion parameters, and lasts as long as a
/// conversation. What nobody may do is take all of it.
fn relaying(setup: &Setup) -> relay::Config {
    /// Another attempt of one peer every 10 seconds, and 60 before that.
    const PEER: (NonZeroU32, Duration) = (NonZeroU32::new(60).unwrap(), Duration::from_secs(10));
    /// A school is behind one address.
    const ADDRESS: (NonZeroU32, Duration) = (NonZeroU32::new(240).unwrap(), Duration::from_secs(3));
    let limits = relay::Config {
        // Half of all connections: a place is a connection that stays open.
        max_reservations: CONNECTIONS / 2,
        max_reservations_per_peer: WITH_ONE_PEER,
        reservation_duration: Duration::from_secs(60 * 60),
        reservation_rate_limiters: Vec::new(),
        max_circuits: 256,
        // A download asks a handful of peers at once (the engine's chains are as long).
        max_circuits_per_peer: 16,
        max_circuit_duration: Duration::from_secs(60 * 60),
        max_circuit_bytes: 2 << 30,
        circuit_src_rate_limiters: Vec::new(),
    };
    let limits = limits
        .reservation_rate_per_peer(PEER.0, PEER.1)
        .circuit_src_per_peer(PEER.0, PEER.1);
    if !setup.proxies.is_empty() {
        return limits;
    }
    limits
        .reservation_rate_per_ip(ADDRESS.0, ADDRESS.1)
        .circuit_src_per_ip(ADDRESS.0, ADDRESS.1)
}

/// Kademlia that routes and keeps nothing.
fn routing(peer: libp2p::PeerId, serves: bool) -> kad::Behaviour<kad::store::MemoryStore> {
    let mut config = kad::Config::new(KAD);
    config
        .set_query_timeout(LOOKUP)
        // Ten instead of three: where many peers are gone, waiting is what takes long (docs/scale.md).
        .set_parallelism(NonZeroUsize::new(10).unwrap_or(NonZeroUsize::MIN))
        .set_caching(kad::Caching::Disabled)
        // Whatever others want to store here comes as an event, and is dropped.
        .set_record_filtering(kad::StoreInserts::FilterBoth)
        .set_provider_publication_interval(None)
        .set_publication_interval(None)
        .set_replication_interval(None);
    let mut kad = kad::Behaviour::with_config(peer, kad::store::MemoryStore::new(peer), config);
    kad.set_mode(Some(if serves {
        kad::Mode::Server
    } else {
        kad::Mode::Client
    }));
    kad
}
