//! The vectors that weights are multiplied with, rounded as ggml rounds them for each format of weights.
//!
//! Tokens are kept in tiles, as many as a kernel computes together: within a tile, the numbers of one group of columns
//! lie next to each other for all tokens, so that a kernel needs one pointer.

#![expect(
    unsafe_code,
    clippy::indexing_slicing,
    reason = "kernel: lengths are checked on entry, and indices follow from them"
)]

use super::half::{bf16_to_f32, f16_to_f32, f32_to_bf16, f32_to_f16};
use super::isa::{Isa, for_each_isa};
use super::layout::{GROUP, SUPER_GROUPS};
use super::simd::Simd;
use crate::gguf::DType;

/// How activations are rounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rounding {
    /// 8 bits with an f16 scale per 32, and the sum: ggml's `Q8_0` and `Q8_1`.
    Blocks,
    /// 8 bits with an f32 scale per 256: ggml's `Q8_K`.
    SuperBlocks,
    /// To f16, as ggml does before multiplying with f16 weights.
    F16,
    /// To bf16, likewise.
    Bf16,
    /// Not at all.
    None,
}

impl Rounding {
    /// What ggml pairs weights of this format with (`vec_dot_type` in `ggml-cpu.c`).
    pub(crate) const fn of(dtype: DType) -> Self {
        match dtype {
            DType::Q4_0 | DType::Q4_1 | DType::Q5_0 | DType::Q5_1 | DType::Q8_0 => Self::Blocks,
            DType::Q2K | DType::Q3K | DType::Q4K | DType::Q5K | DType::Q6K => Self::SuperBlocks,
            DType::F16 => Self::F16,
            DType::Bf16 => Self::Bf16,
            DType::F32 => Self::None,
        }
    }
}

/// The size of the next tile: `largest`, 4 or 1. (Every size costs a compiled kernel per format.)
#[inline(always)]
pub(super) const fn next_tile(left: usize, largest: usize) -> usize {
    if left >= largest {
        largest
    } else if left >= 4 {
        4
    } else {
        1
    }
}

/// Rounded activations of some tokens; the buffers are reused.
#[derive(Debug, Default)]
pub(crate) struct Activations {
    pub(super) tokens: usize,
    pub(super) columns: usize,
    /// i8 or i16 elements, whichever the instruction set wants: `[tile][group][token][32]`.
    pub(super) quants: Vec<i16>,
    /// `[tile][group][token]`.
    pub(super) scales: Vec<f32>,
    /// Scale times sum of a group's quants: `[tile][group][token]`.
    pub(super) sums: Vec<f32>,
    /// Sum of each half group's quants: `[tile][group][token][2]`.
    pub(super) half_sums: Vec<i32>,
    /// For weights that are floats: `[tile][column][token]`.
    pub(super) floats: Vec<f32>,
}

fn grow<T: Copy + Default>(buffer: &mut Vec<T>, len: usize) {
    if buffer.len() < len {
        buffer.resize(len, T::default());
    }
}

impl Activations {
    /// Bytes that these buffers take for a block of tokens; for the memory plan.
    pub(crate) const fn bytes(rounding: Rounding, tokens: usize, columns: usize) -> u64 {
        match rounding {
            // Per column 2, per group of 32 columns 4 + 4 + 8.
            Rounding::Blocks | Rounding::SuperBlocks => {
                tokens as u64 * columns as u64 * 2 + tokens as u64 * columns as u64 / GROUP as u64 * 16
            }
            _ => tokens as u64 * columns as u64 * 4,
        }
    }

    /// Makes room, so that [`Self::round`] allocates nothing later.
    pub(crate) fn reserve(&mut self, rounding: Rounding, tokens: usize, columns: usize) {
        match rounding {
            Rounding::Blocks | Rounding::SuperBlocks => {
                let groups = tokens * (columns / GROUP);
                grow(&mut self.quants, tokens * columns);
                grow(&mut self.scales, groups);
                grow(&mut self.sums, groups);
                grow(&mut self.half_sums, 2 * groups);
            }
            _ => grow(&mut self.floats, tokens * columns),
        }
    }

    /// Rounds `tokens` vectors of `columns` numbers each.
    pub(crate) fn round(&mut self, isa: Isa, rounding: Rounding, x: &[f32], columns: usize) {
        assert!(columns > 0 && x.len().is_multiple_of(columns), "whole vectors");
        let tokens = x.len() / columns;
        self.tokens = tokens;
        self.columns = columns;
        self.reserve(rounding, tokens, columns);
        let multiple = match rounding {
            Rounding::Blocks => GROUP,
            Rounding::SuperBlocks => GROUP * SUPER_GROUPS,
            _ => 1,
        };
        assert!(columns.is_multiple_of(multiple), "whole blocks");
        // SAFETY: the buffers have been grown to hold `tokens` vectors of `columns`, which are whole blocks.
        unsafe { round_all(isa, rounding, x, self) }
    }
}

for_each_isa! {
    unsafe fn round_all(rounding: Rounding, x: &[f32], to: &mut Activations) = round_body
}

