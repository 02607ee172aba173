//! Nobody is connected to without leave to help others.
use kwaainet_node::KwaaiNetCore;
use kwaainet_types::{Permit, RunAi};

async fn join(node: &KwaaiNetCore, run: &Permit<RunAi>) {
    let _ = node.join_network(run, vec![]).await;
}

fn main() {
    let _ = join;
}
