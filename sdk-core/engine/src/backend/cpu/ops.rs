//! The element-wise parts of a transformer: norms, rotation, gates, softmax.
//!
//! Plain loops over fixed-length pieces, which LLVM turns into vectors of the instruction set they are compiled for.
//! Sums run in 16 lanes that are added up in a fixed order, so that results do not depend on the instruction set.

#![expect(
    unsafe_code,
    clippy::indexing_slicing,
    reason = "kernel: lengths are checked on entry, and lane indices are constants"
)]

use super::isa::{Isa, for_each_isa};
use super::simd::Simd;
use crate::model::{Activation, Rope, RopeKind};

const LANES: usize = 16;

/// e^x with a relative error below 2e-7, from -87 to 88; outside that range it stays at the nearest end.
///
/// x = n ln 2 + r, with r at most ln 2 / 2: a polynomial for e^r, and n into the exponent. Constants are Cephes' `expf`.
#[inline(always)]
pub(super) fn exp(x: f32) -> f32 {
    const ROUNDER: f32 = 12_582_912.0;
    let x = x.clamp(-87.0, 88.0);
    let shifted = x * std::f32::consts::LOG2_E + ROUNDER;
    let n = shifted - ROUNDER;
    let r = x - n * 0.693_359_4 - n * -2.121_944_4e-4;
    let mut p = 1.987_569_1e-4;
    p = p * r + 1.398_2e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 0.5;
    let e_to_r = p * r * r + r + 1.0;
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(1.0_f32.to_bits()));
    e_to_r * power
}

#[inline(always)]
pub(super) fn sum_lanes(mut lanes: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0]
}

#[inline(always)]
fn sum_of_squares(x: &[f32]) -> f32 {
    let (pieces, rest) = x.as_chunks::<LANES>();
    let mut lanes = [0.0; LANES];
    for piece in pieces {
        for (lane, value) in lanes.iter_mut().zip(piece) {
            *lane += value * value;
        }
    }
    for (lane, value) in lanes.iter_mut().zip(rest) {
        *lane += value * value;
    }
    sum_lanes(lanes)
}

/// RMS norm of every vector of `weights.len()` numbers (Zhang & Sennrich 2019): `x / sqrt(mean(x^2) + eps) * weights`.
pub(crate) fn rms_norm(isa: Isa, x: &[f32], weights: &[f32], eps: f32, out: &mut [f32]) {
    // SAFETY: the body is safe code; `isa` is one that this machine has.
    unsafe { rms_norm_isa(isa, x, weights, eps, out) }
}

for_each_isa! {
    unsafe fn rms_norm_isa(x: &[f32], weights: &[f32], eps: f32, out: &mut [f32]) = rms_norm_body
}

#[inline(always)]
unsafe fn rms_norm_body<S: Simd>(x: &[f32], weights: &[f32], eps: f32, out: &mut [f32]) {
    let len = weights.len().max(1);
    for (x, out) in x.chunks_exact(len).zip(out.chunks_exact_mut(len)) {
        let scale = 1.0 / (sum_of_squares(x) / len as f32 + eps).sqrt();
        for ((to, from), weight) in out.iter_mut().zip(x).zip(weights) {
            *to = from * scale * weight;
        }
    }
}

/// RMS norm of every vector of `weights.len()` numbers, in place.
pub(crate) fn rms_norm_in_place(isa: Isa, x: &mut [f32], weights: &[f32], eps: f32) {
    // SAFETY: as in `rms_norm`.
    unsafe { rms_norm_in_place_isa(isa, x, weights, eps) }
}

for_each_isa! {
    unsafe fn rms_norm_in_place_isa(x: &mut [f32], weights: &[f32], eps: f32) = rms_norm_in_place_body
}

#[inline(always)]
unsafe fn rms_norm_in_place_body<S: Simd>(x: &mut [f32], weights: &[f32], eps: f32) {
    let len = weights.len().max(1);
    for x in x.chunks_exact_mut(len) {
        let scale = 1.0 / (sum_of_squares(x) / len as f32 + eps).sqrt();
        for (value, weight) in x.iter_mut().zip(weights) {
            *value = *value * scale * weight;
        }
    }
}

