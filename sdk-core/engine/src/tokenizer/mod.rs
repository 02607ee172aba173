//! Text to tokens and back, exactly as llama.cpp does it for the same file.
//!
//! Two kinds of vocabulary: byte-pair encoding with a pre-tokenizer ("gpt2") and SentencePiece ("llama"). Both
//! read everything from the GGUF. Every text is encoded in time that grows with its length times a logarithm,
//! whatever the text: there is no regular expression and no search from the start.

mod bpe;
mod data;
mod error;
mod special;
mod spm;
mod table;
mod unicode;
mod unicode_table;
mod words;

use std::fmt;

pub use data::TokenizerData;
pub use error::TokenizerError;

use crate::gguf::Metadata;
use bpe::{Bpe, Scratch};
use special::{Fragment, Specials};
use table::StringTable;
use words::PreTokenizer;

/// No token, no symbol.
const NONE: u32 = u32::MAX;
/// Longest text; four million tokens, far beyond any context, and its buffers fit a 32-bit address space.
pub const LONGEST_TEXT: usize = 16 << 20;

/// What a token is, as the model file says (`llama_token_type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Unused,
    Byte,
    Undefined,
}

impl Kind {
    const fn from_id(id: i32) -> Self {
        match id {
            1 => Self::Normal,
            2 => Self::Unknown,
            3 => Self::Control,
            4 => Self::UserDefined,
            5 => Self::Unused,
            6 => Self::Byte,
            _ => Self::Undefined,
        }
    }

    const fn is_special(self) -> bool {
        matches!(self, Self::Control | Self::UserDefined | Self::Unknown)
    }
}

/// How a text becomes tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EncodeOptions {
    /// Put the beginning-of-text and end-of-text tokens around it, where the model wants them.
    pub add_special: bool,
    /// Read control tokens such as `<|im_end|>` in the text as what they are. Only for text that this program
    /// wrote, such as a filled chat template; in a visitor's words they stay words.
    pub parse_special: bool,
}

#[derive(Debug)]
enum Model {
    Bpe {
        merges: Bpe,
        pre: PreTokenizer,
    },
    Spm {
        scores: Vec<f32>,
        add_space_prefix: bool,
    },
}

/// The vocabulary of a model.
pub struct Tokenizer {
    table: StringTable,
    kinds: Vec<Kind>,
    specials: Specials,
    model: Model,
    bos: Option<u32>,
    eos: Option<u32>,
    eot: Option<u32>,
    unknown: Option<u32>,
    add_bos: bool,
    add_eos: bool,
    ends: Vec<u32>,
    warnings: Vec<String>,
}

