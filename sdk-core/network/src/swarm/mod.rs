//! Models in verified chunks, from many peers at once and to them.
//!
//! [`Download`] asks peers for what is missing and yields only chunks whose SHA-256 is the manifest's;
//! [`serve_chunks`] gives away what a [`Library`] has verified. Both need the visitor's `Permit<HelpOthers>`. Peers of IPFS
//! are asked, and served, in their own language by an [`Exchange`](crate::bitswap::Exchange).

mod download;
mod foreign;
mod scheduler;
mod serve;
#[cfg(test)]
mod tests;
mod wire;

use std::time::Duration;

use futures::future::{self, Either};
use kwaainet_platform::Clock;

pub use download::{Beside, Download, Manifest, PeerSource};
pub use scheduler::Gaps;
pub use serve::{Library, Limits, serve_chunks};
pub(crate) use serve::{Pace, serve_chunks_at};
pub use wire::{CHUNKS, FRAME_BYTES, MAX_CHUNKS, Message};

/// What came within the time, if anything did.
pub(crate) async fn within<T>(clock: &dyn Clock, ms: u64, wanted: impl Future<Output = T>) -> Option<T> {
    let wanted = std::pin::pin!(wanted);
    match future::select(wanted, clock.sleep(Duration::from_millis(ms))).await {
        Either::Left((value, _)) => Some(value),
        Either::Right(_) => None,
    }
}
