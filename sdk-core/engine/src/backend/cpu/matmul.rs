//! Products of packed weights with rounded activations.

#![expect(
    unsafe_code,
    clippy::indexing_slicing,
    reason = "kernel: lengths are checked on entry, and indices are tile constants"
)]

use kwaainet_platform::Parallel;

use super::activations::{Activations, next_tile};
use super::isa::{Isa, for_each_isa};
use super::layout::{GROUP, Planes, SUPER_GROUPS, VECTOR};
use super::packed::PackedMatrix;
use super::simd::{PANEL, Simd};
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

for_each_isa! {
    unsafe fn panels_of(
        weights: &PackedMatrix,
        x: &Activations,
        from: usize,
        to: usize,
        out: Shared<f32>,
    ) = panels_body
}

/// A quantised format, as a type, so that every format has a kernel of its own.
trait Format {
    const PLANES: Planes;
}

macro_rules! formats {
    ($($name:ident),*) => {$(
        struct $name;
        impl Format for $name {
            const PLANES: Planes = match Planes::of(DType::$name) {
                Some(planes) => planes,
                None => panic!("a quantised format"),
            };
        }
    )*};
}
formats!(Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2K, Q3K, Q4K, Q5K, Q6K);

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

#[inline(always)]
unsafe fn panels_body<S: Simd>(
    weights: &PackedMatrix,
    x: &Activations,
    from: usize,
    to: usize,
    out: Shared<f32>,
) {
    // SAFETY: the caller's promise is passed on.
    unsafe {
        match weights.dtype() {
            DType::Q4_0 => quantised::<S, Q4_0>(weights, x, from, to, out),
            DType::Q4_1 => quantised::<S, Q4_1>(weights, x, from, to, out),
            DType::Q5_0 => quantised::<S, Q5_0>(weights, x, from, to, out),
            DType::Q5_1 => quantised::<S, Q5_1>(weights, x, from, to, out),
            DType::Q8_0 => quantised::<S, Q8_0>(weights, x, from, to, out),
            DType::Q2K => quantised::<S, Q2K>(weights, x, from, to, out),
            DType::Q3K => quantised::<S, Q3K>(weights, x, from, to, out),
            DType::Q4K => quantised::<S, Q4K>(weights, x, from, to, out),
            DType::Q5K => quantised::<S, Q5K>(weights, x, from, to, out),
            DType::Q6K => quantised::<S, Q6K>(weights, x, from, to, out),
            DType::F32 => float::<S, F32>(weights, x, from, to, out),
            DType::F16 => float::<S, F16>(weights, x, from, to, out),
            DType::Bf16 => float::<S, Bf16>(weights, x, from, to, out),
        }
    }
}

/// Runs `$kernel` with the tile size as a constant.
macro_rules! with_tile {
    ($tile:expr, $kernel:ident::<$($param:ident),*>($($arg:expr),*)) => {
        match $tile {
            // Only instruction sets with enough registers make tiles of 8.
            8 if S::TILE >= 8 => $kernel::<$($param),*, 8>($($arg),*),
            4 => $kernel::<$($param),*, 4>($($arg),*),
            2 => $kernel::<$($param),*, 2>($($arg),*),
            _ => $kernel::<$($param),*, 1>($($arg),*),
        }
    };
}
pub(super) use with_tile;

/// Copies the results of a panel to where they belong; the last panel may have fewer than 16 rows.
#[inline(always)]
unsafe fn deliver<const T: usize>(results: &[[f32; PANEL]; T], out: *mut f32, stride: usize, rows: usize) {
    for (token, results) in results.iter().enumerate() {
        // SAFETY: `rows` of this token's results lie within the output.
        unsafe {
            let to = out.add(token * stride);
            if rows >= PANEL {
                to.cast::<[f32; PANEL]>().write_unaligned(*results);
            } else {
                std::ptr::copy_nonoverlapping(results.as_ptr(), to, rows);
            }
        }
    }
}

