//! The simulation at a size that takes seconds, and its parts against what needs no simulation.

use std::sync::{Mutex, MutexGuard, PoisonError};

use super::*;
use crate::kademlia::{Finder, K, OPEN, TIMEOUT_US, Then, nearest_known};
use crate::world::{Node, imagined, point};

/// Held by tests that take much memory, or measure it.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The nearest nodes of all that fit a condition: what a perfect lookup finds.
fn nearest_of_all(world: &World, target: u64, fits: impl Fn(Node) -> bool) -> Vec<Node> {
    let mut nodes: Vec<Node> = (0..world.len() as Node).filter(|node| fits(*node)).collect();
    nodes.sort_unstable_by_key(|node| world.ids[*node as usize] ^ target);
    nodes.truncate(K);
    nodes
}

#[test]
fn the_whole_simulation_runs_and_is_the_same_at_every_run() {
    let _alone = alone();
    let once = simulate(&Plan::quick()).unwrap();
    let again = simulate(&Plan::quick()).unwrap();
    assert_eq!(once.page(), again.page());
    assert_eq!(once.cases.len(), 2 * GONE.len() * ALPHAS.len());
    for case in &once.cases {
        assert_eq!(case.lookups.missed, 0, "{case:?}");
        for found in case.popular.iter().chain(&case.rare) {
            assert!(found.chains * 20 >= found.count * 19, "{case:?}");
        }
    }
    for (way, calibration) in &once.calibrations {
        // Twenty nodes keep each record: that all of them leave is not to be expected.
        assert_eq!(calibration.found[0], calibration.found[1], "{way:?}");
        assert!(calibration.same_chain, "{way:?}");
    }
    let svg = plot::draw(&once.cases);
    assert!(svg.contains("<desc id=\"desc\">100 nodes, 0 % gone"));
    assert!(!svg.contains("NaN") && !once.page().contains("NaN"));
}

#[test]
fn a_lookup_finds_the_nodes_that_are_nearest_of_all() {
    let world = World::new(5000, 9, imagined);
    // Departed nodes take the place of others in what is answered, so that a few of the twenty are missed.
    for (gone, least) in [(0.0, 990), (0.2, 930)] {
        let dice = Dice::new(1);
        let mut named = 0;
        for number in 0..50_u32 {
            let target = point(&number.to_be_bytes());
            let mut finder = Finder::new(&world, world.anyone(&dice, gone), 3, gone);
            finder.begin(target);
            finder.run(|_| Then::GoOn);
            let found = finder.lookups[0].nearest();
            let best = nearest_of_all(&world, target, |node| !world.left(node, gone));
            assert_eq!(found[0], best[0]);
            named += best.iter().filter(|node| found.contains(node)).count();
        }
        assert!(named >= least, "{named} of 1000 with {gone} gone");
    }
}

#[test]
fn a_table_names_the_nearest_that_it_holds() {
    let world = World::new(300, 4, imagined);
    for target in [0, 1 << 63, u64::MAX, world.ids[7], 0x1234_5678_9abc_def0] {
        let known = nearest_known(&world, 7, target);
        assert_eq!(known.len(), K);
        assert!(!known.contains(&7), "a node is not in its own table");
        let distances: Vec<u64> = known
            .iter()
            .map(|node| world.ids[*node as usize] ^ target)
            .collect();
        assert!(distances.is_sorted());
        // Near itself a node knows everybody.
        if target == world.ids[7] {
            let near = nearest_of_all(&world, target, |node| node != 7);
            assert_eq!(known[..8], near[..8]);
        }
    }
}

