//! A model that some of the nodes serve: they publish where they are, and others find them and plan a chain.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use kwaainet_network::route::{self, Chain, MAX_PINGS, Offer};
use kwaainet_network::{PeerId, RecordKey};

use crate::dice::{Dice, percentile};
use crate::kademlia::{Finder, Then};
use crate::keys::{BUCKET, SHARDS, buckets, provider_key, shard_of};
use crate::world::{Node, World, point};

/// As many blocks as Llama 3 70B has.
pub(crate) const BLOCKS: u32 = 80;
/// The root of the model's tree of hashes.
pub(crate) const ROOT: [u8; 32] = [7; 32];
/// Shards of a bucket that a finder asks at once.
const AT_ONCE: u8 = 2;
/// Records that a node gives back for one key.
pub(crate) const RETURNED: usize = 64;
/// So many offers for each block are enough: the best of a few, and somebody else when it fails.
pub(crate) const ENOUGH: usize = 3;
/// Peers that are asked for a sign of life before a chain is planned, and how long they have.
const ASKED: usize = 64;
const PATIENCE_US: u64 = 1_000_000;

pub(crate) struct Provider {
    pub(crate) node: Node,
    pub(crate) offer: Offer,
}

pub(crate) struct Swarm<'a> {
    world: &'a World,
    pub(crate) providers: Vec<Provider>,
    by_peer: HashMap<PeerId, Node>,
    /// Which providers' records a node keeps under a key.
    kept: HashMap<(RecordKey, Node), Vec<u16>>,
    /// How long each announcement took.
    published_us: Vec<u64>,
    announcements: usize,
}

impl<'a> Swarm<'a> {
    /// Peers join one after the other, each where the throughput is lowest. A peer serves 8 to 40 blocks, and computes
    /// 20 to 400 of them in a second: more of the slow ones than of the quick ones.
    pub(crate) fn new(world: &'a World, size: usize, gone: f64, dice: &Dice) -> Self {
        let mut offers: Vec<Offer> = Vec::new();
        let mut by_peer = HashMap::new();
        while offers.len() < size {
            let node = world.anyone(dice, gone);
            let peer = world.peer(node);
            if by_peer.insert(peer, node).is_some() {
                continue;
            }
            let length = 8 + dice.below(33) as u32;
            let start = route::best_start(&offers, BLOCKS, length).unwrap_or(0);
            let rps_milli = (20_000.0 * 20_f64.powf(dice.unit())) as u32;
            let end = start + length;
            offers.push(Offer {
                peer,
                start,
                end,
                rps_milli,
                rtt_us: None,
                has_cache: true,
                pings_us: Vec::new(),
            });
        }
        let mut swarm = Self {
            world,
            providers: Vec::new(),
            kept: HashMap::new(),
            published_us: Vec::new(),
            announcements: 0,
            by_peer,
        };
        for number in 0..offers.len() {
            let mut offer = offers[number].clone();
            let node = swarm.by_peer[&offer.peer];
            offer.pings_us = swarm.successors(node, &offer, &offers, dice);
            swarm.providers.push(Provider { node, offer });
        }
        swarm
    }

    /// The nearest of some peers that serve the block after the last one of an offer.
    fn successors(&self, node: Node, offer: &Offer, offers: &[Offer], dice: &Dice) -> Vec<(PeerId, u32)> {
        let mut pings: Vec<(u32, PeerId)> = (0..8 * MAX_PINGS)
            .map(|_| &offers[dice.below(offers.len())])
            .filter(|next| next.start <= offer.end && offer.end < next.end)
            .map(|next| {
                (
                    self.world.rtt_us(node, self.by_peer[&next.peer]) as u32,
                    next.peer,
                )
            })
            .collect();
        pings.sort_unstable();
        pings.dedup();
        pings.truncate(MAX_PINGS);
        pings.into_iter().map(|(us, peer)| (peer, us)).collect()
    }

