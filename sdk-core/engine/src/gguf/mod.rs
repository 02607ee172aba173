//! Reads the header of a GGUF file (versions 2 and 3) and nothing else.
//!
//! Format: <https://github.com/ggml-org/ggml/blob/master/docs/gguf.md>. The file is untrusted: every count, length
//! and offset is checked before it is used, and nothing is allocated for bytes that are not there.

mod cursor;
mod dtype;
mod error;
mod metadata;

use std::collections::BTreeMap;

use kwaainet_platform::ReadAt;

use cursor::{Cursor, Stop};
pub use dtype::DType;
pub(crate) use dtype::file_type_name;
pub use error::GgufError;
pub use metadata::{Metadata, OptionalKey, Texts};

/// Longest header that is read. A vocabulary of 262,144 words makes 6.5 MB.
pub const LARGEST_HEADER: u64 = 64 << 20;
/// Most metadata keys. Real files have 20 to 60.
const MOST_KEYS: u64 = 4096;
/// Most tensors. The largest known models have about 2,000.
const MOST_TENSORS: u64 = 65_536;
/// ggml's `GGML_MAX_NAME`.
const LONGEST_TENSOR_NAME: u64 = 64;
/// ggml's `GGML_MAX_DIMS`.
const MOST_DIMENSIONS: u32 = 4;
const LARGEST_ALIGNMENT: u32 = 1 << 20;
/// First read; small models' headers need a few more, in growing steps.
const FIRST_STEP: u64 = 256 << 10;

/// Where a tensor lies in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TensorInfo {
    /// Its name, such as `blk.0.attn_q.weight`.
    pub name: String,
    /// Sizes in ggml's order: the first one is the length of a row.
    pub shape: Vec<u64>,
    /// Storage format.
    pub dtype: DType,
    /// First byte, counted from the start of the file.
    pub offset: u64,
    /// Length in bytes.
    pub bytes: u64,
}

impl TensorInfo {
    /// How many numbers it holds.
    pub fn elements(&self) -> u64 {
        // INVARIANT: `parse` checked that the product fits.
        self.shape.iter().product()
    }

    /// Length of a row.
    pub fn row_len(&self) -> u64 {
        self.shape.first().copied().unwrap_or(1)
    }

    /// How many rows it has.
    pub fn rows(&self) -> u64 {
        self.shape.iter().skip(1).product()
    }
}

/// A parsed header.
#[derive(Debug, Clone, PartialEq)]
pub struct Gguf {
    /// Version of the format, 2 or 3.
    pub version: u32,
    /// Keys and values.
    pub metadata: Metadata,
    /// The tensors, in the order of the file's table.
    pub tensors: Vec<TensorInfo>,
    /// Where the data begins.
    pub data_offset: u64,
    /// Length of the whole file.
    pub file_size: u64,
    index: BTreeMap<String, usize>,
}

/// What became of parsing a prefix of a file.
#[derive(Debug, Clone, PartialEq)]
pub enum ParseOutcome {
    /// The header is complete and sound.
    Complete(Box<Gguf>),
    /// Parse again when at least this many bytes from the start of the file are there.
    NeedMore {
        /// Bytes from the start of the file.
        at_least: u64,
    },
}

impl Gguf {
    /// Parses the header from the first bytes of a file of `file_size` bytes.
    ///
    /// Works on a prefix, so that an unknown architecture or quantisation is refused before any tensor is fetched.
    ///
    /// # Errors
    /// [`GgufError`] as soon as the bytes seen so far cannot be the beginning of a sound file.
    pub fn parse(bytes: &[u8], file_size: u64) -> Result<ParseOutcome, GgufError> {
        match Self::parse_prefix(bytes, file_size) {
            Ok(gguf) => Ok(ParseOutcome::Complete(Box::new(gguf))),
            Err(Stop::NeedMore(at_least)) => Ok(ParseOutcome::NeedMore { at_least }),
            Err(Stop::Bad(error)) => Err(error),
        }
    }

    /// Reads the header, in steps that grow with what it turns out to need.
    ///
    /// # Errors
    /// [`GgufError`]; [`GgufError::Read`] when the source fails.
    pub async fn read(source: &dyn ReadAt) -> Result<Self, GgufError> {
        let size = source.size();
        let mut bytes: Vec<u8> = Vec::new();
        let mut wanted = FIRST_STEP;
        loop {
            let have = bytes.len() as u64;
            let target = wanted.min(size).min(LARGEST_HEADER).max(have);
            let len = usize::try_from(target).unwrap_or(usize::MAX);
            bytes.resize(len, 0);
            if let Some(fresh) = bytes.get_mut(have as usize..) {
                source.read_at(have, fresh).await.map_err(GgufError::Read)?;
            }
            match Self::parse(&bytes, size)? {
                ParseOutcome::Complete(gguf) => return Ok(*gguf),
                ParseOutcome::NeedMore { at_least } if at_least > target => {
                    wanted = at_least.max(target.saturating_mul(2));
                }
                ParseOutcome::NeedMore { at_least } => {
                    return Err(GgufError::Truncated {
                        needed: at_least,
                        size,
                    });
                }
            }
        }
    }

