//! Choosing the next token from the logits.
//!
//! Randomness is counter-based: the draw for the n-th token of an answer depends on the seed and on n alone. So
//! an answer that is resumed elsewhere takes the same tokens as one that was never interrupted.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;

use kwaainet_types::SamplingOptions;

/// Most entries of a logit bias.
const MOST_BIASES: usize = 1024;

/// An option out of range.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{name} is {value}: it must be {range}")]
pub struct OptionsError {
    /// The option, by the name that requests use.
    pub name: &'static str,
    /// The value that was given.
    pub value: String,
    /// What it may be.
    pub range: &'static str,
}

/// How tokens are chosen. The defaults are llama.cpp's.
#[derive(Debug, Clone, PartialEq)]
pub struct SamplerOptions {
    /// Divides the logits; 0 takes the likeliest token.
    pub temperature: f32,
    /// Keep the k likeliest; 0 keeps all.
    pub top_k: u32,
    /// Keep the likeliest that together have this probability (Holtzman et al., arXiv:1904.09751).
    pub top_p: f32,
    /// Drop what is less likely than this share of the likeliest (Nguyen et al., arXiv:2407.01082).
    pub min_p: f32,
    /// Divides positive and multiplies negative logits of recent tokens (Keskar et al., arXiv:1909.05858).
    pub repetition_penalty: f32,
    /// Subtracted from the logits of recent tokens.
    pub presence_penalty: f32,
    /// Subtracted for each time that a token is among the recent ones.
    pub frequency_penalty: f32,
    /// How many tokens are recent, those of the prompt included.
    pub penalty_last_n: u32,
    /// Where randomness starts.
    pub seed: u64,
    /// Added to the logits of single tokens, from -100 (never) to 100.
    pub logit_bias: Vec<(u32, f32)>,
}

impl Default for SamplerOptions {
    fn default() -> Self {
        Self {
            temperature: 0.8,
            top_k: 40,
            top_p: 0.95,
            min_p: 0.05,
            repetition_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            penalty_last_n: 64,
            seed: 0,
            logit_bias: Vec::new(),
        }
    }
}

impl SamplerOptions {
    /// The likeliest token, always.
    pub fn greedy() -> Self {
        Self {
            temperature: 0.0,
            ..Self::default()
        }
    }

    /// What a request asks for, defaults for the rest; `seed` where it names none.
    ///
    /// # Errors
    /// [`OptionsError`] naming the option and its range.
    pub fn from_request(request: &SamplingOptions, seed: u64) -> Result<Self, OptionsError> {
        let default = Self::default();
        let options = Self {
            temperature: request.temperature.unwrap_or(default.temperature),
            top_k: request.top_k.unwrap_or(default.top_k),
            top_p: request.top_p.unwrap_or(default.top_p),
            min_p: request.min_p.unwrap_or(default.min_p),
            repetition_penalty: request.repetition_penalty.unwrap_or(default.repetition_penalty),
            presence_penalty: request.presence_penalty.unwrap_or(default.presence_penalty),
            frequency_penalty: request.frequency_penalty.unwrap_or(default.frequency_penalty),
            seed: request.seed.unwrap_or(seed),
            ..default
        };
        options.check()?;
        Ok(options)
    }

    /// Checks every range.
    ///
    /// # Errors
    /// [`OptionsError`] naming the option and its range.
    pub fn check(&self) -> Result<(), OptionsError> {
        // Written so that NaN is out of every range.
        let checks = [
            ("temperature", self.temperature, (0.0, 5.0), "from 0 to 5"),
            (
                "top_p",
                self.top_p,
                (f32::MIN_POSITIVE, 1.0),
                "above 0 and up to 1",
            ),
            ("min_p", self.min_p, (0.0, 1.0), "from 0 to 1"),
            (
                "repetition_penalty",
                self.repetition_penalty,
                (0.1, 10.0),
                "from 0.1 to 10",
            ),
            (
                "presence_penalty",
                self.presence_penalty,
                (-2.0, 2.0),
                "from -2 to 2",
            ),
            (
                "frequency_penalty",
                self.frequency_penalty,
                (-2.0, 2.0),
                "from -2 to 2",
            ),
        ];
        for (name, value, (low, high), range) in checks {
            if !(low..=high).contains(&value) {
                let value = value.to_string();
                return Err(OptionsError { name, value, range });
            }
        }
        if self.logit_bias.len() > MOST_BIASES {
            return Err(OptionsError {
                name: "logit_bias",
                value: format!("{} entries long", self.logit_bias.len()),
                range: "at most 1024 entries long",
            });
        }
        match self
            .logit_bias
            .iter()
            .find(|(_, bias)| !(-100.0..=100.0).contains(bias))
        {
            Some((token, bias)) => Err(OptionsError {
                name: "logit_bias",
                value: format!("{bias} for token {token}"),
                range: "from -100 to 100",
            }),
            None => Ok(()),
        }
    }
}

