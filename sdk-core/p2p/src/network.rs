//! [`P2p`]: the handle that the node holds.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Poll;
use std::time::Duration;

use futures::channel::{mpsc, oneshot};
use futures::future::{Either, poll_fn, ready, select};
use futures::stream::FuturesUnordered;
use futures::{SinkExt, StreamExt};
use kwaainet_network::{
    Address, Incoming, Keypair, MessageStream, Network, NetworkError, PeerId, PeerInfo, Protocol, RecordKey,
};
use kwaainet_platform::{BoxFuture, Clock, boxed};
use libp2p::StreamProtocol;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::Boxed;

use crate::driver::{Command, Driver};
use crate::ids;
use crate::records::{LONGEST_RECORD, RECORDS, RecordKeeper, RecordsMessage};
use crate::state::Shared;
use crate::streams::messages;

/// Runs a future to its end, beside everything else.
pub type Spawn = Arc<dyn Fn(BoxFuture<'static, ()>) + Send + Sync>;

/// Streams that a peer opened and nobody has taken yet, per protocol. What comes on top is dropped.
const UNTAKEN: usize = 64;
/// Peers that keep a record: as many as Kademlia's buckets are wide.
const KEEPERS: usize = 20;
/// Keepers that are asked at once.
const ASKED_AT_ONCE: usize = 10;
/// A keeper that has not answered by then is left out. It is three round trips to the other side of the world.
const KEEPER: Duration = Duration::from_secs(3);
/// A connection may be closing just when a stream is opened on it; the next attempt finds out.
const ATTEMPTS: usize = 3;

/// What a node is to be.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// Whether others may route through our table and give us records: for peers that can be dialled.
    pub serves: bool,
    /// Whether others may reserve a place to be reached through us (circuit relay v2).
    pub relays: bool,
    /// How long a connection without streams stays open.
    pub idle: Option<Duration>,
}

/// What a host lends.
pub struct Parts {
    /// Encrypted connections of every transport that it has, except for relayed ones.
    pub transport: Boxed<(libp2p::PeerId, StreamMuxerBox)>,
    /// Runs futures.
    pub spawn: Spawn,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Keeps records for others.
    pub keeper: Arc<dyn RecordKeeper>,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").finish_non_exhaustive()
    }
}

/// A node of the network. Clones are the same node; when the last is dropped, it leaves.
#[derive(Clone)]
pub struct P2p {
    pub(crate) peer: PeerId,
    pub(crate) shared: Arc<Shared>,
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) streams: libp2p_stream::Control,
    pub(crate) clock: Arc<dyn Clock>,
    keeper: Arc<dyn RecordKeeper>,
    spawn: Spawn,
}

impl std::fmt::Debug for P2p {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("P2p")
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

impl P2p {
    /// Joins with this key. The node runs until its handles are dropped.
    ///
    /// # Errors
    /// [`NetworkError::Closed`] if libp2p refuses the key or the transport.
    pub fn new(keypair: &Keypair, setup: &Setup, parts: Parts) -> Result<Self, NetworkError> {
        let (commands, orders) = mpsc::channel(64);
        let shared = Arc::new(Shared::default());
        let driver = Driver::new(
            keypair,
            setup,
            parts.transport,
            &parts.spawn,
            orders,
            Arc::clone(&shared),
        )?;
        let node = Self {
            peer: keypair.peer_id(),
            shared,
            commands,
            streams: driver.control(),
            clock: parts.clock,
            keeper: parts.keeper,
            spawn: parts.spawn,
        };
        (node.spawn)(boxed(driver.run()));
        if setup.serves {
            node.keep_records()?;
        }
        Ok(node)
    }

    /// Listens at an address (port 0 is any). It appears in [`Self::listening`] when it is bound.
    ///
    /// # Errors
    /// [`NetworkError::BadAddress`] if no transport can listen there.
    pub async fn listen(&self, address: Address) -> Result<(), NetworkError> {
        let at = ids::multiaddr(&address)?;
        let (reply, answer) = oneshot::channel();
        self.command(Command::Listen { at, reply }).await?;
        answer
            .await
            .map_err(|_| NetworkError::Closed)?
            .map_err(|_| NetworkError::BadAddress(address))
    }

    /// Where others can reach us as far as we know, each with our id at the end.
    pub fn listening(&self) -> Vec<Address> {
        let state = self.shared.lock();
        let whole = |at: &Address| Address::new(format!("{at}/p2p/{}", self.peer));
        state.listening.iter().filter_map(whole).collect()
    }

    /// Connects to peers that are known from elsewhere, and asks them for others. How many were reached.
    pub async fn bootstrap(&self, known: Vec<(PeerId, Address)>) -> usize {
        let dials: FuturesUnordered<_> = known
            .into_iter()
            .map(|(peer, address)| self.dial(peer, vec![address]))
            .collect();
        let reached = dials.filter(|dialled| ready(dialled.is_ok())).count().await;
        if reached > 0 {
            // A lookup of ourselves fills the table with our neighbourhood.
            let _ = self.closest(&self.peer.to_bytes()).await;
        }
        reached
    }

