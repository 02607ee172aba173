//! What happens in the swarm, and what is made of it.

use kwaainet_network::Reach;
use libp2p::allow_block_list::NotAllowed;
use libp2p::core::ConnectedPoint;
use libp2p::core::transport::ListenerId;
use libp2p::multiaddr::Protocol;
use libp2p::swarm::{ListenError, SwarmEvent};
use libp2p::{Multiaddr, identify, kad, ping, relay};

use super::{Connection, Driver, root, why};
use crate::behaviour::{BehaviourEvent, KAD};
use crate::ids;
use crate::network::Nearest;
use crate::state::Connected;

/// Addresses that a peer may say it listens at.
const MOST_ADDRESSES: usize = 16;
/// Addresses of ours that lead through relays. Records have room for 8 addresses of all kinds.
const THROUGH_RELAYS: usize = 4;

impl Driver {
    pub(super) fn note(&mut self, event: SwarmEvent<BehaviourEvent>) {
        match event {
            SwarmEvent::ConnectionEstablished {
                peer_id: peer,
                connection_id,
                endpoint,
                ..
            } => {
                self.connections
                    .insert(connection_id, Connection { peer, endpoint });
                self.show(&peer);
                self.answer_dials(|_, dialled| dialled == peer, &Ok(()));
            }
            SwarmEvent::ConnectionClosed {
                peer_id,
                connection_id,
                num_established,
                ..
            } => {
                self.connections.remove(&connection_id);
                self.show(&peer_id);
                if num_established == 0 {
                    self.introduced.remove(&peer_id);
                    self.give_up(peer_id, "its relay is gone");
                    // Whoever waits for a round trip is told.
                    self.trips.retain(|(of, _)| *of != peer_id);
                }
            }
            SwarmEvent::OutgoingConnectionError {
                connection_id,
                peer_id,
                error,
            } => {
                let why = why(&error);
                if let Some(peer) = peer_id.filter(|peer| !self.swarm.is_connected(peer)) {
                    self.give_up(peer, &why);
                }
                self.answer_dials(|id, _| id == connection_id, &Err(why));
            }
            SwarmEvent::IncomingConnectionError {
                send_back_addr,
                error,
                peer_id,
                ..
            } => {
                let who = peer_id.map_or_else(|| source(&send_back_addr), |peer| peer.to_string());
                let refusal = match &error {
                    ListenError::Denied { cause } if cause.downcast_ref::<NotAllowed>().is_some() => {
                        "it is none of those who may connect".to_owned()
                    }
                    other => root(other),
                };
                self.shared
                    .lock()
                    .refusals
                    .note(format!("{who} was refused: {refusal}"));
            }
            SwarmEvent::NewListenAddr { listener_id, address } => self.listen(listener_id, address),
            // Where AutoNAT was answered. (Of the addresses through its relay a listener tells.)
            SwarmEvent::ExternalAddrConfirmed { address } if !ids::is_relayed(&address) => {
                let mut state = self.shared.lock();
                if state.ways.len() < 2 * MOST_ADDRESSES {
                    state.add_way(&address);
                }
            }
            SwarmEvent::ExpiredListenAddr { address, .. } => self.unlisten(&address),
            // A relay that vanishes takes the addresses with it that lead through it.
            SwarmEvent::ListenerClosed {
                listener_id,
                addresses,
                ..
            } => {
                for address in &addresses {
                    self.unlisten(address);
                }
                if let Some(places) = &mut self.places {
                    let lost = places.lost(listener_id);
                    self.place_lost(&lost);
                    self.ask_for_a_place();
                }
            }
            SwarmEvent::Behaviour(BehaviourEvent::Identify(event)) => self.identified(event),
            SwarmEvent::Behaviour(BehaviourEvent::Relay(event)) => self.relayed(&event),
            SwarmEvent::Behaviour(BehaviourEvent::Ping(ping::Event {
                peer,
                result: Ok(trip),
                ..
            })) => {
                for (_, reply) in self.trips.extract_if(.., |(of, _)| *of == peer) {
                    let _ = reply.send(trip);
                }
            }
            SwarmEvent::Behaviour(BehaviourEvent::Kad(kad::Event::OutboundQueryProgressed {
                id,
                result: kad::QueryResult::GetClosestPeers(result),
                stats,
                step,
            })) if step.last => self.found(id, result, &stats),
            _ => {}
        }
    }

