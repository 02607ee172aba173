//! Why a record is not taken.

use crate::PeerId;
use crate::protobuf::Malformed;

/// Why a record was not read, kept or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// It was not even looked at.
    #[error("a record of {bytes} bytes is longer than the {limit} that are read")]
    TooLong {
        /// Its length.
        bytes: usize,
        /// The longest that is read.
        limit: usize,
    },
    /// It is cut off, or no record at all.
    #[error("this is no record: {0}")]
    Malformed(&'static str),
    /// It is signed for something else.
    #[error("this is an envelope for something else than a {0}")]
    OtherKind(&'static str),
    /// The bytes are not what the key in the envelope signed.
    #[error("the signature is not that of {0}: the record was changed on its way, or forged")]
    BadSignature(PeerId),
    /// It is over.
    #[error("the record of {peer} expired {} s ago; if all records do, the clock of this device is ahead", .ago_ms / 1000)]
    Expired {
        /// Who signed it.
        peer: PeerId,
        /// Since when, in milliseconds.
        ago_ms: u64,
    },
    /// It claims to live longer than any record may.
    #[error(
        "the record of {peer} expires in {} s, and may in {} at most; its clock is ahead, or that of this device behind",
        .ahead_ms / 1000, .limit_ms / 1000
    )]
    TooFarAhead {
        /// Who signed it.
        peer: PeerId,
        /// In how many milliseconds it would expire.
        ahead_ms: u64,
        /// The most that is allowed.
        limit_ms: u64,
    },
    /// Somebody published what another one signed.
    #[error("the record says that it is of {claimed}, and is signed by {signer}")]
    NotTheSigner {
        /// Whose record it is said to be.
        claimed: PeerId,
        /// Who signed.
        signer: PeerId,
    },
    /// Its content belongs under another key.
    #[error("the record of {0} does not belong under this key")]
    WrongKey(PeerId),
    /// A record that is as new, or newer, is kept already.
    #[error("record {sequence} of {peer} is a replay: {kept} is kept already")]
    Stale {
        /// Who signed it.
        peer: PeerId,
        /// Its sequence number.
        sequence: u64,
        /// The sequence number of the record that is kept.
        kept: u64,
    },
    /// Those who came earlier stay. Try again when one of them has gone.
    #[error("no more than {limit} {what}; try again later")]
    Full {
        /// What there are too many of.
        what: &'static str,
        /// How many there may be.
        limit: usize,
    },
    /// The peer sends records faster than they are taken.
    #[error("{peer} sends too many records; the next is taken in {} s", .wait_ms.div_ceil(1000))]
    RateLimited {
        /// Who handed the records over.
        peer: PeerId,
        /// After how many milliseconds the next is taken.
        wait_ms: u64,
    },
}

impl From<Malformed> for RecordError {
    fn from(Malformed(what): Malformed) -> Self {
        Self::Malformed(what)
    }
}
