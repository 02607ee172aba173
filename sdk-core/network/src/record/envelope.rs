//! Records in signed envelopes: who says so, how new it is, and until when it holds.
//!
//! The envelope is libp2p's (RFC 0002, <https://github.com/libp2p/specs/blob/master/RFC/0002-signed-envelopes.md>), so
//! that every libp2p implementation can check it; what is in it is ours:
//! `sequence = 1 (varint), expires = 2 (varint, Unix milliseconds), body = 3 (bytes)`.

use super::RecordError;
use crate::protobuf::{Fields, Message, once, write_prefixed};
use crate::{Keypair, PeerId};

/// The longest envelope in bytes, which is checked before anything is read.
pub const LONGEST_RECORD: usize = 4096;
/// The longest that a record lives, in milliseconds. A closed tab says no goodbye, so what it said must end soon.
pub const LIFETIME_MS: u64 = 3 * 60_000;
/// By how many milliseconds a publisher's clock may be ahead of ours. (One that is behind only shortens its records.)
/// A choice: a clock that was set by hand is easily a minute wrong, and an hour is a mistake that must be told.
pub const SKEW_MS: u64 = 90_000;

const DOMAIN: &str = "kwaainet-record";
/// RFC 0002 lets an application name its own types by a path.
const PAYLOAD_TYPE: &[u8] = b"/kwaainet/record/1";

/// A record whose signature and dates were checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// Who signed it.
    pub peer: PeerId,
    /// The higher, the newer, among the records of this peer.
    pub sequence: u64,
    /// When it ends, in Unix milliseconds.
    pub expires_ms: u64,
    /// What it says.
    pub body: Vec<u8>,
}

/// A record as it travels: sealed, and readable by everybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed(Vec<u8>);

impl Signed {
    /// Signs a record.
    ///
    /// # Errors
    /// [`RecordError::TooLong`].
    pub fn sign(keypair: &Keypair, sequence: u64, expires_ms: u64, body: &[u8]) -> Result<Self, RecordError> {
        let payload = Message::default()
            .number(1, sequence)
            .number(2, expires_ms)
            .bytes(3, body)
            .done();
        seal(keypair, DOMAIN, PAYLOAD_TYPE, &payload).map(Self)
    }

    /// The bytes, of which there are at most [`LONGEST_RECORD`].
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

/// Checks a record: its length, its form, its signature, its dates, in this order.
///
/// # Errors
/// [`RecordError`] says what is wrong with it.
pub fn open(bytes: &[u8], now_ms: u64) -> Result<Verified, RecordError> {
    let (peer, payload) = unseal(bytes, DOMAIN, PAYLOAD_TYPE, "record")?;
    let (mut sequence, mut expires, mut body) = (None, None, None);
    let mut fields = Fields::of(payload);
    while let Some((field, value)) = fields.next()? {
        match field {
            1 => once(&mut sequence, value.number()?)?,
            2 => once(&mut expires, value.number()?)?,
            3 => once(&mut body, value.bytes()?)?,
            _ => {}
        }
    }
    let expires_ms = expires.unwrap_or_default();
    if expires_ms <= now_ms {
        let ago_ms = now_ms - expires_ms;
        return Err(RecordError::Expired { peer, ago_ms });
    }
    let (ahead_ms, limit_ms) = (expires_ms - now_ms, LIFETIME_MS + SKEW_MS);
    if ahead_ms > limit_ms {
        return Err(RecordError::TooFarAhead {
            peer,
            ahead_ms,
            limit_ms,
        });
    }
    Ok(Verified {
        peer,
        sequence: sequence.unwrap_or_default(),
        expires_ms,
        body: body.unwrap_or_default().to_vec(),
    })
}

/// Puts a payload in an envelope: `public_key = 1, payload_type = 2, payload = 3, signature = 5`.
pub(super) fn seal(
    keypair: &Keypair,
    domain: &str,
    payload_type: &[u8],
    payload: &[u8],
) -> Result<Vec<u8>, RecordError> {
    let signature = keypair.sign(&signed_bytes(domain, payload_type, payload));
    let envelope = Message::default()
        .bytes(1, &keypair.peer_id().to_libp2p_key())
        .bytes(2, payload_type)
        .bytes(3, payload)
        .bytes(5, &signature)
        .done();
    check_length(&envelope)?;
    Ok(envelope)
}

/// Takes the payload out of an envelope that `what` is in, and says who signed it.
pub(super) fn unseal<'a>(
    bytes: &'a [u8],
    domain: &str,
    payload_type: &[u8],
    what: &'static str,
) -> Result<(PeerId, &'a [u8]), RecordError> {
    check_length(bytes)?;
    let (mut key, mut kind, mut payload, mut signature) = (None, None, None, None);
    let mut fields = Fields::of(bytes);
    while let Some((field, value)) = fields.next()? {
        match field {
            1 => once(&mut key, value.bytes()?)?,
            2 => once(&mut kind, value.bytes()?)?,
            3 => once(&mut payload, value.bytes()?)?,
            5 => once(&mut signature, value.bytes()?)?,
            _ => {}
        }
    }
    let key = key.ok_or(RecordError::Malformed("no key"))?;
    let peer = PeerId::from_libp2p_key(key).map_err(|_| RecordError::Malformed("the key is not Ed25519"))?;
    if kind != Some(payload_type) {
        return Err(RecordError::OtherKind(what));
    }
    let payload = payload.unwrap_or_default();
    let signature = signature
        .and_then(|signature| signature.try_into().ok())
        .ok_or(RecordError::Malformed("no signature of 64 bytes"))?;
    if !peer.verify(&signed_bytes(domain, payload_type, payload), signature) {
        return Err(RecordError::BadSignature(peer));
    }
    Ok((peer, payload))
}

