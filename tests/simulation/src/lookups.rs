//! How long it takes to find one node among all.

use crate::dice::{Dice, percentile};
use crate::kademlia::{Finder, Then, nearest_known};
use crate::swarm::Way;
use crate::world::World;

/// What a series of lookups took. Times are simulated, in microseconds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Lookups {
    pub(crate) requests: f64,
    pub(crate) full: [u64; 2],
    pub(crate) found: [u64; 2],
    pub(crate) missed: usize,
    pub(crate) count: usize,
}

/// Lookups from anywhere for the id of a node that is there.
pub(crate) fn measure(world: &World, way: Way, count: usize, dice: &Dice) -> Lookups {
    let (mut full, mut found) = (Vec::new(), Vec::new());
    let mut requests = 0;
    for _ in 0..count {
        let (from, target) = (world.anyone(dice, way.gone), world.anyone(dice, way.gone));
        let point = world.ids[target as usize];
        let known = from == target || nearest_known(world, from, point).contains(&target);
        let mut hit = known.then_some(0);
        let mut finder = Finder::new(world, from, way.alpha, way.gone);
        finder.begin(point);
        finder.run(|news| {
            if hit.is_none() && (news.names.contains(&target) || news.from == Some(target)) {
                hit = Some(news.time_us);
            }
            Then::GoOn
        });
        requests += finder.requests;
        full.push(finder.now_us);
        found.extend(hit);
    }
    Lookups {
        requests: requests as f64 / count as f64,
        full: [percentile(&mut full, 0.5), percentile(&mut full, 0.95)],
        missed: count - found.len(),
        found: [percentile(&mut found, 0.5), percentile(&mut found, 0.95)],
        count,
    }
}
