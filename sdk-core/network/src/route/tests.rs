//! Against brute force on small cases, and against peers that lie.

use proptest::prelude::*;

use super::*;
use crate::PeerId;

fn peer(number: u8) -> PeerId {
    PeerId::from_public_key([number; 32])
}

fn offer(number: u8, start: u32, end: u32, rps_milli: u32, rtt_ms: u32) -> Offer {
    Offer {
        peer: peer(number),
        start,
        end,
        rps_milli,
        rtt_us: Some(rtt_ms * 1000),
        has_cache: true,
        pings_us: Vec::new(),
    }
}

fn spans(chain: &Chain) -> Vec<(PeerId, u32, u32)> {
    chain
        .hops()
        .iter()
        .map(|hop| (hop.peer, hop.start, hop.end))
        .collect()
}

/// What Petals' model says of a chain, written down a second time: from the text, in floating milliseconds.
fn cost_ms(offers: &[Offer], chain: &[(PeerId, u32, u32)]) -> f64 {
    let find = |peer| offers.iter().find(|offer| offer.peer == peer).unwrap();
    let way = |offer: &Offer| offer.rtt_us.map_or(132.0, |us| f64::from(us) / 2000.0);
    let mut sum = 0.0;
    let mut before: Option<&Offer> = None;
    for (peer, start, end) in chain {
        let here = find(*peer);
        let direct = before.and_then(|before| before.pings_us.iter().find(|(to, _)| to == peer));
        let through_us = before.map_or(0.0, way) + way(here);
        sum += direct.map_or(through_us, |(_, us)| through_us.min(f64::from(*us) / 2000.0)) + 18.0;
        sum += if here.has_cache { 0.0 } else { 10_000.0 };
        sum += f64::from(end - start) * 1_000_000.0 / f64::from(here.rps_milli);
        before = Some(here);
    }
    sum + before.map_or(0.0, way) + 18.0
}

/// Every assignment of blocks to peers that serve them.
fn every_chain(offers: &[Offer], from: u32, blocks: u32) -> Vec<Vec<(PeerId, u32, u32)>> {
    let mut chains: Vec<Vec<(PeerId, u32, u32)>> = vec![Vec::new()];
    for block in from..blocks {
        let mut longer = Vec::new();
        for chain in &chains {
            for offer in offers
                .iter()
                .filter(|offer| (offer.start..offer.end).contains(&block))
            {
                let mut chain = chain.clone();
                match chain.last_mut() {
                    Some((peer, _, end)) if *peer == offer.peer => *end = block + 1,
                    _ => chain.push((offer.peer, block, block + 1)),
                }
                longer.push(chain);
            }
        }
        chains = longer;
    }
    chains
}

prop_compose! {
    /// A swarm of up to six peers and a model of up to five blocks. Times are whole milliseconds and speeds divide
    /// evenly, so that both costs are exact.
    fn swarm()(
        blocks in 1..=5_u32,
        peers in prop::collection::vec((0..5_u32, 1..=5_u32, 0..6_usize, prop::option::of(0..200_u32), 0..10_u8,
            prop::collection::vec((0..6_u8, 0..200_u32), 0..3)), 0..=6),
    ) -> (u32, Vec<Offer>) {
        let speeds = [1_000, 2_000, 4_000, 10_000, 40_000, 100_000];
        let offers = peers.into_iter().enumerate().filter_map(|(number, (start, length, speed, rtt, cache, pings))| {
            let start = start.min(blocks - 1);
            Some(Offer {
                peer: peer(u8::try_from(number).ok()?),
                start,
                end: (start + length).min(blocks),
                rps_milli: speeds[speed],
                rtt_us: rtt.map(|ms| ms * 2000),
                has_cache: cache > 0,
                pings_us: {
                    let mut pings: Vec<_> = pings.into_iter().map(|(to, ms)| (peer(to), ms * 2000)).collect();
                    pings.sort_unstable();
                    pings.dedup_by_key(|(to, _)| *to);
                    pings
                },
            })
        }).collect();
        (blocks, offers)
    }
}

