//! The native home of KwaaiNet: the operating system lent to the core, and the operator's program on top of it.

pub mod platform;
