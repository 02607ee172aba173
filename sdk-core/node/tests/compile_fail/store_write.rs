//! Leave to run a model is not leave to keep it.
use kwaainet_node::{Cancel, KwaaiNetCore, Shelf};
use kwaainet_types::{Chunk, Permit, RunAi};

async fn keep(node: &KwaaiNetCore, run: &Permit<RunAi>) {
    let _ = Shelf::on_device(run);
    let _ = node.pull_model(run, run, "m", &|_: Chunk| {}, &Cancel::new()).await;
}

fn main() {
    let _ = keep;
}
