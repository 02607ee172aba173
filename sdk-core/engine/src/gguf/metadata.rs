//! The key-value part of a GGUF header, with getters that name the key when it is missing or of a wrong type.

use std::collections::BTreeMap;

use super::GgufError;
use super::cursor::{Cursor, Stop};

/// Longest key; the specification says 65,535 bytes, real keys have under 100.
const LONGEST_KEY: u64 = 1024;

/// Many short texts in one allocation: a vocabulary has up to 262,144 of them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Texts {
    text: String,
    ends: Vec<u32>,
}

impl Texts {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The text at `index`.
    pub fn get(&self, index: usize) -> Option<&str> {
        let end = *self.ends.get(index)? as usize;
        let start = match index.checked_sub(1) {
            Some(before) => *self.ends.get(before)? as usize,
            None => 0,
        };
        self.text.get(start..end)
    }

    /// All of them in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> + '_ {
        (0..self.len()).map(|index| self.get(index).unwrap_or_default())
    }
}

/// One metadata value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Value {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    Bool(bool),
    Text(String),
    Unsigneds(Vec<u32>),
    Signeds(Vec<i32>),
    Floats(Vec<f32>),
    Bools(Vec<bool>),
    Texts(Texts),
    /// 64-bit arrays: no key that we read has one.
    Wide(usize),
}

impl Value {
    const fn kind(&self) -> &'static str {
        match self {
            Self::Unsigned(_) => "an unsigned integer",
            Self::Signed(_) => "a signed integer",
            Self::Float(_) => "a float",
            Self::Bool(_) => "a boolean",
            Self::Text(_) => "a text",
            Self::Unsigneds(_) => "an array of unsigned integers",
            Self::Signeds(_) => "an array of signed integers",
            Self::Floats(_) => "an array of floats",
            Self::Bools(_) => "an array of booleans",
            Self::Texts(_) => "an array of texts",
            Self::Wide(_) => "an array of 64-bit numbers",
        }
    }
}

/// The keys and values of a GGUF header.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Metadata {
    values: BTreeMap<String, Value>,
}

macro_rules! scalar_array {
    ($cursor:expr, $count:expr, $type:ty) => {{
        const SIZE: usize = size_of::<$type>();
        let bytes = $cursor.take($count.saturating_mul(SIZE as u64))?;
        bytes
            .as_chunks::<SIZE>()
            .0
            .iter()
            .map(|chunk| <$type>::from_le_bytes(*chunk))
    }};
}

impl Metadata {
    pub(super) fn parse(cursor: &mut Cursor<'_>, count: u64) -> Result<Self, Stop> {
        let mut values = BTreeMap::new();
        for _ in 0..count {
            let key = cursor.text("a metadata key", LONGEST_KEY)?;
            let kind = cursor.u32()?;
            let value = Self::value(cursor, key, kind)?;
            if values.insert(key.to_owned(), value).is_some() {
                return Err(Stop::Bad(GgufError::Duplicate { name: key.to_owned() }));
            }
        }
        Ok(Self { values })
    }

    fn value(cursor: &mut Cursor<'_>, key: &str, kind: u32) -> Result<Value, Stop> {
        Ok(match kind {
            0 => Value::Unsigned(cursor.array::<1>()?[0].into()),
            1 => Value::Signed(i8::from_le_bytes(cursor.array()?).into()),
            2 => Value::Unsigned(u16::from_le_bytes(cursor.array()?).into()),
            3 => Value::Signed(i16::from_le_bytes(cursor.array()?).into()),
            4 => Value::Unsigned(cursor.u32()?.into()),
            5 => Value::Signed(i32::from_le_bytes(cursor.array()?).into()),
            6 => Value::Float(f32::from_le_bytes(cursor.array()?).into()),
            7 => Value::Bool(cursor.array::<1>()?[0] != 0),
            8 => Value::Text(cursor.text(key, u64::MAX)?.to_owned()),
            9 => {
                let kind = cursor.u32()?;
                let count = cursor.u64()?;
                Self::array(cursor, key, kind, count)?
            }
            10 => Value::Unsigned(cursor.u64()?),
            11 => Value::Signed(i64::from_le_bytes(cursor.array()?)),
            12 => Value::Float(f64::from_le_bytes(cursor.array()?)),
            _ => {
                return Err(Stop::Bad(GgufError::UnknownValueType {
                    key: key.to_owned(),
                    id: kind,
                }));
            }
        })
    }

    fn array(cursor: &mut Cursor<'_>, key: &str, kind: u32, count: u64) -> Result<Value, Stop> {
        Ok(match kind {
            0 => Value::Unsigneds(scalar_array!(cursor, count, u8).map(u32::from).collect()),
            1 => Value::Signeds(scalar_array!(cursor, count, i8).map(i32::from).collect()),
            2 => Value::Unsigneds(scalar_array!(cursor, count, u16).map(u32::from).collect()),
            3 => Value::Signeds(scalar_array!(cursor, count, i16).map(i32::from).collect()),
            4 => Value::Unsigneds(scalar_array!(cursor, count, u32).collect()),
            5 => Value::Signeds(scalar_array!(cursor, count, i32).collect()),
            6 => Value::Floats(scalar_array!(cursor, count, f32).collect()),
            7 => Value::Bools(scalar_array!(cursor, count, u8).map(|byte| byte != 0).collect()),
            8 => {
                let mut texts = Texts::default();
                // Grows with the bytes that are really there: each text has at least its length.
                for _ in 0..count {
                    texts.text.push_str(cursor.text(key, u64::MAX)?);
                    texts
                        .ends
                        .push(u32::try_from(texts.text.len()).unwrap_or(u32::MAX));
                }
                Value::Texts(texts)
            }
            // llama.cpp refuses nested arrays too; no known model has one.
            9 => {
                return Err(Stop::Bad(GgufError::NestedArray { key: key.to_owned() }));
            }
            10..=12 => Value::Wide(scalar_array!(cursor, count, u64).len()),
            _ => {
                return Err(Stop::Bad(GgufError::UnknownValueType {
                    key: key.to_owned(),
                    id: kind,
                }));
            }
        })
    }

