//! The `kwaainet` program.

fn main() {}
