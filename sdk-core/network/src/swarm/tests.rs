mod foreign;
mod hostile;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::{Arc, Mutex};

use futures::executor::{LocalPool, LocalSpawner};
use futures::task::LocalSpawnExt;
use kwaainet_platform::{BoxFuture, Clock, SeededRandom, boxed};
use kwaainet_testkit::IdleClock;
use kwaainet_types::{ConsentGrant, ConsentRecord, HelpOthers, Permit, Purpose};
use sha2::{Digest, Sha256};

use super::*;
use crate::record::ModelRoot;
use crate::{Keypair, MemoryHub, MemoryNetwork, Network, PeerId};

const ROOT: ModelRoot = ModelRoot([5; 32]);
const CHUNK: usize = 1 << 20;

#[derive(Default)]
struct Shelf(Mutex<BTreeMap<u32, Vec<u8>>>);

impl Library for Shelf {
    fn has(&self, root: ModelRoot) -> Option<Vec<u8>> {
        let chunks = self.0.lock().unwrap();
        let mut bits = vec![0; 16];
        chunks
            .keys()
            .for_each(|chunk| bits[*chunk as usize / 8] |= 1 << (chunk % 8));
        (root == ROOT && !chunks.is_empty()).then_some(bits)
    }
    fn find(&self, hash: &[u8; 32]) -> Option<(ModelRoot, u32)> {
        let chunks = self.0.lock().unwrap();
        let mut all = chunks.iter();
        let (number, _) = all.find(|(_, bytes)| hash_of(bytes) == *hash)?;
        Some((ROOT, *number))
    }
    fn read(&self, _root: ModelRoot, chunk: u32) -> BoxFuture<'_, Option<Vec<u8>>> {
        boxed(async move { self.0.lock().unwrap().get(&chunk).cloned() })
    }
}

fn permit() -> Permit<HelpOthers> {
    let record = ConsentRecord {
        receipt_id: "r1".into(),
        purposes: vec![Purpose::HelpOthers],
        notice_digest: "ab".repeat(32),
        language: "en".into(),
        granted_at_ms: 0,
        expires_at_ms: 1_000,
    };
    ConsentGrant::accept(record, 1).unwrap().permit(1).unwrap()
}

/// The last chunk is a short one.
fn chunk(number: u32, of: u32) -> Vec<u8> {
    vec![number as u8; if number + 1 == of { 300_000 } else { CHUNK }]
}

/// Hashing takes long without optimisation, and all bytes of a chunk are the same here.
fn hash_of(chunk: &[u8]) -> [u8; 32] {
    static KNOWN: Mutex<BTreeMap<(u8, usize), [u8; 32]>> = Mutex::new(BTreeMap::new());
    let mut known = KNOWN.lock().unwrap();
    *known
        .entry((chunk[0], chunk.len()))
        .or_insert_with(|| Sha256::digest(chunk).into())
}

fn manifest(chunks: u32) -> Manifest {
    Manifest {
        root: ROOT,
        bytes: u64::from(chunks - 1) * CHUNK as u64 + 300_000,
        hashes: (0..chunks)
            .map(|number| hash_of(&chunk(number, chunks)))
            .collect(),
    }
}

struct World {
    hub: MemoryHub,
    clock: Arc<IdleClock>,
    pool: LocalPool,
    chunks: u32,
}

impl World {
    fn new(chunks: u32) -> Self {
        Self {
            hub: MemoryHub::default(),
            clock: Arc::default(),
            pool: LocalPool::new(),
            chunks,
        }
    }

    fn join(&self, seed: u8) -> Arc<MemoryNetwork> {
        Arc::new(self.hub.join(&Keypair::from_seed([seed; 32])))
    }

    fn spawner(&self) -> LocalSpawner {
        self.pool.spawner()
    }

    fn serve(&self, network: &Arc<MemoryNetwork>, shelf: &Arc<Shelf>, limits: Limits) {
        let (network, shelf, clock) = (Arc::clone(network), Arc::clone(shelf), Arc::clone(&self.clock));
        let task = async move { drop(serve_chunks(&*network, &*shelf, &*clock, &permit(), limits).await) };
        self.spawner().spawn_local(task).unwrap();
    }