#[inline(always)]
unsafe fn quantised<S: Simd, F: Format>(
    weights: &PackedMatrix,
    x: &Activations,
    from: usize,
    to: usize,
    out: Shared<f32>,
) {
    let groups = x.columns / GROUP;
    for index in from..to {
        let panel = weights.panel(index).as_ptr();
        let rows = weights.rows() - index * PANEL;
        let mut start = 0;
        while start < x.tokens {
            let tile = next_tile(x.tokens - start, S::TILE);
            // SAFETY: the tile lies within the buffers, which hold `tokens` tokens; the panel has all groups.
            unsafe {
                let tokens = Tile::<S> {
                    quants: x.quants.as_ptr().cast::<S::Element>().add(start * x.columns),
                    scales: x.scales.as_ptr().add(start * groups),
                    sums: x.sums.as_ptr().add(start * groups),
                    half_sums: x.half_sums.as_ptr().add(2 * start * groups),
                };
                let out = out.get().add(start * weights.rows() + index * PANEL);
                with_tile!(
                    tile,
                    quantised_tile::<S, F>(panel, groups, tokens, out, weights.rows(), rows)
                );
            }
            start += tile;
        }
    }
}

/// The activations of a tile.
#[derive(Clone, Copy)]
struct Tile<S: Simd> {
    quants: *const S::Element,
    scales: *const f32,
    sums: *const f32,
    half_sums: *const i32,
}

impl<S: Simd> Tile<S> {
    #[inline(always)]
    unsafe fn sum_of_group(self, token: usize) -> i32 {
        // SAFETY: the caller stands at a group that exists.
        unsafe {
            let sums = self.half_sums.add(2 * token);
            (*sums).wrapping_add(*sums.add(1))
        }
    }

    #[inline(always)]
    unsafe fn next_group<const T: usize>(self) -> Self {
        // SAFETY: at most one past the last group.
        unsafe {
            Self {
                quants: self.quants.add(GROUP * T),
                scales: self.scales.add(T),
                sums: self.sums.add(T),
                half_sums: self.half_sums.add(2 * T),
            }
        }
    }
}

#[inline(always)]
unsafe fn quantised_tile<S: Simd, F: Format, const T: usize>(
    panel: *const u8,
    groups: usize,
    tokens: Tile<S>,
    out: *mut f32,
    stride: usize,
    rows: usize,
) {
    let mut results = [[0.0; PANEL]; T];
    let mut lane = 0;
    while lane < PANEL {
        // SAFETY: the panel has `groups` groups and their scales, the tile `groups` groups of T tokens.
        unsafe {
            let sums = if F::PLANES.scales.is_super() {
                super_blocks::<S, F, T>(panel, groups, tokens, lane)
            } else {
                blocks::<S, F, T>(panel, groups, tokens, lane)
            };
            for token in 0..T {
                S::store(sums[token], results[token].as_mut_ptr().add(lane));
            }
        }
        lane += S::LANES;
    }
    // SAFETY: the caller's promise.
    unsafe { deliver(&results, out, stride, rows) }
}

/// Formats with one scale per group.
#[inline(always)]
unsafe fn blocks<S: Simd, F: Format, const T: usize>(
    panel: *const u8,
    groups: usize,
    tokens: Tile<S>,
    lane: usize,
) -> [S::Floats; T] {
    // SAFETY: the caller's promise, see `quantised_tile`.
    unsafe {
        let planes = F::PLANES;
        let mut acc = [S::floats(0.0); T];
        let mut weights = panel.add(4 * lane);
        let mut scales = panel.add(groups * planes.group_bytes() + 2 * lane);
        let mut tokens = tokens;
        // Pointers move by constants: no multiplication, and none whose overflow would have to be checked.
        for _ in 0..groups {
            let (low, high) = dots::<S, F, T>(weights, tokens.quants);
            let scale = S::load_f16(scales);
            for token in 0..T {
                let mut total = S::total(low[token]);
                if dual::<F, T>() {
                    total = S::ints_add(total, S::total(high[token]));
                }
                let offset = offset_of::<S, F>();
                if offset != 0 {
                    let sum = tokens.sum_of_group(token).wrapping_mul(offset);
                    total = S::ints_sub(total, S::ints(sum));
                }
                let scale = S::mul(scale, S::floats(*tokens.scales.add(token)));
                acc[token] = S::mul_add(S::to_floats(total), scale, acc[token]);
                if planes.scales.has_min() {
                    let min = S::load_f16(scales.add(2 * PANEL));
                    acc[token] = S::mul_add(min, S::floats(*tokens.sums.add(token)), acc[token]);
                }
            }
            weights = weights.add(planes.group_bytes());
            scales = scales.add(planes.scales.bytes());
            tokens = tokens.next_group::<T>();
        }
        acc
    }
}

