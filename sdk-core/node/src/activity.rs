//! Knowing when nothing is going on, so that what it used can be deleted.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::channel::oneshot;

/// Counts work under way.
#[derive(Debug, Default)]
pub(crate) struct Activity {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    running: usize,
    waiting: Vec<oneshot::Sender<()>>,
}

/// Work under way, until it is dropped.
#[derive(Debug)]
pub(crate) struct Working {
    state: Arc<Mutex<State>>,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Activity {
    pub(crate) fn begin(&self) -> Working {
        let mut state = lock(&self.state);
        state.running = state.running.saturating_add(1);
        Working {
            state: Arc::clone(&self.state),
        }
    }

    /// Resolves when nothing is under way.
    pub(crate) async fn idle(&self) {
        let receiver = {
            let mut state = lock(&self.state);
            if state.running == 0 {
                return;
            }
            let (sender, receiver) = oneshot::channel();
            state.waiting.push(sender);
            receiver
        };
        let _ = receiver.await;
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        let mut state = lock(&self.state);
        state.running = state.running.saturating_sub(1);
        if state.running == 0 {
            // Dropping the senders wakes everybody.
            state.waiting.clear();
        }
    }
}
