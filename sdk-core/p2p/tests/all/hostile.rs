//! Peers that do what nobody honest does, over real sockets. Whatever they try, others are served.

use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt, FutureExt, StreamExt};
use kwaainet_network::record::{RECORDS, RecordsMessage};
use kwaainet_network::{Address, Network, NetworkError, Protocol, RecordKey};
use kwaainet_p2p::{Contact, P2p};
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::{Transport, upgrade};
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::swarm::{FromSwarm, NetworkBehaviour, NewExternalAddrCandidate, SwarmEvent};
use libp2p::{
    Multiaddr, Stream, StreamProtocol, Swarm, autonat, identify, identity, noise, relay, swarm, tcp, yamux,
};
use tokio::io::AsyncWriteExt as _;

use crate::common;

const ECHO: Protocol = Protocol {
    name: "/kwaainet/test/echo/1",
    longest: 1 << 20,
};

/// Where the victim is, in libp2p's words.
fn target(victim: &P2p) -> (libp2p::PeerId, Multiaddr) {
    let (peer, at) = victim.addresses().remove(0).split_peer().unwrap();
    let peer = libp2p::PeerId::from_bytes(&peer.to_bytes()).unwrap();
    (peer, at.as_str().parse().unwrap())
}

/// Somebody with libp2p and bad intentions.
fn stranger<B: NetworkBehaviour>(
    behave: impl FnOnce(libp2p::PeerId) -> (Option<relay::client::Transport>, B),
) -> Swarm<B> {
    let keypair = identity::Keypair::generate_ed25519();
    let noise = noise::Config::new(&keypair).unwrap();
    let direct = tcp::tokio::Transport::new(tcp::Config::default())
        .upgrade(upgrade::Version::V1Lazy)
        .authenticate(noise.clone())
        .multiplex(yamux::Config::default())
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
    let peer = keypair.public().to_peer_id();
    let (through, behaviour) = behave(peer);
    let transport = match through {
        None => direct.boxed(),
        Some(through) => {
            let through = through
                .upgrade(upgrade::Version::V1Lazy)
                .authenticate(noise)
                .multiplex(yamux::Config::default())
                .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)));
            let either = through.or_transport(direct);
            either.map(|either, _| either.into_inner()).boxed()
        }
    };
    let config = swarm::Config::with_tokio_executor().with_idle_connection_timeout(Duration::from_secs(60));
    Swarm::new(transport, behaviour, peer, config)
}

/// Streams of raw bytes to the victim.
async fn attacker(victim: &P2p) -> libp2p_stream::Control {
    let mut swarm = stranger(|_| (None, libp2p_stream::Behaviour::new()));
    let control = swarm.behaviour().new_control();
    let (peer, at) = target(victim);
    swarm
        .dial(DialOpts::peer_id(peer).addresses(vec![at]).build())
        .unwrap();
    tokio::spawn(async move { while swarm.next().await.is_some() {} });
    control
}

async fn raw(control: &mut libp2p_stream::Control, victim: &P2p) -> Stream {
    let (peer, _) = target(victim);
    control
        .open_stream(peer, StreamProtocol::new(ECHO.name))
        .await
        .unwrap()
}

/// Serves echoes for as long as the test runs.
fn serve(node: &P2p) {
    let mut incoming = node.serve(ECHO).unwrap();
    tokio::spawn(async move {
        while let Some(mut stream) = incoming.next().await {
            tokio::spawn(async move {
                while let Some(Ok(message)) = stream.receiver.next().await {
                    if stream.sender.send(message).await.is_err() {
                        break;
                    }
                }
            });
        }
    });
}

