//! Which peers compute which blocks of a model: a chain for a client, a place for a peer that joins.
//!
//! Pure: offers go in, plans come out, and whoever holds the network carries them out. Integers only, so that two
//! nodes with the same view make the same plan. The model is that of Petals (Borzunov et al., "Petals: Collaborative
//! Inference and Fine-tuning of Large Models", 2023, and its `sequence_manager.py` and `block_selection.py`).

mod cost;
mod offer;
mod placement;
mod plan;
#[cfg(test)]
mod tests;

pub use offer::{MAX_BLOCKS, MAX_OFFERS, MAX_PINGS, Offer};
pub use placement::{best_start, better_start, until_next_check_ms};
pub use plan::{Chain, Hop, MAX_ALTERNATIVES, RouteError, alternatives, plan, replan};
