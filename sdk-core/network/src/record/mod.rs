//! Who offers what: signed records, where they are kept, and how they are found.
//!
//! A record is an [`Offer`] in a signed envelope ([`Signed`], [`open`]) that holds for three minutes. A [`RecordStore`]
//! keeps those of others; [`Discovery`] decides when to publish ours and what to ask, and [`Providers`] does so.

mod discovery;
mod envelope;
mod error;
mod exchange;
mod key;
mod offer;
mod peer_record;
mod random;
mod store;
#[cfg(test)]
mod tests;

pub use discovery::{Discovery, Now, Provider, Providers, Publication};
pub use envelope::{LIFETIME_MS, LONGEST_RECORD, SKEW_MS, Signed, Verified, open};
pub use error::RecordError;
pub use exchange::{RECORDS, RecordsMessage};
pub use key::{BUCKET, MAX_BLOCKS, ModelRoot, SHARDS, Share, keys_of, provider_key, shard_of};
pub use offer::{MAX_ADDRESSES, MAX_PINGS, Offer};
pub use peer_record::PeerRecord;
pub use store::{PER_KEY, RETURNED, RecordStore};
