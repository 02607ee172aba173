//! [`P2p`]: the handle that the node holds.

use core::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::channel::{mpsc, oneshot};
use futures::future::{Either, ready, select};
use futures::stream::FuturesUnordered;
use futures::{SinkExt, StreamExt};
use kwaainet_network::record::{LONGEST_RECORD, RECORDS, RecordsMessage};
use kwaainet_network::{
    Address, Incoming, Keypair, MessageStream, Network, NetworkError, PeerId, PeerInfo, Protocol, RecordKey,
};
use kwaainet_platform::{BoxFuture, Clock, Random, boxed};
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::Boxed;

use crate::driver::{Command, Dial, Driver};
use crate::ids;
use crate::records::Keeper;
use crate::state::{RelayLoad, Shared, Way};
use crate::streams::messages;
use crate::substreams::{Opened, Served};

/// Runs a future to its end, beside everything else.
pub type Spawn = Arc<dyn Fn(BoxFuture<'static, ()>) + Send + Sync>;

/// Peers that keep a record: as many as Kademlia's buckets are wide.
const KEEPERS: usize = 20;
/// Keepers that are asked at once.
const ASKED_AT_ONCE: usize = 10;
/// A keeper that has not answered by then is left out. It is three round trips to the other side of the world.
const KEEPER: Duration = Duration::from_secs(3);
/// How often a node that has just joined looks whether it knows somebody who routes, and how long it waits in between.
const INTRODUCTIONS: usize = 20;
const INTRODUCTION: Duration = Duration::from_millis(50);
/// A connection may be closing just when a stream is opened on it, while another to the same peer stays.
const ATTEMPTS: usize = 3;

/// The next ping comes every 15 seconds, and may take 20.
const UNANSWERED: Duration = Duration::from_secs(40);

/// How others come to a node, and it to them.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Contact {
    /// It calls, and nobody need find it.
    #[default]
    CallsOnly,
    /// It is called, too: directly where that is possible, and through a relay, of which it keeps a place at one. Peers
    /// that hide their own address reach it only there, so it does that even where everybody else reaches it directly.
    Open,
    /// It calls and is called through relays only. Nobody sees its address but the peers of [`P2p::bootstrap`], which are
    /// the only relays that it uses; and they see whom it talks with and how much, not what is said.
    Relayed,
}

/// What a node is to be.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// Whether others may route through our table and give us records: for peers that can be dialled.
    pub serves: bool,
    /// Whether others may reserve a place to be reached through us (circuit relay v2), and ask us to try whether they are
    /// reached directly (AutoNAT v2).
    pub relays: bool,
    /// How others come to us, and we to them.
    pub contact: Contact,
    /// Who may connect, where not everybody may: nobody else is called, or let in.
    pub allowed: Option<Vec<PeerId>>,
    /// Proxies in front of us, for example for TLS: what comes from their addresses comes from many, so that no limit of one
    /// address is kept for them. It is theirs to keep.
    pub proxies: Vec<IpAddr>,
    /// How often the round trip to every peer is measured.
    pub ping_every: Option<Duration>,
    /// How long a connection without streams stays open.
    pub idle: Option<Duration>,
}

/// Who is nearest to a key, and what finding them took.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nearest {
    /// At most 20 that answered, and where they say that they are reached; the nearest comes first.
    pub peers: Vec<(PeerId, Vec<Address>)>,
    /// Peers that were asked.
    pub requests: u32,
    /// Those of them that did not answer.
    pub failures: u32,
}

