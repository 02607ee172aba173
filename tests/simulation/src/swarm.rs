//! A model that some of the nodes serve: they publish where they are, and others find them and plan a chain.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Range;

use kwaainet_network::route::{self, Chain, MAX_PINGS, Offer};
use kwaainet_network::{PeerId, RecordKey};

use crate::dice::{Dice, percentile};
use crate::kademlia::{Finder, STRANGER, Then};
use crate::keys::{BUCKET, SHARDS, buckets, provider_key, shard_of};
use crate::world::{Node, World, point};

/// As many blocks as Llama 3 70B has.
pub(crate) const BLOCKS: u32 = 80;
/// The root of the model's tree of hashes.
pub(crate) const ROOT: [u8; 32] = [7; 32];
/// Records that a node gives back for one key.
pub(crate) const RETURNED: usize = 64;
/// So many offers for each block are enough. With three, where 30 % had left, some searches ended with a block whose
/// three peers were all gone.
pub(crate) const ENOUGH: usize = 5;
/// Peers that are asked for a sign of life before a chain is planned, and how long the last of them has.
pub(crate) const ASKED: usize = 64;
const PATIENCE_US: u64 = 1_000_000;
/// The others are not waited for when so many of those that answered serve each block.
pub(crate) const ALIVE: usize = 2;

pub(crate) struct Provider {
    pub(crate) node: Node,
    pub(crate) offer: Offer,
}

pub(crate) struct Swarm<'a> {
    pub(crate) world: &'a World,
    pub(crate) providers: Vec<Provider>,
    by_peer: HashMap<PeerId, Node>,
    /// Which providers' records a node keeps under a key.
    kept: HashMap<(RecordKey, Node), Vec<u16>>,
    /// How long each announcement took.
    published_us: Vec<u64>,
}

/// What publishing a model came to.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Published {
    pub(crate) peers: usize,
    pub(crate) announcements: usize,
    /// How long one takes.
    pub(crate) median_us: u64,
    /// The most records that one node keeps under one key.
    pub(crate) fullest: usize,
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

    /// Every provider gives its record to the nodes that it finds nearest to its keys.
    pub(crate) fn publish(&mut self, way: Way) {
        for (number, provider) in self.providers.iter().enumerate() {
            for key in keys_of(&provider.offer) {
                let mut finder = Finder::new(self.world, provider.node, way.alpha, way.gone);
                finder.begin(point(&key.0));
                finder.run(|_| Then::GoOn);
                for holder in finder.lookups[0].nearest() {
                    self.kept.entry((key, holder)).or_default().push(number as u16);
                }
                self.published_us.push(finder.now_us);
            }
        }
    }

    /// The number of a provider.
    pub(crate) fn number(&self, peer: PeerId) -> Option<u16> {
        let at = self
            .providers
            .iter()
            .position(|provider| provider.offer.peer == peer)?;
        u16::try_from(at).ok()
    }

    /// What publishing came to.
    pub(crate) fn published(&self) -> Published {
        Published {
            peers: self.providers.len(),
            announcements: self.published_us.len(),
            median_us: percentile(&mut self.published_us.clone(), 0.5),
            fullest: self.kept.values().map(Vec::len).max().unwrap_or(0),
        }
    }

    /// What a node finds of the model when it asks so many shards of each bucket at once, until every block is served
    /// by `enough` peers or nothing is left to ask.
    pub(crate) fn find(&self, from: Node, way: Way, at_once: u8, enough: usize) -> Found {
        let mut finder = Finder::new(self.world, from, way.alpha, way.gone);
        let mut search = Search::default();
        for bucket in buckets(0, BLOCKS) {
            for _ in 0..at_once {
                search
                    .ask(bucket)
                    .into_iter()
                    .for_each(|target| finder.begin(target));
            }
        }
        let mut found_us = None;
        finder.run(|news| {
            let (bucket, key) = search.asked[news.lookup];
            if let Some(kept) = news.from.and_then(|node| self.kept.get(&(key, node))) {
                // The newest: those that published last.
                for number in kept.iter().rev().take(RETURNED) {
                    search.hear(*number, &self.providers[usize::from(*number)].offer);
                }
            }
            if search.served.least(0..BLOCKS) >= enough {
                found_us = Some(news.time_us);
                return Then::Enough;
            }
            let satisfied = |bucket: u32| {
                let blocks = bucket * BUCKET..((bucket + 1) * BUCKET).min(BLOCKS);
                search.served.least(blocks) >= enough
            };
            if news.done && !satisfied(bucket) {
                return search.ask(bucket).map_or(Then::GoOn, Then::Begin);
            }
            let over = search
                .asked
                .iter()
                .enumerate()
                .filter(|(_, (bucket, _))| satisfied(*bucket));
            Then::End(over.map(|(number, _)| number).collect())
        });
        Found {
            requests: finder.requests,
            us: found_us.unwrap_or(finder.now_us),
            providers: search.heard.into_iter().collect(),
        }
    }

    /// Whom to ask for a sign of life: first those that serve a block for which there are not enough yet.
    fn asked(&self, found: &Found) -> Vec<&Provider> {
        let mut served = Served::default();
        let providers = found
            .providers
            .iter()
            .map(|number| &self.providers[usize::from(*number)]);
        let (mut asked, others): (Vec<&Provider>, Vec<&Provider>) =
            providers.partition(|Provider { offer, .. }| {
                let needed = served.least(offer.start..offer.end) < ENOUGH;
                if needed {
                    served.add(offer);
                }
                needed
            });
        asked.extend(others);
        asked.truncate(ASKED);
        asked
    }

    /// Asks those that were found for a sign of life, until every block is served by `alive` of those that gave one,
    /// and plans a chain of these.
    pub(crate) fn plan(&self, from: Node, found: &Found, gone: f64, alive: usize) -> Planned {
        let asked = self.asked(found);
        let (silent, there): (Vec<&Provider>, Vec<&Provider>) = asked
            .into_iter()
            .partition(|provider| self.world.left(provider.node, gone));
        let mut answers: Vec<(u64, &Provider)> = there
            .into_iter()
            .map(|provider| (self.world.rtt_us(from, provider.node), provider))
            .collect();
        answers.sort_by_key(|(rtt_us, provider)| (*rtt_us, provider.node));

        let (mut served, mut offers) = (Served::default(), Vec::new());
        let mut waited_us = if silent.is_empty() { 0 } else { PATIENCE_US };
        for (rtt_us, provider) in answers {
            offers.push(Offer {
                rtt_us: u32::try_from(rtt_us).ok(),
                ..provider.offer.clone()
            });
            served.add(&provider.offer);
            let answered_us = STRANGER * rtt_us;
            if served.least(0..BLOCKS) >= alive {
                waited_us = answered_us.min(PATIENCE_US);
                break;
            }
            waited_us = waited_us.max(answered_us.min(PATIENCE_US));
        }
        let chain = route::plan(&offers, BLOCKS, &[]).ok();
        let repairs = chain.as_ref().map_or(0, |chain| {
            route::alternatives(&offers, chain, chain.hops().len() / 2, 1).len()
        });
        Planned {
            waited_us,
            chain,
            repaired: repairs > 0,
        }
    }
}

