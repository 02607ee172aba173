//! `kwaainet peer`, `peers` and `ping`.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use kwaainet_network::swarm::Limits;
use kwaainet_network::{Address, Network as _, NetworkError, PeerId, Protocol, Reach};
use kwaainet_p2p::{Contact, P2p, Setup};
use kwaainet_types::ErrorCode;
use serde_json::{Value, json};

use super::Context;
use crate::cli::{Peer, Peers, Ping};
use crate::host::Host;
use crate::platform::{Node, open_node};
use crate::server::Control;
use crate::ui::{bytes, count, stderr_is_terminal};
use crate::{HostError, exit};

/// Next to that of `kwaainet serve`.
const CONTROL: u16 = 11_436;
/// Every way in, for this machine only: whoever wants to be reached says so.
const LISTEN: [&str; 3] = [
    "/ip4/127.0.0.1/tcp/0",
    "/ip4/127.0.0.1/udp/0/quic-v1",
    "/ip4/127.0.0.1/tcp/0/ws",
];
/// The protocol of tests/interop.
const ECHO: Protocol = Protocol {
    name: "/kwaainet/test/echo/1",
    longest: 2 << 20,
};
/// An address is bound at once, or not at all.
const BOUND: Duration = Duration::from_secs(5);
const LOOK: Duration = Duration::from_secs(1);
/// When lending is tried again.
const AGAIN: Duration = Duration::from_secs(30);
/// Answers of a peer on this machine.
const MOST_ANSWER: u64 = 16 << 20;

fn network(error: &NetworkError) -> HostError {
    HostError::node(ErrorCode::NetworkUnreachable, error.to_string())
}

fn address(text: &str) -> Result<Address, HostError> {
    Address::new(text).ok_or_else(|| {
        HostError::Usage(format!(
            "{text} is no multiaddr: write one as in /ip4/127.0.0.1/tcp/4001"
        ))
    })
}

/// Addresses of peers that are known already.
pub(super) fn known(texts: &[String]) -> Result<Vec<(PeerId, Address)>, HostError> {
    texts.iter().map(|text| whose(text)).collect()
}

/// An address that says whose it is.
fn whose(text: &str) -> Result<(PeerId, Address), HostError> {
    address(text)?.split_peer().ok_or_else(|| {
        HostError::Usage(format!(
            "{text} does not say whose address it is: end it with /p2p/ and the peer's id, as `kwaainet peer` prints it"
        ))
    })
}