proptest! {
    #[test]
    fn a_plan_is_as_cheap_as_the_cheapest_of_all_chains((blocks, offers) in swarm()) {
        let cheapest = every_chain(&offers, 0, blocks)
            .into_iter()
            .map(|chain| (cost_ms(&offers, &chain), chain.len()))
            .min_by(|a, b| a.partial_cmp(b).unwrap());
        match (plan(&offers, blocks, &[]), cheapest) {
            (Ok(chain), Some((ms, hops))) => {
                prop_assert_eq!(cost_ms(&offers, &spans(&chain)), ms);
                prop_assert_eq!(chain.micros() as f64 / 1000.0, ms);
                prop_assert_eq!(chain.hops().len(), hops);
            }
            (Err(RouteError::Unserved(block)), None) => {
                prop_assert!(offers.iter().all(|offer| !(offer.start..offer.end).contains(&block)));
            }
            (planned, cheapest) => prop_assert!(false, "{planned:?}, {cheapest:?}"),
        }
    }

    #[test]
    fn a_new_plan_keeps_what_works_and_is_the_cheapest_from_there((blocks, offers) in swarm(), at in 0..5_usize) {
        let Ok(chain) = plan(&offers, blocks, &[]) else { return Ok(()) };
        let failed = at % chain.hops().len();
        let hop = chain.hops()[failed];
        let kept = &spans(&chain)[..failed];
        let others: Vec<Offer> = offers.iter().filter(|offer| offer.peer != hop.peer).cloned().collect();
        let cheapest = every_chain(&others, hop.start, blocks)
            .into_iter()
            .map(|rest| cost_ms(&offers, &[kept, &rest].concat()))
            .min_by(f64::total_cmp);
        let planned = replan(&offers, &chain, failed, &[]);
        prop_assert_eq!(planned.is_ok(), cheapest.is_some());
        if let Ok(planned) = planned {
            prop_assert_eq!(&spans(&planned)[..failed], kept);
            prop_assert!(planned.hops()[failed..].iter().all(|other| other.peer != hop.peer));
            prop_assert_eq!(Some(planned.micros() as f64 / 1000.0), cheapest);
        }
        let mut tried = vec![hop.peer];
        let mut last = 0;
        for other in alternatives(&offers, &chain, failed, 4) {
            prop_assert!(!tried.contains(&other.hops()[failed].peer));
            prop_assert!(other.micros() >= last);
            tried.push(other.hops()[failed].peer);
            last = other.micros();
        }
    }

    #[test]
    fn a_plan_does_not_depend_on_the_order_of_the_offers((blocks, offers) in swarm(), seed in any::<u64>()) {
        let mut shuffled = offers.clone();
        shuffled.sort_by_key(|offer| (u64::from(offer.peer.public_key()[0]) + 1).wrapping_mul(seed | 1).rotate_left(29));
        prop_assert_eq!(plan(&offers, blocks, &[]), plan(&shuffled, blocks, &[]));
    }

    #[test]
    fn the_best_window_is_the_one_that_sorts_first((blocks, offers) in swarm(), length in 1..=5_u32) {
        let sums: Vec<u64> = (0..blocks)
            .map(|block| offers.iter().filter(|o| (o.start..o.end).contains(&block)).map(|o| u64::from(o.rps_milli)).sum())
            .collect();
        let sorted = |start: usize| { let mut sums = sums[start..start + length as usize].to_vec(); sums.sort_unstable(); sums };
        let best = (0..).take_while(|start| start + length <= blocks).min_by_key(|start| (sorted(*start as usize), *start));
        prop_assert_eq!(best_start(&offers, blocks, length), best);
    }

    #[test]
    fn no_move_leaves_a_block_without_a_peer((blocks, offers) in swarm()) {
        let served = |offers: &[Offer], block| offers.iter().any(|o| (o.start..o.end).contains(&block));
        for (number, offer) in offers.iter().enumerate() {
            let Some(start) = better_start(&offers, blocks, offer.peer) else { continue };
            let mut after = offers.clone();
            after[number] = Offer { start, end: start + offer.end - offer.start, ..offer.clone() };
            prop_assert!(after[number].end <= blocks);
            for block in 0..blocks {
                prop_assert!(served(&after, block) || !served(&offers, block), "block {block}");
            }
        }
    }

    /// Every number is whatever a hostile peer may write.
    #[test]
    fn no_offer_makes_a_planner_fail(
        blocks in prop_oneof![0..40_u32, Just(MAX_BLOCKS), any::<u32>()],
        offers in prop::collection::vec(
            (any::<u8>(), edge(), edge(), edge(), prop::option::of(edge()), any::<bool>(),
             prop::collection::vec((any::<u8>(), edge()), 0..40)), 0..60),
        failed in any::<usize>(),
    ) {
        let offers: Vec<Offer> = offers.into_iter().map(|(number, start, end, rps_milli, rtt_us, has_cache, pings)| Offer {
            peer: peer(number), start, end, rps_milli, rtt_us, has_cache,
            pings_us: pings.into_iter().map(|(to, us)| (peer(to), us)).collect(),
        }).collect();
        if let Ok(chain) = plan(&offers, blocks, &[]) {
            let mut next = 0;
            for hop in chain.hops() {
                prop_assert_eq!(hop.start, next);
                prop_assert!(hop.end > hop.start);
                next = hop.end;
            }
            prop_assert_eq!(next, blocks);
            prop_assert!(chain.micros() < 1 << 60);
            let _ = alternatives(&offers, &chain, failed % chain.hops().len(), usize::MAX);
            prop_assert_eq!(replan(&offers, &chain, chain.hops().len(), &[]), Err(RouteError::NoSuchHop(chain.hops().len())));
        }
        for offer in &offers {
            let _ = better_start(&offers, blocks, offer.peer);
            let _ = best_start(&offers, blocks, offer.end);
        }
    }
}

