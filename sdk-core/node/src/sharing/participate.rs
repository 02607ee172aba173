//! Taking part in the network of peers for as long as the visitor helps others.

use std::sync::Arc;
use std::time::Duration;

use futures::future::{Either, join, join_all, select};
use kwaainet_network::swarm::Limits;
use kwaainet_network::{Address, Keypair, Network, NetworkError, PeerId, Reach};
use kwaainet_platform::{BoxFuture, MaybeSend, MaybeSync};
use kwaainet_types::{Event, HelpOthers, NetworkState, NetworkStatus, Origin, PeerStatus, Permit, Via};

use super::PeerAddr;
use crate::NodeError;
use crate::cancel::Cancel;
use crate::core::{KwaaiNetCore, lock};

/// How often peers are looked at, and so how often changes are told.
const LOOK: Duration = Duration::from_secs(1);
/// After nobody could be reached, or the network ended: so long, twice as long each time.
const RETRY: Duration = Duration::from_secs(2);
const LONGEST_RETRY: Duration = Duration::from_secs(60);
/// What was lent ends when the catalogue cannot be had; it is tried again after this.
const LEND_AGAIN: Duration = Duration::from_secs(30);
/// So long a download waits for a network that is being joined, which takes about a second.
const PATIENCE: Duration = Duration::from_secs(3);
/// Whoever asks to join learns after this that it takes longer.
const JOIN: Duration = Duration::from_secs(15);
/// What a visitor's device sends to all peers together: 2 MiB a second, about half of what a common line at home sends.
const LENT: Limits = Limits {
    streams: 8,
    streams_per_peer: 2,
    bytes_per_second: Some(2 << 20),
};

/// Starts a network when a node needs one: in a browser a worker with libp2p in it.
pub trait NetworkHost: MaybeSend + MaybeSync {
    /// Begins to take part with this key. Dropping the network ends that.
    ///
    /// Peers other than the known ones are neither called directly nor shown an address: the known ones relay.
    ///
    /// # Errors
    /// A sentence that says why there is none.
    fn start<'a>(
        &'a self,
        keypair: &'a Keypair,
        known: &'a [(PeerId, Address)],
    ) -> BoxFuture<'a, Result<Arc<dyn Network>, String>>;
}

/// What was asked of the node, and what became of it.
#[derive(Debug, Default)]
pub(crate) struct Participation {
    /// Peers that are called beside those of the configuration.
    asked: Vec<PeerAddr>,
    /// Somebody asked to leave.
    left: bool,
    state: NetworkState,
    reason: Option<String>,
    /// Thrown when what is wanted may have changed.
    wanted_anew: Cancel,
    /// Thrown when the state has changed.
    told: Cancel,
}

impl KwaaiNetCore {
    /// Joins the network of peers whenever the visitor helps others and somebody is known to call, lends the models that
    /// are here meanwhile, and leaves when that ends. To be polled for as long as the node lives.
    pub async fn take_part(&self, host: &dyn NetworkHost) {
        // Where the store fails, whoever asks for anything is told so; nothing is in force then.
        let _ = self.start().await;
        let mut pause = RETRY;
        loop {
            let changed = lock(&self.participation).wanted_anew.clone();
            let Some(peers) = self.whom_to_call() else {
                self.say_state(NetworkState::Off, None);
                changed.cancelled().await;
                pause = RETRY;
                continue;
            };
            self.say_state(NetworkState::Joining, None);
            let ended = {
                let taking_part = std::pin::pin!(self.take_part_once(host, &peers));
                let changed = std::pin::pin!(changed.cancelled());
                match select(taking_part, changed).await {
                    Either::Left((reason, _)) => Some(reason),
                    Either::Right(_) => None,
                }
            };
            self.set_network(None);
            let Some(reason) = ended else {
                continue;
            };
            self.say_state(NetworkState::Off, Some(reason));
            let again = std::pin::pin!(self.platform.clock.sleep(pause));
            pause = (pause * 2).min(LONGEST_RETRY);
            select(again, std::pin::pin!(changed.cancelled())).await;
        }
    }