    /// Every provider gives its record to the nodes that it finds nearest to its keys, while `gone` have left.
    pub(crate) fn publish(&mut self, alpha: usize, gone: f64) {
        for (number, provider) in self.providers.iter().enumerate() {
            for key in keys_of(&provider.offer) {
                let mut finder = Finder::new(self.world, provider.node, alpha, gone);
                finder.begin(point(&key.0));
                finder.run(|_| Then::GoOn);
                for holder in finder.lookups[0].nearest() {
                    self.kept.entry((key, holder)).or_default().push(number as u16);
                }
                self.published_us.push(finder.now_us);
                self.announcements += 1;
            }
        }
    }

    /// The most records that one node keeps under one key.
    pub(crate) fn fullest(&self) -> usize {
        self.kept.values().map(Vec::len).max().unwrap_or(0)
    }

    pub(crate) fn announcements(&self) -> usize {
        self.announcements
    }

    pub(crate) fn published_us(&self) -> u64 {
        percentile(&mut self.published_us.clone(), 0.5)
    }

    /// What a node finds of the model, until every block is served by `enough` peers or nothing is left to ask.
    pub(crate) fn find(&self, from: Node, alpha: usize, gone: f64, enough: usize) -> Found {
        let mut finder = Finder::new(self.world, from, alpha, gone);
        let mut search = Search {
            asked: Vec::new(),
            offers: BTreeSet::new(),
            served: [0; BLOCKS as usize],
            next: BTreeMap::new(),
        };
        for bucket in buckets(0, BLOCKS) {
            for _ in 0..AT_ONCE {
                search
                    .ask(bucket)
                    .into_iter()
                    .for_each(|target| finder.begin(target));
            }
        }
        let mut found_us = None;
        finder.run(|news| {
            let key = search.asked[news.lookup];
            if let Some(kept) = news.from.and_then(|node| self.kept.get(&(key.1, node))) {
                // The newest: those that published last.
                kept.iter()
                    .rev()
                    .take(RETURNED)
                    .for_each(|number| search.hear(*number, &self.providers));
            }
            if search.least(0..BLOCKS) >= enough {
                found_us = Some(news.time_us);
                return Then::Enough;
            }
            let bucket = key.0 * BUCKET..((key.0 + 1) * BUCKET).min(BLOCKS);
            if news.done && search.least(bucket) < enough {
                return Then::Begin(search.ask(key.0).into_iter().collect());
            }
            Then::GoOn
        });
        Found {
            requests: finder.requests,
            us: found_us.unwrap_or(finder.now_us),
            enough: found_us.is_some(),
            providers: search.offers.into_iter().collect(),
        }
    }

    /// Asks those that were found for a sign of life, and plans a chain of those that gave one.
    pub(crate) fn plan(&self, from: Node, found: &Found, gone: f64) -> Planned {
        let mut offers = Vec::new();
        let mut avoid = Vec::new();
        let mut waited_us = 0;
        for number in found.providers.iter().take(ASKED) {
            let provider = &self.providers[usize::from(*number)];
            let rtt_us = self.world.rtt_us(from, provider.node);
            if self.world.left(provider.node, gone) {
                waited_us = PATIENCE_US;
                avoid.push(provider.offer.peer);
            } else {
                waited_us = waited_us.max((3 * rtt_us).min(PATIENCE_US));
            }
            offers.push(Offer {
                rtt_us: u32::try_from(rtt_us).ok(),
                ..provider.offer.clone()
            });
        }
        let silent = avoid.len();
        let chain = route::plan(&offers, BLOCKS, &avoid).ok();
        let repairs = chain.as_ref().map_or(0, |chain| {
            avoid.extend(chain.hops().get(chain.hops().len() / 2).map(|hop| hop.peer));
            let others: Vec<Offer> = offers
                .iter()
                .filter(|offer| !avoid.contains(&offer.peer))
                .cloned()
                .collect();
            route::alternatives(&others, chain, chain.hops().len() / 2, 3).len()
        });
        Planned {
            waited_us,
            silent,
            chain,
            repairs,
        }
    }
}

