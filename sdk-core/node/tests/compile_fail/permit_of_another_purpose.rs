//! Purposes are the visitor's to invent, not a caller's.
use kwaainet_types::{PermitFor, Purpose};

enum Everything {}

impl PermitFor for Everything {
    const PURPOSE: Purpose = Purpose::RunAi;
}

fn main() {}
