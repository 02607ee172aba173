//! libp2p over TCP on this machine does what every network must do.

use std::sync::Arc;

use crate::common::{Tokio, node};
use kwaainet_network::Network as _;
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
