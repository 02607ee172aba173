//! What a peer offers: which part of which model, how fast, and where.
//!
//! On the wire, as protobuf: `model = 1 (bytes), start = 2, end = 3, dtype = 4 (string), inference_rps = 5,
//! forward_rps = 6, cache_left = 7, next_pings = 8 {peer = 1 (bytes), ms = 2}, build = 9 (string),
//! addresses = 10 (strings)`. Without `end` it is the model's chunks that are offered.

use super::RecordError;
use super::key::{ModelRoot, Share};
use crate::protobuf::{Fields, Message, once};
use crate::{Address, PeerId};

/// Round trips in an offer.
pub const MAX_PINGS: usize = 8;
/// Addresses in an offer.
pub const MAX_ADDRESSES: usize = 8;
/// The longest name of a number format, in bytes.
const LONGEST_DTYPE: usize = 16;
/// The longest name of a build, in bytes.
const LONGEST_BUILD: usize = 64;

/// The part of a model that a peer serves. All of it is the peer's word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// Which model.
    pub model: ModelRoot,
    /// Which part of it.
    pub share: Share,
    /// The format of its weights, for example `q4_1`; at most 16 bytes.
    pub dtype: String,
    /// How often in 1000 seconds it computes one block for one token, alone.
    pub inference_rps_milli: u32,
    /// How often in 1000 seconds it computes one block for one token of a long prompt.
    pub forward_rps_milli: u32,
    /// For how many more tokens it has room in its KV cache.
    pub cache_left: u64,
    /// Round trips in milliseconds that it measured to peers that are likely to come after it in a chain; at most 8.
    pub next_pings: Vec<(PeerId, u32)>,
    /// What it runs, for example `kwaainet/0.1.0`; at most 64 bytes.
    pub build: String,
    /// Where it says that it can be reached; at most 8. It signed them, and they may be wrong.
    pub addresses: Vec<Address>,
}

impl Offer {
    /// Writes it down.
    ///
    /// # Errors
    /// [`RecordError::Malformed`] if it breaks one of the limits above.
    pub fn to_bytes(&self) -> Result<Vec<u8>, RecordError> {
        self.check()?;
        let span = match &self.share {
            Share::Blocks(span) => span.clone(),
            Share::Chunks => 0..0,
        };
        let mut message = Message::default()
            .bytes(1, &self.model.0)
            .number(2, span.start.into())
            .number(3, span.end.into())
            .bytes(4, self.dtype.as_bytes())
            .number(5, self.inference_rps_milli.into())
            .number(6, self.forward_rps_milli.into())
            .number(7, self.cache_left);
        for (peer, ms) in &self.next_pings {
            let ping = Message::default()
                .bytes(1, &peer.to_bytes())
                .number(2, (*ms).into());
            message = message.item(8, &ping.done());
        }
        message = message.bytes(9, self.build.as_bytes());
        for address in &self.addresses {
            message = message.item(10, address.as_str().as_bytes());
        }
        Ok(message.done())
    }

    /// Reads what a stranger wrote.
    ///
    /// # Errors
    /// [`RecordError::Malformed`] if it is no offer, or breaks one of the limits above.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, RecordError> {
        let (mut model, mut start, mut end, mut dtype) = (None, None, None, None);
        let (mut inference, mut forward, mut cache, mut build) = (None, None, None, None);
        let (mut next_pings, mut addresses) = (vec![], vec![]);
        let mut fields = Fields::of(bytes);
        while let Some((field, value)) = fields.next()? {
            match field {
                1 => once(&mut model, value.bytes()?)?,
                2 => once(&mut start, small(value.number()?)?)?,
                3 => once(&mut end, small(value.number()?)?)?,
                4 => once(&mut dtype, text(value.bytes()?, LONGEST_DTYPE)?)?,
                5 => once(&mut inference, small(value.number()?)?)?,
                6 => once(&mut forward, small(value.number()?)?)?,
                7 => once(&mut cache, value.number()?)?,
                8 if next_pings.len() < MAX_PINGS => next_pings.push(ping(value.bytes()?)?),
                8 => return Err(RecordError::Malformed("more than 8 round trips")),
                9 => once(&mut build, text(value.bytes()?, LONGEST_BUILD)?)?,
                10 if addresses.len() < MAX_ADDRESSES => addresses.push(address(value.bytes()?)?),
                10 => return Err(RecordError::Malformed("more than 8 addresses")),
                _ => {}
            }
        }
        let model = model.and_then(|model| model.try_into().ok());
        let model = ModelRoot(model.ok_or(RecordError::Malformed("no root of a model of 32 bytes"))?);
        let share = match (start.unwrap_or_default(), end.unwrap_or_default()) {
            (0, 0) => Share::Chunks,
            (start, end) => Share::Blocks(start..end),
        };
        let offer = Self {
            model,
            share,
            dtype: dtype.unwrap_or_default(),
            inference_rps_milli: inference.unwrap_or_default(),
            forward_rps_milli: forward.unwrap_or_default(),
            cache_left: cache.unwrap_or_default(),
            next_pings,
            build: build.unwrap_or_default(),
            addresses,
        };
        offer.check()?;
        Ok(offer)
    }

    fn check(&self) -> Result<(), RecordError> {
        let addresses = self.addresses.iter().map(Address::as_str);
        let mut texts = addresses.chain([self.dtype.as_str(), &self.build]);
        let problem = if !self.share.makes_sense() {
            "a span of no blocks, or of more than a model has"
        } else if self.dtype.len() > LONGEST_DTYPE || self.build.len() > LONGEST_BUILD {
            "a name is too long"
        } else if self.next_pings.len() > MAX_PINGS {
            "more than 8 round trips"
        } else if self.addresses.len() > MAX_ADDRESSES {
            "more than 8 addresses"
        } else if texts.any(|text| text.contains(char::is_control)) {
            // They are shown to people, in terminals too.
            "control characters in a text"
        } else {
            return Ok(());
        };
        Err(RecordError::Malformed(problem))
    }
}

