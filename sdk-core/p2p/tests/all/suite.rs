//! libp2p over TCP on this machine does what every network must do.

use std::sync::Arc;
use std::time::Duration;

use crate::common::{Tokio, node};
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use kwaainet_network::{Address, Keypair, Network as _};
use kwaainet_p2p::P2p;
use kwaainet_testkit::{End, network_suite};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tcp() {
    let end = async || {
        let node = node(true).await;
        End {
            addresses: node.addresses(),
            network: Arc::new(node),
        }
    };
    let pair = async || (end().await, end().await);
    // When the last handle is gone, the node leaves as a closed tab does.
    let vanish = async |end: End| drop(end);
    network_suite(&Tokio::default(), pair, vanish).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ping_comes_back() {
    let (one, other) = (node(true).await, node(true).await);
    assert!(
        one.ping(other.local_peer()).await.is_err(),
        "nobody is connected yet"
    );
    one.dial(other.local_peer(), other.addresses()).await.unwrap();
    let ms = one.ping(other.local_peer()).await.unwrap();
    assert!((0.0..10_000.0).contains(&ms), "{ms}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_peer_at_an_address_is_named() {
    let (one, other, third) = (node(true).await, node(true).await, node(true).await);
    let error = one
        .dial(third.local_peer(), other.addresses())
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains(&third.local_peer().to_string()), "{error}");
    assert!(one.peers().is_empty());
}

/// Nodes that have all met, over the first of them.
async fn met(count: usize) -> Vec<P2p> {
    let mut nodes: Vec<P2p> = Vec::new();
    for _ in 0..count {
        let next = node(true).await;
        if let Some(first) = nodes.first() {
            let known = first.addresses().remove(0).split_peer().unwrap();
            assert_eq!(next.bootstrap(vec![known]).await, 1);
        }
        nodes.push(next);
    }
    for node in &nodes {
        let nearest = node.nearest(b"any").await.unwrap();
        assert!(nearest.peers.len() >= count - 2, "{nearest:?}");
    }
    nodes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peers_that_fell_silent_do_not_use_up_a_search() {
    let mut nodes = met(12).await;
    let mut silent = vec![];
    for gone in nodes.split_off(6) {
        let (_, at) = gone.addresses().remove(0).split_peer().unwrap();
        let port: u16 = at.as_str().rsplit('/').next().unwrap().parse().unwrap();
        drop(gone);
        // Connections are accepted, and nobody is behind them. The port is free as soon as the node has noticed.
        silent.push(loop {
            match std::net::TcpListener::bind(("127.0.0.1", port)) {
                Ok(listener) => break listener,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        });
    }
    let began = tokio::time::Instant::now();
    let nearest = nodes[1].nearest(b"any").await.unwrap();
    assert_eq!(nearest.peers.len(), 5, "{nearest:?}");
    // A search ends after 10 seconds, and those who were found have 3 to answer.
    assert!(began.elapsed() < Duration::from_secs(7), "{:?}", began.elapsed());
    drop(silent);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_search_has_room_for_all_its_dials() {
    let one = node(false).await;
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = silent.local_addr().unwrap().port();
    let at = Address::new(format!("/ip4/127.0.0.1/tcp/{port}")).unwrap();
    // 24 lookups with 20 requests each. Who is refused a dial takes the peer for one that is gone.
    let mut dials: FuturesUnordered<_> = (0..480_u16)
        .map(|number| {
            let mut seed = [200; 32];
            seed[..2].copy_from_slice(&number.to_le_bytes());
            one.dial(Keypair::from_seed(seed).peer_id(), vec![at.clone()])
        })
        .collect();
    let first = tokio::time::timeout(Duration::from_secs(2), dials.next()).await;
    assert!(first.is_err(), "{first:?}");
    drop(silent);
}
