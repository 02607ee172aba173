//! Peers that speak bitswap and nothing else of ours.

use std::pin::pin;

use futures::FutureExt;
use futures::future::{Either, join, select};

use super::*;
use crate::bitswap::{BITSWAP, Block, Exchange, Message as Bitswap, Presence, Want, Wanted, leaf_cid};
use crate::{Incoming, NetworkError};

const LEAF: [u8; 4] = [0x01, 0x55, 0x12, 0x20];

impl World {
    /// Somebody who gives chunks away by bitswap alone.
    fn foreigner(&self, seed: u8, has: impl IntoIterator<Item = u32>) -> Arc<MemoryNetwork> {
        let (network, clock) = (self.join(seed), Arc::clone(&self.clock));
        let chunks = has.into_iter().map(|n| (n, chunk(n, self.chunks)));
        let shelf = Shelf(Mutex::new(chunks.collect()));
        let lent = Arc::clone(&network);
        let serving = async move {
            let exchange = Exchange::new(lent.clone(), clock.clone());
            let pace = Pace::new(Limits::default(), &*clock);
            drop(exchange.serve_blocks(&shelf, &pace).await);
        };
        self.spawner().spawn_local(serving).unwrap();
        network
    }

    /// Us, who speak both, and give nothing away.
    fn both(&self, manifest: Manifest, from: &[PeerId]) -> (Arc<MemoryNetwork>, Download) {
        let (us, clock) = (self.join(9), Arc::clone(&self.clock));
        let exchange = Exchange::new(us.clone(), clock.clone());
        let random = SeededRandom::new(1);
        let download = Download::new(us.clone(), clock, &random, &permit(), manifest, &[]).unwrap();
        download.speak_bitswap(exchange);
        for peer in from {
            futures::executor::block_on(us.dial(*peer, vec![])).unwrap();
            assert!(download.source().add_peer(*peer));
        }
        (us, download)
    }
}

/// A foreign node that a test plays by hand.
struct Played {
    network: Arc<MemoryNetwork>,
    incoming: Box<dyn Incoming>,
    visitor: PeerId,
}

impl Played {
    fn new(network: Arc<MemoryNetwork>, visitor: PeerId) -> Self {
        Self {
            incoming: network.serve(BITSWAP).unwrap(),
            network,
            visitor,
        }
    }

    /// The wants of the next message: each CID, and what is wanted of it.
    async fn wants(&mut self) -> (bool, Vec<(Vec<u8>, Wanted)>) {
        let mut stream = self.incoming.next().await.unwrap();
        let bytes = stream.receiver.next().await.unwrap().unwrap();
        let message = Bitswap::from_bytes(&bytes).unwrap();
        let wants = message.wants.iter().map(|want| (want.cid.to_vec(), want.wanted));
        (message.full, wants.collect())
    }

    async fn say(&self, message: &Bitswap<'_>) {
        let mut stream = self.network.open(self.visitor, BITSWAP).await.unwrap();
        stream.sender.send(message.to_bytes()).await.unwrap();
    }

    async fn presences(&self, wants: &[(Vec<u8>, Wanted)], here: impl Fn(usize) -> bool) {
        let presences = wants
            .iter()
            .enumerate()
            .map(|(at, (cid, _))| Presence { cid, here: here(at) });
        self.say(&Bitswap {
            presences: presences.collect(),
            ..Bitswap::default()
        })
        .await;
    }

    async fn block(&self, data: &[u8]) {
        self.say(&Bitswap {
            blocks: vec![Block { prefix: &LEAF, data }],
            ..Bitswap::default()
        })
        .await;
    }
}

/// Plays until the download is over.
async fn beside<T>(playing: impl Future<Output = ()>, download: impl Future<Output = T>) -> T {
    let playing = async {
        playing.await;
        std::future::pending::<()>().await;
    };
    match select(pin!(download), pin!(playing)).await {
        Either::Left((done, _)) => done,
        Either::Right(_) => panic!("it is never over"),
    }
}

#[test]
fn one_download_takes_from_our_own_peers_and_from_foreign_ones() {
    let mut world = World::new(30);
    let own = world.seeder(1, 0..20);
    let foreign = world.foreigner(2, 10..30).local_peer();
    let (_, download) = world.both(manifest(30), &[own, foreign]);
    let (got, from) = world.run(all(download, 30));
    assert_eq!(got.len(), 30);
    assert!(from[&own] >= 10 && from[&foreign] >= 10, "{from:?}");
}