/// A token and its logit. Sorts by logit, the highest last, and of equals the lower number last.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Candidate {
    logit: f32,
    id: u32,
}

impl Eq for Candidate {}

impl PartialOrd for Candidate {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Candidate {
    fn cmp(&self, other: &Self) -> Ordering {
        self.logit
            .total_cmp(&other.logit)
            .then_with(|| other.id.cmp(&self.id))
    }
}

/// Chooses tokens.
#[derive(Debug, Clone)]
pub struct Sampler {
    options: SamplerOptions,
    logits: Vec<f32>,
}

impl Sampler {
    /// A sampler with these options.
    ///
    /// # Errors
    /// [`OptionsError`] naming the option and its range.
    pub fn new(options: SamplerOptions) -> Result<Self, OptionsError> {
        options.check()?;
        Ok(Self {
            options,
            logits: Vec::new(),
        })
    }

    /// What it was made with.
    pub fn options(&self) -> &SamplerOptions {
        &self.options
    }

    /// The token at `position` of the answer, after the tokens of `history` (prompt and answer so far).
    ///
    /// `None` when no logit is a number.
    pub fn sample(&mut self, logits: &[f32], history: &[u32], position: u64) -> Option<u32> {
        self.sample_where(logits, history, position, None)
    }

    /// As [`Self::sample`], among the tokens that are allowed. Those that are not have no part in top-k and top-p either.
    pub(crate) fn sample_where(
        &mut self,
        logits: &[f32],
        history: &[u32],
        position: u64,
        allowed: Option<&dyn Fn(u32) -> bool>,
    ) -> Option<u32> {
        self.adjust(logits, history);
        if let Some(allowed) = allowed {
            for (id, logit) in (0u32..).zip(&mut self.logits) {
                if !allowed(id) {
                    *logit = f32::NEG_INFINITY;
                }
            }
        }
        let best = best_of(&self.logits)?;
        if self.options.temperature == 0.0 {
            return Some(best.id);
        }
        let kept = self.keep(best);
        let random = unit(self.options.seed, position);
        Some(draw(&kept, best, self.options.temperature, random))
    }

    /// Copies the logits; applies biases and penalties. What is no number becomes impossible.
    fn adjust(&mut self, logits: &[f32], history: &[u32]) {
        let options = &self.options;
        self.logits.clear();
        let cleaned = logits.iter().map(|logit| {
            if logit.is_finite() {
                *logit
            } else {
                f32::NEG_INFINITY
            }
        });
        self.logits.extend(cleaned);
        for (token, bias) in &options.logit_bias {
            if let Some(logit) = self.logits.get_mut(*token as usize) {
                *logit += bias;
            }
        }
        let without = options.repetition_penalty == 1.0
            && options.presence_penalty == 0.0
            && options.frequency_penalty == 0.0;
        if without {
            return;
        }
        let recent = history.len().saturating_sub(options.penalty_last_n as usize);
        let mut recent = history.get(recent..).unwrap_or_default().to_vec();
        recent.sort_unstable();
        for same in recent.chunk_by(|a, b| a == b) {
            let place = same
                .first()
                .and_then(|token| self.logits.get_mut(*token as usize));
            let Some(logit) = place else { continue };
            if *logit <= 0.0 {
                *logit *= options.repetition_penalty;
            } else {
                *logit /= options.repetition_penalty;
            }
            *logit -= same.len() as f32 * options.frequency_penalty + options.presence_penalty;
        }
    }

