//! libp2p over TCP on this machine does what every network must do.

use std::sync::Arc;
use std::time::Duration;

use crate::common::{self, Tokio, node};
use kwaainet_network::{Address, Network as _, Reach};
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_is_reached_through_a_relay_which_hides_its_address() {
    let relay = common::relay().await;
    let (hidden, visitor) = (node(true).await, node(true).await);
    let at = relay.addresses().remove(0);
    let circuit = Address::new(format!("{at}/p2p-circuit")).unwrap();
    hidden.listen(circuit.clone()).await.unwrap();
    let through = Address::new(format!("{circuit}/p2p/{}", hidden.local_peer())).unwrap();
    let (peer, address) = through.split_peer().unwrap();
    // The relay keeps a place for it only when it has asked.
    let mut dialled = visitor.dial(peer, vec![address.clone()]).await;
    for _ in 0..250 {
        if dialled.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
        dialled = visitor.dial(peer, vec![address.clone()]).await;
    }
    dialled.unwrap();
    let seen = visitor
        .peers()
        .into_iter()
        .find(|info| info.peer == peer)
        .unwrap();
    assert_eq!(seen.reach, Reach::Relayed);
    assert!(seen.address.as_str().contains("/p2p-circuit"), "{seen:?}");
    assert!(visitor.ping(peer).await.is_ok());
}