pub(super) fn run(context: &Context, args: &Peer) -> Result<u8, HostError> {
    let known = known(&args.bootstrap)?;
    let listen = places(args)?;
    let cancel = context.interrupt.begin();
    let control = Control::bind(args.control.unwrap_or(CONTROL))?;
    let host = Host::open(&context.settings, None)?;
    let setup = Setup {
        // What others ask of a table would all go through its relays.
        serves: !args.hidden,
        relays: args.relay,
        contact: if args.hidden {
            Contact::Relayed
        } else {
            Contact::Open
        },
        allowed: allowed(&args.allow, &known)?,
        proxies: args.proxy.clone(),
        ..Setup::default()
    };
    let Node {
        network,
        keypair,
        runtime,
    } = open_node(
        Some(&context.settings.data_dir),
        &setup,
        args.private.psk.as_deref(),
    )?;
    host.core().grant_peer_operator();
    host.core()
        .set_network(Some((Arc::new(network.clone()), keypair)));
    runtime.block_on(async {
        let mut expected = listen.len();
        for address in listen {
            network
                .listen(address)
                .await
                .map_err(|error| self::network(&error))?;
        }
        if args.hidden {
            // Its only addresses are those that a relay gives it.
            meet(context, &network, known.clone()).await;
            expected = 1;
        }
        let bound = async {
            while network.addresses().len() < expected {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        if tokio::time::timeout(BOUND, bound).await.is_err() {
            return Err(HostError::Listen {
                address: "the network".to_owned(),
                reason: if args.hidden {
                    "none of the peers of --bootstrap has a place for it: are they relays (--relay)?".to_owned()
                } else {
                    "an address was not bound: another program may use its port".to_owned()
                },
            });
        }
        if args.echo {
            tokio::spawn(echo(network.clone()));
        }
        announce(context, &network, control.address().port())?;
        tokio::spawn(control.run(network.clone(), host.clone()));
        if !args.hidden && !known.is_empty() {
            meet(context, &network, known).await;
        }
        if context.settings.catalogue.is_none() {
            context.output.note(
                "No catalogue is configured, so this peer lends no models: pass --catalogue with the URL or file of a \
                 models.json.",
            );
        }
        tokio::select! {
            () = cancel.cancelled() => Ok(()),
            () = watch(context, &network, &host) => Ok(()),
            () = lend(context, &host, args.upload) => Ok(()),
        }
    })?;
    host.core().set_network(None);
    drop(network);
    runtime.shutdown_timeout(Duration::from_secs(2));
    context.output.note("Left the network.");
    // Ctrl-C and SIGTERM are how a peer is meant to end.
    Ok(exit::OK)
}

async fn meet(context: &Context, network: &P2p, known: Vec<(PeerId, Address)>) {
    let (asked, reached) = (known.len(), network.bootstrap(known).await);
    context
        .output
        .note(&format!("{reached} of {asked} known peers were reached."));
}

/// Where to listen.
fn places(args: &Peer) -> Result<Vec<Address>, HostError> {
    let private = args.private.psk.is_some();
    let is_quic = |text: &str| text.contains("/quic");
    if private && let Some(text) = args.listen.iter().find(|text| is_quic(text)) {
        return Err(HostError::Usage(format!(
            "{text}: QUIC has no place for the key of a private network (--psk). Listen over tcp, or tcp and ws"
        )));
    }
    let texts: Vec<&str> = if args.hidden {
        Vec::new()
    } else if args.listen.is_empty() {
        let all = LISTEN.into_iter();
        all.filter(|text| !(private && is_quic(text))).collect()
    } else {
        args.listen.iter().map(String::as_str).collect()
    };
    texts.into_iter().map(address).collect()
}

/// Who may connect: everybody, or those who are named, and the peers that the operator leans on.
fn allowed(named: &[String], known: &[(PeerId, Address)]) -> Result<Option<Vec<PeerId>>, HostError> {
    if named.is_empty() {
        return Ok(None);
    }
    let named = named.iter().map(|text| {
        text.parse().map_err(|_| {
            HostError::Usage(format!(
                "{text} is no peer's id: those of --allow begin with 12D3KooW, as `kwaainet peer` prints them"
            ))
        })
    });
    let mut all = named.collect::<Result<Vec<PeerId>, _>>()?;
    for (peer, address) in known {
        all.push(*peer);
        // The relay that leads to it.
        let relay = address
            .as_str()
            .split_once("/p2p-circuit")
            .and_then(|(relay, _)| Address::new(relay)?.split_peer());
        all.extend(relay.map(|(relay, _)| relay));
    }
    Ok(Some(all))
}

/// Lends models for as long as the peer runs.
async fn lend(context: &Context, host: &Host, upload: Option<u32>) {
    if context.settings.catalogue.is_none() {
        return std::future::pending().await;
    }
    let limits = Limits {
        bytes_per_second: upload.map(|megabytes| u64::from(megabytes).saturating_mul(1_000_000)),
        ..Limits::default()
    };
    loop {
        let lent = async {
            let permit = host.core().permit()?;
            host.core().lend_models(&permit, limits).await
        };
        if let Err(error) = lent.await {
            // The catalogue's server may be away; the peer is of use without it.
            let again = AGAIN.as_secs();
            context.output.note(&format!(
                "No models are lent: {error} (tried again in {again} s)."
            ));
        }
        tokio::time::sleep(AGAIN).await;
    }
}

fn announce(context: &Context, network: &P2p, control: u16) -> Result<(), HostError> {
    let addresses: Vec<String> = network.addresses().iter().map(ToString::to_string).collect();
    let peer = network.local_peer().to_string();
    if context.output.json {
        return context
            .output
            .json(&json!({ "peer": peer, "addresses": addresses, "control": control }));
    }
    context
        .output
        .line(&format!("This peer is {peer}, and listens at"))?;
    for address in &addresses {
        context.output.line(&format!("  {address}"))?;
    }
    if stderr_is_terminal()
        && !context.output.quiet
        && let Some(code) = addresses.first().and_then(|address| qr(address))
    {
        context
            .output
            .note(&format!("{code}\nThe first of them, to be scanned."));
    }
    context.output.note(&format!(
        "http://127.0.0.1:{control}/metrics is for Prometheus. Ctrl-C leaves the network."
    ));
    Ok(())
}

/// A code that a telephone reads, drawn with half blocks.
fn qr(text: &str) -> Option<String> {
    let code = qrcode::QrCode::with_error_correction_level(text, qrcode::EcLevel::L).ok()?;
    Some(code.render::<qrcode::render::unicode::Dense1x2>().build())
}

/// One line that changes on a terminal; elsewhere a line whenever somebody comes or goes.
async fn watch(context: &Context, network: &P2p, host: &Host) {
    let live = !context.output.json && !context.output.quiet && stderr_is_terminal();
    let mut shown = (usize::MAX, usize::MAX, usize::MAX);
    let mut addresses = network.addresses();
    loop {
        let now = network.addresses();
        let new = now.iter().filter(|address| !addresses.contains(address));
        let told = new.map(|address| format!("Others reach this peer at {address}, too."));
        for line in told.chain(network.refusals()) {
            context
                .output
                .note(&format!("{}{line}", if live { "\r\x1b[2K" } else { "" }));
        }
        addresses = now;
        let peers = network.peers();
        let relayed = peers.iter().filter(|info| info.reach == Reach::Relayed).count();
        let (sent, received) = peers.iter().fold((0, 0), |(sent, received), info| {
            (
                info.sent.saturating_add(sent),
                info.received.saturating_add(received),
            )
        });
        // A catalogue that cannot be had now is told of by whoever lends.
        let models = host.core().kept_models().await.unwrap_or_default().len();
        let line = format!(
            "{} ({relayed} relayed), {} sent, {} received, {} of records kept, {models} model{} lent",
            count(peers.len()),
            bytes(sent),
            bytes(received),
            bytes(network.records_bytes() as u64),
            if models == 1 { "" } else { "s" },
        );
        if live {
            // A terminal that is gone is no reason to stop.
            let _ = write!(std::io::stderr().lock(), "\r\x1b[2K{line}");
        } else if shown != (peers.len(), relayed, models) && !context.output.json {
            context.output.note(&line);
        }
        shown = (peers.len(), relayed, models);
        tokio::time::sleep(LOOK).await;
    }
}

async fn echo(network: P2p) {
    let Ok(mut incoming) = network.serve(ECHO) else {
        return;
    };
    while let Some(mut stream) = incoming.next().await {
        tokio::spawn(async move {
            while let Some(Ok(message)) = stream.receiver.next().await {
                if stream.sender.send(message).await.is_err() {
                    break;
                }
            }
        });
    }
}

pub(super) fn peers(context: &Context, args: &Peers) -> Result<u8, HostError> {
    let port = args.control.unwrap_or(CONTROL);
    let body = ask(port).map_err(|error| {
        HostError::node(
            ErrorCode::NetworkUnreachable,
            format!(
                "no peer of this machine answers at port {port} ({error}): start `kwaainet peer`, or say with --control \
                 which port it was given"
            ),
        )
    })?;
    if context.output.json {
        context.output.json(&body)?;
        return Ok(exit::OK);
    }
    let list = body
        .get("peers")
        .and_then(Value::as_array)
        .map_or(&[][..], Vec::as_slice);
    for info in list {
        let text = |key| info.get(key).and_then(Value::as_str).unwrap_or_default();
        let amount = |key| bytes(info.get(key).and_then(Value::as_u64).unwrap_or_default());
        context.output.line(&format!(
            "{}  {:7}  {:>8} sent  {:>8} received  {}",
            text("peer"),
            text("reach"),
            amount("sent"),
            amount("received"),
            text("address"),
        ))?;
    }
    context
        .output
        .aside(&format!("Connected: {}.", count(list.len())));
    Ok(exit::OK)
}

/// Asks the peer on this machine. (Two lines of HTTP, to an address that is ours: no client is needed.)
fn ask(port: u16) -> Result<Value, std::io::Error> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(
        format!("GET /peers HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n").as_bytes(),
    )?;
    let mut answer = String::new();
    stream.take(MOST_ANSWER).read_to_string(&mut answer)?;
    let body = answer
        .split_once("\r\n\r\n")
        .map(|(_, body)| body)
        .unwrap_or_default();
    Ok(serde_json::from_str(body)?)
}

pub(super) fn ping(context: &Context, args: &Ping) -> Result<u8, HostError> {
    let (peer, address) = whose(&args.address)?;
    let cancel = context.interrupt.begin();
    let setup = Setup {
        ping_every: Some(Duration::from_millis(200)),
        ..Setup::default()
    };
    // With a key of its own: this machine's may be in use by `kwaainet peer`.
    let Node { network, runtime, .. } = open_node(None, &setup, args.private.psk.as_deref())?;
    let outcome = runtime.block_on(async {
        let all = async {
            network
                .dial(peer, vec![address])
                .await
                .map_err(|error| self::network(&error))?;
            let mut trips = Vec::new();
            for _ in 0..args.count {
                let ms = network.ping(peer).await.map_err(|error| self::network(&error))?;
                if !context.output.json {
                    context.output.line(&format!("{ms:.2} ms"))?;
                }
                trips.push(ms);
            }
            Ok::<_, HostError>(trips)
        };
        tokio::select! {
            () = cancel.cancelled() => Ok(None),
            trips = all => trips.map(Some),
        }
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    match outcome? {
        None => Ok(exit::INTERRUPTED),
        Some(trips) => {
            if context.output.json {
                context
                    .output
                    .json(&json!({ "peer": peer.to_string(), "ms": trips }))?;
            }
            Ok(exit::OK)
        }
    }
}
