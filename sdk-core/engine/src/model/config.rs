//! What the metadata says about the shape of a model, checked before anything is computed from it.

use super::rope::RopeScaling;
use crate::error::EngineError;
use crate::gguf::{Gguf, Metadata, OptionalKey};

/// The families of transformers that the executor runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Architecture {
    Llama,
    /// Ministral 3 and its kin; Mistral 7B to Nemo are `llama` in GGUF.
    Mistral3,
    Phi3,
    Qwen2,
    Qwen3,
    Gemma3,
}

/// Which elements of a head are rotated together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RopeKind {
    /// Neighbours: (0, 1), (2, 3), … ("norm" in ggml), for llama and mistral3.
    Adjacent,
    /// Halves: (0, d/2), (1, d/2 + 1), … ("neox" in ggml), for phi3, qwen and gemma.
    Halves,
}

/// The gate's non-linearity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activation {
    Silu,
    /// GELU in its tanh approximation.
    GeluTanh,
}

/// Everything about a model but its weights.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Config {
    pub(crate) architecture: Architecture,
    pub(crate) vocabulary: usize,
    pub(crate) layers: usize,
    pub(crate) width: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_len: usize,
    pub(crate) feed_forward: usize,
    pub(crate) context: u32,
    pub(crate) norm_eps: f32,
    pub(crate) rope: RopeKind,
    /// Leading elements of each head that are rotated.
    pub(crate) rope_len: usize,
    pub(crate) rope_base: f32,
    /// Base of the layers with a sliding window.
    pub(crate) rope_base_local: f32,
    pub(crate) rope_scaling: RopeScaling,
    pub(crate) attention_scale: f32,
    pub(crate) embedding_scale: f32,
    /// Tokens that a local layer sees, itself included.
    pub(crate) window: Option<usize>,
    pub(crate) activation: Activation,
}

/// gemma3 has five local layers, then a global one (`set_swa_pattern(6)` in llama.cpp; Gemma 3 report, section 2).
const GEMMA3_PATTERN: usize = 6;
/// Limits far above every real model; they keep products of sizes small enough to multiply without care.
const MOST_LAYERS: u32 = 1024;
const WIDEST: u32 = 1 << 18;
const LARGEST_VOCABULARY: u64 = 1 << 21;
const LONGEST_HEAD: usize = 1024;

impl Config {
    pub(crate) fn read(gguf: &Gguf) -> Result<Self, EngineError> {
        let meta = &gguf.metadata;
        let name = meta.str("general.architecture")?;
        let architecture = match name {
            "llama" => Architecture::Llama,
            "mistral3" => Architecture::Mistral3,
            "phi3" => Architecture::Phi3,
            "qwen2" => Architecture::Qwen2,
            "qwen3" => Architecture::Qwen3,
            "gemma3" => Architecture::Gemma3,
            other => {
                return Err(EngineError::UnsupportedArchitecture {
                    architecture: other.chars().take(64).collect(),
                });
            }
        };
        let key = |suffix: &str| format!("{name}.{suffix}");
        if meta.u32(&key("expert_count")).optional()?.unwrap_or(0) > 0 {
            return Err(unsupported("a mixture of experts"));
        }
        let layers = in_range(meta, &key("block_count"), MOST_LAYERS)?;
        let width = in_range(meta, &key("embedding_length"), WIDEST)?;
        let heads = in_range(meta, &key("attention.head_count"), WIDEST)?;
        let kv_key = key("attention.head_count_kv");
        let kv_heads = if meta.contains(&kv_key) {
            in_range(meta, &kv_key, WIDEST)?
        } else {
            heads
        };
        let head_len = match meta.u32(&key("attention.key_length")).optional()? {
            Some(len) => len as usize,
            None if width.is_multiple_of(heads) => width / heads,
            None => return Err(invalid("the width is no multiple of the number of heads")),
        };
        let value_len = meta.u32(&key("attention.value_length")).optional()?;
        if value_len.is_some_and(|len| len as usize != head_len) {
            return Err(unsupported("keys and values of different lengths"));
        }
        let rope_len = meta.u32(&key("rope.dimension_count")).optional()?;
        let rope_len = rope_len.map_or(head_len, |len| len as usize);
        if head_len == 0 || head_len > LONGEST_HEAD || !head_len.is_multiple_of(2) {
            return Err(invalid("heads must have an even length of at most 1024"));
        }
        if rope_len > head_len || !rope_len.is_multiple_of(2) {
            return Err(invalid("the rotated part does not fit into a head"));
        }
        if kv_heads > heads || !heads.is_multiple_of(kv_heads) {
            return Err(invalid("the heads cannot be shared evenly among the KV heads"));
        }
        let gemma = architecture == Architecture::Gemma3;
        let norm_eps = meta.f32(&key("attention.layer_norm_rms_epsilon"))?;
        if !(0.0..1.0).contains(&norm_eps) {
            return Err(invalid("the epsilon of the norms is not between 0 and 1"));
        }
        let rope_scaling = RopeScaling::read(meta, name)?;
        let mut context = meta.u32(&key("context_length"))?.max(1);
        if meta
            .f32(&key("attention.temperature_scale"))
            .optional()?
            .unwrap_or(0.0)
            != 0.0
        {
            // From this position on mistral3's attention grows sharper (Llama 4's temperature), which is not
            // implemented; before it the temperature is exactly 1.
            context = context.min(rope_scaling.original_context);
        }
        let scale_by = if gemma && layers == 62 {
            // Gemma 3 27B alone scales by width / heads (llama.cpp, LLM_ARCH_GEMMA3).
            width as f32 / heads as f32
        } else {
            head_len as f32
        };
        Ok(Self {
            architecture,
            vocabulary: vocabulary(gguf)?,
            layers,
            width,
            heads,
            kv_heads,
            head_len,
            feed_forward: in_range(meta, &key("feed_forward_length"), WIDEST)?,
            context,
            norm_eps,
            rope: match architecture {
                Architecture::Llama | Architecture::Mistral3 => RopeKind::Adjacent,
                _ => RopeKind::Halves,
            },
            rope_len,
            rope_base: rope_base(meta, &key("rope.freq_base"))?,
            rope_base_local: rope_base(meta, &key("rope.freq_base_swa"))?,
            rope_scaling,
            attention_scale: 1.0 / scale_by.sqrt(),
            embedding_scale: if gemma { (width as f32).sqrt() } else { 1.0 },
            window: match meta.u32(&key("attention.sliding_window")).optional()? {
                Some(window) if gemma && window > 0 => Some(window as usize),
                _ => None,
            },
            activation: if gemma {
                Activation::GeluTanh
            } else {
                Activation::Silu
            },
        })
    }

