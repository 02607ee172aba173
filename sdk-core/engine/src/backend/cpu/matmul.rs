//! Products of packed weights with rounded activations.

#![expect(unsafe_code, reason = "kernel: lengths are checked on entry")]

use kwaainet_platform::Parallel;

use super::activations::{Activations, next_tile};
use super::float::{Bf16, F16, F32, Float, FloatPanels, Vectors, float_tile};
use super::isa::Isa;
use super::layout::GROUP;
use super::packed::PackedMatrix;
use super::quantised::{
    Format, Q2K, Q3K, Q4_0, Q4_1, Q4K, Q5_0, Q5_1, Q5K, Q6K, Q8_0, TileData, quantised_tile,
};
use super::simd::PANEL;
use crate::gguf::DType;

/// A pointer that pieces on several threads write through, each to places of its own.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shared<T>(pub(super) *mut T);
// SAFETY: whoever makes one sees to it that no two pieces touch the same place.
unsafe impl<T> Send for Shared<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Shared<T> {}

impl<T> Shared<T> {
    /// The pointer; a method, so that closures capture the whole and not the field.
    pub(super) const fn get(self) -> *mut T {
        self.0
    }
}

/// A product to be computed: `out[token][row] = weights[row] . activations[token]`.
#[derive(Debug)]
pub(crate) struct Product<'a> {
    pub(crate) weights: &'a PackedMatrix,
    pub(crate) activations: &'a Activations,
    pub(crate) out: &'a mut [f32],
}

/// Products that are too small to be worth waking another thread, in multiplications.
const SMALL: usize = 1 << 17;

/// Computes several products side by side, spread over the spare processors.
pub(crate) fn multiply(isa: Isa, parallel: &dyn Parallel, products: &mut [Product<'_>]) {
    let mut jobs = Vec::with_capacity(products.len());
    let (mut panels, mut work) = (0, 0);
    for product in products.iter_mut() {
        let (weights, x) = (product.weights, product.activations);
        assert_eq!(
            weights.columns(),
            x.columns,
            "the vectors are as long as the rows"
        );
        assert!(
            product.out.len() >= x.tokens * weights.rows(),
            "there is room for the results"
        );
        assert!(weights.is_complete(), "every row has been loaded");
        jobs.push((panels, weights, x, Shared(product.out.as_mut_ptr())));
        panels += weights.panels();
        work += weights.rows() * weights.columns() * x.tokens;
    }
    let pieces = if work < SMALL {
        1
    } else {
        parallel.width().clamp(1, panels.max(1))
    };
    // With spare threads, more pieces than threads: one that is held up elsewhere does not hold up all.
    let pieces = if pieces > 1 { (pieces * 4).min(panels) } else { 1 };
    let run = |piece: usize| {
        let (from, to) = (panels * piece / pieces, panels * (piece + 1) / pieces);
        for (first, weights, x, out) in &jobs {
            let last = first + weights.panels();
            let (from, to) = (from.max(*first), to.min(last));
            if from < to {
                // SAFETY: sizes were checked above; pieces have disjoint panels, so they write disjoint rows.
                unsafe { panels_of(isa, weights, x, from - first, to - first, *out) }
            }
        }
    };
    if pieces == 1 {
        run(0);
    } else {
        parallel.run(pieces, &run);
    }
}

/// Where a tile puts its results: `rows` of them for each token, `stride` apart.
#[derive(Debug, Clone, Copy)]
pub(super) struct Output {
    pub(super) to: *mut f32,
    pub(super) stride: usize,
    pub(super) rows: usize,
}

/// Copies the results of a panel to where they belong; the last panel may have fewer than 16 rows.
///
/// # Safety
/// The places exist, and are nobody else's.
#[inline(always)]
pub(super) unsafe fn deliver<const T: usize>(results: &[[f32; PANEL]; T], out: Output) {
    for (token, results) in results.iter().enumerate() {
        // SAFETY: `rows` of this token's results lie within the output.
        unsafe {
            let to = out.to.add(token.wrapping_mul(out.stride));
            if out.rows >= PANEL {
                to.cast::<[f32; PANEL]>().write_unaligned(*results);
            } else {
                std::ptr::copy_nonoverlapping(results.as_ptr(), to, out.rows);
            }
        }
    }
}

/// Rows `16 * from` to `16 * to` of a product.
///
/// # Safety
/// The caller has checked all lengths, and nobody else writes these rows.
unsafe fn panels_of(
    isa: Isa,
    weights: &PackedMatrix,
    x: &Activations,
    from: usize,
    to: usize,
    out: Shared<f32>,
) {
    let panels = Panels {
        isa,
        weights,
        x,
        from,
        to,
        out,
    };
    // SAFETY: the caller's promise is passed on.
    unsafe {
        match weights.dtype() {
            DType::Q4_0 => panels.quantised::<Q4_0>(),
            DType::Q4_1 => panels.quantised::<Q4_1>(),
            DType::Q5_0 => panels.quantised::<Q5_0>(),
            DType::Q5_1 => panels.quantised::<Q5_1>(),
            DType::Q8_0 => panels.quantised::<Q8_0>(),
            DType::Q2K => panels.quantised::<Q2K>(),
            DType::Q3K => panels.quantised::<Q3K>(),
            DType::Q4K => panels.quantised::<Q4K>(),
            DType::Q5K => panels.quantised::<Q5K>(),
            DType::Q6K => panels.quantised::<Q6K>(),
            DType::F32 => panels.float::<F32>(),
            DType::F16 => panels.float::<F16>(),
            DType::Bf16 => panels.float::<Bf16>(),
        }
    }
}

/// A run of panels of one product.
#[derive(Clone, Copy)]
struct Panels<'a> {
    isa: Isa,
    weights: &'a PackedMatrix,
    x: &'a Activations,
    from: usize,
    to: usize,
    out: Shared<f32>,
}

