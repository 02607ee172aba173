//! A vocabulary as the model file holds it, and its checks.

use super::bpe::Bpe;
use super::special::{Ends, Specials, end_tokens};
use super::table::StringTable;
use super::words::PreTokenizer;
use super::{Kind, Model, Tokenizer, TokenizerError};
use crate::gguf::{Metadata, OptionalKey};

/// More than any vocabulary or list of merges has (the largest known have 262,144 and 514,906).
const MOST_ENTRIES: usize = 1 << 24;

/// Everything that a tokenizer is made of: the `tokenizer.ggml.*` keys of a model file.
#[derive(Debug, Clone, Default)]
pub struct TokenizerData<'a> {
    /// "gpt2" or "llama".
    pub model: &'a str,
    /// The pre-tokenizer, for "gpt2".
    pub pre: Option<&'a str>,
    /// The texts of the tokens.
    pub tokens: Vec<&'a str>,
    /// Their scores, for "llama"; empty if the file has none.
    pub scores: Vec<f32>,
    /// Their types; empty if the file has none.
    pub types: Vec<i32>,
    /// The merges, for "gpt2".
    pub merges: Vec<&'a str>,
    /// Beginning of text.
    pub bos: Option<u32>,
    /// End of text.
    pub eos: Option<u32>,
    /// End of a turn.
    pub eot: Option<u32>,
    /// Stands for what cannot be expressed.
    pub unknown: Option<u32>,
    /// Other tokens that end an answer.
    pub other_ends: Vec<u32>,
    /// Whether texts begin with `bos`, if the file says.
    pub add_bos: Option<bool>,
    /// Whether texts end with `eos`, if the file says.
    pub add_eos: Option<bool>,
    /// Whether "llama" puts a space before a text, if the file says.
    pub add_space_prefix: Option<bool>,
    /// `general.name`: Phi-3 is known by it.
    pub name: &'a str,
}

impl<'a> TokenizerData<'a> {
    /// Reads the keys of a model file.
    ///
    /// # Errors
    /// [`TokenizerError::File`] for keys that are missing or of a wrong type.
    pub fn from_metadata(metadata: &'a Metadata) -> Result<Self, TokenizerError> {
        let id = |name: &str| {
            metadata
                .u32(&format!("tokenizer.ggml.{name}_token_id"))
                .optional()
        };
        let flag = |name: &str| metadata.bool(&format!("tokenizer.ggml.{name}")).optional();
        let model = metadata.str("tokenizer.ggml.model")?;
        let texts = |key| metadata.texts(key).map(|texts| texts.iter().collect());
        let scores = match metadata.f32s("tokenizer.ggml.scores").optional() {
            Ok(scores) => scores.map(<[f32]>::to_vec),
            // llama.cpp accepts whole numbers too.
            Err(error) => match metadata.i32s("tokenizer.ggml.scores") {
                Ok(scores) => Some(scores.iter().map(|score| *score as f32).collect()),
                Err(_) => return Err(error.into()),
            },
        };
        let mut other_ends = Vec::new();
        for name in ["eom", "fim_pad", "fim_rep", "fim_sep"] {
            other_ends.extend(id(name)?);
        }
        Ok(Self {
            model,
            pre: metadata.str("tokenizer.ggml.pre").optional()?,
            tokens: texts("tokenizer.ggml.tokens")?,
            scores: scores.unwrap_or_default(),
            types: metadata
                .i32s("tokenizer.ggml.token_type")
                .optional()?
                .unwrap_or_default(),
            merges: if model == "gpt2" {
                texts("tokenizer.ggml.merges")?
            } else {
                Vec::new()
            },
            bos: id("bos")?,
            eos: id("eos")?,
            eot: id("eot")?,
            unknown: id("unknown")?,
            other_ends,
            add_bos: flag("add_bos_token")?,
            add_eos: flag("add_eos_token")?,
            add_space_prefix: flag("add_space_prefix")?,
            name: metadata.str("general.name").optional()?.unwrap_or_default(),
        })
    }

    fn check_lengths(&self) -> Result<(), TokenizerError> {
        let tokens = self.tokens.len();
        if tokens == 0 {
            return Err(TokenizerError::Empty);
        }
        if tokens > MOST_ENTRIES || self.merges.len() > MOST_ENTRIES {
            return Err(TokenizerError::TooLarge);
        }
        for (key, found) in [
            ("tokenizer.ggml.scores", self.scores.len()),
            ("tokenizer.ggml.token_type", self.types.len()),
        ] {
            if found != 0 && found < tokens {
                return Err(TokenizerError::Length { key, found, tokens });
            }
        }
        match self.scores.iter().position(|score| score.is_nan()) {
            Some(id) => Err(TokenizerError::Score { id }),
            None => Ok(()),
        }
    }

