//! Private networks: a key that both ends must have before anything else is said (libp2p's specification "pnet").

use std::fs;
use std::io;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::{AsyncRead, AsyncReadExt as _, AsyncWrite};
use libp2p::core::Transport;
use libp2p::core::transport::Boxed;
use libp2p::core::transport::timeout::{TransportTimeout, TransportTimeoutError};
use libp2p::pnet::{PnetConfig, PnetError, PnetOutput, PreSharedKey};

use super::network::Secured;
use crate::HostError;

/// Until both have understood each other. The core gives every handshake 8 seconds.
const WORDS: Duration = Duration::from_secs(6);

/// Reads the key of a private network, in the format that Kubo and js-libp2p write (swarm.key): three lines,
/// `/key/swarm/psk/1.0.0/`, `/base16/` and 64 hexadecimal digits.
///
/// # Errors
/// [`HostError`] if the file cannot be read, or is something else.
pub(super) fn network_key(path: &Path) -> Result<PreSharedKey, HostError> {
    let text = fs::read_to_string(path).map_err(|error| HostError::file(path, error))?;
    // The crate's reader cuts the digits in pairs of bytes.
    let read = if text.is_ascii() { text.parse().ok() } else { None };
    read.ok_or_else(|| HostError::Config {
        path: path.to_owned(),
        reason: "this is no key of a private network: that has three lines, /key/swarm/psk/1.0.0/, /base16/ and 64 \
                 hexadecimal digits"
            .to_owned(),
    })
}

/// Bytes that only those can read who have the key.
pub(super) fn protected<T>(
    bytes: T,
    key: PreSharedKey,
) -> impl Transport<Output = PnetOutput<Heard<T::Output>>, Error: Send + Sync, Dial: Send, ListenerUpgrade: Send>
+ Send
+ Unpin
where
    T: Transport<
            Output: AsyncRead + AsyncWrite + Unpin + Send,
            Error: Send + Sync,
            Dial: Send,
            ListenerUpgrade: Send,
        > + Send
        + Unpin
        + 'static,
{
    bytes.and_then(move |socket, point| async move {
        let mut socket = Heard {
            first: None,
            inner: socket,
        };
        if point.is_listener() {
            // Both may begin, but js-libp2p loses what comes right behind the answer to its WebSocket request.
            let mut first = [0];
            socket
                .inner
                .read_exact(&mut first)
                .await
                .map_err(PnetError::HandshakeError)?;
            socket.first = Some(first);
        }
        PnetConfig::new(key).handshake(socket).await
    })
}

/// Says what a failure means: to each side the other's words are noise if the keys differ, which may also read as a long
/// word that never ends.
pub(super) fn guarded(private: Boxed<Secured>) -> Boxed<Secured> {
    TransportTimeout::new(private, WORDS)
        .map_err(|error| match error {
            TransportTimeoutError::Other(error) if nobody_is_there(&error) => error,
            _ => io::Error::other(WrongKey),
        })
        .boxed()
}

#[derive(Debug, thiserror::Error)]
#[error(
    "it does not speak as members of this private network do: the keys (--psk) may differ, or one has none"
)]
struct WrongKey;

fn nobody_is_there(error: &io::Error) -> bool {
    let mut inner: &dyn std::error::Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.downcast_ref::<io::Error>().is_some_and(|error| {
        matches!(
            error.kind(),
            io::ErrorKind::ConnectionRefused
                | io::ErrorKind::HostUnreachable
                | io::ErrorKind::NetworkUnreachable
        )
    })
}

/// A socket of which the first byte may have been read.
#[derive(Debug)]
pub(super) struct Heard<S> {
    first: Option<[u8; 1]>,
    inner: S,
}

impl<S: AsyncRead + Unpin> AsyncRead for Heard<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<usize>> {
        match (self.first.take(), buf.first_mut()) {
            (Some([byte]), Some(to)) => {
                *to = byte;
                Poll::Ready(Ok(1))
            }
            (first, _) => {
                self.first = first;
                Pin::new(&mut self.inner).poll_read(cx, buf)
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Heard<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_close(cx)
    }
}
