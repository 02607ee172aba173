//! A permit cannot be copied to outlive the grant's next check.
use kwaainet_types::{Permit, RunAi};

fn twice(permit: &Permit<RunAi>) -> Permit<RunAi> {
    permit.clone()
}

fn main() {
    let _ = twice;
}