fn small(number: u64) -> Result<u32, RecordError> {
    number
        .try_into()
        .map_err(|_| RecordError::Malformed("a number does not fit 32 bits"))
}

fn text(bytes: &[u8], longest: usize) -> Result<String, RecordError> {
    let text = bytes
        .get(..bytes.len().min(longest + 1))
        .and_then(|bytes| str::from_utf8(bytes).ok());
    match text {
        Some(text) if text.len() <= longest => Ok(text.to_owned()),
        _ => Err(RecordError::Malformed("a name is too long, or no text")),
    }
}

fn address(bytes: &[u8]) -> Result<Address, RecordError> {
    let text = str::from_utf8(bytes).ok();
    text.and_then(Address::new)
        .ok_or(RecordError::Malformed("an address is none"))
}

fn ping(message: &[u8]) -> Result<(PeerId, u32), RecordError> {
    let (mut peer, mut ms) = (None, None);
    let mut fields = Fields::of(message);
    while let Some((field, value)) = fields.next()? {
        match field {
            1 => once(&mut peer, value.bytes()?)?,
            2 => once(&mut ms, small(value.number()?)?)?,
            _ => {}
        }
    }
    let peer = peer.and_then(|peer| PeerId::from_bytes(peer).ok());
    let peer = peer.ok_or(RecordError::Malformed("a round trip to no Ed25519 peer"))?;
    Ok((peer, ms.unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Keypair;
    use crate::record::{LONGEST_RECORD, Signed};

    /// The largest that the limits allow.
    fn largest() -> Offer {
        let peer = Keypair::from_seed([3; 32]).peer_id();
        Offer {
            model: ModelRoot([9; 32]),
            share: Share::Blocks(500..512),
            dtype: "q".repeat(LONGEST_DTYPE),
            inference_rps_milli: u32::MAX,
            forward_rps_milli: u32::MAX,
            cache_left: u64::MAX,
            next_pings: vec![(peer, u32::MAX); MAX_PINGS],
            build: "b".repeat(LONGEST_BUILD),
            addresses: vec![Address::new(format!("/{}", "a".repeat(255))).unwrap(); MAX_ADDRESSES],
        }
    }

    #[test]
    fn even_the_largest_offer_survives_and_fits_a_record() {
        let bytes = largest().to_bytes().unwrap();
        assert_eq!(Offer::from_bytes(&bytes), Ok(largest()));
        assert!(Signed::sign(&Keypair::from_seed([3; 32]), u64::MAX, u64::MAX, &bytes).is_ok());
        assert!(bytes.len() + 200 < LONGEST_RECORD, "{}", bytes.len());
    }

    #[test]
    fn chunks_and_spans_from_the_first_block_are_told_apart() {
        for share in [Share::Chunks, Share::Blocks(0..1), Share::Blocks(0..512)] {
            let offer = Offer { share, ..largest() };
            assert_eq!(Offer::from_bytes(&offer.to_bytes().unwrap()), Ok(offer));
        }
    }

    #[test]
    fn what_is_beyond_the_limits_is_neither_written_nor_read() {
        let bad = [
            Offer {
                share: Share::Blocks(3..3),
                ..largest()
            },
            Offer {
                share: Share::Blocks(0..513),
                ..largest()
            },
            Offer {
                dtype: "q".repeat(17),
                ..largest()
            },
            Offer {
                build: "b".repeat(65),
                ..largest()
            },
            Offer {
                build: "\x1b[2J".to_owned(),
                ..largest()
            },
            Offer {
                next_pings: vec![largest().next_pings[0]; 9],
                ..largest()
            },
            Offer {
                addresses: vec![largest().addresses[0].clone(); 9],
                ..largest()
            },
        ];
        for offer in bad {
            assert!(
                matches!(offer.to_bytes(), Err(RecordError::Malformed(_))),
                "{offer:?}"
            );
        }
        let sound = largest().to_bytes().unwrap();
        let again = |more: Message| Offer::from_bytes(&[sound.clone(), more.done()].concat());
        assert!(
            again(Message::default().number(99, 1)).is_ok(),
            "later versions may add fields"
        );
        assert!(again(Message::default().number(5, 1)).is_err(), "twice");
        assert!(
            again(Message::default().item(10, b"/ip4/1.2.3.4")).is_err(),
            "a ninth address"
        );
        let model = || Message::default().bytes(1, &[9; 32]);
        assert!(Offer::from_bytes(&model().done()).is_ok());
        assert!(Offer::from_bytes(&model().number(5, 1 << 32).done()).is_err());
        assert!(Offer::from_bytes(&model().number(2, 3).number(3, 2).done()).is_err());
        assert!(
            Offer::from_bytes(&model().bytes(9, b"\x1b[2J").done()).is_err(),
            "moves the cursor"
        );
        assert!(Offer::from_bytes(&model().item(10, b"http://x").done()).is_err());
        assert!(Offer::from_bytes(b"").is_err());
    }
}
