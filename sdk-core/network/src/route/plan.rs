//! The cheapest chain of peers through all blocks: a shortest path over (peer, block).

use super::cost;
use super::offer::{MAX_BLOCKS, MAX_PINGS, Offer, usable};
use crate::PeerId;

/// The most alternatives that [`alternatives`] looks for.
pub const MAX_ALTERNATIVES: usize = 8;

/// A peer, and the blocks that it computes in a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hop {
    /// Who.
    pub peer: PeerId,
    /// The first block.
    pub start: u32,
    /// The block after the last one.
    pub end: u32,
    /// What is expected per token, in microseconds: the way to the peer, and its computing.
    pub micros: u64,
}

/// Peers that compute all blocks of a model one after the other. Only a plan makes one: it has no gap.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain {
    hops: Vec<Hop>,
    home_us: u64,
}

impl Chain {
    /// The hops, in the order of the blocks. There is at least one.
    pub fn hops(&self) -> &[Hop] {
        &self.hops
    }

    /// What one token is expected to take, in microseconds, there and back.
    pub fn micros(&self) -> u64 {
        self.hops.iter().map(|hop| hop.micros).sum::<u64>() + self.home_us
    }

    /// How many blocks it goes through.
    fn blocks(&self) -> u32 {
        self.hops.last().map_or(0, |hop| hop.end)
    }
}

/// Why there is no chain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RouteError {
    /// No model has so many blocks, or none at all.
    #[error("a chain through {0} blocks: a model has 1 to {MAX_BLOCKS}")]
    Blocks(u32),
    /// A block that nobody serves.
    #[error("nobody serves block {0}")]
    Unserved(u32),
    /// A hop that the chain does not have.
    #[error("the chain has no hop {0}")]
    NoSuchHop(usize),
}

/// The cheapest chain through blocks `0..blocks` that has none of these peers in it.
///
/// The cost of a chain is what one token takes, as Petals estimates it: at each hop the way there and 18 ms for
/// writing and reading (150 ms in all if the way was never measured), 10 s if the peer has no room, the computing of its
/// blocks, and at the end the way home. From hop to hop activations go directly if the first peer measured that way, or
/// through us, whichever is shorter. Of chains that cost the same the one with fewer hops is taken, then the one with
/// the lower peer ids from its end.
///
/// The work is bounded by `MAX_OFFERS * MAX_BLOCKS * MAX_PINGS` steps.
///
/// # Errors
/// [`RouteError::Blocks`], [`RouteError::Unserved`].
pub fn plan(offers: &[Offer], blocks: u32, avoid: &[PeerId]) -> Result<Chain, RouteError> {
    extend(offers, blocks, &[], avoid)
}

/// A chain that keeps the hops before a failed one, and goes on without these peers and without the failed one.
///
/// # Errors
/// [`RouteError::NoSuchHop`], and those of [`plan`].
pub fn replan(offers: &[Offer], chain: &Chain, failed: usize, avoid: &[PeerId]) -> Result<Chain, RouteError> {
    let (Some(kept), Some(hop)) = (chain.hops.get(..failed), chain.hops.get(failed)) else {
        return Err(RouteError::NoSuchHop(failed));
    };
    let avoid = [avoid, &[hop.peer]].concat();
    extend(offers, chain.blocks(), kept, &avoid)
}

/// Up to `count` chains to go on with when a hop fails, cheapest first, each with another peer at the failed block.
/// There are at most [`MAX_ALTERNATIVES`].
pub fn alternatives(offers: &[Offer], chain: &Chain, failed: usize, count: usize) -> Vec<Chain> {
    let mut found = Vec::new();
    let mut avoid = Vec::new();
    while found.len() < count.min(MAX_ALTERNATIVES) {
        let Ok(next) = replan(offers, chain, failed, &avoid) else {
            break;
        };
        avoid.extend(next.hops.get(failed).map(|hop| hop.peer));
        found.push(next);
    }
    found
}

/// The cheapest way to have computed all blocks up to one, ending at a certain offer. Compared in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Reached {
    micros: u64,
    hops: u32,
    /// The number of the offer that computed the block before; the same one, if it goes on. [`START`] at the first.
    before: u16,
}

/// Before the first block: we ourselves, or the last hop that is kept.
const START: u16 = u16::MAX;

/// What is known while the blocks are gone through, one after the other.
struct Search<'a> {
    offers: Vec<&'a Offer>,
    /// Per offer, the offers that it measured the way to, and that way.
    direct: Vec<Vec<(usize, u64)>>,
    /// Per block, per offer. At most 512 x 1024 x 24 bytes.
    rows: Vec<Vec<Option<Reached>>>,
}

/// A chain that goes on from what is kept to the last block.
fn extend(offers: &[Offer], blocks: u32, kept: &[Hop], avoid: &[PeerId]) -> Result<Chain, RouteError> {
    if blocks == 0 || blocks > MAX_BLOCKS {
        return Err(RouteError::Blocks(blocks));
    }
    let usable = usable(offers, blocks);
    let origin = kept.last().map(|hop| {
        (
            hop.end,
            usable.iter().copied().find(|offer| offer.peer == hop.peer),
        )
    });
    let first = origin.map_or(0, |(end, _)| end);
    let offers: Vec<&Offer> = usable
        .iter()
        .copied()
        .filter(|offer| !avoid.contains(&offer.peer))
        .collect();
    let direct = offers.iter().map(|offer| ways(offer, &offers)).collect();
    let mut search = Search {
        offers,
        direct,
        rows: Vec::new(),
    };

    let mut entries = search.first_entries(origin.map(|(_, offer)| offer));
    for block in first..blocks {
        let row = search.compute(block, &entries);
        if row.iter().all(Option::is_none) {
            return Err(RouteError::Unserved(block));
        }
        entries = search.entries(&row);
        search.rows.push(row);
    }
    search.chain(first, kept).ok_or(RouteError::Unserved(blocks - 1))
}

