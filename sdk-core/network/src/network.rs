//! The network as the node sees it.

use std::fmt;

use kwaainet_platform::{BoxFuture, MaybeSend, MaybeSync};

use crate::{NetworkError, PeerId};

/// The longest address that is looked at.
const LONGEST_ADDRESS: usize = 256;

/// Where a peer can be reached: a multiaddr in text, of at most 256 bytes. Only a transport reads what it says.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Address(String);

impl Address {
    /// Takes an address; `None` if it is longer than any real one, or does not begin with `/`.
    pub fn new(text: impl Into<String>) -> Option<Self> {
        let text = text.into();
        (text.len() <= LONGEST_ADDRESS && text.starts_with('/')).then_some(Self(text))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The peer that the address ends with, and the address without it.
    ///
    /// ```
    /// use kwaainet_network::{Address, Keypair};
    /// let peer = Keypair::from_seed([3; 32]).peer_id();
    /// let whole = Address::new(format!("/ip4/127.0.0.1/tcp/4001/p2p/{peer}")).unwrap();
    /// assert_eq!(whole.split_peer(), Some((peer, Address::new("/ip4/127.0.0.1/tcp/4001").unwrap())));
    /// ```
    pub fn split_peer(&self) -> Option<(PeerId, Self)> {
        let (rest, peer) = self.0.rsplit_once("/p2p/")?;
        Some((peer.parse().ok()?, Self::new(rest)?))
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What two peers say to each other on a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Protocol {
    /// Its name on the wire, for example `/kwaainet/chunk/1`.
    pub name: &'static str,
    /// The longest message in bytes, which is checked before anything is allocated.
    pub longest: usize,
}

/// Under which a record is kept: a hash, so that keys spread over the network.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RecordKey(pub [u8; 32]);

impl fmt::Debug for RecordKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, ..] = self.0;
        write!(f, "RecordKey({a:02x}{b:02x}{c:02x}{d:02x}…)")
    }
}

/// How a peer is reached, for people to see.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reach {
    /// A connection of its own: it sees our address.
    Direct,
    /// Through a relay, which sees how much is said and not what.
    Relayed,
}

/// A peer that is connected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerInfo {
    /// Who.
    pub peer: PeerId,
    /// Where, as the transport sees it.
    pub address: Address,
    /// How.
    pub reach: Reach,
    /// Bytes of messages sent to it since the connection began.
    pub sent: u64,
    /// Bytes of messages received from it since the connection began.
    pub received: u64,
}

/// A stream of messages to one peer, and from it. Either half may be dropped; the other goes on.
pub struct MessageStream {
    /// Who is at the other end, as the handshake proved.
    pub peer: PeerId,
    /// Towards the peer.
    pub sender: Box<dyn MessageSender>,
    /// From the peer.
    pub receiver: Box<dyn MessageReceiver>,
}

impl fmt::Debug for MessageStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MessageStream")
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

/// Sends messages. Dropping it says that no more will come.
pub trait MessageSender: MaybeSend {
    /// Hands one message over, and waits while the peer reads slower than we send.
    ///
    /// Dropping the future breaks the stream if the message was begun; it is never seen cut in two.
    ///
    /// # Errors
    /// If the message is longer than the protocol allows, or the stream broke.
    fn send(&mut self, message: Vec<u8>) -> BoxFuture<'_, Result<(), NetworkError>>;
}

/// Receives messages.
pub trait MessageReceiver: MaybeSend {
    /// The next message; `None` when the peer said that no more will come. After an error there is nothing more.
    fn next(&mut self) -> BoxFuture<'_, Option<Result<Vec<u8>, NetworkError>>>;
}

/// Streams that peers open. Dropping it stops serving the protocol.
pub trait Incoming: MaybeSend {
    /// The next stream; `None` when the node has left the network.
    fn next(&mut self) -> BoxFuture<'_, Option<MessageStream>>;
}

/// A network of peers: libp2p in earnest (`kwaainet-p2p`), a [`MemoryHub`](crate::MemoryHub) in tests.
///
/// Every method may be called from several tasks at once; dropping a future ends what it began.
pub trait Network: MaybeSend + MaybeSync {
    /// Who we are.
    fn local_peer(&self) -> PeerId;

    /// Where others can reach us as far as we know, each ending with our id. Nowhere, for a node that only dials.
    fn addresses(&self) -> Vec<Address>;

    /// Everybody who is connected.
    fn peers(&self) -> Vec<PeerInfo>;

    /// Connects to a peer at one of these addresses, or does nothing if it is connected.
    ///
    /// # Errors
    /// [`NetworkError::Unreachable`], [`NetworkError::BadAddress`], [`NetworkError::Busy`], [`NetworkError::Closed`].
    fn dial(&self, peer: PeerId, addresses: Vec<Address>) -> BoxFuture<'_, Result<(), NetworkError>>;

    /// Ends the connection to a peer, and all its streams.
    fn disconnect(&self, peer: PeerId);

    /// Opens a stream to a connected peer.
    ///
    /// # Errors
    /// [`NetworkError::Unreachable`] if it is not connected, [`NetworkError::NotSpoken`], [`NetworkError::Busy`],
    /// [`NetworkError::Closed`].
    fn open(&self, peer: PeerId, protocol: Protocol) -> BoxFuture<'_, Result<MessageStream, NetworkError>>;

    /// Serves a protocol from now on.
    ///
    /// # Errors
    /// [`NetworkError::AlreadyServed`], [`NetworkError::Closed`].
    fn serve(&self, protocol: Protocol) -> Result<Box<dyn Incoming>, NetworkError>;

    /// Gives a record to the peers that are nearest to the key. A newer record of the same publisher replaces it.
    ///
    /// # Errors
    /// If nobody took it.
    fn publish(&self, key: RecordKey, record: Vec<u8>) -> BoxFuture<'_, Result<(), NetworkError>>;

    /// Records under a key, at most `limit`, in no order. They are as foreign as the peers that they came from.
    ///
    /// # Errors
    /// If nobody could be asked. That nothing is known is no error.
    fn find(&self, key: RecordKey, limit: usize) -> BoxFuture<'_, Result<Vec<Vec<u8>>, NetworkError>>;
}