impl fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokenizer")
            .field("tokens", &self.kinds.len())
            .field("bos", &self.bos)
            .field("eos", &self.eos)
            .field("ends", &self.ends)
            .finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// The tokenizer of a model file.
    ///
    /// # Errors
    /// [`TokenizerError`] when the file has none, one that is not supported, or one that contradicts itself.
    pub fn from_metadata(metadata: &Metadata) -> Result<Self, TokenizerError> {
        Self::new(&TokenizerData::from_metadata(metadata)?)
    }

    /// A tokenizer from a vocabulary.
    ///
    /// # Errors
    /// As [`Self::from_metadata`].
    pub fn new(data: &TokenizerData<'_>) -> Result<Self, TokenizerError> {
        data.build()
    }

    /// How many tokens there are.
    pub fn len(&self) -> usize {
        self.kinds.len()
    }

    /// Whether there are none; never the case.
    pub fn is_empty(&self) -> bool {
        self.kinds.is_empty()
    }

    /// The beginning-of-text token.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The end-of-text token.
    pub fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// The token that ends a turn of a chat.
    pub fn eot(&self) -> Option<u32> {
        self.eot
    }

    /// Whether texts begin with [`Self::bos`].
    pub fn adds_bos(&self) -> bool {
        self.add_bos
    }

    /// Whether an answer ends with this token.
    pub fn is_end(&self, id: u32) -> bool {
        self.ends.binary_search(&id).is_ok()
    }

    /// Every token that ends an answer, ascending.
    pub fn ends(&self) -> &[u32] {
        &self.ends
    }

    /// Whether this token is a mark (control or unknown) and no text.
    pub fn is_control(&self, id: u32) -> bool {
        matches!(self.kind(id), Some(Kind::Control | Kind::Unknown))
    }

    /// What is odd about the vocabulary; for the model report.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The text of a token as the file writes it, for reports and templates.
    pub fn text(&self, id: u32) -> Option<&str> {
        self.kind(id)?;
        std::str::from_utf8(self.table.get(id)?).ok()
    }

    /// The token with exactly this text in the file.
    pub fn id(&self, text: &str) -> Option<u32> {
        self.table
            .find(text.as_bytes())
            .filter(|id| self.kind(*id).is_some())
    }

    /// The tokens of a text.
    ///
    /// # Errors
    /// [`TokenizerError::TextTooLong`], [`TokenizerError::NoByteToken`].
    pub fn encode(&self, text: &str, options: EncodeOptions) -> Result<Vec<u32>, TokenizerError> {
        if text.len() > LONGEST_TEXT {
            return Err(TokenizerError::TextTooLong {
                bytes: text.len(),
                limit: LONGEST_TEXT,
            });
        }
        let mut output = Vec::with_capacity(text.len() / 4 + 2);
        if options.add_special && self.add_bos {
            output.extend(self.bos);
        }
        let fragments = self
            .specials
            .partition(&self.table, &self.kinds, text, options.parse_special);
        let mut scratch = Scratch::default();
        let mut after_token = true;
        for fragment in fragments {
            match fragment {
                Fragment::Token(id) => output.push(id),
                Fragment::Text(ref range) => {
                    let plain = text.get(range.clone()).unwrap_or_default();
                    self.encode_plain(plain, after_token, &mut scratch, &mut output)?;
                }
            }
            after_token = matches!(fragment, Fragment::Token(_));
        }
        if options.add_special && self.add_eos {
            output.extend(self.eos);
        }
        Ok(output)
    }

    fn encode_plain(
        &self,
        text: &str,
        after_token: bool,
        scratch: &mut Scratch,
        output: &mut Vec<u32>,
    ) -> Result<(), TokenizerError> {
        match &self.model {
            Model::Bpe { merges, pre } => {
                for word in pre.split(text) {
                    let word = text.as_bytes().get(word).unwrap_or_default();
                    merges.encode(&self.table, word, pre.ignore_merges, scratch, output);
                }
                Ok(())
            }
            Model::Spm {
                scores,
                add_space_prefix,
            } => {
                let mut escaped = String::with_capacity(text.len() + text.len() / 2 + 3);
                if *add_space_prefix && after_token {
                    escaped.push('▁');
                }
                escaped.extend(text.chars().map(|c| if c == ' ' { '▁' } else { c }));
                spm::encode(&self.table, scores, self.unknown, &escaped, output)
            }
        }
    }

    /// Appends the bytes that a token stands for. They may be a part of a character.
    ///
    /// Control tokens give nothing unless `special` asks for their names.
    ///
    /// # Errors
    /// [`TokenizerError::UnknownToken`].
    pub fn append_piece(&self, id: u32, special: bool, out: &mut Vec<u8>) -> Result<(), TokenizerError> {
        let unknown = || TokenizerError::UnknownToken {
            id,
            tokens: self.kinds.len(),
        };
        let kind = self.kind(id).ok_or_else(unknown)?;
        let text = self.table.get(id).ok_or_else(unknown)?;
        match kind {
            Kind::Control | Kind::Unknown if !special => {}
            Kind::Control | Kind::Unknown | Kind::UserDefined => out.extend_from_slice(text),
            Kind::Byte => out.push(byte_of_text(text)),
            Kind::Normal => self.append_normal(text, out),
            Kind::Unused | Kind::Undefined => {}
        }
        Ok(())
    }

    fn append_normal(&self, text: &[u8], out: &mut Vec<u8>) {
        let text = std::str::from_utf8(text).unwrap_or_default();
        let before = out.len();
        match self.model {
            Model::Bpe { .. } => {
                for c in text.chars() {
                    let Some(byte) = bpe::byte_of_char(c) else {
                        // Not in the byte alphabet: the text itself is meant.
                        out.truncate(before);
                        out.extend_from_slice(text.as_bytes());
                        return;
                    };
                    out.push(byte);
                }
            }
            Model::Spm { .. } => {
                let mut buffer = [0; 4];
                for c in text.chars() {
                    let c = if c == '▁' { ' ' } else { c };
                    out.extend_from_slice(c.encode_utf8(&mut buffer).as_bytes());
                }
            }
        }
    }

    /// The text of tokens, with U+FFFD where their bytes are no characters.
    ///
    /// # Errors
    /// [`TokenizerError::UnknownToken`].
    pub fn decode(&self, ids: &[u32], special: bool) -> Result<String, TokenizerError> {
        let mut bytes = Vec::new();
        ids.iter()
            .try_for_each(|id| self.append_piece(*id, special, &mut bytes))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn kind(&self, id: u32) -> Option<Kind> {
        self.kinds.get(id as usize).copied()
    }
}

/// The byte of a token such as `<0x0A>`; 0 for anything else, as `strtol` in llama.cpp gives.
fn byte_of_text(text: &[u8]) -> u8 {
    text.get(3..5)
        .and_then(|digits| std::str::from_utf8(digits).ok())
        .and_then(|digits| u8::from_str_radix(digits, 16).ok())
        .unwrap_or(0)
}