    pub(crate) async fn command(&self, command: Command) -> Result<(), NetworkError> {
        self.commands
            .clone()
            .send(command)
            .await
            .map_err(|_| NetworkError::Closed)
    }

    /// The peers nearest to a key, of those that can be found.
    async fn closest(&self, key: &[u8]) -> Result<Vec<(PeerId, Vec<Address>)>, NetworkError> {
        let (reply, answer) = oneshot::channel();
        self.command(Command::Closest {
            key: key.to_vec(),
            reply,
        })
        .await?;
        answer.await.map_err(|_| NetworkError::Closed)
    }

    /// Answers `/kwaainet/records/1` from now on.
    fn keep_records(&self) -> Result<(), NetworkError> {
        let mut incoming = self.serve(RECORDS)?;
        // The handles would keep the node alive from within.
        let (keeper, clock, spawn) = (
            Arc::clone(&self.keeper),
            Arc::clone(&self.clock),
            Arc::clone(&self.spawn),
        );
        (self.spawn)(boxed(async move {
            while let Some(stream) = incoming.next().await {
                let (keeper, clock) = (Arc::clone(&keeper), Arc::clone(&clock));
                spawn(boxed(async move {
                    // A peer that says nothing, or reads nothing, is not waited for.
                    let _ = within(&*clock, 4 * KEEPER, answer(stream, &*keeper)).await;
                }));
            }
        }));
        Ok(())
    }

    /// Asks one keeper one thing.
    async fn ask(
        &self,
        (peer, addresses): (PeerId, Vec<Address>),
        request: &RecordsMessage,
    ) -> Result<RecordsMessage, NetworkError> {
        let asking = async {
            self.dial(peer, addresses).await?;
            let mut stream = self.open(peer, RECORDS).await?;
            stream.sender.send(request.encode()).await?;
            let answer = stream.receiver.next().await.transpose()?;
            answer
                .as_deref()
                .and_then(RecordsMessage::answer)
                .ok_or_else(|| NetworkError::Broken {
                    peer,
                    reason: "its answer about records is none".to_owned(),
                })
        };
        within(&*self.clock, KEEPER, asking).await.unwrap_or_else(|| {
            Err(NetworkError::Unreachable {
                peer,
                reason: "it does not answer".to_owned(),
            })
        })
    }
}

/// One request of a peer.
async fn answer(mut stream: MessageStream, keeper: &dyn RecordKeeper) -> Option<()> {
    let request = stream.receiver.next().await?.ok()?;
    let answer = match RecordsMessage::request(&request)? {
        RecordsMessage::Store { key, record } => match keeper.put(stream.peer, key, record) {
            Ok(()) => RecordsMessage::Taken,
            Err(refused) => RecordsMessage::Refused(refused.0),
        },
        RecordsMessage::Find { key, limit } => RecordsMessage::Found(keeper.get(key, usize::from(limit))),
        _ => return None,
    };
    stream.sender.send(answer.encode()).await.ok()
}

/// `None` if it takes longer.
pub(crate) async fn within<T>(clock: &dyn Clock, time: Duration, work: impl Future<Output = T>) -> Option<T> {
    let work = std::pin::pin!(work);
    match select(work, clock.sleep(time)).await {
        Either::Left((done, _)) => Some(done),
        Either::Right(_) => None,
    }
}

/// Streams that libp2p offers, until nobody wants them any more.
type Accepted = Arc<Mutex<Option<libp2p_stream::IncomingStreams>>>;

fn lock(accepted: &Accepted) -> MutexGuard<'_, Option<libp2p_stream::IncomingStreams>> {
    accepted.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Streams {
    from: mpsc::Receiver<MessageStream>,
    accepted: Accepted,
    /// Ends the task that takes them.
    _open: oneshot::Sender<()>,
}

impl Incoming for Streams {
    fn next(&mut self) -> BoxFuture<'_, Option<MessageStream>> {
        boxed(self.from.next())
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        // From now on, and not when the task gets to it, the protocol may be served anew.
        drop(lock(&self.accepted).take());
    }
}

impl Network for P2p {
    fn local_peer(&self) -> PeerId {
        self.peer
    }

    fn peers(&self) -> Vec<PeerInfo> {
        self.shared.peers()
    }

