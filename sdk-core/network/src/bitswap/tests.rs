use super::*;

const CID: [u8; 36] = {
    let mut cid = [7; 36];
    (cid[0], cid[1], cid[2], cid[3]) = (0x01, 0x55, 0x12, 0x20);
    cid
};

fn want(cid: &[u8], wanted: Wanted) -> Want<'_> {
    Want {
        cid,
        wanted,
        send_dont_have: true,
    }
}

#[test]
fn messages_are_read_as_written() {
    let message = Message {
        full: true,
        wants: vec![
            want(&CID, Wanted::Block),
            want(&CID, Wanted::Have),
            want(&CID, Wanted::Nothing),
        ],
        blocks: vec![
            Block {
                prefix: &CID[..4],
                data: b"abc",
            },
            Block {
                prefix: &CID[..4],
                data: b"",
            },
        ],
        presences: vec![
            Presence {
                cid: &CID,
                here: true,
            },
            Presence {
                cid: &CID,
                here: false,
            },
        ],
        pending_bytes: u32::MAX,
    };
    let bytes = message.to_bytes();
    assert_eq!(Message::from_bytes(&bytes), Some(message));
    assert_eq!(Message::from_bytes(b""), Some(Message::default()));
    assert_eq!(leaf_of(&CID), Some([7; 32]));
    assert_eq!(leaf_cid(&[7; 32]), CID);
    for other in [&CID[..35], &[], &[&CID[..], &[7]].concat(), &[0x12; 36]] {
        assert_eq!(leaf_of(other), None);
    }
}

#[test]
fn more_than_anybody_honest_says_is_refused_before_it_is_kept() {
    let repeat = |field: &[u8], times: usize| field.repeat(times);
    // payload = 3 and blockPresences = 4 {cid = 1 of one byte}, as short as they can be.
    let (block, presence) = (&[0x1a, 0][..], &[0x22, 3, 0x0a, 1, 9][..]);
    assert!(Message::from_bytes(&repeat(block, MAX_BLOCKS)).is_some());
    assert!(Message::from_bytes(&repeat(block, MAX_BLOCKS + 1)).is_none());
    assert!(Message::from_bytes(&repeat(presence, MAX_PRESENCES)).is_some());
    assert!(Message::from_bytes(&repeat(presence, MAX_PRESENCES + 1)).is_none());
    // Of wants the first ones count.
    let many = Message {
        wants: vec![want(&CID, Wanted::Have); MAX_WANTS + 1],
        ..Message::default()
    };
    let bytes = many.to_bytes();
    assert_eq!(Message::from_bytes(&bytes).unwrap().wants.len(), MAX_WANTS);
    let wantlist = |entry: &[u8]| [&[0x0a, entry.len() as u8 + 2, 0x0a, entry.len() as u8], entry].concat();
    let bad: [&[u8]; 8] = [
        // No CID; an empty one; one of 129 bytes; a want of kind 2; two CIDs; two wantlists; a presence of kind 2; cut off.
        &wantlist(&[0x10, 1]),
        &wantlist(&[0x0a, 0]),
        &[0x22, 0x84, 0x01, 0x0a, 0x81, 0x01]
            .iter()
            .chain(&[9; 129])
            .copied()
            .collect::<Vec<_>>(),
        &wantlist(&[0x0a, 1, 9, 0x20, 2]),
        &wantlist(&[0x0a, 1, 9, 0x0a, 1, 9]),
        &[0x0a, 0, 0x0a, 0],
        &[0x22, 5, 0x0a, 1, 9, 0x10, 2],
        &[0x1a, 5, 0x12, 9],
    ];
    for (at, bytes) in bad.into_iter().enumerate() {
        assert_eq!(Message::from_bytes(bytes), None, "{at}");
    }
    // Unknown fields, and a negative int32 in ten bytes, are passed over.
    let odd = [
        0x38, 1, 0x28, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1,
    ];
    assert_eq!(Message::from_bytes(&odd), Some(Message::default()));
}
