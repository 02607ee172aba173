//! What can be wrong with a model file's header.

use kwaainet_platform::StoreError;

/// Why a GGUF file was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GgufError {
    /// Not a GGUF file.
    #[error("this is not a GGUF file: it begins with {found:02x?} instead of \"GGUF\"")]
    WrongMagic {
        /// The first four bytes.
        found: [u8; 4],
    },
    /// Version 1 has 32-bit counts and was in use for a few weeks of 2023.
    #[error(
        "this GGUF file has version 1, which nothing writes any more: convert it again with a current llama.cpp"
    )]
    Version1,
    /// A file for big-endian machines.
    #[error("this GGUF file is big-endian: convert it for little-endian machines")]
    BigEndian,
    /// A version that did not exist when this was written.
    #[error("GGUF version {version} is unknown to this version of KwaaiNet (2 and 3 are known)")]
    UnknownVersion {
        /// The file's version.
        version: u32,
    },
    /// The file ends too early.
    #[error("the model file is cut off: {needed} bytes are needed, it has {size}. Fetch it again")]
    Truncated {
        /// Bytes that the header speaks of.
        needed: u64,
        /// Bytes that exist.
        size: u64,
    },
    /// The header is larger than any real one.
    #[error("the header of the model file is larger than {limit} bytes")]
    HeaderTooLarge {
        /// The limit in bytes.
        limit: u64,
    },
    /// A count or length beyond reason.
    #[error("the model file claims {count} {what}; at most {limit} are accepted")]
    TooMany {
        /// What is counted.
        what: String,
        /// The claim.
        count: u64,
        /// The limit.
        limit: u64,
    },
    /// Bytes that should be text are not UTF-8.
    #[error("{what} is not valid UTF-8 text")]
    NotText {
        /// The key, or what else was read.
        what: String,
    },
    /// Two keys, or two tensors, with one name.
    #[error("{name:?} appears twice in the model file")]
    Duplicate {
        /// The name.
        name: String,
    },
    /// A metadata type that does not exist.
    #[error("metadata key {key:?} has the unknown type {id}")]
    UnknownValueType {
        /// The key.
        key: String,
        /// The type's id.
        id: u32,
    },
    /// Arrays of arrays have no use in model files.
    #[error("metadata key {key:?} is an array of arrays, which is not supported")]
    NestedArray {
        /// The key.
        key: String,
    },
    /// A key that is needed is not there.
    #[error("the model file has no metadata key {key:?}")]
    MissingKey {
        /// The key.
        key: String,
    },
    /// A key has another type, or a value out of range.
    #[error("metadata key {key:?} should be {expected}, but is {found} that does not fit")]
    WrongType {
        /// The key.
        key: String,
        /// What is needed.
        expected: &'static str,
        /// What is there.
        found: &'static str,
    },
    /// An alignment that is no power of two, or absurd.
    #[error("the alignment {alignment} of the model file is not a power of two from 8 to 1048576")]
    Alignment {
        /// The alignment.
        alignment: u32,
    },
    /// A shape that is empty, too large, of more than four dimensions, or no multiple of the block size.
    #[error("tensor {tensor:?} has an impossible shape")]
    Shape {
        /// The tensor.
        tensor: String,
    },
    /// A storage format that this engine does not run.
    #[error(
        "tensor {tensor:?} has the quantisation {known_as} (id {id}), which is not supported: choose a file in F16, Q8_0, Q4_0, Q4_K_M or another common quantisation"
    )]
    UnknownDType {
        /// The tensor.
        tensor: String,
        /// ggml's id.
        id: u32,
        /// ggml's name.
        known_as: &'static str,
    },
    /// A tensor that does not begin on the file's alignment.
    #[error("tensor {tensor:?} begins at {offset}, which is no multiple of {alignment}")]
    Misaligned {
        /// The tensor.
        tensor: String,
        /// Its offset in the data.
        offset: u64,
        /// The alignment.
        alignment: u32,
    },
    /// A tensor that ends behind the file.
    #[error("tensor {tensor:?} ends at byte {needed}, but the file has {size}: it is cut off or damaged")]
    OutsideFile {
        /// The tensor.
        tensor: String,
        /// Where it would end.
        needed: u64,
        /// The file's length.
        size: u64,
    },
    /// Two tensors share bytes.
    #[error("tensors {first:?} and {second:?} overlap in the model file")]
    Overlap {
        /// The one that begins first.
        first: String,
        /// The other.
        second: String,
    },
    /// The source failed.
    #[error("the model file cannot be read: {0}")]
    Read(StoreError),
}
