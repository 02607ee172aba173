//! Does what [`Discovery`] decides, over a [`Network`].

use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::channel::oneshot;
use futures::future::{join, join_all, ready, select};
use futures::stream::{self, StreamExt};
use kwaainet_platform::{Clock, MaybeSend, MaybeSync, Random};

use super::{Discovery, Now, Provider};
use crate::Network;
use crate::record::{Offer, RecordError, SHARDS};

/// Keys that are asked at once: three shards of each bucket of the largest open models (128 blocks), all shards of one of
/// 48. A dead peer on the way holds one of them up, not the search. Each is a lookup with up to 20 requests in flight,
/// for which the transport must have room.
const AT_ONCE: usize = 3 * SHARDS as usize;
/// What was not answered by then is asked again later. In a simulation of a million nodes of which 30 % were gone, 95 %
/// of lookups had found their target after 9.5 s with three requests at once, and after 1.7 s with ten.
const LONGEST_SEARCH: Duration = Duration::from_secs(10);

/// The providers of a model, kept fresh while [`Providers::run`] is polled; and our own offer, kept published.
pub struct Providers {
    network: Arc<dyn Network>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
    discovery: Mutex<Discovery>,
    /// Ends the wait for the next renewal.
    wake: Mutex<Option<oneshot::Sender<()>>>,
}

impl std::fmt::Debug for Providers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Providers")
            .field("discovery", &self.discovery)
            .finish_non_exhaustive()
    }
}

impl Providers {
    /// Does nothing until it is polled.
    pub fn new(
        network: Arc<dyn Network>,
        clock: Arc<dyn Clock>,
        random: Arc<dyn Random>,
        discovery: Discovery,
    ) -> Self {
        Self {
            network,
            clock,
            random,
            discovery: Mutex::new(discovery),
            wake: Mutex::default(),
        }
    }

    /// Who is known now: verified, unexpired, each once, at most 256.
    pub fn known(&self) -> Vec<Provider> {
        let now = self.now();
        self.discovery().providers(now)
    }

    /// Why the last record that was refused was refused.
    pub fn refused(&self) -> Option<RecordError> {
        self.discovery().refused().cloned()
    }

    /// From now on this is what we offer; `None` withdraws it.
    ///
    /// # Errors
    /// [`RecordError::Malformed`] if the offer breaks a limit.
    pub fn set_offer(&self, offer: Option<Offer>) -> Result<(), RecordError> {
        let now = self.now();
        self.discovery().set_offer(offer, now)?;
        let wake = self.wake.lock().unwrap_or_else(PoisonError::into_inner).take();
        // Nobody waits if `run` is not polled, or is publishing; it then sees the offer by itself.
        let _ = wake.map(|wake| wake.send(()));
        Ok(())
    }

    /// Publishes and searches for as long as it is polled, and tells who is known whenever that has changed.
    pub async fn run(&self, changed: impl Fn(Vec<Provider>) + MaybeSend + MaybeSync) {
        let renewing = async {
            loop {
                self.renew().await;
                let (wake, woken) = oneshot::channel();
                *self.wake.lock().unwrap_or_else(PoisonError::into_inner) = Some(wake);
                let now = self.now();
                let wait = self.discovery().publishes_in(now);
                match wait {
                    Some(ms) => drop(select(self.clock.sleep(Duration::from_millis(ms)), woken).await),
                    None => drop(woken.await),
                }
            }
        };
        let searching = async {
            let mut before = vec![];
            loop {
                self.search().await;
                let known = self.known();
                if known != before {
                    changed(known.clone());
                    before = known;
                }
                let now = self.now();
                let ms = self.discovery().searches_in(now);
                self.clock.sleep(Duration::from_millis(ms)).await;
            }
        };
        let ((), ()) = join(renewing, searching).await;
    }

    /// Publishes our offer if that is due.
    pub async fn renew(&self) {
        let now = self.now();
        let publication = self.discovery().publication(now);
        // INVARIANT: an offer within its limits can be written; `set_offer` has tried.
        let Ok(Some(publication)) = publication else {
            return;
        };
        let publish = |key| self.network.publish(key, publication.record.clone());
        let all = join_all(publication.keys.into_iter().map(publish)).await;
        let worked = all.iter().all(Result::is_ok);
        let now = self.now();
        self.discovery().published(worked, now, &*self.random);
    }

    /// Searches if that is due: asks several shards at once, those of a bucket until there is enough for it.
    pub async fn search(&self) {
        let now = self.now();
        let keys = self.discovery().questions(now, &*self.random);
        let Some(keys) = keys else { return };
        let ask = |key| {
            let found = self.network.find(key, crate::record::RETURNED);
            async move { (key, found.await) }
        };
        let asking = pin!(async {
            let wanted = stream::iter(keys).filter(|key| ready(self.discovery().wants(*key)));
            let mut answers = pin!(wanted.map(ask).buffer_unordered(AT_ONCE));
            while let Some((key, found)) = answers.next().await {
                let now = self.now();
                // Whoever could not be asked has nothing to say; the search is repeated soon if there is not enough.
                let Ok(records) = found else { continue };
                if self.discovery().answered(key, records, now) {
                    break;
                }
            }
        });
        let deadline = pin!(async { self.clock.sleep(LONGEST_SEARCH).await });
        select(asking, deadline).await;
        let now = self.now();
        self.discovery().searched(now, &*self.random);
    }

    fn now(&self) -> Now {
        Now::of(&*self.clock)
    }

    fn discovery(&self) -> MutexGuard<'_, Discovery> {
        self.discovery.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