/// The measured ways from an offer to others of these, which are sorted by peer.
fn ways(offer: &Offer, offers: &[&Offer]) -> Vec<(usize, u64)> {
    let number = |peer: &PeerId| offers.binary_search_by_key(peer, |offer| offer.peer).ok();
    let pings = offer.pings_us.iter().take(MAX_PINGS);
    pings
        .filter_map(|(peer, rtt)| Some((number(peer)?, cost::way(Some(*rtt)))))
        .collect()
}

impl Search<'_> {
    /// The way to each offer from where the chain begins: from us, or from the last kept peer, of which we may have
    /// lost sight (`Some(None)`).
    fn first_entries(&self, kept: Option<Option<&Offer>>) -> Vec<Option<Reached>> {
        let to_us = kept.map_or(0, |offer| cost::way(offer.and_then(|offer| offer.rtt_us)));
        let reached = |micros| Reached {
            micros,
            hops: 0,
            before: START,
        };
        let mut entries: Vec<Option<Reached>> = self
            .offers
            .iter()
            .map(|offer| Some(reached(to_us + cost::way(offer.rtt_us))))
            .collect();
        let direct = kept.flatten().map(|offer| ways(offer, &self.offers));
        for (number, way) in direct.unwrap_or_default() {
            improve(&mut entries, number, reached(way));
        }
        entries
    }

    /// The way to each offer from those that computed the last block, `row`.
    fn entries(&self, row: &[Option<Reached>]) -> Vec<Option<Reached>> {
        let from = |number: usize, reached: &Reached, way: u64| Reached {
            micros: reached.micros + way,
            hops: reached.hops,
            before: u16::try_from(number).unwrap_or(START),
        };
        let here = || {
            row.iter()
                .zip(&self.offers)
                .enumerate()
                .filter_map(|(number, (reached, offer))| Some((number, reached.as_ref()?, offer)))
        };
        let to_us = here()
            .map(|(number, reached, offer)| from(number, reached, cost::way(offer.rtt_us)))
            .min();
        let through_us = |offer: &&Offer| {
            to_us.map(|us| Reached {
                micros: us.micros + cost::way(offer.rtt_us),
                ..us
            })
        };
        let mut entries: Vec<Option<Reached>> = self.offers.iter().map(through_us).collect();
        for (number, reached, _) in here() {
            for &(to, way) in self.direct.get(number).into_iter().flatten() {
                improve(&mut entries, to, from(number, reached, way));
            }
        }
        entries
    }

    /// The cheapest way to compute a block at each offer: come there now, or go on there.
    fn compute(&self, block: u32, entries: &[Option<Reached>]) -> Vec<Option<Reached>> {
        let computed = |(number, (offer, entry)): (usize, (&&Offer, &Option<Reached>))| {
            if !(offer.start..offer.end).contains(&block) {
                return None;
            }
            let come = entry.map(|entry| Reached {
                micros: entry.micros + cost::enter(offer),
                hops: entry.hops + 1,
                ..entry
            });
            let before = self.rows.last().and_then(|row| *row.get(number)?);
            let number = u16::try_from(number).unwrap_or(START);
            let stay = before.map(|reached| Reached {
                before: number,
                ..reached
            });
            let best = come.into_iter().chain(stay).min()?;
            Some(Reached {
                micros: best.micros + cost::compute(offer),
                ..best
            })
        };
        self.offers
            .iter()
            .zip(entries)
            .enumerate()
            .map(computed)
            .collect()
    }

    /// Reads the cheapest chain from its end.
    fn chain(&self, first: u32, kept: &[Hop]) -> Option<Chain> {
        let ends = self.rows.last()?.iter().zip(&self.offers).enumerate();
        let ends = ends.filter_map(|(number, (reached, offer))| {
            let reached = (*reached)?;
            let home_us = cost::home(offer.rtt_us);
            Some((reached.micros + home_us, reached.hops, number, home_us))
        });
        let (_, _, mut number, home_us) = ends.min()?;
        let mut hops: Vec<Hop> = Vec::new();
        let mut goes_on = false;
        for (at, row) in self.rows.iter().enumerate().rev() {
            let start = first + u32::try_from(at).ok()?;
            let reached = (*row.get(number)?)?;
            let peer = self.offers.get(number)?.peer;
            let before = usize::from(reached.before);
            let earlier = at.checked_sub(1).and_then(|at| self.rows.get(at));
            let was = earlier
                .and_then(|row| *row.get(before)?)
                .map_or(0, |reached| reached.micros);
            let micros = reached.micros - was;
            match hops.last_mut() {
                Some(hop) if goes_on => {
                    hop.start = start;
                    hop.micros += micros;
                }
                _ => hops.push(Hop {
                    peer,
                    start,
                    end: start + 1,
                    micros,
                }),
            }
            goes_on = before == number;
            number = before;
        }
        hops.extend(kept.iter().rev());
        hops.reverse();
        Some(Chain { hops, home_us })
    }
}

/// Keeps the better way to an offer.
fn improve(entries: &mut [Option<Reached>], number: usize, way: Reached) {
    if let Some(entry) = entries.get_mut(number) {
        *entry = Some(entry.map_or(way, |entry| entry.min(way)));
    }
}
