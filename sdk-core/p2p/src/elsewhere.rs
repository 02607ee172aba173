//! Calls nobody in the visitor's own network: what strangers say is an address must not make this browser knock at a
//! router or printer there.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::pin::Pin;
use std::task::{Context, Poll};

use libp2p::Multiaddr;
use libp2p::core::transport::{DialOpts, ListenerId, Transport, TransportError, TransportEvent};
use libp2p::multiaddr::Protocol;

/// A transport that calls no private address, for browsers on pages that come from elsewhere.
#[derive(Debug)]
pub struct Elsewhere<T> {
    transport: T,
    local: bool,
}

impl<T> Elsewhere<T> {
    /// `local`: the page itself comes from this machine, as where a site is being built; then everything is called.
    pub fn new(transport: T, local: bool) -> Self {
        Self { transport, local }
    }
}

impl<T: Transport + Unpin> Transport for Elsewhere<T> {
    type Output = T::Output;
    type Error = T::Error;
    type ListenerUpgrade = T::ListenerUpgrade;
    type Dial = T::Dial;

    fn listen_on(&mut self, id: ListenerId, address: Multiaddr) -> Result<(), TransportError<T::Error>> {
        self.transport.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.transport.remove_listener(id)
    }

    fn dial(&mut self, address: Multiaddr, opts: DialOpts) -> Result<T::Dial, TransportError<T::Error>> {
        if !self.local && is_private(&address) {
            return Err(TransportError::MultiaddrNotSupported(address));
        }
        self.transport.dial(address, opts)
    }

    fn poll(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<TransportEvent<T::ListenerUpgrade, T::Error>> {
        Pin::new(&mut self.transport).poll(context)
    }
}

/// Whether the address, or a name in it, is one that no stranger can have. A name that resolves to a private address is the
/// browser's to refuse.
fn is_private(address: &Multiaddr) -> bool {
    address.iter().any(|part| match part {
        Protocol::Ip4(ip) => is_private_v4(ip),
        Protocol::Ip6(ip) => is_private_v6(ip),
        Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name) | Protocol::Dnsaddr(name) => {
            let name = name.trim_end_matches('.').to_ascii_lowercase();
            name == "localhost"
                || [".localhost", ".local", ".internal"]
                    .iter()
                    .any(|end| name.ends_with(end))
        }
        _ => false,
    })
}

/// RFC 6890, and RFC 6598 for 100.64.0.0/10.
fn is_private_v4(ip: Ipv4Addr) -> bool {
    let [a, b, ..] = ip.octets();
    ip.is_private()
        || ip.is_loopback()
        || ip.is_link_local()
        || ip.is_unspecified()
        || ip.is_broadcast()
        || ip.is_multicast()
        || (a == 100 && (64..128).contains(&b))
}

/// RFC 4291, and RFC 4193 for fc00::/7.
fn is_private_v6(ip: Ipv6Addr) -> bool {
    ip.is_loopback()
        || ip.is_unspecified()
        || ip.is_multicast()
        || ip.is_unique_local()
        || ip.is_unicast_link_local()
        || ip.to_ipv4().is_some_and(is_private_v4)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_visitors_own_network_is_told_from_the_rest() {
        let private = [
            "/ip4/127.0.0.1/tcp/80/ws",
            "/ip4/10.1.2.3/tcp/80/ws",
            "/ip4/192.168.1.1/tcp/443/wss",
            "/ip4/169.254.169.254/tcp/80/ws",
            "/ip4/100.100.1.1/tcp/80/ws",
            "/ip4/0.0.0.0/tcp/80/ws",
            "/ip6/::1/tcp/80/ws",
            "/ip6/fe80::1/tcp/80/ws",
            "/ip6/fd00::1/tcp/80/ws",
            "/ip6/::ffff:192.168.1.1/tcp/80/ws",
            "/dns4/localhost/tcp/80/ws",
            "/dns/printer.LOCAL./tcp/80/ws",
            // The relay is near, whoever is behind it.
            "/ip4/192.168.1.1/tcp/80/ws/p2p/12D3KooWGxr4otVZUNx7XDX3tvBnAnSRwL6V4KbtcwBj7ruZFFpn/p2p-circuit",
        ];
        for address in private {
            assert!(is_private(&address.parse().unwrap()), "{address}");
        }
        let public = [
            "/ip4/203.0.113.7/tcp/443/wss",
            "/ip4/100.128.0.1/tcp/443/wss",
            "/ip6/2001:db8::1/tcp/443/wss",
            "/dns4/local.example.org/tcp/443/wss",
        ];
        for address in public {
            assert!(!is_private(&address.parse().unwrap()), "{address}");
        }
    }
}
