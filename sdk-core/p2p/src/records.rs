//! The records that a node keeps for others.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kwaainet_network::record::{RecordError, RecordStore};
use kwaainet_network::{PeerId, RecordKey};
use kwaainet_platform::{Clock, Random};

/// A store that is shared: what is not sound, or too much, is not taken.
pub(crate) struct Keeper {
    store: Mutex<RecordStore>,
    clock: Arc<dyn Clock>,
    random: Arc<dyn Random>,
}

impl Keeper {
    pub(crate) fn new(clock: Arc<dyn Clock>, random: Arc<dyn Random>) -> Self {
        Self {
            store: Mutex::default(),
            clock,
            random,
        }
    }

    pub(crate) fn put(&self, from: PeerId, key: RecordKey, record: Vec<u8>) -> Result<(), RecordError> {
        self.lock().put(from, key, None, record, self.clock.unix_ms())
    }

    pub(crate) fn get(&self, key: RecordKey, limit: usize) -> Vec<Vec<u8>> {
        self.lock().get(key, limit, self.clock.unix_ms(), &*self.random)
    }

    pub(crate) fn size(&self) -> usize {
        self.lock().size()
    }

    fn lock(&self) -> MutexGuard<'_, RecordStore> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