/// Where the record of an offer is kept.
pub(crate) fn keys_of(offer: &Offer) -> impl Iterator<Item = RecordKey> + use<> {
    let shard = shard_of(offer.peer);
    buckets(offer.start, offer.end).map(move |bucket| provider_key(&ROOT, bucket, shard))
}

/// What a finder has.
pub(crate) struct Found {
    pub(crate) requests: u64,
    pub(crate) us: u64,
    pub(crate) enough: bool,
    /// Numbers of providers.
    pub(crate) providers: Vec<u16>,
}

pub(crate) struct Planned {
    /// After the search, for signs of life.
    pub(crate) waited_us: u64,
    /// Records of peers that had left.
    pub(crate) silent: usize,
    pub(crate) chain: Option<Chain>,
    /// Ways to go on when the hop in the middle fails, three at most.
    pub(crate) repairs: usize,
}

struct Search {
    /// Per lookup, the bucket and the key.
    asked: Vec<(u32, RecordKey)>,
    offers: BTreeSet<u16>,
    served: [usize; BLOCKS as usize],
    /// Per bucket, the shard that is asked next.
    next: BTreeMap<u32, u8>,
}

impl Search {
    fn ask(&mut self, bucket: u32) -> Option<u64> {
        let next = self.next.entry(bucket).or_insert(0);
        if *next >= SHARDS {
            return None;
        }
        let key = provider_key(&ROOT, bucket, *next);
        *next += 1;
        self.asked.push((bucket, key));
        Some(point(&key.0))
    }

    fn hear(&mut self, number: u16, providers: &[Provider]) {
        if self.offers.insert(number) {
            let offer = &providers[usize::from(number)].offer;
            self.served[offer.start as usize..offer.end as usize]
                .iter_mut()
                .for_each(|count| *count += 1);
        }
    }

    /// How many peers serve the block that the fewest serve.
    fn least(&self, blocks: std::ops::Range<u32>) -> usize {
        self.served[blocks.start as usize..blocks.end as usize]
            .iter()
            .copied()
            .min()
            .unwrap_or(0)
    }
}

/// What a series of discoveries came to. Times are simulated, in microseconds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Discoveries {
    pub(crate) requests: f64,
    pub(crate) enough: [u64; 2],
    pub(crate) planned: [u64; 2],
    pub(crate) chains: usize,
    pub(crate) repaired: usize,
    pub(crate) hops: f64,
    pub(crate) token_ms: f64,
    pub(crate) silent: f64,
    pub(crate) count: usize,
}

/// Nodes anywhere look for the model and plan a chain through it.
pub(crate) fn measure(swarm: &Swarm<'_>, alpha: usize, gone: f64, count: usize, dice: &Dice) -> Discoveries {
    let (mut enough, mut planned) = (Vec::new(), Vec::new());
    let (mut requests, mut silent, mut hops, mut micros, mut repaired) = (0, 0, 0, 0, 0);
    for _ in 0..count {
        let from = swarm.world.anyone(dice, gone);
        let found = swarm.find(from, alpha, gone, ENOUGH);
        requests += found.requests;
        enough.extend(found.enough.then_some(found.us));
        let plan = swarm.plan(from, &found, gone);
        silent += plan.silent;
        if let Some(chain) = plan.chain {
            planned.push(found.us + plan.waited_us);
            hops += chain.hops().len();
            micros += chain.micros();
            repaired += usize::from(plan.repairs > 0);
        }
    }
    let chains = planned.len();
    let mean = |sum: f64, of: usize| if of == 0 { 0.0 } else { sum / of as f64 };
    Discoveries {
        requests: mean(requests as f64, count),
        enough: [percentile(&mut enough, 0.5), percentile(&mut enough, 0.95)],
        planned: [percentile(&mut planned, 0.5), percentile(&mut planned, 0.95)],
        chains,
        repaired,
        hops: mean(hops as f64, chains),
        token_ms: mean(micros as f64 / 1000.0, chains),
        silent: mean(silent as f64, count),
        count,
    }
}