    /// The tensor of that name.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        self.tensors.get(*self.index.get(name)?)
    }

    fn parse_prefix(bytes: &[u8], file_size: u64) -> Result<Self, Stop> {
        let mut cursor = Cursor::new(bytes, file_size, LARGEST_HEADER);
        let version = Self::version(&mut cursor)?;
        let tensor_count = bounded("tensors", cursor.u64()?, MOST_TENSORS)?;
        let key_count = bounded("metadata keys", cursor.u64()?, MOST_KEYS)?;
        let metadata = Metadata::parse(&mut cursor, key_count)?;
        let alignment = metadata.u32("general.alignment").optional()?.unwrap_or(32);
        if !alignment.is_power_of_two() || !(8..=LARGEST_ALIGNMENT).contains(&alignment) {
            return Err(Stop::Bad(GgufError::Alignment { alignment }));
        }
        let mut tensors = Vec::new();
        let mut index = BTreeMap::new();
        for at in 0..tensor_count {
            let tensor = Self::tensor_info(&mut cursor, alignment)?;
            if index.insert(tensor.name.clone(), at as usize).is_some() {
                return Err(Stop::Bad(GgufError::Duplicate { name: tensor.name }));
            }
            tensors.push(tensor);
        }
        let data_offset = cursor.position().next_multiple_of(u64::from(alignment));
        place(&mut tensors, data_offset, file_size)?;
        Ok(Self {
            version,
            metadata,
            tensors,
            data_offset,
            file_size,
            index,
        })
    }

    fn version(cursor: &mut Cursor<'_>) -> Result<u32, Stop> {
        let magic = cursor.array::<4>()?;
        if magic != *b"GGUF" {
            return Err(Stop::Bad(GgufError::WrongMagic { found: magic }));
        }
        let version = cursor.u32()?;
        match version {
            2 | 3 => Ok(version),
            1 => Err(Stop::Bad(GgufError::Version1)),
            _ if matches!(version.swap_bytes(), 1..=0xffff) => Err(Stop::Bad(GgufError::BigEndian)),
            _ => Err(Stop::Bad(GgufError::UnknownVersion { version })),
        }
    }

    /// One row of the tensor table; its offset is still relative to the data.
    fn tensor_info(cursor: &mut Cursor<'_>, alignment: u32) -> Result<TensorInfo, Stop> {
        let name = cursor.text("a tensor name", LONGEST_TENSOR_NAME)?.to_owned();
        let dimensions = cursor.u32()?;
        if dimensions == 0 || dimensions > MOST_DIMENSIONS {
            return Err(Stop::Bad(GgufError::Shape { tensor: name }));
        }
        let mut shape = Vec::with_capacity(4);
        for _ in 0..dimensions {
            shape.push(cursor.u64()?);
        }
        let dtype = DType::from_id(cursor.u32()?, &name)?;
        let offset = cursor.u64()?;
        let elements = shape
            .iter()
            .try_fold(1_u64, |product, size| product.checked_mul(*size))
            // ggml keeps counts in i64; the cap also keeps every later sum in range.
            .filter(|elements| (1..=1 << 48).contains(elements));
        let row = shape.first().copied().unwrap_or(0);
        let (Some(elements), true) = (elements, row.is_multiple_of(dtype.block_len() as u64)) else {
            return Err(Stop::Bad(GgufError::Shape { tensor: name }));
        };
        if !offset.is_multiple_of(u64::from(alignment)) {
            return Err(Stop::Bad(GgufError::Misaligned {
                tensor: name,
                offset,
                alignment,
            }));
        }
        // INVARIANT: at most 2^48 elements of at most 4 bytes each.
        let bytes = elements / dtype.block_len() as u64 * dtype.block_bytes() as u64;
        Ok(TensorInfo {
            name,
            shape,
            dtype,
            offset,
            bytes,
        })
    }
}

fn bounded(what: &str, count: u64, limit: u64) -> Result<u64, GgufError> {
    if count > limit {
        return Err(GgufError::TooMany {
            what: what.to_owned(),
            count,
            limit,
        });
    }
    Ok(count)
}

/// Makes offsets absolute, and checks that every tensor lies in the file and none lies on another.
fn place(tensors: &mut [TensorInfo], data_offset: u64, file_size: u64) -> Result<(), GgufError> {
    for tensor in tensors.iter_mut() {
        let end = data_offset
            .checked_add(tensor.offset)
            .and_then(|start| start.checked_add(tensor.bytes));
        if end.is_none_or(|end| end > file_size) {
            return Err(GgufError::OutsideFile {
                tensor: tensor.name.clone(),
                needed: end.unwrap_or(u64::MAX),
                size: file_size,
            });
        }
        tensor.offset = data_offset.saturating_add(tensor.offset);
    }
    let mut by_offset: Vec<&TensorInfo> = tensors.iter().collect();
    by_offset.sort_by_key(|tensor| tensor.offset);
    for pair in by_offset.windows(2) {
        if let [first, second] = pair
            && first.offset.saturating_add(first.bytes) > second.offset
        {
            return Err(GgufError::Overlap {
                first: first.name.clone(),
                second: second.name.clone(),
            });
        }
    }
    Ok(())
}