    /// The likeliest tokens that pass top-k, top-p and min-p, the likeliest first. Each of the three keeps a
    /// beginning of the list sorted by logit, so the shortest of the three beginnings is what remains.
    fn keep(&self, best: Candidate) -> Vec<Candidate> {
        let options = &self.options;
        // Below this a token has less than e^-40 of the likeliest one's chance after the temperature, and
        // 262,144 of them together less than 10^-12.
        let negligible = best.logit - 40.0 * options.temperature.max(1.0);
        let floor = negligible.max(best.logit + options.min_p.ln());
        let all = (0u32..)
            .zip(&self.logits)
            .map(|(id, logit)| Candidate { logit: *logit, id })
            .filter(|candidate| candidate.logit >= floor);
        let top_k = options.top_k as usize;
        let limits_k = top_k > 0 && top_k < self.logits.len();
        if options.top_p >= 1.0 {
            return if limits_k {
                largest(all, top_k)
            } else {
                all.collect()
            };
        }
        // top-p measures shares of what top-k left, with or without the tokens that min-p drops.
        if limits_k {
            let everything = (0u32..)
                .zip(&self.logits)
                .map(|(id, logit)| Candidate { logit: *logit, id });
            let mut sorted = largest(everything, top_k);
            let total = sorted.iter().map(|candidate| weight(*candidate, best, 1.0)).sum();
            sorted.truncate(nucleus(&sorted, best, total, options.top_p));
            sorted.retain(|candidate| candidate.logit >= floor || *candidate == best);
            return sorted;
        }
        let weights = self
            .logits
            .iter()
            .map(|logit| f64::from(logit - best.logit).exp());
        let total: f64 = weights.sum();
        let mut rest: Vec<Candidate> = all.collect();
        // Sort only as many as the nucleus turns out to need.
        let mut wanted = 256;
        loop {
            if wanted >= rest.len() {
                rest.sort_unstable_by(|a, b| b.cmp(a));
                rest.truncate(nucleus(&rest, best, total, options.top_p));
                return rest;
            }
            let (front, _, _) = rest.select_nth_unstable_by(wanted, |a, b| b.cmp(a));
            front.sort_unstable_by(|a, b| b.cmp(a));
            let len = nucleus(front, best, total, options.top_p);
            if len < front.len() {
                rest.truncate(len);
                return rest;
            }
            wanted *= 4;
        }
    }
}

fn best_of(logits: &[f32]) -> Option<Candidate> {
    let candidates = (0u32..)
        .zip(logits)
        .map(|(id, logit)| Candidate { logit: *logit, id });
    candidates
        .filter(|candidate| candidate.logit.is_finite())
        .reduce(|best, next| if next.logit > best.logit { next } else { best })
}

/// The `count` largest, in descending order: one pass, most of it a comparison with the smallest kept so far.
fn largest(candidates: impl Iterator<Item = Candidate>, count: usize) -> Vec<Candidate> {
    let mut kept: BinaryHeap<Reverse<Candidate>> =
        BinaryHeap::with_capacity(count.saturating_add(1).min(4096));
    for candidate in candidates {
        if kept.len() < count {
            kept.push(Reverse(candidate));
        } else if let Some(mut smallest) = kept.peek_mut()
            && candidate > smallest.0
        {
            *smallest = Reverse(candidate);
        }
    }
    kept.into_sorted_vec()
        .into_iter()
        .map(|Reverse(candidate)| candidate)
        .collect()
}

fn weight(candidate: Candidate, best: Candidate, temperature: f32) -> f64 {
    (f64::from(candidate.logit - best.logit) / f64::from(temperature)).exp()
}

/// How many of the sorted candidates have the probability `top_p` together; at least one.
fn nucleus(sorted: &[Candidate], best: Candidate, total: f64, top_p: f32) -> usize {
    let mut sum = 0.0;
    for (index, candidate) in sorted.iter().enumerate() {
        sum += weight(*candidate, best, 1.0);
        if sum >= f64::from(top_p) * total {
            return index + 1;
        }
    }
    sorted.len()
}

fn draw(kept: &[Candidate], best: Candidate, temperature: f32, random: f64) -> u32 {
    let total: f64 = kept
        .iter()
        .map(|candidate| weight(*candidate, best, temperature))
        .sum();
    let mut left = random * total;
    for candidate in kept {
        left -= weight(*candidate, best, temperature);
        if left < 0.0 {
            return candidate.id;
        }
    }
    best.id
}

/// A number in [0, 1) for a seed and a position: SplitMix64's finaliser (Steele, Lea, Flood 2014), twice, so
/// that neighbouring seeds do not give shifted sequences.
fn unit(seed: u64, position: u64) -> f64 {
    let mix = |mut z: u64| {
        z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    (mix(mix(seed) ^ position) >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
#[path = "sampler_tests.rs"]
mod tests;
