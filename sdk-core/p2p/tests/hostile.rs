//! Peers that do what nobody honest does, over real sockets. Whatever they try, others are served.
#![cfg(not(target_family = "wasm"))]

mod common;

use std::time::{Duration, Instant};

use futures::{AsyncReadExt, AsyncWriteExt, StreamExt};
use kwaainet_network::{Address, Network, NetworkError, Protocol};
use kwaainet_p2p::P2p;
use libp2p::core::{Transport, upgrade};
use libp2p::swarm::dial_opts::DialOpts;
use libp2p::{Stream, StreamProtocol, Swarm, identity, noise, swarm, tcp, yamux};
use tokio::io::AsyncWriteExt as _;

const ECHO: Protocol = Protocol {
    name: "/kwaainet/test/echo/1",
    longest: 1 << 20,
};

/// Somebody with libp2p and bad intentions: streams of raw bytes.
async fn attacker(victim: &P2p) -> libp2p_stream::Control {
    let keypair = identity::Keypair::generate_ed25519();
    let transport = tcp::tokio::Transport::new(tcp::Config::default())
        .upgrade(upgrade::Version::V1Lazy)
        .authenticate(noise::Config::new(&keypair).unwrap())
        .multiplex(yamux::Config::default())
        .boxed();
    let config = swarm::Config::with_tokio_executor().with_idle_connection_timeout(Duration::from_secs(60));
    let streams = libp2p_stream::Behaviour::new();
    let control = streams.new_control();
    let mut swarm = Swarm::new(transport, streams, keypair.public().to_peer_id(), config);
    let (peer, at) = victim.addresses()[0].split_peer().unwrap();
    let peer = libp2p::PeerId::from_bytes(&peer.to_bytes()).unwrap();
    let dial = DialOpts::peer_id(peer)
        .addresses(vec![at.as_str().parse().unwrap()])
        .build();
    swarm.dial(dial).unwrap();
    tokio::spawn(async move { while swarm.next().await.is_some() {} });
    control
}

async fn raw(control: &mut libp2p_stream::Control, victim: &P2p) -> Stream {
    let peer = libp2p::PeerId::from_bytes(&victim.local_peer().to_bytes()).unwrap();
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
    let (_, at) = victim.addresses()[0].split_peer().unwrap();
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
    // From elsewhere: 127.0.0.2 is another machine for this purpose.
    let other = common::node_from("127.0.0.2").await;
    other.dial(victim.local_peer(), victim.addresses()).await.unwrap();
    // And the silent are shown out.
    let begun = Instant::now();
    for mut socket in sockets {
        let read = tokio::io::AsyncReadExt::read_to_end(&mut socket, &mut vec![]);
        tokio::time::timeout(Duration::from_secs(20), read)
            .await
            .unwrap()
            .ok();
    }
    assert!(begun.elapsed() < Duration::from_secs(20));
    honest(&victim).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_relay_that_vanishes_is_noticed() {
    let relay = common::relay().await;
    let (here, there) = (common::node(false).await, common::node(false).await);
    serve(&there);
    let at = relay.addresses().remove(0);
    there.dial(relay.local_peer(), vec![at.clone()]).await.unwrap();
    there
        .listen(Address::new(format!("{at}/p2p-circuit")).unwrap())
        .await
        .unwrap();
    let circuit = format!("{at}/p2p-circuit");
    while !there
        .addresses()
        .iter()
        .any(|known| known.as_str().contains("p2p-circuit"))
    {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    here.dial(there.local_peer(), vec![Address::new(circuit).unwrap()])
        .await
        .unwrap();
    let mut stream = here.open(there.local_peer(), ECHO).await.unwrap();
    stream.sender.send(vec![1; 1000]).await.unwrap();
    assert_eq!(stream.receiver.next().await, Some(Ok(vec![1; 1000])));
    drop(relay);
    let end = tokio::time::timeout(Duration::from_secs(10), stream.receiver.next())
        .await
        .unwrap();
    assert!(!matches!(end, Some(Ok(_))), "{end:?}");
    while !here.peers().is_empty() {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
