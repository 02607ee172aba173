//! WebAssembly's 128-bit vectors, which every browser has had since 2023. Built in by `-Ctarget-feature=+simd128`; with
//! `+relaxed-simd` (Chromium since 2023, Firefox since 2025) integer products take half the instructions.

#![expect(
    unsafe_code,
    reason = "vector intrinsics; every caller has checked the lengths"
)]

use std::arch::wasm32::*;
use std::marker::PhantomData;

use super::simd::Simd;

/// How products of bytes are summed: all that differs between a build with relaxed SIMD and one without. See
/// [`Simd`] for what the methods do.
pub(crate) trait Dot: Copy + 'static {
    const NAME: &str;
    const SIGNED_OFFSET: i32;
    const TILE: usize;
    const DOT_BYTES: bool = false;
    type Sums: Copy;
    type Element: Copy;

    fn element(value: i32) -> Self::Element;
    unsafe fn quad(from: *const Self::Element) -> v128;
    fn no_sums() -> Self::Sums;
    fn unsigned(sums: Self::Sums, weights: v128, quad: v128) -> Self::Sums;
    fn signed(sums: Self::Sums, weights: v128, quad: v128) -> Self::Sums;
    #[inline(always)]
    fn split(quad: v128) -> [v128; 2] {
        [quad, quad]
    }
    #[inline(always)]
    fn dot_bytes(sums: v128, _weights: v128, _split: [v128; 2]) -> v128 {
        sums
    }
    fn widen(sums: Self::Sums) -> Self::Sums;
    fn total(sums: Self::Sums) -> v128;
    fn total_signed(sums: Self::Sums) -> v128;
}

/// Fixed 128-bit vectors with one way of multiplying bytes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Simd128<D>(PhantomData<D>);

// SAFETY of the whole block: the target feature is on for the whole build; pointers are valid for a whole vector.
impl<D: Dot> Simd for Simd128<D> {
    const LANES: usize = 4;
    const SIGNED_OFFSET: i32 = D::SIGNED_OFFSET;
    const TILE: usize = D::TILE;
    const DOT_BYTES: bool = D::DOT_BYTES;
    type Bytes = v128;
    type Sums = D::Sums;
    type Ints = v128;
    type Floats = v128;
    type Element = D::Element;
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
    fn element(value: i32) -> D::Element {
        D::element(value)
    }
    #[inline(always)]
    unsafe fn quad(from: *const D::Element) -> v128 {
        unsafe { D::quad(from) }
    }
    #[inline(always)]
    unsafe fn no_sums() -> D::Sums {
        D::no_sums()
    }
    #[inline(always)]
    unsafe fn dot_unsigned(sums: D::Sums, weights: v128, quad: v128) -> D::Sums {
        D::unsigned(sums, weights, quad)
    }
    #[inline(always)]
    unsafe fn dot_signed(sums: D::Sums, weights: v128, quad: v128) -> D::Sums {
        D::signed(sums, weights, quad)
    }
    #[inline(always)]
    unsafe fn split(quad: v128) -> [v128; 2] {
        D::split(quad)
    }
    #[inline(always)]
    unsafe fn dot_bytes(sums: v128, weights: v128, split: [v128; 2]) -> v128 {
        D::dot_bytes(sums, weights, split)
    }
    #[inline(always)]
    unsafe fn widen(sums: D::Sums) -> D::Sums {
        D::widen(sums)
    }
    #[inline(always)]
    unsafe fn total(sums: D::Sums) -> v128 {
        D::total(sums)
    }
    #[inline(always)]
    unsafe fn total_signed(sums: D::Sums) -> v128 {
        D::total_signed(sums)
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
