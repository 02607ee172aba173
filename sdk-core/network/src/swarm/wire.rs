//! The messages of `/kwaainet/chunk/1`: one tag byte, then numbers in big endian, then what is left of the message.

use crate::Protocol;
use crate::record::ModelRoot;

/// Bytes of a chunk in one message. A chunk travels as whole frames and a shorter last one, so nothing larger is
/// allocated at once, and a peer cannot keep a stream alive with a byte now and then.
pub const FRAME_BYTES: usize = 256 << 10;
/// Chunks of the largest model that is shared: 128 GiB.
pub const MAX_CHUNKS: usize = 1 << 17;
/// The tag and two numbers before the bytes of a frame.
const FRAME_HEAD: usize = 9;

/// Chunks from a peer that has them.
pub const CHUNKS: Protocol = Protocol {
    name: "/kwaainet/chunk/1",
    longest: FRAME_BYTES + FRAME_HEAD,
};

/// What two peers say about the chunks of one model. A stream is about the model of its first message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Which chunks of the model do you have? Asked again to learn what has come since.
    Ask(ModelRoot),
    /// Those whose bit is set: bit 0 of byte 0 is chunk 0. At most [`MAX_CHUNKS`] bits.
    Have(Vec<u8>),
    /// Send this chunk.
    Want(u32),
    /// Bytes of a chunk from `offset`, which is a multiple of [`FRAME_BYTES`]; at least one byte.
    Frame {
        /// Which chunk.
        chunk: u32,
        /// From which byte of it.
        offset: u32,
        /// The bytes, at most [`FRAME_BYTES`].
        bytes: Vec<u8>,
    },
    /// The chunk cannot be had here (any more).
    NotHere(u32),
    /// Too much at once: come back after so many milliseconds.
    Busy(u32),
    /// The chunk came from elsewhere; what is not on its way yet need not be sent.
    Cancel(u32),
}

impl Message {
    /// Writes it down.
    pub fn to_bytes(&self) -> Vec<u8> {
        let numbered = |tag: u8, number: &u32| [&[tag][..], &number.to_be_bytes()].concat();
        match self {
            Self::Ask(root) => [&[0][..], &root.0].concat(),
            Self::Have(bits) => [&[1][..], bits].concat(),
            Self::Want(chunk) => numbered(2, chunk),
            Self::Frame { chunk, offset, bytes } => {
                [&[3][..], &chunk.to_be_bytes(), &offset.to_be_bytes(), bytes].concat()
            }
            Self::NotHere(chunk) => numbered(4, chunk),
            Self::Busy(retry_ms) => numbered(5, retry_ms),
            Self::Cancel(chunk) => numbered(6, chunk),
        }
    }

    /// Reads it; `None` if it is no message, too long, or cut off.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (tag, rest) = bytes.split_first()?;
        let chunk = || Some(u32::from_be_bytes(rest.try_into().ok()?));
        Some(match tag {
            0 => Self::Ask(ModelRoot(rest.try_into().ok()?)),
            1 if rest.len() <= MAX_CHUNKS / 8 => Self::Have(rest.to_vec()),
            2 => Self::Want(chunk()?),
            3 => {
                let (chunk, rest) = rest.split_first_chunk()?;
                let (offset, bytes) = rest.split_first_chunk()?;
                let offset = u32::from_be_bytes(*offset);
                let fits = (1..=FRAME_BYTES).contains(&bytes.len());
                if !fits || !(offset as usize).is_multiple_of(FRAME_BYTES) {
                    return None;
                }
                Self::Frame {
                    chunk: u32::from_be_bytes(*chunk),
                    offset,
                    bytes: bytes.to_vec(),
                }
            }
            4 => Self::NotHere(chunk()?),
            5 => Self::Busy(chunk()?),
            6 => Self::Cancel(chunk()?),
            _ => return None,
        })
    }
}

/// Whether a chunk's bit is set.
pub(super) fn bit(bits: &[u8], chunk: u32) -> bool {
    bits.get(chunk as usize / 8)
        .is_some_and(|byte| byte >> (chunk % 8) & 1 == 1)
}
