//! A record is worth nothing until the node has accepted it.
use kwaainet_types::{ConsentGrant, ConsentRecord};

fn forge(record: ConsentRecord) -> ConsentGrant {
    ConsentGrant { record }
}

fn main() {
    let _ = forge;
}
