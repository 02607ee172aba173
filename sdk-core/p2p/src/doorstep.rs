//! Connections that come in, counted by where they come from: one machine that opens many must not keep everybody else
//! out, whether it says nothing or brings a new id each time.

use core::net::{IpAddr, Ipv6Addr};
use std::collections::HashMap;
use std::convert::Infallible;
use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent,
    ToSwarm, dummy,
};
use libp2p::{Multiaddr, PeerId};

/// Half-open handshakes of one address: a household behind one router dials with several devices, and retries.
const HALF_OPEN: usize = 8;
/// Connections of one address, half-open ones among them: a quarter of what a node has room for. A school or an office is
/// behind one address, too.
const CONNECTIONS: usize = 128;

/// The behaviour. It speaks no protocol.
#[derive(Debug, Default)]
pub(crate) struct Doorstep {
    /// Where each came from, and whether its handshake has ended.
    inbound: HashMap<ConnectionId, (IpAddr, bool)>,
    /// Who stands in front of many others, and is not counted.
    proxies: Vec<IpAddr>,
}

impl Doorstep {
    pub(crate) fn new(proxies: &[IpAddr]) -> Self {
        Self {
            inbound: HashMap::new(),
            proxies: proxies.iter().copied().map(network_of).collect(),
        }
    }
}

#[derive(Debug, thiserror::Error)]
enum Crowded {
    #[error("{HALF_OPEN} handshakes of {0} have not ended yet")]
    HalfOpen(IpAddr),
    #[error("{0} has {CONNECTIONS} connections already")]
    Connections(IpAddr),
}

/// An IPv4 address, or the first 64 bits of an IPv6 one: who has one of those has all of them.
fn source_of(address: &Multiaddr) -> Option<IpAddr> {
    address.iter().find_map(|part| match part {
        Protocol::Ip4(ip) => Some(ip.into()),
        Protocol::Ip6(ip) => Some(network_of(ip.into())),
        _ => None,
    })
}

fn network_of(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(ip) => Ipv6Addr::from(u128::from(ip) >> 64 << 64).into(),
    }
}

impl NetworkBehaviour for Doorstep {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        _: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        let Some(source) = source_of(remote).filter(|source| !self.proxies.contains(source)) else {
            return Ok(());
        };
        let (mut connections, mut half_open) = (0, 0);
        for (_, open) in self.inbound.values().filter(|(from, _)| *from == source) {
            connections += 1;
            half_open += usize::from(!open);
        }
        if half_open >= HALF_OPEN {
            return Err(ConnectionDenied::new(Crowded::HalfOpen(source)));
        }
        if connections >= CONNECTIONS {
            return Err(ConnectionDenied::new(Crowded::Connections(source)));
        }
        self.inbound.insert(id, (source, false));
        Ok(())
    }

    fn handle_established_inbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn handle_established_outbound_connection(
        &mut self,
        _: ConnectionId,
        _: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        Ok(dummy::ConnectionHandler)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(established) => {
                if let Some((_, open)) = self.inbound.get_mut(&established.connection_id) {
                    *open = true;
                }
            }
            FromSwarm::ConnectionClosed(closed) => drop(self.inbound.remove(&closed.connection_id)),
            FromSwarm::ListenFailure(failed) => drop(self.inbound.remove(&failed.connection_id)),
            _ => {}
        }
    }

    fn on_connection_handler_event(&mut self, _: PeerId, _: ConnectionId, event: THandlerOutEvent<Self>) {
        match event {}
    }

    fn poll(&mut self, _: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_source_is_limited_and_a_proxy_is_many() {
        let mut doorstep = Doorstep::new(&["192.0.2.9".parse().unwrap()]);
        let here: Multiaddr = "/ip4/192.0.2.1/tcp/4001".parse().unwrap();
        let mut next = 0;
        let mut knock = |from: &str| {
            next += 1;
            let id = ConnectionId::new_unchecked(next);
            doorstep.handle_pending_inbound_connection(id, &here, &from.parse().unwrap())
        };
        for port in 1..=HALF_OPEN {
            assert!(knock(&format!("/ip4/198.51.100.1/tcp/{port}")).is_ok());
            assert!(knock(&format!("/ip6/2001:db8::{port:x}/tcp/1/ws")).is_ok());
        }
        assert!(knock("/ip4/198.51.100.1/tcp/9999").is_err());
        assert!(
            knock("/ip6/2001:db8::ffff/udp/1/quic-v1").is_err(),
            "the same 64 bits"
        );
        assert!(knock("/ip6/2001:db8:0:1::1/udp/1/quic-v1").is_ok());
        assert!(knock("/ip4/198.51.100.2/tcp/1").is_ok());
        for port in 1..1000 {
            assert!(knock(&format!("/ip4/192.0.2.9/tcp/{port}")).is_ok());
        }
    }
}
