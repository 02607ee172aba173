//! DTLS, SCTP and data channels between two addresses, without a socket or a clock: packets and times go in, packets come
//! out. ICE is dealt with before anything comes here.
//!
//! After every other call somebody must call [`Session::advance`], send what [`Session::take_outgoing`] gives, and come back
//! at [`Session::deadline`].

use std::collections::{HashMap, VecDeque};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use dimpl::{Dtls, Output};
use kwaainet_webrtc::{Fingerprint, frame};
use sctp_proto::{
    ClientConfig, DatagramEvent, Endpoint, EndpointConfig, Event, Payload, PayloadProtocolIdentifier,
    ServerConfig, StreamEvent, TransportConfig,
};

use super::certificate::{Certificate, fingerprint};
use super::channel::{Associated, Channel, ChannelId, ahead};

/// What every path carries (RFC 8200), without the headers of IPv6 and UDP.
const DATAGRAM: usize = 1_280 - 48;
/// Of a datagram, what DTLS 1.2 with AES-GCM (13 + 8 + 16) and SCTP (12 + 16) add to a piece of a message.
const PIECE: u32 = DATAGRAM as u32 - 37 - 28;
/// Received and not read yet, over all channels. Beyond, it stays in SCTP, whose window closes: the peer waits.
const MOST_UNREAD: usize = 4 << 20;
/// SCTP's own window.
const WINDOW: u32 = 1 << 20;
/// Retransmission timeouts as in libwebrtc's SCTP (`dcsctp_options.h`): RFC 9260's are of a slower time.
const RTO_INITIAL_MS: u64 = 500;
const RTO_MIN_MS: u64 = 400;
/// Sent and not acknowledged: of a channel, and of all. They bound memory, and speed to so much for each round trip.
const CHANNEL_AHEAD: usize = 256 << 10;
const ALL_AHEAD: usize = 2 << 20;
/// Channels at a time.
const MOST_CHANNELS: usize = 256;
/// Channels opened by the peer that nobody has asked for yet.
const MOST_WAITING: usize = 64;
/// Browsers know no more streams (libwebrtc's `kMaxSctpStreams`).
const STREAMS: u16 = 1_024;
/// The channel on which both ends prove who they are.
const HANDSHAKE: u16 = 0;
/// A peer that says nothing for so long is gone: browsers check their path every few seconds.
const SILENCE: Duration = Duration::from_secs(30);
/// SCTP wants to know addresses, and DTLS has none.
const NOWHERE: SocketAddr = SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::LOCALHOST, 5_000));
/// DATA_CHANNEL_OPEN: reliable and in order, no label, no protocol (RFC 8832, section 5.1).
const OPEN: [u8; 12] = [3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
/// DATA_CHANNEL_ACK.
const ACK: [u8; 1] = [2];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Neither DTLS nor SCTP is ready.
    Starting,
    Up,
    Down,
}

/// See the module.
pub(super) struct Session {
    dialler: bool,
    state: State,
    dtls: Dtls,
    dtls_deadline: Option<Instant>,
    secured: bool,
    peer: Option<Fingerprint>,
    endpoint: Endpoint,
    association: Associated,
    transport: Arc<TransportConfig>,
    channels: HashMap<ChannelId, Channel>,
    /// Which channel a stream is now.
    streams: HashMap<u16, ChannelId>,
    next_channel: u64,
    next_stream: u16,
    incoming: VecDeque<ChannelId>,
    unread: usize,
    /// Streams left unread because there was no room.
    backlog: VecDeque<u16>,
    watchers: Vec<Waker>,
    buffer: Vec<u8>,
    heard: Instant,
    outgoing: VecDeque<Vec<u8>>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("dialler", &self.dialler)
            .field("state", &self.state)
            .field("channels", &self.channels.len())
            .finish_non_exhaustive()
    }
}

