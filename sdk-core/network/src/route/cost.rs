//! What a step costs, in microseconds. Constants from Petals' `sequence_manager.py`, except where said.

use super::offer::Offer;

/// Each step over the network, for writing and reading the activations.
const OVERHEAD_US: u64 = 18_000;
/// A step to a peer whose round trip was never measured, with the overhead.
const UNKNOWN_US: u64 = 150_000;
/// The longest that one way is believed to take, so that a peer with a broken clock is a last resort and not lost.
const LONGEST_WAY_US: u64 = 5_000_000;
/// Waiting for a peer that has no room for another session.
const NO_CACHE_US: u64 = 10_000_000;

/// From us to a peer, or back.
pub(crate) fn way(rtt_us: Option<u32>) -> u64 {
    rtt_us.map_or(UNKNOWN_US - OVERHEAD_US, |rtt| {
        (u64::from(rtt) / 2).min(LONGEST_WAY_US)
    })
}

/// What comes to every step into this peer, whichever way it takes.
pub(crate) fn enter(offer: &Offer) -> u64 {
    OVERHEAD_US + if offer.has_cache { 0 } else { NO_CACHE_US }
}

/// One token through one block: at most 1000 s, as no speed is below 1/1000.
pub(crate) fn compute(offer: &Offer) -> u64 {
    1_000_000_000_u64.div_ceil(u64::from(offer.rps_milli.max(1)))
}

/// From the last peer back to us.
pub(crate) fn home(offer_rtt_us: Option<u32>) -> u64 {
    OVERHEAD_US + way(offer_rtt_us)
}