    /// Joins, also after [`Self::leave_network`], and waits until somebody is connected.
    pub(crate) async fn ask_to_join(&self, peers: Vec<String>) -> Result<(), NodeError> {
        let permit = self.permit::<HelpOthers>()?;
        let peers: Vec<_> = peers.into_iter().map(PeerAddr).collect();
        for peer in &peers {
            peer.parse()?;
        }
        if lock(&self.participation).state == NetworkState::Joined && !peers.is_empty() {
            self.join_network(&permit, peers).await?;
            return Ok(());
        }
        if peers.is_empty() && self.config().bootstrap.is_empty() {
            return Err(NodeError::BadRequest(
                "nobody is known to call: give the address of a peer, as `kwaainet peer` prints it"
                    .to_owned(),
            ));
        }
        let first = {
            let mut wish = lock(&self.participation);
            let changes = wish.left || wish.asked != peers && !peers.is_empty();
            wish.left = false;
            if !peers.is_empty() {
                wish.asked = peers;
            }
            changes.then(|| std::mem::take(&mut wish.wanted_anew))
        };
        if let Some(changed) = first {
            // What went wrong before says nothing of this time.
            self.say_state(NetworkState::Joining, None);
            changed.cancel();
        }
        let joined = std::pin::pin!(self.until_decided());
        match select(joined, std::pin::pin!(self.platform.clock.sleep(JOIN))).await {
            Either::Left((outcome, _)) => outcome,
            Either::Right(_) => Err(no_network("it takes longer than usual; it goes on by itself")),
        }
    }

    /// Waits a moment for a network that is being joined: what peers have need not be asked of a server.
    pub(crate) async fn wait_to_join(&self) {
        if self.whom_to_call().is_some() {
            let late = std::pin::pin!(self.platform.clock.sleep(PATIENCE));
            // Whether it is joined shows.
            let _ = select(std::pin::pin!(self.until_decided()), late).await;
        }
    }

    async fn until_decided(&self) -> Result<(), NodeError> {
        loop {
            let told = {
                let now = lock(&self.participation);
                match (now.state, &now.reason) {
                    (NetworkState::Joined, _) => return Ok(()),
                    (_, Some(reason)) => return Err(no_network(reason)),
                    _ => now.told.clone(),
                }
            };
            told.cancelled().await;
        }
    }

    /// Leaves, until asked to join again.
    pub(crate) fn leave_network(&self) {
        let mut wish = lock(&self.participation);
        wish.left = true;
        wish.asked.clear();
        std::mem::take(&mut wish.wanted_anew).cancel();
    }

    /// Consent or configuration are other ones.
    pub(crate) fn reconsider_network(&self) {
        std::mem::take(&mut lock(&self.participation).wanted_anew).cancel();
    }

    /// The node among others. Addresses of peers are not for sites.
    pub fn network_status(&self, origin: Origin) -> NetworkStatus {
        let member = lock(&self.member).clone();
        let now = lock(&self.participation);
        let (peer, peers) = member.map_or_else(Default::default, |member| {
            let with_address = origin != Origin::Site;
            let peers = member.network.peers().into_iter();
            let told = peers.map(|info| PeerStatus {
                peer: info.peer.to_string(),
                via: via(info.address.as_str(), info.reach),
                address: with_address.then(|| info.address.to_string()),
                sent: info.sent,
                received: info.received,
            });
            (Some(member.network.local_peer().to_string()), told.collect())
        });
        NetworkStatus {
            state: now.state,
            reason: now.reason.clone(),
            peer,
            peers,
        }
    }

    /// Nobody, if the node is to keep out.
    fn whom_to_call(&self) -> Option<Vec<(PeerId, Address)>> {
        self.permit::<HelpOthers>().ok()?;
        let wish = lock(&self.participation);
        let configured = self.config().bootstrap.into_iter().map(PeerAddr);
        let peers = wish.asked.iter().cloned().chain(configured);
        let peers: Vec<_> = peers.filter_map(|peer| peer.parse().ok()).collect();
        (!wish.left && !peers.is_empty()).then_some(peers)
    }

