//! What a listener for WebRTC reads before it knows who is there.

use kwaainet_webrtc::frame::{Decoder, Frame, FrameError, LONGEST, MOST_PAYLOAD, encode};
use kwaainet_webrtc::stun::{self, Check};

/// Messages of a data channel. The first byte says how they are cut, which must not matter.
pub fn frame(data: &[u8]) {
    let Some((cut, rest)) = data.split_first() else {
        return;
    };
    let whole = read(rest, LONGEST);
    let pieces = read(rest, usize::from(*cut) + 1);
    assert_eq!(whole, pieces, "where a message ends changes what is read");
    for frame in whole.0 {
        assert!(frame.message.len() < LONGEST);
        if frame.message.len() <= MOST_PAYLOAD {
            let written = encode(frame.flag, &frame.message);
            assert_eq!(read(&written, LONGEST), (vec![frame], None));
        }
    }
}

fn read(bytes: &[u8], piece: usize) -> (Vec<Frame>, Option<FrameError>) {
    let mut decoder = Decoder::default();
    let mut frames = Vec::new();
    for part in bytes.chunks(piece) {
        if let Err(error) = decoder.push(part) {
            return (frames, Some(error));
        }
        loop {
            match decoder.next() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
    }
    (frames, None)
}

/// A username, and a packet in which the same bytes are everything behind the header.
pub fn stun(data: &[u8]) {
    if let Ok(username) = stun::username(data) {
        assert!(username.listener.starts_with(username.version.prefix()));
        for half in [username.listener, username.dialler] {
            assert!((4..=256).contains(&half.len()));
            assert!(
                half.bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"+/".contains(&byte))
            );
        }
        let packet = stun::check([9; 12], &username, [7; 8], &hmac);
        let read = Check::parse(&packet).expect("what was written can be read");
        assert_eq!(read.username, username);
        assert!(read.verified(&hmac));
    }
    check(data);
    let length = (data.len() as u16).to_be_bytes();
    let header = [&[0, 1][..], &length, &[0x21, 0x12, 0xa4, 0x42], &[5; 12]].concat();
    check(&[&header, data].concat());
}

fn check(packet: &[u8]) {
    let Ok(check) = Check::parse(packet) else {
        return;
    };
    assert!(packet.len() <= stun::LONGEST);
    // Whether it is signed or not, nothing that is answered may be worth asking for from a stranger's address.
    let answer = check.answer(([2001, 0xdb8, 0, 0, 0, 0, 0, 1], 9).into(), &hmac);
    assert!(answer.len() <= 2 * packet.len());
    check.verified(&hmac);
}

/// No HMAC: what is tested is the reader.
fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 20] {
    let mut value = [0_u8; 20];
    for (at, byte) in key.iter().chain(parts.iter().copied().flatten()).enumerate() {
        value[at % 20] = value[at % 20].rotate_left(3) ^ *byte;
    }
    value
}
