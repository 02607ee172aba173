//! Many nodes over a network in memory, and those who mean them harm.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::FutureExt;
use futures::executor::block_on;
use kwaainet_platform::{BoxFuture, Clock, ManualClock, SeededRandom, boxed};

use super::*;
use crate::{Address, Keypair, MemoryHub, Network, NetworkError, PeerId, RecordKey};

const NOW: u64 = 1_700_000_000_000;
const MODEL: ModelRoot = ModelRoot([9; 32]);
const SPAN: Share = Share::Blocks(0..16);
const MINUTE: Duration = Duration::from_secs(60);

fn keypair(number: u16) -> Keypair {
    let mut seed = [0; 32];
    seed[..2].copy_from_slice(&number.to_le_bytes());
    Keypair::from_seed(seed)
}

fn peer(number: u16) -> PeerId {
    keypair(number).peer_id()
}

/// Those of these numbers whose records are in the shard.
fn in_shard(shard: u8, numbers: std::ops::Range<u16>) -> impl Iterator<Item = Keypair> {
    numbers
        .map(keypair)
        .filter(move |pair| shard_of(pair.peer_id()) == shard)
}

fn offer(share: Share) -> Offer {
    Offer {
        model: MODEL,
        share,
        dtype: "q4_1".to_owned(),
        inference_rps_milli: 40_000,
        forward_rps_milli: 300_000,
        cache_left: 4096,
        next_pings: vec![(peer(1), 20)],
        build: "kwaainet/0.1.0".to_owned(),
        addresses: vec![Address::new("/ip4/192.0.2.1/tcp/4001").unwrap()],
    }
}

fn record(by: &Keypair, sequence: u64, expires_ms: u64) -> Vec<u8> {
    let body = offer(SPAN).to_bytes().unwrap();
    Signed::sign(by, sequence, expires_ms, &body)
        .unwrap()
        .into_bytes()
}

fn fresh(by: &Keypair) -> Vec<u8> {
    record(by, 1, NOW + LIFETIME_MS)
}

fn key_for(by: PeerId) -> RecordKey {
    keys_of(by, MODEL, &SPAN)[0]
}

