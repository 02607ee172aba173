//! Ctrl-C and termination: the first one stops what goes on, the second one ends the program.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use kwaainet_node::Cancel;

use crate::HostError;
use crate::error::exit;

/// The one handler of this process.
#[derive(Debug, Clone, Default)]
pub struct Interrupt(Arc<State>);

#[derive(Debug, Default)]
struct State {
    count: AtomicUsize,
    current: Mutex<Option<Cancel>>,
}

impl Interrupt {
    /// Installs the handler.
    ///
    /// # Errors
    /// When the system refuses, or one is installed already.
    pub fn install() -> Result<Self, HostError> {
        let interrupt = Self::default();
        let handler = interrupt.clone();
        ctrlc::set_handler(move || handler.hit())
            .map_err(|error| HostError::Failed(format!("cannot listen for Ctrl-C: {error}")))?;
        Ok(interrupt)
    }

    fn hit(&self) {
        let before = self.0.count.fetch_add(1, Ordering::SeqCst);
        let current = self.current().clone();
        match current {
            Some(cancel) if before == 0 => cancel.cancel(),
            // Nothing goes on that could be stopped, or it does not stop.
            _ => std::process::exit(i32::from(exit::INTERRUPTED)),
        }
    }

    fn current(&self) -> std::sync::MutexGuard<'_, Option<Cancel>> {
        self.0.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something begins that the next Ctrl-C is to stop.
    pub fn begin(&self) -> Cancel {
        let cancel = Cancel::new();
        self.0.count.store(0, Ordering::SeqCst);
        *self.current() = Some(cancel.clone());
        cancel
    }

    /// It has ended; from here on Ctrl-C ends the program.
    pub fn end(&self) {
        *self.current() = None;
    }
}
