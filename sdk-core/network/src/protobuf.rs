//! The little of protobuf that our messages need: varints and bytes. Nothing is allocated, and no length is believed.
//! Source: <https://protobuf.dev/programming-guides/encoding/>.

/// What is wrong with a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed(pub(crate) &'static str);

/// What stands in a field that we know how to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Value<'a> {
    pub(crate) fn number(self) -> Result<u64, Malformed> {
        match self {
            Self::Number(number) => Ok(number),
            Self::Bytes(_) => Err(Malformed("bytes where a number belongs")),
        }
    }

    pub(crate) fn bytes(self) -> Result<&'a [u8], Malformed> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::Number(_) => Err(Malformed("a number where bytes belong")),
        }
    }
}

/// The fields of a message, in order. Fields of fixed width, which none of our messages has, are passed over.
#[derive(Debug)]
pub(crate) struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub(crate) fn of(message: &'a [u8]) -> Self {
        Self(message)
    }

    /// The next field's number and value.
    pub(crate) fn next(&mut self) -> Result<Option<(u64, Value<'a>)>, Malformed> {
        while !self.0.is_empty() {
            let tag = self.varint()?;
            match (tag >> 3, tag & 7) {
                (0, _) => return Err(Malformed("a field has no number")),
                (field, 0) => return Ok(Some((field, Value::Number(self.varint()?)))),
                (field, 2) => {
                    let length = self.varint()?;
                    return Ok(Some((field, Value::Bytes(self.take(length)?))));
                }
                (_, 1) => drop(self.take(8)?),
                (_, 5) => drop(self.take(4)?),
                _ => return Err(Malformed("a field is of no known kind")),
            }
        }
        Ok(None)
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut number = 0;
        // 64 bits take ten bytes of seven; of the tenth only one bit is left.
        for (at, byte) in self.0.iter().take(10).enumerate() {
            if at == 9 && *byte > 1 {
                break;
            }
            number |= u64::from(byte & 0x7f) << (7 * at);
            if byte & 0x80 == 0 {
                self.0 = self.0.get(at + 1..).unwrap_or_default();
                return Ok(number);
            }
        }
        Err(Malformed("a number is cut off or does not fit 64 bits"))
    }

    fn take(&mut self, length: u64) -> Result<&'a [u8], Malformed> {
        let cut = usize::try_from(length)
            .ok()
            .and_then(|at| self.0.split_at_checked(at));
        let (taken, rest) = cut.ok_or(Malformed("it is cut off"))?;
        self.0 = rest;
        Ok(taken)
    }
}

/// Puts a value where none is yet. Protobuf would let the last one win; nobody honest writes two.
pub(crate) fn once<T>(slot: &mut Option<T>, value: T) -> Result<(), Malformed> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(Malformed("a field stands there twice")),
    }
}

/// Writes a message. As proto3 has it, numbers that are zero and bytes that are empty are left out.
#[derive(Debug, Default)]
pub(crate) struct Message(Vec<u8>);

impl Message {
    pub(crate) fn number(self, field: u64, number: u64) -> Self {
        if number == 0 {
            return self;
        }
        let Self(mut bytes) = self;
        write_varint(&mut bytes, field << 3);
        write_varint(&mut bytes, number);
        Self(bytes)
    }

    pub(crate) fn bytes(self, field: u64, content: &[u8]) -> Self {
        if content.is_empty() {
            self
        } else {
            self.item(field, content)
        }
    }

    /// As [`Self::bytes`], for one of several: an empty one counts too.
    pub(crate) fn item(self, field: u64, content: &[u8]) -> Self {
        let Self(mut bytes) = self;
        write_varint(&mut bytes, field << 3 | 2);
        write_prefixed(&mut bytes, content);
        Self(bytes)
    }

    pub(crate) fn done(self) -> Vec<u8> {
        self.0
    }
}

/// Bytes with their length before them.
pub(crate) fn write_prefixed(to: &mut Vec<u8>, content: &[u8]) {
    write_varint(to, content.len() as u64);
    to.extend_from_slice(content);
}

fn write_varint(to: &mut Vec<u8>, mut number: u64) {
    while number >= 0x80 {
        to.push(number as u8 | 0x80);
        number >>= 7;
    }
    to.push(number as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(bytes: &[u8]) -> Result<Vec<(u64, Value<'_>)>, Malformed> {
        let mut fields = Fields::of(bytes);
        let mut all = vec![];
        while let Some(field) = fields.next()? {
            all.push(field);
        }
        Ok(all)
    }

    #[test]
    fn what_is_written_is_read() {
        let bytes = Message::default()
            .number(1, 0)
            .number(2, 300)
            .number(3, u64::MAX)
            .bytes(4, b"")
            .item(5, b"")
            .bytes(6, b"abc")
            .done();
        let expected = [
            (2, Value::Number(300)),
            (3, Value::Number(u64::MAX)),
            (5, Value::Bytes(b"")),
            (6, Value::Bytes(b"abc")),
        ];
        assert_eq!(read(&bytes).unwrap(), expected);
        // From protobuf.dev, "A Simple Message": field 1 is 150.
        assert_eq!(Message::default().number(1, 150).done(), [0x08, 0x96, 0x01]);
    }

    #[test]
    fn fixed_widths_are_passed_over_and_lies_are_refused() {
        assert_eq!(
            read(&[0x0d, 1, 2, 3, 4, 0x10, 7]).unwrap(),
            [(2, Value::Number(7))]
        );
        let lies: [&[u8]; 6] = [
            &[0x0a, 0x05, 1],
            &[0x0a, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01],
            &[0x08, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02],
            &[0x08, 0x80],
            &[0x0b],
            &[0x00, 0x01],
        ];
        for lie in lies {
            assert!(matches!(read(lie), Err(Malformed(_))), "{lie:?}");
        }
    }
}