impl Panels<'_> {
    fn output(&self, panel: usize, start: usize) -> Output {
        let rows = self.weights.rows();
        Output {
            // In bounds: `multiply` checked that there is room for all rows of all tokens.
            to: self.out.get().wrapping_add(start * rows + panel * PANEL),
            stride: rows,
            rows: rows - panel * PANEL,
        }
    }

    // A browser compiles a function as a whole when it gets hot. With all formats in one, a visitor waits for the kernels
    // of each, and they share its registers badly.
    #[inline(never)]
    unsafe fn quantised<F: Format>(self) {
        let groups = self.x.columns / GROUP;
        for index in self.from..self.to {
            let panel = self.weights.panel(index).as_ptr();
            let mut start = 0;
            while start < self.x.tokens {
                let tile = next_tile(self.x.tokens - start, self.isa.tile());
                let out = self.output(index, start);
                // SAFETY: the tile lies within the buffers, which hold `tokens` tokens; the panel has all groups.
                unsafe {
                    let quants = self.x.quants.as_ptr().cast::<u8>();
                    let tokens = TileData {
                        quants: quants.add(start * self.x.columns * self.isa.element_bytes()),
                        scales: self.x.scales.as_ptr().add(start * groups),
                        sums: self.x.sums.as_ptr().add(start * groups),
                        half_sums: self.x.half_sums.as_ptr().add(2 * start * groups),
                    };
                    match tile {
                        8 => quantised_tile::<F, 8>(self.isa, panel, groups, tokens, out),
                        4 => quantised_tile::<F, 4>(self.isa, panel, groups, tokens, out),
                        _ => quantised_tile::<F, 1>(self.isa, panel, groups, tokens, out),
                    }
                }
                start += tile;
            }
        }
    }

    #[inline(never)]
    unsafe fn float<W: Float>(self) {
        let columns = self.x.columns;
        // A product with one vector takes what memory gives: all panels in one go. Several find a panel in the cache.
        let at_once = if self.x.tokens == 1 {
            self.to - self.from
        } else {
            1
        };
        for index in (self.from..self.to).step_by(at_once) {
            let panels = FloatPanels {
                at: self.weights.panels_from(index).as_ptr(),
                panel_bytes: self.weights.panel_bytes(),
                count: at_once,
                columns,
            };
            let mut start = 0;
            while start < self.x.tokens {
                let tile = next_tile(self.x.tokens - start, self.isa.tile());
                let out = self.output(index, start);
                // SAFETY: as in `quantised`; panels lie one behind the other.
                unsafe {
                    let tokens = Vectors {
                        at: self.x.floats.as_ptr().add(start * columns),
                        token_step: 1,
                        column_step: tile,
                    };
                    match tile {
                        8 => float_tile::<W, 8>(self.isa, panels, tokens, out),
                        4 => float_tile::<W, 4>(self.isa, panels, tokens, out),
                        _ => float_tile::<W, 1>(self.isa, panels, tokens, out),
                    }
                }
                start += tile;
            }
        }
    }
}