    fn dial(&self, peer: PeerId, addresses: Vec<Address>) -> BoxFuture<'_, Result<(), NetworkError>> {
        boxed(async move {
            if self.shared.is_connected(peer) {
                return Ok(());
            }
            let unreachable = |reason: &str| NetworkError::Unreachable {
                peer,
                reason: reason.to_owned(),
            };
            let id = ids::theirs(peer).ok_or_else(|| unreachable("its id is none"))?;
            let at = addresses
                .iter()
                .map(ids::multiaddr)
                .collect::<Result<Vec<_>, _>>()?;
            let (reply, answer) = oneshot::channel();
            self.command(Command::Dial { peer: id, at, reply }).await?;
            let answer = answer.await.map_err(|_| NetworkError::Closed)?;
            answer.map_err(|reason| NetworkError::Unreachable { peer, reason })
        })
    }

    fn disconnect(&self, peer: PeerId) {
        if let Some(peer) = ids::theirs(peer) {
            // The queue is full only while much else is going on; then the caller may try again.
            let _ = self.commands.clone().try_send(Command::Disconnect { peer });
        }
    }

    fn open(&self, peer: PeerId, protocol: Protocol) -> BoxFuture<'_, Result<MessageStream, NetworkError>> {
        boxed(async move {
            let unreachable = |reason: String| NetworkError::Unreachable { peer, reason };
            let id = ids::theirs(peer).ok_or_else(|| unreachable("its id is none".to_owned()))?;
            let mut said = "it is not connected".to_owned();
            for _ in 0..ATTEMPTS {
                if self.shared.is_closed() {
                    return Err(NetworkError::Closed);
                }
                if !self.shared.is_connected(peer) {
                    break;
                }
                let traffic = self.shared.traffic(peer);
                let mut streams = self.streams.clone();
                match streams.open_stream(id, StreamProtocol::new(protocol.name)).await {
                    Ok(io) => return Ok(messages(peer, protocol, io, traffic, &self.spawn)),
                    Err(libp2p_stream::OpenStreamError::UnsupportedProtocol(_)) => {
                        return Err(NetworkError::NotSpoken {
                            peer,
                            protocol: protocol.name,
                        });
                    }
                    Err(error) => said = error.to_string(),
                }
            }
            Err(unreachable(said))
        })
    }

    fn serve(&self, protocol: Protocol) -> Result<Box<dyn Incoming>, NetworkError> {
        if self.shared.is_closed() {
            return Err(NetworkError::Closed);
        }
        let accepted = self
            .streams
            .clone()
            .accept(StreamProtocol::new(protocol.name))
            .map_err(|_| NetworkError::AlreadyServed(protocol.name))?;
        let accepted: Accepted = Arc::new(Mutex::new(Some(accepted)));
        let (mut to, from) = mpsc::channel(UNTAKEN);
        let (open, mut closed) = oneshot::channel();
        let streams = Streams {
            from,
            accepted: Arc::clone(&accepted),
            _open: open,
        };
        let (shared, spawn) = (Arc::clone(&self.shared), Arc::clone(&self.spawn));
        // libp2p drops streams that are not taken at once, so they are taken here.
        (self.spawn)(boxed(async move {
            loop {
                let next = poll_fn(|cx| match &mut *lock(&accepted) {
                    Some(streams) => streams.poll_next_unpin(cx),
                    None => Poll::Ready(None),
                });
                let Either::Left((Some((peer, io)), _)) = select(next, &mut closed).await else {
                    break;
                };
                let Some(peer) = ids::ours(&peer) else { continue };
                let traffic = shared.traffic(peer);
                // A peer that opens more than anybody takes loses them.
                drop(to.try_send(messages(peer, protocol, io, traffic, &spawn)));
            }
        }));
        Ok(Box::new(streams))
    }

    fn publish(&self, key: RecordKey, record: Vec<u8>) -> BoxFuture<'_, Result<(), NetworkError>> {
        boxed(async move {
            let (bytes, limit) = (record.len() as u64, LONGEST_RECORD);
            if record.len() > limit {
                return Err(NetworkError::TooLong {
                    bytes,
                    limit,
                    protocol: RECORDS.name,
                });
            }
            let keepers = self.closest(&key.0).await?;
            let request = RecordsMessage::Store { key, record };
            let asked: FuturesUnordered<_> = keepers
                .into_iter()
                .take(KEEPERS)
                .map(|keeper| self.ask(keeper, &request))
                .collect();
            let answers: Vec<_> = asked.collect().await;
            let mut refused = "nobody is there".to_owned();
            for answer in answers {
                match answer {
                    Ok(RecordsMessage::Taken) => return Ok(()),
                    Ok(RecordsMessage::Refused(reason)) => refused = reason,
                    Ok(_) => {}
                    Err(error) => refused = error.to_string(),
                }
            }
            Err(NetworkError::Busy(format!("no peer keeps the record: {refused}")))
        })
    }

    fn find(&self, key: RecordKey, limit: usize) -> BoxFuture<'_, Result<Vec<Vec<u8>>, NetworkError>> {
        boxed(async move {
            let keepers = self.closest(&key.0).await?;
            let own = self.keeper.get(key, limit);
            if keepers.is_empty() && own.is_empty() {
                return Err(NetworkError::Busy("no peer can be asked".to_owned()));
            }
            let request = RecordsMessage::Find {
                key,
                limit: u8::try_from(limit).unwrap_or(u8::MAX),
            };
            let asked = keepers
                .into_iter()
                .take(KEEPERS)
                .map(|keeper| self.ask(keeper, &request));
            let mut answers = std::pin::pin!(futures::stream::iter(asked).buffer_unordered(ASKED_AT_ONCE));
            let mut found = own;
            while found.len() < limit
                && let Some(answer) = answers.next().await
            {
                let Ok(RecordsMessage::Found(records)) = answer else {
                    continue;
                };
                for record in records {
                    if !found.contains(&record) {
                        found.push(record);
                    }
                }
            }
            found.truncate(limit);
            Ok(found)
        })
    }
}
