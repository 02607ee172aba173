//! Under which keys a provider is found: one key per bucket of blocks and shard.
//!
//! One record per span instead of one per block keeps the announcements few. All providers of a popular model under
//! one key would be on the same twenty nodes; shards spread them. A publisher's shard follows from its id, so that it
//! cannot choose one to crowd without making a new id.

use std::ops::Range;

use sha2::{Digest, Sha256};

use crate::{PeerId, RecordKey};

/// Which model: the root of the tree of hashes over its file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ModelRoot(pub [u8; 32]);

/// Over so many keys the providers of a bucket are spread.
pub const SHARDS: u8 = 8;
/// Blocks per bucket. A record is kept under every bucket that its span touches.
pub const BUCKET: u32 = 16;
/// The most blocks of a model. The largest open models have 126 (Llama 3.1 405B).
pub const MAX_BLOCKS: u32 = 512;
/// The bucket of those who share the model's chunks: none that blocks touch.
const CHUNKS: u32 = u32::MAX;

/// What is offered, or wanted, of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Share {
    /// The blocks from the first to before the last, run for others.
    Blocks(Range<u32>),
    /// The chunks of the model's file.
    Chunks,
}

impl Share {
    /// Whether it is a span of blocks that a model can have.
    pub(super) fn makes_sense(&self) -> bool {
        match self {
            Self::Blocks(span) => span.start < span.end && span.end <= MAX_BLOCKS,
            Self::Chunks => true,
        }
    }

    /// The buckets that it touches; at most `MAX_BLOCKS / BUCKET`.
    pub(super) fn buckets(&self) -> Range<u32> {
        match self {
            Self::Blocks(span) => span.start / BUCKET..span.end.min(MAX_BLOCKS).div_ceil(BUCKET),
            Self::Chunks => CHUNKS - 1..CHUNKS,
        }
    }

    /// Whether one has to do with the other.
    pub(super) fn touches(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Blocks(one), Self::Blocks(other)) => one.start < other.end && other.start < one.end,
            (Self::Chunks, Self::Chunks) => true,
            _ => false,
        }
    }
}

/// sha256("kn1" ‖ root of the model ‖ bucket ‖ shard), the bucket as four bytes, the highest first.
pub fn provider_key(model: ModelRoot, bucket: u32, shard: u8) -> RecordKey {
    let mut hash = Sha256::new();
    hash.update(b"kn1");
    hash.update(model.0);
    hash.update(bucket.to_be_bytes());
    hash.update([shard]);
    RecordKey(hash.finalize().into())
}

/// The shard in which a peer's records are.
pub fn shard_of(peer: PeerId) -> u8 {
    let [.., last]: [u8; 32] = Sha256::digest(peer.public_key()).into();
    last % SHARDS
}

/// The keys under which a peer publishes what it offers.
pub fn keys_of(peer: PeerId, model: ModelRoot, share: &Share) -> Vec<RecordKey> {
    let buckets = share.buckets();
    buckets
        .map(|bucket| provider_key(model, bucket, shard_of(peer)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Keypair;

    #[test]
    fn the_key_is_this_hash() {
        // printf 'kn1' + 32 times 07 + 00000002 + 03 | sha256sum
        let RecordKey(key) = provider_key(ModelRoot([7; 32]), 2, 3);
        let hex: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex,
            "0ff1a66d2aa5a65534fc8e4e70901be709f5b75d668aa02f1a329c065b8c4c62"
        );
    }

    #[test]
    fn a_span_is_under_every_bucket_that_it_touches() {
        assert_eq!(Share::Blocks(0..16).buckets(), 0..1);
        assert_eq!(Share::Blocks(15..33).buckets(), 0..3);
        assert_eq!(Share::Blocks(16..17).buckets(), 1..2);
        assert_eq!(Share::Blocks(0..u32::MAX).buckets(), 0..MAX_BLOCKS / BUCKET);
        assert_eq!(Share::Chunks.buckets().len(), 1);
        assert!(Share::Blocks(3..8).touches(&Share::Blocks(7..9)));
        assert!(!Share::Blocks(3..8).touches(&Share::Blocks(8..9)));
        assert!(!Share::Chunks.touches(&Share::Blocks(0..9)));
    }

    #[test]
    fn peers_spread_over_all_shards() {
        let mut counts = [0; SHARDS as usize];
        for seed in 0..200 {
            counts[usize::from(shard_of(Keypair::from_seed([seed; 32]).peer_id()))] += 1;
        }
        assert!(counts.iter().all(|count| (10..45).contains(count)), "{counts:?}");
    }
}