/// Somebody honest is served.
async fn honest(victim: &P2p) {
    let node = common::node(false).await;
    node.dial(victim.local_peer(), victim.addresses()).await.unwrap();
    let mut stream = node.open(victim.local_peer(), ECHO).await.unwrap();
    stream.sender.send(vec![7; 100_000]).await.unwrap();
    assert_eq!(stream.receiver.next().await, Some(Ok(vec![7; 100_000])));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frames_that_make_no_sense_end_their_stream_and_nothing_else() {
    let victim = common::node(true).await;
    let mut incoming = victim.serve(ECHO).unwrap();
    let mut control = attacker(&victim).await;
    let too_long = [0x81, 0x80, 0x40];
    let attacks: [(&str, &[u8], bool); 4] = [
        ("a length that does not end", &[0xff; 12], false),
        ("32 GiB", &[0xff, 0xff, 0xff, 0xff, 0x7f], false),
        ("a byte more than is allowed", &too_long, false),
        ("half a message", &[100, 1, 2, 3], true),
    ];
    for (what, bytes, ends) in attacks {
        let mut stream = raw(&mut control, &victim).await;
        stream.write_all(bytes).await.unwrap();
        stream.flush().await.unwrap();
        if ends {
            stream.close().await.unwrap();
        }
        let mut taken = incoming.next().await.unwrap();
        let read = taken.receiver.next().await;
        let told = matches!(
            read,
            Some(Err(NetworkError::Broken { .. } | NetworkError::TooLong { .. }))
        );
        assert!(told, "{what}: {read:?}");
        assert_eq!(taken.receiver.next().await, None, "{what}");
        // The attacker is told by a reset, and the connection stays.
        let end = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut [0; 10])).await;
        assert!(matches!(end, Ok(Err(_) | Ok(0))), "{what}: {end:?}");
    }
    drop(incoming);
    serve(&victim);
    honest(&victim).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_announced_and_not_sent_costs_nothing() {
    let victim = common::node(true).await;
    serve(&victim);
    let mut control = attacker(&victim).await;
    let before = resident();
    let mut held = vec![];
    for _ in 0..200 {
        let mut stream = raw(&mut control, &victim).await;
        // A megabyte is announced, one byte is sent.
        stream.write_all(&[0x80, 0x80, 0x40, 1]).await.unwrap();
        stream.flush().await.unwrap();
        held.push(stream);
    }
    honest(&victim).await;
    let grown = resident().saturating_sub(before);
    assert!(
        grown < 60 << 20,
        "{grown} bytes for 200 streams of which nothing came"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_may_come_byte_by_byte() {
    let victim = common::node(true).await;
    serve(&victim);
    let mut control = attacker(&victim).await;
    let mut stream = raw(&mut control, &victim).await;
    for byte in [0x83, 0x00, 1, 2] {
        stream.write_all(&[byte]).await.unwrap();
        stream.flush().await.unwrap();
        // Nobody waits for the rest of it.
        honest(&victim).await;
    }
    stream.write_all(&[3]).await.unwrap();
    stream.flush().await.unwrap();
    let mut back = [0; 4];
    stream.read_exact(&mut back).await.unwrap();
    assert_eq!(back, [3, 1, 2, 3], "who is slow is served, too");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_streams_ends_at_a_limit() {
    let victim = common::node(true).await;
    serve(&victim);
    let mut control = attacker(&victim).await;
    let (peer, _) = target(&victim);
    let mut held = vec![];
    loop {
        let opening = control.open_stream(peer, StreamProtocol::new(ECHO.name));
        let Ok(Ok(mut stream)) = tokio::time::timeout(Duration::from_secs(3), opening).await else {
            break;
        };
        if stream.write_all(&[1, 7]).await.is_err() {
            break;
        }
        held.push(stream);
        assert!(held.len() < 2000, "there is no limit");
    }
    // yamux has room for 512 in a connection.
    assert!(held.len() > 100, "only {}", held.len());
    honest(&victim).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_connections_from_one_address_leaves_room_for_others() {
    let victim = common::node(true).await;
    serve(&victim);
    let (peer, at) = target(&victim);
    let mut open = 0;
    // A new id each time.
    for _ in 0..140 {
        let mut swarm = stranger(|_| (None, libp2p_stream::Behaviour::new()));
        let dial = DialOpts::peer_id(peer).addresses(vec![at.clone()]).build();
        swarm.dial(dial).unwrap();
        let established = loop {
            match swarm.next().await.unwrap() {
                SwarmEvent::ConnectionEstablished { .. } => break true,
                SwarmEvent::OutgoingConnectionError { .. } => break false,
                _ => {}
            }
        };
        open += usize::from(established);
        tokio::spawn(async move { while swarm.next().await.is_some() {} });
    }
    assert!(victim.peers().len() <= 128, "{} of {open}", victim.peers().len());
    let other = common::node(false).await;
    let door = common::elsewhere(&victim).await;
    other.dial(victim.local_peer(), vec![door]).await.unwrap();
    common::until(|| victim.peers().len() == 129).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_records_is_told_so_and_keeps_nothing() {
    let victim = common::node(true).await;
    let flood = common::node(false).await;
    flood.dial(victim.local_peer(), victim.addresses()).await.unwrap();
    let mut said = vec![];
    for which in 0..70_u8 {
        let mut stream = flood.open(victim.local_peer(), RECORDS).await.unwrap();
        let (key, record) = (RecordKey([which; 32]), vec![which; 500]);
        stream
            .sender
            .send(RecordsMessage::Store { key, record }.encode())
            .await
            .unwrap();
        let answer = stream.receiver.next().await.unwrap().unwrap();
        said.push(RecordsMessage::answer(&answer).unwrap());
    }
    let refusal = |answer: &RecordsMessage| match answer {
        RecordsMessage::Refused(reason) => reason.clone(),
        other => panic!("{other:?}"),
    };
    let (first, last) = (refusal(&said[0]), refusal(&said[69]));
    assert_ne!(
        first, last,
        "at first for what they are, at last for how many they are"
    );
    assert!(last.contains("too"), "{last}");
    assert_eq!(victim.records_bytes(), 0);
    let honest = common::node(false).await;
    honest
        .dial(victim.local_peer(), victim.addresses())
        .await
        .unwrap();
    let mut stream = honest.open(victim.local_peer(), RECORDS).await.unwrap();
    let (key, limit) = (RecordKey([1; 32]), 5);
    stream
        .sender
        .send(RecordsMessage::Find { key, limit }.encode())
        .await
        .unwrap();
    assert!(stream.receiver.next().await.unwrap().is_ok());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_reservations_ends_at_a_limit() {
    let relay = common::relay().await;
    let (peer, at) = target(&relay);
    let at = at
        .with_p2p(peer)
        .unwrap()
        .with(libp2p::multiaddr::Protocol::P2pCircuit);
    let mut swarm = stranger(|me| {
        let (through, behaviour) = relay::client::new(me);
        (Some(through), behaviour)
    });
    let (mut taken, mut refused) = (0, None);
    while refused.is_none() && taken < 100 {
        swarm.listen_on(at.clone()).unwrap();
        loop {
            match swarm.next().await.unwrap() {
                SwarmEvent::Behaviour(relay::client::Event::ReservationReqAccepted { .. }) => {
                    taken += 1;
                    break;
                }
                SwarmEvent::ListenerClosed { reason: Err(why), .. } => {
                    refused = Some(why);
                    break;
                }
                _ => {}
            }
        }
    }
    let why = refused.expect("there is a limit");
    let mut cause: &dyn std::error::Error = &why;
    while let Some(source) = cause.source() {
        cause = source;
    }
    assert!(cause.to_string().contains("limit exceeded"), "{cause}");
    assert!((4..=70).contains(&taken), "{taken}: {why}");
    // Others have places.
    let hidden = common::node(false).await;
    let circuit = format!("{}/p2p-circuit", relay.addresses().remove(0));
    hidden.listen(Address::new(circuit).unwrap()).await.unwrap();
    common::until(|| {
        hidden
            .addresses()
            .iter()
            .any(|at| at.as_str().contains("p2p-circuit"))
    })
    .await;
}

/// Bytes of this process that are in memory; 0 where the system does not tell.
fn resident() -> u64 {
    let pages = std::fs::read_to_string("/proc/self/statm").ok();
    let pages = pages.and_then(|text| text.split(' ').nth(1)?.parse::<u64>().ok());
    pages.unwrap_or(0) * 4096
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_peer_that_never_reads_holds_up_itself_alone() {
    let victim = common::node(true).await;
    serve(&victim);
    let mut control = attacker(&victim).await;
    let before = resident();
    let mut held = vec![];
    for _ in 0..8 {
        let mut stream = raw(&mut control, &victim).await;
        let mut message = vec![0x80, 0x80, 0x40];
        message.resize(3 + (1 << 20), 9);
        // Echoes that nobody reads; once the windows are full nothing more is taken.
        let writing = async {
            for _ in 0..64 {
                stream.write_all(&message).await?;
            }
            stream.flush().await
        };
        let _ = tokio::time::timeout(Duration::from_millis(500), writing).await;
        held.push(stream);
    }
    honest(&victim).await;
    let grown = resident().saturating_sub(before);
    assert!(grown < 200 << 20, "{grown} bytes for 8 streams that nobody reads");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sockets_that_say_nothing_keep_nobody_out() {
    let victim = common::node(true).await;
    serve(&victim);
    let (_, at) = victim.addresses().remove(0).split_peer().unwrap();
    let port: u16 = at.as_str().rsplit('/').next().unwrap().parse().unwrap();
    let mut sockets = vec![];
    for which in 0..200_usize {
        let mut socket = tokio::net::TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        // Some begin, and some do not even do that.
        let begun: &[u8] = if which % 2 == 0 {
            b"\x13/multistream/1.0.0\n"
        } else {
            b""
        };
        let _ = socket.write_all(begun).await;
        sockets.push(socket);
    }
    let other = common::node(false).await;
    let door = common::elsewhere(&victim).await;
    other.dial(victim.local_peer(), vec![door]).await.unwrap();
    // And the silent are shown out.
    let begun = tokio::time::Instant::now();
    for mut socket in sockets {
        let mut said = vec![];
        let read = tokio::io::AsyncReadExt::read_to_end(&mut socket, &mut said);
        tokio::time::timeout(Duration::from_secs(20), read)
            .await
            .unwrap()
            .ok();
    }
    assert!(begun.elapsed() < Duration::from_secs(20));
    honest(&victim).await;
}

/// Somebody who asks to be called back.
#[derive(NetworkBehaviour)]
struct Asker {
    identify: identify::Behaviour,
    asks: autonat::v2::client::Behaviour,
}

impl Asker {
    fn new() -> Self {
        let key = identity::Keypair::generate_ed25519().public();
        let config = autonat::v2::client::Config::default().with_probe_interval(Duration::from_millis(50));
        Self {
            identify: identify::Behaviour::new(identify::Config::new("/test/1".to_owned(), key)),
            asks: autonat::v2::client::Behaviour::new(Default::default(), config),
        }
    }

    fn ask(&mut self, addr: &Multiaddr) {
        let candidate = NewExternalAddrCandidate { addr };
        self.asks
            .on_swarm_event(FromSwarm::NewExternalAddrCandidate(candidate));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_calls_back_nobody_whom_the_asker_may_not_have_called() {
    let relay = common::relay().await;
    let (peer, at) = target(&relay);
    let door = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = door.local_addr().unwrap().port();
    let mut swarm = stranger(|_| (None, Asker::new()));
    swarm
        .dial(DialOpts::peer_id(peer).addresses(vec![at]).build())
        .unwrap();
    // Through somebody else it is that one who would be called.
    let direct: Multiaddr = format!("/ip4/127.0.0.1/tcp/{port}").parse().unwrap();
    let through = direct
        .clone()
        .with(libp2p::multiaddr::Protocol::P2p(libp2p::PeerId::random()))
        .with(libp2p::multiaddr::Protocol::P2pCircuit);
    swarm.behaviour_mut().ask(&through);
    let answered = async {
        loop {
            if let SwarmEvent::Behaviour(AskerEvent::Asks(answer)) = swarm.next().await.unwrap()
                && answer.tested_addr == through
            {
                break answer;
            }
        }
    };
    let answer = tokio::time::timeout(Duration::from_secs(15), answered)
        .await
        .unwrap();
    assert!(answer.result.is_err());
    assert!(door.accept().now_or_never().is_none(), "it was called");
    swarm.behaviour_mut().ask(&direct);
    tokio::spawn(async move { while swarm.next().await.is_some() {} });
    let called = tokio::time::timeout(Duration::from_secs(10), door.accept()).await;
    called.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_vanishes_is_noticed() {
    let relay = common::relay().await;
    // They stay behind the relay, so that everything ends with it.
    let (here, there) = (
        common::reached(Contact::Relayed).await,
        common::reached(Contact::Relayed).await,
    );
    serve(&there);
    for node in [&here, &there] {
        common::with_a_place(node, &relay).await;
    }
    here.dial(there.local_peer(), there.addresses()).await.unwrap();
    let mut stream = here.open(there.local_peer(), ECHO).await.unwrap();
    stream.sender.send(vec![1; 1000]).await.unwrap();
    assert_eq!(stream.receiver.next().await, Some(Ok(vec![1; 1000])));
    drop(relay);
    let end = tokio::time::timeout(Duration::from_secs(10), stream.receiver.next())
        .await
        .unwrap();
    assert!(!matches!(end, Some(Ok(_))), "{end:?}");
    common::until(|| here.peers().is_empty()).await;
    // Nobody is told any more that it can be reached there.
    common::until(|| there.addresses().is_empty()).await;
}
