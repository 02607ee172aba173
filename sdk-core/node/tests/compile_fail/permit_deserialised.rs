//! No message can carry a permit.
use kwaainet_types::{Permit, RunAi};

fn main() {
    let _: Permit<RunAi> = serde_json::from_str("{}").unwrap();
}
