use std::time::Duration;

use futures::future::{Either, join, poll_fn, select};
use futures::{AsyncReadExt as _, AsyncWriteExt as _};
use kwaainet_webrtc::stun::{self, Username, Version};
use libp2p::core::Endpoint;
use libp2p::core::muxing::{StreamMuxerExt as _, SubstreamBox};
use libp2p::core::transport::{Boxed, PortUse};

use super::listener::HALF_OPEN;
use super::*;

type Muxed = Boxed<(PeerId, StreamMuxerBox)>;

fn transport() -> (Muxed, PeerId) {
    let keypair = identity::Keypair::generate_ed25519();
    let peer = keypair.public().to_peer_id();
    (
        WebRtc::new(Certificate::generate().unwrap(), keypair).boxed(),
        peer,
    )
}

async fn next(transport: &mut Muxed) -> TransportEvent<<Muxed as Transport>::ListenerUpgrade, io::Error> {
    poll_fn(|cx| Pin::new(&mut *transport).poll(cx)).await
}

async fn listen(transport: &mut Muxed) -> Multiaddr {
    let at = "/ip4/127.0.0.1/udp/0/webrtc-direct".parse().unwrap();
    transport.listen_on(ListenerId::next(), at).unwrap();
    match next(transport).await {
        TransportEvent::NewAddress { listen_addr, .. } => listen_addr,
        other => panic!("{other:?}"),
    }
}

fn dial(transport: &mut Muxed, address: &Multiaddr) -> <Muxed as Transport>::Dial {
    let opts = DialOpts {
        role: Endpoint::Dialer,
        port_use: PortUse::New,
    };
    transport.dial(address.clone(), opts).unwrap()
}

/// Both ends of a connection, each knowing the other.
async fn connected() -> (StreamMuxerBox, StreamMuxerBox, [Muxed; 2]) {
    let ((mut ours, our_id), (mut theirs, their_id)) = (transport(), transport());
    let address = listen(&mut theirs).await;
    let accept = async {
        match next(&mut theirs).await {
            TransportEvent::Incoming { upgrade, .. } => upgrade.await.unwrap(),
            other => panic!("{other:?}"),
        }
    };
    let (dialled, accepted) = join(dial(&mut ours, &address), accept).await;
    let (dialled, accepted) = (dialled.unwrap(), accepted);
    assert_eq!((dialled.0, accepted.0), (their_id, our_id));
    (dialled.1, accepted.1, [ours, theirs])
}

/// Runs a future while the muxer is polled, as a swarm does.
async fn beside<T>(muxer: &mut StreamMuxerBox, future: impl Future<Output = T>) -> T {
    let polled = poll_fn(|cx| {
        let _ = muxer.poll_unpin(cx);
        Poll::Pending::<()>
    });
    match select(polled, Box::pin(future)).await {
        Either::Left(((), _)) => panic!("it is never ready"),
        Either::Right((value, _)) => value,
    }
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| ((at * 31) >> 3) as u8).collect()
}

async fn both_ways(stream: SubstreamBox, length: usize) {
    let (mut reader, mut writer) = stream.split();
    let sent = pattern(length);
    let mut got = Vec::new();
    let write = async {
        writer.write_all(&sent).await.unwrap();
        writer.close().await.unwrap();
    };
    let (read, ()) = join(reader.read_to_end(&mut got), write).await;
    read.unwrap();
    assert!(got == sent, "{length} bytes arrive as they were sent");
}

fn run(test: impl Future<Output = ()>) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime
        .block_on(async { tokio::time::timeout(Duration::from_secs(60), test).await })
        .expect("it ends within a minute");
}

#[test]
fn both_ends_know_each_other_and_streams_carry_every_size_both_ways() {
    run(async {
        let (mut ours, mut theirs, _transports) = connected().await;
        for length in [1, 64, 8_192, 65_537, 4 << 20] {
            let (here, there) = join(
                poll_fn(|cx| ours.poll_outbound_unpin(cx)),
                poll_fn(|cx| theirs.poll_inbound_unpin(cx)),
            )
            .await;
            join(
                beside(&mut ours, both_ways(here.unwrap(), length)),
                beside(&mut theirs, both_ways(there.unwrap(), length)),
            )
            .await;
        }
    });
}

/// More streams than a connection holds at a time, one after the other: each is let go of when both ends are done with it.
#[test]
fn a_connection_serves_more_streams_than_it_holds_at_once() {
    run(async {
        let (mut ours, mut theirs, _transports) = connected().await;
        for _ in 0..600 {
            let here = poll_fn(|cx| ours.poll_outbound_unpin(cx)).await.unwrap();
            let there = poll_fn(|cx| theirs.poll_inbound_unpin(cx)).await.unwrap();
            join(
                beside(&mut ours, both_ways(here, 10)),
                beside(&mut theirs, both_ways(there, 10)),
            )
            .await;
        }
    });
}

