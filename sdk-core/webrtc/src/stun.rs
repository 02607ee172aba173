//! STUN as far as WebRTC Direct needs it (RFC 8489, RFC 8445): a dialler's check, and the answer to it.
//!
//! Nobody hands a listener an offer. All that it knows of a dialler is the username of the first check, which says by its
//! prefix how the passwords are chosen. In version 1 dialler and listener use the same word for everything; in version 2
//! (which needs no change to a browser's own offer) the listener's word carries the dialler's password. In both, the
//! listener's password is its username fragment, so that is what the checks are signed with.

use std::net::{IpAddr, SocketAddr};

/// No check is longer: the two halves of the username, and six small attributes.
pub const LONGEST: usize = 1_024;
/// HMAC-SHA1 over the concatenation of the parts, lent by the host.
pub type Hmac<'a> = &'a dyn Fn(&[u8], &[&[u8]]) -> [u8; 20];

const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const HEADER: usize = 20;
const REQUEST: u16 = 0x0001;
const SUCCESS: u16 = 0x0101;
const USERNAME: u16 = 0x0006;
const INTEGRITY: u16 = 0x0008;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const PRIORITY: u16 = 0x0024;
const USE_CANDIDATE: u16 = 0x0025;
const CHECKSUM: u16 = 0x8028;
const CONTROLLING: u16 = 0x802a;
/// Type and length of an attribute, and an HMAC-SHA1.
const INTEGRITY_LENGTH: usize = 24;

/// How the credentials were agreed on; the prefix of the listener's username fragment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    /// The dialler changed its own offer ("SDP munging").
    V1,
    /// It did not, and the listener's fragment carries its password.
    V2,
}

impl Version {
    /// What the listener's fragment begins with.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::V1 => "libp2p+webrtc+v1/",
            Self::V2 => "libp2p+webrtc+v2/",
        }
    }
}

/// A username of a check, found to be what ICE allows: both halves are letters, digits, `+` and `/`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Username<'a> {
    /// How the credentials were agreed on.
    pub version: Version,
    /// The listener's fragment, which is its password as well.
    pub listener: &'a str,
    /// The dialler's fragment.
    pub dialler: &'a str,
}

/// Why a packet is no check of a dialler. It is thrown away without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StunError {
    /// It is no STUN message of the wanted kind, or one that contradicts itself.
    #[error("this is no STUN message that is understood here")]
    Malformed,
    /// Its username is missing, or not made of two username fragments.
    #[error("the username is not made of two username fragments")]
    Username,
    /// The listener's fragment has no prefix that we know. A version must not be guessed.
    #[error("the username is of no known version")]
    Version,
}

/// A check that was not verified yet.
#[derive(Debug, Clone, Copy)]
pub struct Check<'a> {
    /// Chosen by the dialler, repeated in the answer.
    pub transaction: [u8; 12],
    /// Who asks whom.
    pub username: Username<'a>,
    /// Whether the dialler has chosen this path.
    pub nominates: bool,
    packet: &'a [u8],
    integrity_at: usize,
    integrity: [u8; 20],
}

/// Whether a packet is STUN: DTLS begins with other bytes (RFC 7983).
pub fn is_stun(packet: &[u8]) -> bool {
    packet.first().is_some_and(|byte| *byte < 4) && packet.get(4..8) == Some(&COOKIE)
}

/// Reads a username, `listener:dialler`.
///
/// # Errors
/// [`StunError::Username`] if a half is not 4 to 256 characters of ICE's, or the password in it is not at least 22 long
/// (RFC 8839, section 5.4); [`StunError::Version`] if the version is not known.
pub fn username(bytes: &[u8]) -> Result<Username<'_>, StunError> {
    let text = std::str::from_utf8(bytes).map_err(|_| StunError::Username)?;
    let (listener, dialler) = text.split_once(':').ok_or(StunError::Username)?;
    if ![listener, dialler]
        .iter()
        .all(|half| credential(half, SHORTEST_FRAGMENT))
    {
        return Err(StunError::Username);
    }
    let (version, rest) = [Version::V1, Version::V2]
        .into_iter()
        .find_map(|version| Some((version, listener.strip_prefix(version.prefix())?)))
        .ok_or(StunError::Version)?;
    let password = match version {
        Version::V1 => listener,
        Version::V2 => rest,
    };
    if !is_password(password) {
        return Err(StunError::Username);
    }
    Ok(Username {
        version,
        listener,
        dialler,
    })
}

