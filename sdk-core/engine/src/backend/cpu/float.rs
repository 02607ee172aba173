//! The product of a panel of floats with a tile of vectors: float weights, and both products of attention.

#![expect(
    unsafe_code,
    clippy::indexing_slicing,
    clippy::needless_range_loop,
    reason = "kernel: lengths were checked by the caller, and loops over a tile index several arrays at once"
)]

use super::isa::for_each_isa;
use super::matmul::Output;
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

/// The vectors that panels are multiplied with: number `column` of vector `token` lies at `token * token_step + column *
/// column_step`.
#[derive(Clone, Copy)]
pub(super) struct Vectors {
    pub(super) at: *const f32,
    pub(super) token_step: usize,
    pub(super) column_step: usize,
}

/// Panels of 16 rows, stored column by column, `panel_bytes` apart.
#[derive(Clone, Copy)]
pub(super) struct FloatPanels {
    pub(super) at: *const u8,
    pub(super) panel_bytes: usize,
    pub(super) count: usize,
    pub(super) columns: usize,
}

for_each_isa! {
    /// # Safety
    /// As [`float_body`].
    pub(super) unsafe fn float_tile<W: Float, const T: usize>(
        panels: FloatPanels,
        tokens: Vectors,
        out: Output,
    ) = float_body
}

/// Vectors of rows that are computed in one pass: as many sums as registers hold beside weights and tokens, at best four
/// vectors, because fewer sums would each wait for their last addition.
#[inline(always)]
const fn vectors<S: Simd, const T: usize>() -> usize {
    let sums = S::REGISTERS * 3 / 4;
    if 4 * T <= sums {
        4
    } else if 2 * T <= sums {
        2
    } else {
        1
    }
}

/// Panels times a tile of vectors.
///
/// Every result is one sum from the first column to the last, so it does not depend on what is computed beside it.
///
/// # Safety
/// `panels` are `count` panels of `columns` x 16 numbers, `tokens` T vectors as long; `out` has its places.
#[inline(always)]
pub(super) unsafe fn float_body<S: Simd, W: Float, const T: usize>(
    panels: FloatPanels,
    tokens: Vectors,
    out: Output,
) {
    let rows = panels.count * PANEL;
    let at_once = vectors::<S, T>() * S::LANES;
    let mut row = 0;
    // SAFETY: the caller's promise.
    unsafe {
        while row + at_once <= rows {
            pass::<S, W, T, true>(panels, row, tokens, out);
            row += at_once;
        }
        // Only where a pass spans several panels.
        while row < rows {
            pass::<S, W, T, false>(panels, row, tokens, out);
            row += PANEL;
        }
    }
}

/// Rows from `row` on: as many as [`vectors`] says, or a panel.
#[inline(always)]
unsafe fn pass<S: Simd, W: Float, const T: usize, const WIDE: bool>(
    panels: FloatPanels,
    row: usize,
    tokens: Vectors,
    out: Output,
) {
    let vectors = if WIDE { vectors::<S, T>() } else { PANEL / S::LANES };
    let rows = vectors * S::LANES;
    // SAFETY: the caller's promise.
    unsafe {
        let mut from = panels
            .at
            .add(row / PANEL * panels.panel_bytes + row % PANEL * W::BYTES);
        let mut x = tokens.at;
        let mut sums = [[S::floats(0.0); T]; 4];
        for _ in 0..panels.columns {
            for vector in 0..vectors {
                let (panel, lane) = (vector * S::LANES / PANEL, vector * S::LANES % PANEL);
                let weights = W::load::<S>(from.add(panel * panels.panel_bytes + lane * W::BYTES));
                for token in 0..T {
                    let x = S::floats(*x.add(token * tokens.token_step));
                    sums[vector][token] = S::mul_add(weights, x, sums[vector][token]);
                }
            }
            from = from.add(PANEL * W::BYTES);
            x = x.add(tokens.column_step);
        }
        for token in 0..T {
            let to = out.to.add(token * out.stride + row);
            if out.rows >= row + rows {
                for vector in 0..vectors {
                    S::store(sums[vector][token], to.add(vector * S::LANES));
                }
            } else {
                // The last panel may have fewer rows.
                let mut last = [0.0; 4 * PANEL];
                for vector in 0..vectors {
                    S::store(sums[vector][token], last.as_mut_ptr().add(vector * S::LANES));
                }
                std::ptr::copy_nonoverlapping(last.as_ptr(), to, out.rows.saturating_sub(row));
            }
        }
    }
}
