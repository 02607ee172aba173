//! First come, first served: who may use the engine.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use futures::channel::oneshot;

use crate::NodeError;

/// A bounded queue in front of something that a few at a time may use, or one alone.
#[derive(Debug)]
pub(crate) struct Turns {
    state: Arc<Mutex<State>>,
    most_waiting: usize,
}

/// How much of it somebody needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Share {
    /// A place beside others.
    Place,
    /// All places.
    Whole,
}

#[derive(Debug)]
struct State {
    places: usize,
    taken: usize,
    waiting: VecDeque<(Share, oneshot::Sender<Turn>)>,
    /// Who has the whole, and would give it up if anybody waited.
    yielding: Option<Waker>,
}

impl State {
    fn needed(&self, share: Share) -> usize {
        match share {
            Share::Place => 1,
            Share::Whole => self.places,
        }
    }

    /// Whether anybody waits. Those who went away while waiting do not count.
    fn has_waiting(&mut self) -> bool {
        self.waiting.retain(|(_, waiter)| !waiter.is_canceled());
        !self.waiting.is_empty()
    }

    /// Takes places if they are free.
    fn take(&mut self, share: Share) -> Option<usize> {
        let needed = self.needed(share);
        let after = self.taken.saturating_add(needed);
        (after <= self.places).then(|| {
            self.taken = after;
            needed
        })
    }

    /// Takes places if they are free and nobody waits for any.
    fn take_in_order(&mut self, share: Share) -> Option<usize> {
        if self.has_waiting() {
            None
        } else {
            self.take(share)
        }
    }
}

/// Leave to go; the next one goes when it is dropped.
#[derive(Debug)]
pub(crate) struct Turn {
    state: Arc<Mutex<State>>,
    held: usize,
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Turns {
    /// One place, and a queue of that length.
    pub(crate) fn new(most_waiting: usize) -> Self {
        let state = State {
            places: 1,
            taken: 0,
            waiting: VecDeque::new(),
            yielding: None,
        };
        Self {
            state: Arc::new(Mutex::new(state)),
            most_waiting,
        }
    }

    /// A turn, if one is free and nobody waits.
    pub(crate) fn at_once(&self, share: Share) -> Option<Turn> {
        let held = lock(&self.state).take_in_order(share)?;
        Some(self.turn(held))
    }

    fn turn(&self, held: usize) -> Turn {
        Turn {
            state: Arc::clone(&self.state),
            held,
        }
    }

    /// Waits for a turn; [`NodeError::Busy`] at once when too many wait already.
    pub(crate) async fn next(&self, share: Share) -> Result<Turn, NodeError> {
        let receiver = {
            let mut state = lock(&self.state);
            if let Some(held) = state.take_in_order(share) {
                return Ok(self.turn(held));
            }
            if state.waiting.len() >= self.most_waiting {
                return Err(NodeError::Busy {
                    waiting: state.waiting.len(),
                });
            }
            let (sender, receiver) = oneshot::channel();
            state.waiting.push_back((share, sender));
            if let Some(yielding) = state.yielding.take() {
                yielding.wake();
            }
            receiver
        };
        // INVARIANT: a sender is only dropped with its turn sent, or with the whole queue.
        receiver.await.map_err(|_| NodeError::Cancelled)
    }
}

impl Turn {
    /// Ready as soon as somebody else waits for a turn. For one that has the whole.
    pub(crate) fn poll_wanted(&self, context: &mut Context<'_>) -> Poll<()> {
        let mut state = lock(&self.state);
        if state.has_waiting() {
            return Poll::Ready(());
        }
        state.yielding = Some(context.waker().clone());
        Poll::Pending
    }

