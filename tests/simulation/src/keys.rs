//! Where a provider's record is kept, as the node computes it: one key per bucket of blocks and shard.

use kwaainet_network::{PeerId, RecordKey};
use sha2::{Digest, Sha256};

/// Blocks per bucket. A record is kept under every bucket that its span touches.
pub(crate) const BUCKET: u32 = 16;
/// Over so many keys the providers of a bucket are spread, so that no twenty nodes carry a popular model alone.
pub(crate) const SHARDS: u8 = 8;

/// sha256("kn1" ‖ root of the model ‖ bucket ‖ shard), the bucket as four bytes, the highest first.
pub(crate) fn provider_key(root: &[u8; 32], bucket: u32, shard: u8) -> RecordKey {
    let mut hash = Sha256::new();
    hash.update(b"kn1");
    hash.update(root);
    hash.update(bucket.to_be_bytes());
    hash.update([shard]);
    RecordKey(hash.finalize().into())
}

/// The shard in which a peer's records are.
pub(crate) fn shard_of(peer: PeerId) -> u8 {
    let [.., last]: [u8; 32] = Sha256::digest(peer.public_key()).into();
    last % SHARDS
}

/// The buckets that the blocks `start..end` touch.
pub(crate) fn buckets(start: u32, end: u32) -> std::ops::Range<u32> {
    start / BUCKET..end.div_ceil(BUCKET)
}
