//! Hashes of certificates: what an address promises, and what Noise binds a connection to.

/// SHA-256 of a certificate's DER bytes. Other hashes are not spoken: the specification demands this one of everybody.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

/// `sha2-256` and its length, in multihash.
const SHA2_256: [u8; 2] = [0x12, 0x20];

impl Fingerprint {
    /// A hash that was computed elsewhere.
    pub fn new(sha256: [u8; 32]) -> Self {
        Self(sha256)
    }

    /// What stands after `/certhash/` in an address, decoded from multibase; `None` if it is another hash.
    pub fn from_multihash(bytes: &[u8]) -> Option<Self> {
        let digest = bytes.strip_prefix(&SHA2_256)?;
        digest.try_into().ok().map(Self)
    }

    pub(crate) fn sha256(&self) -> &[u8; 32] {
        &self.0
    }

    /// As a multihash of 34 bytes.
    pub fn to_multihash(&self) -> Vec<u8> {
        [SHA2_256.as_slice(), &self.0].concat()
    }
}

impl std::fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The prologue of the Noise handshake: both ends have seen the same two certificates, or it fails. The dialler's comes
/// first (webrtc-direct.md, "Connection Security").
pub fn prologue(dialler: &Fingerprint, listener: &Fingerprint) -> Vec<u8> {
    [
        b"libp2p-webrtc-noise:".as_slice(),
        &dialler.to_multihash(),
        &listener.to_multihash(),
    ]
    .concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fingerprint(text: &str) -> Fingerprint {
        let mut sha256 = [0; 32];
        hex::decode_to_slice(text, &mut sha256).unwrap();
        Fingerprint::new(sha256)
    }

    #[test]
    fn the_prologue_is_that_of_the_specifications_test_vector() {
        let dialler = fingerprint("3e79af40d6059617a0d83b83a52ce73b0c1f37a72c6043ad2969e2351bdca870");
        let listener = fingerprint("30fc9f469c207419dfdd0aab5f27a86c973c94e40548db9375cca2e915973b99");
        assert_eq!(
            hex::encode(prologue(&dialler, &listener)),
            "6c69627032702d7765627274632d6e6f6973653a12203e79af40d6059617a0d83b83a52ce73b0c1f37a72c6043ad2969e2351bdca8\
             70122030fc9f469c207419dfdd0aab5f27a86c973c94e40548db9375cca2e915973b99"
        );
    }

    #[test]
    fn only_sha2_256_is_a_fingerprint() {
        let some = fingerprint("3e79af40d6059617a0d83b83a52ce73b0c1f37a72c6043ad2969e2351bdca870");
        let mut bytes = some.to_multihash();
        assert_eq!(Fingerprint::from_multihash(&bytes), Some(some));
        bytes[0] = 0x13;
        assert_eq!(Fingerprint::from_multihash(&bytes), None);
        assert_eq!(Fingerprint::from_multihash(&bytes[..33]), None);
    }
}
