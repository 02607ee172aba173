//! When to publish, what to ask, and whom we know: decisions without IO, so that a simulator can make them too.
//!
//! Schedules and lifetimes run on the monotonic clock, which nobody sets; only what is signed carries the wall clock.

mod providers;
mod schedule;

use std::collections::BTreeMap;

use kwaainet_platform::{Clock, Random};

use self::schedule::Schedule;
use super::envelope::{LIFETIME_MS, Signed};
use super::key::{BUCKET, ModelRoot, SHARDS, Share, keys_of, provider_key, shard_of};
use super::offer::Offer;
use super::random::shuffle;
use super::store::RETURNED;
use super::{RecordError, open};
use crate::{Keypair, PeerId, RecordKey};

pub use providers::Providers;

/// Providers that are known per shard. Who crowds one shard with ids takes no room from those in the others.
const PER_SHARD: usize = 32;
/// A search asks no more for a bucket when each of its blocks is offered by so many. (In the simulation of docs/scale.md
/// three were too few where 30 % had left: sometimes all three had.)
const PER_BLOCK: usize = 5;
/// The same for the model's chunks, which come from several peers at once.
const ENOUGH: usize = 8;
/// So many shards of a bucket must have answered, too, so that nobody who answers first in one shard is all that we see.
const SHARDS_HEARD: usize = 3;
/// Who has enough looks again after at most a minute: a record that lives three is seen twice before it ends.
const REFRESH_MS: u64 = 60_000;
/// A new offer is published at once, but not more often than this.
const SHORTEST_RENEWAL_MS: u64 = 5_000;

/// Both clocks at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// What people set, in Unix milliseconds.
    pub unix_ms: u64,
    /// What only goes forward, in milliseconds.
    pub monotonic_ms: u64,
}

impl Now {
    /// Reads both.
    pub fn of(clock: &dyn Clock) -> Self {
        Self {
            unix_ms: clock.unix_ms(),
            monotonic_ms: clock.monotonic_ms() as u64,
        }
    }
}

/// A peer that said, signed and recently, what it serves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provider {
    /// Who.
    pub peer: PeerId,
    /// What it said.
    pub offer: Offer,
}

/// What is to be published now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Publication {
    /// Under these keys.
    pub keys: Vec<RecordKey>,
    /// This record.
    pub record: Vec<u8>,
}

#[derive(Debug)]
struct Known {
    offer: Offer,
    sequence: u64,
    /// On the monotonic clock.
    until_ms: u64,
}

/// What we offer, and whom we know that serves our share of a model.
#[derive(Debug)]
pub struct Discovery {
    keypair: Keypair,
    model: ModelRoot,
    wanted: Share,
    offer: Option<Offer>,
    /// The offer was changed after it was last handed out to be published.
    changed: bool,
    sequence: u64,
    renewal: Schedule,
    search: Schedule,
    /// Shards of each bucket that answered in this search, a bit for each.
    heard: BTreeMap<u32, u8>,
    known: BTreeMap<PeerId, Known>,
    refused: Option<RecordError>,
}

impl Discovery {
    /// Looks for those who serve this share of a model; offers nothing yet.
    ///
    /// # Errors
    /// [`RecordError::Malformed`] if it is no span of blocks that a model can have.
    pub fn new(keypair: Keypair, model: ModelRoot, wanted: Share) -> Result<Self, RecordError> {
        if !wanted.makes_sense() {
            return Err(RecordError::Malformed(
                "a span of no blocks, or of more than a model has",
            ));
        }
        Ok(Self {
            keypair,
            model,
            wanted,
            offer: None,
            changed: false,
            sequence: 0,
            renewal: Schedule::default(),
            search: Schedule::default(),
            heard: BTreeMap::new(),
            known: BTreeMap::new(),
            refused: None,
        })
    }

