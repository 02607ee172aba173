//! Runs futures on the thread of the node, in microtasks.
//!
//! `wasm_bindgen_futures::spawn_local` would do, were it not that with threads it wakes every task through
//! `Atomics.waitAsync`, which costs a turn of the event loop (so an IndexedDB transaction ends under the hands
//! of whoever awaits in it) and, where a browser lacks it, a worker per wait. Only this thread ever wakes a
//! task: the pool's threads compute and know nothing of futures.

use std::cell::RefCell;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures::StreamExt as _;
use futures::future::LocalBoxFuture;
use futures::stream::FuturesUnordered;
use wasm_bindgen::prelude::*;

#[wasm_bindgen]
extern "C" {
    #[wasm_bindgen(js_name = queueMicrotask)]
    fn queue_microtask(callback: &JsValue);
}

thread_local! {
    static TASKS: RefCell<FuturesUnordered<LocalBoxFuture<'static, ()>>> = RefCell::default();
    /// Spawned by a task that is running.
    static NEW: RefCell<Vec<LocalBoxFuture<'static, ()>>> = RefCell::default();
    static BELL: Arc<Bell> = Arc::new(Bell { rung: AtomicBool::new(false) });
    static RUN: JsValue = Closure::<dyn FnMut()>::new(run).into_js_value();
}

struct Bell {
    rung: AtomicBool,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        if !self.rung.swap(true, Ordering::Relaxed) {
            RUN.with(queue_microtask);
        }
    }
}

/// Starts a future; it runs for as long as the worker lives.
pub fn spawn(future: impl Future<Output = ()> + 'static) {
    NEW.with_borrow_mut(|new| new.push(Box::pin(future)));
    BELL.with(|bell| Arc::clone(bell).wake());
}

fn run() {
    let bell = BELL.with(Arc::clone);
    bell.rung.store(false, Ordering::Relaxed);
    let waker = Waker::from(Arc::clone(&bell));
    let mut context = Context::from_waker(&waker);
    TASKS.with_borrow_mut(|tasks| {
        loop {
            tasks.extend(NEW.take());
            let poll = tasks.poll_next_unpin(&mut context);
            let more = NEW.with_borrow(|new| !new.is_empty());
            match poll {
                Poll::Ready(Some(())) => {}
                Poll::Ready(None) | Poll::Pending if more => {}
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
    });
}
