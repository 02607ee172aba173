//! Integer products with relaxed SIMD: pairs of bytes to i16, twice as many in an instruction (`pmaddubsw` on x86).
//!
//! What is relaxed about it (the sign of the second operand's top bit, and what happens on overflow) is never met:
//! weights are below 128, and sums are made wide before they could overflow. So the results are those of `wasm_dot`.

#![expect(unsafe_code, reason = "a vector load; its caller has checked the length")]

use std::arch::wasm32::*;

pub(crate) const NAME: &str = "relaxed-simd";
/// Signed weights are split into two halves without sign, by adding this.
pub(crate) const SIGNED_OFFSET: i32 = 128;
/// One sum for each token (measured in V8 on x86: a quarter faster than four).
pub(crate) const TILE: usize = 8;
pub(crate) const DOT_BYTES: bool = true;

/// Sums of pairs, two i16 for each row, and the i32 that they were added to when they got large.
#[derive(Clone, Copy)]
pub(crate) struct Sums {
    pairs: v128,
    /// Of the upper halves of signed weights.
    upper: v128,
    wide: v128,
}
pub(crate) type Element = i8;

#[inline(always)]
pub(super) unsafe fn quad(from: *const Element) -> v128 {
    // SAFETY: the caller's pointer is valid for four elements.
    unsafe { v128_load32_splat(from.cast()) }
}

#[inline(always)]
pub(super) fn no_sums() -> Sums {
    let zero = i32x4_splat(0);
    Sums {
        pairs: zero,
        upper: zero,
        wide: zero,
    }
}

#[inline(always)]
pub(super) fn dot_unsigned(sums: Sums, weights: v128, quad: v128) -> Sums {
    Sums {
        pairs: i16x8_add(sums.pairs, i16x8_relaxed_dot_i8x16_i7x16(quad, weights)),
        ..sums
    }
}

/// `weights + 128` is `16 * upper + lower`. Eight products of 15 and 127 in each of two columns fit into 16 bits.
#[inline(always)]
pub(super) fn dot_signed(sums: Sums, weights: v128, quad: v128) -> Sums {
    let lower = v128_and(weights, u8x16_splat(15));
    let upper = v128_xor(v128_and(u16x8_shr(weights, 4), u8x16_splat(15)), u8x16_splat(8));
    Sums {
        pairs: i16x8_add(sums.pairs, i16x8_relaxed_dot_i8x16_i7x16(quad, lower)),
        upper: i16x8_add(sums.upper, i16x8_relaxed_dot_i8x16_i7x16(quad, upper)),
        ..sums
    }
}

/// One token's activations are split instead of its weights, into what is above zero and what is below: once for all rows.
/// A sum of two products, -128 times 127 at most, fits into 16 bits, and so does the difference, where one of each two is zero.
#[inline(always)]
pub(super) fn split(quad: v128) -> [v128; 2] {
    let zero = i8x16_splat(0);
    [i8x16_max(quad, zero), i8x16_max(i8x16_sub(zero, quad), zero)]
}

#[inline(always)]
pub(super) fn dot_bytes(sums: v128, weights: v128, [above, below]: [v128; 2]) -> v128 {
    let pairs = i16x8_sub(
        i16x8_relaxed_dot_i8x16_i7x16(weights, above),
        i16x8_relaxed_dot_i8x16_i7x16(weights, below),
    );
    i32x4_add(sums, i32x4_extadd_pairwise_i16x8(pairs))
}

#[inline(always)]
pub(super) fn widen(sums: Sums) -> Sums {
    Sums {
        pairs: i32x4_splat(0),
        wide: i32x4_add(sums.wide, i32x4_extadd_pairwise_i16x8(sums.pairs)),
        ..sums
    }
}

#[inline(always)]
pub(super) fn total(sums: Sums) -> v128 {
    i32x4_add(sums.wide, i32x4_extadd_pairwise_i16x8(sums.pairs))
}

#[inline(always)]
pub(super) fn total_signed(sums: Sums) -> v128 {
    i32x4_add(total(sums), i32x4_shl(i32x4_extadd_pairwise_i16x8(sums.upper), 4))
}
