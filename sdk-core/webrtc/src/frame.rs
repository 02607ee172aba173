//! Frames on a data channel: a protobuf message behind its length, which gives a channel what browsers' channels lack, a
//! half that can be closed (libp2p/specs, webrtc/README.md, "Multiplexing").

/// A frame with its length prefix: what every browser takes.
pub const LONGEST: usize = 16_384;
/// Payload of one frame, with or without a flag: 2 bytes of length, 2 of the flag, 3 of the field's key and length.
pub const MOST_PAYLOAD: usize = LONGEST - 7;

/// What a frame says beside its payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flag {
    /// The sender sends nothing more.
    Fin,
    /// The sender reads nothing more.
    StopSending,
    /// The sender gives up its sending half; what was sent may be thrown away.
    ResetStream,
    /// The sender has seen our [`Flag::Fin`], and so everything before it.
    FinAck,
}

impl Flag {
    fn number(self) -> u8 {
        match self {
            Self::Fin => 0,
            Self::StopSending => 1,
            Self::ResetStream => 2,
            Self::FinAck => 3,
        }
    }

    /// An enum value that we do not know is an unknown field: it says nothing (proto2).
    fn of(number: u64) -> Option<Self> {
        [Self::Fin, Self::StopSending, Self::ResetStream, Self::FinAck]
            .into_iter()
            .find(|flag| u64::from(flag.number()) == number)
    }
}

/// One frame.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Frame {
    /// What it says.
    pub flag: Option<Flag>,
    /// Payload, often empty.
    pub message: Vec<u8>,
}

/// Why a channel's bytes are no frames; nothing more can be read from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// A frame, or what came at once, is longer than [`LONGEST`].
    #[error("a frame is longer than {LONGEST} bytes")]
    TooLong,
    /// It is no protobuf.
    #[error("a frame is no protobuf message")]
    Malformed,
}

/// A frame as it is sent: one message of the data channel. `message` is at most [`MOST_PAYLOAD`] bytes.
pub fn encode(flag: Option<Flag>, message: &[u8]) -> Vec<u8> {
    let mut body = Vec::with_capacity(message.len().saturating_add(5));
    if let Some(flag) = flag {
        body.extend([0x08, flag.number()]);
    }
    if !message.is_empty() {
        body.push(0x12);
        put_length(&mut body, message.len());
        body.extend_from_slice(message);
    }
    let mut frame = Vec::with_capacity(body.len().saturating_add(2));
    put_length(&mut frame, body.len());
    frame.extend(body);
    frame
}

fn put_length(to: &mut Vec<u8>, mut length: usize) {
    while length >= 0x80 {
        to.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    to.push(length as u8);
}

/// Finds frames in what arrives. The messages of a channel are read as one sequence of bytes: js-libp2p sends a frame's
/// length in a message of its own.
#[derive(Debug, Default)]
pub struct Decoder {
    /// Less than a frame, and one message of the channel.
    kept: Vec<u8>,
}

impl Decoder {
    /// One message of the channel.
    ///
    /// # Errors
    /// [`FrameError::TooLong`] if it is longer than [`LONGEST`], or what came before was not taken with
    /// [`Decoder::next`].
    pub fn push(&mut self, message: &[u8]) -> Result<(), FrameError> {
        if message.len() > LONGEST || self.kept.len() >= LONGEST {
            return Err(FrameError::TooLong);
        }
        self.kept.extend_from_slice(message);
        Ok(())
    }

    /// The next frame, or `None` until more has arrived.
    ///
    /// # Errors
    /// [`FrameError`] if what arrived is no frame; it is so for ever.
    #[expect(
        clippy::should_implement_trait,
        reason = "an iterator would hide that it may go on after None"
    )]
    pub fn next(&mut self) -> Result<Option<Frame>, FrameError> {
        let mut at = self.kept.as_slice();
        let Some(length) = take_varint(&mut at).map_err(|()| FrameError::TooLong)? else {
            return Ok(None);
        };
        let prefix = self.kept.len().saturating_sub(at.len());
        let length = usize::try_from(length)
            .ok()
            .filter(|length| length.saturating_add(prefix) <= LONGEST)
            .ok_or(FrameError::TooLong)?;
        let Some(body) = at.get(..length) else {
            return Ok(None);
        };
        let frame = read(body).ok_or(FrameError::Malformed)?;
        self.kept.drain(..prefix.saturating_add(length));
        Ok(Some(frame))
    }
}

