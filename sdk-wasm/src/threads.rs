//! Starts the workers of the pool, where this is the build with threads.

use std::sync::Arc;

use kwaainet_platform::Parallel;
use kwaainet_types::Missing;

/// What there is to compute with, and what was missing on the way to it.
pub(crate) struct Threads {
    pub(crate) parallel: Arc<dyn Parallel>,
    pub(crate) missing: Vec<Missing>,
}

#[cfg(target_feature = "atomics")]
pub(crate) use with_atomics::start;

#[cfg(not(target_feature = "atomics"))]
#[expect(clippy::unused_async, reason = "the build with threads waits for its workers")]
pub(crate) async fn start(_wanted: u32, _script: Option<&str>) -> Threads {
    Threads {
        parallel: Arc::new(kwaainet_platform::Sequential),
        missing: Vec::new(),
    }
}

#[cfg(target_feature = "atomics")]
mod with_atomics {
    use std::cell::RefCell;
    use std::rc::Rc;
    use std::sync::{Arc, OnceLock};
    use std::time::Duration;

    use futures::StreamExt as _;
    use futures::channel::mpsc;
    use futures::future::{Either, select};
    use js_sys::{Array, Object, Reflect};
    use kwaainet_browser::{BrowserClock, performance_now};
    use kwaainet_platform::{Clock as _, Sequential};
    use kwaainet_types::Missing;
    use wasm_bindgen::prelude::*;
    use web_sys::Worker;

    use super::Threads;
    use crate::error::reason;
    use crate::platform::parallel::{Pool, Shared};

    /// One pool in a module, whose memory its threads share.
    static SHARED: OnceLock<Arc<Shared>> = OnceLock::new();

    fn shared() -> Arc<Shared> {
        Arc::clone(SHARED.get_or_init(|| Arc::new(Shared::new(performance_now))))
    }

    /// A worker that has not answered by then never will (its script is blocked, or there is no memory left).
    const PATIENCE: Duration = Duration::from_secs(8);

    #[wasm_bindgen]
    extern "C" {
        /// `new Worker(script, { type: "module", name })`.
        #[wasm_bindgen(js_name = Worker)]
        type ModuleWorker;
        #[wasm_bindgen(constructor, catch, js_class = "Worker")]
        fn new(script: &str, options: &Object) -> Result<ModuleWorker, JsValue>;
    }

    /// The life of a pool thread. Called in its worker; returns when the pool is closed.
    #[wasm_bindgen]
    #[expect(unreachable_pub, reason = "an export to JavaScript has to be public")]
    pub fn run_pool_thread() {
        shared().help();
    }

    pub(crate) async fn start(wanted: u32, script: Option<&str>) -> Threads {
        let helpers = wanted.saturating_sub(1) as usize;
        let mut missing = Vec::new();
        let mut ready = 0;
        if let (1.., Some(script)) = (helpers, script) {
            match start_workers(helpers, script).await {
                Ok(count) => ready = count,
                Err(error) => missing.push(without(helpers, 0, &reason(&error))),
            }
            if ready < helpers && missing.is_empty() {
                missing.push(without(helpers, ready, "a worker did not start in time"));
            }
        }
        Threads {
            parallel: match ready {
                0 => Arc::new(Sequential),
                helpers => Arc::new(Pool::new(shared(), helpers)),
            },
            missing,
        }
    }

    fn without(wanted: usize, ready: usize, why: &str) -> Missing {
        Missing {
            what: format!("{} threads ({why})", wanted + 1),
            instead: format!("{} compute", ready + 1),
        }
    }

    /// Starts workers and tells how many of them joined. The others are ended.
    async fn start_workers(count: usize, script: &str) -> Result<usize, JsValue> {
        let clock = BrowserClock::new()?;
        let (send, mut joined) = mpsc::unbounded();
        let mut waiting = Vec::new();
        for number in 0..count {
            let options = Object::new();
            Reflect::set(&options, &"type".into(), &"module".into())?;
            Reflect::set(&options, &"name".into(), &"kwaainet-pool".into())?;
            let worker: Worker = ModuleWorker::new(script, &options)?.unchecked_into();
            let said = Rc::new(RefCell::new(false));
            let on_message = {
                let (send, said) = (send.clone(), Rc::clone(&said));
                Closure::<dyn FnMut()>::new(move || {
                    said.replace(true);
                    let _over = send.unbounded_send(Some(number));
                })
            };
            let on_error = {
                let send = send.clone();
                Closure::<dyn FnMut()>::new(move || {
                    let _over = send.unbounded_send(None);
                })
            };
            worker.set_onmessage(Some(on_message.as_ref().unchecked_ref()));
            worker.set_onerror(Some(on_error.as_ref().unchecked_ref()));
            worker.post_message(&Array::of2(&wasm_bindgen::module(), &wasm_bindgen::memory()))?;
            waiting.push((worker, said, on_message, on_error));
        }
        let answers = async {
            for _ in 0..count {
                if !matches!(joined.next().await, Some(Some(_))) {
                    break;
                }
            }
        };
        let patience = clock.sleep(PATIENCE);
        let (Either::Left(_) | Either::Right(_)) = select(std::pin::pin!(answers), patience).await;
        let mut ready = 0;
        for (worker, said, on_message, on_error) in waiting {
            worker.set_onmessage(None);
            worker.set_onerror(None);
            drop((on_message, on_error));
            if said.take() {
                ready += 1;
            } else {
                worker.terminate();
            }
        }
        Ok(ready)
    }
}