    /// Whether this layer sees only the last [`Self::window`] tokens.
    pub(crate) fn is_local(&self, layer: usize) -> bool {
        self.window.is_some() && layer % GEMMA3_PATTERN != GEMMA3_PATTERN.saturating_sub(1)
    }

    /// Whether queries and keys are normalised per head.
    pub(crate) fn has_head_norms(&self) -> bool {
        matches!(self.architecture, Architecture::Qwen3 | Architecture::Gemma3)
    }

    /// Whether the outputs of attention and feed-forward are normalised before they are added.
    pub(crate) fn has_post_norms(&self) -> bool {
        self.architecture == Architecture::Gemma3
    }

    /// Length of all queries of a token.
    pub(crate) fn query_len(&self) -> usize {
        self.heads.saturating_mul(self.head_len)
    }

    /// Length of all keys (or values) of a token.
    pub(crate) fn kv_len(&self) -> usize {
        self.kv_heads.saturating_mul(self.head_len)
    }
}

pub(super) fn invalid(reason: &str) -> EngineError {
    EngineError::InvalidModel {
        reason: reason.to_owned(),
    }
}

pub(super) fn unsupported(feature: &str) -> EngineError {
    EngineError::UnsupportedFeature {
        feature: feature.to_owned(),
    }
}

pub(super) fn in_range(meta: &Metadata, key: &str, largest: u32) -> Result<usize, EngineError> {
    let value = meta.u32(key)?;
    if value == 0 || value > largest {
        return Err(invalid(&format!("{key} is {value}, not 1 to {largest}")));
    }
    Ok(value as usize)
}

/// The vocabulary is as large as the embedding table, as in llama.cpp.
fn vocabulary(gguf: &Gguf) -> Result<usize, EngineError> {
    const NAME: &str = "token_embd.weight";
    let table = gguf
        .tensor(NAME)
        .ok_or_else(|| EngineError::MissingTensor { name: NAME.into() })?;
    let rows = table.rows();
    if rows > LARGEST_VOCABULARY {
        return Err(invalid(&format!("the vocabulary has {rows} words")));
    }
    Ok(rows as usize)
}

fn rope_base(meta: &Metadata, key: &str) -> Result<f32, EngineError> {
    // 10,000 is the default of the format and the base of gemma3's local layers.
    let base = meta.f32(key).optional()?.unwrap_or(10_000.0);
    if base < 1.0 {
        return Err(invalid(&format!("{key} is {base}, below 1")));
    }
    Ok(base)
}
