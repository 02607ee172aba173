//! The other end: a socket for each connection, and the checks that a dialler sends.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use kwaainet_p2p::webrtc::{DirectAddress, End};
use kwaainet_platform::Random as _;
use kwaainet_webrtc::stun::{self, Check, Username, Version};
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::{PeerId, identity};
use tokio::net::UdpSocket;
use tokio::time::{MissedTickBehavior, interval};

use super::certificate::Certificate;
use super::connection::{Arrival, Arrivals, begin};
use super::{Error, hmac_sha1};
use crate::platform::SystemRandom;

/// Checks until the first answer, and from then on: browsers do it alike.
const SEEKING: Duration = Duration::from_millis(200);
const KEEPING: u32 = 20;

/// Dials. The first version of the protocol is spoken, which every listener understands: what the second is for, a browser
/// that minds its own offer, is no concern here.
pub(super) async fn dial(
    address: DirectAddress,
    certificate: Certificate,
    keypair: identity::Keypair,
) -> Result<(PeerId, StreamMuxerBox), Error> {
    let promised = address.fingerprint.ok_or(Error::Certificate)?;
    let from: IpAddr = match address.socket {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = Arc::new(UdpSocket::bind((from, 0)).await.map_err(Error::Socket)?);
    // Only this peer is listened to.
    socket.connect(address.socket).await.map_err(Error::Socket)?;
    let (connection, arrivals) =
        begin(&certificate, End::Dialler, Arc::clone(&socket), address.socket).ok_or(Error::Closed)?;
    let mut secret = [0; 16];
    SystemRandom.fill(&mut secret);
    let word = format!("{}{}", Version::V1.prefix(), hex::encode(secret));
    tokio::spawn(receive(socket, address.socket, word, arrivals));
    connection
        .secure(certificate.fingerprint, &keypair, End::Dialler, Some(promised))
        .await
}

/// Moves packets from the socket to the connection for as long as that is there, and checks the path.
async fn receive(socket: Arc<UdpSocket>, peer: SocketAddr, word: String, arrivals: Arrivals) {
    let username = Username {
        version: Version::V1,
        listener: &word,
        dialler: &word,
    };
    let mut tie_breaker = [0; 8];
    SystemRandom.fill(&mut tie_breaker);
    let mut transaction = [0; 12];
    let mut ticks = interval(SEEKING);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut answered, mut quiet) = (false, 0_u32);
    let mut buffer = vec![0; 2_048];
    while !arrivals.is_closed() {
        let received = tokio::select! {
            _ = ticks.tick() => {
                quiet = quiet.saturating_add(1);
                if !answered || quiet >= KEEPING {
                    quiet = 0;
                    SystemRandom.fill(&mut transaction);
                    let check = stun::check(transaction, &username, tie_breaker, &hmac_sha1);
                    let _ = socket.send(&check).await;
                }
                continue;
            }
            received = socket.recv(&mut buffer) => received,
        };
        // An error is that of an earlier packet, which the other machine refused; it may come up yet.
        let Ok(length) = received else { continue };
        let packet = buffer.get(..length).unwrap_or_default();
        let arrival = if !stun::is_stun(packet) {
            Arrival::Packet(packet.to_vec())
        } else if stun::answers(packet, transaction, &word, &hmac_sha1) {
            answered = true;
            Arrival::Check {
                from: peer,
                chosen: true,
            }
        } else {
            // A listener that is no ICE Lite agent checks as well.
            if let Ok(check) = Check::parse(packet)
                && check.username == username
                && check.verified(&hmac_sha1)
            {
                let _ = socket.send(&check.answer(peer, &hmac_sha1)).await;
            }
            continue;
        };
        let _ = arrivals.try_send(arrival);
    }
}
