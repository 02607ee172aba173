//! Fetches what is missing of a model, chunk by verified chunk.
//!
//! A chunk is written only when its SHA-256 is the catalogue's, and entered in the journal only when it is written:
//! whatever is killed at whatever moment costs one unfinished chunk.

use std::pin::pin;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::{Either, pending, select};
use futures::lock::Mutex as AsyncMutex;
use kwaainet_engine::gguf::{Gguf, ParseOutcome};
use kwaainet_network::PeerId;
use kwaainet_platform::{ByteStream, HttpError, HttpRequest, HttpResponse, boxed};
use kwaainet_types::{CHUNK_BYTES, Permit, RunAi, Stage};
use sha2::{Digest, Sha256};

use super::journal::chunk_len;
use super::peers::{Pace, Peers};
use super::progress::Meter;
use super::sources::{Exhausted, Sources};
use super::{ModelFile, ModelStore, Origins};
use crate::NodeError;
use crate::cancel::Stop;

/// A connection that says nothing for so long is given up.
const STALLED_AFTER: Duration = Duration::from_secs(30);

/// Peers that bring nothing for so long bring nothing more, when no server is left.
const PEERS_STALLED_AFTER: Duration = Duration::from_secs(10);
/// How often it is seen whether peers leave something to the servers.
const LOOK: Duration = Duration::from_millis(100);

/// One fetch under way.
pub(super) struct Fetch<'a> {
    pub(super) store: &'a ModelStore,
    pub(super) file: &'a ModelFile<'a>,
    pub(super) origins: Origins<'a>,
    pub(super) stop: &'a Stop,
    /// Whoever brings a chunk writes it alone.
    pub(super) writer: AsyncMutex<Writer<'a>>,
}

/// What is known of the file as it grows.
pub(super) struct Writer<'a> {
    pub(super) meter: Meter<'a>,
    /// Bytes from the start that the header's judge wants to see; `None` when it has judged.
    pub(super) header_needs: Option<u64>,
}

/// What became of one request.
enum Outcome {
    /// All chunks of the request were seen, right or wrong.
    Complete,
    /// The connection failed or broke.
    Failed(String),
    /// The place does not have the file.
    GiveUp(String),
}

