//! WebAssembly's 128-bit vectors, which every browser has had since 2023. Built in by `-Ctarget-feature=+simd128`.

#![expect(
    unsafe_code,
    reason = "vector intrinsics; every caller has checked the lengths"
)]

use std::arch::wasm32::*;

use super::simd::Simd;

/// Fixed 128-bit vectors.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Simd128;

// SAFETY of the whole block: the target feature is on for the whole build; pointers are valid for a whole vector.
impl Simd for Simd128 {
    const LANES: usize = 4;
    const SIGNED_OFFSET: i32 = 0;
    const TILE: usize = 4;
    type Bytes = v128;
    /// Two half-sums of rows 0 and 1, and of rows 2 and 3: the dot instruction adds pairs of i16, a row has four.
    type Sums = [v128; 2];
    type Ints = v128;
    type Floats = v128;
    /// There is no product of bytes, so activations are kept as i16.
    type Element = i16;
    type Quad = v128;

    #[inline(always)]
    unsafe fn load(from: *const u8) -> v128 {
        unsafe { v128_load(from.cast()) }
    }
    #[inline(always)]
    unsafe fn mask(a: v128, bits: u8) -> v128 {
        v128_and(a, u8x16_splat(bits))
    }
    #[inline(always)]
    unsafe fn or(a: v128, b: v128) -> v128 {
        v128_or(a, b)
    }
    #[inline(always)]
    unsafe fn shift_right(a: v128, by: u32) -> v128 {
        u16x8_shr(a, by)
    }
    #[inline(always)]
    unsafe fn shift_left(a: v128, by: u32) -> v128 {
        u16x8_shl(a, by)
    }
    #[inline(always)]
    fn element(value: i32) -> i16 {
        value as i16
    }
    #[inline(always)]
    unsafe fn quad(from: *const i16) -> v128 {
        unsafe { v128_load64_splat(from.cast()) }
    }
    #[inline(always)]
    unsafe fn no_sums() -> [v128; 2] {
        [i32x4_splat(0), i32x4_splat(0)]
    }
    #[inline(always)]
    unsafe fn dot_unsigned(sums: [v128; 2], weights: v128, quad: v128) -> [v128; 2] {
        [
            i32x4_add(sums[0], i32x4_dot_i16x8(u16x8_extend_low_u8x16(weights), quad)),
            i32x4_add(sums[1], i32x4_dot_i16x8(u16x8_extend_high_u8x16(weights), quad)),
        ]
    }
    #[inline(always)]
    unsafe fn dot_signed(sums: [v128; 2], weights: v128, quad: v128) -> [v128; 2] {
        [
            i32x4_add(sums[0], i32x4_dot_i16x8(i16x8_extend_low_i8x16(weights), quad)),
            i32x4_add(sums[1], i32x4_dot_i16x8(i16x8_extend_high_i8x16(weights), quad)),
        ]
    }
    #[inline(always)]
    unsafe fn total(sums: [v128; 2]) -> v128 {
        let even = i32x4_shuffle::<0, 2, 4, 6>(sums[0], sums[1]);
        let odd = i32x4_shuffle::<1, 3, 5, 7>(sums[0], sums[1]);
        i32x4_add(even, odd)
    }
    #[inline(always)]
    unsafe fn ints(value: i32) -> v128 {
        i32x4_splat(value)
    }
    #[inline(always)]
    unsafe fn ints_from_u8(from: *const u8) -> v128 {
        unsafe { u32x4_extend_low_u16x8(u16x8_extend_low_u8x16(v128_load32_zero(from.cast()))) }
    }
    #[inline(always)]
    unsafe fn ints_from_i8(from: *const u8) -> v128 {
        unsafe { i32x4_extend_low_i16x8(i16x8_extend_low_i8x16(v128_load32_zero(from.cast()))) }
    }
    #[inline(always)]
    unsafe fn ints_mask(a: v128, bits: i32) -> v128 {
        v128_and(a, i32x4_splat(bits))
    }
    #[inline(always)]
    unsafe fn ints_shift_right_4(a: v128) -> v128 {
        u32x4_shr(a, 4)
    }
    #[inline(always)]
    unsafe fn ints_add(a: v128, b: v128) -> v128 {
        i32x4_add(a, b)
    }
    #[inline(always)]
    unsafe fn ints_sub(a: v128, b: v128) -> v128 {
        i32x4_sub(a, b)
    }
    #[inline(always)]
    unsafe fn ints_mul(a: v128, b: v128) -> v128 {
        i32x4_mul(a, b)
    }
    #[inline(always)]
    unsafe fn to_floats(a: v128) -> v128 {
        f32x4_convert_i32x4(a)
    }
    #[inline(always)]
    unsafe fn floats(value: f32) -> v128 {
        f32x4_splat(value)
    }
    #[inline(always)]
    unsafe fn load_f32(from: *const u8) -> v128 {
        unsafe { v128_load(from.cast()) }
    }
    #[inline(always)]
    unsafe fn load_f16(from: *const u8) -> v128 {
        // As `half::f16_to_f32`, four at a time.
        let wide = unsafe { u32x4_load_extend_u16x4(from.cast()) };
        let magnitude = u32x4_shl(v128_and(wide, u32x4_splat(0x7fff)), 13);
        let sign = u32x4_shl(v128_and(wide, u32x4_splat(0x8000)), 16);
        v128_or(f32x4_mul(magnitude, u32x4_splat(0x7780_0000)), sign)
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const u8) -> v128 {
        u32x4_shl(unsafe { u32x4_load_extend_u16x4(from.cast()) }, 16)
    }
    #[inline(always)]
    unsafe fn store(a: v128, to: *mut f32) {
        unsafe { v128_store(to.cast(), a) }
    }
    #[inline(always)]
    unsafe fn add(a: v128, b: v128) -> v128 {
        f32x4_add(a, b)
    }
    #[inline(always)]
    unsafe fn mul(a: v128, b: v128) -> v128 {
        f32x4_mul(a, b)
    }
    #[inline(always)]
    unsafe fn mul_add(a: v128, b: v128, c: v128) -> v128 {
        f32x4_add(f32x4_mul(a, b), c)
    }
}
