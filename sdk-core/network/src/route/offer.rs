//! What a peer offers, as the planner sees it.

use crate::PeerId;

/// The most blocks of a model. The largest open models have 126 (Llama 3.1 405B).
pub const MAX_BLOCKS: u32 = 512;
/// The most offers that one plan looks at: the first ones of the caller, who puts those first that it knows to be good.
pub const MAX_OFFERS: usize = 1024;
/// The most round trips to other peers that are read from one offer.
pub const MAX_PINGS: usize = 16;

/// A peer that serves the blocks `start..end` of a model.
///
/// All of it is the peer's word, except `rtt_us`. What makes no sense (an empty span, blocks that the model does not
/// have, no speed) is passed over; of two offers by one peer the wider one counts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Offer {
    /// Who.
    pub peer: PeerId,
    /// The first block.
    pub start: u32,
    /// The block after the last one.
    pub end: u32,
    /// How often in 1000 seconds it computes one block for one token.
    pub rps_milli: u32,
    /// From us to the peer and back, in microseconds; `None` if it was never measured.
    pub rtt_us: Option<u32>,
    /// Whether it has room for another session's KV cache.
    pub has_cache: bool,
    /// Round trips in microseconds that it measured to peers that are likely to come after it in a chain.
    pub pings_us: Vec<(PeerId, u32)>,
}

impl Offer {
    /// Whether it can be part of a chain through a model of so many blocks.
    fn makes_sense(&self, blocks: u32) -> bool {
        self.start < self.end && self.end <= blocks && self.rps_milli > 0
    }
}

/// The offers that count, one per peer, in an order that does not depend on theirs.
pub(crate) fn usable(offers: &[Offer], blocks: u32) -> Vec<&Offer> {
    let mut usable: Vec<&Offer> = offers
        .iter()
        .take(MAX_OFFERS)
        .filter(|offer| offer.makes_sense(blocks))
        .collect();
    usable.sort_unstable_by(|a, b| {
        let wider = || (b.end - b.start).cmp(&(a.end - a.start));
        a.peer.cmp(&b.peer).then_with(wider).then_with(|| a.cmp(b))
    });
    usable.dedup_by_key(|offer| offer.peer);
    usable
}
