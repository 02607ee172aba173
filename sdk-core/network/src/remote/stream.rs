//! One stream at one half of the port: what may be sent, and what has come.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use super::WINDOW;
use super::wire::{Fault, OfStream};

/// What a message costs beside its bytes, so that a million empty ones are not free.
const PER_MESSAGE: usize = 64;

/// Clones are about the same stream.
#[derive(Clone)]
pub(super) struct Flow(Arc<Mutex<State>>);

struct State {
    /// What may be sent before the other half has taken some; below 0 after a large message.
    credit: i64,
    send_fault: Option<Fault>,
    sender: Option<Waker>,
    queue: VecDeque<Vec<u8>>,
    /// What the queue costs.
    queued: i64,
    most_queued: i64,
    end: Option<Result<(), Fault>>,
    receiver: Option<Waker>,
}

/// What a message counts for.
pub(super) fn cost(bytes: usize) -> u32 {
    u32::try_from(bytes.saturating_add(PER_MESSAGE)).unwrap_or(u32::MAX)
}

impl Flow {
    /// For messages of at most `longest` bytes.
    pub(super) fn new(longest: u32) -> Self {
        Self(Arc::new(Mutex::new(State {
            credit: WINDOW,
            send_fault: None,
            sender: None,
            queue: VecDeque::new(),
            queued: 0,
            most_queued: WINDOW + i64::from(longest) + PER_MESSAGE as i64,
            end: None,
            receiver: None,
        })))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes what the other half says. False if it may not say that.
    pub(super) fn heard(&self, what: OfStream) -> bool {
        let mut state = self.lock();
        match what {
            OfStream::Data(bytes) => {
                state.queued += i64::from(cost(bytes.len()));
                state.queue.push_back(bytes);
                if state.queued > state.most_queued {
                    return false;
                }
            }
            OfStream::Credit(bytes) => {
                state.credit += i64::from(bytes);
                if state.credit > WINDOW {
                    return false;
                }
            }
            OfStream::Finish => state.end = Some(Ok(())),
            OfStream::Stop => state.send_fault = Some(Fault::Broken("nobody reads it".to_owned())),
            OfStream::SendBroken(fault) => state.send_fault = Some(fault),
            OfStream::ReceiveBroken(fault) => state.end = Some(Err(fault)),
        }
        state.wake();
        true
    }

    /// Nothing more comes or goes.
    pub(super) fn end(&self, fault: &Fault) {
        let mut state = self.lock();
        state.send_fault.get_or_insert_with(|| fault.clone());
        state.end.get_or_insert_with(|| Err(fault.clone()));
        state.wake();
    }

    /// Waits until a message may be sent.
    pub(super) async fn may_send(&self) -> Result<(), Fault> {
        poll_fn(|context| {
            let mut state = self.lock();
            if let Some(fault) = &state.send_fault {
                return Poll::Ready(Err(fault.clone()));
            }
            if state.credit > 0 {
                return Poll::Ready(Ok(()));
            }
            state.sender = Some(context.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Waits until nothing more may be sent.
    pub(super) async fn stopped(&self) {
        poll_fn(|context| {
            let mut state = self.lock();
            if state.send_fault.is_some() {
                return Poll::Ready(());
            }
            state.sender = Some(context.waker().clone());
            Poll::Pending
        })
        .await;
    }

    /// A message of so many bytes is sent.
    pub(super) fn sent(&self, bytes: usize) {
        self.lock().credit -= i64::from(cost(bytes));
    }

    /// The next message; `None` when all have come.
    pub(super) async fn next(&self) -> Option<Result<Vec<u8>, Fault>> {
        poll_fn(|context| {
            let mut state = self.lock();
            if let Some(bytes) = state.queue.pop_front() {
                state.queued -= i64::from(cost(bytes.len()));
                return Poll::Ready(Some(Ok(bytes)));
            }
            match &mut state.end {
                Some(end) => Poll::Ready(std::mem::replace(end, Ok(())).err().map(Err)),
                None => {
                    state.receiver = Some(context.waker().clone());
                    Poll::Pending
                }
            }
        })
        .await
    }
}

impl State {
    fn wake(&mut self) {
        let wakers = [self.sender.take(), self.receiver.take()];
        wakers.into_iter().flatten().for_each(Waker::wake);
    }
}
