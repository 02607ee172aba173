//! Integer products with what every browser has: i16 pairs to i32.

#![expect(unsafe_code, reason = "a vector load; its caller has checked the length")]

use std::arch::wasm32::*;

pub(crate) const NAME: &str = "simd128";
pub(crate) const SIGNED_OFFSET: i32 = 0;
/// Two sums for each token: more than four tokens do not fit into the 16 registers of x86.
pub(crate) const TILE: usize = 4;
pub(crate) const DOT_BYTES: bool = false;

/// Two half-sums of rows 0 and 1, and of rows 2 and 3: the instruction adds pairs of i16, a row has four.
pub(crate) type Sums = [v128; 2];
/// There is no product of bytes, so activations are kept as i16.
pub(crate) type Element = i16;

#[inline(always)]
pub(super) unsafe fn quad(from: *const Element) -> v128 {
    // SAFETY: the caller's pointer is valid for four elements.
    unsafe { v128_load64_splat(from.cast()) }
}

#[inline(always)]
pub(super) fn no_sums() -> Sums {
    [i32x4_splat(0); 2]
}

#[inline(always)]
pub(super) fn dot_unsigned(sums: Sums, weights: v128, quad: v128) -> Sums {
    [
        i32x4_add(sums[0], i32x4_dot_i16x8(u16x8_extend_low_u8x16(weights), quad)),
        i32x4_add(sums[1], i32x4_dot_i16x8(u16x8_extend_high_u8x16(weights), quad)),
    ]
}

#[inline(always)]
pub(super) fn dot_signed(sums: Sums, weights: v128, quad: v128) -> Sums {
    [
        i32x4_add(sums[0], i32x4_dot_i16x8(i16x8_extend_low_i8x16(weights), quad)),
        i32x4_add(sums[1], i32x4_dot_i16x8(i16x8_extend_high_i8x16(weights), quad)),
    ]
}

#[inline(always)]
pub(super) fn split(quad: v128) -> [v128; 2] {
    [quad, quad]
}

#[inline(always)]
pub(super) fn dot_bytes(sums: v128, _weights: v128, _split: [v128; 2]) -> v128 {
    sums
}

#[inline(always)]
pub(super) fn widen(sums: Sums) -> Sums {
    sums
}

#[inline(always)]
pub(super) fn total(sums: Sums) -> v128 {
    let even = i32x4_shuffle::<0, 2, 4, 6>(sums[0], sums[1]);
    let odd = i32x4_shuffle::<1, 3, 5, 7>(sums[0], sums[1]);
    i32x4_add(even, odd)
}

#[inline(always)]
pub(super) fn total_signed(sums: Sums) -> v128 {
    total(sums)
}
