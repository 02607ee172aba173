//! 16-bit floats, by bits: neither WebAssembly nor stable Rust has them.

/// IEEE binary16 to f32, exactly. Infinities and NaN come out as large finite numbers: stored scales are checked when a
/// model is loaded, and what is computed is clamped by [`f32_to_f16`], so neither occurs.
///
/// The multiplication by 2^112 moves the exponent and normalises subnormals at once.
#[inline(always)]
pub(crate) fn f16_to_f32(half: u16) -> f32 {
    let magnitude = f32::from_bits(u32::from(half & 0x7fff) << 13) * f32::from_bits(0x7780_0000);
    f32::from_bits(magnitude.to_bits() | (u32::from(half & 0x8000) << 16))
}

/// Rounds to the nearest binary16, ties to even; too large becomes the largest finite number, NaN stays NaN.
#[inline]
pub(crate) fn f32_to_f16(value: f32) -> u16 {
    const LARGEST: f32 = 65_504.0;
    let sign = ((value.to_bits() >> 16) & 0x8000) as u16;
    let magnitude = value.abs();
    if magnitude.is_nan() {
        return sign | 0x7e00;
    }
    let magnitude = magnitude.min(LARGEST);
    // Adding a power of two whose last bit is the target's last bit makes the FPU do the rounding.
    let exponent = (magnitude.to_bits() >> 23).max(113);
    let rounder = f32::from_bits(exponent.wrapping_add(13) << 23);
    let rounded = (magnitude + rounder).to_bits().wrapping_sub(rounder.to_bits());
    // `rounded` counts units of 2^(exponent - 127 - 10); the exponent is 113 for subnormals.
    sign | (rounded.wrapping_add(exponent.wrapping_sub(113) << 10)) as u16
}

/// bfloat16 to f32, exactly.
#[inline(always)]
pub(crate) fn bf16_to_f32(half: u16) -> f32 {
    f32::from_bits(u32::from(half) << 16)
}

/// Rounds to the nearest bfloat16, ties to even, as `ggml_compute_fp32_to_bf16`.
#[inline(always)]
pub(crate) fn f32_to_bf16(value: f32) -> u16 {
    let bits = value.to_bits();
    if value.is_nan() {
        return ((bits >> 16) | 64) as u16;
    }
    (bits.wrapping_add(0x7fff + ((bits >> 16) & 1)) >> 16) as u16
}

/// Whether a stored binary16 is a number.
#[inline(always)]
pub(crate) const fn f16_is_finite(half: u16) -> bool {
    half & 0x7c00 != 0x7c00
}
