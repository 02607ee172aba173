//! WebAssembly's 128-bit vectors, which every browser has had since 2023. Built in by `-Ctarget-feature=+simd128`; with
//! `+relaxed-simd` (Chromium since 2023, Firefox since 2025) integer products take half the instructions.

#![expect(
    unsafe_code,
    reason = "vector intrinsics; every caller has checked the lengths"
)]

use std::arch::wasm32::*;

use super::simd::Simd;
use super::wasm_dot as dot;

/// Fixed 128-bit vectors.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Simd128;

// SAFETY of the whole block: the target feature is on for the whole build; pointers are valid for a whole vector.
impl Simd for Simd128 {
    const LANES: usize = 4;
    const SIGNED_OFFSET: i32 = dot::SIGNED_OFFSET;
    const TILE: usize = dot::TILE;
    const DOT_BYTES: bool = dot::DOT_BYTES;
    type Bytes = v128;
    type Sums = dot::Sums;
    type Ints = v128;
    type Floats = v128;
    type Element = dot::Element;
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
    fn element(value: i32) -> dot::Element {
        value as dot::Element
    }
    #[inline(always)]
    unsafe fn quad(from: *const dot::Element) -> v128 {
        unsafe { dot::quad(from) }
    }
    #[inline(always)]
    unsafe fn no_sums() -> dot::Sums {
        dot::no_sums()
    }
    #[inline(always)]
    unsafe fn dot_unsigned(sums: dot::Sums, weights: v128, quad: v128) -> dot::Sums {
        dot::dot_unsigned(sums, weights, quad)
    }
    #[inline(always)]
    unsafe fn dot_signed(sums: dot::Sums, weights: v128, quad: v128) -> dot::Sums {
        dot::dot_signed(sums, weights, quad)
    }
    #[inline(always)]
    unsafe fn split(quad: v128) -> [v128; 2] {
        dot::split(quad)
    }
    #[inline(always)]
    unsafe fn dot_bytes(sums: v128, weights: v128, split: [v128; 2]) -> v128 {
        dot::dot_bytes(sums, weights, split)
    }
    #[inline(always)]
    unsafe fn widen(sums: dot::Sums) -> dot::Sums {
        dot::widen(sums)
    }
    #[inline(always)]
    unsafe fn total(sums: dot::Sums) -> v128 {
        dot::total(sums)
    }
    #[inline(always)]
    unsafe fn total_signed(sums: dot::Sums) -> v128 {
        dot::total_signed(sums)
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
        // As `half::f16_to_f32`, four at a time; the sign comes along because its copies are masked off.
        let wide = unsafe { i32x4_load_extend_i16x4(from.cast()) };
        let moved = v128_and(i32x4_shl(wide, 13), u32x4_splat(0x8fff_ffff));
        f32x4_mul(moved, u32x4_splat(0x7780_0000))
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
    unsafe fn mul(a: v128, b: v128) -> v128 {
        f32x4_mul(a, b)
    }
    #[inline(always)]
    unsafe fn mul_add(a: v128, b: v128, c: v128) -> v128 {
        f32x4_add(f32x4_mul(a, b), c)
    }
}