impl Fetch<'_> {
    /// Fetches until nothing is missing: from servers, and from peers where there are any.
    ///
    /// Whatever ends first ends both.
    pub(super) async fn run(
        self,
        _permit: &Permit<RunAi>,
        peers: Option<Peers<'_>>,
    ) -> Result<(), NodeError> {
        {
            let mut writer = self.writer.lock().await;
            writer.meter.tell(Stage::Fetch);
            self.judge_header(&mut writer).await?;
        }
        let Some(peers) = peers else {
            return self.ask_servers(None).await;
        };
        let pace = peers.pace(&*self.store.platform.clock);
        let servers = pin!(self.ask_servers(Some(&pace)));
        let mut helpers = pin!(self.ask_peers(peers, &pace));
        let error = match select(servers, helpers.as_mut()).await {
            Either::Left((Err(error @ (NodeError::Network { .. } | NodeError::Integrity { .. })), _)) => {
                error
            }
            Either::Left((outcome, _)) | Either::Right((outcome, _)) => return outcome,
        };
        // Peers alone may have all of it.
        loop {
            let before = pace.bytes();
            let stalled = pin!(async { self.store.platform.clock.sleep(PEERS_STALLED_AFTER).await });
            match select(helpers.as_mut(), stalled).await {
                Either::Left((outcome, _)) => return outcome,
                Either::Right(_) if pace.bytes() == before => return Err(error),
                Either::Right(_) => {}
            }
        }
    }

    /// Fetches what peers leave until nothing is missing; without peers, everything.
    async fn ask_servers(&self, pace: Option<&Pace<'_>>) -> Result<(), NodeError> {
        let entry = self.file.entry;
        let mut sources = Sources::new(entry, self.origins.gateways, self.origins.base);
        loop {
            let missing = self.store.missing(self.file.shelf, entry);
            if missing.is_empty() {
                return Ok(());
            }
            let missing = match pace {
                None => missing,
                Some(pace) => {
                    let bytes = self.store.missing_bytes(self.file.shelf, entry);
                    pace.left_to_servers(missing, bytes)
                }
            };
            let Some(first) = missing.first().copied() else {
                self.stop.race(self.store.platform.clock.sleep(LOOK)).await?;
                continue;
            };
            let at = sources.pick(first).map_err(|why| self.exhausted(why, &sources))?;
            let Some((request, chunks)) = sources.request(at, &missing, entry) else {
                sources.give_up(at, "it cannot be asked for this model");
                continue;
            };
            self.pause(&sources, at).await?;
            if let Some(pace) = pace {
                pace.claim(&chunks);
            }
            let outcome = self.ask(&mut sources, at, request, &chunks).await?;
            if let Some(pace) = pace {
                pace.settle(&chunks, &self.store.missing(self.file.shelf, entry));
            }
            match outcome {
                Outcome::Complete => {}
                Outcome::Failed(reason) => sources.failed(at, &reason),
                Outcome::GiveUp(reason) => sources.give_up(at, &reason),
            }
        }
    }

    /// Takes what peers bring until nothing is missing.
    async fn ask_peers(&self, peers: Peers<'_>, pace: &Pace<'_>) -> Result<(), NodeError> {
        let Peers {
            mut download,
            mut finding,
            ..
        } = peers;
        loop {
            if self.store.missing_bytes(self.file.shelf, self.file.entry) == 0 {
                return Ok(());
            }
            let next = pin!(download.next());
            match self.stop.race(select(next, finding.as_mut())).await? {
                Either::Left((Some((chunk, bytes, peer)), _)) => {
                    pace.brought(bytes.len() as u64);
                    self.take(chunk as usize, &bytes, Some(peer)).await?;
                }
                // Nobody is left to ask, until somebody is found.
                Either::Left((None, _)) => {
                    let look = pin!(async { self.store.platform.clock.sleep(LOOK).await });
                    let ended = matches!(
                        self.stop.race(select(look, finding.as_mut())).await?,
                        Either::Right(_)
                    );
                    if ended {
                        finding = boxed(pending());
                    }
                }
                Either::Right(((), _)) => finding = boxed(pending()),
            }
        }
    }

    fn exhausted(&self, why: Exhausted, sources: &Sources) -> NodeError {
        let what = self.file.entry.id.clone();
        let reason = sources.last_failure().to_owned();
        match why {
            Exhausted::Network => NodeError::Network { what, reason },
            Exhausted::Integrity => NodeError::Integrity { what, reason },
        }
    }

    async fn pause(&self, sources: &Sources, at: usize) -> Result<(), NodeError> {
        let platform = &self.store.platform;
        let pause = sources.pause_ms(at, platform.random.next_u64());
        if pause > 0 {
            self.writer.lock().await.meter.tell(Stage::Retry);
            self.stop
                .race(platform.clock.sleep(Duration::from_millis(pause)))
                .await?;
        }
        Ok(())
    }

    async fn ask(
        &self,
        sources: &mut Sources,
        at: usize,
        request: HttpRequest,
        chunks: &[usize],
    ) -> Result<Outcome, NodeError> {
        let range = request.range;
        let answer = self.patiently(self.store.platform.http.get(request)).await?;
        let response = match answer {
            None => return Ok(Outcome::Failed("the server does not answer".to_owned())),
            Some(Err(error @ HttpError::BadUrl(_))) => return Ok(Outcome::GiveUp(error.to_string())),
            Some(Err(error)) => return Ok(Outcome::Failed(error.to_string())),
            Some(Ok(response)) => response,
        };
        let skip = match (response.status, range) {
            (206, Some(_)) | (200, None) => 0,
            // A server that knows no ranges sends all of it.
            (200, Some((from, _))) => from,
            (status @ (408 | 425 | 429 | 500..=599), _) => {
                return Ok(Outcome::Failed(format!(
                    "the server answers with status {status}"
                )));
            }
            (status, _) => {
                return Ok(Outcome::GiveUp(format!(
                    "the server answers with status {status}"
                )));
            }
        };
        self.receive(sources, at, response, skip, chunks).await
    }

    /// Waits for the network, but not for ever; `None` when it stalled.
    async fn patiently<T>(&self, future: impl Future<Output = T>) -> Result<Option<T>, NodeError> {
        let clock = &self.store.platform.clock;
        let stalled = std::pin::pin!(async { clock.sleep(STALLED_AFTER).await });
        let future = std::pin::pin!(future);
        Ok(match self.stop.race(select(future, stalled)).await? {
            Either::Left((output, _)) => Some(output),
            Either::Right(_) => None,
        })
    }

    async fn receive(
        &self,
        sources: &mut Sources,
        at: usize,
        response: HttpResponse,
        mut skip: u64,
        chunks: &[usize],
    ) -> Result<Outcome, NodeError> {
        let entry = self.file.entry;
        let mut body = response.body;
        let mut buffer: Vec<u8> = Vec::with_capacity(CHUNK_BYTES as usize);
        for chunk in chunks {
            let len = chunk_len(entry, *chunk);
            while buffer.len() < len {
                match self.next_piece(body.as_mut()).await? {
                    Ok(piece) => {
                        let skipped = skip.min(piece.len() as u64);
                        skip = skip.saturating_sub(skipped);
                        buffer.extend_from_slice(piece.get(skipped as usize..).unwrap_or_default());
                    }
                    Err(reason) => return Ok(Outcome::Failed(reason)),
                }
            }
            let rest = buffer.split_off(len);
            if self.is_right(*chunk, &buffer) {
                self.take(*chunk, &buffer, None).await?;
                sources.right(at);
            } else {
                sources.wrong(at, *chunk);
                if sources.is_given_up(at) {
                    return Ok(Outcome::Complete);
                }
            }
            buffer = rest;
        }
        Ok(Outcome::Complete)
    }

    async fn next_piece(&self, body: &mut dyn ByteStream) -> Result<Result<Vec<u8>, String>, NodeError> {
        Ok(match self.patiently(body.next()).await? {
            None => Err("the connection stalled".to_owned()),
            Some(None) => Err("the connection ended too early".to_owned()),
            Some(Some(Err(error))) => Err(error.to_string()),
            Some(Some(Ok(piece))) => Ok(piece),
        })
    }

    fn is_right(&self, chunk: usize, bytes: &[u8]) -> bool {
        let resources = &self.store.resources;
        let busy = resources.begin();
        let hash = hex::encode(Sha256::digest(bytes));
        resources.end(&busy);
        let expected = self.file.entry.chunk_hashes.get(chunk);
        expected.is_some_and(|expected| expected.eq_ignore_ascii_case(&hash))
    }

    /// Keeps a chunk that was verified.
    async fn take(&self, chunk: usize, bytes: &[u8], from: Option<PeerId>) -> Result<(), NodeError> {
        let entry = self.file.entry;
        let mut writer = self.writer.lock().await;
        if self
            .store
            .missing(self.file.shelf, entry)
            .binary_search(&chunk)
            .is_err()
        {
            // At the end a server and a peer may have been asked for the same.
            return Ok(());
        }
        self.write(chunk, bytes).await?;
        if let Some(peer) = from {
            writer.meter.brought(peer, bytes.len() as u64);
        }
        let missing = self.store.missing_bytes(self.file.shelf, entry);
        let done = entry.bytes.saturating_sub(missing);
        writer.meter.verified(bytes.len() as u64, done);
        self.judge_header(&mut writer).await?;
        self.store.resources.wait(self.stop).await
    }

    async fn write(&self, chunk: usize, bytes: &[u8]) -> Result<(), NodeError> {
        let offset = (chunk as u64).saturating_mul(CHUNK_BYTES);
        let mut written = self.file.blob.write_at(offset, bytes).await;
        if let Err(kwaainet_platform::StoreError::Full { needed, .. }) = written {
            // The host's figure was an estimate; with the least used model gone it may fit.
            self.store
                .make_room(self.file.shelf, self.file.entry, needed)
                .await?;
            written = self.file.blob.write_at(offset, bytes).await;
        }
        match written {
            Err(kwaainet_platform::StoreError::Full { available, .. }) => {
                return Err(NodeError::NoRoom {
                    id: self.file.entry.id.clone(),
                    needed: self.store.missing_bytes(self.file.shelf, self.file.entry),
                    available,
                });
            }
            other => other?,
        }
        self.file.blob.flush().await?;
        self.store.enter(self.file.shelf, self.file.entry, chunk).await
    }

    /// Refuses a model that cannot run as soon as its header is there, before its tensors are fetched.
    async fn judge_header(&self, writer: &mut Writer<'_>) -> Result<(), NodeError> {
        let judged = self.read_header(writer).await;
        if writer.header_needs.is_none() {
            self.file.judged.store(true, Ordering::Relaxed);
            self.store.arrival.wake();
        }
        let refused = matches!(judged, Err(NodeError::Engine(_)));
        self.file.refused.fetch_or(refused, Ordering::Relaxed);
        judged
    }

    async fn read_header(&self, writer: &mut Writer<'_>) -> Result<(), NodeError> {
        let entry = self.file.entry;
        while let Some(needs) = writer.header_needs {
            let have = self.store.verified_prefix(self.file.shelf, entry);
            if have < needs.min(entry.bytes) {
                return Ok(());
            }
            // Twice what it needs: it asks for one string more at a time, and each time reads from the start.
            let length = needs.max(CHUNK_BYTES).saturating_mul(2).min(have);
            let mut bytes = vec![0; length as usize];
            self.file.blob.read_at(0, &mut bytes).await?;
            match Gguf::parse(&bytes, entry.bytes).map_err(kwaainet_engine::EngineError::from)? {
                ParseOutcome::Complete(gguf) => {
                    kwaainet_engine::check_runnable(&gguf)?;
                    writer.header_needs = None;
                }
                ParseOutcome::NeedMore { at_least } if at_least > bytes.len() as u64 => {
                    writer.header_needs = Some(at_least);
                    if bytes.len() as u64 == entry.bytes {
                        // Loading will name what is wrong with a file that ends inside its header.
                        writer.header_needs = None;
                    }
                }
                ParseOutcome::NeedMore { .. } => writer.header_needs = None,
            }
        }
        Ok(())
    }
}
