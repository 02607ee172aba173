//! Rotary position embedding (Su et al. 2021) and the ways to stretch it over a longer context.

use super::config::{Config, in_range, invalid, unsupported};
use crate::error::EngineError;
use crate::gguf::{Metadata, OptionalKey};

/// How positions are rotated in one kind of layer.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Rope {
    /// Angle per position of every rotated pair.
    pub(crate) frequencies: Vec<f64>,
    /// What rotated elements are multiplied by.
    pub(crate) magnitude: f64,
}

/// What the file says about longer contexts than the base was chosen for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RopeScaling {
    /// Positions are multiplied by this, in layers without a window.
    scale: f32,
    yarn: Option<Yarn>,
    /// What rotated elements are multiplied by besides, in all layers.
    magnitude: f32,
    /// The context length before it was stretched.
    pub(crate) original_context: u32,
}

/// YaRN (Peng et al. 2023): fast pairs keep their frequency, slow ones are scaled, those between are mixed.
#[derive(Debug, Clone, PartialEq)]
struct Yarn {
    /// Turns within the original context from which on a pair is fast.
    beta_fast: f32,
    /// Turns up to which a pair is slow.
    beta_slow: f32,
    /// Takes back some of the magnitude; 0 means nothing.
    log_multiplier: f32,
}

/// Factors of the pairs' wavelengths: those of Llama 3, or of LongRoPE for short and for long contexts.
#[derive(Debug, Default)]
pub(crate) struct RopeFactors {
    pub(crate) always: Option<Vec<f32>>,
    pub(crate) short: Option<Vec<f32>>,
    pub(crate) long: Option<Vec<f32>>,
}

impl RopeScaling {
    pub(crate) fn read(meta: &Metadata, name: &str) -> Result<Self, EngineError> {
        let key = |suffix: &str| format!("{name}.rope.{suffix}");
        let number = |suffix: &str| meta.f32(&key(suffix)).optional();
        let kind = meta.str(&key("scaling.type")).optional()?;
        // Files of 2023 have only this key.
        let factor = match number("scaling.factor")? {
            None => number("scale_linear")?,
            factor => factor,
        };
        // 0 means "none" in llama.cpp.
        let factor = factor.filter(|factor| *factor != 0.0).unwrap_or(1.0);
        if !(0.001..=1000.0).contains(&factor) {
            return Err(invalid(&format!("the rope scaling factor is {factor}")));
        }
        let (factor, yarn) = match kind {
            None | Some("linear" | "longrope") => (factor, None),
            Some("none") => (1.0, None),
            Some("yarn") => (factor, Some(Yarn::read(meta, name)?)),
            Some(other) => {
                return Err(unsupported(&format!("rope scaling of the type {other:?}")));
            }
        };
        let magnitude = number("scaling.attn_factor")?.unwrap_or(1.0);
        if !(0.01..=100.0).contains(&magnitude) {
            return Err(invalid(&format!("rope's attention factor is {magnitude}")));
        }
        let original = key("scaling.original_context_length");
        Ok(Self {
            scale: 1.0 / factor,
            yarn,
            magnitude,
            original_context: if meta.contains(&original) {
                in_range(meta, &original, u32::MAX)? as u32
            } else {
                meta.u32(&format!("{name}.context_length"))?.max(1)
            },
        })
    }
}

impl Yarn {
    fn read(meta: &Metadata, name: &str) -> Result<Self, EngineError> {
        // llama.cpp reads these of mistral3's files and takes its defaults for the others.
        let number = |suffix: &str, default: f32| match name {
            "mistral3" => {
                let key = format!("{name}.rope.scaling.yarn_{suffix}");
                let value = meta.f32(&key).optional()?.unwrap_or(default);
                if (0.0..=1000.0).contains(&value) {
                    Ok(value)
                } else {
                    Err(invalid(&format!("{key} is {value}, not 0 to 1000")))
                }
            }
            _ => Ok(default),
        };
        Ok(Self {
            beta_fast: number("beta_fast", 32.0)?,
            beta_slow: number("beta_slow", 1.0)?,
            log_multiplier: number("log_multiplier", 0.0)?,
        })
    }

    /// How much of its own frequency a pair keeps, in 32 bits as `ggml_rope_yarn_corr_dims` and `rope_yarn_ramp`.
    fn kept(&self, pair: usize, len: usize, original: u32, base: f32) -> f64 {
        let len = len as f32;
        let turns = |beta: f32| {
            len * (original as f32 / (beta * 2.0 * std::f32::consts::PI)).ln() / (2.0 * base.ln())
        };
        let low = turns(self.beta_fast).floor().max(0.0);
        let high = turns(self.beta_slow).ceil().min(len - 1.0);
        let ramp = (pair as f32 - low) / (high - low).max(0.001);
        f64::from(1.0 - ramp.clamp(0.0, 1.0))
    }

    /// `llama_context`'s attention factor times that of `rope_yarn`.
    fn magnitude(&self, scale: f32) -> f64 {
        let stretched = (1.0 / f64::from(scale)).max(1.0);
        let magnitude = |by: f64| 0.1 * by * stretched.ln() + 1.0;
        magnitude(1.0)
            / if self.log_multiplier == 0.0 {
                1.0
            } else {
                magnitude(f64::from(self.log_multiplier))
            }
    }
}

impl Rope {
    /// Of global and of local layers, for sessions of `context` tokens.
    pub(crate) fn of(
        config: &Config,
        factors: &RopeFactors,
        context: usize,
    ) -> Result<[Self; 2], EngineError> {
        let scaling = &config.rope_scaling;
        let longrope = if context > scaling.original_context as usize {
            &factors.long
        } else {
            &factors.short
        };
        let factors = factors.always.as_ref().or(longrope.as_ref());
        if factors.into_iter().flatten().any(|factor| *factor <= 0.0) {
            return Err(invalid("a rope factor is not positive"));
        }
        let own = f64::from(scaling.magnitude);
        let yarn = scaling.yarn.as_ref();
        let frequency =
            |pair: usize, base: f32| f64::from(base).powf(-2.0 * pair as f64 / config.rope_len as f64);
        let pairs = 0..config.rope_len / 2;
        let global = pairs.clone().map(|pair| {
            let factor = factors.and_then(|factors| factors.get(pair));
            let kept = yarn.map_or(0.0, |yarn| {
                yarn.kept(pair, config.rope_len, scaling.original_context, config.rope_base)
            });
            let scale = f64::from(scaling.scale) * (1.0 - kept) + kept;
            frequency(pair, config.rope_base) * scale / f64::from(factor.copied().unwrap_or(1.0))
        });
        Ok([
            Self {
                frequencies: global.collect(),
                magnitude: own * yarn.map_or(1.0, |yarn| yarn.magnitude(scaling.scale)),
            },
            Self {
                frequencies: pairs
                    .map(|pair| frequency(pair, config.rope_base_local))
                    .collect(),
                magnitude: own,
            },
        ])
    }
}
