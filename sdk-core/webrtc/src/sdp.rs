//! Session descriptions (SDP, RFC 8866) of whoever dials from a browser: what is read of its own offer, which is used as it
//! is, and the answer that the listener would have given, had anybody asked it. Version 2 of WebRTC Direct: the listener
//! learns the dialler's password from its own username fragment (see [`crate::stun`]).

use std::fmt::Write as _;
use std::net::SocketAddr;

use crate::Fingerprint;
use crate::frame::LONGEST;
use crate::stun::{Version, is_password};

/// A browser's offer with one data channel has about 600 bytes.
pub const LONGEST_OFFER: usize = 16 << 10;

/// Why an offer is of no use here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SdpError {
    /// Longer than [`LONGEST_OFFER`].
    #[error("the offer is longer than {LONGEST_OFFER} bytes")]
    TooLong,
    /// No ICE password, or none of at least 22 characters that ICE allows (RFC 8839, section 5.4).
    #[error("the offer has no ICE password")]
    Password,
    /// No SHA-256 of a certificate.
    #[error("the offer has no SHA-256 of a certificate")]
    Fingerprint,
}

/// What a dialler's own offer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Signs the listener's checks.
    pub password: String,
    /// The dialler's certificate.
    pub fingerprint: Fingerprint,
}

impl Offer {
    /// Reads an offer with one certificate; lines that do not matter are passed over.
    ///
    /// # Errors
    /// [`SdpError`], if it lacks one of the two.
    pub fn read(sdp: &str) -> Result<Self, SdpError> {
        if sdp.len() > LONGEST_OFFER {
            return Err(SdpError::TooLong);
        }
        let value = |name: &str| sdp.lines().find_map(|line| line.trim_end().strip_prefix(name));
        let password = value("a=ice-pwd:").filter(|word| is_password(word));
        let fingerprint = value("a=fingerprint:sha-256 ").and_then(fingerprint);
        Ok(Self {
            password: password.ok_or(SdpError::Password)?.to_owned(),
            fingerprint: fingerprint.ok_or(SdpError::Fingerprint)?,
        })
    }

    /// The answer of a listener at this address, with the certificate that the address promises.
    pub fn answer(&self, listener: SocketAddr, promised: &Fingerprint) -> String {
        let (ip, port) = (listener.ip(), listener.port());
        let family = if ip.is_ipv4() { 4 } else { 6 };
        let word = format!("{}{}", Version::V2.prefix(), self.password);
        [
            "v=0".to_owned(),
            format!("o=- 0 0 IN IP{family} {ip}"),
            "s=-".to_owned(),
            "t=0 0".to_owned(),
            // It answers checks, and sends none.
            "a=ice-lite".to_owned(),
            format!("m=application {port} UDP/DTLS/SCTP webrtc-datachannel"),
            format!("c=IN IP{family} {ip}"),
            "a=mid:0".to_owned(),
            "a=ice-options:ice2".to_owned(),
            format!("a=ice-ufrag:{word}"),
            format!("a=ice-pwd:{word}"),
            format!("a=fingerprint:sha-256 {}", written(promised)),
            "a=setup:passive".to_owned(),
            "a=sctp-port:5000".to_owned(),
            format!("a=max-message-size:{LONGEST}"),
            // The only candidate, so its priority says nothing.
            format!("a=candidate:1 1 UDP 2130706431 {ip} {port} typ host"),
            "a=end-of-candidates".to_owned(),
        ]
        .map(|line| line + "\r\n")
        .concat()
    }
}

