//! What the visitor agreed to, while the node runs and from one start to the next.

use std::sync::{Mutex, MutexGuard, PoisonError};

use kwaainet_platform::{BlobStore, Platform, StoreError};
use kwaainet_types::{
    ConsentError, ConsentGrant, ConsentRecord, Permit, PermitFor, Purpose, ResourceLimits, RunAi,
};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::NodeError;
use crate::cancel::Cancel;

/// The record, as the frame reads it at the next visit.
pub(crate) const CONSENT_BLOB: &str = "consent.json";
/// The caps that were in force when the visitor agreed.
pub(crate) const LIMITS_BLOB: &str = "consent-limits.json";
/// A record has about 300 bytes.
const LARGEST_RECORD: u64 = 64 << 10;

/// Holds the grant and hands out permits.
#[derive(Debug)]
pub(crate) struct ConsentKeeper {
    platform: Platform,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    grant: Option<Held>,
    withdrawn: Cancel,
}

#[derive(Debug)]
struct Held {
    grant: ConsentGrant,
    /// The end on the monotonic clock, so that turning back the wall clock does not prolong it.
    ends_at_monotonic_ms: f64,
    expired: bool,
}

impl ConsentKeeper {
    pub(crate) fn new(platform: Platform) -> Self {
        Self {
            platform,
            state: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A permit for one purpose, as of now.
    pub(crate) fn permit<P: PermitFor>(&self) -> Result<Permit<P>, NodeError> {
        let now = self.platform.clock.unix_ms();
        let monotonic = self.platform.clock.monotonic_ms();
        let mut state = self.lock();
        let held = state.grant.as_mut().ok_or(ConsentError::NotGiven(P::PURPOSE))?;
        if held.expired || monotonic >= held.ends_at_monotonic_ms {
            held.expired = true;
            return Err(ConsentError::Expired.into());
        }
        let permit = held.grant.permit::<P>(now);
        held.expired = matches!(permit, Err(ConsentError::Expired));
        Ok(permit?)
    }

    /// Whether computing is still allowed.
    pub(crate) fn check(&self) -> Result<(), NodeError> {
        self.permit::<RunAi>().map(|_| ())
    }

    /// The record in force.
    pub(crate) fn record(&self) -> Option<ConsentRecord> {
        self.lock()
            .grant
            .as_ref()
            .filter(|held| !held.expired)
            .map(|held| held.grant.record().clone())
    }

    pub(crate) fn purposes(&self) -> Vec<Purpose> {
        self.record().map(|record| record.purposes).unwrap_or_default()
    }

    /// Puts a grant in force. Work that rests on a purpose which the new grant lacks is stopped.
    pub(crate) fn set(&self, grant: ConsentGrant) {
        let left = grant
            .record()
            .expires_at_ms
            .saturating_sub(self.platform.clock.unix_ms());
        let ends_at_monotonic_ms = self.platform.clock.monotonic_ms() + left as f64;
        let mut state = self.lock();
        let lost = state.grant.as_ref().is_some_and(|held| {
            let purposes = &grant.record().purposes;
            held.grant.record().purposes.iter().any(|p| !purposes.contains(p))
        });
        state.grant = Some(Held {
            grant,
            ends_at_monotonic_ms,
            expired: false,
        });
        if lost {
            std::mem::take(&mut state.withdrawn).cancel();
        }
    }

    /// Ends the grant and stops the work that rests on it.
    pub(crate) fn clear(&self) {
        let mut state = self.lock();
        state.grant = None;
        std::mem::take(&mut state.withdrawn).cancel();
    }

    /// The switch that is thrown when the present consent is withdrawn.
    pub(crate) fn withdrawn(&self) -> Cancel {
        self.lock().withdrawn.clone()
    }
}

/// What `consent.json` and its neighbour said at start.
#[derive(Debug)]
pub(crate) enum Restored {
    Nothing,
    Grant(ConsentGrant, Option<ResourceLimits>),
    /// The agreement is over, or its record is damaged.
    Over,
}

/// Reads what was kept; writes nothing.
pub(crate) async fn restore(store: &dyn BlobStore, now_unix_ms: u64) -> Result<Restored, StoreError> {
    let record: ConsentRecord = match read_json(store, CONSENT_BLOB).await {
        Ok(Some(record)) => record,
        Ok(None) => return Ok(Restored::Over),
        // A host that refuses storage cannot have kept a record.
        Err(StoreError::NotFound(_) | StoreError::Denied(_)) => return Ok(Restored::Nothing),
        Err(error) => return Err(error),
    };
    let Ok(grant) = ConsentGrant::accept(record, now_unix_ms) else {
        return Ok(Restored::Over);
    };
    let limits = read_json(store, LIMITS_BLOB).await.unwrap_or(None);
    Ok(Restored::Grant(grant, limits))
}

/// Keeps a grant for the next start. Nothing but an accepted grant can be kept.
pub(crate) async fn keep(
    store: &dyn BlobStore,
    grant: &ConsentGrant,
    limits: ResourceLimits,
) -> Result<(), StoreError> {
    write_json(store, LIMITS_BLOB, &limits).await?;
    write_json(store, CONSENT_BLOB, grant.record()).await
}

/// `Ok(None)` when there is a blob but it does not hold what it should.
async fn read_json<T: DeserializeOwned>(store: &dyn BlobStore, name: &str) -> Result<Option<T>, StoreError> {
    let blob = store.open(name, false).await?;
    if blob.size() > LARGEST_RECORD {
        return Ok(None);
    }
    let mut bytes = vec![0; blob.size() as usize];
    blob.read_at(0, &mut bytes).await?;
    Ok(serde_json::from_slice(&bytes).ok())
}

async fn write_json<T: Serialize + kwaainet_platform::MaybeSync>(
    store: &dyn BlobStore,
    name: &str,
    value: &T,
) -> Result<(), StoreError> {
    let bytes = serde_json::to_vec(value).map_err(|error| StoreError::Invalid(error.to_string()))?;
    let blob = store.open(name, true).await?;
    blob.write_at(0, &bytes).await?;
    blob.set_size(bytes.len() as u64).await?;
    blob.flush().await
}
