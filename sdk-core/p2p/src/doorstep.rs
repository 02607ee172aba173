//! Handshakes that have begun and not ended, counted by where they come from: one machine that opens connections and says
//! nothing must not keep everybody else out.

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
const PER_SOURCE: usize = 8;

/// The behaviour. It speaks no protocol.
#[derive(Debug, Default)]
pub(crate) struct Doorstep {
    waiting: HashMap<ConnectionId, IpAddr>,
}

#[derive(Debug, thiserror::Error)]
#[error("{PER_SOURCE} handshakes of {0} have not ended yet")]
struct Crowded(IpAddr);

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
        let waiting = self.waiting.values().filter(|waiting| **waiting == source);
        if waiting.count() >= PER_SOURCE {
            return Err(ConnectionDenied::new(Crowded(source)));
        }
        self.waiting.insert(id, source);
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
                drop(self.waiting.remove(&established.connection_id))
            }
            FromSwarm::ListenFailure(failed) => drop(self.waiting.remove(&failed.connection_id)),
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
