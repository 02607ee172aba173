//! Nodes that publish and search, on clocks that are right and wrong.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use futures::executor::block_on;
use kwaainet_platform::{BoxFuture, Clock, ManualClock, SeededRandom, boxed};

use super::*;
use crate::{MemoryHub, Network, NetworkError};

const MINUTE: Duration = Duration::from_secs(60);

/// A node that looks for the model's blocks.
fn node_of(hub: &MemoryHub, clock: &Arc<impl Clock + 'static>, number: u16) -> Providers {
    let pair = keypair(number);
    Providers::new(
        Arc::new(hub.join(&pair)),
        Arc::clone(clock) as Arc<dyn Clock>,
        Arc::new(SeededRandom::new(number.into())),
        Discovery::new(pair, MODEL, SPAN).unwrap(),
    )
}

#[test]
fn a_hundred_nodes_find_each_other_and_forget_those_who_left() {
    let (hub, clock) = (MemoryHub::default(), Arc::new(ManualClock::new(NOW)));
    let nodes: Vec<_> = (0..100).map(|number| node_of(&hub, &clock, number)).collect();
    for node in &nodes {
        node.set_offer(Some(offer(SPAN))).unwrap();
    }
    let peers: Vec<PeerId> = (0..100).map(peer).collect();
    let mut found = [0; 100];
    let round = |alive: &[Providers]| {
        for node in alive {
            block_on(node.renew());
        }
        for node in alive {
            block_on(node.search());
        }
        clock.advance(Duration::from_secs(15));
    };
    round(&nodes);
    for (number, node) in nodes.iter().enumerate() {
        let known = node.known();
        assert!(known.len() >= 16, "{number} knows {}", known.len());
        assert!(known.is_sorted_by(|one, next| one.peer < next.peer), "each once");
        assert!(known.iter().all(|provider| provider.offer == offer(SPAN)));
        for (other, found) in peers.iter().zip(&mut found) {
            *found += usize::from(known.iter().any(|provider| provider.peer == *other));
        }
        assert!(!known.iter().any(|known| known.peer == peers[number]), "itself");
    }
    assert!(found.iter().all(|times| *times >= 10), "{found:?}");
    // Sixty leave without a word. Four minutes later nobody speaks of them, and the others are still known.
    let (alive, gone) = nodes.split_at(40);
    peers.iter().skip(40).for_each(|peer| hub.leave(*peer));
    (0..16).for_each(|_| round(alive));
    for node in alive {
        let known = node.known();
        assert!(known.len() >= 8, "{}", known.len());
        let ghosts = known
            .iter()
            .filter(|provider| !peers[..40].contains(&provider.peer));
        assert_eq!(ghosts.count(), 0);
    }
    block_on(gone[0].search());
    assert_eq!(gone[0].known(), []);
}

/// A clock on which time passes while somebody sleeps, and others may run meanwhile.
#[derive(Default)]
struct SleepyClock(ManualClock);

impl Clock for SleepyClock {
    fn monotonic_ms(&self) -> f64 {
        self.0.monotonic_ms()
    }

    fn unix_ms(&self) -> u64 {
        self.0.unix_ms()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'_, ()> {
        boxed(async move {
            let due = self.0.monotonic_ms() + duration.as_secs_f64() * 1000.0;
            while self.0.monotonic_ms() < due {
                futures::pending!();
            }
        })
    }
}

/// Lets time pass in steps of a tenth of a second while these run.
fn live(clock: &SleepyClock, duration: Duration, running: &mut BoxFuture<'_, ()>) {
    for _ in 0..duration.as_millis() / 100 {
        let _ = running.now_or_never();
        clock.0.advance(Duration::from_millis(100));
    }
}

#[test]
fn what_runs_renews_tells_of_changes_and_publishes_a_new_offer_at_once() {
    let (hub, clock) = (MemoryHub::default(), Arc::new(SleepyClock(ManualClock::new(NOW))));
    let [one, other] = [1, 2].map(|number| node_of(&hub, &clock, number));
    one.set_offer(Some(offer(SPAN))).unwrap();
    let told = Mutex::new(vec![]);
    let mut running = boxed(async {
        let others = other.run(|known| told.lock().unwrap().push(known));
        futures::join!(one.run(|_| {}), others);
    });
    live(&clock, 20 * MINUTE, &mut running);
    assert_eq!(
        told.lock().unwrap().len(),
        1,
        "found once, and never lost for twenty minutes"
    );
    let slower = Offer {
        cache_left: 0,
        ..offer(SPAN)
    };
    one.set_offer(Some(slower.clone())).unwrap();
    live(&clock, MINUTE + MINUTE / 60, &mut running);
    let last = told.lock().unwrap().last().cloned().unwrap();
    assert_eq!((last.len(), &last[0].offer), (1, &slower));
    one.set_offer(None).unwrap();
    live(&clock, 5 * MINUTE, &mut running);
    assert_eq!(told.lock().unwrap().last(), Some(&vec![]), "withdrawn");
}

/// A network in which some keys are never answered; and how often it was asked.
struct Deaf(crate::MemoryNetwork, Vec<RecordKey>, Arc<Mutex<Vec<RecordKey>>>);