    /// Ends with the reason.
    async fn take_part_once(&self, host: &dyn NetworkHost, peers: &[(PeerId, Address)]) -> String {
        // A key for this visit: nobody can tell that it is the same visitor who comes back.
        let mut seed = [0; 32];
        self.platform.random.fill(&mut seed);
        let keypair = Keypair::from_seed(seed);
        let network = match host.start(&keypair, peers).await {
            Ok(network) => network,
            Err(reason) => return reason,
        };
        self.set_network(Some((Arc::clone(&network), keypair)));
        let working = std::pin::pin!(join(self.lend_on(), self.tell_on()));
        let connected = std::pin::pin!(self.stay_connected(&*network, peers));
        match select(connected, working).await {
            Either::Left((reason, _)) | Either::Right(((_, reason), _)) => reason,
        }
    }

    /// Calls the known peers whenever nobody is connected.
    async fn stay_connected(&self, network: &dyn Network, peers: &[(PeerId, Address)]) -> String {
        let mut pause = RETRY;
        loop {
            if network.peers().is_empty() {
                match call(network, peers).await {
                    Ok(()) => pause = RETRY,
                    Err(NetworkError::Closed) => return "the network ended unexpectedly".to_owned(),
                    Err(error) => {
                        self.say_state(NetworkState::Joining, Some(error.to_string()));
                        self.platform.clock.sleep(pause).await;
                        pause = (pause * 2).min(LONGEST_RETRY);
                        continue;
                    }
                }
            }
            self.say_state(NetworkState::Joined, None);
            self.platform.clock.sleep(LOOK).await;
        }
    }

    async fn lend_on(&self) {
        loop {
            if let Ok(permit) = self.permit() {
                // What the catalogue or the store says now, it may not say the next time.
                let _ = self.lend_models(&permit, LENT).await;
            }
            self.platform.clock.sleep(LEND_AGAIN).await;
        }
    }

    /// Tells everybody when something has changed. Ends when the consent does by itself.
    async fn tell_on(&self) -> String {
        let mut before = NetworkStatus::default();
        loop {
            let status = self.network_status(Origin::Site);
            if status != before {
                self.announce(&Event::NetworkChanged {
                    network: status.clone(),
                });
                before = status;
            }
            self.platform.clock.sleep(LOOK).await;
            let permit: Result<Permit<HelpOthers>, _> = self.permit();
            if let Err(error) = permit {
                return error.to_string();
            }
        }
    }

    fn say_state(&self, state: NetworkState, reason: Option<String>) {
        {
            let mut now = lock(&self.participation);
            if now.state == state && now.reason == reason {
                return;
            }
            now.state = state;
            now.reason = reason;
            std::mem::take(&mut now.told).cancel();
        }
        self.announce(&Event::NetworkChanged {
            network: self.network_status(Origin::Site),
        });
    }
}

async fn call(network: &dyn Network, peers: &[(PeerId, Address)]) -> Result<(), NetworkError> {
    let dialled = peers
        .iter()
        .map(|(peer, address)| network.dial(*peer, vec![address.clone()]));
    // Whom nobody could call is as gone as a network that ended.
    let mut failed = NetworkError::Closed;
    for outcome in join_all(dialled).await {
        match outcome {
            Ok(()) => return Ok(()),
            Err(error) => failed = error,
        }
    }
    Err(failed)
}

fn no_network(reason: &str) -> NodeError {
    NodeError::Network {
        what: "the network of peers".to_owned(),
        reason: reason.to_owned(),
    }
}

/// By the parts of the address: <https://github.com/multiformats/multiaddr/blob/master/protocols.csv>.
fn via(address: &str, reach: Reach) -> Via {
    if reach == Reach::Relayed {
        return Via::Relayed;
    }
    let has = |names: &[&str]| address.split('/').any(|part| names.contains(&part));
    if has(&["webrtc", "webrtc-direct"]) {
        Via::WebRtc
    } else if has(&["ws", "wss"]) {
        Via::WebSocket
    } else if has(&["quic-v1"]) {
        Via::Quic
    } else if has(&["tcp"]) {
        Via::Tcp
    } else {
        Via::Other
    }
}