/// Small numbers, and those at which arithmetic breaks.
fn edge() -> impl Strategy<Value = u32> {
    prop_oneof![
        0..40_u32,
        Just(0),
        Just(1),
        Just(u32::MAX),
        Just(u32::MAX - 1),
        any::<u32>()
    ]
}

#[test]
fn few_long_spans_win_over_many_short_ones() {
    let mut offers: Vec<Offer> = (0..4)
        .map(|n| offer(n, u32::from(n) * 2, u32::from(n) * 2 + 2, 1_000_000, 100))
        .collect();
    offers.push(offer(9, 0, 8, 100_000, 100));
    let chain = plan(&offers, 8, &[]).unwrap();
    assert_eq!(spans(&chain), [(peer(9), 0, 8)]);
    // 50 ms there, 18 ms, 8 x 10 ms, 18 ms, 50 ms home.
    assert_eq!(chain.micros(), 216_000);
}

#[test]
fn of_equal_chains_the_one_with_fewer_hops_and_lower_ids_is_taken() {
    let offers = [
        offer(3, 0, 4, 1000, 10),
        offer(1, 0, 4, 1000, 10),
        offer(2, 0, 4, 1000, 10),
    ];
    assert_eq!(spans(&plan(&offers, 4, &[]).unwrap()), [(peer(1), 0, 4)]);
    assert_eq!(spans(&plan(&offers, 4, &[peer(1)]).unwrap()), [(peer(2), 0, 4)]);
}

#[test]
fn one_hop_is_better_than_two_that_cost_as_much() {
    // 10 ms a block at one peer, 1 ms a block at two, and 18 ms for the step between them.
    let offers = [
        offer(1, 0, 1, 1_000_000, 0),
        offer(2, 1, 2, 1_000_000, 0),
        offer(3, 0, 2, 100_000, 0),
    ];
    assert_eq!(spans(&plan(&offers, 2, &[]).unwrap()), [(peer(3), 0, 2)]);
    assert_eq!(
        plan(&offers, 2, &[]).unwrap().micros(),
        plan(&offers, 2, &[peer(3)]).unwrap().micros()
    );
}

