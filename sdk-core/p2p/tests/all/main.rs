//! libp2p over TCP on this machine: what every network must do, and what it must bear.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

mod common;
mod hostile;
mod reach;
mod suite;
