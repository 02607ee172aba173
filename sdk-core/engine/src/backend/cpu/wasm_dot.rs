//! Integer products with what every browser has: i16 pairs to i32.

#![expect(unsafe_code, reason = "a vector load; its caller has checked the length")]

use std::arch::wasm32::*;

use super::wasm::Dot;

/// Products of words: bytes are widened first.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Words;

/// What the build's own [`Isa`](super::isa::Isa) multiplies with.
pub(crate) type Plain = Words;

impl Dot for Words {
    const NAME: &str = "simd128";
    const SIGNED_OFFSET: i32 = 0;
    /// Two sums for each token: more than four tokens do not fit into the 16 registers of x86.
    const TILE: usize = 4;
    /// Two half-sums of rows 0 and 1, and of rows 2 and 3: the instruction adds pairs of i16, a row has four.
    type Sums = [v128; 2];
    /// There is no product of bytes, so activations are kept as i16.
    type Element = i16;

    #[inline(always)]
    fn element(value: i32) -> i16 {
        value as i16
    }

    #[inline(always)]
    unsafe fn quad(from: *const i16) -> v128 {
        // SAFETY: the caller's pointer is valid for four elements.
        unsafe { v128_load64_splat(from.cast()) }
    }

    #[inline(always)]
    fn no_sums() -> [v128; 2] {
        [i32x4_splat(0); 2]
    }

    #[inline(always)]
    fn unsigned(sums: [v128; 2], weights: v128, quad: v128) -> [v128; 2] {
        [
            i32x4_add(sums[0], i32x4_dot_i16x8(u16x8_extend_low_u8x16(weights), quad)),
            i32x4_add(sums[1], i32x4_dot_i16x8(u16x8_extend_high_u8x16(weights), quad)),
        ]
    }

    #[inline(always)]
    fn signed(sums: [v128; 2], weights: v128, quad: v128) -> [v128; 2] {
        [
            i32x4_add(sums[0], i32x4_dot_i16x8(i16x8_extend_low_i8x16(weights), quad)),
            i32x4_add(sums[1], i32x4_dot_i16x8(i16x8_extend_high_i8x16(weights), quad)),
        ]
    }

    #[inline(always)]
    fn widen(sums: [v128; 2]) -> [v128; 2] {
        sums
    }

    #[inline(always)]
    fn total(sums: [v128; 2]) -> v128 {
        let even = i32x4_shuffle::<0, 2, 4, 6>(sums[0], sums[1]);
        let odd = i32x4_shuffle::<1, 3, 5, 7>(sums[0], sums[1]);
        i32x4_add(even, odd)
    }

    #[inline(always)]
    fn total_signed(sums: [v128; 2]) -> v128 {
        Self::total(sums)
    }
}
