//! The node among others: who is connected, which models it lends, and who lends what it lacks.

mod find;
mod lend;
mod participate;

use std::sync::Arc;

use futures::future::join_all;
use kwaainet_network::bitswap::Exchange;
use kwaainet_network::{Address, Keypair, Network, PeerId, PeerInfo};
use kwaainet_types::{HelpOthers, Permit};

use crate::NodeError;
use crate::core::{KwaaiNetCore, lock};

pub use participate::NetworkHost;
pub(crate) use participate::Participation;

/// Address of a peer, with its id at the end: `/ip4/203.0.113.7/tcp/4001/p2p/12D3KooW…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerAddr(pub String);

impl PeerAddr {
    /// Who it is, and where.
    ///
    /// # Errors
    /// [`NodeError::BadRequest`] that says how such an address looks.
    pub fn parse(&self) -> Result<(PeerId, Address), NodeError> {
        let parsed = Address::new(self.0.as_str()).and_then(|address| address.split_peer());
        parsed.ok_or_else(|| {
            NodeError::BadRequest(format!(
                "{:?} is no address of a peer: write one as in /ip4/203.0.113.7/tcp/4001/ws/p2p/12D3KooW…, as \
                 `kwaainet peer` prints it",
                self.0.chars().take(100).collect::<String>()
            ))
        })
    }
}

/// The network, and who this node is in it.
#[derive(Clone)]
pub(crate) struct Member {
    network: Arc<dyn Network>,
    /// Signs what this node offers.
    keypair: Keypair,
    /// Hears what peers of IPFS say.
    exchange: Exchange,
}

impl KwaaiNetCore {
    /// Gives the node a network that it has joined with this key, or takes it away.
    ///
    /// Nothing is said on it without consent to help others.
    pub fn set_network(&self, network: Option<(Arc<dyn Network>, Keypair)>) {
        *lock(&self.member) = network.map(|(network, keypair)| Member {
            exchange: Exchange::new(Arc::clone(&network), Arc::clone(&self.platform.clock)),
            network,
            keypair,
        });
    }

    /// Connects to peers that are known from elsewhere. How many of them are connected then.
    ///
    /// # Errors
    /// [`NodeError::BadRequest`] for what is no address, before anybody is called; [`NodeError::Unsupported`] without a
    /// network; [`NodeError::Network`] when there were some, and none can be reached.
    pub async fn join_network(
        &self,
        _permit: &Permit<HelpOthers>,
        peers: Vec<PeerAddr>,
    ) -> Result<usize, NodeError> {
        let known: Vec<_> = peers.iter().map(PeerAddr::parse).collect::<Result<_, _>>()?;
        let member = self.member()?;
        let dial = |(peer, address)| member.network.dial(peer, vec![address]);
        let dialled = join_all(known.into_iter().map(dial)).await;
        let reached = dialled.iter().filter(|outcome| outcome.is_ok()).count();
        match dialled.into_iter().find_map(Result::err) {
            Some(error) if reached == 0 => Err(NodeError::Network {
                what: "the network of peers".to_owned(),
                reason: error.to_string(),
            }),
            _ => Ok(reached),
        }
    }

    /// Everybody who is connected; nobody without a network.
    pub fn peers(&self) -> Vec<PeerInfo> {
        let member = lock(&self.member).clone();
        member.map_or_else(Vec::new, |member| member.network.peers())
    }

    fn member(&self) -> Result<Member, NodeError> {
        lock(&self.member)
            .clone()
            .ok_or_else(|| NodeError::Unsupported("this node has no network of peers".to_owned()))
    }
}
