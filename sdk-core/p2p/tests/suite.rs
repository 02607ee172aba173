//! libp2p over TCP on this machine does what every network must do.

#[expect(clippy::unwrap_used, reason = "tests fail by panicking")]
mod common;

use std::sync::Arc;

use common::{Tokio, node};
use kwaainet_network::Network as _;
use kwaainet_testkit::{End, network_suite};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tcp() {
    let end = async || {
        let (node, _) = node(true).await;
        End {
            addresses: node.listening(),
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
    let ((one, _), (other, _)) = (node(true).await, node(true).await);
    assert!(
        one.ping(other.local_peer(), 1).await.is_err(),
        "nobody is connected yet"
    );
    one.dial(other.local_peer(), other.listening()).await.unwrap();
    let trips = one.ping(other.local_peer(), 3).await.unwrap();
    assert_eq!(trips.len(), 3);
    assert!(trips.iter().all(|ms| (0.0..10_000.0).contains(ms)), "{trips:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_peer_at_an_address_is_named() {
    let ((one, _), (other, _), (third, _)) = (node(true).await, node(true).await, node(true).await);
    let error = one
        .dial(third.local_peer(), other.listening())
        .await
        .unwrap_err()
        .to_string();
    assert!(error.contains(&third.local_peer().to_string()), "{error}");
    assert!(one.peers().is_empty());
}
