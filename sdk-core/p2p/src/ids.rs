//! Peers, keys and addresses, as libp2p writes them.

use kwaainet_network::{Address, Keypair, NetworkError, PeerId};
use libp2p::{Multiaddr, identity};

pub(crate) fn theirs(peer: PeerId) -> Option<libp2p::PeerId> {
    libp2p::PeerId::from_bytes(&peer.to_bytes()).ok()
}

/// `None` for a peer whose key is not Ed25519.
pub(crate) fn ours(peer: &libp2p::PeerId) -> Option<PeerId> {
    PeerId::from_bytes(&peer.to_bytes()).ok()
}

pub(crate) fn keypair(ours: &Keypair) -> Option<identity::Keypair> {
    identity::Keypair::ed25519_from_bytes(ours.seed()).ok()
}

pub(crate) fn multiaddr(address: &Address) -> Result<Multiaddr, NetworkError> {
    let bad = |_| NetworkError::BadAddress(address.clone());
    address.as_str().parse().map_err(bad)
}

/// `None` for an address that is longer than any real one.
pub(crate) fn address(multiaddr: &Multiaddr) -> Option<Address> {
    Address::new(multiaddr.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_of_libp2p() {
        let pair = Keypair::from_seed([3; 32]);
        let theirs_pair = keypair(&pair).unwrap();
        let peer = theirs_pair.public().to_peer_id();
        assert_eq!(peer.to_string(), pair.peer_id().to_string());
        assert_eq!(ours(&peer), Some(pair.peer_id()));
        assert_eq!(theirs(pair.peer_id()), Some(peer));
        assert_eq!(
            theirs_pair.public().encode_protobuf(),
            pair.peer_id().to_libp2p_key()
        );
        assert_eq!(theirs_pair.sign(b"text").unwrap(), pair.sign(b"text"));
    }
}