    fn listen(&mut self, listener: ListenerId, address: Multiaddr) {
        if let Some((relay, at)) = ids::relay_of(&address) {
            // What a relay says of itself: not too much, and nothing that leads less far than the way on which we met.
            let mut met = self.connections.values().filter(|one| one.peer == relay);
            let leads = met.any(|one| ids::scope(one.endpoint.get_remote_address()) <= ids::scope(&at));
            let ways = self.shared.lock().ways.iter().filter(|way| way.rank.1).count();
            if !leads || ways >= THROUGH_RELAYS {
                return;
            }
            if let Some(places) = &mut self.places {
                places.given(listener);
            }
        }
        // libp2p's relay says its external addresses to those who have a place. Elsewhere it is for AutoNAT to tell which
        // address is one: nobody would try those that are known already, and DCUtR would have none to say.
        if self.swarm.behaviour().relay.is_enabled() {
            self.swarm.add_external_address(address.clone());
        }
        self.shared.lock().add_way(&address);
    }

    fn unlisten(&mut self, address: &Multiaddr) {
        self.swarm.remove_external_address(address);
        self.shared.lock().remove_way(address);
    }

    /// What is said of a peer: of several connections, the newest direct one is used.
    fn show(&mut self, theirs: &libp2p::PeerId) {
        let Some(peer) = ids::ours(theirs) else {
            return;
        };
        let all = self.connections.iter().filter(|(_, one)| one.peer == *theirs);
        let best = all.max_by_key(|(id, one)| (!one.endpoint.is_relayed(), **id));
        let mut state = self.shared.lock();
        let Some((_, Connection { endpoint, .. })) = best else {
            state.peers.remove(&peer);
            return;
        };
        let Some(address) = ids::address(endpoint.get_remote_address()) else {
            return;
        };
        let reach = if endpoint.is_relayed() {
            Reach::Relayed
        } else {
            Reach::Direct
        };
        let traffic = state.traffic(peer);
        let connected = Connected {
            address,
            reach,
            traffic,
        };
        state.peers.insert(peer, connected);
    }

    fn identified(&mut self, event: identify::Event) {
        match event {
            identify::Event::Received {
                peer_id,
                info,
                connection_id,
            } => {
                let relays = info.protocols.contains(&relay::HOP_PROTOCOL_NAME);
                self.learn(&peer_id, info);
                self.introduce(peer_id);
                if let Some(connection) = self.connections.get(&connection_id)
                    && let Some(places) = &mut self.places
                    && let ConnectedPoint::Dialer { address, .. } = &connection.endpoint
                    && relays
                    && !ids::is_relayed(address)
                    && places.met(peer_id, address.clone())
                {
                    self.rest = None;
                    self.ask_for_a_place();
                }
            }
            // It has moved, or has a place at a relay now.
            identify::Event::Pushed { peer_id, info, .. } => self.learn(&peer_id, info),
            identify::Event::Error { peer_id, .. } => self.introduce(peer_id),
            identify::Event::Sent { .. } => {}
        }
    }

    fn relayed(&mut self, event: &relay::Event) {
        let load = &mut self.shared.lock().relay;
        match event {
            relay::Event::ReservationReqAccepted { renewed: false, .. } => load.reservations += 1,
            relay::Event::ReservationClosed { .. } | relay::Event::ReservationTimedOut { .. } => {
                load.reservations = load.reservations.saturating_sub(1);
            }
            relay::Event::CircuitReqAccepted { .. } => load.circuits += 1,
            relay::Event::CircuitClosed { .. } => load.circuits = load.circuits.saturating_sub(1),
            _ => {}
        }
    }

    /// A peer says where it listens, on a connection that proves who it is. Only those who route are worth knowing.
    fn learn(&mut self, peer: &libp2p::PeerId, info: identify::Info) {
        if ids::ours(peer).is_none() || !info.protocols.contains(&KAD) {
            return;
        }
        for address in info.listen_addrs.into_iter().take(MOST_ADDRESSES) {
            self.swarm.behaviour_mut().kad.add_address(peer, address);
        }
    }

    fn found(&mut self, query: kad::QueryId, result: kad::GetClosestPeersResult, stats: &kad::QueryStats) {
        let Some(reply) = self.lookups.remove(&query) else {
            return;
        };
        let peers = match result {
            Ok(found) => found.peers,
            Err(kad::GetClosestPeersError::Timeout { peers, .. }) => peers,
        };
        let known = |info: kad::PeerInfo| {
            let addresses = info.addrs.iter().take(MOST_ADDRESSES).filter_map(ids::address);
            Some((ids::ours(&info.peer_id)?, addresses.collect()))
        };
        drop(reply.send(Nearest {
            peers: peers.into_iter().filter_map(known).collect(),
            requests: stats.num_requests(),
            failures: stats.num_failures(),
        }));
    }
}

/// Where somebody calls from, without the port, which is another each time.
fn source(address: &Multiaddr) -> String {
    let ip = address.iter().find_map(|part| match part {
        Protocol::Ip4(ip) => Some(ip.to_string()),
        Protocol::Ip6(ip) => Some(ip.to_string()),
        _ => None,
    });
    ip.unwrap_or_else(|| "somebody behind a relay".to_owned())
}