/// K-quants: integers are summed over a super-block of 256, as ggml does.
#[inline(always)]
unsafe fn super_blocks<S: Simd, F: Format, const T: usize>(
    panel: *const u8,
    groups: usize,
    tokens: Tile<S>,
    lane: usize,
) -> [S::Floats; T] {
    // SAFETY: the caller's promise, see `quantised_tile`.
    unsafe {
        let planes = F::PLANES;
        let kind = planes.scales;
        let mut acc = [S::floats(0.0); T];
        let mut weights = panel.add(4 * lane);
        let mut scales = panel.add(groups * planes.group_bytes());
        let mut tokens = tokens;
        for _ in 0..groups / SUPER_GROUPS {
            let of_block = tokens;
            let mut subs = scales.add(if kind.has_min() { 4 * PANEL } else { 2 * PANEL } + lane);
            let mut totals = [S::ints(0); T];
            let mut mins = [S::ints(0); T];
            for _ in 0..SUPER_GROUPS {
                let (low, high) = dots::<S, F, T>(weights, tokens.quants);
                if kind.halves() {
                    for side in 0..2 {
                        let parts = if side == 0 { &low } else { &high };
                        let sub = subs.add(side * PANEL);
                        for token in 0..T {
                            let part = S::total(parts[token]);
                            let sum = *tokens.half_sums.add(2 * token + side);
                            let product = if kind.has_min() {
                                let both = S::ints_from_u8(sub);
                                let min = S::ints_mul(S::ints_shift_right_4(both), S::ints(sum));
                                mins[token] = S::ints_add(mins[token], min);
                                S::ints_mul(part, S::ints_mask(both, 15))
                            } else {
                                let offset = S::ints(sum.wrapping_mul(planes.offset));
                                S::ints_mul(S::ints_sub(part, offset), S::ints_from_i8(sub))
                            };
                            totals[token] = S::ints_add(totals[token], product);
                        }
                    }
                } else {
                    let (scale, min) = (S::ints_from_u8(subs), S::ints_from_u8(subs.add(PANEL)));
                    for token in 0..T {
                        let mut total = S::total(low[token]);
                        if dual::<F, T>() {
                            total = S::ints_add(total, S::total(high[token]));
                        }
                        totals[token] = S::ints_add(totals[token], S::ints_mul(total, scale));
                        let min = S::ints_mul(min, S::ints(tokens.sum_of_group(token)));
                        mins[token] = S::ints_add(mins[token], min);
                    }
                }
                weights = weights.add(planes.group_bytes());
                subs = subs.add(2 * PANEL);
                tokens = tokens.next_group::<T>();
            }
            let scale = S::load_f16(scales.add(2 * lane));
            for token in 0..T {
                let of_token = S::floats(*of_block.scales.add(token));
                acc[token] = S::mul_add(S::to_floats(totals[token]), S::mul(scale, of_token), acc[token]);
                if kind.has_min() {
                    let min = S::load_f16(scales.add(2 * PANEL + 2 * lane));
                    let less = S::to_floats(S::ints_sub(S::ints(0), mins[token]));
                    acc[token] = S::mul_add(less, S::mul(min, of_token), acc[token]);
                }
            }
            scales = scales.add(kind.bytes());
        }
        acc
    }
}

/// Whether the halves of a group are summed apart: where their scales differ, or to shorten the chain of additions.
#[inline(always)]
const fn dual<F: Format, const T: usize>() -> bool {
    F::PLANES.scales.halves() || T < 4
}

/// What was added to every weight.
#[inline(always)]
const fn offset_of<S: Simd, F: Format>() -> i32 {
    if F::PLANES.bytes {
        S::SIGNED_OFFSET
    } else {
        F::PLANES.offset
    }
}

/// The sums of a group's products, of its first and (where [`dual`]) second half.
#[inline(always)]
unsafe fn dots<S: Simd, F: Format, const T: usize>(
    weights: *const u8,
    quants: *const S::Element,
) -> ([S::Sums; T], [S::Sums; T]) {
    // SAFETY: the caller's promise, see `quantised_tile`.
    unsafe {
        let mut low = [S::no_sums(); T];
        let mut high = [S::no_sums(); T];
        macro_rules! step {
            ($step:expr) => {
                let (first, second) = unpack::<S, F>(weights, $step);
                for token in 0..T {
                    let quants = quants.add(token * GROUP + 4 * $step);
                    low[token] = dot::<S, F>(low[token], first, S::quad(quants));
                    let quad = S::quad(quants.add(16));
                    if dual::<F, T>() {
                        high[token] = dot::<S, F>(high[token], second, quad);
                    } else {
                        low[token] = dot::<S, F>(low[token], second, quad);
                    }
                }
            };
        }
        step!(0);
        step!(1);
        step!(2);
        step!(3);
        (low, high)
    }
}

