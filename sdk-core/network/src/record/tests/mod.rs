//! Many nodes over a network in memory, and those who mean them harm.

mod hostile;
mod nodes;

use super::*;
use crate::{Address, Keypair, PeerId, RecordKey};

const NOW: u64 = 1_700_000_000_000;
const MODEL: ModelRoot = ModelRoot([9; 32]);
const SPAN: Share = Share::Blocks(0..16);

fn keypair(number: u16) -> Keypair {
    let mut seed = [0; 32];
    seed[..2].copy_from_slice(&number.to_le_bytes());
    Keypair::from_seed(seed)
}

fn peer(number: u16) -> PeerId {
    keypair(number).peer_id()
}

/// Those of these numbers whose records are in the shard.
fn in_shard(shard: u8, numbers: std::ops::Range<u16>) -> impl Iterator<Item = Keypair> {
    numbers
        .map(keypair)
        .filter(move |pair| shard_of(pair.peer_id()) == shard)
}

fn offer(share: Share) -> Offer {
    Offer {
        model: MODEL,
        share,
        dtype: "q4_1".to_owned(),
        inference_rps_milli: 40_000,
        forward_rps_milli: 300_000,
        cache_left: 4096,
        next_pings: vec![(peer(1), 20)],
        build: "kwaainet/0.1.0".to_owned(),
        addresses: vec![Address::new("/ip4/192.0.2.1/tcp/4001").unwrap()],
    }
}

fn record(by: &Keypair, sequence: u64, expires_ms: u64) -> Vec<u8> {
    let body = offer(SPAN).to_bytes().unwrap();
    Signed::sign(by, sequence, expires_ms, &body)
        .unwrap()
        .into_bytes()
}

fn fresh(by: &Keypair) -> Vec<u8> {
    record(by, 1, NOW + LIFETIME_MS)
}

fn key_for(by: PeerId) -> RecordKey {
    keys_of(by, MODEL, &SPAN)[0]
}

fn put(store: &mut RecordStore, by: &Keypair, record: Vec<u8>, now: u64) -> Result<(), RecordError> {
    store.put(
        by.peer_id(),
        key_for(by.peer_id()),
        Some(by.peer_id()),
        record,
        now,
    )
}