    fn seeder(&self, seed: u8, has: impl IntoIterator<Item = u32>) -> PeerId {
        let shelf = Shelf(Mutex::new(
            has.into_iter().map(|n| (n, chunk(n, self.chunks))).collect(),
        ));
        let network = self.join(seed);
        self.serve(&network, &Arc::new(shelf), Limits::default());
        network.local_peer()
    }

    fn download(&self, network: &Arc<MemoryNetwork>, has: &[u8], seed: u64, from: &[PeerId]) -> Download {
        let (lent, clock) = (Arc::clone(network) as Arc<dyn Network>, Arc::clone(&self.clock));
        let random = SeededRandom::new(seed);
        let download = Download::new(lent, clock, &random, &permit(), manifest(self.chunks), has).unwrap();
        for peer in from {
            futures::executor::block_on(network.dial(*peer, vec![])).unwrap();
            assert!(download.source().add_peer(*peer));
        }
        download
    }

    fn run<T: 'static>(&mut self, task: impl Future<Output = T> + 'static) -> T {
        let slot = Rc::new(std::cell::RefCell::new(None));
        let result = Rc::clone(&slot);
        self.spawner()
            .spawn_local(async move { *result.borrow_mut() = Some(task.await) })
            .unwrap();
        loop {
            self.pool.run_until_stalled();
            if let Some(value) = slot.borrow_mut().take() {
                return value;
            }
            self.clock.advance();
        }
    }
}

/// Everything that comes, checked, with how many chunks came from whom.
async fn all(mut download: Download, chunks: u32) -> (BTreeSet<u32>, BTreeMap<PeerId, u32>) {
    let (mut got, mut from) = (BTreeSet::new(), BTreeMap::new());
    while let Some((number, bytes, peer)) = download.next().await {
        assert!(bytes == chunk(number, chunks), "wrong bytes got through");
        assert!(got.insert(number), "chunk {number} came twice");
        *from.entry(peer).or_default() += 1;
    }
    (got, from)
}

#[test]
fn three_peers_deliver_their_share_and_their_own_parts() {
    let mut world = World::new(30);
    let peers = [
        world.seeder(1, (0..24).chain(24..26)),
        world.seeder(2, (0..24).chain(26..28)),
        world.seeder(3, (0..24).chain(28..30)),
    ];
    let us = world.join(9);
    let download = world.download(&us, &[], 1, &peers);
    let (got, from) = world.run(all(download, 30));
    assert_eq!(got.len(), 30);
    assert!(peers.iter().all(|peer| from[peer] >= 5), "{from:?}");
}

#[test]
fn a_peer_with_wrong_bytes_is_banned_and_the_file_is_right() {
    let mut world = World::new(12);
    let liar = world.join(1);
    let shelf = Shelf(Mutex::new(
        (0..12)
            .map(|n| (n, chunk(n + 1, 13)[..chunk(n, 12).len()].to_vec()))
            .collect(),
    ));
    let honest = world.seeder(2, 0..12);
    world.serve(&liar, &Arc::new(shelf), Limits::default());
    let us = world.join(9);
    let download = world.download(&us, &[], 1, &[liar.local_peer(), honest]);
    let (got, from) = world.run(all(download, 12));
    assert_eq!((got.len(), from), (12, BTreeMap::from([(honest, 12)])));
    // One chunk was enough to know it: what else it had sent was not taken.
    assert!(liar.peers()[0].sent < 6 * CHUNK as u64);
}

#[test]
fn peers_that_say_nothing_or_leave_hold_nothing_up() {
    let mut world = World::new(12);
    let silent = world.join(1);
    let mut held = silent.serve(CHUNKS).unwrap();
    let (leaver, honest) = (world.seeder(2, 0..12), world.seeder(3, 0..12));
    let us = world.join(9);
    let mut download = world.download(&us, &[], 1, &[silent.local_peer(), leaver, honest]);
    let hub = world.hub.clone();
    let got = world.run(async move {
        let first = download.next().await.unwrap().0;
        let _stream = held.next().await;
        hub.leave(leaver);
        let (mut got, _) = all(download, 12).await;
        got.insert(first);
        got
    });
    assert_eq!(got.len(), 12);
}

