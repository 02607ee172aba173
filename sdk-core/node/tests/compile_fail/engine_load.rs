//! Nothing is loaded without leave to run it.
use kwaainet_engine::{LoadOptions, LoadedModel};
use kwaainet_types::{KeepModel, Permit};

async fn load(file: Vec<u8>, keep: &Permit<KeepModel>) {
    let mut progress = |_: u64, _: u64| {};
    let _ = LoadedModel::load(keep, &file, LoadOptions::default(), &mut progress).await;
}

fn main() {
    let _ = load;
}
