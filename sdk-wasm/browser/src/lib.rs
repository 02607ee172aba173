//! What a browser's worker lends to each of our wasm modules: a clock, randomness, tasks, ports of bytes, and a voice for
//! panics. The node and the network are modules of their own, and both need these.
#![cfg(target_family = "wasm")]

mod clock;
mod executor;
mod fault;
mod port;
mod random;

pub use clock::{BrowserClock, performance_now};
pub use executor::spawn;
pub use port::bytes_over;
pub use random::BrowserRandom;
