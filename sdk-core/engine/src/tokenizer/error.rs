//! What can be wrong with a vocabulary, or with a text for it.

use super::table::LONGEST_TOKEN;
use crate::gguf::GgufError;

/// Why there is no tokenizer, or no tokens.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TokenizerError {
    /// The vocabulary's keys in the model file are missing or of a wrong type.
    #[error(transparent)]
    File(#[from] GgufError),
    /// A kind of tokenizer that this engine does not run.
    #[error(
        "the model's tokenizer {model:?} is not supported: use a model with \"gpt2\" (BPE) or \"llama\" (SPM)"
    )]
    UnknownModel {
        /// `tokenizer.ggml.model` of the file.
        model: String,
    },
    /// A way to cut text into words that this engine does not know.
    #[error("the model's pre-tokenizer {pre:?} is not supported. Supported are: {known}")]
    UnknownPre {
        /// `tokenizer.ggml.pre` of the file.
        pre: String,
        /// The names that would work.
        known: String,
    },
    /// An array whose length does not match the vocabulary.
    #[error("{key} has {found} entries for {tokens} tokens: the model file is damaged")]
    Length {
        /// The array.
        key: &'static str,
        /// Its length.
        found: usize,
        /// The length of the vocabulary.
        tokens: usize,
    },
    /// No tokens at all.
    #[error("the model file has an empty vocabulary")]
    Empty,
    /// A vocabulary beyond reason.
    #[error("the vocabulary is too large (more than 4 GiB, or than 16 million tokens or merges)")]
    TooLarge,
    /// A token beyond reason.
    #[error("token {id} has {bytes} bytes; at most {LONGEST_TOKEN} are accepted")]
    TokenTooLong {
        /// The token.
        id: usize,
        /// Its length.
        bytes: usize,
    },
    /// Tokens chosen to collide in a hash table.
    #[error("the vocabulary was crafted to slow this program down (its tokens collide)")]
    Colliding,
    /// A score that is no number.
    #[error("the score of token {id} is not a number")]
    Score {
        /// The token.
        id: usize,
    },
    /// The model wants a token before or after each text and does not say which.
    #[error("the model asks for a {which} token but names none")]
    MissingSpecial {
        /// "beginning-of-text" or "end-of-text".
        which: &'static str,
    },
    /// A byte that no token stands for.
    #[error("this vocabulary has no token for the byte {byte:#04x}")]
    NoByteToken {
        /// The byte.
        byte: u8,
    },
    /// A number that is no token.
    #[error("{id} is not a token of this model, which has {tokens}")]
    UnknownToken {
        /// The number.
        id: u32,
        /// The length of the vocabulary.
        tokens: usize,
    },
    /// A text beyond reason.
    #[error("a text of {bytes} bytes is too long: at most {limit} are accepted")]
    TextTooLong {
        /// The text's length.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
}