#[test]
fn a_download_that_is_dropped_anywhere_goes_on_where_it_was() {
    for stop in 0..10 {
        let mut world = World::new(10);
        let seeder = world.seeder(1, 0..10);
        let us = world.join(9);
        let mut first = world.download(&us, &[], 1, &[seeder]);
        let bits = world.run(async move {
            let mut bits = vec![0_u8; 2];
            for _ in 0..stop {
                let number = first.next().await.unwrap().0;
                bits[number as usize / 8] |= 1 << (number % 8);
            }
            bits
        });
        let rest = world.download(&us, &bits, 2, &[seeder]);
        assert_eq!(
            world.run(all(rest, 10)).0.len(),
            10 - stop,
            "stopped after {stop}"
        );
    }
}

#[test]
fn streams_that_flood_or_are_never_read_hold_up_nobody_else() {
    let mut world = World::new(10);
    let seeder = world.seeder(1, 0..10);
    let flooder = world.join(2);
    futures::executor::block_on(flooder.dial(seeder, vec![])).unwrap();
    let network = Arc::clone(&flooder);
    let _unread = world.run(async move {
        let mut streams = vec![];
        for _ in 0..60 {
            let mut stream = network.open(seeder, CHUNKS).await.unwrap();
            for message in [
                Message::Ask(ROOT),
                Message::Want(0),
                Message::Want(1),
                Message::Want(2),
            ] {
                let _ = stream.sender.send(message.to_bytes()).await;
            }
            streams.push(stream);
        }
        streams
    });
    let us = world.join(9);
    let download = world.download(&us, &[], 1, &[seeder]);
    assert_eq!(world.run(all(download, 10)).0.len(), 10);
    // Two streams are served, each as far as the network holds: not sixty.
    assert!(flooder.peers()[0].received < 8 * CHUNK as u64);
}

#[test]
fn twenty_nodes_share_what_one_had() {
    let mut world = World::new(40);
    let seeder = world.join(1);
    let shelf = Shelf(Mutex::new((0..40).map(|n| (n, chunk(n, 40))).collect()));
    let cap = Limits {
        bytes_per_second: Some(4 << 20),
        ..Limits::default()
    };
    world.serve(&seeder, &Arc::new(shelf), cap);
    let nodes: Vec<_> = (2..21)
        .map(|seed| (world.join(seed), Arc::new(Shelf::default())))
        .collect();
    nodes
        .iter()
        .for_each(|(network, shelf)| world.serve(network, shelf, cap));
    let mut downloads = vec![];
    for (index, (network, shelf)) in nodes.iter().enumerate() {
        let others = nodes.iter().map(|(other, _)| other.local_peer());
        let mut peers: Vec<_> = others.filter(|peer| *peer != network.local_peer()).collect();
        peers.push(seeder.local_peer());
        let (mut download, shelf) = (
            world.download(network, &[], index as u64, &peers),
            Arc::clone(shelf),
        );
        downloads.push(async move {
            while let Some((number, bytes, _)) = download.next().await {
                shelf.0.lock().unwrap().insert(number, bytes);
            }
        });
    }
    world.run(futures::future::join_all(downloads));
    for (_, shelf) in &nodes {
        assert_eq!(shelf.0.lock().unwrap().len(), 40);
    }
    let copies = seeder.peers().iter().map(|peer| peer.sent).sum::<u64>() as f64 / (40 * CHUNK) as f64;
    assert!(copies < 5.0, "the seeder sent {copies} copies");
}

#[test]
fn messages_are_read_as_written_and_nothing_else() {
    let frame = |bytes| Message::Frame {
        chunk: 7,
        offset: FRAME_BYTES as u32,
        bytes,
    };
    let whole = [
        Message::Ask(ROOT),
        Message::Have(vec![1, 2]),
        Message::Want(9),
        frame(vec![3; FRAME_BYTES]),
        Message::NotHere(1),
        Message::Busy(2),
        Message::Cancel(u32::MAX),
    ];
    for message in whole {
        let bytes = message.to_bytes();
        assert!(bytes.len() <= CHUNKS.longest);
        assert_eq!(Message::from_bytes(&bytes), Some(message));
    }
    let long = Message::Have(vec![0; MAX_CHUNKS / 8 + 1]);
    let odd = Message::Frame {
        chunk: 0,
        offset: 1,
        bytes: vec![1],
    };
    for bad in [frame(vec![]), frame(vec![0; FRAME_BYTES + 1]), long, odd] {
        assert_eq!(Message::from_bytes(&bad.to_bytes()), None);
    }
    for bad in [
        &[][..],
        &[7],
        &[0; 32],
        &[2, 0, 0, 0],
        &[2, 0, 0, 0, 0, 0],
        &[3, 0, 0, 0, 0, 0, 0, 0],
    ] {
        assert_eq!(Message::from_bytes(bad), None);
    }
}

