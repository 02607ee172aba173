//! The same swarm on real nodes: `kwaainet_p2p`, which is libp2p, over its transport within one process. Nothing is
//! simulated but that nodes leave; what is measured is not quite the same at every run, as real lookups race.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures::future::{join_all, try_join_all};
use kwaainet_network::{Address, Network as _, NetworkError};
use kwaainet_p2p::{P2p, Parts, Setup};
use kwaainet_platform::{BoxFuture, Clock, SeededRandom, boxed};
use libp2p::core::transport::MemoryTransport;
use libp2p::core::{Transport, upgrade};
use libp2p::{identity, noise};

use crate::dice::Dice;
use crate::keys::{SHARDS, buckets, provider_key};
use crate::lookups;
use crate::nodes::{NOW_MS, discover, publish};
use crate::swarm::{BLOCKS, ROOT, Swarm, Way};
use crate::world::{Node, World, keypair};

/// Requests that a lookup of a real node has in flight (sdk-core/p2p/src/behaviour.rs).
pub(crate) const ALPHA: usize = 10;
/// Nodes through which each joins.
const KNOWN: usize = 3;
/// Lookups of anything by which each fills its routing table.
const FILLING: usize = 10;
/// Lookups that run at once while tables are filled and offers published: real ones are bounded, too.
const AT_ONCE: usize = 4;

/// What the simulator says, and what real nodes did.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) gone: f64,
    pub(crate) lookups: usize,
    /// Requests per lookup: simulated, real.
    pub(crate) requests: [f64; 2],
    /// Real ones of them that were not answered, per lookup.
    pub(crate) failures: f64,
    /// Lookups that found their target: simulated, real.
    pub(crate) found: [usize; 2],
    /// Requests of the lookups of all keys of the model.
    pub(crate) search: [u64; 2],
    /// Offers found.
    pub(crate) offers: [usize; 2],
    pub(crate) same_chain: bool,
    pub(crate) hops: [usize; 2],
}

/// The machine's time; but records live by a wall clock that only goes on when it is told to.
pub(crate) struct Wall {
    began: Instant,
    unix_ms: AtomicU64,
}

impl Wall {
    #[expect(clippy::disallowed_methods, reason = "a program that measures")]
    pub(crate) fn new() -> Self {
        Self {
            began: Instant::now(),
            unix_ms: AtomicU64::new(NOW_MS),
        }
    }

    pub(crate) fn advance(&self, time: Duration) {
        self.unix_ms.fetch_add(time.as_millis() as u64, Ordering::Relaxed);
    }
}

impl Clock for Wall {
    fn monotonic_ms(&self) -> f64 {
        self.began.elapsed().as_secs_f64() * 1000.0
    }

    fn unix_ms(&self) -> u64 {
        self.unix_ms.load(Ordering::Relaxed)
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'_, ()> {
        boxed(tokio::time::sleep(duration))
    }
}

struct Nodes {
    /// `None` has left.
    nodes: Vec<Option<P2p>>,
    addresses: Vec<Vec<Address>>,
}

impl Nodes {
    /// All nodes of a world meet.
    async fn join(world: &World, dice: &Dice) -> Result<Self, NetworkError> {
        let clock: Arc<dyn Clock> = Arc::new(Wall::new());
        let (mut nodes, mut addresses): (Vec<Option<P2p>>, Vec<Vec<Address>>) = (Vec::new(), Vec::new());
        for node in 0..world.len() {
            let joined = start(world.seed(node as Node), &clock).await?;
            let known = (0..KNOWN.min(node))
                .map(|_| dice.below(node))
                .filter_map(|other| {
                    let address = addresses[other].first()?;
                    address.split_peer()
                });
            joined.bootstrap(known.collect()).await;
            addresses.push(joined.addresses());
            nodes.push(Some(joined));
        }
        let met = Self { nodes, addresses };
        for _ in 0..FILLING {
            for some in met.nodes.chunks(AT_ONCE) {
                let lookups = some.iter().flatten().map(|node| {
                    let target = dice.bits().to_le_bytes();
                    async move { node.nearest(&target).await }
                });
                try_join_all(lookups).await?;
            }
        }
        // Who came first knew few: its own neighbourhood is looked up again.
        for node in met.nodes.iter().flatten() {
            node.nearest(&node.local_peer().to_bytes()).await?;
        }
        Ok(met)
    }

    fn node(&self, node: Node) -> Result<&P2p, NetworkError> {
        self.nodes[node as usize].as_ref().ok_or(NetworkError::Closed)
    }

