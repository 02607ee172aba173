//! What a node needs of its peers, as messages: streams, records, and the plans that are made from them.
//!
//! It must not know a transport, a runtime or a socket; `kwaainet-p2p` brings libp2p behind the trait [`Network`], and
//! [`MemoryNetwork`] is a network of a hundred nodes in one test. The entry type is [`Network`]:
//!
//! ```
//! use kwaainet_network::{Keypair, MemoryHub, Network};
//! let hub = MemoryHub::default();
//! let node = hub.join(&Keypair::from_seed([1; 32]));
//! assert_eq!(node.local_peer(), Keypair::from_seed([1; 32]).peer_id());
//! ```

pub mod bitswap;
mod error;
mod identity;
mod memory;
mod network;
mod protobuf;
pub mod record;
pub mod remote;
pub mod route;
pub mod swarm;

pub use error::NetworkError;
pub use identity::{Keypair, PeerId, PeerIdError, Signature};
pub use memory::{MemoryHub, MemoryNetwork};
pub use network::{
    Address, Incoming, MessageReceiver, MessageSender, MessageStream, Network, PeerInfo, Protocol, Reach,
    RecordKey,
};