    pub(super) fn build(&self) -> Result<Tokenizer, TokenizerError> {
        self.check_lengths()?;
        let mut warnings = Vec::new();
        let mut table = StringTable::default();
        for (id, text) in self.tokens.iter().enumerate() {
            let twin = table.find(text.as_bytes());
            if let Some(twin) = twin.filter(|_| warnings.len() < 8) {
                warnings.push(format!(
                    "tokens {twin} and {id} have the same text {text:?}; the later is used"
                ));
            }
            if text.is_empty() {
                table.push(format!("[EMPTY_{id}]").as_bytes())?;
            } else {
                table.push(text.as_bytes())?;
            }
        }
        let mut kinds = vec![Kind::Normal; self.tokens.len()];
        for (kind, id) in kinds.iter_mut().zip(&self.types) {
            *kind = Kind::from_id(*id);
        }

        let (defaults, pre) = match self.model {
            // The ids that llama.cpp assumes where the file names none.
            "llama" => ([Some(1), Some(2), Some(0)], None),
            "gpt2" => (
                [Some(11), Some(11), None],
                Some(self.pre_tokenizer(&mut warnings)?),
            ),
            model => {
                return Err(TokenizerError::UnknownModel {
                    model: model.to_owned(),
                });
            }
        };
        let known = |id: &u32| (*id as usize) < self.tokens.len();
        let mut pick = |key: &str, given: Option<u32>, default: Option<u32>| {
            if given.is_some_and(|id| !known(&id)) {
                warnings.push(format!(
                    "the {key} token {given:?} is outside the vocabulary and was ignored"
                ));
            }
            given.filter(known).or(default.filter(known))
        };
        let [bos, eos, unknown] = defaults;
        let bos = pick("beginning-of-text", self.bos, bos);
        let eos = pick("end-of-text", self.eos, eos);
        let eot = pick("end-of-turn", self.eot, None);
        let unknown = pick("unknown", self.unknown, unknown);

        let ends = Ends {
            eos,
            eot,
            others: self.other_ends.iter().copied().filter(known).collect(),
        };
        let (ends, eot) = end_tokens(&table, &mut kinds, &ends);
        let specials = Specials::new(&table, &kinds, self.strip_right(&table, &kinds));

        let add_bos = self.add_bos.unwrap_or_else(|| pre.is_none_or(|pre| pre.add_bos));
        let add_eos = self.add_eos.unwrap_or(false);
        for (which, wanted, id) in [("beginning-of-text", add_bos, bos), ("end-of-text", add_eos, eos)] {
            if wanted && id.is_none() {
                return Err(TokenizerError::MissingSpecial { which });
            }
        }
        let model = match pre {
            Some(pre) => Model::Bpe {
                merges: Bpe::new(&mut table, self.merges.iter().copied())?,
                pre,
            },
            None => {
                let mut scores = self.scores.clone();
                scores.resize(self.tokens.len(), 0.0);
                Model::Spm {
                    scores,
                    add_space_prefix: self.add_space_prefix.unwrap_or(true),
                }
            }
        };
        Ok(Tokenizer {
            table,
            kinds,
            specials,
            model,
            bos,
            eos,
            eot,
            unknown,
            add_bos,
            add_eos,
            ends,
            warnings,
        })
    }

    fn pre_tokenizer(&self, warnings: &mut Vec<String>) -> Result<PreTokenizer, TokenizerError> {
        let name = self.pre.unwrap_or_default();
        if name.is_empty() {
            warnings.push(
                "the model file names no pre-tokenizer, so \"default\" is used and answers may be worse: \
                 convert the model again with a current llama.cpp"
                    .to_owned(),
            );
        }
        let name = if name.is_empty() { "default" } else { name };
        PreTokenizer::named(name).ok_or_else(|| TokenizerError::UnknownPre {
            pre: name.to_owned(),
            known: PreTokenizer::names(),
        })
    }

    /// Special tokens that take the spaces behind them along. No key says so; llama.cpp knows Phi-3 by name.
    fn strip_right(&self, table: &StringTable, kinds: &[Kind]) -> Vec<u32> {
        let name = self.name.to_lowercase();
        if !name.contains("phi-3") && !name.contains("phi3") {
            return Vec::new();
        }
        let keeps = ["<unk>", "<s>", "<|endoftext|>"].map(|text| table.find(text.as_bytes()));
        (0u32..)
            .zip(kinds)
            .filter(|(id, kind)| kind.is_special() && !keeps.contains(&Some(*id)))
            .map(|(id, _)| id)
            .collect()
    }
}
