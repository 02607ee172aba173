//! Who a peer is: an Ed25519 key, and the id that libp2p makes of it.

use std::fmt;
use std::str::FromStr;

use ed25519_dalek::{Signer, SigningKey, VerifyingKey};

/// What stands before the 32 bytes of an Ed25519 key in a peer id: the identity multihash (0x00) of 36 bytes (0x24),
/// and of those the protobuf fields `Type = Ed25519` (08 01) and `Data` of 32 bytes (12 20).
/// Source: libp2p specs, peer-ids/peer-ids.md.
const PREFIX: [u8; 6] = [0x00, 0x24, 0x08, 0x01, 0x12, 0x20];
/// `Type = Ed25519`, `Data` of 32 bytes: a public key as libp2p writes it.
const KEY_PREFIX: [u8; 4] = [0x08, 0x01, 0x12, 0x20];

/// A signature over bytes, 64 bytes.
pub type Signature = [u8; 64];

/// A peer, named by its Ed25519 public key. Peers with other keys are not spoken to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PeerId([u8; 32]);

/// Why something is no peer id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is no peer id: expected 52 characters that begin with 12D3KooW")]
pub struct PeerIdError(String);

impl PeerId {
    /// The peer that has this public key. (That it is a point of the curve is seen when a signature is checked.)
    pub const fn from_public_key(key: [u8; 32]) -> Self {
        Self(key)
    }

    /// Its public key.
    pub const fn public_key(&self) -> &[u8; 32] {
        &self.0
    }

    /// The id as it stands on the wire, 38 bytes.
    pub fn to_bytes(self) -> Vec<u8> {
        [&PREFIX[..], &self.0].concat()
    }

    /// Reads an id from the wire.
    ///
    /// # Errors
    /// If it is not the id of an Ed25519 key.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PeerIdError> {
        bytes
            .strip_prefix(&PREFIX)
            .and_then(|key| key.try_into().ok())
            .map(Self)
            .ok_or_else(|| PeerIdError(shown(bytes)))
    }

    /// The public key as libp2p writes it (a protobuf message), 36 bytes.
    pub fn to_libp2p_key(self) -> Vec<u8> {
        [&KEY_PREFIX[..], &self.0].concat()
    }

    /// Reads a public key that libp2p wrote.
    ///
    /// # Errors
    /// If it is not an Ed25519 key.
    pub fn from_libp2p_key(bytes: &[u8]) -> Result<Self, PeerIdError> {
        bytes
            .strip_prefix(&KEY_PREFIX)
            .and_then(|key| key.try_into().ok())
            .map(Self)
            .ok_or_else(|| PeerIdError(shown(bytes)))
    }

    /// Whether the peer signed exactly these bytes. Strict: one signature per message, and no weak keys.
    pub fn verify(&self, bytes: &[u8], signature: &Signature) -> bool {
        let signature = ed25519_dalek::Signature::from_bytes(signature);
        VerifyingKey::from_bytes(&self.0).is_ok_and(|key| key.verify_strict(bytes, &signature).is_ok())
    }
}

/// The start of foreign bytes, for a message that a person reads.
fn shown(bytes: &[u8]) -> String {
    let start = bytes.get(..bytes.len().min(40)).unwrap_or_default();
    bs58::encode(start).into_string()
}

impl fmt::Display for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&bs58::encode(self.to_bytes()).into_string())
    }
}

impl fmt::Debug for PeerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PeerId({self})")
    }
}

impl FromStr for PeerId {
    type Err = PeerIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut bytes = [0; 64];
        let written = bs58::decode(text).onto(&mut bytes[..]);
        written
            .ok()
            .and_then(|len| Self::from_bytes(bytes.get(..len)?).ok())
            .ok_or_else(|| PeerIdError(text.chars().take(80).collect()))
    }
}

/// A node's own key. It is wiped from memory when dropped, and never shown.
#[derive(Clone)]
pub struct Keypair(SigningKey);

impl fmt::Debug for Keypair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keypair({})", self.peer_id())
    }
}

impl Keypair {
    /// The key that grows from this seed, which is the secret.
    pub fn from_seed(seed: [u8; 32]) -> Self {
        Self(SigningKey::from_bytes(&seed))
    }

    /// A new key.
    pub fn generate(random: &dyn kwaainet_platform::Random) -> Self {
        let mut seed = [0; 32];
        random.fill(&mut seed);
        Self::from_seed(seed)
    }

    /// The seed, to be kept where only this node can read it.
    pub fn seed(&self) -> [u8; 32] {
        self.0.to_bytes()
    }

    /// Who this key makes us.
    pub fn peer_id(&self) -> PeerId {
        PeerId(self.0.verifying_key().to_bytes())
    }

    /// Signs bytes.
    pub fn sign(&self, bytes: &[u8]) -> Signature {
        self.0.sign(bytes).to_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// From libp2p specs, peer-ids/peer-ids.md ("Test vectors"): an Ed25519 key, its seed first.
    const SPEC_SEED: &str = "7e0830617c4a7de83925dfb2694556b12936c477a0e1feb2e148ec9da60fee7d";
    const SPEC_PUBLIC: &str = "1ed1e8fae2c4a144b8be8fd4b47bf3d3b34b871c3cacf6010f0e42d474fce27e";

    fn hex(text: &str) -> [u8; 32] {
        let nibble = |at: usize| (text.as_bytes()[at] as char).to_digit(16).unwrap() as u8;
        std::array::from_fn(|i| 16 * nibble(2 * i) + nibble(2 * i + 1))
    }

    #[test]
    fn the_key_of_the_specification_is_read_as_it_says() {
        let pair = Keypair::from_seed(hex(SPEC_SEED));
        assert_eq!(pair.peer_id().public_key(), &hex(SPEC_PUBLIC));
        assert_eq!(pair.peer_id().to_libp2p_key().len(), 36);
        assert_eq!(
            PeerId::from_libp2p_key(&pair.peer_id().to_libp2p_key()),
            Ok(pair.peer_id())
        );
    }

    #[test]
    fn an_id_survives_text_and_bytes() {
        let peer = Keypair::from_seed([7; 32]).peer_id();
        assert!(peer.to_string().starts_with("12D3KooW"), "{peer}");
        assert_eq!(peer.to_string().parse(), Ok(peer));
        assert_eq!(PeerId::from_bytes(&peer.to_bytes()), Ok(peer));
    }

    #[test]
    fn what_is_no_id_is_refused_with_words() {
        for text in [
            "",
            "12D3KooW",
            "QmYyQSo1c1Ym7orWxLYvCrM2EmxFTANf8wXmmE7DWjhx5N",
            &"1".repeat(10_000),
        ] {
            let error = text.parse::<PeerId>().unwrap_err().to_string();
            assert!(error.contains("12D3KooW"), "{error}");
            assert!(error.len() < 200, "{}", error.len());
        }
    }

    #[test]
    fn only_the_signer_verifies() {
        let (one, other) = (Keypair::from_seed([1; 32]), Keypair::from_seed([2; 32]));
        let signature = one.sign(b"text");
        assert!(one.peer_id().verify(b"text", &signature));
        assert!(!one.peer_id().verify(b"texts", &signature));
        assert!(!other.peer_id().verify(b"text", &signature));
        // Not a point of the curve.
        assert!(!PeerId::from_public_key([0xff; 32]).verify(b"text", &signature));
    }
}
