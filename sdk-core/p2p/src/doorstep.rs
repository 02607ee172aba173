//! Connections that come in, counted by where they come from: one machine that opens many must not keep everybody else
//! out, whether it says nothing or brings a new id each time.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::{IpAddr, Ipv6Addr};
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
        Protocol::Ip6(ip) => Some(Ipv6Addr::from(u128::from(ip) >> 64 << 64).into()),
        _ => None,
    })
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
        let Some(source) = source_of(remote) else {
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
