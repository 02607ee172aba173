//! Stopping work from elsewhere.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt as _;
use futures::channel::oneshot;
use futures::future::{Either, Shared, select};

use crate::NodeError;
use crate::consent::ConsentKeeper;

/// A switch that can be thrown once. Clones are the same switch.
#[derive(Clone)]
pub struct Cancel(Arc<Inner>);

struct Inner {
    thrown: AtomicBool,
    // Dropping the sender resolves the signal for everybody who waits.
    sender: Mutex<Option<oneshot::Sender<()>>>,
    signal: Shared<oneshot::Receiver<()>>,
}

impl Default for Cancel {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for Cancel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Cancel").field(&self.is_cancelled()).finish()
    }
}

impl Cancel {
    /// A switch that nobody has thrown.
    pub fn new() -> Self {
        let (sender, receiver) = oneshot::channel();
        Self(Arc::new(Inner {
            thrown: AtomicBool::new(false),
            sender: Mutex::new(Some(sender)),
            signal: receiver.shared(),
        }))
    }

    /// Stops the work.
    pub fn cancel(&self) {
        self.0.thrown.store(true, Ordering::Release);
        self.0
            .sender
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }

    /// Whether the work is to stop.
    pub fn is_cancelled(&self) -> bool {
        self.0.thrown.load(Ordering::Acquire)
    }

    /// Resolves when the work is to stop.
    pub async fn cancelled(&self) {
        // `Err(Canceled)` is the signal: the sender was dropped.
        let _ = self.0.signal.clone().await;
    }
}

/// Every reason for which work may have to stop before its time.
#[derive(Debug, Clone)]
pub(crate) struct Stop {
    /// Thrown by whoever asked for the work.
    caller: Cancel,
    /// Thrown when consent is withdrawn.
    withdrawn: Cancel,
    consent: Arc<ConsentKeeper>,
}

impl Stop {
    /// For work that begins now.
    pub(crate) fn new(caller: &Cancel, consent: &Arc<ConsentKeeper>) -> Self {
        Self {
            caller: caller.clone(),
            withdrawn: consent.withdrawn(),
            consent: Arc::clone(consent),
        }
    }

    pub(crate) fn check(&self) -> Result<(), NodeError> {
        if self.withdrawn.is_cancelled() {
            return Err(NodeError::Withdrawn);
        }
        if self.caller.is_cancelled() {
            return Err(NodeError::Cancelled);
        }
        self.consent.check()
    }

    /// The future's output, or the reason why it was dropped.
    pub(crate) async fn race<T>(&self, future: impl Future<Output = T>) -> Result<T, NodeError> {
        self.check()?;
        let caller = std::pin::pin!(self.caller.cancelled());
        let withdrawn = std::pin::pin!(self.withdrawn.cancelled());
        let future = std::pin::pin!(future);
        match select(future, select(caller, withdrawn)).await {
            Either::Left((output, _)) => Ok(output),
            Either::Right(_) => Err(self.check().err().unwrap_or(NodeError::Cancelled)),
        }
    }
}