const SHORTEST_FRAGMENT: usize = 4;
const SHORTEST_PASSWORD: usize = 22;
const LONGEST_CREDENTIAL: usize = 256;

/// Whether ICE allows this as a password (RFC 8839, section 5.4).
pub(crate) fn is_password(text: &str) -> bool {
    credential(text, SHORTEST_PASSWORD)
}

fn credential(text: &str, shortest: usize) -> bool {
    (shortest..=LONGEST_CREDENTIAL).contains(&text.len())
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'+' || byte == b'/')
}

impl<'a> Check<'a> {
    /// Reads a check that is signed, but not whether the signature is right ([`Check::verified`]).
    ///
    /// # Errors
    /// [`StunError`].
    pub fn parse(packet: &'a [u8]) -> Result<Self, StunError> {
        let message = Message::parse(packet, REQUEST)?;
        let username = self::username(message.username.ok_or(StunError::Username)?)?;
        let (integrity_at, integrity) = message.integrity.ok_or(StunError::Malformed)?;
        Ok(Self {
            transaction: message.transaction,
            username,
            nominates: message.nominates,
            packet,
            integrity_at,
            integrity,
        })
    }

    /// Whether it was signed with the listener's password. Everybody can do so who chose that password: it keeps out
    /// packets that were never meant as checks, and those made up by somebody who sees neither end.
    pub fn verified(&self, hmac: Hmac<'_>) -> bool {
        signature(
            self.packet,
            self.integrity_at,
            self.username.listener.as_bytes(),
            hmac,
        )
        .is_some_and(|expected| expected == self.integrity)
    }

    /// The answer: where the check came from.
    pub fn answer(&self, from: SocketAddr, hmac: Hmac<'_>) -> Vec<u8> {
        let mut message = begin(SUCCESS, self.transaction);
        let port = from.port() ^ 0x2112;
        let mut value = vec![0, if from.is_ipv4() { 1 } else { 2 }];
        value.extend(port.to_be_bytes());
        let mask = [COOKIE.as_slice(), &self.transaction].concat();
        let octets = match from.ip() {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        value.extend(octets.iter().zip(mask).map(|(byte, mask)| byte ^ mask));
        put(&mut message, XOR_MAPPED_ADDRESS, &value);
        sign(&mut message, self.username.listener.as_bytes(), hmac);
        message
    }
}

/// A dialler's check, which chooses the only path there is. `tie_breaker` is random, and the same in all checks.
pub fn check(
    transaction: [u8; 12],
    username: &Username<'_>,
    tie_breaker: [u8; 8],
    hmac: Hmac<'_>,
) -> Vec<u8> {
    let mut message = begin(REQUEST, transaction);
    let whole = format!("{}:{}", username.listener, username.dialler);
    put(&mut message, USERNAME, whole.as_bytes());
    // RFC 8445, section 5.1.2.1: a peer-reflexive candidate (110) of the only component.
    put(
        &mut message,
        PRIORITY,
        &((110_u32 << 24) | (65_535 << 8) | 255).to_be_bytes(),
    );
    put(&mut message, CONTROLLING, &tie_breaker);
    put(&mut message, USE_CANDIDATE, &[]);
    sign(&mut message, username.listener.as_bytes(), hmac);
    message
}

/// Whether a packet is the answer to the check with this transaction, signed with the listener's password.
pub fn answers(packet: &[u8], transaction: [u8; 12], password: &str, hmac: Hmac<'_>) -> bool {
    Message::parse(packet, SUCCESS).is_ok_and(|message| {
        message.transaction == transaction
            && message.integrity.is_some_and(|(at, integrity)| {
                signature(packet, at, password.as_bytes(), hmac) == Some(integrity)
            })
    })
}

struct Message<'a> {
    transaction: [u8; 12],
    username: Option<&'a [u8]>,
    nominates: bool,
    /// Where its attribute begins, and its value.
    integrity: Option<(usize, [u8; 20])>,
}

impl<'a> Message<'a> {
    fn parse(packet: &'a [u8], kind: u16) -> Result<Self, StunError> {
        Self::read(packet, kind).ok_or(StunError::Malformed)
    }