/// `gate = activation(gate) * up`.
pub(crate) fn gate(isa: Isa, activation: Activation, gate: &mut [f32], up: &[f32]) {
    // SAFETY: as in `rms_norm`.
    unsafe { gate_isa(isa, activation, gate, up) }
}

for_each_isa! {
    unsafe fn gate_isa(activation: Activation, gate: &mut [f32], up: &[f32]) = gate_body
}

#[inline(always)]
unsafe fn gate_body<S: Simd>(activation: Activation, gate: &mut [f32], up: &[f32]) {
    match activation {
        Activation::Silu => {
            for (gate, up) in gate.iter_mut().zip(up) {
                *gate = *gate / (1.0 + exp(-*gate)) * up;
            }
        }
        Activation::GeluTanh => {
            for (gate, up) in gate.iter_mut().zip(up) {
                // x/2 (1 + tanh(u)) = x / (1 + e^-2u), u = sqrt(2/pi) (x + 0.044715 x^3): Hendrycks & Gimpel 2016.
                let x = *gate;
                let u = 0.797_884_6 * x * (1.0 + 0.044_715 * x * x);
                *gate = x / (1.0 + exp(-2.0 * u)) * up;
            }
        }
    }
}

/// `to += from`.
pub(crate) fn add(to: &mut [f32], from: &[f32]) {
    for (to, from) in to.iter_mut().zip(from) {
        *to += from;
    }
}

/// Adds `bias` to every vector.
pub(crate) fn add_bias(to: &mut [f32], bias: &[f32]) {
    for to in to.chunks_exact_mut(bias.len().max(1)) {
        add(to, bias);
    }
}

/// Cosines and sines of a block of positions: `[token][pair]`.
#[derive(Debug, Default)]
pub(crate) struct Rotation {
    pairs: usize,
    cos: Vec<f32>,
    sin: Vec<f32>,
}

impl Rotation {
    /// Forgets all positions.
    pub(crate) fn clear(&mut self) {
        self.cos.clear();
        self.sin.clear();
    }

    /// Adds the positions from `first` on.
    pub(crate) fn prepare(&mut self, rope: &Rope, first: usize, tokens: usize) {
        self.pairs = rope.frequencies.len();
        for position in first..first.saturating_add(tokens) {
            for frequency in &rope.frequencies {
                let (sin, cos) = (position as f64 * frequency).sin_cos();
                self.cos.push((cos * rope.magnitude) as f32);
                self.sin.push((sin * rope.magnitude) as f32);
            }
        }
    }

    /// Rotates every head of every token (Su et al. 2021); elements behind the pairs stay as they are.
    pub(crate) fn apply(&self, kind: RopeKind, x: &mut [f32], head_len: usize, heads: usize) {
        let pairs = self.pairs;
        let tables = self
            .cos
            .chunks_exact(pairs.max(1))
            .zip(self.sin.chunks_exact(pairs.max(1)));
        for (x, (cos, sin)) in x
            .chunks_exact_mut(heads.saturating_mul(head_len).max(1))
            .zip(tables)
        {
            for head in x.chunks_exact_mut(head_len) {
                match kind {
                    RopeKind::Adjacent => {
                        for ((pair, cos), sin) in head.as_chunks_mut::<2>().0.iter_mut().zip(cos).zip(sin) {
                            let [a, b] = *pair;
                            *pair = [a * cos - b * sin, a * sin + b * cos];
                        }
                    }
                    RopeKind::Halves => {
                        let (low, high) = head.split_at_mut(pairs);
                        for (((a, b), cos), sin) in low.iter_mut().zip(high).zip(cos).zip(sin) {
                            (*a, *b) = (*a * cos - *b * sin, *a * sin + *b * cos);
                        }
                    }
                }
            }
        }
    }
}