    fn get(&self, key: &str) -> Result<&Value, GgufError> {
        self.values
            .get(key)
            .ok_or_else(|| GgufError::MissingKey { key: key.to_owned() })
    }

    fn wrong(key: &str, expected: &'static str, found: &Value) -> GgufError {
        GgufError::WrongType {
            key: key.to_owned(),
            expected,
            found: found.kind(),
        }
    }

    /// Whether the header has this key.
    pub fn contains(&self, key: &str) -> bool {
        self.values.contains_key(key)
    }

    /// Every key, sorted.
    pub fn keys(&self) -> impl Iterator<Item = &str> + '_ {
        self.values.keys().map(String::as_str)
    }

    /// A text.
    ///
    /// # Errors
    /// [`GgufError::MissingKey`] or [`GgufError::WrongType`], both with the key. All getters do so.
    pub fn str(&self, key: &str) -> Result<&str, GgufError> {
        match self.get(key)? {
            Value::Text(text) => Ok(text),
            other => Err(Self::wrong(key, "a text", other)),
        }
    }

    /// A whole number that fits 32 bits, whatever integer type the file stores it in.
    ///
    /// # Errors
    /// As [`Self::str`].
    pub fn u32(&self, key: &str) -> Result<u32, GgufError> {
        let value = self.get(key)?;
        let number = match value {
            Value::Unsigned(number) => u32::try_from(*number).ok(),
            Value::Signed(number) => u32::try_from(*number).ok(),
            _ => None,
        };
        number.ok_or_else(|| Self::wrong(key, "an integer from 0 to 4294967295", value))
    }

    /// A number with fractions. Always finite.
    ///
    /// # Errors
    /// As [`Self::str`].
    pub fn f32(&self, key: &str) -> Result<f32, GgufError> {
        match self.get(key)? {
            Value::Float(number) if (*number as f32).is_finite() => Ok(*number as f32),
            other => Err(Self::wrong(key, "a finite float", other)),
        }
    }

    /// A boolean.
    ///
    /// # Errors
    /// As [`Self::str`].
    pub fn bool(&self, key: &str) -> Result<bool, GgufError> {
        match self.get(key)? {
            Value::Bool(value) => Ok(*value),
            other => Err(Self::wrong(key, "a boolean", other)),
        }
    }

    /// An array of texts.
    ///
    /// # Errors
    /// As [`Self::str`].
    pub fn texts(&self, key: &str) -> Result<&Texts, GgufError> {
        match self.get(key)? {
            Value::Texts(texts) => Ok(texts),
            other => Err(Self::wrong(key, "an array of texts", other)),
        }
    }

    /// An array of floats.
    ///
    /// # Errors
    /// As [`Self::str`].
    pub fn f32s(&self, key: &str) -> Result<&[f32], GgufError> {
        match self.get(key)? {
            Value::Floats(numbers) => Ok(numbers),
            other => Err(Self::wrong(key, "an array of floats", other)),
        }
    }

    /// An array of signed integers.
    ///
    /// # Errors
    /// As [`Self::str`].
    pub fn i32s(&self, key: &str) -> Result<Vec<i32>, GgufError> {
        let value = self.get(key)?;
        let numbers = match value {
            Value::Signeds(numbers) => Some(numbers.clone()),
            Value::Unsigneds(numbers) => numbers.iter().map(|n| i32::try_from(*n).ok()).collect(),
            _ => None,
        };
        numbers.ok_or_else(|| Self::wrong(key, "an array of 32-bit integers", value))
    }

    /// An array of unsigned integers.
    ///
    /// # Errors
    /// As [`Self::str`].
    pub fn u32s(&self, key: &str) -> Result<Vec<u32>, GgufError> {
        let value = self.get(key)?;
        let numbers = match value {
            Value::Unsigneds(numbers) => Some(numbers.clone()),
            Value::Signeds(numbers) => numbers.iter().map(|n| u32::try_from(*n).ok()).collect(),
            _ => None,
        };
        numbers.ok_or_else(|| Self::wrong(key, "an array of unsigned 32-bit integers", value))
    }

    /// An array of booleans.
    ///
    /// # Errors
    /// As [`Self::str`].
    pub fn bools(&self, key: &str) -> Result<&[bool], GgufError> {
        match self.get(key)? {
            Value::Bools(values) => Ok(values),
            other => Err(Self::wrong(key, "an array of booleans", other)),
        }
    }
}

/// Turns "the key is missing" into `None`, and leaves every other error.
pub trait OptionalKey<T> {
    /// `Ok(None)` for [`GgufError::MissingKey`].
    ///
    /// # Errors
    /// Every other error, unchanged.
    fn optional(self) -> Result<Option<T>, GgufError>;
}

impl<T> OptionalKey<T> for Result<T, GgufError> {
    fn optional(self) -> Result<Option<T>, GgufError> {
        match self {
            Ok(value) => Ok(Some(value)),
            Err(GgufError::MissingKey { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }
}
