//! Which tensors a model of a given configuration has, and whether the file's tensors are those.

use std::collections::BTreeMap;
use std::ops::Range;

use super::config::{Architecture, Config};
use crate::error::EngineError;
use crate::gguf::{DType, Gguf, TensorInfo};

/// A tensor that the executor uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    Embedding,
    OutputNorm,
    Output,
    RopeFactors,
    /// LongRoPE's, for contexts up to the original length and beyond it.
    ShortRopeFactors,
    LongRopeFactors,
    Layer(usize, Part),
}

/// A tensor of one layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Part {
    AttentionNorm,
    Query,
    Key,
    Value,
    AttentionOutput,
    QueryBias,
    KeyBias,
    ValueBias,
    AttentionOutputBias,
    QueryNorm,
    KeyNorm,
    PostAttentionNorm,
    FeedForwardNorm,
    Gate,
    Up,
    Down,
    PostFeedForwardNorm,
}

/// How a tensor is used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// Multiplied with; any format.
    Matrix { rows: usize, columns: usize },
    /// Applied element by element; kept as f32.
    Vector { len: usize },
}

/// The file's tensors, by what they are for.
#[derive(Debug, Clone)]
pub(crate) struct TensorMap {
    pub(crate) tensors: BTreeMap<Role, (TensorInfo, Use)>,
}

impl Use {
    fn shape(self) -> Vec<u64> {
        match self {
            Self::Matrix { rows, columns } => vec![columns as u64, rows as u64],
            Self::Vector { len } => vec![len as u64],
        }
    }
}

/// Suffix of the name, part, use, and whether a model can do without.
fn parts(config: &Config) -> Vec<(&'static str, Part, Use, bool)> {
    let matrix = |rows, columns| Use::Matrix { rows, columns };
    let vector = |len| Use::Vector { len };
    let (width, ff) = (config.width, config.feed_forward);
    let (q, kv) = (config.query_len(), config.kv_len());
    // Biases: qwen2 has three; llama files may have them (InternLM and others converted to llama).
    let no_bias = config.architecture != Architecture::Qwen2;
    let mut list = vec![
        ("attn_norm.weight", Part::AttentionNorm, vector(width), false),
        ("attn_q.weight", Part::Query, matrix(q, width), false),
        ("attn_k.weight", Part::Key, matrix(kv, width), false),
        ("attn_v.weight", Part::Value, matrix(kv, width), false),
        (
            "attn_output.weight",
            Part::AttentionOutput,
            matrix(width, q),
            false,
        ),
        ("attn_q.bias", Part::QueryBias, vector(q), no_bias),
        ("attn_k.bias", Part::KeyBias, vector(kv), no_bias),
        ("attn_v.bias", Part::ValueBias, vector(kv), no_bias),
        ("attn_output.bias", Part::AttentionOutputBias, vector(width), true),
        ("ffn_norm.weight", Part::FeedForwardNorm, vector(width), false),
        ("ffn_gate.weight", Part::Gate, matrix(ff, width), false),
        ("ffn_up.weight", Part::Up, matrix(ff, width), false),
        ("ffn_down.weight", Part::Down, matrix(width, ff), false),
    ];
    if config.has_head_norms() {
        list.push((
            "attn_q_norm.weight",
            Part::QueryNorm,
            vector(config.head_len),
            false,
        ));
        list.push((
            "attn_k_norm.weight",
            Part::KeyNorm,
            vector(config.head_len),
            false,
        ));
    }
    if config.has_post_norms() {
        list.push((
            "post_attention_norm.weight",
            Part::PostAttentionNorm,
            vector(width),
            false,
        ));
        list.push((
            "post_ffw_norm.weight",
            Part::PostFeedForwardNorm,
            vector(width),
            false,
        ));
    }
    list
}

