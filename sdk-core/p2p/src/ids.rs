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

/// How far an address leads; names are taken for the whole internet's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scope {
    Machine,
    Home,
    Internet,
}

/// From how far away somebody, or the relay in front of them, is reached there.
pub(crate) fn scope(address: &Multiaddr) -> Scope {
    let (machine, home) = match address.iter().next() {
        Some(Protocol::Ip4(ip)) => (ip.is_loopback(), ip.is_private() || ip.is_link_local()),
        Some(Protocol::Ip6(ip)) => (
            ip.is_loopback(),
            ip.is_unique_local() || ip.is_unicast_link_local(),
        ),
        _ => (false, false),
    };
    match (machine, home) {
        (true, _) => Scope::Machine,
        (_, true) => Scope::Home,
        _ => Scope::Internet,
    }
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

    #[test]
    fn addresses_lead_some_way() {
        let far = |text: &str| scope(&text.parse().unwrap());
        assert_eq!(far("/ip4/127.0.0.1/tcp/1"), Scope::Machine);
        assert_eq!(far("/ip6/::1/udp/1/quic-v1"), Scope::Machine);
        assert_eq!(far("/ip4/192.168.1.2/tcp/1"), Scope::Home);
        assert_eq!(far("/ip6/fe80::1/tcp/1"), Scope::Home);
        assert_eq!(far("/ip4/203.0.113.1/tcp/1/ws"), Scope::Internet);
        assert_eq!(far("/dns4/relay.example.org/tcp/1"), Scope::Internet);
        let (relay, at) = (
            "12D3KooWQAqQX2YQexMmQapfgrFV88PTtqkyiRo1LjpZoVbkjQYR",
            "/ip4/10.0.0.1/tcp/1",
        );
        let through: Multiaddr = format!("{at}/p2p/{relay}/p2p-circuit").parse().unwrap();
        assert!(is_relayed(&through));
        assert_eq!(
            relay_of(&through),
            Some((relay.parse().unwrap(), at.parse().unwrap()))
        );
        assert_eq!(relay_of(&at.parse().unwrap()), None);
        assert_eq!(relay_of(&format!("{at}/p2p-circuit").parse().unwrap()), None);
    }
}
