//! How many connections a node has: in all, with one peer, and half-open ones.
//!
//! libp2p's own limits (libp2p-connection-limits 0.6.0) keep an entry for every peer that was ever connected, some 130 bytes
//! each: a node that lives long, or meets somebody who brings a new id each time, grows without end.

use std::collections::{HashMap, HashSet};
use std::convert::Infallible;
use std::task::{Context, Poll};

use libp2p::core::Endpoint;
use libp2p::core::transport::PortUse;
use libp2p::swarm::{
    ConnectionDenied, ConnectionId, FromSwarm, NetworkBehaviour, THandler, THandlerInEvent, THandlerOutEvent,
    ToSwarm, dummy,
};
use libp2p::{Multiaddr, PeerId};

/// Connections in all.
pub(crate) const CONNECTIONS: usize = 500;
/// With one peer: two that dial each other at once have two for a moment.
pub(crate) const WITH_ONE_PEER: usize = 4;
/// Handshakes of others under way.
const HALF_OPEN: usize = 64;
/// Handshakes of ours: a search runs 24 lookups, each with up to 20 requests in flight. libp2p takes a peer that it may not
/// dial for one that does not answer, so that with less room lookups would miss peers that are there.
const DIALS: usize = CONNECTIONS;

/// The behaviour. It speaks no protocol.
#[derive(Debug, Default)]
pub(crate) struct Crowd {
    half_open: HashSet<ConnectionId>,
    dials: HashSet<ConnectionId>,
    established: HashMap<ConnectionId, PeerId>,
}

#[derive(Debug, thiserror::Error)]
enum Full {
    #[error("this node has {CONNECTIONS} connections already")]
    Connections,
    #[error("this peer has {WITH_ONE_PEER} connections already")]
    WithOnePeer,
    #[error("{HALF_OPEN} handshakes have not ended yet")]
    HalfOpen,
    #[error("{DIALS} peers are being dialled already")]
    Dials,
}

impl Crowd {
    fn admit(&self, peer: PeerId) -> Result<THandler<Self>, ConnectionDenied> {
        let with_peer = self.established.values().filter(|other| **other == peer);
        if with_peer.count() >= WITH_ONE_PEER {
            return Err(ConnectionDenied::new(Full::WithOnePeer));
        }
        if self.established.len() >= CONNECTIONS {
            return Err(ConnectionDenied::new(Full::Connections));
        }
        Ok(dummy::ConnectionHandler)
    }
}

impl NetworkBehaviour for Crowd {
    type ConnectionHandler = dummy::ConnectionHandler;
    type ToSwarm = Infallible;

    fn handle_pending_inbound_connection(
        &mut self,
        id: ConnectionId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<(), ConnectionDenied> {
        if self.half_open.len() >= HALF_OPEN {
            return Err(ConnectionDenied::new(Full::HalfOpen));
        }
        self.half_open.insert(id);
        Ok(())
    }

    fn handle_established_inbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: &Multiaddr,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.half_open.remove(&id);
        self.admit(peer)
    }

    fn handle_pending_outbound_connection(
        &mut self,
        id: ConnectionId,
        _: Option<PeerId>,
        _: &[Multiaddr],
        _: Endpoint,
    ) -> Result<Vec<Multiaddr>, ConnectionDenied> {
        if self.dials.len() >= DIALS {
            return Err(ConnectionDenied::new(Full::Dials));
        }
        self.dials.insert(id);
        Ok(Vec::new())
    }

    fn handle_established_outbound_connection(
        &mut self,
        id: ConnectionId,
        peer: PeerId,
        _: &Multiaddr,
        _: Endpoint,
        _: PortUse,
    ) -> Result<THandler<Self>, ConnectionDenied> {
        self.dials.remove(&id);
        self.admit(peer)
    }

    fn on_swarm_event(&mut self, event: FromSwarm<'_>) {
        match event {
            FromSwarm::ConnectionEstablished(established) => {
                self.established
                    .insert(established.connection_id, established.peer_id);
            }
            FromSwarm::ConnectionClosed(closed) => drop(self.established.remove(&closed.connection_id)),
            FromSwarm::DialFailure(failed) => drop(self.dials.remove(&failed.connection_id)),
            FromSwarm::ListenFailure(failed) => drop(self.half_open.remove(&failed.connection_id)),
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
    use libp2p::core::ConnectedPoint;
    use libp2p::swarm::behaviour::{ConnectionClosed, ConnectionEstablished};

    use super::*;

    /// A crowd, and the connections that were let in.
    struct Door {
        crowd: Crowd,
        next: usize,
        here: Multiaddr,
    }

    impl Door {
        fn knock(&mut self, peer: PeerId) -> Result<ConnectionId, ConnectionDenied> {
            self.next += 1;
            let (id, at) = (ConnectionId::new_unchecked(self.next), &self.here);
            self.crowd.handle_pending_inbound_connection(id, at, at)?;
            self.crowd
                .handle_established_inbound_connection(id, peer, at, at)?;
            let endpoint = ConnectedPoint::Listener {
                local_addr: at.clone(),
                send_back_addr: at.clone(),
            };
            self.crowd
                .on_swarm_event(FromSwarm::ConnectionEstablished(ConnectionEstablished {
                    peer_id: peer,
                    connection_id: id,
                    endpoint: &endpoint,
                    failed_addresses: &[],
                    other_established: 0,
                }));
            Ok(id)
        }

        fn leave(&mut self, peer: PeerId, id: ConnectionId) {
            let endpoint = ConnectedPoint::Listener {
                local_addr: self.here.clone(),
                send_back_addr: self.here.clone(),
            };
            self.crowd
                .on_swarm_event(FromSwarm::ConnectionClosed(ConnectionClosed {
                    peer_id: peer,
                    connection_id: id,
                    endpoint: &endpoint,
                    cause: None,
                    remaining_established: 0,
                }));
        }
    }

    fn door() -> Door {
        Door {
            crowd: Crowd::default(),
            next: 0,
            here: "/ip4/192.0.2.1/tcp/4001".parse().unwrap(),
        }
    }

    #[test]
    fn one_peer_has_few_connections_and_all_have_many() {
        let mut door = door();
        let peer = PeerId::random();
        let ids: Vec<_> = (0..WITH_ONE_PEER).map(|_| door.knock(peer).unwrap()).collect();
        assert!(door.knock(peer).is_err());
        door.leave(peer, ids[0]);
        assert!(door.knock(peer).is_ok());
        for _ in WITH_ONE_PEER..CONNECTIONS {
            door.knock(PeerId::random()).unwrap();
        }
        assert!(door.knock(PeerId::random()).is_err());
    }

    #[test]
    fn half_open_ones_are_few() {
        let mut door = door();
        let at = door.here.clone();
        for id in 1..=HALF_OPEN {
            let id = ConnectionId::new_unchecked(id);
            assert!(door.crowd.handle_pending_inbound_connection(id, &at, &at).is_ok());
        }
        let id = ConnectionId::new_unchecked(HALF_OPEN + 1);
        assert!(
            door.crowd
                .handle_pending_inbound_connection(id, &at, &at)
                .is_err()
        );
    }

    #[test]
    fn who_has_left_is_forgotten() {
        let mut door = door();
        for _ in 0..1000 {
            let peer = PeerId::random();
            let id = door.knock(peer).unwrap();
            door.leave(peer, id);
        }
        let Crowd {
            half_open,
            dials,
            established,
        } = door.crowd;
        assert_eq!((half_open.len(), dials.len(), established.len()), (0, 0, 0));
    }
}
