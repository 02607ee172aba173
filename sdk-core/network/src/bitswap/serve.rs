//! Giving peers what they want.

use std::collections::BTreeSet;
use std::pin::pin;
use std::task::Poll;

use futures::future::{Either, poll_fn, select};
use futures::stream::{FuturesUnordered, StreamExt};
use kwaainet_platform::{BoxFuture, boxed};
use kwaainet_types::{HelpOthers, Permit};

use super::exchange::Inner;
use super::message::LEAF;
use super::{BITSWAP, Block, Exchange, MAX_PRESENCES, Message, Presence, leaf_of};
use crate::record::ModelRoot;
use crate::swarm::{Library, Limits, Pace, serve_chunks_at, within};
use crate::{MessageSender, NetworkError, PeerId};

/// A peer that takes no message for so long gets no more.
const UNREAD_MS: u64 = 30_000;
/// A stream of ours that was quiet for so long is not used again: Helia breaks it after ten seconds.
const QUIET_MS: f64 = 5_000.0;

impl Exchange {
    /// Gives models away in both languages, until the node leaves the network: [`serve_chunks`](crate::swarm::serve_chunks)
    /// to our own peers, and raw leaves to those that speak bitswap, within the same limits together (of which `streams`
    /// are peers here). Dropping the future stops at once, as must be done when the visitor takes the consent back.
    ///
    /// A want for what is not here is answered if the peer asked for that, and not remembered.
    ///
    /// # Errors
    /// [`NetworkError::AlreadyServed`], [`NetworkError::Closed`].
    pub async fn serve(
        &self,
        library: &dyn Library,
        _permit: &Permit<HelpOthers>,
        limits: Limits,
    ) -> Result<(), NetworkError> {
        let pace = Pace::new(limits, &*self.0.clock);
        let chunks = pin!(serve_chunks_at(&*self.0.network, library, &*self.0.clock, &pace));
        let blocks = pin!(self.serve_blocks(library, &pace));
        let (Either::Left((ended, _)) | Either::Right((ended, _))) = select(chunks, blocks).await;
        ended
    }

    pub(crate) async fn serve_blocks(&self, library: &dyn Library, pace: &Pace) -> Result<(), NetworkError> {
        let _serving = Serving::begin(&self.0, pace.limits.streams)?;
        let (mut answering, mut answered) =
            (FuturesUnordered::<BoxFuture<'_, PeerId>>::new(), BTreeSet::new());
        let answering = poll_fn(|context| {
            loop {
                let mut wanting = self.0.wanting();
                wanting.server = Some(context.waker().clone());
                let others = wanting.others(&answered);
                drop(wanting);
                for peer in others {
                    answered.insert(peer);
                    let ledger = Ledger {
                        inner: &self.0,
                        peer,
                        library,
                        pace,
                    };
                    answering.push(boxed(async move { ledger.answer().await }));
                }
                match answering.poll_next_unpin(context) {
                    Poll::Ready(Some(peer)) => answered.remove(&peer),
                    _ => return Poll::<()>::Pending,
                };
            }
        });
        match select(pin!(answering), self.hear()).await {
            Either::Left(((), _)) => Ok(()),
            Either::Right((ended, _)) => ended,
        }
    }
}

/// While it lives, wants are taken in.
struct Serving<'a>(&'a Inner);

impl<'a> Serving<'a> {
    fn begin(inner: &'a Inner, peers: usize) -> Result<Self, NetworkError> {
        let mut wanting = inner.wanting();
        if wanting.most > 0 {
            return Err(NetworkError::AlreadyServed(BITSWAP.name));
        }
        wanting.most = peers;
        drop(wanting);
        Ok(Self(inner))
    }
}

impl Drop for Serving<'_> {
    fn drop(&mut self) {
        *self.0.wanting() = super::wants::Wanting::default();
    }
}

/// One peer that wants something.
struct Ledger<'a> {
    inner: &'a Inner,
    peer: PeerId,
    library: &'a dyn Library,
    pace: &'a Pace,
}

impl Ledger<'_> {
    /// Answers until nothing is wanted any more, or the peer does not listen. Who it was.
    async fn answer(&self) -> PeerId {
        let (inner, peer) = (self.inner, self.peer);
        let mut line = None;
        let mut presences = Vec::<(Vec<u8>, bool)>::new();
        loop {
            for (cid, must) in inner.wanting().haves(peer) {
                let here = self.find(&cid).is_some();
                if here || must {
                    presences.push((cid, here));
                }
            }
            let want = inner.wanting().next_block(peer);
            let mut block = None;
            if let Some((cid, must)) = &want {
                block = match self.find(cid) {
                    Some((root, chunk)) => self.library.read(root, chunk).await,
                    None => None,
                };
                if block.is_none() && *must {
                    presences.push((cid.clone(), false));
                }
            }
            // Until there is a block to send, or nothing else to add, what is to be said is gathered.
            if block.is_some() || want.is_none() || presences.len() >= MAX_PRESENCES {
                let said = presences.split_off(presences.len().saturating_sub(MAX_PRESENCES));
                if self.say(&mut line, block, &said).await.is_none() {
                    inner.wanting().forget(peer);
                    return peer;
                }
            }
            if want.is_none() && presences.is_empty() && inner.wanting().is_done(peer) {
                return peer;
            }
        }
    }

    fn find(&self, cid: &[u8]) -> Option<(ModelRoot, u32)> {
        self.library.find(&leaf_of(cid)?)
    }

    /// Sends a message on the stream of ours, or a new one. `None` if the peer does not take it.
    async fn say(
        &self,
        line: &mut Option<(Box<dyn MessageSender>, f64)>,
        block: Option<Vec<u8>>,
        presences: &[(Vec<u8>, bool)],
    ) -> Option<()> {
        if block.is_none() && presences.is_empty() {
            return Some(());
        }
        let clock = &*self.inner.clock;
        self.pace.wait(clock, block.as_ref().map_or(0, Vec::len)).await;
        let message = Message {
            blocks: block.iter().map(|data| Block { prefix: &LEAF, data }).collect(),
            presences: presences
                .iter()
                .map(|(cid, here)| Presence { cid, here: *here })
                .collect(),
            pending_bytes: self.inner.wanting().pending_bytes(self.peer),
            ..Message::default()
        };
        let bytes = message.to_bytes();
        line.take_if(|(_, used)| clock.monotonic_ms() - *used > QUIET_MS);
        let mut sender = match line.take() {
            Some((sender, _)) => sender,
            None => {
                let opening = self.inner.network.open(self.peer, BITSWAP);
                within(clock, UNREAD_MS, opening).await?.ok()?.sender
            }
        };
        within(clock, UNREAD_MS, sender.send(bytes)).await?.ok()?;
        *line = Some((sender, clock.monotonic_ms()));
        Some(())
    }
}