#[test]
fn a_lookup_takes_as_long_as_its_slowest_answer() {
    // Four nodes know each other, so all three questions are asked at once.
    let world = World::new(4, 11, imagined);
    let took = |gone| {
        let mut finder = Finder::new(&world, 0, 3, gone);
        finder.begin(7);
        let mut done_us = 0;
        finder.run(|news| {
            done_us = if news.done { news.time_us } else { 0 };
            Then::GoOn
        });
        assert_eq!((finder.requests, finder.now_us), (3, done_us));
        done_us
    };
    assert_eq!(
        Some(took(0.0)),
        (1..4).map(|node| 3 * world.rtt_us(0, node)).max()
    );
    let one_of_us = (1..100).map(|percent| f64::from(percent) / 100.0);
    let mut one_of_us = one_of_us.filter(|gone| (1..4).filter(|node| world.left(*node, *gone)).count() == 1);
    assert_eq!(took(one_of_us.next().unwrap()), TIMEOUT_US);
}

#[test]
fn many_lookups_share_what_a_node_may_have_open() {
    let world = World::new(1000, 13, imagined);
    let mut finder = Finder::new(&world, 5, 10, 0.0);
    (0..40_u8).for_each(|target| finder.begin(point(&[target])));
    finder.run(|_| Then::Enough);
    assert_eq!(finder.requests, OPEN as u64);

    let mut finder = Finder::new(&world, 5, 10, 0.0);
    (0..40_u8).for_each(|target| finder.begin(point(&[target])));
    let mut ends = 0;
    finder.run(|news| {
        ends += usize::from(news.done);
        if news.lookup == 0 {
            Then::End(vec![1, 2])
        } else {
            Then::GoOn
        }
    });
    assert_eq!(ends, 38, "two are ended, the others come to their ends");
}

#[test]
fn the_time_of_a_lookup_is_that_of_its_end() {
    let world = World::new(1000, 12, imagined);
    for target in 0..20 {
        let mut finder = Finder::new(&world, 5, 10, 0.3);
        finder.begin(point(&[target]));
        let mut ends = Vec::new();
        finder.run(|news| {
            ends.extend(news.done.then_some(news.time_us));
            Then::GoOn
        });
        assert_eq!(ends, [finder.now_us]);
    }
}

#[test]
fn departed_nodes_cost_time_and_more_requests_in_flight_win_it_back() {
    let world = World::new(1000, 5, imagined);
    let median = |alpha, gone| lookups::measure(&world, Way { alpha, gone }, 100, &Dice::new(6)).full[0];
    assert!(median(3, 0.3) > 3 * median(3, 0.0));
    assert!(median(10, 0.3) < median(3, 0.3));
}

#[test]
fn the_earth_has_plausible_distances() {
    let world = World::new(2000, 3, imagined);
    let dice = Dice::new(2);
    let mut rtts: Vec<u64> = (0..2000)
        .map(|_| world.rtt_us(world.anyone(&dice, 0.0), world.anyone(&dice, 0.0)))
        .collect();
    let median = dice::percentile(&mut rtts, 0.5);
    assert!((80_000..200_000).contains(&median), "{median}");
    assert!(rtts.iter().all(|rtt| (4_000..400_000).contains(rtt)));
}

#[test]
fn forty_real_swarms_do_what_the_simulated_ones_do() {
    let _alone = alone();
    let world = World::new(40, 8, |seed| world::keypair(seed).peer_id());
    for gone in [0.0, 0.3] {
        let measured = real::measure(&world, gone, 20, 60).unwrap();
        let [simulated, real] = measured.requests;
        // Real answers come in another order each time, so the numbers are not quite the same.
        assert!((0.85..1.15).contains(&(real / simulated)), "{measured:?}");
        assert_eq!(measured.found, [60, 60], "{measured:?}");
        assert_eq!(measured.offers[0], measured.offers[1], "{measured:?}");
        // With 30 % gone, too few are left for a chain, here as there.
        assert!(measured.same_chain, "{measured:?}");
        assert_eq!(measured.hops[0] > 0, gone == 0.0, "{measured:?}");
    }
}

#[test]
fn visitors_who_left_leave_nothing_behind() {
    let _alone = alone();
    let soak = soak::run(150, std::time::Duration::ZERO).unwrap();
    assert_eq!(soak.problem(), None, "{soak:?}");
    assert!(soak.resident.len() >= 40 && soak.records > 0, "{soak:?}");
}
