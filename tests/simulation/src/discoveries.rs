//! How long it takes from nothing to a chain of peers.

use crate::dice::{Dice, percentile};
use crate::swarm::{ALIVE, ENOUGH, Swarm, Way};

/// What a series of discoveries came to. Times are simulated, in microseconds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Discoveries {
    pub(crate) requests: f64,
    pub(crate) found: [u64; 2],
    pub(crate) planned: [u64; 2],
    pub(crate) chains: usize,
    pub(crate) repaired: usize,
    pub(crate) hops: f64,
    pub(crate) token_ms: f64,
    pub(crate) count: usize,
}

/// Nodes anywhere look for the model of one of these swarms in turn, and plan a chain through it.
pub(crate) fn measure(swarms: &[Swarm<'_>], way: Way, at_once: u8, count: usize, dice: &Dice) -> Discoveries {
    let (mut searched, mut planned) = (Vec::new(), Vec::new());
    let (mut requests, mut hops, mut micros, mut repaired) = (0, 0, 0, 0);
    for swarm in swarms.iter().cycle().take(count) {
        let from = swarm.world.anyone(dice, way.gone);
        let found = swarm.find(from, way, at_once, ENOUGH);
        requests += found.requests;
        searched.push(found.us);
        let plan = swarm.plan(from, &found, way.gone, ALIVE);
        if let Some(chain) = plan.chain {
            planned.push(found.us + plan.waited_us);
            hops += chain.hops().len();
            micros += chain.micros();
            repaired += usize::from(plan.repaired);
        }
    }
    let chains = planned.len();
    let mean = |sum: f64, of: usize| sum / of.max(1) as f64;
    Discoveries {
        requests: mean(requests as f64, count),
        found: [percentile(&mut searched, 0.5), percentile(&mut searched, 0.95)],
        planned: [percentile(&mut planned, 0.5), percentile(&mut planned, 0.95)],
        chains,
        repaired,
        hops: mean(hops as f64, chains),
        token_ms: mean(micros as f64 / 1000.0, chains),
        count,
    }
}