#[inline(always)]
unsafe fn dot<S: Simd, F: Format>(sums: S::Sums, weights: S::Bytes, quad: S::Quad) -> S::Sums {
    // SAFETY: needs the instructions only.
    unsafe {
        if F::PLANES.bytes {
            S::dot_signed(sums, weights, quad)
        } else {
            S::dot_unsigned(sums, weights, quad)
        }
    }
}

/// The weights of chunks `step` and `step + 4` of a group.
#[inline(always)]
unsafe fn unpack<S: Simd, F: Format>(group: *const u8, step: usize) -> (S::Bytes, S::Bytes) {
    let planes = F::PLANES;
    // SAFETY: the planes of a group follow one another from `group` on; see `layout`.
    unsafe {
        if planes.bytes {
            let at = group.add(step * VECTOR);
            return (S::load(at), S::load(at.add(4 * VECTOR)));
        }
        if !planes.nibbles {
            // 2 or 3 bits.
            let pairs = S::load(group.add(step % 2 * VECTOR));
            let shift = 2 * (step as u32 / 2);
            let first = S::mask(S::shift_right(pairs, shift), 3);
            let second = S::mask(S::shift_right(pairs, shift + 4), 3);
            if !planes.singles {
                return (first, second);
            }
            let singles = S::load(group.add(planes.singles_at()));
            return (
                S::or(first, single::<S>(singles, step as u32, 2)),
                S::or(second, single::<S>(singles, step as u32 + 4, 2)),
            );
        }
        let nibbles = S::load(group.add(step * VECTOR));
        let mut first = S::mask(nibbles, 15);
        let mut second = S::mask(S::shift_right(nibbles, 4), 15);
        if planes.pairs {
            let pairs = S::load(group.add(planes.pairs_at() + step % 2 * VECTOR));
            // Bits 2s and 2s+1 go to bits 4 and 5; the second chunk's lie 4 higher.
            let up = 4 - 2 * (step as u32 / 2);
            first = S::or(first, S::mask(S::shift_left(pairs, up), 0x30));
            second = S::or(second, S::mask(S::shift_right(pairs, 4 - up), 0x30));
        }
        if planes.singles {
            let singles = S::load(group.add(planes.singles_at()));
            first = S::or(first, single::<S>(singles, step as u32, 4));
            second = S::or(second, single::<S>(singles, step as u32 + 4, 4));
        }
        (first, second)
    }
}

/// Bit `from` of every byte, moved to bit `to`.
#[inline(always)]
unsafe fn single<S: Simd>(singles: S::Bytes, from: u32, to: u32) -> S::Bytes {
    // SAFETY: needs the instructions only.
    unsafe {
        let moved = if from > to {
            S::shift_right(singles, from - to)
        } else {
            S::shift_left(singles, to - from)
        };
        S::mask(moved, 1 << to)
    }
}

#[inline(always)]
unsafe fn float<S: Simd, W: Float>(
    weights: &PackedMatrix,
    x: &Activations,
    from: usize,
    to: usize,
    out: Shared<f32>,
) {
    for index in from..to {
        let panel = weights.panel(index).as_ptr();
        let rows = weights.rows() - index * PANEL;
        let mut start = 0;
        while start < x.tokens {
            let tile = next_tile(x.tokens - start, S::TILE);
            // SAFETY: as in `quantised`.
            unsafe {
                let tokens = x.floats.as_ptr().add(start * x.columns);
                let out = out.get().add(start * weights.rows() + index * PANEL);
                with_tile!(
                    tile,
                    float_tile::<S, W>(panel, x.columns, tokens, out, weights.rows(), rows)
                );
            }
            start += tile;
        }
    }
}

/// 16 rows of `columns` floats, stored column by column, times a tile of vectors, also column by column.
///
/// # Safety
/// `panel` holds `columns` x 16 numbers, `tokens` `columns` x T, and `out` has `rows` places every `stride`.
#[inline(always)]
pub(super) unsafe fn float_tile<S: Simd, W: Float, const T: usize>(
    panel: *const u8,
    columns: usize,
    tokens: *const f32,
    out: *mut f32,
    stride: usize,
    rows: usize,
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
    unsafe { deliver(&results, out, stride, rows) }
}