#[inline(always)]
unsafe fn round_body<S: Simd>(rounding: Rounding, x: &[f32], to: &mut Activations) {
    let columns = to.columns;
    let groups = columns / GROUP;
    let mut start = 0;
    while start < to.tokens {
        let tile = next_tile(to.tokens - start, S::TILE);
        for within in 0..tile {
            let x = &x[(start + within) * columns..][..columns];
            let place = Place {
                group: start * groups + within,
                tile,
            };
            match rounding {
                Rounding::Blocks => round_blocks::<S>(x, to, place),
                Rounding::SuperBlocks => round_super_blocks::<S>(x, to, place),
                Rounding::F16 | Rounding::Bf16 | Rounding::None => {
                    let out = &mut to.floats[start * columns..][..tile * columns];
                    for (column, value) in x.iter().enumerate() {
                        out[column * tile + within] = match rounding {
                            // The fast conversion has no NaN.
                            Rounding::F16 if value.is_nan() => *value,
                            Rounding::F16 => f16_to_f32(f32_to_f16(*value)),
                            Rounding::Bf16 => bf16_to_f32(f32_to_bf16(*value)),
                            _ => *value,
                        };
                    }
                }
            }
        }
        start += tile;
    }
}

/// Where the groups of a token are: `group`, then every `tile` further.
#[derive(Clone, Copy)]
struct Place {
    group: usize,
    tile: usize,
}

/// Adding and subtracting 1.5 * 2^23 rounds to the nearest integer, ties to even, and leaves the integer in the low bits.
const ROUNDER: f32 = 12_582_912.0;

#[inline(always)]
fn nearest(value: f32) -> i32 {
    ((value + ROUNDER).to_bits() as i32).wrapping_sub(ROUNDER.to_bits() as i32)
}

/// `quantize_row_q8_0` and `quantize_row_q8_1` of ggml (their vectorised forms, which round ties to even).
#[inline(always)]
fn round_blocks<S: Simd>(x: &[f32], to: &mut Activations, place: Place) {
    for (index, x) in x.as_chunks::<GROUP>().0.iter().enumerate() {
        let group = place.group + index * place.tile;
        let largest = largest_magnitude(x);
        let scale = largest / 127.0;
        let inverse = if largest > 0.0 { 127.0 / largest } else { 0.0 };
        let sums = put_group::<S>(x, inverse, to, group);
        to.scales[group] = f16_to_f32(f32_to_f16(scale));
        to.sums[group] = f16_to_f32(f32_to_f16(scale * sums[0].wrapping_add(sums[1]) as f32));
        to.half_sums[2 * group] = sums[0];
        to.half_sums[2 * group + 1] = sums[1];
        if !largest.is_finite() {
            to.scales[group] = f32::NAN;
        }
    }
}

/// `quantize_row_q8_K_ref` of ggml.
#[inline(always)]
fn round_super_blocks<S: Simd>(x: &[f32], to: &mut Activations, place: Place) {
    const SUPER: usize = GROUP * SUPER_GROUPS;
    for (index, x) in x.as_chunks::<SUPER>().0.iter().enumerate() {
        let (groups, _) = x.as_chunks::<GROUP>();
        let mut largest = 0.0_f32;
        let mut finite = true;
        for x in groups {
            let of_group = largest_magnitude(x);
            finite &= of_group.is_finite();
            largest = largest.max(of_group);
        }
        // The sign of the scale is such that the first number of the largest magnitude becomes -127.
        let first = x
            .iter()
            .find(|value| value.abs() == largest)
            .copied()
            .unwrap_or(0.0);
        let inverse = if largest > 0.0 { -127.0 / first } else { 0.0 };
        let scale = if largest > 0.0 { 1.0 / inverse } else { 0.0 };
        for (within, x) in groups.iter().enumerate() {
            let group = place.group + (index * SUPER_GROUPS + within) * place.tile;
            let sums = put_group::<S>(x, inverse, to, group);
            to.scales[group] = if finite { scale } else { f32::NAN };
            to.sums[group] = 0.0;
            to.half_sums[2 * group] = sums[0];
            to.half_sums[2 * group + 1] = sums[1];
        }
    }
}

/// The largest magnitude; not finite if any number is not.
#[inline(always)]
fn largest_magnitude(x: &[f32; GROUP]) -> f32 {
    let mut largest = [0_u32; GROUP];
    for (to, value) in largest.iter_mut().zip(x) {
        // Magnitudes order like their bits, and NaN comes last.
        *to = value.to_bits() & 0x7fff_ffff;
    }
    let mut width = GROUP / 2;
    while width > 0 {
        for lane in 0..width {
            largest[lane] = largest[lane].max(largest[lane + width]);
        }
        width /= 2;
    }
    f32::from_bits(largest[0])
}

/// Stores the rounded numbers of a group, and returns the sums of its halves.
#[inline(always)]
fn put_group<S: Simd>(x: &[f32; GROUP], inverse: f32, to: &mut Activations, group: usize) -> [i32; 2] {
    let mut rounded = [0_i32; GROUP];
    for (to, value) in rounded.iter_mut().zip(x) {
        // A product that is not finite only meets a scale of NaN; the mask keeps sums small then too.
        *to = nearest(value * inverse).clamp(-127, 127);
    }
    let mut sums = [0_i32; 2];
    for (sum, half) in sums.iter_mut().zip(rounded.as_chunks::<16>().0) {
        for value in half {
            *sum = sum.wrapping_add(*value);
        }
    }
    let quants = &mut to.quants[..];
    assert!((group + 1) * GROUP <= quants.len(), "grown before");
    // SAFETY: an element is at most as large as an i16, and the group lies within the buffer.
    unsafe {
        let to = quants.as_mut_ptr().cast::<S::Element>().add(group * GROUP);
        for (column, value) in rounded.iter().enumerate() {
            to.add(column).write(S::element(*value));
        }
    }
    sums
}