impl Session {
    /// `None` if the configuration is refused, which is a bug.
    pub(super) fn new(certificate: &Certificate, dialler: bool, now: Instant) -> Option<Self> {
        // A listener is made to answer to somebody who only pretends to be there: the cookie of DTLS finds that out before
        // a certificate is sent.
        let config = dimpl::Config::builder().mtu(DATAGRAM).build().ok()?;
        let mut dtls = Dtls::new_12(Arc::new(config), certificate.dtls.clone(), now);
        dtls.set_active(dialler);
        // ICE, and not SCTP, says when a peer is gone.
        let transport = Arc::new(
            TransportConfig::default()
                .with_rto_initial_ms(RTO_INITIAL_MS)
                .with_rto_min_ms(RTO_MIN_MS)
                .with_max_init_retransmits(None)
                .with_max_data_retransmits(None)
                .with_max_num_inbound_streams(STREAMS)
                .with_max_num_outbound_streams(STREAMS)
                .with_max_receive_buffer_size(WINDOW)
                .with_max_receive_message_size(frame::LONGEST as u32)
                .with_max_send_message_size(frame::LONGEST as u32),
        );
        let mut config = EndpointConfig::default();
        config.max_payload_size(PIECE);
        let mut server = ServerConfig::default();
        server.transport = Arc::clone(&transport);
        Some(Self {
            dialler,
            state: State::Starting,
            dtls,
            dtls_deadline: Some(now),
            secured: false,
            peer: None,
            endpoint: Endpoint::new(Arc::new(config), Some(Arc::new(server))),
            association: None,
            transport,
            channels: HashMap::new(),
            streams: HashMap::new(),
            next_channel: 0,
            // Whoever dialled takes the even ones (RFC 8832, section 6).
            next_stream: if dialler { 2 } else { 1 },
            incoming: VecDeque::new(),
            unread: 0,
            backlog: VecDeque::new(),
            watchers: Vec::new(),
            buffer: vec![0; 2_048],
            heard: now,
            outgoing: VecDeque::new(),
        })
    }

    /// The peer is there.
    pub(super) fn hear(&mut self, now: Instant) {
        self.heard = now;
    }

    /// A packet that is not STUN.
    pub(super) fn receive(&mut self, packet: &[u8], now: Instant) {
        if self.state == State::Down {
            return;
        }
        // It has to know the time before it is given a packet: a server without one panics.
        if self.dtls.handle_timeout(now).is_err() || self.dtls.handle_packet(packet).is_err() {
            self.end();
        }
        self.drain(now);
    }

    /// Does everything that can be done now.
    pub(super) fn advance(&mut self, now: Instant) {
        if self.state == State::Down {
            return;
        }
        if now.saturating_duration_since(self.heard) >= SILENCE {
            return self.end();
        }
        if self.dtls_deadline.is_some_and(|deadline| deadline <= now) {
            if self.dtls.handle_timeout(now).is_err() {
                return self.end();
            }
            self.drain(now);
        }
        if let Some((_, association)) = &mut self.association {
            association.handle_timeout(now);
        }
        self.associate();
        self.note_events();
        self.flush();
        self.transmit(now);
        self.wake_writers();
    }

