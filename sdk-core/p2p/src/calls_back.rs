//! AutoNAT's server, for askers who mean well: it would call any address, and tell whether somebody answered there, so that
//! anybody could find out what is inside the network that a relay stands in.

use std::collections::HashMap;
use std::task::{Context, Poll};

use libp2p::autonat::v2::server;
use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent,
    ToSwarm,
};
use libp2p::{Multiaddr, PeerId};

use crate::ids::{self, Scope};

/// The behaviour: libp2p's, which is denied some of its calls.
#[derive(Default)]
pub(crate) struct CallsBack {
    inner: server::Behaviour,
    /// From how far away askers came last.
    askers: HashMap<PeerId, Scope>,
    /// Calls that are about to be made.
    calls: HashMap<ConnectionId, Scope>,
}

#[derive(Debug, thiserror::Error)]
#[error("an address is called back only if it leads as far as the way on which it was asked for")]
struct NotBack;

/// Who asks from the internet may not have a home's devices called; and a name may stand for any of them.
fn may_call(asker: Scope, address: &Multiaddr) -> bool {
    let is_number = matches!(address.iter().next(), Some(Protocol::Ip4(_) | Protocol::Ip6(_)));
    is_number && !ids::is_relayed(address) && ids::scope(address) >= asker
}

impl NetworkBehaviour for CallsBack {
    type ConnectionHandler = THandler<server::Behaviour>;
    type ToSwarm = <server::Behaviour as NetworkBehaviour>::ToSwarm;

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        local: &Multiaddr,
        remote: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.askers.insert(peer, ids::scope(remote));
        self.inner
            .handle_established_inbound_connection(id, peer, local, remote)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: Option<PeerId>,
        addresses: &[Multiaddr],
        role: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        if let Some(asker) = self.calls.remove(&id)
            && !addresses.iter().all(|address| may_call(asker, address))
        {
            return Err(ConnectionDenied::new(NotBack));
        }
        self.inner
            .handle_pending_outbound_connection(id, peer, addresses, role)
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        address: &Multiaddr,
        role: Endpoint,
        port: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.inner
            .handle_established_outbound_connection(id, peer, address, role, port)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        if let FromSwarm::ConnectionClosed(closed) = &event
            && closed.remaining_established == 0
        {
            self.askers.remove(&closed.peer_id);
        }
        self.inner.on_swarm_event(event);
    }

    fn on_connection_handler_event(&mut self, peer: PeerId, id: ConnectionId, event: THandlerOutEvent<Self>) {
        self.inner.on_connection_handler_event(peer, id, event);
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<ToSwarm<Self::ToSwarm, THandlerInEvent<Self>>> {
        let next = self.inner.poll(cx);
        if let Poll::Ready(ToSwarm::Dial { opts }) = &next {
            // Who has gone meanwhile need not be told anything.
            let asker = opts.get_peer_id().and_then(|peer| self.askers.get(&peer));
            self.calls
                .insert(opts.connection_id(), asker.copied().unwrap_or(Scope::Internet));
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_looks_into_a_home_from_outside() {
        let may = |asker, address: &str| may_call(asker, &address.parse().unwrap());
        assert!(may(Scope::Internet, "/ip4/203.0.113.9/tcp/4001"));
        assert!(may(Scope::Internet, "/ip6/2001:db8::1/udp/4001/quic-v1"));
        assert!(!may(Scope::Internet, "/ip4/192.168.1.1/tcp/80"));
        assert!(!may(Scope::Internet, "/ip4/127.0.0.1/tcp/22"));
        assert!(!may(Scope::Internet, "/dns4/printer.local/tcp/9100"));
        assert!(may(Scope::Home, "/ip4/192.168.1.7/tcp/4001"));
        assert!(!may(Scope::Home, "/ip4/127.0.0.1/tcp/22"));
        assert!(may(Scope::Machine, "/ip4/127.0.0.1/tcp/4001"));
        let relay = PeerId::random();
        assert!(!may(
            Scope::Machine,
            &format!("/ip4/203.0.113.9/tcp/1/p2p/{relay}/p2p-circuit")
        ));
    }
}