fn put(store: &mut RecordStore, by: &Keypair, record: Vec<u8>, now: u64) -> Result<(), RecordError> {
    store.put(
        by.peer_id(),
        key_for(by.peer_id()),
        Some(by.peer_id()),
        record,
        now,
    )
}

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
        for (other, found) in (0..100).zip(&mut found) {
            *found += usize::from(known.iter().any(|provider| provider.peer == peer(other)));
        }
        assert!(
            !known.iter().any(|known| known.peer == peer(number as u16)),
            "itself"
        );
    }
    assert!(found.iter().all(|times| *times >= 10), "{found:?}");
    // Sixty leave without a word. Four minutes later nobody speaks of them, and the others are still known.
    let (alive, gone) = nodes.split_at(40);
    (0..100).skip(40).for_each(|number| hub.leave(peer(number)));
    (0..16).for_each(|_| round(alive));
    for node in alive {
        let known = node.known();
        assert!(known.len() >= 8, "{}", known.len());
        let ghosts = known
            .iter()
            .filter(|provider| !(0..40).any(|number| peer(number) == provider.peer));
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

/// A network in which some keys are never answered.
struct Deaf(crate::MemoryNetwork, Vec<RecordKey>);

impl Network for Deaf {
    fn local_peer(&self) -> PeerId {
        self.0.local_peer()
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
            Arc::new(Deaf(hub.join(&me), silent)),
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

#[test]
fn fifty_hostile_ids_take_no_key_from_those_who_came_first() {
    let (mut store, random) = (RecordStore::default(), SeededRandom::new(3));
    let mut crowd = in_shard(0, 0..2000);
    let honest: Vec<_> = crowd.by_ref().take(20).collect();
    for pair in &honest {
        put(&mut store, pair, fresh(pair), NOW).unwrap();
    }
    let hostile: Vec<_> = crowd.take(50).collect();
    let taken = hostile
        .iter()
        .filter(|pair| put(&mut store, pair, fresh(pair), NOW).is_ok());
    assert_eq!(taken.count(), PER_KEY - 20);
    let error = put(&mut store, &hostile[49], fresh(&hostile[49]), NOW).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no more than 64 providers under a key; try again later"
    );
    // Two minutes later the honest renew, and the hostile do what they can.
    let later = NOW + 120_000;
    for pair in hostile.iter().chain(&honest) {
        let renewed = record(pair, 2, later + LIFETIME_MS);
        let _ = put(&mut store, pair, renewed, later);
    }
    // After the first records have ended, all twenty are there, and every sample has some of them.
    let later = NOW + LIFETIME_MS + 2000;
    let key = key_for(honest[0].peer_id());
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..20 {
        let sample = store.get(key, 1000, later, &random);
        assert_eq!(sample.len(), RETURNED);
        let signers = sample.iter().map(|record| open(record, later).unwrap().peer);
        let before = seen.len();
        let in_sample: Vec<_> = signers
            .filter(|signer| honest.iter().any(|pair| pair.peer_id() == *signer))
            .collect();
        assert!(!in_sample.is_empty());
        seen.extend(in_sample);
        assert!(seen.len() >= before);
    }
    assert_eq!(seen.len(), 20);
}

#[test]
fn who_crowds_one_shard_hides_nobody_in_the_others() {
    let (mut discovery, random) = (
        Discovery::new(keypair(5000), MODEL, SPAN).unwrap(),
        SeededRandom::new(1),
    );
    let now = Now {
        unix_ms: NOW,
        monotonic_ms: 0,
    };
    let keys = discovery.questions(now, &random).unwrap();
    assert_eq!(keys.len(), usize::from(SHARDS));
    let key = |shard| provider_key(MODEL, 0, shard);
    let hostile: Vec<_> = in_shard(0, 0..2000).take(50).map(|pair| fresh(&pair)).collect();
    for half in hostile.chunks(25) {
        assert!(
            !discovery.answered(key(0), half.to_vec(), now),
            "one shard is never enough"
        );
    }
    assert_eq!(discovery.providers(now).len(), 32);
    let honest = in_shard(1, 0..2000).next().unwrap();
    assert!(!discovery.answered(key(1), vec![fresh(&honest)], now));
    assert!(discovery.answered(key(2), vec![], now), "three shards were heard");
    let known = discovery.providers(now);
    assert!(known.iter().any(|provider| provider.peer == honest.peer_id()));
    assert_eq!(known.len(), 33);
}

#[test]
fn a_thousand_providers_of_one_bucket_stay_bounded() {
    let (mut store, random) = (RecordStore::default(), SeededRandom::new(1));
    let mut discovery = Discovery::new(keypair(5000), MODEL, SPAN).unwrap();
    let now = Now {
        unix_ms: NOW,
        monotonic_ms: 0,
    };
    let kept = (0..1000)
        .map(keypair)
        .filter(|pair| put(&mut store, pair, fresh(pair), NOW).is_ok());
    assert_eq!(kept.count(), PER_KEY * usize::from(SHARDS));
    assert!(store.size() < 512 << 10, "{}", store.size());
    for _ in 0..4 {
        for key in discovery.questions(now, &random).unwrap() {
            let sample = store.get(key, usize::MAX, NOW, &random);
            assert_eq!(sample.len(), RETURNED);
            let _ = discovery.answered(key, sample, now);
        }
    }
    assert_eq!(discovery.providers(now).len(), 256);
    let later = Now {
        unix_ms: NOW,
        monotonic_ms: LIFETIME_MS,
    };
    assert_eq!(
        discovery.providers(later),
        [],
        "a wall clock that stands still keeps nobody alive"
    );
}

#[test]
fn only_sound_records_are_kept() {
    let (mut store, random) = (RecordStore::default(), SeededRandom::new(1));
    let (pair, other) = (keypair(1), keypair(2));
    let (from, key) = (pair.peer_id(), key_for(pair.peer_id()));
    let sound = fresh(&pair);
    let mut cut = sound.clone();
    cut.pop();
    let body = offer(SPAN).to_bytes().unwrap();
    let signed = |body: &[u8]| Signed::sign(&pair, 1, NOW + 1, body).unwrap().into_bytes();
    let mut refuse =
        |publisher, key, record: Vec<u8>| store.put(from, key, publisher, record, NOW).unwrap_err();
    assert!(matches!(refuse(None, key, cut), RecordError::Malformed(_)));
    assert!(matches!(
        refuse(None, key, vec![0; 5000]),
        RecordError::TooLong { .. }
    ));
    assert!(matches!(
        refuse(None, key, record(&pair, 1, NOW)),
        RecordError::Expired { .. }
    ));
    assert!(matches!(
        refuse(None, key, record(&pair, 1, NOW + 600_000)),
        RecordError::TooFarAhead { .. }
    ));
    assert!(matches!(
        refuse(None, key, signed(b"no offer")),
        RecordError::Malformed(_)
    ));
    let claimed = other.peer_id();
    let of_another = RecordError::NotTheSigner {
        claimed,
        signer: from,
    };
    assert_eq!(refuse(Some(claimed), key, sound.clone()), of_another);
    assert_eq!(
        refuse(None, RecordKey([1; 32]), sound.clone()),
        RecordError::WrongKey(from)
    );
    let elsewhere = (0..SHARDS).find(|shard| *shard != shard_of(from)).unwrap();
    let elsewhere = provider_key(MODEL, 0, elsewhere);
    assert_eq!(
        refuse(None, elsewhere, sound.clone()),
        RecordError::WrongKey(from)
    );
    assert_eq!(store.size(), 0);
    // Anybody may carry a record; its signature says whose it is.
    store
        .put(claimed, key, None, record(&pair, 5, NOW + 1000), NOW)
        .unwrap();
    for sequence in [4, 5] {
        let replayed = RecordError::Stale {
            peer: from,
            sequence,
            kept: 5,
        };
        assert_eq!(
            put(&mut store, &pair, record(&pair, sequence, NOW + 2000), NOW),
            Err(replayed)
        );
    }
    let size = store.size();
    put(&mut store, &pair, record(&pair, 6, NOW + 1000), NOW).unwrap();
    assert_eq!(store.size(), size, "the older one went");
    let kept = store.get(key, 10, NOW, &random);
    assert_eq!(open(&kept[0], NOW).unwrap().sequence, 6);
    assert_eq!(open(&kept[0], NOW).unwrap().body, body);
    assert_eq!(store.get(key, 10, NOW + 1000, &random).len(), 0, "expired");
    let later = NOW + 10_000;
    put(&mut store, &other, record(&other, 1, later + 1000), later).unwrap();
    assert_eq!(store.size(), size, "and no longer in memory");
}

#[test]
fn floods_are_told_to_wait_and_memory_is_bounded() {
    let mut store = RecordStore::default();
    let (pair, other) = (keypair(1), keypair(2));
    let key = key_for(pair.peer_id());
    let mut send = |from: PeerId, now| store.put(from, key, None, vec![0; 9], now).unwrap_err();
    for _ in 0..64 {
        assert!(matches!(send(pair.peer_id(), NOW), RecordError::Malformed(_)));
    }
    let error = send(pair.peer_id(), NOW);
    assert!(
        error
            .to_string()
            .ends_with("sends too many records; the next is taken in 1 s"),
        "{error}"
    );
    assert!(
        matches!(send(other.peer_id(), NOW), RecordError::Malformed(_)),
        "others may"
    );
    assert!(matches!(
        send(pair.peer_id(), NOW + 1000),
        RecordError::Malformed(_)
    ));
    assert!(matches!(
        send(pair.peer_id(), NOW + 1000),
        RecordError::RateLimited { .. }
    ));
    // One publisher with many models, carried by many.
    let many = (0..200_u8).filter(|model| {
        let offer = Offer {
            model: ModelRoot([*model; 32]),
            ..offer(SPAN)
        };
        let record = Signed::sign(&pair, 1, NOW + 1000, &offer.to_bytes().unwrap()).unwrap();
        let key = keys_of(pair.peer_id(), offer.model, &SPAN)[0];
        store
            .put(peer(100 + u16::from(*model)), key, None, record.into_bytes(), NOW)
            .is_ok()
    });
    assert_eq!(many.count(), 64);
    // A thousand ids later nobody new is listened to, until a minute has gone.
    for number in 0..2000 {
        let _ = store.put(peer(number), key, None, vec![], NOW);
    }
    let error = store.put(peer(3000), key, None, vec![], NOW).unwrap_err();
    assert!(matches!(error, RecordError::Full { limit: 1024, .. }), "{error}");
    let error = store
        .put(peer(3000), key, None, vec![], NOW + 70_000)
        .unwrap_err();
    assert!(matches!(error, RecordError::Malformed(_)), "{error}");
}