/// What a host lends.
pub struct Parts {
    /// Encrypted connections of every transport that it has, except for relayed ones.
    pub transport: Boxed<(libp2p::PeerId, StreamMuxerBox)>,
    /// Runs futures.
    pub spawn: Spawn,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub random: Arc<dyn Random>,
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
    served: Served,
    pub(crate) clock: Arc<dyn Clock>,
    keeper: Arc<Keeper>,
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
        let (spawn, clock) = (Arc::clone(&parts.spawn), Arc::clone(&parts.clock));
        let keeper = Keeper::new(Arc::clone(&clock), Arc::clone(&parts.random));
        let driver = Driver::new(keypair, setup, parts, orders, Arc::clone(&shared))?;
        let node = Self {
            peer: keypair.peer_id(),
            shared,
            commands,
            served: driver.served(),
            keeper: Arc::new(keeper),
            clock,
            spawn,
        };
        (node.spawn)(boxed(driver.run()));
        if setup.serves {
            node.keep_records()?;
        }
        Ok(node)
    }

    /// Listens at an address (port 0 is any). It appears in [`Network::addresses`] when it is bound.
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

    /// Records that are kept for others, in bytes.
    pub fn records_bytes(&self) -> usize {
        self.keeper.size()
    }

    /// What is done for others, where [`Setup::relays`] says so.
    pub fn relay_load(&self) -> RelayLoad {
        self.shared.lock().relay
    }

    /// Who was refused and why, since this was asked last, in a sentence each. Of many that say the same there is one.
    pub fn refusals(&self) -> Vec<String> {
        self.shared.lock().refusals.take()
    }

    /// Connects to peers that are known from elsewhere, and asks them for others. How many were reached. A node that is
    /// [`Contact::Relayed`] uses them as relays, and shows its address to them.
    pub async fn bootstrap(&self, known: Vec<(PeerId, Address)>) -> usize {
        let told_of = known.iter().filter_map(|(peer, address)| {
            let relay = ids::relay_of(&ids::multiaddr(address).ok()?);
            relay.map_or_else(|| ids::theirs(*peer), |(relay, _)| Some(relay))
        });
        self.shared.lock().told_of.extend(told_of);
        let dials: FuturesUnordered<_> = known
            .into_iter()
            .map(|(peer, address)| self.dial(peer, vec![address]))
            .collect();
        let reached = dials.filter(|dialled| ready(dialled.is_ok())).count().await;
        if reached > 0 {
            // A lookup of ourselves fills the table with our neighbourhood. That a peer routes is known when it has introduced
            // itself, a moment after it was reached: until then there is nobody to ask.
            for _ in 0..INTRODUCTIONS {
                let nearest = self.nearest(&self.peer.to_bytes()).await;
                if nearest.map_or(true, |nearest| !nearest.peers.is_empty()) {
                    break;
                }
                self.clock.sleep(INTRODUCTION).await;
            }
        }
        reached
    }

    /// Round trips to a connected peer, in milliseconds, as they are measured (every so often, see [`Setup::ping_every`]).
    ///
    /// # Errors
    /// [`NetworkError::Unreachable`] if it is not connected, or does not answer.
    pub async fn ping(&self, peer: PeerId) -> Result<f64, NetworkError> {
        let unreachable = |reason: &str| NetworkError::Unreachable {
            peer,
            reason: reason.to_owned(),
        };
        let id = ids::theirs(peer).ok_or_else(|| unreachable("its id is none"))?;
        if !self.shared.is_connected(peer) {
            return Err(unreachable("it is not connected"));
        }
        let (reply, answer) = oneshot::channel();
        self.command(Command::RoundTrip { peer: id, reply }).await?;
        match within(&*self.clock, UNANSWERED, answer).await {
            Some(Ok(trip)) => Ok(trip.as_secs_f64() * 1000.0),
            Some(Err(_)) => Err(unreachable(
                "it closed the connection; it may know us too little, or be too busy",
            )),
            _ => Err(unreachable("it does not answer")),
        }
    }

    async fn command(&self, command: Command) -> Result<(), NetworkError> {
        self.commands
            .clone()
            .send(command)
            .await
            .map_err(|_| NetworkError::Closed)
    }

    /// The peers nearest to a key, of those that can be found: the lookup under everything that is published or found.
    ///
    /// # Errors
    /// [`NetworkError::Closed`].
    pub async fn nearest(&self, key: &[u8]) -> Result<Nearest, NetworkError> {
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
                    let _ = within(&*clock, 4 * KEEPER, answer(stream, &keeper)).await;
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
async fn answer(mut stream: MessageStream, keeper: &Keeper) -> Option<()> {
    let request = stream.receiver.next().await?.ok()?;
    let answer = match RecordsMessage::request(&request)? {
        RecordsMessage::Store { key, record } => match keeper.put(stream.peer, key, record) {
            Ok(()) => RecordsMessage::Taken,
            Err(refused) => RecordsMessage::Refused(refused.to_string()),
        },
        RecordsMessage::Find { key, limit } => RecordsMessage::Found(keeper.get(key, usize::from(limit))),
        _ => return None,
    };
    stream.sender.send(answer.encode()).await.ok()
}

/// `None` if it takes longer.
async fn within<T>(clock: &dyn Clock, time: Duration, work: impl Future<Output = T>) -> Option<T> {
    let work = std::pin::pin!(work);
    match select(work, clock.sleep(time)).await {
        Either::Left((done, _)) => Some(done),
        Either::Right(_) => None,
    }
}

struct Streams {
    protocol: Protocol,
    from: mpsc::Receiver<Opened>,
    shared: Arc<Shared>,
    spawn: Spawn,
    clock: Arc<dyn Clock>,
}

impl Incoming for Streams {
    fn next(&mut self) -> BoxFuture<'_, Option<MessageStream>> {
        boxed(async {
            let (peer, io) = self.from.next().await?;
            let traffic = self.shared.traffic(peer);
            let clock = Arc::clone(&self.clock);
            Some(messages(peer, self.protocol, io, traffic, &self.spawn, clock))
        })
    }
}

impl Network for P2p {
    fn local_peer(&self) -> PeerId {
        self.peer
    }

    fn addresses(&self) -> Vec<Address> {
        let state = self.shared.lock();
        let whole = |way: &Way| Address::new(format!("{}/p2p/{}", way.address, self.peer));
        state.ways.iter().filter_map(whole).collect()
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
            self.command(Command::Dial(Dial { peer: id, at, reply })).await?;
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
            let to = ids::theirs(peer).ok_or_else(|| unreachable("its id is none".to_owned()))?;
            let mut outcome = Err(unreachable("it is not connected".to_owned()));
            for _ in 0..ATTEMPTS {
                let (reply, answer) = oneshot::channel();
                let protocol = protocol.name;
                self.command(Command::Open {
                    to,
                    peer,
                    protocol,
                    reply,
                })
                .await?;
                outcome = answer
                    .await
                    .unwrap_or_else(|_| Err(unreachable("its connection closed".to_owned())));
                if outcome.is_ok() || matches!(outcome, Err(NetworkError::NotSpoken { .. })) {
                    break;
                }
            }
            Ok(messages(
                peer,
                protocol,
                outcome?,
                self.shared.traffic(peer),
                &self.spawn,
                Arc::clone(&self.clock),
            ))
        })
    }

    fn serve(&self, protocol: Protocol) -> Result<Box<dyn Incoming>, NetworkError> {
        if self.shared.is_closed() {
            return Err(NetworkError::Closed);
        }
        Ok(Box::new(Streams {
            protocol,
            from: self.served.begin(protocol.name)?,
            shared: Arc::clone(&self.shared),
            spawn: Arc::clone(&self.spawn),
            clock: Arc::clone(&self.clock),
        }))
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
            let keepers = self.nearest(&key.0).await?.peers;
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
            let keepers = self.nearest(&key.0).await?.peers;
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
