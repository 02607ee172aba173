//! The messages of bitswap 1.2.0, as protobuf:
//!
//! ```text
//! wantlist = 1 {
//!   entries = 1 { block = 1 (CID), priority = 2, cancel = 3, wantType = 4 (0 block, 1 have), sendDontHave = 5 }
//!   full = 2
//! }
//! payload = 3 { prefix = 1 (a CID without its hash), data = 2 }
//! blockPresences = 4 { cid = 1, type = 2 (0 have, 1 do not have) }
//! pendingBytes = 5
//! ```
//!
//! What is read is borrowed from the message, and counted before it is kept.

use crate::Protocol;
use crate::protobuf::{Fields, Malformed, Message as Writer, once};

/// Bitswap. The specification wants blocks of 2 MiB to be taken, and messages of no more than 4 MiB.
pub const BITSWAP: Protocol = Protocol {
    name: "/ipfs/bitswap/1.2.0",
    longest: 4 << 20,
};
/// Wants that are read of one message. Others are passed over: as many are remembered of a peer by boxo and Helia.
pub const MAX_WANTS: usize = 1024;
/// Blocks in one message: chunks have 1 MiB, and only a model's last one is smaller.
pub const MAX_BLOCKS: usize = 64;
/// Answers to wants in one message; nobody has asked for more at once.
pub const MAX_PRESENCES: usize = MAX_WANTS;
/// The longest CID that is looked at, in bytes: one with SHA-512 has 70.
const LONGEST_CID: usize = 128;

/// CIDv1 of a raw leaf without its hash: version, codec `raw`, hash `sha2-256` of 32 bytes
/// (<https://github.com/multiformats/multicodec/blob/master/table.csv>).
pub(super) const LEAF: [u8; 4] = [0x01, 0x55, 0x12, 0x20];

/// The CID of a raw leaf with this SHA-256.
pub(crate) fn leaf_cid(hash: &[u8; 32]) -> Vec<u8> {
    [&LEAF[..], hash].concat()
}

/// The SHA-256 of a raw leaf; `None` for every other CID.
pub(crate) fn leaf_of(cid: &[u8]) -> Option<[u8; 32]> {
    cid.strip_prefix(&LEAF)?.try_into().ok()
}

/// What peers say to each other. Each opens streams of its own to say it: an answer comes on another stream.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message<'a> {
    /// Whether `wants` are all that the sender wants, and earlier ones are void.
    pub full: bool,
    /// What the sender wants, or wants no more. At most [`MAX_WANTS`].
    pub wants: Vec<Want<'a>>,
    /// Blocks that were wanted. At most [`MAX_BLOCKS`].
    pub blocks: Vec<Block<'a>>,
    /// What the sender has, or has not, of what it was asked for. At most [`MAX_PRESENCES`].
    pub presences: Vec<Presence<'a>>,
    /// Bytes of blocks that wait to be sent, about.
    pub pending_bytes: u32,
}

/// One entry of a wantlist.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Want<'a> {
    /// Of which block: a binary CID of at most 128 bytes.
    pub cid: &'a [u8],
    /// What is wanted.
    pub wanted: Wanted,
    /// Whether it must be said if the block is not here.
    pub send_dont_have: bool,
}

/// What is wanted of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// The block itself.
    Block,
    /// To know whether it is there.
    Have,
    /// Nothing any more.
    Nothing,
}

/// A block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Block<'a> {
    /// Its CID up to the hash, which the receiver makes.
    pub prefix: &'a [u8],
    /// Its bytes.
    pub data: &'a [u8],
}

/// Whether a block is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Presence<'a> {
    /// Which block: a binary CID of at most 128 bytes.
    pub cid: &'a [u8],
    /// Whether it is there.
    pub here: bool,
}

impl<'a> Message<'a> {
    /// Reads a message; `None` if it is none, or says more than anybody honest has to say.
    pub fn from_bytes(bytes: &'a [u8]) -> Option<Self> {
        Self::read(bytes).ok()
    }

    fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let (mut message, mut wantlist, mut pending) = (Self::default(), None, None);
        let mut fields = Fields::of(bytes);
        while let Some((field, value)) = fields.next()? {
            match field {
                1 => {
                    once(&mut wantlist, ())?;
                    message.read_wantlist(value.bytes()?)?;
                }
                3 => push(&mut message.blocks, MAX_BLOCKS, Block::read(value.bytes()?)?)?,
                4 => push(
                    &mut message.presences,
                    MAX_PRESENCES,
                    Presence::read(value.bytes()?)?,
                )?,
                // An int32: what does not fit was negative, and means nothing.
                5 => once(&mut pending, u32::try_from(value.number()?).unwrap_or_default())?,
                _ => {}
            }
        }
        message.pending_bytes = pending.unwrap_or_default();
        Ok(message)
    }

    fn read_wantlist(&mut self, bytes: &'a [u8]) -> Result<(), Malformed> {
        let mut full = None;
        let mut fields = Fields::of(bytes);
        while let Some((field, value)) = fields.next()? {
            match field {
                1 if self.wants.len() < MAX_WANTS => self.wants.push(Want::read(value.bytes()?)?),
                2 => once(&mut full, value.number()? != 0)?,
                _ => {}
            }
        }
        self.full = full.unwrap_or_default();
        Ok(())
    }

    /// Writes it down.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut wantlist = Writer::default();
        for want in &self.wants {
            let entry = Writer::default()
                .bytes(1, want.cid)
                // Nothing is more urgent to us than the rest; boxo takes 0 for no want at all.
                .number(2, 1)
                .number(3, u64::from(want.wanted == Wanted::Nothing))
                .number(4, u64::from(want.wanted == Wanted::Have))
                .number(5, u64::from(want.send_dont_have));
            wantlist = wantlist.item(1, &entry.done());
        }
        let mut message = Writer::default().bytes(1, &wantlist.number(2, u64::from(self.full)).done());
        for block in &self.blocks {
            let block = Writer::default().bytes(1, block.prefix).bytes(2, block.data);
            message = message.item(3, &block.done());
        }
        for presence in &self.presences {
            let presence = Writer::default()
                .bytes(1, presence.cid)
                .number(2, u64::from(!presence.here));
            message = message.item(4, &presence.done());
        }
        message.number(5, self.pending_bytes.into()).done()
    }
}

fn push<T>(to: &mut Vec<T>, most: usize, one: T) -> Result<(), Malformed> {
    if to.len() >= most {
        return Err(Malformed("too many in one message"));
    }
    to.push(one);
    Ok(())
}

fn checked(cid: Option<&[u8]>) -> Result<&[u8], Malformed> {
    match cid {
        Some(cid) if (1..=LONGEST_CID).contains(&cid.len()) => Ok(cid),
        _ => Err(Malformed("a CID is empty or too long")),
    }
}

impl<'a> Want<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let (mut cid, mut cancel, mut kind, mut send_dont_have) = (None, None, None, None);
        let mut fields = Fields::of(bytes);
        while let Some((field, value)) = fields.next()? {
            match field {
                1 => once(&mut cid, value.bytes()?)?,
                3 => once(&mut cancel, value.number()? != 0)?,
                4 => once(&mut kind, value.number()?)?,
                5 => once(&mut send_dont_have, value.number()? != 0)?,
                _ => {}
            }
        }
        let wanted = match (cancel.unwrap_or_default(), kind.unwrap_or_default()) {
            (true, _) => Wanted::Nothing,
            (_, 0) => Wanted::Block,
            (_, 1) => Wanted::Have,
            _ => return Err(Malformed("a want is of no known kind")),
        };
        Ok(Self {
            cid: checked(cid)?,
            wanted,
            send_dont_have: send_dont_have.unwrap_or_default(),
        })
    }
}

impl<'a> Block<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let (mut prefix, mut data) = (None, None);
        let mut fields = Fields::of(bytes);
        while let Some((field, value)) = fields.next()? {
            match field {
                1 => once(&mut prefix, value.bytes()?)?,
                2 => once(&mut data, value.bytes()?)?,
                _ => {}
            }
        }
        Ok(Self {
            prefix: prefix.unwrap_or_default(),
            data: data.unwrap_or_default(),
        })
    }
}

impl<'a> Presence<'a> {
    fn read(bytes: &'a [u8]) -> Result<Self, Malformed> {
        let (mut cid, mut kind) = (None, None);
        let mut fields = Fields::of(bytes);
        while let Some((field, value)) = fields.next()? {
            match field {
                1 => once(&mut cid, value.bytes()?)?,
                2 => once(&mut kind, value.number()?)?,
                _ => {}
            }
        }
        let here = match kind.unwrap_or_default() {
            0 => true,
            1 => false,
            _ => return Err(Malformed("a presence is of no known kind")),
        };
        Ok(Self {
            cid: checked(cid)?,
            here,
        })
    }
}
