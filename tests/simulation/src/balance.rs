//! Whether peers that place themselves keep every block served: the real placement, over simulated minutes.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use kwaainet_network::PeerId;
use kwaainet_network::route::{Offer, best_start, better_start, until_next_check_ms};

use crate::dice::Dice;
use crate::swarm::BLOCKS;
use crate::world::imagined;

/// How long the swarm is watched after some have left, and how often the view that all of them share is refreshed.
const WATCHED_MS: u64 = 20 * 60_000;
const VIEW_MS: u64 = 60_000;

/// The throughput of the weakest block as a share of what perfect balance would give, and blocks that nobody serves.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Balance {
    pub(crate) weakest: f64,
    pub(crate) unserved: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Course {
    pub(crate) joined: Balance,
    pub(crate) left: Balance,
    pub(crate) settled: Balance,
    pub(crate) moves: usize,
    pub(crate) peers: usize,
}

/// Peers join one after the other, a share leaves at once, the others look at the balance and move.
pub(crate) fn measure(peers: usize, gone: f64, dice: &Dice) -> Course {
    let mut offers: Vec<Offer> = Vec::new();
    for number in 0..peers as u64 {
        let length = 8 + dice.below(33) as u32;
        let start = best_start(&offers, BLOCKS, length).unwrap_or(0);
        let rps_milli = (20_000.0 * 20_f64.powf(dice.unit())) as u32;
        let peer: PeerId = imagined(number);
        offers.push(Offer {
            peer,
            start,
            end: start + length,
            rps_milli,
            rtt_us: None,
            has_cache: true,
            pings_us: Vec::new(),
        });
    }
    let joined = balance(&offers);
    offers.retain(|_| dice.unit() >= gone);
    let left = balance(&offers);

    let mut checks: BinaryHeap<Reverse<(u64, usize)>> = (0..offers.len())
        .map(|number| Reverse((until_next_check_ms(dice.random()), number)))
        .collect();
    let (mut view, mut seen, mut moves) = (offers.clone(), 0, 0);
    while let Some(Reverse((now, number))) = checks.pop().filter(|Reverse((now, _))| *now < WATCHED_MS) {
        if now / VIEW_MS != seen {
            seen = now / VIEW_MS;
            view.clone_from(&offers);
        }
        // A peer knows its own place, and the others' as they were announced last.
        view[number].clone_from(&offers[number]);
        if let Some(start) = better_start(&view, BLOCKS, offers[number].peer) {
            let length = offers[number].end - offers[number].start;
            (offers[number].start, offers[number].end) = (start, start + length);
            view[number].clone_from(&offers[number]);
            moves += 1;
        }
        checks.push(Reverse((now + 1 + until_next_check_ms(dice.random()), number)));
    }
    Course {
        joined,
        left,
        settled: balance(&offers),
        moves,
        peers: offers.len(),
    }
}

fn balance(offers: &[Offer]) -> Balance {
    let mut sums = [0_u64; BLOCKS as usize];
    for offer in offers {
        sums[offer.start as usize..offer.end as usize]
            .iter_mut()
            .for_each(|sum| *sum += u64::from(offer.rps_milli));
    }
    let mean = sums.iter().sum::<u64>() as f64 / sums.len() as f64;
    Balance {
        weakest: sums.iter().min().copied().unwrap_or(0) as f64 / mean.max(1.0),
        unserved: sums.iter().filter(|sum| **sum == 0).count(),
    }
}
