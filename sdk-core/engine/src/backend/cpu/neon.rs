//! NEON, which every AArch64 processor has, and its byte dot products. See docs/decisions/0007-neon.md.

#![expect(
    unsafe_code,
    reason = "vector intrinsics; every caller has checked the lengths"
)]

use std::arch::aarch64::*;
use std::arch::asm;
use std::marker::PhantomData;

use super::simd::Simd;

/// How products of bytes are summed: all that differs between the instruction sets of AArch64.
pub(crate) trait Dot: Copy + 'static {
    const TILE: usize;
    type Sums: Copy;

    unsafe fn no_sums() -> Self::Sums;
    unsafe fn unsigned(sums: Self::Sums, weights: int8x16_t, quad: int8x16_t) -> Self::Sums;
    unsafe fn signed(sums: Self::Sums, weights: int8x16_t, quad: int8x16_t) -> Self::Sums;
    unsafe fn widen(sums: Self::Sums) -> Self::Sums;
    unsafe fn total(sums: Self::Sums) -> int32x4_t;
}

/// 128-bit vectors with one way of multiplying bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Neon<D>(PhantomData<D>);

/// Products of 16 bits: Armv8.0, such as Cortex-A53 and A72.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Halves;

/// `sdot`, four products of bytes in each lane: an extension of Armv8.2, required from Armv8.4.
///
/// The matrix instructions of `i8mm` are not used (the decision says why), and its `usdot` would bring nothing,
/// because weights without sign are below 64, and `sdot` reads those as they are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DotProd;

/// Products, four lanes for each row, and the i32 that they were added to when they got large.
#[derive(Debug, Clone, Copy)]
pub(crate) struct HalfSums {
    /// Of rows 0 and 1: each has four products, one for each byte.
    low: int16x8_t,
    /// Of rows 2 and 3.
    high: int16x8_t,
    wide: int32x4_t,
}

/// Pairs of neighbours, and pairs of those: one sum for each row.
#[inline(always)]
unsafe fn add_rows(wide: int32x4_t, low: int16x8_t, high: int16x8_t) -> int32x4_t {
    // SAFETY: NEON is part of AArch64.
    unsafe { vpadalq_s16(wide, vpaddq_s16(low, high)) }
}

// SAFETY of the whole block: NEON is part of AArch64.
impl Dot for Halves {
    /// Two sums for each token, three where they are widened.
    const TILE: usize = 4;
    type Sums = HalfSums;

    #[inline(always)]
    unsafe fn no_sums() -> HalfSums {
        unsafe {
            HalfSums {
                low: vdupq_n_s16(0),
                high: vdupq_n_s16(0),
                wide: vdupq_n_s32(0),
            }
        }
    }
    #[inline(always)]
    unsafe fn unsigned(sums: HalfSums, weights: int8x16_t, quad: int8x16_t) -> HalfSums {
        unsafe {
            // `widens_before` counts on pairs of products in a lane; here a lane has one until `add_rows` pairs them.
            HalfSums {
                low: vmlal_s8(sums.low, vget_low_s8(weights), vget_low_s8(quad)),
                high: vmlal_high_s8(sums.high, weights, quad),
                ..sums
            }
        }
    }
    #[inline(always)]
    unsafe fn signed(sums: HalfSums, weights: int8x16_t, quad: int8x16_t) -> HalfSums {
        unsafe {
            // |w| <= 128 and |a| <= 127: 2 * 128 * 127 fits i16, but no more.
            let low = vmull_s8(vget_low_s8(weights), vget_low_s8(quad));
            let wide = add_rows(sums.wide, low, vmull_high_s8(weights, quad));
            HalfSums { wide, ..sums }
        }
    }
    #[inline(always)]
    unsafe fn widen(sums: HalfSums) -> HalfSums {
        unsafe {
            HalfSums {
                wide: Self::total(sums),
                ..Self::no_sums()
            }
        }
    }
    #[inline(always)]
    unsafe fn total(sums: HalfSums) -> int32x4_t {
        unsafe { add_rows(sums.wide, sums.low, sums.high) }
    }
}

