//! Chance that is the same at every run.

use kwaainet_platform::{Random, SeededRandom};

pub(crate) struct Dice(SeededRandom);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(SeededRandom::new(seed))
    }

    pub(crate) fn random(&self) -> &dyn Random {
        &self.0
    }

    pub(crate) fn bits(&self) -> u64 {
        self.0.next_u64()
    }

    /// A number below another one (the bias of the remainder is below 2^-40 here).
    pub(crate) fn below(&self, end: usize) -> usize {
        usize::try_from(self.bits() % end.max(1) as u64).unwrap_or(0)
    }

    /// From 0 to below 1.
    pub(crate) fn unit(&self) -> f64 {
        (self.bits() >> 11) as f64 / (1_u64 << 53) as f64
    }

    pub(crate) fn between(&self, low: f64, high: f64) -> f64 {
        low + self.unit() * (high - low)
    }
}

/// The value below which `share` of the values lie (nearest rank); 0 for none.
pub(crate) fn percentile(values: &mut [u64], share: f64) -> u64 {
    values.sort_unstable();
    let rank = (values.len() as f64 * share).ceil() as usize;
    values.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}