#[test]
fn equal_chunks_are_one_block_and_a_tiny_one_may_come_at_once() {
    let mut world = World::new(5);
    let foreign = world.foreigner(1, 0..1);
    let mut twins = manifest(5);
    twins.hashes = vec![twins.hashes[0]; 5];
    twins.bytes = 5 * CHUNK as u64;
    let (_, mut download) = world.both(twins, &[foreign.local_peer()]);
    let (numbers, sent) = world.run(async move {
        let mut numbers = BTreeSet::new();
        while let Some((number, bytes, _)) = download.next().await {
            assert!(bytes == chunk(0, 5));
            numbers.insert(number);
        }
        (numbers, foreign.peers()[0].sent)
    });
    assert_eq!(numbers, (0..5).collect());
    assert!(sent < 3 * CHUNK as u64, "{sent}");

    let mut world = World::new(1);
    let played = world.join(1);
    let tiny = Manifest {
        root: ROOT,
        bytes: 10,
        hashes: vec![Sha256::digest([7; 10]).into()],
    };
    let (us, mut download) = world.both(tiny, &[played.local_peer()]);
    let mut played = Played::new(played, us.local_peer());
    let came = world.run(async move {
        let playing = async {
            assert_eq!(played.wants().await.1[0].1, Wanted::Have);
            played.block(&[7; 10]).await;
        };
        join(playing, download.next()).await.1.unwrap()
    });
    assert_eq!((came.0, came.1), (0, vec![7; 10]));
}

#[test]
fn wrong_bytes_and_what_nobody_asked_for_are_refused_and_their_sender_banned() {
    let manifest_of = |chunks| manifest(chunks);
    for lie in 0..4 {
        let mut world = World::new(12);
        let (liar, honest) = (world.join(1), world.foreigner(2, 0..12).local_peer());
        let (us, mut download) = world.both(manifest_of(12), &[liar.local_peer(), honest]);
        let mut played = Played::new(liar, us.local_peer());
        let liar = played.network.local_peer();
        let (got, again) = world.run(async move {
            let mut source = download.source();
            let playing = async {
                let haves = played.wants().await.1;
                played.presences(&haves, |_| true).await;
                let mut wants = played.wants().await.1;
                wants.retain(|(_, wanted)| *wanted == Wanted::Block);
                match lie {
                    0 => played.block(&vec![77; CHUNK]).await,
                    // The bytes of a chunk that is missing, and that this peer was not asked for.
                    1 => {
                        let other = (0..11).find(|number| {
                            let cid = leaf_cid(&hash_of(&chunk(*number, 12)));
                            wants.iter().all(|(one, _)| *one != cid)
                        });
                        played.block(&chunk(other.unwrap(), 12)).await;
                    }
                    // Right bytes under another kind of name.
                    2 => {
                        let asked = (0..12).map(|number| chunk(number, 12));
                        let mut asked = asked.filter(|bytes| leaf_cid(&hash_of(bytes)) == wants[0].0);
                        let data = asked.next().unwrap();
                        let prefix = &[1, 0x70, 0x12, 0x20];
                        played
                            .say(&Bitswap {
                                blocks: vec![Block { prefix, data: &data }],
                                ..Bitswap::default()
                            })
                            .await;
                    }
                    _ => {
                        let mut stream = played.network.open(played.visitor, BITSWAP).await.unwrap();
                        stream.sender.send(vec![0xff; 9]).await.unwrap();
                    }
                }
            };
            let mut got = BTreeSet::new();
            let getting = async {
                while let Some((number, bytes, from)) = download.next().await {
                    assert!(bytes == chunk(number, 12) && from != liar, "lie {lie}");
                    got.insert(number);
                }
                got
            };
            let (_, got) = join(playing, getting).await;
            assert!(source.add_peer(liar));
            assert!(download.next().await.is_none());
            (got, played.incoming.next().now_or_never().is_some())
        });
        assert_eq!(got.len(), 12, "lie {lie}");
        assert!(!again, "lie {lie}: it is asked again");
    }
}

