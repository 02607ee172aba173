//! Which blocks a peer should serve, and when it should move: Petals' `block_selection.py` in integers.

use std::collections::BTreeMap;
use std::ops::Range;

use kwaainet_platform::Random;

use super::offer::{MAX_BLOCKS, Offer, usable};
use crate::PeerId;

/// A peer moves if the weakest block would then be this much better: 3/4 (Petals' `balance_quality`).
const QUALITY: (u64, u64) = (3, 4);
/// On average, between two looks at the balance (Petals' `mean_balance_check_period`, 120 s).
const MEAN_CHECK_MS: u64 = 120_000;
/// How often everybody is asked where they would go, while one imagines what a move leads to. Petals asks until nobody
/// moves; a swarm in which that takes longer is far from balance, and this is a reason to move as well.
const MAX_ROUNDS: u32 = 4;

/// Where the throughput is lowest: the first block of the `length` blocks that a peer should serve when it joins.
///
/// Of all windows that one whose weakest block is weakest, then whose second weakest is, and so on; of equal ones the
/// first. `None` if the model does not have so many blocks.
pub fn best_start(offers: &[Offer], blocks: u32, length: u32) -> Option<u32> {
    let spans = spans(&usable(offers, blocks));
    choose(&throughput(&spans, blocks)?, length, None)
}

/// Where a peer should move to: its new first block, or `None` to stay.
///
/// It moves if its place is not the best one, if no block that it leaves is without a peer then, and if the weakest block
/// has less than 3/4 of what it will have when everybody has moved to where they are needed most.
pub fn better_start(offers: &[Offer], blocks: u32, peer: PeerId) -> Option<u32> {
    let offers = usable(offers, blocks);
    let me = offers.binary_search_by_key(&peer, |offer| offer.peer).ok()?;
    let mut spans = spans(&offers);
    let mut sums = throughput(&spans, blocks)?;
    let weakest = |sums: &[u64]| sums.iter().min().copied().unwrap_or(0);
    let before = weakest(&sums);

    let mine = spans.get_mut(me)?;
    subtract(&mut sums, mine);
    let start = choose(&sums, mine.length, Some(mine.start)).filter(|start| *start != mine.start)?;
    let (mut left, goes_to) = (mine.range(), mine.at(start));
    if left.any(|block| !goes_to.contains(&block) && sums.get(block) == Some(&0)) {
        return None;
    }
    mine.start = start;
    add(&mut sums, mine);

    for _ in 0..MAX_ROUNDS {
        let mut moved = false;
        for span in &mut spans {
            subtract(&mut sums, span);
            let start = choose(&sums, span.length, Some(span.start)).unwrap_or(span.start);
            moved |= start != span.start;
            span.start = start;
            add(&mut sums, span);
        }
        if !moved {
            break;
        }
    }
    let after = weakest(&sums);
    let worth = after > 0 && before.saturating_mul(QUALITY.1) < after.saturating_mul(QUALITY.0);
    worth.then_some(start)
}

/// How long to wait until the next look at the balance, in milliseconds: 0 to 240 s, so that not all look at once.
pub fn until_next_check_ms(random: &dyn Random) -> u64 {
    random.next_u64() % (2 * MEAN_CHECK_MS + 1)
}

/// Blocks that somebody serves, and how fast.
#[derive(Debug, Clone)]
struct Span {
    start: u32,
    length: u32,
    rps_milli: u64,
}

impl Span {
    fn range(&self) -> Range<usize> {
        self.at(self.start)
    }

    /// As long as this one, elsewhere.
    fn at(&self, start: u32) -> Range<usize> {
        start as usize..(start + self.length) as usize
    }
}

fn spans(offers: &[&Offer]) -> Vec<Span> {
    let span = |offer: &&Offer| Span {
        start: offer.start,
        length: offer.end - offer.start,
        rps_milli: offer.rps_milli.into(),
    };
    offers.iter().map(span).collect()
}

/// The throughput of each block in 1/1000 per second; `None` if no model has so many blocks.
fn throughput(spans: &[Span], blocks: u32) -> Option<Vec<u64>> {
    if blocks == 0 || blocks > MAX_BLOCKS {
        return None;
    }
    let mut sums = vec![0; blocks as usize];
    for span in spans {
        add(&mut sums, span);
    }
    Some(sums)
}

/// At most 1024 offers of less than 2^32 each: no sum overflows.
fn add(sums: &mut [u64], span: &Span) {
    for sum in sums.get_mut(span.range()).into_iter().flatten() {
        *sum += span.rps_milli;
    }
}

/// INVARIANT: the span was added before.
fn subtract(sums: &mut [u64], span: &Span) {
    for sum in sums.get_mut(span.range()).into_iter().flatten() {
        *sum = sum.saturating_sub(span.rps_milli);
    }
}

/// The window whose throughputs, sorted, come first; of equal ones `stay`, then the first.
///
/// Two windows are compared by how many blocks of each throughput they have: at the lowest throughput where that
/// differs, the one with more blocks comes first. So sliding on by a block changes two numbers, and nothing is sorted.
fn choose(sums: &[u64], length: u32, stay: Option<u32>) -> Option<u32> {
    let length = length as usize;
    let mut best = stay.unwrap_or(0) as usize;
    if length == 0 {
        return None;
    }
    // How many blocks of each throughput the window has more than the best one; no zeros.
    let mut more: BTreeMap<u64, i32> = BTreeMap::new();
    let change = |more: &mut BTreeMap<u64, i32>, sum: u64, by: i32| {
        let count = more.entry(sum).or_insert(0);
        *count += by;
        if *count == 0 {
            more.remove(&sum);
        }
    };
    for (first, other) in sums.get(..length)?.iter().zip(sums.get(best..best + length)?) {
        change(&mut more, *first, 1);
        change(&mut more, *other, -1);
    }
    for (start, window) in sums.windows(length).enumerate() {
        if more.first_key_value().is_some_and(|(_, count)| *count > 0) {
            best = start;
            more.clear();
        }
        let (Some(leaves), Some(comes)) = (window.first(), sums.get(start + length)) else {
            break;
        };
        change(&mut more, *comes, 1);
        change(&mut more, *leaves, -1);
    }
    u32::try_from(best).ok()
}
