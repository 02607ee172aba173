//! The product of a panel of floats with a tile of vectors: float weights, and both products of attention.

#![expect(
    unsafe_code,
    clippy::indexing_slicing,
    clippy::needless_range_loop,
    reason = "kernel: lengths were checked by the caller, and loops over a tile index several arrays at once"
)]

use super::isa::for_each_isa;
use super::matmul::{Output, deliver};
use super::simd::{PANEL, Simd};

/// A float format, as a type.
pub(super) trait Float {
    const BYTES: usize;
    /// # Safety
    /// As [`Simd::load_f32`].
    unsafe fn load<S: Simd>(from: *const u8) -> S::Floats;
}

macro_rules! floats {
    ($($name:ident, $bytes:expr, $load:ident);*) => {$(
        pub(super) struct $name;
        impl Float for $name {
            const BYTES: usize = $bytes;
            #[inline(always)]
            unsafe fn load<S: Simd>(from: *const u8) -> S::Floats {
                // SAFETY: the caller's promise.
                unsafe { S::$load(from) }
            }
        }
    )*};
}
floats!(F32, 4, load_f32; F16, 2, load_f16; Bf16, 2, load_bf16);

for_each_isa! {
    /// # Safety
    /// As [`float_body`].
    pub(super) unsafe fn float_tile<W: Float, const T: usize>(
        panel: *const u8,
        columns: usize,
        tokens: *const f32,
        out: Output,
    ) = float_body
}

/// 16 rows of `columns` floats, stored column by column, times a tile of vectors, also column by column.
///
/// # Safety
/// `panel` holds `columns` x 16 numbers, `tokens` `columns` x T, and `out` its places.
#[inline(always)]
pub(super) unsafe fn float_body<S: Simd, W: Float, const T: usize>(
    panel: *const u8,
    columns: usize,
    tokens: *const f32,
    out: Output,
) {
    let mut results = [[0.0; PANEL]; T];
    let mut lane = 0;
    while lane < PANEL {
        // SAFETY: the caller's promise.
        unsafe {
            let mut panel = panel.add(lane * W::BYTES);
            let mut tokens = tokens;
            // Two sums, of even and odd columns: one would make every addition wait for the one before.
            let mut even = [S::floats(0.0); T];
            let mut odd = [S::floats(0.0); T];
            for _ in 0..columns / 2 {
                let first = W::load::<S>(panel);
                let second = W::load::<S>(panel.add(PANEL * W::BYTES));
                for token in 0..T {
                    even[token] = S::mul_add(first, S::floats(*tokens.add(token)), even[token]);
                    odd[token] = S::mul_add(second, S::floats(*tokens.add(T + token)), odd[token]);
                }
                panel = panel.add(2 * PANEL * W::BYTES);
                tokens = tokens.add(2 * T);
            }
            if columns % 2 == 1 {
                let first = W::load::<S>(panel);
                for token in 0..T {
                    even[token] = S::mul_add(first, S::floats(*tokens.add(token)), even[token]);
                }
            }
            for token in 0..T {
                S::store(
                    S::add(even[token], odd[token]),
                    results[token].as_mut_ptr().add(lane),
                );
            }
        }
        lane += S::LANES;
    }
    // SAFETY: the caller's promise.
    unsafe { deliver(&results, out) }
}
