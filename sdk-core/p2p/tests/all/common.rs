//! Nodes on 127.0.0.1, for tests.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use kwaainet_network::{Address, Keypair, Network as _, PeerId};
use kwaainet_p2p::{Contact, P2p, Parts, Setup};
use kwaainet_platform::{BoxFuture, Clock, SeededRandom, boxed};
use libp2p::core::{Transport, upgrade};
use libp2p::{identity, noise, tcp};

/// The runtime's time.
#[derive(Debug)]
pub(crate) struct Tokio(tokio::time::Instant);

impl Default for Tokio {
    fn default() -> Self {
        Self(tokio::time::Instant::now())
    }
}

impl Clock for Tokio {
    fn monotonic_ms(&self) -> f64 {
        self.0.elapsed().as_secs_f64() * 1000.0
    }

    fn unix_ms(&self) -> u64 {
        0
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'_, ()> {
        boxed(tokio::time::sleep(duration))
    }
}

/// Every node has a key of its own.
static SEEDS: AtomicU8 = AtomicU8::new(1);

/// A node that listens on a port of its own; it routes, and keeps records, if it `serves`.
pub(crate) async fn node(serves: bool) -> P2p {
    join(Setup {
        serves,
        ping_every: Some(Duration::from_millis(50)),
        ..Setup::default()
    })
    .await
}

/// An address at which a node is reached from 127.0.0.2: for it, that is another machine than 127.0.0.1.
pub(crate) async fn elsewhere(node: &P2p) -> Address {
    let (peer, at) = node.addresses().remove(0).split_peer().unwrap();
    let port: u16 = at.as_str().rsplit('/').next().unwrap().parse().unwrap();
    let door = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = Address::new(format!(
        "/ip4/127.0.0.1/tcp/{}/p2p/{peer}",
        door.local_addr().unwrap().port()
    ));
    tokio::spawn(async move {
        while let Ok((mut inside, _)) = door.accept().await {
            let socket = tokio::net::TcpSocket::new_v4().unwrap();
            socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
            let mut outside = socket.connect(([127, 0, 0, 1], port).into()).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut inside, &mut outside).await });
        }
    });
    address.unwrap()
}

/// A node through which others are reached.
pub(crate) async fn relay() -> P2p {
    join(Setup {
        serves: true,
        relays: true,
        ..Setup::default()
    })
    .await
}

/// A node that others reach in this way.
pub(crate) async fn reached(contact: Contact) -> P2p {
    join(Setup {
        contact,
        ping_every: Some(Duration::from_millis(50)),
        ..Setup::default()
    })
    .await
}

/// A node that knows these peers, and no others.
pub(crate) async fn knows(peers: &[PeerId]) -> P2p {
    join(Setup {
        allowed: Some(peers.to_vec()),
        ping_every: Some(Duration::from_millis(50)),
        ..Setup::default()
    })
    .await
}

async fn join(setup: Setup) -> P2p {
    let keypair = Keypair::from_seed([SEEDS.fetch_add(1, Ordering::Relaxed); 32]);
    let theirs = identity::Keypair::ed25519_from_bytes(keypair.seed()).unwrap();
    let transport = tcp::tokio::Transport::new(tcp::Config::default())
        .upgrade(upgrade::Version::V1Lazy)
        .authenticate(noise::Config::new(&theirs).unwrap())
        .multiplex(kwaainet_p2p::muxer())
        .boxed();
    let runtime = tokio::runtime::Handle::current();
    let parts = Parts {
        transport,
        spawn: Arc::new(move |future| drop(runtime.spawn(future))),
        clock: Arc::new(Tokio::default()),
        random: Arc::new(SeededRandom::new(1)),
    };
    let node = P2p::new(&keypair, &setup, parts).unwrap();
    if setup.contact == Contact::Relayed {
        return node;
    }
    node.listen(Address::new("/ip4/127.0.0.1/tcp/0").unwrap())
        .await
        .unwrap();
    while node.addresses().is_empty() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    node
}

/// Waits for what takes a moment on another thread.
pub(crate) async fn until(so: impl Fn() -> bool) {
    let waiting = async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting)
        .await
        .unwrap();
}

/// Somebody's addresses that lead through relays.
pub(crate) fn through_relays(node: &P2p) -> Vec<Address> {
    let mut all = node.addresses();
    all.retain(|at| at.as_str().contains("/p2p-circuit/p2p/"));
    all
}

/// Meets a relay, and has a place there.
pub(crate) async fn with_a_place(node: &P2p, relay: &P2p) {
    let known = relay.addresses().remove(0).split_peer().unwrap();
    assert_eq!(node.bootstrap(vec![known]).await, 1);
    until(|| !through_relays(node).is_empty()).await;
}
