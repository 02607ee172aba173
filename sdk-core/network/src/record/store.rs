//! The records that a node keeps for others, and what it refuses to keep.
//!
//! Ids cost nothing, so whoever wants a key for itself makes many. Therefore those who came first stay as long as they
//! renew; a full key takes nobody new; and a finder gets a random sample, in which the honest ones are too.

use std::collections::BTreeMap;

use kwaainet_platform::Random;

use super::envelope::{LIFETIME_MS, LONGEST_RECORD, SKEW_MS};
use super::key::keys_of;
use super::offer::Offer;
use super::random::shuffle;
use super::{RecordError, open};
use crate::{PeerId, RecordKey};

/// Publishers per key.
pub const PER_KEY: usize = 64;
/// The most records that are returned for one question.
pub const RETURNED: usize = 32;
/// Keys per publisher: two models of 512 blocks, in buckets of 16.
const PER_PUBLISHER: usize = 64;
/// All records together, in bytes.
const LARGEST: usize = 8 << 20;
/// What a record costs besides its bytes: its places in two trees.
const OVERHEAD: usize = 256;
/// Records that one peer may hand over at once …
const BURST: u64 = 64;
/// … and after how many milliseconds it may hand over another. 64 keys renewed every 90 s need 1.4 s each.
const REFILL_MS: u64 = 1000;
/// Peers whose rate is remembered. Whoever was quiet for a minute is forgotten.
const SOURCES: usize = 1024;

/// How long an expired record may take up room, in milliseconds.
const SWEEP_MS: u64 = 1000;

#[derive(Debug)]
struct Kept {
    sequence: u64,
    expires_ms: u64,
    bytes: Vec<u8>,
}

impl Kept {
    /// If the clock was set back, records that seem to live for hours go too.
    fn is_alive(&self, now_ms: u64) -> bool {
        self.expires_ms > now_ms && self.expires_ms - now_ms <= LIFETIME_MS + SKEW_MS
    }
}

/// Records of others. Times are Unix milliseconds of this device.
#[derive(Debug, Default)]
pub struct RecordStore {
    records: BTreeMap<RecordKey, BTreeMap<PeerId, Kept>>,
    /// Keys of every publisher.
    publishers: BTreeMap<PeerId, usize>,
    /// When each source will have its whole burst again.
    sources: BTreeMap<PeerId, u64>,
    /// Bytes of all records, with their overhead.
    size: usize,
    /// When all records were last looked through for expired ones.
    swept_ms: u64,
}

impl RecordStore {
    /// Keeps a record that a peer handed over, after everything about it was checked.
    ///
    /// `from` is who handed it over, as the handshake proved; `publisher` is whose record it is said to be, where
    /// the protocol says so.
    ///
    /// # Errors
    /// [`RecordError`] says why it is not kept. What was kept before stays.
    pub fn put(
        &mut self,
        from: PeerId,
        key: RecordKey,
        publisher: Option<PeerId>,
        bytes: Vec<u8>,
        now_ms: u64,
    ) -> Result<(), RecordError> {
        // Before the signature is checked, which is what a flood would cost most.
        self.check_rate(from, now_ms)?;
        let verified = open(&bytes, now_ms)?;
        let (peer, sequence) = (verified.peer, verified.sequence);
        if let Some(claimed) = publisher.filter(|claimed| *claimed != peer) {
            return Err(RecordError::NotTheSigner {
                claimed,
                signer: peer,
            });
        }
        let offer = Offer::from_bytes(&verified.body)?;
        if !keys_of(peer, offer.model, &offer.share).contains(&key) {
            return Err(RecordError::WrongKey(peer));
        }
        self.drop_expired(now_ms);
        let kept = self.records.get(&key);
        let old = kept.and_then(|kept| kept.get(&peer));
        let old_size = old.map_or(0, |old| old.bytes.len() + OVERHEAD);
        match old.map(|old| old.sequence) {
            Some(kept) if kept >= sequence => {
                return Err(RecordError::Stale { peer, sequence, kept });
            }
            Some(_) => {}
            None => {
                let publishers = kept.map_or(0, BTreeMap::len);
                check_room("providers under a key", publishers, PER_KEY)?;
                let keys = self.publishers.get(&peer).copied().unwrap_or_default();
                check_room("keys of one publisher", keys, PER_PUBLISHER)?;
            }
        }
        let size = self.size - old_size + bytes.len() + OVERHEAD;
        check_room("bytes of records", size - 1, LARGEST)?;
        self.size = size;
        let expires_ms = verified.expires_ms;
        let kept = Kept {
            sequence,
            expires_ms,
            bytes,
        };
        if self.records.entry(key).or_default().insert(peer, kept).is_none() {
            *self.publishers.entry(peer).or_default() += 1;
        }
        Ok(())
    }

    /// A random sample of the records under a key: at most `limit`, and at most [`RETURNED`].
    pub fn get(&self, key: RecordKey, limit: usize, now_ms: u64, random: &dyn Random) -> Vec<Vec<u8>> {
        let kept = self.records.get(&key).into_iter().flat_map(BTreeMap::values);
        let mut found: Vec<&Kept> = kept.filter(|kept| kept.is_alive(now_ms)).collect();
        shuffle(&mut found, random);
        found.truncate(limit.min(RETURNED));
        found.into_iter().map(|kept| kept.bytes.clone()).collect()
    }

    /// How much memory the records take, in bytes; about, and never more than 8 MiB.
    pub fn size(&self) -> usize {
        self.size
    }

    /// Looks through everything, but not for every record that comes in.
    fn drop_expired(&mut self, now_ms: u64) {
        if now_ms.abs_diff(self.swept_ms) < SWEEP_MS {
            return;
        }
        self.swept_ms = now_ms;
        let Self {
            records,
            publishers,
            size,
            ..
        } = self;
        records.retain(|_, kept| {
            kept.retain(|peer, kept| {
                let alive = kept.is_alive(now_ms);
                if !alive {
                    // INVARIANT: what is kept was added to both.
                    *size -= kept.bytes.len() + OVERHEAD;
                    if let Some(keys) = publishers.get_mut(peer) {
                        *keys -= 1;
                    }
                }
                alive
            });
            !kept.is_empty()
        });
        publishers.retain(|_, keys| *keys > 0);
    }

    /// A token bucket, kept as the moment at which it will be full (the generic cell rate algorithm, ITU-T I.371).
    fn check_rate(&mut self, from: PeerId, now_ms: u64) -> Result<(), RecordError> {
        // The second bound forgets those whom a clock that was set back would hold for hours.
        let recent = |full_ms: u64| full_ms > now_ms && full_ms <= now_ms + BURST * REFILL_MS;
        if !self.sources.contains_key(&from) && self.sources.len() >= SOURCES {
            self.sources.retain(|_, full_ms| recent(*full_ms));
            check_room("peers that hand records over", self.sources.len(), SOURCES)?;
        }
        let full_ms = self.sources.entry(from).or_default();
        let next = if recent(*full_ms) { *full_ms } else { now_ms } + REFILL_MS;
        let wait_ms = next.saturating_sub(now_ms + BURST * REFILL_MS);
        if wait_ms > 0 {
            return Err(RecordError::RateLimited { peer: from, wait_ms });
        }
        *full_ms = next;
        Ok(())
    }
}

fn check_room(what: &'static str, taken: usize, limit: usize) -> Result<(), RecordError> {
    if taken < limit {
        Ok(())
    } else {
        Err(RecordError::Full { what, limit })
    }
}

const _: () = assert!(PER_KEY * LONGEST_RECORD < LARGEST);
