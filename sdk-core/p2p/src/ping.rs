//! How far away a peer is: `/ipfs/ping/1.0.0`, which every libp2p peer answers.

use std::time::Duration;

use futures::{AsyncReadExt, AsyncWriteExt};
use kwaainet_network::{NetworkError, PeerId};
use libp2p::StreamProtocol;

use crate::ids;
use crate::network::{P2p, within};

/// Libp2p specs, ping/ping.md: 32 bytes, which come back as they are.
const BYTES: usize = 32;
const PING: StreamProtocol = StreamProtocol::new("/ipfs/ping/1.0.0");
/// A peer that takes longer is as good as gone.
const LONGEST: Duration = Duration::from_secs(10);

impl P2p {
    /// One round trip to a connected peer, on a stream that is open already, in milliseconds; as many as are asked for.
    ///
    /// # Errors
    /// [`NetworkError::Unreachable`] if it is not connected or does not answer, [`NetworkError::Broken`].
    pub async fn ping(&self, peer: PeerId, times: usize) -> Result<Vec<f64>, NetworkError> {
        let unreachable = |reason: String| NetworkError::Unreachable { peer, reason };
        let id = ids::theirs(peer).ok_or_else(|| unreachable("its id is none".to_owned()))?;
        if !self.shared.is_connected(peer) {
            return Err(unreachable("it is not connected".to_owned()));
        }
        let mut streams = self.streams.clone();
        let opened = within(&*self.clock, LONGEST, streams.open_stream(id, PING)).await;
        let mut io = opened
            .ok_or_else(|| unreachable("it does not answer".to_owned()))?
            .map_err(|error| unreachable(error.to_string()))?;
        let mut trips = Vec::new();
        for round in 0..times {
            let sent = [u8::try_from(round % 251).unwrap_or_default(); BYTES];
            let began = self.clock.monotonic_ms();
            let trip = async {
                io.write_all(&sent).await?;
                io.flush().await?;
                let mut back = [0; BYTES];
                io.read_exact(&mut back).await?;
                Ok::<_, std::io::Error>(back)
            };
            let back = within(&*self.clock, LONGEST, trip)
                .await
                .ok_or_else(|| unreachable("it does not answer".to_owned()))?
                .map_err(|error| NetworkError::Broken {
                    peer,
                    reason: error.to_string(),
                })?;
            if back != sent {
                return Err(NetworkError::Broken {
                    peer,
                    reason: "other bytes came back".to_owned(),
                });
            }
            trips.push(self.clock.monotonic_ms() - began);
        }
        Ok(trips)
    }
}
