//! What both ends of libp2p's `/webrtc-direct` share: frames on data channels, substreams made of them, certificate hashes,
//! a dialling browser's session descriptions, and how a listener learns ICE credentials from nothing but the first STUN packet.
//!
//! It must not know libp2p, a socket, a browser or a clock: a host brings data channels ([`DataChannel`]) and hands over
//! packets. The specification is libp2p/specs, `webrtc/README.md` and `webrtc/webrtc-direct.md`. The entry type is
//! [`Substream`]:
//!
//! ```
//! use kwaainet_webrtc::frame::{self, Decoder, Flag};
//! let mut decoder = Decoder::default();
//! decoder.push(&frame::encode(Some(Flag::Fin), b"last words"))?;
//! let last = decoder.next()?.ok_or(frame::FrameError::TooLong)?;
//! assert_eq!((last.flag, last.message.as_slice()), (Some(Flag::Fin), b"last words".as_slice()));
//! # Ok::<(), frame::FrameError>(())
//! ```

mod fingerprint;
pub mod frame;
pub mod sdp;
pub mod stun;
mod substream;

pub use fingerprint::{Fingerprint, prologue};
pub use substream::{DataChannel, Lingering, Side, Substream};
