//! What makes connections direct: finding out where others reach us, and opening two routers at the same moment.

use std::time::Duration;

use libp2p::swarm::NetworkBehaviour;
use libp2p::swarm::behaviour::toggle::Toggle;
use libp2p::{PeerId, autonat, dcutr};

use crate::calls_back::CallsBack;
use crate::network::{Contact, Setup};

/// Addresses at which others say they see us are tried this often, while any is untried.
const PROBE: Duration = Duration::from_secs(10);

#[derive(NetworkBehaviour)]
pub(crate) struct Direct {
    /// Asks relays to call us where others say they see us (AutoNAT v2). What answers is one of our addresses.
    seen: Toggle<autonat::v2::client::Behaviour>,
    /// Calls others back, who ask the same. Relays do: they are reached by everybody, so that they can tell.
    calls_back: Toggle<CallsBack>,
    /// Makes a relayed connection a direct one (DCUtR).
    punches: Toggle<dcutr::Behaviour>,
}

impl Direct {
    pub(crate) fn new(peer: PeerId, setup: &Setup) -> Self {
        // A source of randomness of its own: nonces need not be reproducible, and no test depends on them.
        let seen = (setup.contact == Contact::Open && !setup.relays).then(|| {
            let config = autonat::v2::client::Config::default().with_probe_interval(PROBE);
            autonat::v2::client::Behaviour::new(Default::default(), config)
        });
        let punches = (setup.contact != Contact::Relayed).then(|| dcutr::Behaviour::new(peer));
        Self {
            seen: seen.into(),
            calls_back: setup.relays.then(CallsBack::default).into(),
            punches: punches.into(),
        }
    }
}