/// What nobody reads fills a bounded buffer; then its writer waits, and goes on when it is read.
#[test]
fn a_reader_that_is_late_gets_everything() {
    run(async {
        let (mut ours, mut theirs, _transports) = connected().await;
        let mut here = poll_fn(|cx| ours.poll_outbound_unpin(cx)).await.unwrap();
        let sent = pattern(16 << 20);
        let mut written = 0;
        let write = async {
            while written < sent.len() {
                let part = &sent[written..(written + 65_536).min(sent.len())];
                match tokio::time::timeout(Duration::from_secs(2), here.write(part)).await {
                    Ok(length) => written += length.unwrap(),
                    Err(_) => break,
                }
            }
        };
        beside(&mut ours, write).await;
        assert!(written < sent.len(), "all of it went into memory");
        let mut there = poll_fn(|cx| theirs.poll_inbound_unpin(cx)).await.unwrap();
        let mut got = Vec::new();
        let rest = async {
            here.write_all(&sent[written..]).await.unwrap();
            here.close().await.unwrap();
        };
        join(
            beside(&mut ours, rest),
            beside(&mut theirs, async {
                there.read_to_end(&mut got).await.unwrap();
            }),
        )
        .await;
        assert!(got == sent);
    });
}

#[test]
fn an_end_that_leaves_is_noticed() {
    run(async {
        let (mut ours, theirs, _transports) = connected().await;
        drop(theirs);
        let ended = poll_fn(|cx| ours.poll_inbound_unpin(cx)).await;
        assert!(ended.is_err());
    });
}

#[test]
fn another_certificate_than_the_address_names_is_refused() {
    run(async {
        let ((mut ours, _), (mut theirs, _)) = (transport(), transport());
        let address = listen(&mut theirs).await;
        let mut named = DirectAddress::parse(&address).unwrap();
        named.fingerprint = Some(Certificate::generate().unwrap().fingerprint);
        let dialled = dial(&mut ours, &named.to_multiaddr());
        let serve = async {
            match next(&mut theirs).await {
                TransportEvent::Incoming { upgrade, .. } => upgrade.await,
                other => panic!("{other:?}"),
            }
        };
        let (dialled, served) = join(dialled, serve).await;
        let why = dialled.err().unwrap().to_string();
        assert!(why.contains("certificate"), "{why}");
        assert!(served.is_err());
    });
}

/// Sends what begins a connection, and says whether it was answered.
async fn knock(at: SocketAddr, from: &str, number: usize, signed: bool) -> bool {
    let socket = UdpSocket::bind((from, 0)).await.unwrap();
    let word = format!("{}{number:032}", Version::V1.prefix());
    let username = Username {
        version: Version::V1,
        listener: &word,
        dialler: &word,
    };
    let mut check = stun::check([1; 12], &username, [2; 8], &hmac_sha1);
    if !signed {
        let middle = check.len() - 20;
        check[middle] ^= 1;
    }
    socket.send_to(&[0; 40], at).await.unwrap();
    socket.send_to(&check, at).await.unwrap();
    // The listener answers packets in turn: what this one is answered with, stands in front of it.
    let marker = stun::check([3; 12], &username, [2; 8], &hmac_sha1);
    if !signed {
        socket.send_to(&marker, at).await.unwrap();
    }
    let mut buffer = [0; 256];
    match tokio::time::timeout(Duration::from_millis(300), socket.recv(&mut buffer)).await {
        Ok(received) => stun::answers(&buffer[..received.unwrap()], [1; 12], &word, &hmac_sha1),
        Err(_) => false,
    }
}

/// Whoever only pretends to begin can make us hold so much, and no more; and from one place, less.
#[test]
fn half_open_connections_are_bounded_and_nonsense_is_not_answered() {
    run(async {
        let (mut theirs, _) = transport();
        let address = listen(&mut theirs).await;
        let at = DirectAddress::parse(&address).unwrap().socket;
        assert!(!knock(at, "127.0.0.1", 0, false).await, "a wrong signature");
        // Only Linux has all of 127.0.0.0/8.
        let places = if cfg!(target_os = "linux") { 4 } else { 1 };
        let mut answers = Vec::new();
        for place in 1..=places {
            let from = format!("127.0.0.{place}");
            let knocks = (0..40).map(|number| knock(at, &from, place * 100 + number, true));
            let answered = futures::future::join_all(knocks).await;
            answers.push(answered.into_iter().filter(|answered| *answered).count());
        }
        // The bucket holds 32, one of which the first knock took, and gains four a second.
        assert!((31..=34).contains(&answers[0]), "{answers:?}");
        assert!(answers.iter().sum::<usize>() <= HALF_OPEN, "{answers:?}");
        if places == 4 {
            assert_eq!(answers[3], 0, "{answers:?}");
        }
    });
}