fn check_length(bytes: &[u8]) -> Result<(), RecordError> {
    if bytes.len() <= LONGEST_RECORD {
        return Ok(());
    }
    Err(RecordError::TooLong {
        bytes: bytes.len(),
        limit: LONGEST_RECORD,
    })
}

/// What is signed: each part with its length before it, so that no two triples read the same.
fn signed_bytes(domain: &str, payload_type: &[u8], payload: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(domain.len() + payload_type.len() + payload.len() + 8);
    for part in [domain.as_bytes(), payload_type, payload] {
        write_prefixed(&mut bytes, part);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_700_000_000_000;

    fn keypair() -> Keypair {
        Keypair::from_seed([7; 32])
    }

    fn signed(expires_ms: u64) -> Vec<u8> {
        Signed::sign(&keypair(), 9, expires_ms, b"body")
            .unwrap()
            .into_bytes()
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn the_layout_is_this_one() {
        let bytes = signed(NOW);
        let key = "0a24080112 20ea4a6c63e29c520abef5507b132ec5f9954776aebebe7b92421eea691446d22c";
        let kind = "12122f6b776161696e65742f7265636f72642f31";
        let payload = "1a0f 0809 1080d095ffbc31 1a04626f6479";
        let expected = format!("{key}{kind}{payload}2a40").replace(' ', "");
        assert!(hex(&bytes).starts_with(&expected), "{}\n{expected}", hex(&bytes));
        assert_eq!(bytes.len(), expected.len() / 2 + 64);
    }

    #[test]
    fn what_was_signed_is_read_and_a_changed_bit_is_noticed() {
        let bytes = signed(NOW + LIFETIME_MS);
        let verified = open(&bytes, NOW).unwrap();
        assert_eq!((verified.peer, verified.sequence), (keypair().peer_id(), 9));
        assert_eq!(verified.body, b"body");
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << bit;
                assert!(open(&changed, NOW).is_err(), "byte {at}, bit {bit}");
            }
            assert!(open(&bytes[..at], NOW).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn a_clock_may_be_a_minute_wrong_and_not_an_hour() {
        const MINUTE: u64 = 60_000;
        let publisher_at = |their_now: u64| open(&signed(their_now + LIFETIME_MS), NOW);
        assert!(publisher_at(NOW - MINUTE).is_ok());
        assert!(publisher_at(NOW + MINUTE).is_ok());
        let behind = publisher_at(NOW - 60 * MINUTE).unwrap_err();
        assert!(
            matches!(
                behind,
                RecordError::Expired {
                    ago_ms: 3_420_000,
                    ..
                }
            ),
            "{behind}"
        );
        assert!(behind.to_string().contains("expired 3420 s ago"), "{behind}");
        let ahead = publisher_at(NOW + 60 * MINUTE).unwrap_err();
        assert!(
            ahead
                .to_string()
                .contains("expires in 3780 s, and may in 270 at most; its clock is ahead"),
            "{ahead}"
        );
    }

    #[test]
    fn a_record_ends_at_its_last_millisecond() {
        let bytes = signed(NOW);
        assert!(open(&bytes, NOW - 1).is_ok());
        assert!(matches!(
            open(&bytes, NOW),
            Err(RecordError::Expired { ago_ms: 0, .. })
        ));
    }

    #[test]
    fn what_is_too_long_is_neither_written_nor_read() {
        let fits = Signed::sign(&keypair(), 1, NOW, &[0; LONGEST_RECORD - 150]);
        assert!(fits.is_ok());
        let error = Signed::sign(&keypair(), 1, NOW, &[0; LONGEST_RECORD]).unwrap_err();
        assert!(matches!(
            error,
            RecordError::TooLong {
                limit: LONGEST_RECORD,
                ..
            }
        ));
        let error = open(&[0xff; LONGEST_RECORD + 1], NOW).unwrap_err();
        assert_eq!(
            error.to_string(),
            "a record of 4097 bytes is longer than the 4096 that are read"
        );
    }

    #[test]
    fn an_envelope_for_something_else_is_no_record() {
        let payload = [0x08, 1];
        let other = seal(&keypair(), DOMAIN, b"/kwaainet/other/1", &payload).unwrap();
        assert_eq!(open(&other, NOW), Err(RecordError::OtherKind("record")));
        // The domain is signed and not written: the same bytes signed for another purpose do not hold here.
        let other = seal(&keypair(), "another", PAYLOAD_TYPE, &payload).unwrap();
        assert_eq!(
            open(&other, NOW),
            Err(RecordError::BadSignature(keypair().peer_id()))
        );
    }
}