impl Network for Deaf {
    fn local_peer(&self) -> PeerId {
        self.0.local_peer()
    }
    fn addresses(&self) -> Vec<Address> {
        self.0.addresses()
    }
    fn peers(&self) -> Vec<crate::PeerInfo> {
        self.0.peers()
    }
    fn dial(&self, peer: PeerId, addresses: Vec<Address>) -> BoxFuture<'_, Result<(), NetworkError>> {
        self.0.dial(peer, addresses)
    }
    fn disconnect(&self, peer: PeerId) {
        self.0.disconnect(peer);
    }
    fn open(
        &self,
        peer: PeerId,
        protocol: crate::Protocol,
    ) -> BoxFuture<'_, Result<crate::MessageStream, NetworkError>> {
        self.0.open(peer, protocol)
    }
    fn serve(&self, protocol: crate::Protocol) -> Result<Box<dyn crate::Incoming>, NetworkError> {
        self.0.serve(protocol)
    }
    fn publish(&self, key: RecordKey, record: Vec<u8>) -> BoxFuture<'_, Result<(), NetworkError>> {
        self.0.publish(key, record)
    }
    fn find(&self, key: RecordKey, limit: usize) -> BoxFuture<'_, Result<Vec<Vec<u8>>, NetworkError>> {
        self.2.lock().unwrap().push(key);
        if self.1.contains(&key) {
            return boxed(futures::future::pending());
        }
        self.0.find(key, limit)
    }
}

#[test]
fn shards_that_do_not_answer_hold_nobody_up() {
    let (hub, clock) = (MemoryHub::default(), Arc::new(SleepyClock(ManualClock::new(NOW))));
    for number in 0..100 {
        let pair = keypair(number);
        block_on(hub.join(&pair).publish(key_for(pair.peer_id()), fresh(&pair))).unwrap();
    }
    let me = keypair(1000);
    let searcher = |silent: std::ops::Range<u8>| {
        let silent = silent.map(|shard| provider_key(MODEL, 0, shard)).collect();
        Providers::new(
            Arc::new(Deaf(hub.join(&me), silent, Arc::default())),
            Arc::clone(&clock) as Arc<dyn Clock>,
            Arc::new(SeededRandom::new(1)),
            Discovery::new(me.clone(), MODEL, SPAN).unwrap(),
        )
    };
    let most_are_silent = searcher(0..SHARDS - 3);
    assert!(
        most_are_silent.search().now_or_never().is_some(),
        "all shards are asked at once"
    );
    assert!(most_are_silent.known().len() >= 16);
    // With one more there is not enough: the search waits, but not for ever, and keeps what it has.
    let more_are_silent = searcher(0..SHARDS - 2);
    let mut search = boxed(more_are_silent.search());
    assert!((&mut search).now_or_never().is_none());
    clock.0.advance(Duration::from_secs(11));
    assert!(search.now_or_never().is_some());
    assert!(more_are_silent.known().len() >= 8);
}

#[test]
fn a_bucket_with_enough_offers_is_asked_no_more_and_the_others_are_at_once() {
    const BUCKETS: u32 = 8;
    let (hub, clock) = (MemoryHub::default(), Arc::new(ManualClock::new(NOW)));
    let most = Share::Blocks(0..(BUCKETS - 1) * BUCKET);
    for number in 0..60 {
        let node = node_of(&hub, &clock, number);
        node.set_offer(Some(offer(most.clone()))).unwrap();
        block_on(node.renew());
    }
    let me = keypair(1000);
    let all: Vec<RecordKey> = (0..BUCKETS)
        .flat_map(|bucket| (0..SHARDS).map(move |shard| provider_key(MODEL, bucket, shard)))
        .collect();
    let search = |silent: Vec<RecordKey>| {
        let asked: Arc<Mutex<Vec<RecordKey>>> = Arc::default();
        let providers = Providers::new(
            Arc::new(Deaf(hub.join(&me), silent, Arc::clone(&asked))),
            Arc::new(SleepyClock(ManualClock::new(NOW))),
            Arc::new(SeededRandom::new(1)),
            Discovery::new(me.clone(), MODEL, Share::Blocks(0..BUCKETS * BUCKET)).unwrap(),
        );
        let _ = providers.search().now_or_never();
        drop(providers);
        Arc::into_inner(asked).unwrap().into_inner().unwrap()
    };
    assert_eq!(search(all.clone()).len(), 24, "nobody answers");
    // Answers come one by one, and for each the next key is asked: two thirds of them until seven buckets have enough.
    let asked = search(Vec::new());
    assert!((40..=52).contains(&asked.len()), "{}", asked.len());
    let last: Vec<_> = all.iter().skip(56).collect();
    assert!(
        last.iter().all(|key| asked.contains(key)),
        "of what nobody offers, everything"
    );
}

#[test]
fn a_publisher_an_hour_off_is_not_found_and_the_reason_is_told() {
    for (minutes, found) in [(-60, false), (-1, true), (1, true), (60, false)] {
        let hub = MemoryHub::default();
        let ours = Arc::new(ManualClock::new(NOW));
        let theirs = Arc::new(ManualClock::new(NOW.saturating_add_signed(minutes * 60_000)));
        let (us, them) = (node_of(&hub, &ours, 1), node_of(&hub, &theirs, 2));
        them.set_offer(Some(offer(SPAN))).unwrap();
        block_on(them.renew());
        block_on(us.search());
        assert_eq!(us.known().len(), usize::from(found), "{minutes} minutes");
        let reason = us.refused().map(|reason| reason.to_string()).unwrap_or_default();
        assert_eq!(reason.contains("clock"), !found, "{reason}");
    }
}