    fn read(packet: &'a [u8], kind: u16) -> Option<Self> {
        if packet.len() > LONGEST
            || packet.get(..2)? != kind.to_be_bytes()
            || packet.get(4..8)? != COOKIE
            || usize::from(number(packet.get(2..4)?)?) != packet.len().checked_sub(HEADER)?
        {
            return None;
        }
        let mut message = Self {
            transaction: packet.get(8..HEADER)?.try_into().ok()?,
            username: None,
            nominates: false,
            integrity: None,
        };
        let mut at = HEADER;
        // What stands behind the signature is not signed, and is not read.
        while at < packet.len() && message.integrity.is_none() {
            let attribute = number(packet.get(at..at.checked_add(2)?)?)?;
            let length = usize::from(number(packet.get(at.checked_add(2)?..at.checked_add(4)?)?)?);
            let begins = at.checked_add(4)?;
            let value = packet.get(begins..begins.checked_add(length)?)?;
            match attribute {
                USERNAME if message.username.is_none() => message.username = Some(value),
                USE_CANDIDATE => message.nominates = true,
                INTEGRITY => message.integrity = Some((at, value.try_into().ok()?)),
                _ => {}
            }
            at = begins.checked_add(length.next_multiple_of(4))?;
        }
        Some(message)
    }
}

fn number(bytes: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.try_into().ok()?))
}

/// Over everything before the attribute, with a length as if it ended with it (RFC 8489, section 14.5).
fn signature(packet: &[u8], at: usize, password: &[u8], hmac: Hmac<'_>) -> Option<[u8; 20]> {
    let length = at.checked_add(INTEGRITY_LENGTH)?.checked_sub(HEADER)?;
    let length = u16::try_from(length).ok()?.to_be_bytes();
    Some(hmac(password, &[packet.get(..2)?, &length, packet.get(4..at)?]))
}

fn begin(kind: u16, transaction: [u8; 12]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &[0, 0], &COOKIE, &transaction].concat()
}

fn put(message: &mut Vec<u8>, attribute: u16, value: &[u8]) {
    message.extend(attribute.to_be_bytes());
    message.extend((value.len() as u16).to_be_bytes());
    message.extend_from_slice(value);
    message.resize(message.len().next_multiple_of(4), 0);
    set_length(message, 0);
}

/// What is signed or summed counts an attribute that is not there yet.
fn set_length(message: &mut [u8], more: usize) {
    let length = message.len().saturating_sub(HEADER).saturating_add(more) as u16;
    if let Some(field) = message.get_mut(2..4) {
        field.copy_from_slice(&length.to_be_bytes());
    }
}

fn sign(message: &mut Vec<u8>, password: &[u8], hmac: Hmac<'_>) {
    set_length(message, INTEGRITY_LENGTH);
    let integrity = hmac(password, &[message]);
    put(message, INTEGRITY, &integrity);
    set_length(message, 8);
    let sum = crc32(message) ^ 0x5354_554e;
    put(message, CHECKSUM, &sum.to_be_bytes());
}

