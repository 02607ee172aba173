//! Sockets for the network: TCP, QUIC, WebSocket and WebRTC, on a runtime of their own.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use futures::{AsyncRead, AsyncWrite};
use kwaainet_network::Keypair;
use kwaainet_p2p::{P2p, Parts, Setup};
use kwaainet_types::ErrorCode;
use libp2p::core::Transport;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::{Boxed, upgrade};
use libp2p::pnet::PreSharedKey;
use libp2p::{dns, identity, noise, quic, tcp, websocket};

use super::private::{guarded, network_key, protected};
use super::webrtc::{Certificate, WebRtc};
use super::{SystemClock, SystemRandom};
use crate::HostError;

/// In the folder for data; 64 hexadecimal digits.
const KEY_FILE: &str = "peer.key";
/// Threads that move bytes.
const THREADS: usize = 2;

/// A node of the network, and what runs it. When it is dropped, the node has left.
#[derive(Debug)]
pub struct Node {
    /// The network.
    pub network: P2p,
    /// Who this machine is in it.
    pub keypair: Keypair,
    /// Runs it; futures of the node are awaited on it.
    pub runtime: tokio::runtime::Runtime,
}

/// Joins with the key of this machine, or with one that is forgotten afterwards; a private network with its key file.
///
/// # Errors
/// [`HostError`] if a key cannot be read or kept, or the system gives no threads or sockets.
pub fn open_node(data_dir: Option<&Path>, setup: &Setup, psk: Option<&Path>) -> Result<Node, HostError> {
    let psk = psk.map(network_key).transpose()?;
    let keypair = match data_dir {
        Some(folder) => key_of(folder)?,
        None => Keypair::generate(&SystemRandom),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(THREADS)
        .enable_all()
        .build()?;
    let spawner = runtime.handle().clone();
    // Transports take hold of the runtime when they are made.
    let entered = runtime.enter();
    let parts = Parts {
        transport: transport(&keypair, psk, data_dir)?,
        spawn: Arc::new(move |future| drop(spawner.spawn(future))),
        clock: Arc::new(SystemClock::default()),
        random: Arc::new(SystemRandom),
    };
    let network = P2p::new(&keypair, setup, parts)
        .map_err(|error| HostError::node(ErrorCode::Internal, error.to_string()))?;
    drop(entered);
    Ok(Node {
        network,
        keypair,
        runtime,
    })
}

fn transport(
    keypair: &Keypair,
    psk: Option<PreSharedKey>,
    data_dir: Option<&Path>,
) -> Result<Boxed<Secured>, HostError> {
    let refused = |error: String| HostError::node(ErrorCode::Internal, error);
    let keypair =
        identity::Keypair::ed25519_from_bytes(keypair.seed()).map_err(|error| refused(error.to_string()))?;
    let noise = noise::Config::new(&keypair).map_err(|error| refused(error.to_string()))?;
    let plain = || tcp::tokio::Transport::new(tcp::Config::default());
    let web = websocket::Config::new(dns::tokio::Transport::system(plain())?);
    let web = secured(web, noise.clone(), psk);
    let streams = secured(plain(), noise, psk);
    // QUIC and WebRTC encrypt by themselves, and have no place for a network's key.
    let named = if psk.is_some() {
        streams
    } else {
        let certificate = match data_dir {
            Some(folder) => Certificate::of(folder)?,
            None => Certificate::generate().map_err(|error| refused(error.to_string()))?,
        };
        let direct = WebRtc::new(certificate, keypair.clone());
        quic::tokio::Transport::new(quic::Config::new(&keypair))
            .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)))
            .or_transport(streams)
            .map(|either, _| either.into_inner())
            .or_transport(direct)
            .map(|either, _| either.into_inner())
            .boxed()
    };
    // WebSocket first: names are resolved only when dialling, so the other would take its addresses, and fail.
    let named = dns::tokio::Transport::system(named)?;
    Ok(web
        .or_transport(named)
        .map(|either, _| either.into_inner())
        .boxed())
}

/// A connection that is encrypted, and carries streams.
pub(super) type Secured = (libp2p::PeerId, StreamMuxerBox);

/// Encrypts what carries bytes; in a private network for those only who have its key, before anything else is said.
fn secured<T>(bytes: T, noise: noise::Config, psk: Option<PreSharedKey>) -> Boxed<Secured>
where
    T: Transport<Output: AsyncRead + AsyncWrite + Unpin + Send, Error: Send + Sync> + Send + Unpin + 'static,
    T::Dial: Send,
    T::ListenerUpgrade: Send,
{
    match psk {
        None => multiplexed(bytes, noise),
        Some(key) => guarded(multiplexed(protected(bytes, key), noise)),
    }
}

fn multiplexed<T>(bytes: T, noise: noise::Config) -> Boxed<Secured>
where
    T: Transport<Output: AsyncRead + AsyncWrite + Unpin + Send, Error: Send + Sync> + Send + Unpin + 'static,
    T::Dial: Send,
    T::ListenerUpgrade: Send,
{
    bytes
        .upgrade(upgrade::Version::V1Lazy)
        .authenticate(noise)
        .multiplex(kwaainet_p2p::muxer())
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(muxer)))
        .boxed()
}

/// The key of this machine, made when there is none.
fn key_of(folder: &Path) -> Result<Keypair, HostError> {
    let path = folder.join(KEY_FILE);
    match fs::read_to_string(&path) {
        Ok(text) => {
            let mut seed = [0; 32];
            hex::decode_to_slice(text.trim(), &mut seed).map_err(|_| HostError::Config {
                path,
                reason:
                    "this is no key of a peer (64 hexadecimal digits). Restore it from a copy, or delete it: \
                         a new key makes this machine another peer"
                        .to_owned(),
            })?;
            Ok(Keypair::from_seed(seed))
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let keypair = Keypair::generate(&SystemRandom);
            let text = format!("{}\n", hex::encode(keypair.seed()));
            write_private(&path, &text).map_err(|error| HostError::file(&path, error))?;
            Ok(keypair)
        }
        Err(error) => Err(HostError::file(&path, error)),
    }
}

/// Under its name only when it is whole, and readable by nobody else at any time.
pub(super) fn write_private(path: &Path, text: &str) -> Result<(), std::io::Error> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    let half = path.with_extension("half");
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(&half)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&half, path)
}