/// Tensors that hold several matrices or biases, one below the other: suffix, parts with their rows, and the length of
/// a row, none for a bias.
type Fused = (&'static str, Vec<(Part, usize)>, Option<usize>);

fn fused(config: &Config) -> Vec<Fused> {
    let (q, kv) = (config.query_len(), config.kv_len());
    let qkv = |query, key, value| vec![(query, q), (key, kv), (value, kv)];
    let mut list = vec![
        (
            "attn_qkv.weight",
            qkv(Part::Query, Part::Key, Part::Value),
            Some(config.width),
        ),
        (
            "attn_qkv.bias",
            qkv(Part::QueryBias, Part::KeyBias, Part::ValueBias),
            None,
        ),
    ];
    if config.architecture == Architecture::Phi3 {
        let halves = vec![(Part::Gate, config.feed_forward), (Part::Up, config.feed_forward)];
        list.push(("ffn_up.weight", halves, Some(config.width)));
    }
    list
}

impl TensorMap {
    /// Finds every tensor, checks its shape, and refuses files with tensors that we would have to ignore.
    pub(crate) fn find(gguf: &Gguf, config: &Config) -> Result<Self, EngineError> {
        let mut map = Self {
            tensors: BTreeMap::new(),
        };
        let table = Use::Matrix {
            rows: config.vocabulary,
            columns: config.width,
        };
        map.add(gguf, "token_embd.weight", Role::Embedding, table, false)?;
        map.add(
            gguf,
            "output_norm.weight",
            Role::OutputNorm,
            Use::Vector { len: config.width },
            false,
        )?;
        // Without one, the embedding table is the output head too (tied weights).
        map.add(gguf, "output.weight", Role::Output, table, true)?;
        let factors = Use::Vector {
            len: config.rope_len / 2,
        };
        map.add(gguf, "rope_freqs.weight", Role::RopeFactors, factors, true)?;
        if config.architecture == Architecture::Phi3 {
            for (name, role) in [
                ("rope_factors_short.weight", Role::ShortRopeFactors),
                ("rope_factors_long.weight", Role::LongRopeFactors),
            ] {
                map.add(gguf, name, role, factors, true)?;
            }
        }
        let parts = parts(config);
        let fused = fused(config);
        for layer in 0..config.layers {
            for (suffix, parts, columns) in &fused {
                map.split(gguf, layer, suffix, parts, *columns)?;
            }
            for (suffix, part, used_as, optional) in &parts {
                let role = Role::Layer(layer, *part);
                if !map.tensors.contains_key(&role) {
                    map.add(gguf, &format!("blk.{layer}.{suffix}"), role, *used_as, *optional)?;
                }
            }
        }
        map.refuse_unused(gguf)?;
        Ok(map)
    }

    /// Drops what layers `kept` of so many do not need.
    pub(crate) fn keep(&mut self, kept: &Range<usize>, layers: usize) {
        let (is_first, is_last) = (kept.start == 0, kept.end == layers);
        let is_tied = !self.tensors.contains_key(&Role::Output);
        self.tensors.retain(|role, _| match role {
            Role::Embedding => is_first || (is_last && is_tied),
            Role::OutputNorm | Role::Output => is_last,
            Role::RopeFactors | Role::ShortRopeFactors | Role::LongRopeFactors => true,
            Role::Layer(layer, _) => kept.contains(layer),
        });
    }

    fn add(
        &mut self,
        gguf: &Gguf,
        name: &str,
        role: Role,
        used_as: Use,
        optional: bool,
    ) -> Result<(), EngineError> {
        match gguf.tensor(name) {
            Some(tensor) => {
                check(tensor, used_as)?;
                self.tensors.insert(role, (tensor.clone(), used_as));
                Ok(())
            }
            None if optional => Ok(()),
            None => Err(EngineError::MissingTensor {
                name: name.to_owned(),
            }),
        }
    }

    /// Rows lie one after the other in a file, so that a part of a tensor is a tensor itself.
    fn split(
        &mut self,
        gguf: &Gguf,
        layer: usize,
        suffix: &str,
        parts: &[(Part, usize)],
        columns: Option<usize>,
    ) -> Result<(), EngineError> {
        let Some(tensor) = gguf.tensor(&format!("blk.{layer}.{suffix}")) else {
            return Ok(());
        };
        let of_rows = |rows| match columns {
            Some(columns) => Use::Matrix { rows, columns },
            None => Use::Vector { len: rows },
        };
        let all = parts
            .iter()
            .fold(0, |sum: usize, (_, rows)| sum.saturating_add(*rows));
        check(tensor, of_rows(all))?;
        let row_bytes = tensor.bytes / (all as u64).max(1);
        let mut offset = tensor.offset;
        for (part, rows) in parts {
            let used_as = of_rows(*rows);
            let piece = TensorInfo {
                shape: used_as.shape(),
                offset,
                bytes: row_bytes.saturating_mul(*rows as u64),
                ..tensor.clone()
            };
            offset = offset.saturating_add(piece.bytes);
            self.tensors.insert(Role::Layer(layer, *part), (piece, used_as));
        }
        Ok(())
    }

    /// A tensor that we do not know does something; leaving it out would give wrong answers without a word.
    fn refuse_unused(&self, gguf: &Gguf) -> Result<(), EngineError> {
        let known: std::collections::BTreeSet<&str> = self
            .tensors
            .values()
            .map(|(tensor, _)| tensor.name.as_str())
            .collect();
        let unused = gguf.tensors.iter().find(|tensor| {
            // Old conversions carry rotary tables that can be computed.
            !known.contains(tensor.name.as_str())
                && !tensor.name.ends_with("rot_embd.weight")
                && !tensor.name.ends_with("rotary_emb.inv_freq")
        });
        match unused {
            None => Ok(()),
            Some(tensor) => Err(EngineError::UnsupportedFeature {
                feature: format!("the tensor {:?}", tensor.name),
            }),
        }
    }
}

/// Whether the tensor can be used as it shall be.
fn check(tensor: &TensorInfo, used_as: Use) -> Result<(), EngineError> {
    let expected = used_as.shape();
    // A trailing size of 1 says nothing.
    let mut found = tensor.shape.clone();
    while found.len() > expected.len() && found.last() == Some(&1) {
        found.pop();
    }
    if found != expected {
        return Err(EngineError::TensorShape {
            name: tensor.name.clone(),
            expected,
            found: tensor.shape.clone(),
        });
    }
    let is_float = matches!(tensor.dtype, DType::F32 | DType::F16 | DType::Bf16);
    if matches!(used_as, Use::Vector { .. }) && !is_float {
        return Err(EngineError::UnsupportedFeature {
            feature: format!("a quantised vector ({} in {})", tensor.name, tensor.dtype),
        });
    }
    Ok(())
}
