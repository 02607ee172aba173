//! The vector operations that the kernels are written in.
//!
//! Weights lie in panels of 16 rows, so a vector's lanes are rows: no sum across lanes is ever needed, and the order in
//! which a result is added up does not depend on how many tokens or rows are computed together. That is what makes a
//! token's result bit-identical in prefill and decode, on one thread or many.

#![expect(
    unsafe_code,
    reason = "vector loads and stores; every caller has checked the lengths"
)]

/// Rows in a panel: one AVX-512 vector, two of AVX2, four of WebAssembly or NEON.
pub(crate) const PANEL: usize = 16;

/// Vectors of one instruction set. `Bytes` holds 4 bytes for each of `LANES` rows.
///
/// # Safety
/// Every method needs the instruction set that the type stands for, and pointers that are valid for a whole vector.
pub(crate) trait Simd: Copy + 'static {
    /// Rows per vector.
    const LANES: usize;
    /// How many there are.
    const REGISTERS: usize = 16;
    /// What `dot_signed` adds to every weight; the caller takes it off again by the sum of activations.
    const SIGNED_OFFSET: i32;
    /// Tokens that are computed together, so that unpacked weights stay in registers.
    const TILE: usize;
    /// Four bytes for each row.
    type Bytes: Copy;
    /// Running integer sums, in whatever shape the dot instruction wants.
    type Sums: Copy;
    /// One i32 per row.
    type Ints: Copy;
    /// One f32 per row.
    type Floats: Copy;
    /// How activations are stored for this instruction set.
    type Element: Copy;
    /// Four activations, for every row.
    type Quad: Copy;

    unsafe fn load(from: *const u8) -> Self::Bytes;
    unsafe fn mask(a: Self::Bytes, bits: u8) -> Self::Bytes;
    unsafe fn or(a: Self::Bytes, b: Self::Bytes) -> Self::Bytes;
    /// Shifts 16-bit units: bits cross bytes, the caller masks them off.
    unsafe fn shift_right(a: Self::Bytes, by: u32) -> Self::Bytes;
    unsafe fn shift_left(a: Self::Bytes, by: u32) -> Self::Bytes;

    /// An activation, rounded to -127..=127.
    fn element(value: i32) -> Self::Element;
    unsafe fn quad(from: *const Self::Element) -> Self::Quad;
    unsafe fn no_sums() -> Self::Sums;
    /// Adds the products of bytes from 0 to 63 with activations.
    unsafe fn dot_unsigned(sums: Self::Sums, weights: Self::Bytes, quad: Self::Quad) -> Self::Sums;
    /// Adds the products of signed bytes (plus `SIGNED_OFFSET`) with activations.
    unsafe fn dot_signed(sums: Self::Sums, weights: Self::Bytes, quad: Self::Quad) -> Self::Sums;
    /// Whether one token's products with signed bytes are added to whole integers, by `dot_bytes`, instead of `dot_signed`.
    const DOT_BYTES: bool = false;
    /// As `dot_signed`, without its offset, to sums of 32 bits. Called only with `DOT_BYTES`.
    #[inline(always)]
    unsafe fn dot_bytes(sums: Self::Ints, _weights: Self::Bytes, _split: [Self::Quad; 2]) -> Self::Ints {
        sums
    }
    /// Four activations, for `dot_bytes`: what is above zero, and what is below it without its sign.
    #[inline(always)]
    unsafe fn split(quad: Self::Quad) -> [Self::Quad; 2] {
        [quad, quad]
    }
    /// Makes room in sums that are narrower than 32 bits; see `widens_before` in `quantised`.
    #[inline(always)]
    unsafe fn widen(sums: Self::Sums) -> Self::Sums {
        sums
    }
    /// Of `dot_unsigned`.
    unsafe fn total(sums: Self::Sums) -> Self::Ints;
    /// Of `dot_signed`.
    #[inline(always)]
    unsafe fn total_signed(sums: Self::Sums) -> Self::Ints {
        // SAFETY: the caller's promise.
        unsafe { Self::total(sums) }
    }

    unsafe fn ints(value: i32) -> Self::Ints;
    unsafe fn ints_from_u8(from: *const u8) -> Self::Ints;
    unsafe fn ints_from_i8(from: *const u8) -> Self::Ints;
    unsafe fn ints_mask(a: Self::Ints, bits: i32) -> Self::Ints;
    unsafe fn ints_shift_right_4(a: Self::Ints) -> Self::Ints;
    unsafe fn ints_add(a: Self::Ints, b: Self::Ints) -> Self::Ints;
    unsafe fn ints_sub(a: Self::Ints, b: Self::Ints) -> Self::Ints;
    unsafe fn ints_mul(a: Self::Ints, b: Self::Ints) -> Self::Ints;
    unsafe fn to_floats(a: Self::Ints) -> Self::Floats;

    unsafe fn floats(value: f32) -> Self::Floats;
    unsafe fn load_f32(from: *const u8) -> Self::Floats;
    unsafe fn load_f16(from: *const u8) -> Self::Floats;
    unsafe fn load_bf16(from: *const u8) -> Self::Floats;
    unsafe fn store(a: Self::Floats, to: *mut f32);
    unsafe fn mul(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// `a * b + c`, fused where the machine can.
    unsafe fn mul_add(a: Self::Floats, b: Self::Floats, c: Self::Floats) -> Self::Floats;
}
