//! Where a provider's record is kept: as the node computes it.

use kwaainet_network::RecordKey;
use kwaainet_network::record::{self, ModelRoot};
pub(crate) use kwaainet_network::record::{BUCKET, SHARDS, shard_of};

/// One key per bucket of blocks and shard.
pub(crate) fn provider_key(root: &[u8; 32], bucket: u32, shard: u8) -> RecordKey {
    record::provider_key(ModelRoot(*root), bucket, shard)
}

/// The buckets that the blocks `start..end` touch.
pub(crate) fn buckets(start: u32, end: u32) -> std::ops::Range<u32> {
    start / BUCKET..end.div_ceil(BUCKET)
}