#[test]
fn what_a_peer_lacks_after_all_is_asked_of_others_and_what_it_gets_later_of_it() {
    let mut world = World::new(2);
    let peer = world.join(1);
    let (us, mut download) = world.both(manifest(2), &[peer.local_peer()]);
    let mut played = Played::new(peer, us.local_peer());
    world.run(async move {
        let playing = async {
            let haves = played.wants().await.1;
            assert_eq!(haves.len(), 2);
            let first = leaf_cid(&hash_of(&chunk(0, 2)));
            let at = haves.iter().position(|(cid, _)| *cid == first).unwrap();
            played.presences(&haves, |one| one == at).await;
            assert_eq!(played.wants().await.1, [(first.clone(), Wanted::Block)]);
            // It is gone: nobody is asked in vain until word comes that it is back.
            played
                .presences(&[(first.clone(), Wanted::Block)], |_| false)
                .await;
            played.presences(&haves, |one| one != at).await;
            let other = haves[1 - at].0.clone();
            assert_eq!(played.wants().await.1, [(other, Wanted::Block)]);
            played.block(&chunk(1, 2)).await;
            played.presences(&haves, |one| one == at).await;
            assert_eq!(played.wants().await.1, [(first, Wanted::Block)]);
            played.block(&chunk(0, 2)).await;
        };
        let getting = async { [download.next().await.unwrap().0, download.next().await.unwrap().0] };
        assert_eq!(join(playing, getting).await.1, [1, 0]);
    });
}

#[test]
fn a_chunk_found_elsewhere_is_cancelled_and_may_come_late() {
    let mut world = World::new(3);
    let peer = world.join(1);
    let (us, mut download) = world.both(manifest(3), &[peer.local_peer()]);
    let mut played = Played::new(peer, us.local_peer());
    let others = download.beside();
    world.run(async move {
        let playing = async {
            let haves = played.wants().await.1;
            played.presences(&haves, |_| true).await;
            let wants = played.wants().await.1;
            assert_eq!(wants.len(), 2);
            let number = |cid: &[u8]| (0..3).find(|n| leaf_cid(&hash_of(&chunk(*n, 3))) == cid).unwrap();
            others.found(number(&wants[0].0));
            let cancel = (wants[0].0.clone(), Wanted::Nothing);
            assert!(played.wants().await.1.contains(&cancel));
            for (cid, _) in &haves {
                played.block(&chunk(number(cid), 3)).await;
            }
            // The visit is over: what the peer remembers of us may be forgotten.
            loop {
                let (full, wants) = played.wants().await;
                if full {
                    assert!(wants.is_empty());
                    break;
                }
            }
        };
        let getting = async {
            let mut got = vec![];
            while let Some((number, _, _)) = download.next().await {
                got.push(number);
            }
            got
        };
        assert_eq!(join(playing, getting).await.1.len(), 2);
    });
}

#[test]
fn peers_that_promise_much_and_bring_nothing_hold_up_nobody_for_ever() {
    let mut world = World::new(3);
    let peer = world.join(1);
    let (us, mut download) = world.both(manifest(3), &[peer.local_peer()]);
    let mut played = Played::new(peer, us.local_peer());
    let clock = Arc::clone(&world.clock);
    let came = world.run(async move {
        let playing = async {
            let haves = played.wants().await.1;
            loop {
                // Busy as it is, it says the same over and over.
                played.presences(&haves, |_| true).await;
                clock.sleep(std::time::Duration::from_millis(300)).await;
            }
        };
        beside(playing, download.next()).await
    });
    assert!(came.is_none());
    let took = world.clock.monotonic_ms();
    assert!((60_000.0..70_000.0).contains(&took), "{took}");
}