/// CRC-32 of ISO/IEC 13239 (RFC 8489, section 14.7), a bit at a time: it is asked for a few times a second.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(u32::MAX, |sum, byte| {
        (0..8).fold(sum ^ u32::from(*byte), |sum, _| {
            (sum >> 1) ^ (0xedb8_8320 & (sum & 1).wrapping_neg())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// No HMAC, but one that differs when the key or a byte does.
    fn hmac(key: &[u8], parts: &[&[u8]]) -> [u8; 20] {
        let whole = [key, &parts.concat()].concat();
        let mut value = [0; 20];
        value[..4].copy_from_slice(&crc32(&whole).to_be_bytes());
        value
    }

    const PASSWORD: &str = "abcdefghijklmnopqrstuv";

    fn asker(listener: &str) -> Username<'_> {
        username_of(listener, "dial")
    }

    fn username_of<'a>(listener: &'a str, dialler: &'a str) -> Username<'a> {
        Username {
            version: Version::V2,
            listener,
            dialler,
        }
    }

    #[test]
    fn a_check_is_read_verified_and_answered() {
        let listener = format!("{}{PASSWORD}", Version::V2.prefix());
        let packet = check([5; 12], &asker(&listener), [1; 8], &hmac);
        assert!(is_stun(&packet));
        let read = Check::parse(&packet).unwrap();
        assert_eq!(read.username, asker(&listener));
        assert!(read.nominates && read.verified(&hmac));
        let answer = read.answer("192.0.2.1:32853".parse().unwrap(), &hmac);
        assert!(answers(&answer, [5; 12], &listener, &hmac));
        assert!(!answers(&answer, [6; 12], &listener, &hmac));
        assert!(!answers(&answer, [5; 12], "another", &hmac));
        let mut other = packet.clone();
        // A byte of the priority: everything but the signature still fits.
        let at = packet
            .windows(2)
            .position(|bytes| bytes == PRIORITY.to_be_bytes())
            .unwrap();
        other[at + 5] ^= 1;
        assert!(!Check::parse(&other).unwrap().verified(&hmac));
    }

    #[test]
    fn a_request_of_rfc_5769_is_read_and_its_checksum_is_ours() {
        // Section 2.1. Its username is no libp2p's, and is refused for that alone.
        let packet = hex::decode(concat!(
            "000100582112a442b7e7a701bc34d686fa87dfae",
            "802200105354554e207465737420636c69656e74",
            "002400046e0001ff",
            "80290008932ff9b151263b36",
            "00060009",
            "6576746a3a68367659202020",
            "000800149aeaa70cbfd8cb56781ef2b5b2d3f249c1b571a2",
            "80280004e57a3bcf"
        ))
        .unwrap();
        let message = Message::parse(&packet, REQUEST).unwrap();
        assert_eq!(message.username, Some(b"evtj:h6vY".as_slice()));
        assert_eq!(message.integrity.unwrap().0, 76);
        let sum = crc32(&packet[..packet.len() - 8]) ^ 0x5354_554e;
        assert_eq!(sum.to_be_bytes(), packet[packet.len() - 4..]);
        assert_eq!(Check::parse(&packet).unwrap_err(), StunError::Version);
    }

    #[test]
    fn the_mapped_address_is_that_of_rfc_5769() {
        // Section 2.2, the same transaction.
        let transaction = hex::decode("b7e7a701bc34d686fa87dfae").unwrap();
        let listener = format!("{}{PASSWORD}", Version::V1.prefix());
        let packet = check(transaction.try_into().unwrap(), &asker(&listener), [1; 8], &hmac);
        let answer = Check::parse(&packet)
            .unwrap()
            .answer("192.0.2.1:32853".parse().unwrap(), &hmac);
        assert_eq!(hex::encode(&answer[20..32]), "002000080001a147e112a643");
    }

    #[test]
    fn usernames_are_what_ice_allows_and_of_a_known_version() {
        let v1 = format!("libp2p+webrtc+v1/abcde:{}", "x".repeat(256));
        assert_eq!(username(v1.as_bytes()).unwrap().version, Version::V1);
        let v2 = format!("libp2p+webrtc+v2/{PASSWORD}:dial");
        assert_eq!(
            username(v2.as_bytes()).unwrap(),
            asker(v2.strip_suffix(":dial").unwrap())
        );
        let long = "a".repeat(257);
        for (bad, why) in [
            ("libp2p+webrtc+v1/abcd:dial".to_owned(), StunError::Username),
            ("libp2p+webrtc+v1/abcde".to_owned(), StunError::Username),
            ("libp2p+webrtc+v1/abcde:abc".to_owned(), StunError::Username),
            (format!("libp2p+webrtc+v1/abcde:{long}"), StunError::Username),
            (
                "libp2p+webrtc+v1/abcde:dial\r\na=x".to_owned(),
                StunError::Username,
            ),
            ("libp2p+webrtc+v1/abcdé:dial".to_owned(), StunError::Username),
            (
                format!("libp2p+webrtc+v1/abcde:di:{PASSWORD}"),
                StunError::Username,
            ),
            (
                format!("libp2p+webrtc+v2/{}:dial", PASSWORD.strip_prefix('a').unwrap()),
                StunError::Username,
            ),
            (format!("libp2p+webrtc+v3/{PASSWORD}:dial"), StunError::Version),
            (format!("{PASSWORD}:dial"), StunError::Version),
            (String::new(), StunError::Username),
        ] {
            assert_eq!(username(bad.as_bytes()), Err(why), "{bad}");
        }
        assert_eq!(username(&[0xff, b':', 0xff]), Err(StunError::Username));
    }

    #[test]
    fn attributes_that_lie_about_their_length_are_refused() {
        let listener = format!("{}{PASSWORD}", Version::V1.prefix());
        let packet = check([5; 12], &asker(&listener), [1; 8], &hmac);
        for length in 0..packet.len() {
            assert!(Check::parse(&packet[..length]).is_err(), "{length} bytes");
        }
        let mut lies = packet.clone();
        lies[22] = 0xff;
        assert_eq!(Check::parse(&lies).unwrap_err(), StunError::Malformed);
    }
}
