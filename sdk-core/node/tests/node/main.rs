//! The node from outside, with a fake engine, a network and a disk in memory, and everything going wrong in turn.
#![expect(
    clippy::indexing_slicing,
    clippy::panic,
    clippy::string_slice,
    clippy::unwrap_used,
    reason = "tests fail by panicking, their helpers too"
)]

mod arriving;
mod catalogue;
mod chat;
mod consent;
mod fake_engine;
mod held;
mod home;
mod participation;
mod ports;
mod sharing;
mod store;
mod tools;