/// Two sessions without a network: `lose` says which packets do not arrive.
struct Wire {
    ends: [session::Session; 2],
    now: std::time::Instant,
}

impl Wire {
    fn new() -> Self {
        let now = connection::now();
        let end = |dialler| session::Session::new(&Certificate::generate().unwrap(), dialler, now).unwrap();
        Self {
            ends: [end(true), end(false)],
            now,
        }
    }

    /// Moves what there is, and lets time pass until the next deadline.
    fn step(&mut self, lose: &mut impl FnMut() -> bool) {
        for from in [0, 1] {
            self.ends[from].advance(self.now);
            for packet in self.ends[from].take_outgoing(usize::MAX) {
                if !lose() {
                    self.ends[1 - from].receive(&packet, self.now);
                }
            }
        }
        let next = self.ends.iter().filter_map(session::Session::deadline).min();
        self.now = next
            .map_or(self.now, |next| next.max(self.now))
            .min(self.now + Duration::from_millis(10))
            + Duration::from_micros(100);
        // ICE is not here to say that both are.
        self.ends.iter_mut().for_each(|end| end.hear(self.now));
    }
}

/// The DTLS library panics when it is given a packet before it knows the time.
#[test]
fn a_listener_can_be_told_something_before_anything_else() {
    let mut wire = Wire::new();
    wire.ends[0].advance(wire.now);
    for packet in wire.ends[0].take_outgoing(usize::MAX) {
        wire.ends[1].receive(&packet, wire.now);
    }
    assert!(wire.ends[1].has_outgoing());
}

#[test]
fn a_lossy_network_loses_nothing() {
    let mut wire = Wire::new();
    let mut packets = 0_u32;
    // About one in nine, without a period that a retransmission could share.
    let mut lose = || {
        packets += 1;
        packets.wrapping_mul(0x9e37_79b9) >> 16 & 0xff < 28
    };
    let mut cx = Context::from_waker(Waker::noop());
    while wire.ends.iter_mut().any(|end| end.poll_up(&mut cx).is_pending()) {
        wire.step(&mut lose);
    }
    let ours = wire.ends[0].open().unwrap();
    let sent = pattern(400_000);
    let mut parts = sent.chunks(16_000).peekable();
    let mut got = Vec::new();
    let mut theirs = None;
    for _ in 0..100_000 {
        while parts.peek().is_some() && wire.ends[0].poll_ready(ours, &mut cx) == Poll::Ready(true) {
            assert!(wire.ends[0].send(ours, parts.next().unwrap()));
        }
        wire.step(&mut lose);
        if let (None, Poll::Ready(Some(opened))) = (theirs, wire.ends[1].poll_incoming(&mut cx)) {
            theirs = Some(opened);
        }
        if let Some(theirs) = theirs {
            while let Poll::Ready(Some(message)) = wire.ends[1].poll_receive(theirs, &mut cx) {
                got.extend(message);
            }
        }
        if got.len() == sent.len() {
            break;
        }
    }
    assert!(got == sent, "{} of {} bytes", got.len(), sent.len());
}

/// What a peer sends before it has proven anything reaches DTLS.
#[test]
fn nonsense_does_not_end_a_session() {
    let mut wire = Wire::new();
    let mut cx = Context::from_waker(Waker::noop());
    let mut seed = 1_u64;
    let mut noise = |length: usize| -> Vec<u8> {
        (0..length)
            .map(|_| {
                seed = seed
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                (seed >> 56) as u8
            })
            .collect()
    };
    while wire.ends.iter_mut().any(|end| end.poll_up(&mut cx).is_pending()) {
        for length in [0, 1, 13, 64, 1_200] {
            let mut packet = noise(length);
            wire.ends[1].receive(&packet, wire.now);
            // A record of the handshake, whose body is nonsense.
            if let [kind, major, minor, epoch @ .., _] = packet.as_mut_slice()
                && epoch.len() > 10
            {
                (*kind, *major, *minor) = (22, 254, 253);
                epoch[..8].fill(0);
                epoch[8..10].copy_from_slice(&(length as u16 - 13).to_be_bytes());
            }
            wire.ends[1].receive(&packet, wire.now);
        }
        wire.step(&mut || false);
    }
    assert!(!wire.ends[1].is_down());
}
