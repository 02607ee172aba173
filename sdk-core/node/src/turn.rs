//! First come, first served: who may use the engine.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use futures::channel::oneshot;

use crate::NodeError;

/// A bounded queue in front of something that one at a time may use.
#[derive(Debug)]
pub(crate) struct Turns {
    state: Arc<Mutex<State>>,
    most_waiting: usize,
}

#[derive(Debug, Default)]
struct State {
    taken: bool,
    waiting: VecDeque<oneshot::Sender<Turn>>,
}

/// Leave to go; the next one goes when it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    state: Arc<Mutex<State>>,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Turns {
    pub(crate) fn new(most_waiting: usize) -> Self {
        Self {
            state: Arc::default(),
            most_waiting,
        }
    }

    /// Waits for a turn; [`NodeError::Busy`] at once when too many wait already.
    pub(crate) async fn next(&self) -> Result<Turn, NodeError> {
        let receiver = {
            let mut state = lock(&self.state);
            // Those who went away while waiting do not count.
            state.waiting.retain(|waiter| !waiter.is_canceled());
            if !state.taken {
                state.taken = true;
                return Ok(Turn {
                    state: Arc::clone(&self.state),
                });
            }
            if state.waiting.len() >= self.most_waiting {
                return Err(NodeError::Busy {
                    waiting: state.waiting.len(),
                });
            }
            let (sender, receiver) = oneshot::channel();
            state.waiting.push_back(sender);
            receiver
        };
        // INVARIANT: a sender is only dropped with its turn sent, or with the whole queue.
        receiver.await.map_err(|_| NodeError::Cancelled)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let next = {
            let mut state = lock(&self.state);
            let next = state.waiting.pop_front();
            state.taken = next.is_some();
            next
        };
        if let Some(next) = next {
            // To somebody who just went away, the turn comes back, is dropped, and passes to the one behind; so
            // does a turn that was sent but never received. The depth is bounded by the queue.
            drop(next.send(Turn {
                state: Arc::clone(&self.state),
            }));
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    #[test]
    fn turns_are_given_in_order_and_the_queue_is_bounded() {
        let turns = Turns::new(2);
        let first = turns.next().now_or_never().unwrap().unwrap();
        let mut second = Box::pin(turns.next());
        let mut third = Box::pin(turns.next());
        assert!((&mut second).now_or_never().is_none());
        assert!((&mut third).now_or_never().is_none());
        let refused = turns.next().now_or_never().unwrap();
        assert_eq!(refused.unwrap_err(), NodeError::Busy { waiting: 2 });
        drop(first);
        assert!((&mut third).now_or_never().is_none());
        drop((&mut second).now_or_never().unwrap());
        drop((&mut third).now_or_never().unwrap());
        assert!(turns.next().now_or_never().unwrap().is_ok());
    }

    #[test]
    fn a_turn_given_to_somebody_who_left_passes_on() {
        let turns = Turns::new(8);
        let first = turns.next().now_or_never().unwrap().unwrap();
        let mut second = Box::pin(turns.next());
        let mut third = Box::pin(turns.next());
        assert!((&mut second).now_or_never().is_none());
        assert!((&mut third).now_or_never().is_none());
        drop(first); // sent to the second, which never looks
        drop(second);
        assert!((&mut third).now_or_never().is_some());
    }
}
