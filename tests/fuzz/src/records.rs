//! The records of peers, and their messages about chunks.

use kwaainet_network::record::{
    LIFETIME_MS, LONGEST_RECORD, MAX_BLOCKS, Offer, PeerRecord, RECORDS, RecordsMessage, SKEW_MS, Signed,
    keys_of, open,
};
use kwaainet_network::bitswap;
use kwaainet_network::remote::{ToHost, ToNode};
use kwaainet_network::swarm::{CHUNKS, Message};
use kwaainet_network::{Keypair, PeerId};

/// When the corpus was signed.
const NOW: u64 = 1_700_000_000_000;
const SEED: [u8; 32] = [7; 32];

/// An envelope as it came (`e`), or a payload that somebody really signed: a record's (`r`), a peer record's (`p`).
pub fn record(data: &[u8]) {
    let Some((kind, rest)) = data.split_first() else {
        return;
    };
    let envelope = match kind {
        b'r' => sealed(b"kwaainet-record", b"/kwaainet/record/1", rest),
        b'p' => sealed(b"libp2p-peer-record", &[3, 1], rest),
        _ => rest.to_vec(),
    };
    let keypair = Keypair::from_seed(SEED);
    let record = open(&envelope, NOW);
    let peer_record = PeerRecord::open(&envelope);
    assert!(record.is_err() || peer_record.is_err(), "signed for two purposes");
    if let Ok(record) = record {
        assert!(envelope.len() <= LONGEST_RECORD);
        assert_eq!(record.peer, keypair.peer_id(), "nobody else signs here");
        assert!((NOW + 1..=NOW + LIFETIME_MS + SKEW_MS).contains(&record.expires_ms));
        let again = Signed::sign(&keypair, record.sequence, record.expires_ms, &record.body)
            .expect("what was read can be written");
        assert_eq!(open(&again.into_bytes(), NOW), Ok(record));
    }
    if let Ok(record) = peer_record {
        assert!(envelope.len() <= LONGEST_RECORD);
        assert_eq!(record.peer, keypair.peer_id(), "nobody else signs here");
        let again = PeerRecord::sign(&keypair, record.sequence, &record.addresses)
            .expect("what was read can be written");
        assert_eq!(PeerRecord::open(&again), Ok(record));
    }
}

/// What a peer asks or answers about records.
pub fn exchange(data: &[u8]) {
    for read in [RecordsMessage::request(data), RecordsMessage::answer(data)]
        .into_iter()
        .flatten()
    {
        let again = read.encode();
        assert!(again.len() <= RECORDS.longest);
        assert!([RecordsMessage::request(&again), RecordsMessage::answer(&again)].contains(&Some(read)));
    }
}

/// What a peer says that it offers.
pub fn offer(data: &[u8]) {
    let Ok(offer) = Offer::from_bytes(data) else {
        return;
    };
    let bytes = offer.to_bytes().expect("what was read can be written");
    assert!(bytes.len() < LONGEST_RECORD - 200, "fits a record");
    assert_eq!(Offer::from_bytes(&bytes).as_ref(), Ok(&offer));
    let keys = keys_of(PeerId::from_public_key([1; 32]), offer.model, &offer.share);
    assert!((1..=MAX_BLOCKS as usize / 16).contains(&keys.len()));
}

/// What a peer says about the chunks of a model.
pub fn chunk(data: &[u8]) {
    if let Some(message) = Message::from_bytes(data) {
        assert!(data.len() <= CHUNKS.longest, "longer than the protocol");
        assert_eq!(message.to_bytes(), data, "written in one way only");
    }
}

/// What a peer of IPFS says.
pub fn bitswap(data: &[u8]) {
    if let Some(message) = bitswap::Message::from_bytes(data) {
        assert!(message.wants.len() <= bitswap::MAX_WANTS);
        assert!(message.blocks.len() <= bitswap::MAX_BLOCKS);
        assert!(message.presences.len() <= bitswap::MAX_PRESENCES);
        let written = message.to_bytes();
        assert_eq!(bitswap::Message::from_bytes(&written), Some(message));
    }
}

/// What the two halves of a network say over their port. The first byte chooses the direction.
pub fn port(data: &[u8]) {
    let Some((direction, bytes)) = data.split_first() else {
        return;
    };
    if direction % 2 == 0 {
        if let Some(message) = ToHost::from_bytes(bytes.to_vec()) {
            assert_eq!(ToHost::from_bytes(message.clone().into_bytes()), Some(message));
        }
    } else if let Some(message) = ToNode::from_bytes(bytes.to_vec()) {
        assert_eq!(ToNode::from_bytes(message.clone().into_bytes()), Some(message));
    }
}

/// An envelope with a good signature over any payload, put together without the code that is tested.
fn sealed(domain: &[u8], kind: &[u8], payload: &[u8]) -> Vec<u8> {
    let prefixed = |bytes: &[u8]| {
        let mut all = vec![];
        let mut length = bytes.len();
        while length > 127 {
            all.push(length as u8 | 128);
            length >>= 7;
        }
        all.push(length as u8);
        all.extend_from_slice(bytes);
        all
    };
    let keypair = Keypair::from_seed(SEED);
    let signature = keypair.sign(&[domain, kind, payload].map(prefixed).concat());
    let key = keypair.peer_id().to_libp2p_key();
    [
        (0x0a, &key[..]),
        (0x12, kind),
        (0x1a, payload),
        (0x2a, &signature),
    ]
    .map(|(tag, bytes)| [vec![tag], prefixed(bytes)].concat())
    .concat()
}
