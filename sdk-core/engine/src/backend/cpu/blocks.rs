//! Takes ggml's blocks apart: 32 numbers and their scales at a time.
//!
//! The bit layouts are those of `ggml-common.h` and the `dequantize_row_*` functions of `ggml-quants.c`.

use super::layout::GROUP;
use crate::gguf::DType;

/// The unsigned (for `Q8_0` signed) numbers of one group, in order of columns.
pub(super) type Quants = [u8; GROUP];

/// A group as it is in the file.
#[derive(Debug, Clone, Copy)]
pub(super) struct GroupScales {
    /// Scale of the block or super-block, as f16 bits.
    pub(super) scale: u16,
    /// Minimum of the block or super-block, as f16 bits; 0 where there is none.
    pub(super) min: u16,
    /// Scales of the group's halves within a super-block, as they are stored in memory.
    pub(super) sub: [u8; 2],
}

fn half(block: &[u8], at: usize) -> u16 {
    match block.get(at..) {
        Some([low, high, ..]) => u16::from_le_bytes([*low, *high]),
        _ => 0,
    }
}

fn byte(block: &[u8], at: usize) -> u8 {
    block.get(at).copied().unwrap_or(0)
}

fn part(block: &[u8], at: usize, len: usize) -> &[u8] {
    block.get(at..at.saturating_add(len)).unwrap_or_default()
}

/// Fills the numbers of a group with `f(column, byte)`, over the bytes from `at` on.
fn fill(out: &mut [u8], bytes: &[u8], f: impl Fn(u8) -> u8) {
    for (to, from) in out.iter_mut().zip(bytes) {
        *to = f(*from);
    }
}

/// Sets bit `to` of every number whose bit `group` is set in the bytes of `plane`.
fn add_bit(out: &mut Quants, plane: &[u8], group: usize, to: u32) {
    for (number, bits) in out.iter_mut().zip(plane) {
        *number |= ((bits >> group) & 1) << to;
    }
}

/// Numbers and scales of group `group` (0, or 0 to 7 in a super-block) of a block.
pub(super) fn group(dtype: DType, block: &[u8], group: usize) -> (Quants, GroupScales) {
    let mut q = [0; GROUP];
    let mut scales = GroupScales {
        scale: half(block, 0),
        min: 0,
        sub: [0; 2],
    };
    match dtype {
        DType::Q4_0 => nibbles(&mut q, part(block, 2, 16)),
        DType::Q4_1 => {
            scales.min = half(block, 2);
            nibbles(&mut q, part(block, 4, 16));
        }
        DType::Q5_0 => fives(&mut q, part(block, 2, 4), part(block, 6, 16)),
        DType::Q5_1 => {
            scales.min = half(block, 2);
            fives(&mut q, part(block, 4, 4), part(block, 8, 16));
        }
        DType::Q8_0 => fill(&mut q, part(block, 2, 32), |byte| byte),
        DType::Q2K => {
            let shift = 2 * (group % 4);
            fill(&mut q, part(block, 16 + group / 4 * 32, 32), |byte| {
                (byte >> shift) & 3
            });
            scales.sub = [byte(block, 2 * group), byte(block, 2 * group + 1)];
            scales.scale = half(block, 80);
            scales.min = half(block, 82);
        }
        DType::Q3K => {
            let shift = 2 * (group % 4);
            fill(&mut q, part(block, 32 + group / 4 * 32, 32), |byte| {
                (byte >> shift) & 3
            });
            add_bit(&mut q, part(block, 0, 32), group, 2);
            scales.sub = [0, 1].map(|side| q3_scale(part(block, 96, 12), 2 * group + side));
            scales.scale = half(block, 108);
        }
        DType::Q4K | DType::Q5K => {
            scales.min = half(block, 2);
            scales.sub = q4_scale_and_min(part(block, 4, 12), group);
            let at = if dtype == DType::Q4K { 16 } else { 48 };
            let shift = 4 * (group % 2);
            fill(&mut q, part(block, at + group / 2 * 32, 32), |byte| {
                (byte >> shift) & 15
            });
            if dtype == DType::Q5K {
                add_bit(&mut q, part(block, 16, 32), group, 4);
            }
        }
        DType::Q6K => {
            let (side, within) = (group / 4, group % 4);
            let (low_shift, high_shift) = (4 * (within / 2), 2 * within);
            fill(&mut q, part(block, side * 64 + within % 2 * 32, 32), |byte| {
                (byte >> low_shift) & 15
            });
            for (number, bits) in q.iter_mut().zip(part(block, 128 + side * 32, 32)) {
                *number |= ((bits >> high_shift) & 3) << 4;
            }
            scales.sub = [byte(block, 192 + 2 * group), byte(block, 193 + 2 * group)];
            scales.scale = half(block, 208);
        }
        DType::F32 | DType::F16 | DType::Bf16 => {}
    }
    (q, scales)
}

fn nibbles(q: &mut Quants, bytes: &[u8]) {
    let (low, high) = q.split_at_mut(16);
    fill(low, bytes, |byte| byte & 15);
    fill(high, bytes, |byte| byte >> 4);
}

fn fives(q: &mut Quants, high: &[u8], bytes: &[u8]) {
    nibbles(q, bytes);
    for (column, number) in q.iter_mut().enumerate() {
        *number |= ((byte(high, column / 8) >> (column % 8)) & 1) << 4;
    }
}

/// The 6-bit scale `index` of 16, less its bias of 32, as the bits of an i8.
fn q3_scale(packed: &[u8], index: usize) -> u8 {
    let low = (byte(packed, index % 8) >> (4 * (index / 8))) & 15;
    let high = (byte(packed, 8 + index % 4) >> (2 * (index / 4))) & 3;
    (low | (high << 4)).wrapping_sub(32)
}

/// `get_scale_min_k4` of ggml: 6-bit scale and minimum `index` of 8.
fn q4_scale_and_min(packed: &[u8], index: usize) -> [u8; 2] {
    if index < 4 {
        return [byte(packed, index) & 63, byte(packed, index + 4) & 63];
    }
    let both = byte(packed, index + 4);
    [
        (both & 15) | ((byte(packed, index - 4) >> 6) << 4),
        (both >> 4) | ((byte(packed, index) >> 6) << 4),
    ]
}
