//! Integer products with relaxed SIMD: pairs of bytes to i16, twice as many in an instruction (`pmaddubsw` on x86), or
//! four bytes to an i32 at once where the processor can (`vpdpbusd` with AVX-VNNI, `sdot` on ARM).
//!
//! What is relaxed about it (the sign of the second operand's top bit, and what happens on overflow) is either never met
//! (weights are below 128, and sums are made wide before they could overflow), or was found out by [`probe`]. So the
//! results are those of `wasm_dot`.

#![expect(unsafe_code, reason = "a vector load; its caller has checked the length")]

use std::arch::wasm32::*;
use std::hint::black_box;
use std::marker::PhantomData;

use super::isa::Isa;
use super::wasm::Dot;

/// What one instruction multiplies, on the machine at hand.
pub(crate) trait Reach: Copy + 'static {
    const NAME: &str;
    /// Quads of bytes without sign (the weights) with signed ones.
    const QUADS_OF_UNSIGNED: bool = false;
    /// Quads of bytes, both signed.
    const QUADS_OF_SIGNED: bool = false;
}

/// Pairs of bytes: exact on every machine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pairs;
impl Reach for Pairs {
    const NAME: &str = "relaxed-simd";
}

/// x86 with AVX-VNNI. Pairs are as good for nibbles, whose products are small: they are summed with fewer cycles of
/// waiting (docs/decisions/0006). Whole bytes take two products of pairs, and one of quads.
#[derive(Debug, Clone, Copy)]
pub(crate) struct UnsignedQuads;
impl Reach for UnsignedQuads {
    const NAME: &str = "relaxed-simd, unsigned quads";
    const QUADS_OF_UNSIGNED: bool = true;
}

/// ARM: a product of pairs is three instructions there, one of quads is one (or four before Armv8.2).
#[derive(Debug, Clone, Copy)]
pub(crate) struct SignedQuads;
impl Reach for SignedQuads {
    const NAME: &str = "relaxed-simd, signed quads";
    const QUADS_OF_SIGNED: bool = true;
}

/// What the build's own [`Isa`] multiplies with.
pub(crate) type Plain = Relaxed<Pairs>;

/// Products of bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Relaxed<R>(PhantomData<R>);

/// Which product of quads this machine computes exactly, if any: four products of 127 and a byte of ones.
///
/// Where it is emulated, pairs are summed in 16 bits first, with or without saturation (V8 11.3 does one before it has
/// optimised a function, and the other afterwards): then the result is neither of the two.
pub(crate) fn probe() -> Option<Isa> {
    let (most, ones) = (black_box(i8x16_splat(127)), black_box(i8x16_splat(-1)));
    let product = i32x4_relaxed_dot_i8x16_i7x16_add(most, ones, i32x4_splat(0));
    match i32x4_extract_lane::<0>(product) {
        129_540 => Some(Isa::UnsignedQuads), // 4 * 127 * 255
        -508 => Some(Isa::SignedQuads),      // 4 * 127 * -1
        _ => None,
    }
}

/// Sums of pairs, two i16 for each row, and the i32 that they were added to when they got large.
#[derive(Clone, Copy)]
pub(crate) struct Sums {
    pairs: v128,
    /// Of the upper halves of signed weights.
    upper: v128,
    wide: v128,
}

impl<R: Reach> Dot for Relaxed<R> {
    const NAME: &str = R::NAME;
    /// Signed weights are made unsigned by adding this (and for pairs split into two halves).
    const SIGNED_OFFSET: i32 = if R::QUADS_OF_SIGNED { 0 } else { 128 };
    /// One sum for each token (measured in V8 on x86: a quarter faster than four).
    const TILE: usize = 8;
    const DOT_BYTES: bool = !R::QUADS_OF_SIGNED && !R::QUADS_OF_UNSIGNED;
    type Sums = Sums;
    type Element = i8;

    #[inline(always)]
    fn element(value: i32) -> i8 {
        value as i8
    }

    #[inline(always)]
    unsafe fn quad(from: *const i8) -> v128 {
        // SAFETY: the caller's pointer is valid for four elements.
        unsafe { v128_load32_splat(from.cast()) }
    }

    #[inline(always)]
    fn no_sums() -> Sums {
        let zero = i32x4_splat(0);
        Sums {
            pairs: zero,
            upper: zero,
            wide: zero,
        }
    }

    #[inline(always)]
    fn unsigned(sums: Sums, weights: v128, quad: v128) -> Sums {
        if R::QUADS_OF_SIGNED {
            return Sums {
                wide: i32x4_relaxed_dot_i8x16_i7x16_add(quad, weights, sums.wide),
                ..sums
            };
        }
        Sums {
            pairs: i16x8_add(sums.pairs, i16x8_relaxed_dot_i8x16_i7x16(quad, weights)),
            ..sums
        }
    }

    /// For pairs, `weights + 128` is `16 * upper + lower`. Eight products of 15 and 127 in each of two columns fit into
    /// 16 bits.
    #[inline(always)]
    fn signed(sums: Sums, weights: v128, quad: v128) -> Sums {
        if R::QUADS_OF_SIGNED {
            return Self::unsigned(sums, weights, quad);
        }
        if R::QUADS_OF_UNSIGNED {
            let weights = v128_xor(weights, u8x16_splat(128));
            return Sums {
                wide: i32x4_relaxed_dot_i8x16_i7x16_add(quad, weights, sums.wide),
                ..sums
            };
        }
        let lower = v128_and(weights, u8x16_splat(15));
        let upper = v128_xor(v128_and(u16x8_shr(weights, 4), u8x16_splat(15)), u8x16_splat(8));
        Sums {
            pairs: i16x8_add(sums.pairs, i16x8_relaxed_dot_i8x16_i7x16(quad, lower)),
            upper: i16x8_add(sums.upper, i16x8_relaxed_dot_i8x16_i7x16(quad, upper)),
            ..sums
        }
    }

    /// One token's activations are split instead of its weights, into what is above zero and what is below: once for all
    /// rows. A sum of two products, -128 times 127 at most, fits into 16 bits, and so does the difference, where one of
    /// each two is zero.
    #[inline(always)]
    fn split(quad: v128) -> [v128; 2] {
        let zero = i8x16_splat(0);
        [i8x16_max(quad, zero), i8x16_max(i8x16_sub(zero, quad), zero)]
    }

    #[inline(always)]
    fn dot_bytes(sums: v128, weights: v128, [above, below]: [v128; 2]) -> v128 {
        let pairs = i16x8_sub(
            i16x8_relaxed_dot_i8x16_i7x16(weights, above),
            i16x8_relaxed_dot_i8x16_i7x16(weights, below),
        );
        i32x4_add(sums, i32x4_extadd_pairwise_i16x8(pairs))
    }

    #[inline(always)]
    fn widen(sums: Sums) -> Sums {
        Sums {
            pairs: i32x4_splat(0),
            wide: i32x4_add(sums.wide, i32x4_extadd_pairwise_i16x8(sums.pairs)),
            ..sums
        }
    }

    #[inline(always)]
    fn total(sums: Sums) -> v128 {
        i32x4_add(sums.wide, i32x4_extadd_pairwise_i16x8(sums.pairs))
    }

    #[inline(always)]
    fn total_signed(sums: Sums) -> v128 {
        i32x4_add(
            Self::total(sums),
            i32x4_shl(i32x4_extadd_pairwise_i16x8(sums.upper), 4),
        )
    }
}