/// Where the record of an offer is kept.
pub(crate) fn keys_of(offer: &Offer) -> impl Iterator<Item = RecordKey> + use<> {
    let shard = shard_of(offer.peer);
    buckets(offer.start, offer.end).map(move |bucket| provider_key(&ROOT, bucket, shard))
}

/// How lookups are made, and in what world.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Way {
    /// Requests that each has in flight.
    pub(crate) alpha: usize,
    /// The share of nodes that left.
    pub(crate) gone: f64,
}

/// What a finder has.
pub(crate) struct Found {
    pub(crate) requests: u64,
    pub(crate) us: u64,
    /// Numbers of providers.
    pub(crate) providers: Vec<u16>,
}

pub(crate) struct Planned {
    /// After the search, for signs of life.
    pub(crate) waited_us: u64,
    pub(crate) chain: Option<Chain>,
    /// Whether there is a way to go on when the hop in the middle fails.
    pub(crate) repaired: bool,
}

/// How many peers serve each block.
struct Served([usize; BLOCKS as usize]);

impl Default for Served {
    fn default() -> Self {
        Self([0; BLOCKS as usize])
    }
}

impl Served {
    fn add(&mut self, offer: &Offer) {
        self.0[offer.start as usize..offer.end as usize]
            .iter_mut()
            .for_each(|count| *count += 1);
    }

    /// How many serve the block that the fewest serve.
    fn least(&self, blocks: Range<u32>) -> usize {
        self.0[blocks.start as usize..blocks.end as usize]
            .iter()
            .copied()
            .min()
            .unwrap_or(0)
    }
}

#[derive(Default)]
struct Search {
    /// Per lookup, the bucket and the key.
    asked: Vec<(u32, RecordKey)>,
    /// Numbers of providers.
    heard: BTreeSet<u16>,
    served: Served,
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

    fn hear(&mut self, number: u16, offer: &Offer) {
        if self.heard.insert(number) {
            self.served.add(offer);
        }
    }
}
