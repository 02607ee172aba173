//! A place at a relay, kept for as long as the node runs: asked for again when it is lost, at another relay where there
//! is one. Renewing it in time is libp2p's part.

use std::collections::VecDeque;

use libp2p::core::transport::ListenerId;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};

use crate::ids::without_peer;

/// Relays that are remembered.
const KNOWN: usize = 16;

/// Where places are asked for, and the one that is had or asked for.
#[derive(Debug, Default)]
pub(crate) struct Places {
    /// The next to be asked is in front.
    known: VecDeque<(PeerId, Multiaddr)>,
    place: Option<ListenerId>,
    /// Relays that have not given a place since one did.
    refused: usize,
}

/// What to do when a place is lost.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// It was none of ours.
    Nothing,
    /// Another relay may have one.
    AskNext,
    /// Nobody has one: ask again after a while.
    Rest,
}

impl Places {
    /// A relay was met at an address that is known to lead to it. Whether it is new.
    pub(crate) fn met(&mut self, relay: PeerId, at: Multiaddr) -> bool {
        if self.known.len() >= KNOWN || self.known.iter().any(|(known, _)| *known == relay) {
            return false;
        }
        // Before those that have refused.
        self.known.push_front((relay, without_peer(at)));
        true
    }

    /// Where to listen now, if a place is wanted and somebody may have one.
    pub(crate) fn next(&mut self) -> Option<Multiaddr> {
        if self.place.is_some() {
            return None;
        }
        let (relay, at) = self.known.pop_front()?;
        self.known.push_back((relay, at.clone()));
        Some(at.with(Protocol::P2p(relay)).with(Protocol::P2pCircuit))
    }

    /// A place was asked for.
    pub(crate) fn asked(&mut self, place: ListenerId) {
        self.place = Some(place);
    }

    /// Somebody can be reached through a listener.
    pub(crate) fn given(&mut self, place: ListenerId) {
        if self.place == Some(place) {
            self.refused = 0;
        }
    }

    /// A listener has ended.
    pub(crate) fn lost(&mut self, place: ListenerId) -> Lost {
        if self.place != Some(place) {
            return Lost::Nothing;
        }
        self.place = None;
        self.refused()
    }

    /// The next relay could not even be asked.
    pub(crate) fn refused(&mut self) -> Lost {
        self.refused += 1;
        if self.refused < self.known.len() {
            return Lost::AskNext;
        }
        self.refused = 0;
        Lost::Rest
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_relay_is_asked_before_any_is_asked_again() {
        let mut places = Places::default();
        assert_eq!(places.next(), None, "nobody is known");
        let relays: Vec<_> = (0..3).map(|_| PeerId::random()).collect();
        let at: Multiaddr = "/ip4/192.0.2.1/tcp/4001".parse().unwrap();
        for relay in &relays {
            assert!(places.met(*relay, at.clone().with(Protocol::P2p(*relay))));
            assert!(!places.met(*relay, at.clone()), "it is known");
        }
        let mut asked = vec![];
        for round in 0..3 {
            let next = places.next().unwrap();
            assert!(next.to_string().starts_with("/ip4/192.0.2.1/tcp/4001/p2p/"));
            let place = ListenerId::next();
            places.asked(place);
            assert_eq!(places.next(), None, "one is enough");
            assert_eq!(places.lost(ListenerId::next()), Lost::Nothing);
            let next_step = if round < 2 { Lost::AskNext } else { Lost::Rest };
            assert_eq!(places.lost(place), next_step);
            assert!(!asked.contains(&next));
            asked.push(next);
        }
        // One that is given makes all worth asking again.
        let place = ListenerId::next();
        assert_eq!(places.next().as_ref(), asked.first());
        places.asked(place);
        places.given(place);
        assert_eq!(places.lost(place), Lost::AskNext);
        // Strangers are many.
        for _ in 0..100 {
            places.met(PeerId::random(), at.clone());
        }
        assert_eq!(places.known.len(), KNOWN);
    }
}
