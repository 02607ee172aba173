//! Peers, keys and addresses, as libp2p writes them.

use kwaainet_network::{Address, Keypair, NetworkError, PeerId};
use libp2p::multiaddr::Protocol;
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

/// An address without the peer that it ends with.
pub(crate) fn without_peer(mut address: Multiaddr) -> Multiaddr {
    if let Some(Protocol::P2p(_)) = address.iter().last() {
        address.pop();
    }
    address
}

/// Whether an address leads through a relay.
pub(crate) fn is_relayed(address: &Multiaddr) -> bool {
    address.iter().any(|part| part == Protocol::P2pCircuit)
}

/// The relay that an address leads through, and where that is.
pub(crate) fn relay_of(address: &Multiaddr) -> Option<(libp2p::PeerId, Multiaddr)> {
    if !is_relayed(address) {
        return None;
    }
    let before: Multiaddr = address
        .iter()
        .take_while(|part| *part != Protocol::P2pCircuit)
        .collect();
    match before.iter().last() {
        Some(Protocol::P2p(relay)) => Some((relay, without_peer(before))),
        _ => None,
    }
}

/// Whether an address means something on one machine only.
pub(crate) fn is_loopback(address: &Multiaddr) -> bool {
    address.iter().any(|part| match part {
        Protocol::Ip4(ip) => ip.is_loopback(),
        Protocol::Ip6(ip) => ip.is_loopback(),
        _ => false,
    })
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
