//! The vector operations of a machine about which nothing is known.

#![expect(
    unsafe_code,
    reason = "vector loads and stores; every caller has checked the lengths"
)]

use super::half::{bf16_to_f32, f16_to_f32};
use super::simd::Simd;

/// No instruction set in particular; arrays of four, which LLVM turns into SSE2, or whatever there is.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Portable;

fn map<T: Copy, U: Copy + Default, const N: usize>(a: [T; N], f: impl Fn(T) -> U) -> [U; N] {
    let mut out = [U::default(); N];
    for (to, from) in out.iter_mut().zip(a) {
        *to = f(from);
    }
    out
}

fn zip<T: Copy, const N: usize>(mut a: [T; N], b: [T; N], f: impl Fn(T, T) -> T) -> [T; N] {
    for (to, from) in a.iter_mut().zip(b) {
        *to = f(*to, from);
    }
    a
}

// SAFETY of the whole block: only pointer reads and writes of the lengths that the trait promises.
impl Simd for Portable {
    const LANES: usize = 4;
    const SIGNED_OFFSET: i32 = 0;
    const TILE: usize = 4;
    type Bytes = [u8; 16];
    type Sums = [i32; 4];
    type Ints = [i32; 4];
    type Floats = [f32; 4];
    type Element = i8;
    type Quad = [i8; 4];

    #[inline(always)]
    unsafe fn load(from: *const u8) -> [u8; 16] {
        // SAFETY: 16 readable bytes, as the trait asks.
        unsafe { from.cast::<[u8; 16]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn mask(a: [u8; 16], bits: u8) -> [u8; 16] {
        map(a, |byte| byte & bits)
    }
    #[inline(always)]
    unsafe fn or(a: [u8; 16], b: [u8; 16]) -> [u8; 16] {
        zip(a, b, |a, b| a | b)
    }
    #[inline(always)]
    unsafe fn shift_right(a: [u8; 16], by: u32) -> [u8; 16] {
        map(a, |byte| byte >> by)
    }
    #[inline(always)]
    unsafe fn shift_left(a: [u8; 16], by: u32) -> [u8; 16] {
        map(a, |byte| byte << by)
    }
    #[inline(always)]
    fn element(value: i32) -> i8 {
        value as i8
    }
    #[inline(always)]
    unsafe fn quad(from: *const i8) -> [i8; 4] {
        // SAFETY: 4 readable activations.
        unsafe { from.cast::<[i8; 4]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn no_sums() -> [i32; 4] {
        [0; 4]
    }
    #[inline(always)]
    unsafe fn dot_unsigned(mut sums: [i32; 4], weights: [u8; 16], quad: [i8; 4]) -> [i32; 4] {
        for (sum, row) in sums.iter_mut().zip(weights.as_chunks::<4>().0) {
            for (weight, activation) in row.iter().zip(quad) {
                *sum = sum.wrapping_add(i32::from(*weight).wrapping_mul(activation.into()));
            }
        }
        sums
    }
    #[inline(always)]
    unsafe fn dot_signed(mut sums: [i32; 4], weights: [u8; 16], quad: [i8; 4]) -> [i32; 4] {
        for (sum, row) in sums.iter_mut().zip(weights.as_chunks::<4>().0) {
            for (weight, activation) in row.iter().zip(quad) {
                let weight = i32::from(weight.cast_signed());
                *sum = sum.wrapping_add(weight.wrapping_mul(activation.into()));
            }
        }
        sums
    }
    #[inline(always)]
    unsafe fn total(sums: [i32; 4]) -> [i32; 4] {
        sums
    }
    #[inline(always)]
    unsafe fn ints(value: i32) -> [i32; 4] {
        [value; 4]
    }
    #[inline(always)]
    unsafe fn ints_from_u8(from: *const u8) -> [i32; 4] {
        // SAFETY: 4 readable bytes.
        map(unsafe { from.cast::<[u8; 4]>().read_unaligned() }, i32::from)
    }
    #[inline(always)]
    unsafe fn ints_from_i8(from: *const u8) -> [i32; 4] {
        // SAFETY: 4 readable bytes.
        map(unsafe { from.cast::<[i8; 4]>().read_unaligned() }, i32::from)
    }
    #[inline(always)]
    unsafe fn ints_mask(a: [i32; 4], bits: i32) -> [i32; 4] {
        map(a, |a| a & bits)
    }
    #[inline(always)]
    unsafe fn ints_shift_right_4(a: [i32; 4]) -> [i32; 4] {
        map(a, |a| a >> 4)
    }
    #[inline(always)]
    unsafe fn ints_add(a: [i32; 4], b: [i32; 4]) -> [i32; 4] {
        zip(a, b, i32::wrapping_add)
    }
    #[inline(always)]
    unsafe fn ints_sub(a: [i32; 4], b: [i32; 4]) -> [i32; 4] {
        zip(a, b, i32::wrapping_sub)
    }
    #[inline(always)]
    unsafe fn ints_mul(a: [i32; 4], b: [i32; 4]) -> [i32; 4] {
        zip(a, b, i32::wrapping_mul)
    }
    #[inline(always)]
    unsafe fn to_floats(a: [i32; 4]) -> [f32; 4] {
        map(a, |a| a as f32)
    }
    #[inline(always)]
    unsafe fn floats(value: f32) -> [f32; 4] {
        [value; 4]
    }
    #[inline(always)]
    unsafe fn load_f32(from: *const u8) -> [f32; 4] {
        // SAFETY: 16 readable bytes.
        unsafe { from.cast::<[f32; 4]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn load_f16(from: *const u8) -> [f32; 4] {
        // SAFETY: 8 readable bytes.
        map(unsafe { from.cast::<[u16; 4]>().read_unaligned() }, f16_to_f32)
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const u8) -> [f32; 4] {
        // SAFETY: 8 readable bytes.
        map(unsafe { from.cast::<[u16; 4]>().read_unaligned() }, bf16_to_f32)
    }
    #[inline(always)]
    unsafe fn store(a: [f32; 4], to: *mut f32) {
        // SAFETY: 4 writable floats.
        unsafe { to.cast::<[f32; 4]>().write_unaligned(a) }
    }
    #[inline(always)]
    unsafe fn mul(a: [f32; 4], b: [f32; 4]) -> [f32; 4] {
        zip(a, b, |a, b| a * b)
    }
    #[inline(always)]
    unsafe fn mul_add(a: [f32; 4], b: [f32; 4], c: [f32; 4]) -> [f32; 4] {
        // Not `f32::mul_add`: without the instruction that is a slow library call.
        zip(zip(a, b, |a, b| a * b), c, |a, b| a + b)
    }
}
