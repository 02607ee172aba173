//! AVX2 and AVX-512 (with VNNI).

#![expect(
    unsafe_code,
    reason = "vector intrinsics; every caller has checked the lengths"
)]

use std::arch::x86_64::*;

use super::simd::Simd;

/// AVX2, FMA and F16C: every x86 since 2013.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx2;

/// AVX-512 with byte dot products.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Avx512;

/// Shifts take their count in the instruction; the counts are constants after inlining.
macro_rules! shift {
    ($a:expr, $by:expr, $op:ident) => {
        match $by {
            0 => $a,
            1 => $op::<1>($a),
            2 => $op::<2>($a),
            3 => $op::<3>($a),
            4 => $op::<4>($a),
            5 => $op::<5>($a),
            6 => $op::<6>($a),
            _ => $op::<7>($a),
        }
    };
}

// SAFETY of the whole block: the dispatcher checked avx2, fma and f16c; pointers are valid for a whole vector.
impl Simd for Avx2 {
    const LANES: usize = 8;
    const SIGNED_OFFSET: i32 = 0;
    const TILE: usize = 4;
    type Bytes = __m256i;
    type Sums = __m256i;
    type Ints = __m256i;
    type Floats = __m256;
    type Element = i8;
    type Quad = __m256i;

    #[inline(always)]
    unsafe fn load(from: *const u8) -> __m256i {
        unsafe { _mm256_loadu_si256(from.cast()) }
    }
    #[inline(always)]
    unsafe fn mask(a: __m256i, bits: u8) -> __m256i {
        unsafe { _mm256_and_si256(a, _mm256_set1_epi8(bits.cast_signed())) }
    }
    #[inline(always)]
    unsafe fn or(a: __m256i, b: __m256i) -> __m256i {
        unsafe { _mm256_or_si256(a, b) }
    }
    #[inline(always)]
    unsafe fn shift_right(a: __m256i, by: u32) -> __m256i {
        unsafe { shift!(a, by, _mm256_srli_epi16) }
    }
    #[inline(always)]
    unsafe fn shift_left(a: __m256i, by: u32) -> __m256i {
        unsafe { shift!(a, by, _mm256_slli_epi16) }
    }
    #[inline(always)]
    fn element(value: i32) -> i8 {
        value as i8
    }
    #[inline(always)]
    unsafe fn quad(from: *const i8) -> __m256i {
        unsafe { _mm256_set1_epi32(from.cast::<i32>().read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn no_sums() -> __m256i {
        unsafe { _mm256_setzero_si256() }
    }
    #[inline(always)]
    unsafe fn dot_unsigned(sums: __m256i, weights: __m256i, quad: __m256i) -> __m256i {
        unsafe {
            // 2 * 63 * 127 fits i16: no saturation.
            let pairs = _mm256_maddubs_epi16(weights, quad);
            _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        }
    }
    #[inline(always)]
    unsafe fn dot_signed(sums: __m256i, weights: __m256i, quad: __m256i) -> __m256i {
        unsafe {
            // |w| <= 128 and |a| <= 127: 2 * 128 * 127 fits i16.
            let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(weights), _mm256_sign_epi8(quad, weights));
            _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        }
    }
    #[inline(always)]
    unsafe fn total(sums: __m256i) -> __m256i {
        sums
    }
    #[inline(always)]
    unsafe fn ints(value: i32) -> __m256i {
        unsafe { _mm256_set1_epi32(value) }
    }
    #[inline(always)]
    unsafe fn ints_from_u8(from: *const u8) -> __m256i {
        unsafe { _mm256_cvtepu8_epi32(_mm_loadl_epi64(from.cast())) }
    }
    #[inline(always)]
    unsafe fn ints_from_i8(from: *const u8) -> __m256i {
        unsafe { _mm256_cvtepi8_epi32(_mm_loadl_epi64(from.cast())) }
    }
    #[inline(always)]
    unsafe fn ints_mask(a: __m256i, bits: i32) -> __m256i {
        unsafe { _mm256_and_si256(a, _mm256_set1_epi32(bits)) }
    }
    #[inline(always)]
    unsafe fn ints_shift_right_4(a: __m256i) -> __m256i {
        unsafe { _mm256_srli_epi32::<4>(a) }
    }
    #[inline(always)]
    unsafe fn ints_add(a: __m256i, b: __m256i) -> __m256i {
        unsafe { _mm256_add_epi32(a, b) }
    }
    #[inline(always)]
    unsafe fn ints_sub(a: __m256i, b: __m256i) -> __m256i {
        unsafe { _mm256_sub_epi32(a, b) }
    }
    #[inline(always)]
    unsafe fn ints_mul(a: __m256i, b: __m256i) -> __m256i {
        unsafe { _mm256_mullo_epi32(a, b) }
    }
    #[inline(always)]
    unsafe fn to_floats(a: __m256i) -> __m256 {
        unsafe { _mm256_cvtepi32_ps(a) }
    }
    #[inline(always)]
    unsafe fn floats(value: f32) -> __m256 {
        unsafe { _mm256_set1_ps(value) }
    }
    #[inline(always)]
    unsafe fn load_f32(from: *const u8) -> __m256 {
        unsafe { _mm256_loadu_ps(from.cast()) }
    }
    #[inline(always)]
    unsafe fn load_f16(from: *const u8) -> __m256 {
        unsafe { _mm256_cvtph_ps(_mm_loadu_si128(from.cast())) }
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const u8) -> __m256 {
        unsafe {
            let wide = _mm256_cvtepu16_epi32(_mm_loadu_si128(from.cast()));
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(wide))
        }
    }
    #[inline(always)]
    unsafe fn store(a: __m256, to: *mut f32) {
        unsafe { _mm256_storeu_ps(to, a) }
    }
    #[inline(always)]
    unsafe fn mul(a: __m256, b: __m256) -> __m256 {
        unsafe { _mm256_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul_add(a: __m256, b: __m256, c: __m256) -> __m256 {
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }
}

// SAFETY of the whole block: the dispatcher checked avx512f, bw, vl, dq and vnni; pointers are valid for a whole vector.
impl Simd for Avx512 {
    const LANES: usize = 16;
    const REGISTERS: usize = 32;
    const SIGNED_OFFSET: i32 = 128;
    const TILE: usize = 8;
    type Bytes = __m512i;
    type Sums = __m512i;
    type Ints = __m512i;
    type Floats = __m512;
    type Element = i8;
    type Quad = __m512i;

    #[inline(always)]
    unsafe fn load(from: *const u8) -> __m512i {
        unsafe { _mm512_loadu_si512(from.cast()) }
    }
    #[inline(always)]
    unsafe fn mask(a: __m512i, bits: u8) -> __m512i {
        unsafe { _mm512_and_si512(a, _mm512_set1_epi8(bits.cast_signed())) }
    }
    #[inline(always)]
    unsafe fn or(a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_or_si512(a, b) }
    }
    #[inline(always)]
    unsafe fn shift_right(a: __m512i, by: u32) -> __m512i {
        unsafe { shift!(a, by, _mm512_srli_epi16) }
    }
    #[inline(always)]
    unsafe fn shift_left(a: __m512i, by: u32) -> __m512i {
        unsafe { shift!(a, by, _mm512_slli_epi16) }
    }
    #[inline(always)]
    fn element(value: i32) -> i8 {
        value as i8
    }
    #[inline(always)]
    unsafe fn quad(from: *const i8) -> __m512i {
        unsafe { _mm512_set1_epi32(from.cast::<i32>().read_unaligned()) }
    }
    #[inline(always)]
    unsafe fn no_sums() -> __m512i {
        unsafe { _mm512_setzero_si512() }
    }
    #[inline(always)]
    unsafe fn dot_unsigned(sums: __m512i, weights: __m512i, quad: __m512i) -> __m512i {
        unsafe { _mm512_dpbusd_epi32(sums, weights, quad) }
    }
    #[inline(always)]
    unsafe fn dot_signed(sums: __m512i, weights: __m512i, quad: __m512i) -> __m512i {
        unsafe {
            // The instruction wants unsigned bytes: flipping the top bit adds 128.
            let weights = _mm512_xor_si512(weights, _mm512_set1_epi8(i8::MIN));
            _mm512_dpbusd_epi32(sums, weights, quad)
        }
    }
    #[inline(always)]
    unsafe fn total(sums: __m512i) -> __m512i {
        sums
    }
    #[inline(always)]
    unsafe fn ints(value: i32) -> __m512i {
        unsafe { _mm512_set1_epi32(value) }
    }
    #[inline(always)]
    unsafe fn ints_from_u8(from: *const u8) -> __m512i {
        unsafe { _mm512_cvtepu8_epi32(_mm_loadu_si128(from.cast())) }
    }
    #[inline(always)]
    unsafe fn ints_from_i8(from: *const u8) -> __m512i {
        unsafe { _mm512_cvtepi8_epi32(_mm_loadu_si128(from.cast())) }
    }
    #[inline(always)]
    unsafe fn ints_mask(a: __m512i, bits: i32) -> __m512i {
        unsafe { _mm512_and_si512(a, _mm512_set1_epi32(bits)) }
    }
    #[inline(always)]
    unsafe fn ints_shift_right_4(a: __m512i) -> __m512i {
        unsafe { _mm512_srli_epi32::<4>(a) }
    }
    #[inline(always)]
    unsafe fn ints_add(a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_add_epi32(a, b) }
    }
    #[inline(always)]
    unsafe fn ints_sub(a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_sub_epi32(a, b) }
    }
    #[inline(always)]
    unsafe fn ints_mul(a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_mullo_epi32(a, b) }
    }
    #[inline(always)]
    unsafe fn to_floats(a: __m512i) -> __m512 {
        unsafe { _mm512_cvtepi32_ps(a) }
    }
    #[inline(always)]
    unsafe fn floats(value: f32) -> __m512 {
        unsafe { _mm512_set1_ps(value) }
    }
    #[inline(always)]
    unsafe fn load_f32(from: *const u8) -> __m512 {
        unsafe { _mm512_loadu_ps(from.cast()) }
    }
    #[inline(always)]
    unsafe fn load_f16(from: *const u8) -> __m512 {
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(from.cast())) }
    }
    #[inline(always)]
    unsafe fn load_bf16(from: *const u8) -> __m512 {
        unsafe {
            let wide = _mm512_cvtepu16_epi32(_mm256_loadu_si256(from.cast()));
            _mm512_castsi512_ps(_mm512_slli_epi32::<16>(wide))
        }
    }
    #[inline(always)]
    unsafe fn store(a: __m512, to: *mut f32) {
        unsafe { _mm512_storeu_ps(to, a) }
    }
    #[inline(always)]
    unsafe fn mul(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul_add(a: __m512, b: __m512, c: __m512) -> __m512 {
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }
}
