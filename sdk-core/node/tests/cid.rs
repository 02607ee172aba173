//! Addresses against npm's `ipfs-unixfs-importer`.

use std::collections::HashMap;

use kwaainet_node::cid;
use serde::Deserialize;
use sha2::{Digest, Sha256};

const MIB: u64 = 1 << 20;

#[derive(Deserialize)]
struct Golden {
    files: Vec<File>,
}

#[derive(Deserialize)]
struct File {
    bytes: u64,
    cid: String,
}

fn chunk(index: u64, len: u64) -> Vec<u8> {
    (0..len)
        .map(|i| ((index % 8) * 31 + i * 7 + (i >> 8)) as u8)
        .collect()
}

#[test]
fn files_have_the_address_that_ipfs_gives_them() {
    let golden: Golden = serde_json::from_str(include_str!("golden/cid.json")).unwrap();
    let mut known: HashMap<(u64, u64), [u8; 32]> = HashMap::new();
    for file in &golden.files {
        let hashes: Vec<[u8; 32]> = (0..file.bytes.div_ceil(MIB))
            .map(|index| {
                let len = MIB.min(file.bytes - index * MIB);
                *known
                    .entry((index % 8, len))
                    .or_insert_with(|| Sha256::digest(chunk(index, len)).into())
            })
            .collect();
        assert_eq!(
            cid::of_chunks(&hashes, file.bytes).as_ref(),
            Some(&file.cid),
            "{} bytes",
            file.bytes
        );
    }
    assert!(golden.files.len() > 10);
}

#[test]
fn a_wrong_number_of_hashes_has_no_address() {
    assert_eq!(cid::of_chunks(&[[0; 32]], MIB + 1), None);
    assert_eq!(cid::of_chunks(&[[0; 32]], 0), None);
}
