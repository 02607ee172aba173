//! WebRTC Direct as libp2p sees it: addresses, the Noise handshake on the first data channel, and a connection whose
//! streams are data channels. Hosts bring the data channels.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use futures::AsyncWriteExt as _;
use kwaainet_webrtc::{DataChannel, Fingerprint, Lingering, Side, Substream};
use libp2p::core::muxing::{StreamMuxer, StreamMuxerEvent};
use libp2p::core::upgrade::{InboundConnectionUpgrade as _, OutboundConnectionUpgrade as _};
use libp2p::multiaddr::{Multiaddr, Protocol};
use libp2p::multihash::Multihash;
use libp2p::{PeerId, identity, noise};

/// What an address of WebRTC Direct says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DirectAddress {
    /// Where.
    pub socket: SocketAddr,
    /// The certificate that is to be found there; to listen, none is named.
    pub fingerprint: Option<Fingerprint>,
    /// Who is to be found there.
    pub peer: Option<PeerId>,
}

impl DirectAddress {
    /// Reads `/ip4/…/udp/…/webrtc-direct`, with `/certhash/…` and `/p2p/…` behind it or not; `None` for all else.
    pub fn parse(address: &Multiaddr) -> Option<Self> {
        let mut parts = address.iter();
        let ip = match parts.next()? {
            Protocol::Ip4(ip) => ip.into(),
            Protocol::Ip6(ip) => ip.into(),
            _ => return None,
        };
        let Protocol::Udp(port) = parts.next()? else {
            return None;
        };
        let Protocol::WebRTCDirect = parts.next()? else {
            return None;
        };
        let mut read = Self {
            socket: SocketAddr::new(ip, port),
            fingerprint: None,
            peer: None,
        };
        for part in parts {
            match part {
                // Certificates may be named by several hashes; one that we can check is enough.
                Protocol::Certhash(hash) if read.peer.is_none() => {
                    read.fingerprint = read.fingerprint.or(Fingerprint::from_multihash(&hash.to_bytes()));
                }
                Protocol::P2p(peer) if read.peer.is_none() => read.peer = Some(peer),
                _ => return None,
            }
        }
        Some(read)
    }

    /// The address, without the peer's id.
    pub fn to_multiaddr(&self) -> Multiaddr {
        let address = Multiaddr::from(self.socket.ip())
            .with(Protocol::Udp(self.socket.port()))
            .with(Protocol::WebRTCDirect);
        match self
            .fingerprint
            .and_then(|fingerprint| Multihash::from_bytes(&fingerprint.to_multihash()).ok())
        {
            Some(hash) => address.with(Protocol::Certhash(hash)),
            None => address,
        }
    }
}

/// Which end of a connection one is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It was dialled.
    Listener,
    /// It dialled.
    Dialler,
}

/// Finds out who is at the other end, on the channel that both ends have opened for that (id 0), and closes it. The
/// listener begins: with DTLS 1.2 it is the one that can send first.
///
/// # Errors
/// If the other end cannot prove who it is, or saw other certificates than those of the prologue
/// ([`kwaainet_webrtc::prologue`]).
pub async fn authenticate<C>(
    stream: Substream<C>,
    keypair: &identity::Keypair,
    prologue: Vec<u8>,
    end: End,
) -> io::Result<PeerId>
where
    C: DataChannel + Unpin + Send + 'static,
{
    let noise = noise::Config::new(keypair)
        .map_err(io::Error::other)?
        .with_prologue(prologue);
    let secured = match end {
        End::Listener => noise.upgrade_outbound(stream, "/noise").await,
        End::Dialler => noise.upgrade_inbound(stream, "/noise").await,
    };
    let (peer, mut stream) = secured.map_err(io::Error::other)?;
    // The other end may have closed it already: it has served.
    let _ = stream.close().await;
    Ok(peer)
}

/// Moves data channels between two peers.
pub trait PeerConnection {
    /// What its streams are made of.
    type Channel: DataChannel;

    /// A channel that the other side has opened.
    ///
    /// # Errors
    /// When the connection has ended.
    fn poll_incoming(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Self::Channel>>;

    /// Opens a channel.
    ///
    /// # Errors
    /// When the connection has ended, or has as many channels as it can.
    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Self::Channel>>;

    /// Ends the connection, and all its channels.
    ///
    /// # Errors
    /// None that matter: it has ended.
    fn poll_close(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// A connection as libp2p wants it.
#[derive(Debug)]
pub struct Muxer<P: PeerConnection> {
    connection: P,
    lingering: Lingering<P::Channel>,
}

impl<P: PeerConnection> Muxer<P> {
    /// Streams over this connection.
    pub fn new(connection: P) -> Self {
        Self {
            connection,
            lingering: Lingering::default(),
        }
    }

    /// What the streams are carried by.
    pub fn connection(&self) -> &P {
        &self.connection
    }

    /// A stream on a channel that both ends have opened by agreement, and both may close.
    pub fn stream(&self, channel: P::Channel) -> Substream<P::Channel> {
        self.lingering.stream(channel, Side::Ours)
    }
}

impl<P> StreamMuxer for Muxer<P>
where
    P: PeerConnection + Unpin,
    P::Channel: Unpin,
{
    type Substream = Substream<P::Channel>;
    type Error = io::Error;

    fn poll_inbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<Self::Substream>> {
        let channel = ready!(self.connection.poll_incoming(cx))?;
        Poll::Ready(Ok(self.lingering.stream(channel, Side::Theirs)))
    }

    fn poll_outbound(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<Self::Substream>> {
        let channel = ready!(self.connection.poll_open(cx))?;
        Poll::Ready(Ok(self.lingering.stream(channel, Side::Ours)))
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.connection.poll_close(cx)
    }

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<StreamMuxerEvent>> {
        self.lingering.poll(cx);
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_written() {
        let text =
            "/ip4/127.0.0.1/udp/4001/webrtc-direct/certhash/uEiAwqLL2VHcFWz-yIGHvxZCNHMnIxVYPNVYXyxKMjVI9Bw";
        let address: Multiaddr = text.parse().unwrap();
        let read = DirectAddress::parse(&address).unwrap();
        assert!(read.fingerprint.is_some() && read.peer.is_none());
        assert_eq!(read.to_multiaddr(), address);
        let peer: PeerId = "12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X"
            .parse()
            .unwrap();
        let whole = address.with(Protocol::P2p(peer));
        assert_eq!(
            DirectAddress::parse(&whole),
            Some(DirectAddress {
                peer: Some(peer),
                ..read
            })
        );
        for other in [
            "/ip4/127.0.0.1/tcp/4001",
            "/ip4/127.0.0.1/udp/4001",
            "/ip4/127.0.0.1/udp/4001/quic-v1",
            "/ip4/127.0.0.1/udp/4001/webrtc-direct/tcp/1",
            "/dns/localhost/udp/4001/webrtc-direct",
        ] {
            assert_eq!(DirectAddress::parse(&other.parse().unwrap()), None, "{other}");
        }
        // Through this one, another peer is meant.
        assert_eq!(DirectAddress::parse(&whole.with(Protocol::P2pCircuit)), None);
    }
}