    /// From now on this is what we offer; `None` withdraws it, and the last record ends by itself.
    ///
    /// # Errors
    /// [`RecordError::Malformed`] if the offer breaks a limit. The one before stays.
    pub fn set_offer(&mut self, offer: Option<Offer>, now: Now) -> Result<(), RecordError> {
        if let Some(offer) = &offer {
            offer.to_bytes()?;
        }
        self.offer = offer;
        self.changed = true;
        self.renewal.sooner(now.monotonic_ms, SHORTEST_RENEWAL_MS);
        Ok(())
    }

    /// What has to be published now, if anything has. Until [`Self::published`] says how it went, it stays due.
    ///
    /// # Errors
    /// [`RecordError`] if it cannot be written.
    pub fn publication(&mut self, now: Now) -> Result<Option<Publication>, RecordError> {
        let Some(offer) = self
            .offer
            .as_ref()
            .filter(|_| self.renewal.is_due(now.monotonic_ms))
        else {
            return Ok(None);
        };
        self.changed = false;
        // The wall clock goes on while we are away, so a node that restarts need not remember its last number.
        self.sequence = now.unix_ms.max(self.sequence.saturating_add(1));
        let expires_ms = now.unix_ms.saturating_add(LIFETIME_MS);
        let record = Signed::sign(&self.keypair, self.sequence, expires_ms, &offer.to_bytes()?)?;
        Ok(Some(Publication {
            keys: keys_of(self.keypair.peer_id(), offer.model, &offer.share),
            record: record.into_bytes(),
        }))
    }

    /// Says whether everything was published. It is renewed after two thirds of its life or up to a quarter of that
    /// earlier, so that nodes that started together do not come together. For a reader whose clock is a minute ahead
    /// of ours, too, it has not ended by then.
    pub fn published(&mut self, worked: bool, now: Now, random: &dyn Random) {
        let renewal_ms = LIFETIME_MS * 2 / 3;
        self.renewal
            .done(worked.then_some(renewal_ms), now.monotonic_ms, random);
        if self.changed {
            self.renewal.sooner(now.monotonic_ms, SHORTEST_RENEWAL_MS);
        }
    }

    /// The keys to ask now, the most useful first; `None` if it is too early. Until [`Self::searched`] they stay due.
    pub fn questions(&mut self, now: Now, random: &dyn Random) -> Option<Vec<RecordKey>> {
        if !self.search.is_due(now.monotonic_ms) {
            return None;
        }
        self.heard.clear();
        let mut shards: Vec<u8> = (0..SHARDS).collect();
        shuffle(&mut shards, random);
        // Every bucket in one shard before the next shard: a chain needs all buckets.
        let model = self.model;
        let keys = shards.into_iter().flat_map(|shard| {
            let buckets = self.wanted.buckets();
            buckets.map(move |bucket| provider_key(model, bucket, shard))
        });
        Some(keys.collect())
    }

    /// Takes what was found under a key. True if that is enough, and nobody else need be asked.
    pub fn answered(&mut self, key: RecordKey, records: Vec<Vec<u8>>, now: Now) -> bool {
        if let Some((bucket, shard)) = self.place_of(key) {
            *self.heard.entry(bucket).or_default() |= 1 << shard;
        }
        // Checking signatures is the work that an answer makes; nobody honest returns more.
        for record in records.into_iter().take(RETURNED) {
            if let Err(error) = self.learn(key, &record, now) {
                self.refused = Some(error);
            }
        }
        self.wanted.buckets().all(|bucket| self.is_over(bucket))
    }

    /// Whether a key of [`Self::questions`] is still worth asking: not if enough is known for its bucket.
    pub fn wants(&self, key: RecordKey) -> bool {
        self.place_of(key)
            .is_some_and(|(bucket, _)| !self.is_over(bucket))
    }

    /// Ends a search: the next is soon if it found too few, and later and later if it keeps finding too few.
    pub fn searched(&mut self, now: Now, random: &dyn Random) {
        let worked = self.has_enough();
        self.search
            .done(worked.then_some(REFRESH_MS), now.monotonic_ms, random);
    }

