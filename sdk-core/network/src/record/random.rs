//! Order by chance.

use kwaainet_platform::Random;

/// A number below `limit`; zero if there is none. The bias of the remainder is below 2^-32 for limits of 32 bits.
pub(super) fn below(limit: u64, random: &dyn Random) -> u64 {
    random.next_u64().checked_rem(limit).unwrap_or_default()
}

/// Fisher and Yates, as in Knuth, "The Art of Computer Programming", vol. 2, algorithm 3.4.2P.
pub(super) fn shuffle<T>(items: &mut [T], random: &dyn Random) {
    for last in (1..items.len()).rev() {
        items.swap(last, below(last as u64 + 1, random) as usize);
    }
}
