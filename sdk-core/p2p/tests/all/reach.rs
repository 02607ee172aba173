//! How nodes reach each other: through a relay, and directly after that; and how some never show where they are.

use std::time::Duration;

use kwaainet_network::{Address, Keypair, Network as _, Reach, RecordKey};
use kwaainet_p2p::{Contact, P2p};

use crate::common::{self, reached, through_relays, until, with_a_place};

fn reach_of(node: &P2p, other: &P2p) -> Option<Reach> {
    let peers = node.peers();
    let found = peers.iter().find(|info| info.peer == other.local_peer());
    found.map(|info| info.reach)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_hides_is_reached_through_relays_and_shows_no_address() {
    let relay = common::relay().await;
    let (hidden, visitor) = (reached(Contact::Relayed).await, reached(Contact::Relayed).await);
    with_a_place(&hidden, &relay).await;
    assert_eq!(
        hidden.addresses(),
        through_relays(&hidden),
        "nothing else is said"
    );
    assert_eq!(relay.relay_load().reservations, 1);
    with_a_place(&visitor, &relay).await;
    visitor
        .dial(hidden.local_peer(), through_relays(&hidden))
        .await
        .unwrap();
    assert!(visitor.ping(hidden.local_peer()).await.is_ok());
    assert_eq!(relay.relay_load().circuits, 1);
    let seen = hidden.peers();
    let seen = seen
        .iter()
        .find(|info| info.peer == visitor.local_peer())
        .unwrap();
    // No address, but an id.
    assert_eq!(seen.address.as_str(), format!("/p2p/{}", visitor.local_peer()));
    // Long enough for a direct connection, if anybody tried.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(reach_of(&visitor, &hidden), Some(Reach::Relayed));
    assert_eq!(reach_of(&hidden, &visitor), Some(Reach::Relayed));

    // Whoever is open to others makes nothing else of it.
    let open = reached(Contact::Open).await;
    with_a_place(&open, &relay).await;
    visitor
        .dial(open.local_peer(), through_relays(&open))
        .await
        .unwrap();
    assert!(visitor.ping(open.local_peer()).await.is_ok());
    tokio::time::sleep(Duration::from_millis(500)).await;
    for (one, other) in [(&visitor, &open), (&open, &visitor)] {
        assert_eq!(reach_of(one, other), Some(Reach::Relayed));
    }

    let unknown = visitor.find(RecordKey([6; 32]), 4).await;
    assert_eq!(unknown, Ok(vec![]), "its relay keeps records, and is asked");

    // Neither an address nor another's relay makes it show itself.
    let (open, other) = (reached(Contact::Open).await, common::relay().await);
    let error = visitor
        .dial(open.local_peer(), open.addresses())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("shows its address"), "{error}");
    with_a_place(&open, &other).await;
    let error = visitor
        .dial(open.local_peer(), through_relays(&open))
        .await
        .unwrap_err();
    assert_eq!(reach_of(&other, &visitor), None, "{error}");
    // Nor does it listen.
    let here = Address::new("/ip4/127.0.0.1/tcp/0").unwrap();
    assert!(hidden.listen(here).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_began_through_a_relay_becomes_direct() {
    let relay = common::relay().await;
    let (one, other) = (reached(Contact::Open).await, reached(Contact::Open).await);
    with_a_place(&other, &relay).await;
    // The first has not met the relay yet, which has to tell it how it is seen.
    one.dial(other.local_peer(), through_relays(&other))
        .await
        .unwrap();
    until(|| reach_of(&one, &other) == Some(Reach::Direct)).await;
    until(|| reach_of(&other, &one) == Some(Reach::Direct)).await;
    // Where there is no relay, that is what is said.
    let third = common::node(false).await;
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let nowhere = format!(
        "/ip4/127.0.0.1/tcp/{port}/p2p/{}/p2p-circuit",
        Keypair::from_seed([9; 32]).peer_id()
    );
    let nowhere = Address::new(nowhere).unwrap();
    let error = one.dial(third.local_peer(), vec![nowhere]).await.unwrap_err();
    assert!(error.to_string().contains("refused"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_relay_is_asked_when_one_vanishes() {
    let relays = [common::relay().await, common::relay().await];
    let node = reached(Contact::Open).await;
    let known = relays
        .iter()
        .map(|relay| relay.addresses().remove(0).split_peer().unwrap());
    assert_eq!(node.bootstrap(known.collect()).await, 2);
    until(|| !through_relays(&node).is_empty()).await;
    let at = through_relays(&node).remove(0);
    let (mut used, mut others): (Vec<_>, Vec<_>) = relays
        .into_iter()
        .partition(|relay| at.as_str().contains(&relay.local_peer().to_string()));
    let (used, other) = (used.remove(0), others.remove(0));
    assert_eq!(other.relay_load().reservations, 0, "one is enough");
    drop(used);
    let there = other.local_peer().to_string();
    until(|| {
        through_relays(&node)
            .iter()
            .any(|at| at.as_str().contains(&there))
    })
    .await;
    assert_eq!(through_relays(&node).len(), 1, "the old one is said no more");
    assert_eq!(other.relay_load().reservations, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_not_on_the_list_is_neither_let_in_nor_called() {
    let (friend, stranger) = (common::node(false).await, common::node(false).await);
    let closed = common::knows(&[friend.local_peer()]).await;
    friend
        .dial(closed.local_peer(), closed.addresses())
        .await
        .unwrap();
    assert!(friend.ping(closed.local_peer()).await.is_ok());
    // The handshake proves who it is, so that it ends only then.
    let _ = stranger.dial(closed.local_peer(), closed.addresses()).await;
    until(|| stranger.peers().is_empty()).await;
    let said = closed.refusals();
    let told = format!(
        "{} was refused: it is none of those who may connect",
        stranger.local_peer()
    );
    assert_eq!(said, [told]);
    assert!(closed.refusals().is_empty(), "it is told once");
    let error = closed
        .dial(stranger.local_peer(), stranger.addresses())
        .await
        .unwrap_err();
    assert!(error.to_string().contains("may connect"), "{error}");
    let peers: Vec<_> = closed.peers().iter().map(|info| info.peer).collect();
    assert_eq!(peers, [friend.local_peer()]);
}