/// As in SDP: bytes in hexadecimal with colons between them (RFC 8122, section 5).
fn fingerprint(text: &str) -> Option<Fingerprint> {
    let mut sha256 = [0; 32];
    let mut parts = text.split(':');
    for byte in &mut sha256 {
        let part = parts
            .next()
            .filter(|part| part.len() == 2 && part.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
        *byte = u8::from_str_radix(part, 16).ok()?;
    }
    parts.next().is_none().then(|| Fingerprint::new(sha256))
}

fn written(fingerprint: &Fingerprint) -> String {
    let mut text = String::new();
    for byte in fingerprint.sha256() {
        let colon = if text.is_empty() { "" } else { ":" };
        // Writing to a string cannot fail.
        let _ = write!(text, "{colon}{byte:02X}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Chromium 150's, with its session's number and certificate changed.
    const OFFER: &str = "v=0\r\no=- 4611731400430051336 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\n\
        a=extmap-allow-mixed\r\na=msid-semantic: WMS\r\nm=application 9 UDP/DTLS/SCTP webrtc-datachannel\r\n\
        c=IN IP4 0.0.0.0\r\na=ice-ufrag:Y7xD\r\na=ice-pwd:Xm1HPy0zv/e7zCUpI2mUJ+dS\r\na=ice-options:trickle\r\n\
        a=fingerprint:sha-256 3E:79:AF:40:D6:05:96:17:A0:D8:3B:83:A5:2C:E7:3B:0C:1F:37:A7:2C:60:43:AD:29:69:E2:35:1B:DC:A8:70\r\n\
        a=setup:actpass\r\na=mid:0\r\na=sctp-port:5000\r\na=max-message-size:262144\r\n";

    #[test]
    fn the_answer_carries_the_offers_password_and_the_promised_certificate() {
        let offer = Offer::read(OFFER).unwrap();
        assert_eq!(offer.password, "Xm1HPy0zv/e7zCUpI2mUJ+dS");
        let answer = offer.answer(
            "[2001:db8::7]:4001".parse().unwrap(),
            &Fingerprint::new([0xab; 32]),
        );
        for line in [
            "o=- 0 0 IN IP6 2001:db8::7",
            "a=ice-ufrag:libp2p+webrtc+v2/Xm1HPy0zv/e7zCUpI2mUJ+dS",
            "a=ice-pwd:libp2p+webrtc+v2/Xm1HPy0zv/e7zCUpI2mUJ+dS",
            "a=candidate:1 1 UDP 2130706431 2001:db8::7 4001 typ host",
        ] {
            assert!(
                answer.lines().any(|found| found == line),
                "{line} is not in {answer}"
            );
        }
        assert!(answer.contains(&format!("a=fingerprint:sha-256 {}AB\r\n", "AB:".repeat(31))));
        let word = answer.lines().find_map(|line| line.strip_prefix("a=ice-ufrag:"));
        let both = format!("{}:Y7xD", word.unwrap());
        assert_eq!(
            crate::stun::username(both.as_bytes()).unwrap().version,
            Version::V2
        );
    }

    #[test]
    fn an_offer_without_what_is_needed_is_refused() {
        let changed = |from: &str, to: &str| Offer::read(&OFFER.replace(from, to));
        assert_eq!(
            changed("a=ice-pwd:Xm", "a=ice-pwd:\u{e9}m"),
            Err(SdpError::Password)
        );
        assert_eq!(
            changed("a=ice-pwd:Xm1HPy0z", "a=ice-pwd:"),
            Err(SdpError::Password)
        );
        assert_eq!(
            changed("a=fingerprint:sha-256", "a=fingerprint:sha-1"),
            Err(SdpError::Fingerprint)
        );
        assert_eq!(changed(":A8:70\r", ":A8\r"), Err(SdpError::Fingerprint));
        assert_eq!(changed(":A8:70\r", ":A8:70:11\r"), Err(SdpError::Fingerprint));
        assert_eq!(
            changed(":A8:70\r", ":A8:+7\r").map(|_| ()),
            Err(SdpError::Fingerprint)
        );
        assert_eq!(
            Offer::read(&"a".repeat(LONGEST_OFFER + 1)),
            Err(SdpError::TooLong)
        );
    }
}