#[test]
fn blocks_that_the_model_does_not_have_are_not_believed() {
    assert_eq!(
        plan(&[offer(1, 0, 5, 1000, 1)], 4, &[]),
        Err(RouteError::Unserved(0))
    );
    assert_eq!(plan(&[], 0, &[]), Err(RouteError::Blocks(0)));
    assert_eq!(plan(&[], u32::MAX, &[]), Err(RouteError::Blocks(u32::MAX)));
    assert_eq!(
        (
            best_start(&[], 4, 5),
            best_start(&[], 4, 0),
            best_start(&[], u32::MAX, 1)
        ),
        (None, None, None)
    );
}

#[test]
fn what_is_measured_between_peers_is_used() {
    let mut near = offer(1, 0, 2, 1000, 200);
    near.pings_us = vec![(peer(3), 4_000)];
    let offers = [near, offer(2, 2, 4, 1000, 100), offer(3, 2, 4, 1000, 140)];
    let chain = plan(&offers, 4, &[]).unwrap();
    assert_eq!(spans(&chain), [(peer(1), 0, 2), (peer(3), 2, 4)]);
    assert_eq!(chain.hops()[1].micros, 2_000 + 18_000 + 2_000_000);
}

#[test]
fn a_peer_counts_once_and_no_more_offers_are_read_than_the_cap() {
    let twice = [offer(1, 0, 1, 1000, 1), offer(1, 0, 3, 1000, 1)];
    assert_eq!(spans(&plan(&twice, 3, &[]).unwrap()), [(peer(1), 0, 3)]);
    let mut many = vec![offer(1, 0, 0, 1000, 1); MAX_OFFERS];
    many.push(offer(2, 0, 1, 1000, 1));
    assert_eq!(plan(&many, 1, &[]), Err(RouteError::Unserved(0)));
}

#[test]
fn a_peer_goes_to_where_it_is_needed() {
    let offers = [
        offer(1, 0, 4, 100_000, 1),
        offer(2, 0, 4, 100_000, 1),
        offer(3, 4, 8, 10_000, 1),
    ];
    assert_eq!(best_start(&offers, 8, 4), Some(4));
    assert_eq!(better_start(&offers, 8, peer(2)), Some(4));
    // The only one at its blocks, and one whose place is good.
    assert_eq!(better_start(&offers, 8, peer(3)), None);
    let balanced = [
        offer(1, 0, 4, 100_000, 1),
        offer(2, 4, 8, 80_000, 1),
        offer(3, 4, 8, 10_000, 1),
    ];
    assert_eq!(better_start(&balanced, 8, peer(3)), None);
}

#[test]
fn a_peer_stays_where_moving_wins_less_than_a_quarter() {
    let swarm = |mine, other| {
        [
            offer(1, 0, 1, 100_000, 1),
            offer(2, 0, 1, mine, 1),
            offer(3, 1, 2, other, 1),
        ]
    };
    // The weaker block has 80 of the 100 that both could have, then 70.
    assert_eq!(better_start(&swarm(20_000, 80_000), 2, peer(2)), None);
    assert_eq!(better_start(&swarm(30_000, 70_000), 2, peer(2)), Some(1));
}

#[test]
fn balance_is_looked_at_every_two_minutes_on_average() {
    let random = kwaainet_platform::SeededRandom::new(1);
    let waits: Vec<u64> = (0..10_000).map(|_| until_next_check_ms(&random)).collect();
    let mean = waits.iter().sum::<u64>() / 10_000;
    assert!((115_000..125_000).contains(&mean), "{mean}");
    assert!(waits.iter().all(|wait| *wait <= 240_000));
}