#[test]
fn a_server_answers_what_it_is_asked_and_forgets_what_is_cancelled() {
    let mut world = World::new(4);
    let server = world.foreigner(1, 0..3);
    let us = world.join(9);
    futures::executor::block_on(us.dial(server.local_peer(), vec![])).unwrap();
    let played = Played::new(us, server.local_peer());
    let leaf = |number| leaf_cid(&hash_of(&chunk(number, 4)));
    // A node of the tree over the file, of which only leaves are served; and the same in CIDv0.
    let (node, old) = (
        [&[1, 0x70, 0x12, 0x20][..], &[9; 32]].concat(),
        [&[0x12, 0x20][..], &[9; 32]].concat(),
    );
    world.run(async move {
        let mut played = played;
        let cids: Vec<_> = (0..4).map(leaf).chain([node, old]).collect();
        let want = |at: usize, wanted, send_dont_have| Want {
            cid: &cids[at],
            wanted,
            send_dont_have,
        };
        let all = Bitswap {
            wants: vec![
                want(0, Wanted::Have, true),
                want(1, Wanted::Block, true),
                want(2, Wanted::Block, true),
                want(3, Wanted::Have, true),
                want(3, Wanted::Block, false),
                want(4, Wanted::Block, true),
                want(5, Wanted::Have, true),
                want(2, Wanted::Nothing, false),
            ],
            ..Bitswap::default()
        };
        played.say(&all).await;
        let (mut blocks, mut presences) = (vec![], BTreeMap::new());
        let mut stream = played.incoming.next().await.unwrap();
        while let Some(Ok(bytes)) = stream.receiver.next().await {
            let message = Bitswap::from_bytes(&bytes).unwrap();
            blocks.extend(message.blocks.iter().map(|block| {
                assert_eq!(block.prefix, LEAF);
                block.data.to_vec()
            }));
            let said = message.presences.iter();
            presences.extend(said.map(|presence| (presence.cid.to_vec(), presence.here)));
        }
        // The second one is cancelled; the last one that it lacks it need not speak of.
        assert!(blocks == [chunk(1, 4)]);
        let expected = [(0, true), (4, false), (5, false)].map(|(at, here)| (cids[at].clone(), here));
        assert_eq!(presences, BTreeMap::from(expected));
    });
}

#[test]
fn a_peer_that_wants_everything_and_reads_nothing_gets_little_and_holds_up_nobody() {
    let mut world = World::new(10);
    let server = world.foreigner(1, 0..10).local_peer();
    let greedy = world.join(2);
    futures::executor::block_on(greedy.dial(server, vec![])).unwrap();
    let played = Played::new(Arc::clone(&greedy), server);
    world.run(async move {
        let cids: Vec<_> = (0..10)
            .map(|number| leaf_cid(&hash_of(&chunk(number, 10))))
            .collect();
        for _ in 0..40 {
            let wants = cids.iter().map(|cid| Want {
                cid,
                wanted: Wanted::Block,
                send_dont_have: true,
            });
            let message = Bitswap {
                wants: wants.collect(),
                ..Bitswap::default()
            };
            played.say(&message).await;
        }
        // Streams that stay open and say nothing.
        for _ in 0..40 {
            if let Ok(stream) = greedy.open(server, BITSWAP).await {
                std::mem::forget(stream);
            }
        }
        std::mem::forget(played);
    });
    let (_, download) = world.both(manifest(10), &[server]);
    assert_eq!(world.run(all(download, 10)).0.len(), 10);
}

#[test]
fn bitswap_ends_when_consent_is_withdrawn_and_is_heard_only_while_somebody_needs_it() {
    let mut world = World::new(10);
    let peer = world.foreigner(1, 0..10);
    let (us, clock) = (world.join(9), Arc::clone(&world.clock));
    let exchange = Exchange::new(us.clone(), clock);
    let mut download = world.download(&us, &[], 1, &[peer.local_peer()]);
    download.speak_bitswap(exchange.clone());
    let (end, ended) = futures::channel::oneshot::channel::<()>();
    let serving = exchange.clone();
    let serving = async move {
        let shelf = Shelf(Mutex::new(BTreeMap::from([(0, chunk(0, 10))])));
        let permit = permit();
        let served = serving.serve(&shelf, &permit, Limits::default());
        drop(select(ended, pin!(served)).await);
    };
    world.spawner().spawn_local(serving).unwrap();
    world.run(async move {
        assert!(download.next().await.is_some());
        let twice = exchange
            .serve(&Shelf::default(), &permit(), Limits::default())
            .await;
        assert!(matches!(twice, Err(NetworkError::AlreadyServed(_))), "{twice:?}");
        end.send(()).unwrap();
        // The download still hears what it asked for, and gives nothing away.
        assert!(download.next().await.is_some());
        let mut unheard = peer.open(us.local_peer(), CHUNKS).await;
        assert!(
            matches!(unheard, Err(NetworkError::NotSpoken { .. })),
            "{unheard:?}"
        );
        drop(download);
        unheard = peer.open(us.local_peer(), BITSWAP).await;
        assert!(
            matches!(unheard, Err(NetworkError::NotSpoken { .. })),
            "{unheard:?}"
        );
    });
}
