//! The IPFS address of a model file, computed from nothing but its chunk hashes.
//!
//! The file is one UnixFS file in CIDv1: raw leaves of 1 MiB, at most 1,024 links per node, balanced. That is the
//! profile `unixfs-v1-2025` of IPIP-499, so `ipfs add --cid-version 1 --chunker size-1048576 --max-file-links 1024`
//! and npm's `ipfs-unixfs-importer` give the same address. Because a leaf is raw and SHA-256 is the hash, our chunk
//! hashes *are* the leaves: no byte of the file is needed, and a leaf fetched by its own CID is a verified chunk.
//!
//! ```
//! // `printf hello | ipfs add --cid-version 1`
//! let hello = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
//! let hash = <[u8; 32]>::try_from(hex::decode(hello).unwrap()).unwrap();
//! assert_eq!(
//!     kwaainet_node::cid::of_chunks(&[hash], 5).unwrap(),
//!     "bafkreibm6jg3ux5qumhcn2b3flc3tyu6dmlb4xa7u5bf44yegnrjhc4yeq"
//! );
//! ```

use kwaainet_types::CHUNK_BYTES;
use sha2::{Digest, Sha256};

/// Links of one node; IPIP-499, and the default of `ipfs-unixfs-importer` since version 15.
const MOST_LINKS: usize = 1024;

// https://github.com/multiformats/multicodec/blob/master/table.csv
const CID_V1: u8 = 0x01;
const CODEC_RAW: u8 = 0x55;
const CODEC_DAG_PB: u8 = 0x70;
const HASH_SHA2_256: u8 = 0x12;

/// A node of the tree, as its parent links to it.
struct Link {
    cid: Vec<u8>,
    /// Bytes of file below it.
    file_bytes: u64,
    /// Bytes of all blocks below it, its own included (`Tsize`).
    tree_bytes: u64,
}

/// The CID of a file of `bytes` bytes whose chunks of [`CHUNK_BYTES`] have these SHA-256 hashes.
///
/// `None` when the number of hashes does not belong to that size.
pub fn of_chunks(hashes: &[[u8; 32]], bytes: u64) -> Option<String> {
    root(hashes, bytes).map(|cid| text(&cid))
}

/// The hash in that CID: the root of the tree over the file.
pub fn root_of_chunks(hashes: &[[u8; 32]], bytes: u64) -> Option<[u8; 32]> {
    root(hashes, bytes)?.last_chunk().copied()
}

fn root(hashes: &[[u8; 32]], bytes: u64) -> Option<Vec<u8>> {
    if bytes == 0 {
        let empty: [u8; 32] = Sha256::digest([]).into();
        return hashes.is_empty().then(|| cid(CODEC_RAW, &empty));
    }
    if hashes.len() as u64 != bytes.div_ceil(CHUNK_BYTES) {
        return None;
    }
    let mut level: Vec<Link> = hashes
        .iter()
        .zip(0_u64..)
        .map(|(hash, at)| {
            let size = CHUNK_BYTES.min(bytes.saturating_sub(at.saturating_mul(CHUNK_BYTES)));
            Link {
                cid: cid(CODEC_RAW, hash),
                file_bytes: size,
                tree_bytes: size,
            }
        })
        .collect();
    while level.len() > 1 {
        level = level.chunks(MOST_LINKS).map(parent).collect();
    }
    level.into_iter().next().map(|root| root.cid)
}

/// The CID of one chunk as a raw block, which any IPFS gateway serves as `?format=raw`.
pub fn of_leaf(hash: &[u8; 32]) -> String {
    text(&cid(CODEC_RAW, hash))
}

fn cid(codec: u8, hash: &[u8; 32]) -> Vec<u8> {
    let mut cid = vec![CID_V1, codec, HASH_SHA2_256, 32];
    cid.extend_from_slice(hash);
    cid
}

/// Multibase `b`: RFC 4648 base32, lower case, unpadded.
fn text(cid: &[u8]) -> String {
    const ALPHABET: [char; 32] = [
        'a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j', 'k', 'l', 'm', 'n', 'o', 'p', 'q', 'r', 's', 't',
        'u', 'v', 'w', 'x', 'y', 'z', '2', '3', '4', '5', '6', '7',
    ];
    let mut out = String::from("b");
    let (mut bits, mut count) = (0_u32, 0_u32);
    let mut push = |bits: u32| out.extend(ALPHABET.get((bits & 31) as usize));
    for byte in cid {
        bits = (bits << 8 | u32::from(*byte)) & 0xffff;
        count += 8;
        while count >= 5 {
            count -= 5;
            push(bits >> count);
        }
    }
    if count > 0 {
        push(bits << (5 - count));
    }
    out
}

/// A DAG-PB node (<https://ipld.io/specs/codecs/dag-pb/spec/>): links (field 2) come before the data (field 1).
fn parent(children: &[Link]) -> Link {
    let mut block = Vec::new();
    let mut file_bytes = 0_u64;
    let mut below = 0_u64;
    for child in children {
        let mut link = Vec::new();
        put_bytes(&mut link, 1, &child.cid);
        put_bytes(&mut link, 2, b"");
        put_number(&mut link, 3, child.tree_bytes);
        put_bytes(&mut block, 2, &link);
        file_bytes = file_bytes.saturating_add(child.file_bytes);
        below = below.saturating_add(child.tree_bytes);
    }
    // UnixFS (https://specs.ipfs.tech/unixfs/): type File = 2, its size, and the size of each child.
    let mut data = Vec::new();
    put_number(&mut data, 1, 2);
    put_number(&mut data, 3, file_bytes);
    for child in children {
        put_number(&mut data, 4, child.file_bytes);
    }
    put_bytes(&mut block, 1, &data);
    Link {
        cid: cid(CODEC_DAG_PB, &Sha256::digest(&block).into()),
        file_bytes,
        tree_bytes: below.saturating_add(block.len() as u64),
    }
}

fn put_varint(out: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        out.push((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}

fn put_number(out: &mut Vec<u8>, field: u64, number: u64) {
    put_varint(out, field << 3);
    put_varint(out, number);
}

fn put_bytes(out: &mut Vec<u8>, field: u64, bytes: &[u8]) {
    put_varint(out, field << 3 | 2);
    put_varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}
