//! `/ipfs/bitswap/1.2.0`, for peers of IPFS that do not speak our own protocol of chunks.
//!
//! A chunk of a model is a raw leaf of its UnixFS file, so that a foreign node can fetch it from us, and we from it. An
//! [`Exchange`] hears such peers: it serves the raw leaves of a [`Library`](crate::swarm::Library), and hands what
//! peers answer to the [`Download`](crate::swarm::Download)s that asked. Source:
//! <https://specs.ipfs.tech/bitswap-protocol/>.

mod exchange;
mod message;
mod serve;
#[cfg(test)]
mod tests;
mod wants;

pub use exchange::Exchange;
pub(crate) use exchange::Session;
pub use message::{BITSWAP, Block, MAX_BLOCKS, MAX_PRESENCES, MAX_WANTS, Message, Presence, Want, Wanted};
pub(crate) use message::{leaf_cid, leaf_of};