    /// Who is known now, in no order that means anything; at most 256, each once.
    pub fn providers(&mut self, now: Now) -> Vec<Provider> {
        self.known.retain(|_, known| known.until_ms > now.monotonic_ms);
        let known = self.known.iter().map(|(peer, known)| Provider {
            peer: *peer,
            offer: known.offer.clone(),
        });
        known.collect()
    }

    /// Why the last record that was refused was refused. If all are, this says what to do.
    pub fn refused(&self) -> Option<&RecordError> {
        self.refused.as_ref()
    }

    /// In how many milliseconds [`Self::publication`] has something; `None` if nothing is offered.
    pub fn publishes_in(&self, now: Now) -> Option<u64> {
        self.offer
            .as_ref()
            .map(|_| self.renewal.wait_ms(now.monotonic_ms))
    }

    /// In how many milliseconds [`Self::questions`] has some.
    pub fn searches_in(&self, now: Now) -> u64 {
        self.search.wait_ms(now.monotonic_ms)
    }

    fn learn(&mut self, key: RecordKey, record: &[u8], now: Now) -> Result<(), RecordError> {
        let verified = open(record, now.unix_ms)?;
        let (peer, sequence) = (verified.peer, verified.sequence);
        let offer = Offer::from_bytes(&verified.body)?;
        let belongs = offer.model == self.model && keys_of(peer, offer.model, &offer.share).contains(&key);
        if !belongs {
            return Err(RecordError::WrongKey(peer));
        }
        if peer == self.keypair.peer_id() || !offer.share.touches(&self.wanted) {
            return Ok(());
        }
        self.known.retain(|_, known| known.until_ms > now.monotonic_ms);
        match self.known.get(&peer).map(|known| known.sequence) {
            // The same record from several peers is the rule.
            Some(kept) if kept == sequence => return Ok(()),
            Some(kept) if kept > sequence => return Err(RecordError::Stale { peer, sequence, kept }),
            Some(_) => {}
            None => {
                let shard = shard_of(peer);
                let crowd = self
                    .known
                    .keys()
                    .filter(|known| shard_of(**known) == shard)
                    .count();
                if crowd >= PER_SHARD {
                    return Ok(());
                }
            }
        }
        let left_ms = verified.expires_ms.saturating_sub(now.unix_ms).min(LIFETIME_MS);
        let until_ms = now.monotonic_ms.saturating_add(left_ms);
        let known = Known {
            offer,
            sequence,
            until_ms,
        };
        self.known.insert(peer, known);
        Ok(())
    }

    /// The bucket and the shard of a key of ours.
    fn place_of(&self, key: RecordKey) -> Option<(u32, u8)> {
        let shards = |bucket| (0..SHARDS).map(move |shard| (bucket, shard));
        let mut places = self.wanted.buckets().flat_map(shards);
        places.find(|(bucket, shard)| provider_key(self.model, *bucket, *shard) == key)
    }

    fn is_over(&self, bucket: u32) -> bool {
        let heard = self.heard.get(&bucket).map_or(0, |shards| shards.count_ones());
        heard as usize >= SHARDS_HEARD && self.has_enough_of(bucket)
    }

    fn has_enough(&self) -> bool {
        self.wanted.buckets().all(|bucket| self.has_enough_of(bucket))
    }

    fn has_enough_of(&self, bucket: u32) -> bool {
        let offered = |serves: &dyn Fn(&Share) -> bool, enough: usize| {
            let serving = self.known.values().filter(|known| serves(&known.offer.share));
            serving.take(enough).count() == enough
        };
        match &self.wanted {
            Share::Chunks => offered(&|share| *share == Share::Chunks, ENOUGH),
            Share::Blocks(span) => {
                let mut blocks = span.start.max(bucket * BUCKET)..span.end.min((bucket + 1) * BUCKET);
                blocks.all(|block| {
                    let serves =
                        |share: &Share| matches!(share, Share::Blocks(span) if span.contains(&block));
                    offered(&serves, PER_BLOCK)
                })
            }
        }
    }
}