fn read(mut body: &[u8]) -> Option<Frame> {
    let mut frame = Frame::default();
    while !body.is_empty() {
        let key = whole_varint(&mut body)?;
        match (key >> 3, key & 7) {
            (0, _) => return None,
            // What comes last, counts (proto2).
            (1, 0) => frame.flag = Flag::of(whole_varint(&mut body)?),
            (2, 2) => frame.message = take_field(&mut body)?.to_vec(),
            (_, 0) => drop(whole_varint(&mut body)?),
            (_, 1) => drop(take(&mut body, 8)?),
            (_, 2) => drop(take_field(&mut body)?),
            (_, 5) => drop(take(&mut body, 4)?),
            _ => return None,
        }
    }
    Some(frame)
}

fn take<'a>(from: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = from.split_at_checked(length)?;
    *from = rest;
    Some(taken)
}

fn take_field<'a>(from: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(whole_varint(from)?).ok()?;
    take(from, length)
}

fn whole_varint(from: &mut &[u8]) -> Option<u64> {
    take_varint(from).ok().flatten()
}

/// A varint of at most 64 bits; `Ok(None)` if it goes on where the bytes end, and then nothing is taken.
fn take_varint(from: &mut &[u8]) -> Result<Option<u64>, ()> {
    let mut value = 0_u64;
    for (index, byte) in from.iter().enumerate() {
        let bits = u64::from(byte & 0x7f);
        let shift = u32::try_from(index).map_err(|_| ())?.saturating_mul(7);
        let shifted = bits.checked_shl(shift).ok_or(())?;
        if shifted >> shift != bits {
            return Err(());
        }
        value |= shifted;
        if byte & 0x80 == 0 {
            *from = from.get(index.saturating_add(1)..).unwrap_or_default();
            return Ok(Some(value));
        }
    }
    if from.len() >= 10 { Err(()) } else { Ok(None) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(decoder: &mut Decoder) -> Vec<Frame> {
        std::iter::from_fn(|| decoder.next().unwrap()).collect()
    }

    #[test]
    fn frames_are_found_however_they_are_cut() {
        let sent = [
            (None, vec![7; MOST_PAYLOAD]),
            (Some(Flag::StopSending), vec![]),
            (Some(Flag::Fin), vec![1, 2, 3]),
            (Some(Flag::FinAck), vec![]),
            (Some(Flag::ResetStream), vec![9; 200]),
        ];
        let bytes: Vec<u8> = sent
            .iter()
            .flat_map(|(flag, message)| encode(*flag, message))
            .collect();
        for piece in [1, 2, 3, 1000, LONGEST] {
            let mut decoder = Decoder::default();
            let mut found = Vec::new();
            for part in bytes.chunks(piece) {
                decoder.push(part).unwrap();
                found.extend(all(&mut decoder));
            }
            let found: Vec<_> = found
                .into_iter()
                .map(|frame| (frame.flag, frame.message))
                .collect();
            assert_eq!(found, sent, "in pieces of {piece}");
        }
    }

    #[test]
    fn the_longest_frame_is_as_long_as_is_allowed() {
        assert_eq!(encode(Some(Flag::Fin), &[0; MOST_PAYLOAD]).len(), LONGEST);
    }

    #[test]
    fn a_length_is_refused_before_the_bytes_arrive() {
        for prefix in [
            &[0xff, 0xff, 0x01][..],
            &[0xff; 10],
            &[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x02],
            &[0xff, 0x7f],
        ] {
            let mut decoder = Decoder::default();
            decoder.push(prefix).unwrap();
            assert_eq!(decoder.next(), Err(FrameError::TooLong), "{prefix:?}");
        }
        let mut decoder = Decoder::default();
        assert_eq!(decoder.push(&[0; LONGEST + 1]), Err(FrameError::TooLong));
    }

    #[test]
    fn fields_of_later_versions_are_skipped_and_nonsense_is_not() {
        let mut decoder = Decoder::default();
        // Fields 3 (varint), 4 (8 bytes), 5 (bytes), 6 (4 bytes), a flag of the future, and a message.
        let body = [
            &[0x18, 0x96, 0x01][..],
            &[0x21, 1, 2, 3, 4, 5, 6, 7, 8],
            &[0x2a, 2, 0, 0],
            &[0x35, 1, 2, 3, 4],
            &[0x08, 99],
            &[0x12, 1, 42],
        ]
        .concat();
        let mut bytes = vec![body.len() as u8];
        bytes.extend(body);
        decoder.push(&bytes).unwrap();
        assert_eq!(
            decoder.next().unwrap(),
            Some(Frame {
                flag: None,
                message: vec![42]
            })
        );
        for body in [&[0x13][..], &[0x12, 5, 1], &[0x00, 0x00], &[0x08], &[0x21, 1]] {
            let mut decoder = Decoder::default();
            decoder.push(&[body.len() as u8]).unwrap();
            decoder.push(body).unwrap();
            assert_eq!(decoder.next(), Err(FrameError::Malformed), "{body:?}");
        }
    }
}