    /// Keeps one place of the whole, and says how many there are from now on.
    pub(crate) fn share(&mut self, places: usize) {
        {
            let mut state = lock(&self.state);
            state.taken = state.taken.saturating_sub(self.held).saturating_add(1);
            state.places = places.max(1);
            self.held = 1;
        }
        pass_on(&self.state);
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        {
            let mut state = lock(&self.state);
            state.taken = state.taken.saturating_sub(self.held);
        }
        pass_on(&self.state);
    }
}

/// Gives free places to those who wait, in their order.
fn pass_on(shared: &Arc<Mutex<State>>) {
    loop {
        let (turn, next) = {
            let mut state = lock(shared);
            let Some(share) = state.waiting.front().map(|(share, _)| *share) else {
                return;
            };
            let Some(held) = state.take(share) else { return };
            let turn = Turn {
                state: Arc::clone(shared),
                held,
            };
            match state.waiting.pop_front() {
                Some((_, next)) => (turn, next),
                None => return,
            }
        };
        // To somebody who just went away, the turn comes back, is dropped, and passes to the one behind; so does a turn
        // that was sent but never received. The depth is bounded by the queue.
        drop(next.send(turn));
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::Wake;

    use futures::FutureExt as _;

    use super::*;

    #[derive(Default)]
    struct Flag(AtomicBool);

    impl Wake for Flag {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    #[test]
    fn turns_are_given_in_order_and_the_queue_is_bounded() {
        let turns = Turns::new(2);
        let first = turns.next(Share::Place).now_or_never().unwrap().unwrap();
        let mut second = Box::pin(turns.next(Share::Place));
        let mut third = Box::pin(turns.next(Share::Place));
        assert!((&mut second).now_or_never().is_none());
        assert!((&mut third).now_or_never().is_none());
        let refused = turns.next(Share::Place).now_or_never().unwrap();
        assert_eq!(refused.unwrap_err(), NodeError::Busy { waiting: 2 });
        drop(first);
        assert!((&mut third).now_or_never().is_none());
        drop((&mut second).now_or_never().unwrap());
        drop((&mut third).now_or_never().unwrap());
        assert!(turns.next(Share::Place).now_or_never().unwrap().is_ok());
    }

    #[test]
    fn a_turn_given_to_somebody_who_left_passes_on() {
        let turns = Turns::new(8);
        let first = turns.next(Share::Place).now_or_never().unwrap().unwrap();
        let mut second = Box::pin(turns.next(Share::Place));
        let mut third = Box::pin(turns.next(Share::Place));
        assert!((&mut second).now_or_never().is_none());
        assert!((&mut third).now_or_never().is_none());
        drop(first); // sent to the second, which never looks
        drop(second);
        assert!((&mut third).now_or_never().is_some());
    }

    #[test]
    fn whoever_would_yield_is_told_when_somebody_waits() {
        let turns = Turns::new(8);
        let turn = turns.at_once(Share::Whole).unwrap();
        assert!(turns.at_once(Share::Place).is_none());
        let mut wanted = Box::pin(poll_fn(|context| turn.poll_wanted(context)));
        assert!((&mut wanted).now_or_never().is_none());
        let mut gone = Box::pin(turns.next(Share::Place));
        assert!((&mut gone).now_or_never().is_none());
        drop(gone);
        assert!(
            (&mut wanted).now_or_never().is_none(),
            "who went away wants nothing"
        );
        let told = Arc::new(Flag::default());
        let waker = Waker::from(Arc::clone(&told));
        let mut context = Context::from_waker(&waker);
        assert!(wanted.as_mut().poll(&mut context).is_pending());
        let mut waiting = Box::pin(turns.next(Share::Place));
        assert!((&mut waiting).now_or_never().is_none());
        assert!(told.0.load(Ordering::Relaxed));
        assert!(wanted.as_mut().poll(&mut context).is_ready());
    }

    #[test]
    fn places_are_shared_and_the_whole_waits_for_all_of_them() {
        let turns = Turns::new(8);
        let mut whole = turns.next(Share::Whole).now_or_never().unwrap().unwrap();
        let mut second = Box::pin(turns.next(Share::Place));
        assert!((&mut second).now_or_never().is_none());
        whole.share(2);
        let second = second.now_or_never().unwrap().unwrap();
        let mut alone = Box::pin(turns.next(Share::Whole));
        let mut behind = Box::pin(turns.next(Share::Place));
        assert!((&mut alone).now_or_never().is_none());
        drop(second);
        // Nobody overtakes, or the whole might wait for ever.
        assert!((&mut behind).now_or_never().is_none());
        assert!((&mut alone).now_or_never().is_none());
        drop(whole);
        let alone = alone.now_or_never().unwrap().unwrap();
        assert!((&mut behind).now_or_never().is_none());
        drop(alone);
        assert!(behind.now_or_never().is_some());
    }
}
