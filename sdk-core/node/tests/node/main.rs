//! The node from outside, with a fake engine, a network and a disk in memory, and everything going wrong in turn.

mod catalogue;
mod chat;
mod consent;
mod fake_engine;
mod home;
mod ports;
mod store;