    /// When to come back, if nothing happens.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let association = self
            .association
            .as_ref()
            .and_then(|(_, association)| association.poll_timeout());
        [self.dtls_deadline, association, self.heard.checked_add(SILENCE)]
            .into_iter()
            .flatten()
            .min()
    }

    pub(super) fn is_down(&self) -> bool {
        self.state == State::Down
    }

    /// Datagrams to be sent, as many as are wanted.
    pub(super) fn take_outgoing(&mut self, most: usize) -> Vec<Vec<u8>> {
        let length = most.min(self.outgoing.len());
        self.outgoing.drain(..length).collect()
    }

    pub(super) fn has_outgoing(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Says goodbye; the last packet waits to be sent.
    pub(super) fn close(&mut self, now: Instant) {
        if self.state != State::Down {
            // DTLS tells it to the other side; if it cannot, silence does.
            let _ = self.dtls.close();
            self.drain(now);
            self.end();
        }
    }

    /// The channel for the handshake, and the certificate of the peer, once there is a connection.
    pub(super) fn poll_up(&mut self, cx: &mut Context<'_>) -> Poll<Option<(ChannelId, Fingerprint)>> {
        match (self.state, self.streams.get(&HANDSHAKE), self.peer) {
            (State::Up, Some(channel), Some(peer)) => Poll::Ready(Some((*channel, peer))),
            (State::Starting, ..) => {
                self.watch(cx);
                Poll::Pending
            }
            _ => Poll::Ready(None),
        }
    }

    /// A channel that the peer has opened; `None` when the session is over.
    pub(super) fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<Option<ChannelId>> {
        match self.incoming.pop_front() {
            _ if self.state == State::Down => Poll::Ready(None),
            Some(channel) => Poll::Ready(Some(channel)),
            None => {
                self.watch(cx);
                Poll::Pending
            }
        }
    }

    /// Opens a channel. `None` if there are too many, or the session is over.
    pub(super) fn open(&mut self) -> Option<ChannelId> {
        if self.state != State::Up || self.channels.len() >= MOST_CHANNELS {
            return None;
        }
        let (_, association) = self.association.as_mut()?;
        // Numbers come round: those in use, or about to be free, are refused.
        for _ in 0..STREAMS / 2 {
            let stream = self.next_stream;
            self.next_stream = stream.saturating_add(2) % STREAMS;
            let Ok(mut opened) = association.open_stream(stream, PayloadProtocolIdentifier::Binary) else {
                continue;
            };
            opened
                .write_with_ppi(&OPEN, PayloadProtocolIdentifier::Dcep)
                .ok()?;
            return Some(self.channel(stream));
        }
        None
    }

    /// The next message; `None` when the channel is closed.
    pub(super) fn poll_receive(&mut self, id: ChannelId, cx: &mut Context<'_>) -> Poll<Option<Vec<u8>>> {
        let down = self.state == State::Down;
        let Some(channel) = self.channels.get_mut(&id) else {
            return Poll::Ready(None);
        };
        let Some(message) = channel.unread.pop_front() else {
            if channel.ended || down {
                return Poll::Ready(None);
            }
            channel.reader = Some(cx.waker().clone());
            return Poll::Pending;
        };
        self.unread = self.unread.saturating_sub(message.len());
        Poll::Ready(Some(message))
    }

    /// Whether what was left in SCTP can be read now: somebody has to call [`Session::advance`].
    pub(super) fn has_room_again(&self) -> bool {
        !self.backlog.is_empty() && self.unread < MOST_UNREAD / 2
    }

    /// Whether there is room to send; `false` when the channel is closed.
    pub(super) fn poll_ready(&mut self, id: ChannelId, cx: &mut Context<'_>) -> Poll<bool> {
        let all = self.ahead();
        if self.state == State::Down {
            return Poll::Ready(false);
        }
        let Some(channel) = self.channels.get_mut(&id).filter(|channel| !channel.ended) else {
            return Poll::Ready(false);
        };
        if channel.unsent.is_empty()
            && all < ALL_AHEAD
            && ahead(&mut self.association, channel.stream) < CHANNEL_AHEAD
        {
            return Poll::Ready(true);
        }
        channel.writer = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Sends a message. `false` when the channel is closed.
    pub(super) fn send(&mut self, id: ChannelId, message: &[u8]) -> bool {
        let Some(channel) = self.channels.get_mut(&id).filter(|channel| !channel.ended) else {
            return false;
        };
        channel
            .unsent
            .push_back((PayloadProtocolIdentifier::Binary, message.to_vec()));
        channel.flush(&mut self.association)
    }

    /// Closes a channel, and forgets it.
    pub(super) fn close_channel(&mut self, id: ChannelId) {
        let Some(channel) = self.channels.remove(&id) else {
            return;
        };
        let unread: usize = channel.unread.iter().map(Vec::len).sum();
        self.unread = self.unread.saturating_sub(unread);
        if channel.ended {
            return;
        }
        self.streams.remove(&channel.stream);
        self.reset(channel.stream);
    }

    fn watch(&mut self, cx: &Context<'_>) {
        if !self.watchers.iter().any(|waker| waker.will_wake(cx.waker())) {
            self.watchers.push(cx.waker().clone());
        }
    }

    fn wake_watchers(&mut self) {
        self.watchers.drain(..).for_each(Waker::wake);
    }

    /// It is over, whether or not the peer knows.
    pub(super) fn end(&mut self) {
        self.state = State::Down;
        for channel in self.channels.values_mut() {
            channel.wake();
        }
        self.wake_watchers();
    }

    /// Takes what DTLS has: packets, the peer's certificate, and what is inside.
    fn drain(&mut self, now: Instant) {
        let mut buffer = std::mem::take(&mut self.buffer);
        loop {
            match self.dtls.poll_output(&mut buffer) {
                Output::Packet(packet) => self.outgoing.push_back(packet.to_vec()),
                Output::BufferTooSmall { needed } => buffer.resize(needed, 0),
                Output::PeerCert(der) => self.peer = Some(fingerprint(der)),
                Output::Connected => {
                    self.secured = true;
                    self.heard = now;
                }
                Output::ApplicationData(data) => {
                    self.heard = now;
                    let data = data.to_vec();
                    self.take_in(data, now);
                }
                Output::CloseNotify => self.end(),
                Output::KeyingMaterial(..) => {}
                Output::Timeout(deadline) => {
                    self.dtls_deadline = Some(deadline);
                    break;
                }
                _ => {}
            }
        }
        self.buffer = buffer;
    }

    /// A packet of SCTP.
    fn take_in(&mut self, data: Vec<u8>, now: Instant) {
        match self.endpoint.handle(now, NOWHERE, None, None, data.into()) {
            Some((handle, DatagramEvent::NewAssociation(association))) => {
                if self.association.is_none() {
                    self.association = Some((handle, association));
                }
                // One is all that a peer gets, however often it asks.
                self.endpoint.reject_new_associations();
            }
            Some((handle, DatagramEvent::AssociationEvent(event))) => {
                if let Some((ours, association)) = &mut self.association
                    && *ours == handle
                {
                    association.handle_event(event);
                }
            }
            None => {}
        }
    }

    fn associate(&mut self) {
        if !self.dialler || !self.secured || self.association.is_some() {
            return;
        }
        let mut config = ClientConfig::default();
        config.transport = Arc::clone(&self.transport);
        match self.endpoint.connect(config, NOWHERE) {
            Ok(association) => self.association = Some(association),
            Err(_) => self.end(),
        }
    }

    fn note_events(&mut self) {
        while let Some(event) = self
            .association
            .as_mut()
            .and_then(|(_, association)| association.poll())
        {
            match event {
                Event::Connected => {
                    self.state = State::Up;
                    self.begin_handshake();
                    self.wake_watchers();
                }
                Event::HandshakeFailed { .. } | Event::AssociationLost { .. } => return self.end(),
                Event::Stream(StreamEvent::Opened { id } | StreamEvent::Readable { id }) => self.read(id),
                Event::Stream(StreamEvent::Finished { id }) => self.finish(id),
                _ => {}
            }
        }
        if self.has_room_again() {
            for stream in std::mem::take(&mut self.backlog) {
                self.read(stream);
            }
        }
        if let Some((handle, association)) = &mut self.association {
            while let Some(event) = association.poll_endpoint_event() {
                if let Some(event) = self.endpoint.handle_event(*handle, event) {
                    association.handle_event(event);
                }
            }
        }
    }

    fn begin_handshake(&mut self) {
        if let Some((_, association)) = &mut self.association {
            // The peer may have been faster: then it is there already.
            let _ = association.open_stream(HANDSHAKE, PayloadProtocolIdentifier::Binary);
            self.channel(HANDSHAKE);
        }
    }

    fn channel(&mut self, stream: u16) -> ChannelId {
        let id = ChannelId(self.next_channel);
        self.next_channel = self.next_channel.saturating_add(1);
        self.streams.insert(stream, id);
        self.channels.insert(id, Channel::new(stream));
        id
    }

    /// Takes what has arrived on a stream, as far as there is room.
    fn read(&mut self, stream: u16) {
        loop {
            if self.unread >= MOST_UNREAD {
                if !self.backlog.contains(&stream) {
                    self.backlog.push_back(stream);
                }
                return;
            }
            let Some((_, association)) = &mut self.association else {
                return;
            };
            let Ok(mut from) = association.stream(stream) else {
                return;
            };
            let Ok(Some(chunks)) = from.read() else {
                return;
            };
            // Messages are no longer than was allowed to SCTP.
            let mut message = vec![0; chunks.len()];
            if chunks.read(&mut message).is_err() {
                return;
            }
            match (chunks.ppi, self.streams.get(&stream)) {
                (PayloadProtocolIdentifier::Dcep, None) => self.opened(stream, &message),
                (PayloadProtocolIdentifier::Binary | PayloadProtocolIdentifier::String, Some(id)) => {
                    self.unread = self.unread.saturating_add(message.len());
                    if let Some(channel) = self.channels.get_mut(id) {
                        channel.unread.push_back(message);
                        channel.reader.take().into_iter().for_each(Waker::wake);
                    }
                }
                // An acknowledgement of what we have opened, or an empty message.
                (_, Some(_)) => {}
                // Nobody has opened it.
                (_, None) => self.reset(stream),
            }
        }
    }

    fn opened(&mut self, stream: u16, message: &[u8]) {
        // Type of message, and of channel: ours are reliable and in order.
        let wanted = message.len() >= OPEN.len() && message.starts_with(&[3, 0]);
        if !wanted || self.channels.len() >= MOST_CHANNELS || self.incoming.len() >= MOST_WAITING {
            return self.reset(stream);
        }
        let id = self.channel(stream);
        if let Some(channel) = self.channels.get_mut(&id) {
            channel
                .unsent
                .push_back((PayloadProtocolIdentifier::Dcep, ACK.to_vec()));
            channel.flush(&mut self.association);
        }
        self.incoming.push_back(id);
        self.wake_watchers();
    }

    /// The peer has closed a stream.
    fn finish(&mut self, stream: u16) {
        let Some(channel) = self
            .streams
            .remove(&stream)
            .and_then(|id| self.channels.get_mut(&id))
        else {
            return;
        };
        channel.ended = true;
        channel.wake();
    }

    fn reset(&mut self, stream: u16) {
        if let Some((_, association)) = &mut self.association
            && let Ok(mut stream) = association.stream(stream)
        {
            // It only fails when the association is over, and its streams with it.
            let _ = stream.close();
        }
    }

    fn transmit(&mut self, now: Instant) {
        loop {
            let transmit = self.endpoint.poll_transmit().or_else(|| {
                let (_, association) = self.association.as_mut()?;
                association.poll_transmit(now)
            });
            let Some(transmit) = transmit else {
                return;
            };
            let Payload::RawEncode(packets) = transmit.payload else {
                continue;
            };
            for packet in packets {
                if self.dtls.send_application_data(&packet).is_err() {
                    return self.end();
                }
                // One at a time: its queue is short.
                self.drain(now);
            }
        }
    }

    fn ahead(&mut self) -> usize {
        let association = &mut self.association;
        self.streams
            .keys()
            .map(|stream| ahead(association, *stream))
            .sum()
    }

    fn flush(&mut self) {
        for channel in self.channels.values_mut() {
            if !channel.unsent.is_empty() && !channel.ended {
                channel.flush(&mut self.association);
            }
        }
    }

    fn wake_writers(&mut self) {
        if !self.channels.values().any(|channel| channel.writer.is_some()) {
            return;
        }
        // Half of it must be free, so that a writer does not come for every packet.
        let room = self.ahead() <= ALL_AHEAD / 2;
        for channel in self.channels.values_mut() {
            if room
                && channel.writer.is_some()
                && channel.unsent.is_empty()
                && ahead(&mut self.association, channel.stream) <= CHANNEL_AHEAD / 2
            {
                channel.writer.take().into_iter().for_each(Waker::wake);
            }
        }
    }
}