#[test]
fn a_faster_peer_that_comes_later_takes_over_and_finishes_for_the_slow_one() {
    let mut world = World::new(20);
    let slow = world.join(1);
    let shelf = Shelf(Mutex::new((0..20).map(|n| (n, chunk(n, 20))).collect()));
    // Ten seconds for a chunk.
    let limits = Limits {
        bytes_per_second: Some(CHUNK as u64 / 10),
        ..Limits::default()
    };
    world.serve(&slow, &Arc::new(shelf), limits);
    let fast = world.seeder(2, 0..20);
    let us = world.join(9);
    let mut download = world.download(&us, &[], 1, &[slow.local_peer()]);
    futures::executor::block_on(us.dial(fast, vec![])).unwrap();
    let clock = Arc::clone(&world.clock);
    let (got, from) = world.run(async move {
        let (first, _, _) = download.next().await.unwrap();
        assert!(download.source().add_peer(fast));
        let begun = clock.monotonic_ms();
        let (mut got, mut from) = (BTreeSet::from([first]), BTreeMap::<_, u32>::new());
        while got.len() < 20 {
            let (number, _, peer) = download.next().await.unwrap();
            assert!(got.insert(number), "came twice");
            *from.entry(peer).or_default() += 1;
        }
        assert!(clock.monotonic_ms() - begun < 5_000.0, "waited for the slow peer");
        (got, from)
    });
    assert_eq!((got.len(), from), (20, BTreeMap::from([(fast, 19)])));
}

#[test]
fn a_peer_that_is_busy_is_visited_again_and_in_the_end_left() {
    let mut world = World::new(6);
    let seeder = world.join(1);
    let shelf = Shelf(Mutex::new((0..6).map(|n| (n, chunk(n, 6))).collect()));
    let limits = Limits {
        streams: 1,
        ..Limits::default()
    };
    world.serve(&seeder, &Arc::new(shelf), limits);
    let [one, other] = [8, 9].map(|seed| {
        let us = world.join(seed);
        all(world.download(&us, &[], 1, &[seeder.local_peer()]), 6)
    });
    let (one, other) = world.run(futures::future::join(one, other));
    assert_eq!((one.0.len(), other.0.len()), (6, 6));
    assert!(world.clock.monotonic_ms() >= 2_000.0, "nobody had to wait");

    let full = world.join(3);
    let none = Limits {
        streams: 0,
        ..Limits::default()
    };
    world.serve(&full, &Arc::default(), none);
    let us = world.join(10);
    let download = world.download(&us, &[], 1, &[full.local_peer()]);
    assert_eq!(world.run(all(download, 6)).0.len(), 0);
}

#[test]
fn a_source_beside_the_peers_gets_what_they_lack_and_is_asked_alone() {
    let mut world = World::new(40);
    let seeder = world.seeder(1, 0..32);
    let us = world.join(9);
    let mut download = world.download(&us, &[], 1, &[seeder]);
    let beside = download.beside();
    assert_eq!(beside.gaps().lacked.len(), 40, "nobody was heard yet");
    let (got, ours) = world.run(async move {
        let mut got = BTreeSet::from([download.next().await.unwrap().0]);
        assert_eq!(beside.gaps().lacked, (32..40).collect::<Vec<_>>());
        let ours = beside.gaps().had[0];
        beside.claim(ours);
        (32..40).for_each(|chunk| beside.found(chunk));
        while got.len() < 16 {
            got.insert(download.next().await.unwrap().0);
        }
        beside.found(ours);
        while let Some((chunk, _, _)) = download.next().await {
            got.insert(chunk);
        }
        (got, ours)
    });
    let theirs: BTreeSet<u32> = (0..32).filter(|chunk| *chunk != ours).collect();
    assert_eq!(got, theirs);
}
