//! How many streams share a connection, and how much a peer may send ahead on each.

use libp2p::yamux;

/// Streams of one connection, for yamux. (What we serve has limits of its own, far below.)
///
/// It is this many because of what follows from it. yamux 0.13 closes a connection on a frame above 1 MiB, and js-libp2p sends
/// all that the window allows as one frame (`FrameTooLarge`; a message of 1.5 MB from there ended the connection). The window
/// of a stream grows from 256 KiB, and grows without bound in practice: a connection has 1 GiB for the windows of its
/// streams, and libp2p lets nobody change that. Every stream that may still be opened keeps its 256 KiB of it, so with 4,096 less
/// three nothing is left but 768 KiB: one stream may have a window of 1 MiB, and none more.
const STREAMS: usize = 4096 - 3;

/// Streams over one encrypted connection, for every transport that has none of its own.
pub fn muxer() -> yamux::Config {
    let mut config = yamux::Config::default();
    config.set_max_num_streams(STREAMS);
    config
}
