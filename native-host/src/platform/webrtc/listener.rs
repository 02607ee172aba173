//! One UDP socket, on which many peers are told apart by where they write from, and let in by their first check.

use std::collections::HashMap;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher as _;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kwaainet_p2p::webrtc::End;
use kwaainet_webrtc::stun::{Check, is_stun};
use tokio::net::UdpSocket;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::certificate::Certificate;
use super::connection::{Arrival, Arrivals, Connection, begin, now};
use super::hmac_sha1;

/// Peers that are on their way in; beyond, nobody new is let in.
pub(super) const HALF_OPEN: usize = 64;
/// New peers from one place: at once, and then each second. Many people can share an address.
const BURST: f64 = 32.0;
const PER_SECOND: f64 = 4.0;
/// Places that are told apart. Two that share a row share its tokens: memory stays the same, whoever asks.
const ROWS: usize = 1_024;
/// A dialler checks from each of its own addresses.
const MOST_ADDRESSES: usize = 16;

/// Somebody who has sent a proper check.
pub(super) struct Arrived {
    pub(super) connection: Connection,
    pub(super) from: SocketAddr,
    /// Held until it is known who it is.
    pub(super) permit: OwnedSemaphorePermit,
}

/// How many may come from where.
struct Door {
    hasher: RandomState,
    rows: Vec<(f64, Option<Instant>)>,
}

impl Door {
    fn new() -> Self {
        Self {
            hasher: RandomState::new(),
            rows: vec![(BURST, None); ROWS],
        }
    }

    fn lets_in(&mut self, from: IpAddr, now: Instant) -> bool {
        // Who has one address of IPv6, has 2^64 of them.
        let place = match from {
            IpAddr::V4(ip) => u64::from(u32::from(ip)),
            IpAddr::V6(ip) => match ip.to_ipv4_mapped() {
                Some(ip) => u64::from(u32::from(ip)),
                None => (u128::from(ip) >> 64) as u64,
            },
        };
        let row = self.hasher.hash_one(place) as usize % ROWS;
        let Some((tokens, seen)) = self.rows.get_mut(row) else {
            return false;
        };
        let passed = seen.map_or(Duration::ZERO, |seen| now.saturating_duration_since(seen));
        *tokens = (*tokens + passed.as_secs_f64() * PER_SECOND).min(BURST);
        *seen = Some(now);
        if *tokens < 1.0 {
            return false;
        }
        *tokens -= 1.0;
        true
    }
}

struct Entry {
    arrivals: Arrivals,
    addresses: usize,
}

/// Reads the socket until nobody wants to hear of peers any more.
pub(super) struct Listener {
    socket: Arc<UdpSocket>,
    certificate: Certificate,
    arrived: mpsc::UnboundedSender<Arrived>,
    half_open: Arc<Semaphore>,
    door: Door,
    by_address: HashMap<SocketAddr, Arrivals>,
    by_name: HashMap<String, Entry>,
}

impl Listener {
    pub(super) fn new(
        socket: UdpSocket,
        certificate: Certificate,
        arrived: mpsc::UnboundedSender<Arrived>,
    ) -> Self {
        Self {
            socket: Arc::new(socket),
            certificate,
            arrived,
            half_open: Arc::new(Semaphore::new(HALF_OPEN)),
            door: Door::new(),
            by_address: HashMap::new(),
            by_name: HashMap::new(),
        }
    }

    pub(super) async fn run(mut self) {
        let mut buffer = vec![0; 2_048];
        loop {
            let received = tokio::select! {
                received = self.socket.recv_from(&mut buffer) => received,
                () = self.arrived.closed() => return,
            };
            // An error is that of an earlier packet, which a machine refused.
            let Ok((length, from)) = received else { continue };
            let packet = buffer.get(..length).unwrap_or_default();
            if is_stun(packet) {
                self.check(packet, from);
            } else if let Some(arrivals) = self.by_address.get(&from) {
                // If its queue is full, the packet is lost, and sent again.
                let _ = arrivals.try_send(Arrival::Packet(packet.to_vec()));
            }
        }
    }

    fn check(&mut self, packet: &[u8], from: SocketAddr) {
        let Ok(check) = Check::parse(packet) else {
            return;
        };
        if !check.verified(&hmac_sha1) {
            return;
        }
        let name = format!("{}:{}", check.username.listener, check.username.dialler);
        if !self.knows(&name, from) && !self.let_in(name.clone(), from) {
            return;
        }
        let answer = check.answer(from, &hmac_sha1);
        // As with every packet of UDP: it is asked for again.
        let _ = self.socket.try_send_to(&answer, from);
        if let Some(entry) = self.by_name.get(&name) {
            let _ = entry.arrivals.try_send(Arrival::Check {
                from,
                chosen: check.nominates,
            });
        }
    }

    /// Whether a peer of this name is here, and may write from this address.
    fn knows(&mut self, name: &str, from: SocketAddr) -> bool {
        let Some(entry) = self.by_name.get_mut(name) else {
            return false;
        };
        if entry.arrivals.is_closed() {
            return false;
        }
        match self.by_address.get(&from) {
            Some(other) if !other.is_closed() => other.same_channel(&entry.arrivals),
            _ if entry.addresses < MOST_ADDRESSES => {
                entry.addresses = entry.addresses.saturating_add(1);
                self.by_address.insert(from, entry.arrivals.clone());
                true
            }
            _ => false,
        }
    }

    fn let_in(&mut self, name: String, from: SocketAddr) -> bool {
        // Who writes from an address in use does not take it over: he may only pretend to be there.
        let taken = |arrivals: &Arrivals| !arrivals.is_closed();
        if self.by_address.get(&from).is_some_and(taken)
            || self
                .by_name
                .get(&name)
                .is_some_and(|entry| taken(&entry.arrivals))
            || !self.door.lets_in(from.ip(), now())
        {
            return false;
        }
        let Ok(permit) = Arc::clone(&self.half_open).try_acquire_owned() else {
            return false;
        };
        // Whoever has left makes room.
        self.by_address.retain(|_, arrivals| taken(arrivals));
        self.by_name.retain(|_, entry| taken(&entry.arrivals));
        let begun = begin(&self.certificate, End::Listener, Arc::clone(&self.socket), from);
        let Some((connection, arrivals)) = begun else {
            return false;
        };
        self.by_address.insert(from, arrivals.clone());
        self.by_name.insert(
            name,
            Entry {
                arrivals,
                addresses: 1,
            },
        );
        let arrived = Arrived {
            connection,
            from,
            permit,
        };
        self.arrived.send(arrived).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn new_peers_from_one_place_are_limited_and_other_places_are_not() {
        let mut door = Door::new();
        let start = now();
        let place: IpAddr = "2001:db8::1".parse().unwrap();
        let admitted = (0..1_000_u16)
            .filter(|last| {
                let from = IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, *last]);
                door.lets_in(from, start)
            })
            .count();
        assert_eq!(admitted, BURST as usize);
        assert!(door.lets_in("192.0.2.1".parse().unwrap(), start));
        assert!(!door.lets_in(place, start + Duration::from_millis(200)));
        assert!(door.lets_in(place, start + Duration::from_millis(500)));
    }
}