    /// So many leave without a word, and the others have a moment to notice that their connections are closed.
    async fn leave(&mut self, world: &World, gone: f64) {
        for node in 0..world.len() {
            if world.left(node as Node, gone) {
                self.nodes[node] = None;
            }
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// A node that listens within this process.
pub(crate) async fn start(seed: u64, clock: &Arc<dyn Clock>) -> Result<P2p, NetworkError> {
    let pair = keypair(seed);
    let theirs = identity::Keypair::ed25519_from_bytes(pair.seed()).map_err(|_| NetworkError::Closed)?;
    let noise = noise::Config::new(&theirs).map_err(|_| NetworkError::Closed)?;
    let runtime = tokio::runtime::Handle::current();
    let parts = Parts {
        transport: MemoryTransport::default()
            .upgrade(upgrade::Version::V1Lazy)
            .authenticate(noise)
            .multiplex(kwaainet_p2p::muxer())
            .boxed(),
        spawn: Arc::new(move |future| drop(runtime.spawn(future))),
        clock: Arc::clone(clock),
        random: Arc::new(SeededRandom::new(seed)),
    };
    let setup = Setup {
        serves: true,
        ..Setup::default()
    };
    let node = P2p::new(&pair, &setup, parts)?;
    let anywhere = Address::new("/memory/0").ok_or(NetworkError::Closed)?;
    node.listen(anywhere).await?;
    while node.addresses().is_empty() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    Ok(node)
}

/// # Errors
/// If the machine has no threads left.
pub(crate) fn runtime() -> Result<tokio::runtime::Runtime, NetworkError> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder
        .worker_threads(2)
        .enable_time()
        .build()
        .map_err(|error| NetworkError::Busy(error.to_string()))
}

/// Does on real nodes what the simulator does on its own, and compares.
///
/// # Errors
/// [`NetworkError`] if the nodes cannot be made, or one of them can do nothing at all.
pub(crate) fn measure(
    world: &World,
    gone: f64,
    peers: usize,
    count: usize,
) -> Result<Measured, NetworkError> {
    runtime()?.block_on(compare(world, gone, peers, count))
}

async fn compare(world: &World, gone: f64, peers: usize, count: usize) -> Result<Measured, NetworkError> {
    const LOOKUPS: u64 = 4;
    let (way, before) = (
        Way { alpha: ALPHA, gone },
        Way {
            alpha: ALPHA,
            gone: gone / 2.0,
        },
    );
    let dice = Dice::new(5);
    let mut swarm = Swarm::new(world, peers, before.gone, &dice);
    swarm.publish(before);
    let from = world.anyone(&dice, gone);
    let simulated = lookups::measure(world, way, count, &Dice::new(LOOKUPS));
    let heard = swarm.find(from, way, SHARDS, usize::MAX);
    let planned = swarm.plan(from, &heard, gone, usize::MAX);

    let mut nodes = Nodes::join(world, &dice).await?;
    nodes.leave(world, before.gone).await;
    for some in swarm.providers.chunks(AT_ONCE) {
        let nodes = &nodes;
        let published = some
            .iter()
            .map(|provider| async move { publish(nodes.node(provider.node)?, world, provider).await });
        for outcome in join_all(published).await {
            outcome?;
        }
    }
    nodes.leave(world, gone).await;

    // The lookups of all keys before any other, with the table that the node has.
    let mut search = 0;
    for bucket in buckets(0, BLOCKS) {
        for shard in 0..SHARDS {
            let key = provider_key(&ROOT, bucket, shard);
            search += u64::from(nodes.node(from)?.nearest(&key.0).await?.requests);
        }
    }
    let real = discover(nodes.node(from)?, &swarm, from, |node| {
        nodes.addresses[node as usize].clone()
    })
    .await?;

    let (mut requests, mut failures, mut found) = (0, 0, 0);
    let dice = Dice::new(LOOKUPS);
    for _ in 0..count {
        let (from, target) = (world.anyone(&dice, gone), world.anyone(&dice, gone));
        let target = world.peer(target);
        let nearest = nodes.node(from)?.nearest(&target.to_bytes()).await?;
        requests += nearest.requests;
        failures += nearest.failures;
        let is_there = |(peer, _): &(_, _)| *peer == target;
        found += usize::from(world.peer(from) == target || nearest.peers.iter().any(is_there));
    }
    let hops = |chain: &Option<_>| {
        chain
            .as_ref()
            .map_or(0, |chain: &kwaainet_network::route::Chain| chain.hops().len())
    };
    Ok(Measured {
        gone,
        lookups: count,
        requests: [simulated.requests, f64::from(requests) / count as f64],
        failures: f64::from(failures) / count as f64,
        found: [count - simulated.missed, found],
        search: [heard.requests, search],
        offers: [heard.providers.len(), real.providers.len()],
        same_chain: planned.chain == real.chain,
        hops: [hops(&planned.chain), hops(&real.chain)],
    })
}
