//! Things that happen without being asked for, to everybody who listens.

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Poll, Waker};

use futures::Stream;
use kwaainet_types::Event;

/// Events kept for one listener; the oldest is lost when it reads more slowly than that.
const MOST_EVENTS: usize = 256;

/// Where events are announced.
#[derive(Debug, Default)]
pub(crate) struct EventBus {
    listeners: Mutex<Vec<Weak<Mutex<Inbox>>>>,
}

#[derive(Debug, Default)]
struct Inbox {
    events: VecDeque<Event>,
    waker: Option<Waker>,
    closed: bool,
}

/// What one listener hears, from the moment it began to listen.
#[derive(Debug)]
pub struct Events {
    inbox: Arc<Mutex<Inbox>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl EventBus {
    pub(crate) fn listen(&self) -> Events {
        let inbox = Arc::new(Mutex::new(Inbox::default()));
        let mut listeners = lock(&self.listeners);
        listeners.retain(|listener| listener.strong_count() > 0);
        listeners.push(Arc::downgrade(&inbox));
        Events { inbox }
    }

    pub(crate) fn announce(&self, event: &Event) {
        for listener in lock(&self.listeners).iter().filter_map(Weak::upgrade) {
            let mut inbox = lock(&listener);
            if inbox.events.len() == MOST_EVENTS {
                inbox.events.pop_front();
            }
            inbox.events.push_back(event.clone());
            if let Some(waker) = inbox.waker.take() {
                waker.wake();
            }
        }
    }
}

impl Drop for EventBus {
    fn drop(&mut self) {
        for listener in lock(&self.listeners).iter().filter_map(Weak::upgrade) {
            let mut inbox = lock(&listener);
            inbox.closed = true;
            if let Some(waker) = inbox.waker.take() {
                waker.wake();
            }
        }
    }
}

impl Stream for Events {
    type Item = Event;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Event>> {
        let mut inbox = lock(&self.inbox);
        if let Some(event) = inbox.events.pop_front() {
            return Poll::Ready(Some(event));
        }
        if inbox.closed {
            return Poll::Ready(None);
        }
        inbox.waker = Some(context.waker().clone());
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use futures::{FutureExt as _, StreamExt as _};

    use super::*;

    fn warning(number: usize) -> Event {
        Event::Warning {
            message: number.to_string(),
        }
    }

    #[test]
    fn a_slow_listener_loses_the_oldest_and_nobody_waits_for_it() {
        let bus = EventBus::default();
        let mut slow = bus.listen();
        for number in 0..MOST_EVENTS + 3 {
            bus.announce(&warning(number));
        }
        assert_eq!(slow.next().now_or_never(), Some(Some(warning(3))));
        drop(bus);
        assert_eq!(slow.by_ref().count().now_or_never(), Some(MOST_EVENTS - 1));
    }
}