/// `vdotq_s32`, which is not stable yet (rust-lang/rust#117224).
#[inline]
#[target_feature(enable = "neon,dotprod")]
fn sdot(mut sums: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: the instruction reads and writes these registers and nothing else; the processor has it.
    unsafe {
        asm!(
            "sdot {sums:v}.4s, {a:v}.16b, {b:v}.16b",
            sums = inout(vreg) sums,
            a = in(vreg) a,
            b = in(vreg) b,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}

// SAFETY of the whole block: the dispatcher checked dotprod.
impl Dot for DotProd {
    /// One sum for each token and half: 16 of 32 registers.
    const TILE: usize = 8;
    type Sums = int32x4_t;

    #[inline(always)]
    unsafe fn no_sums() -> int32x4_t {
        unsafe { vdupq_n_s32(0) }
    }
    #[inline(always)]
    unsafe fn unsigned(sums: int32x4_t, weights: int8x16_t, quad: int8x16_t) -> int32x4_t {
        unsafe { sdot(sums, weights, quad) }
    }
    #[inline(always)]
    unsafe fn signed(sums: int32x4_t, weights: int8x16_t, quad: int8x16_t) -> int32x4_t {
        unsafe { sdot(sums, weights, quad) }
    }
    #[inline(always)]
    unsafe fn widen(sums: int32x4_t) -> int32x4_t {
        sums
    }
    #[inline(always)]
    unsafe fn total(sums: int32x4_t) -> int32x4_t {
        sums
    }
}

// SAFETY of the whole block: NEON is part of AArch64, the dispatcher checked what `D` needs; pointers are valid for a
// whole vector.
impl<D: Dot> Simd for Neon<D> {
    const LANES: usize = 4;
    const REGISTERS: usize = 32;
    const SIGNED_OFFSET: i32 = 0;
    const TILE: usize = D::TILE;
    type Bytes = uint8x16_t;
    type Sums = D::Sums;
    type Ints = int32x4_t;
    type Floats = float32x4_t;
    type Element = i8;
    type Quad = int8x16_t;

    #[inline(always)]
    unsafe fn load(from: *const u8) -> uint8x16_t {
        unsafe { vld1q_u8(from) }
    }
    #[inline(always)]
    unsafe fn mask(a: uint8x16_t, bits: u8) -> uint8x16_t {
        unsafe { vandq_u8(a, vdupq_n_u8(bits)) }
    }
    #[inline(always)]
    unsafe fn or(a: uint8x16_t, b: uint8x16_t) -> uint8x16_t {
        unsafe { vorrq_u8(a, b) }
    }
    #[inline(always)]
    unsafe fn shift_right(a: uint8x16_t, by: u32) -> uint8x16_t {
        // By less than nothing is to the right. The count is a constant after inlining, and then part of the instruction.
        unsafe { vshlq_u8(a, vdupq_n_s8((by as i8).wrapping_neg())) }
    }
    #[inline(always)]
    unsafe fn shift_left(a: uint8x16_t, by: u32) -> uint8x16_t {
        unsafe { vshlq_u8(a, vdupq_n_s8(by as i8)) }
    }
    #[inline(always)]
    fn element(value: i32) -> i8 {
        value as i8
    }
    #[inline(always)]
    unsafe fn quad(from: *const i8) -> int8x16_t {
        unsafe { vreinterpretq_s8_s32(vdupq_n_s32(from.cast::<i32>().read_unaligned())) }
    }
    #[inline(always)]
    unsafe fn no_sums() -> D::Sums {
        unsafe { D::no_sums() }
    }
    #[inline(always)]
    unsafe fn dot_unsigned(sums: D::Sums, weights: uint8x16_t, quad: int8x16_t) -> D::Sums {
        // Bytes below 64 are the same with a sign.
        unsafe { D::unsigned(sums, vreinterpretq_s8_u8(weights), quad) }
    }
    #[inline(always)]
    unsafe fn dot_signed(sums: D::Sums, weights: uint8x16_t, quad: int8x16_t) -> D::Sums {
        unsafe { D::signed(sums, vreinterpretq_s8_u8(weights), quad) }
    }
    #[inline(always)]
    unsafe fn widen(sums: D::Sums) -> D::Sums {
        unsafe { D::widen(sums) }
    }
    #[inline(always)]
    unsafe fn total(sums: D::Sums) -> int32x4_t {
        unsafe { D::total(sums) }
    }
    #[inline(always)]
    unsafe fn ints(value: i32) -> int32x4_t {
        unsafe { vdupq_n_s32(value) }
    }
    #[inline(always)]
    unsafe fn ints_from_u8(from: *const u8) -> int32x4_t {
        unsafe {
            let bytes = vcreate_u8(from.cast::<u32>().read_unaligned().into());
            vreinterpretq_s32_u32(vmovl_u16(vget_low_u16(vmovl_u8(bytes))))
        }
    }
    #[inline(always)]
    unsafe fn ints_from_i8(from: *const u8) -> int32x4_t {
        unsafe {
            let bytes = vcreate_s8(from.cast::<u32>().read_unaligned().into());
            vmovl_s16(vget_low_s16(vmovl_s8(bytes)))
        }
    }
    #[inline(always)]
    unsafe fn ints_mask(a: int32x4_t, bits: i32) -> int32x4_t {
        unsafe { vandq_s32(a, vdupq_n_s32(bits)) }
    }
    #[inline(always)]
    unsafe fn ints_shift_right_4(a: int32x4_t) -> int32x4_t {
        unsafe { vshrq_n_s32::<4>(a) }
    }
    #[inline(always)]
    unsafe fn ints_add(a: int32x4_t, b: int32x4_t) -> int32x4_t {
        unsafe { vaddq_s32(a, b) }
    }
    #[inline(always)]
    unsafe fn ints_sub(a: int32x4_t, b: int32x4_t) -> int32x4_t {
        unsafe { vsubq_s32(a, b) }
    }
    #[inline(always)]
    unsafe fn ints_mul(a: int32x4_t, b: int32x4_t) -> int32x4_t {
        unsafe { vmulq_s32(a, b) }
    }
    #[inline(always)]
    unsafe fn to_floats(a: int32x4_t) -> float32x4_t {
        unsafe { vcvtq_f32_s32(a) }
    }
    #[inline(always)]
    unsafe fn floats(value: f32) -> float32x4_t {
        unsafe { vdupq_n_f32(value) }
    }
    #[inline(always)]
    unsafe fn load_f32(from: *const u8) -> float32x4_t {
        unsafe { vld1q_f32(from.cast()) }
    }
    #[inline(always)]
    unsafe fn load_f16(from: *const u8) -> float32x4_t {
        unsafe { vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(from.cast()))) }
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const u8) -> float32x4_t {
        unsafe { vreinterpretq_f32_u32(vshll_n_u16::<16>(vld1_u16(from.cast()))) }
    }
    #[inline(always)]
    unsafe fn store(a: float32x4_t, to: *mut f32) {
        unsafe { vst1q_f32(to, a) }
    }
    #[inline(always)]
    unsafe fn mul(a: float32x4_t, b: float32x4_t) -> float32x4_t {
        unsafe { vmulq_f32(a, b) }
    }
    #[inline(always)]
    unsafe fn mul_add(a: float32x4_t, b: float32x4_t, c: float32x4_t) -> float32x4_t {
        unsafe { vfmaq_f32(c, a, b) }
    }
}
