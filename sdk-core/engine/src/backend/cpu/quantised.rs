//! The product of a panel of quantised weights with a tile of activations.

#![expect(
    unsafe_code,
    clippy::indexing_slicing,
    reason = "kernel: lengths were checked by the caller, and loops over a tile index several arrays at once"
)]

use super::isa::for_each_isa;
use super::layout::{GROUP, Planes, SUPER_GROUPS, VECTOR};
use super::matmul::{Output, deliver};
use super::simd::{PANEL, Simd};
use crate::gguf::DType;

/// A quantised format, as a type, so that every format has a kernel of its own.
pub(super) trait Format {
    const PLANES: Planes;
}

macro_rules! formats {
    ($($name:ident),*) => {$(
        pub(super) struct $name;
        impl Format for $name {
            const PLANES: Planes = match Planes::of(DType::$name) {
                Some(planes) => planes,
                None => panic!("a quantised format"),
            };
        }
    )*};
}
formats!(Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q2K, Q3K, Q4K, Q5K, Q6K);

/// The activations of a tile: see [`Activations`](super::activations::Activations).
#[derive(Clone, Copy)]
pub(super) struct TileData {
    /// Elements of the instruction set's own type.
    pub(super) quants: *const u8,
    pub(super) scales: *const f32,
    pub(super) sums: *const f32,
    pub(super) half_sums: *const i32,
}

for_each_isa! {
    /// # Safety
    /// `panel` has `groups` groups and their scales, `tokens` `groups` groups of T tokens, and `out` its places.
    pub(super) unsafe fn quantised_tile<F: Format, const T: usize>(
        panel: *const u8,
        groups: usize,
        tokens: TileData,
        out: Output,
    ) = quantised_body
}

/// They, with the element's type.
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
unsafe fn quantised_body<S: Simd, F: Format, const T: usize>(
    panel: *const u8,
    groups: usize,
    tokens: TileData,
    out: Output,
) {
    let tokens = Tile::<S> {
        quants: tokens.quants.cast(),
        scales: tokens.scales,
        sums: tokens.sums,
        half_sums: tokens.half_sums,
    };
    let mut results = [[0.0; PANEL]; T];
    let mut lane = 0;
    while lane < PANEL {
        // SAFETY: the panel has `groups` groups and their scales, the tile `groups` groups of T tokens.
        unsafe {
            let sums = if T == 1 && F::PLANES.bytes && S::DOT_BYTES {
                bytes_of_one::<S, F, T>(panel, groups, tokens, lane)
            } else if F::PLANES.scales.is_super() {
                super_blocks::<S, F, T>(panel, groups, tokens, lane)
            } else {
                blocks::<S, F, T>(panel, groups, tokens, lane)
            };
            for (part, sums) in sums.iter().enumerate().take(parts::<S, T>()) {
                for token in 0..T {
                    let to = results[token].as_mut_ptr().add(lane + part * S::LANES);
                    S::store(sums[token], to);
                }
            }
        }
        lane += S::LANES * parts::<S, T>();
    }
    // SAFETY: the caller's promise.
    unsafe { deliver(&results, out) }
}

/// Vectors of rows that make up a panel at most.
const MOST_PARTS: usize = 4;

/// Vectors of rows that are computed in one pass over a panel. One token is as fast as memory is: all of them, so that a
/// panel is read once, from its beginning to its end. Several tokens fill the registers with one.
#[inline(always)]
const fn parts<S: Simd, const T: usize>() -> usize {
    let all = PANEL / S::LANES;
    if T == 1 && all <= MOST_PARTS { all } else { 1 }
}

/// Formats with one scale per group.
#[inline(always)]
unsafe fn blocks<S: Simd, F: Format, const T: usize>(
    panel: *const u8,
    groups: usize,
    tokens: Tile<S>,
    lane: usize,
) -> [[S::Floats; T]; MOST_PARTS] {
    // SAFETY: the caller's promise, see `quantised_tile`.
    unsafe {
        let planes = F::PLANES;
        let mut acc = [[S::floats(0.0); T]; MOST_PARTS];
        let mut weights = panel.add(4 * lane);
        let mut scales = panel.add(groups * planes.group_bytes() + 2 * lane);
        let mut tokens = tokens;
        // Pointers move by constants: no multiplication, and none whose overflow would have to be checked.
        for _ in 0..groups {
            for part in 0..parts::<S, T>() {
                let acc = &mut acc[part];
                let scales = scales.add(2 * S::LANES * part);
                let (low, high) = dots::<S, F, T>(weights.add(4 * S::LANES * part), tokens.quants);
                let scale = S::load_f16(scales);
                for token in 0..T {
                    let mut total = total::<S, F>(low[token]);
                    if dual::<F, T>() {
                        total = S::ints_add(total, self::total::<S, F>(high[token]));
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
            }
            weights = weights.add(planes.group_bytes());
            scales = scales.add(planes.scales.bytes());
            tokens = tokens.next_group::<T>();
        }
        acc
    }
}

/// Whole bytes, for one token: its activations are prepared once for all rows of the panel.
#[inline(always)]
unsafe fn bytes_of_one<S: Simd, F: Format, const T: usize>(
    panel: *const u8,
    groups: usize,
    tokens: Tile<S>,
    lane: usize,
) -> [[S::Floats; T]; MOST_PARTS] {
    // SAFETY: the caller's promise, see `quantised_tile`.
    unsafe {
        let planes = F::PLANES;
        let mut acc = [[S::floats(0.0); T]; MOST_PARTS];
        let mut weights = panel.add(4 * lane);
        let mut scales = panel.add(groups * planes.group_bytes() + 2 * lane);
        let mut tokens = tokens;
        for _ in 0..groups {
            let mut totals = [S::ints(0); MOST_PARTS];
            macro_rules! chunk {
                ($($chunk:expr),*) => {$(
                    let split = S::split(S::quad(tokens.quants.add(4 * $chunk)));
                    for part in 0..parts::<S, T>() {
                        let weights = S::load(weights.add($chunk * VECTOR + 4 * S::LANES * part));
                        totals[part] = S::dot_bytes(totals[part], weights, split);
                    }
                )*};
            }
            chunk!(0, 1, 2, 3, 4, 5, 6, 7);
            for part in 0..parts::<S, T>() {
                let scale = S::load_f16(scales.add(2 * S::LANES * part));
                let scale = S::mul(scale, S::floats(*tokens.scales));
                acc[part][0] = S::mul_add(S::to_floats(totals[part]), scale, acc[part][0]);
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
) -> [[S::Floats; T]; MOST_PARTS] {
    // SAFETY: the caller's promise, see `quantised_tile`.
    unsafe {
        let planes = F::PLANES;
        let kind = planes.scales;
        let mut acc = [[S::floats(0.0); T]; MOST_PARTS];
        let mut weights = panel.add(4 * lane);
        let mut scales = panel.add(groups * planes.group_bytes());
        let mut tokens = tokens;
        for _ in 0..groups / SUPER_GROUPS {
            let of_block = tokens;
            let mut subs = scales.add(if kind.has_min() { 4 * PANEL } else { 2 * PANEL } + lane);
            let mut totals = [[S::ints(0); T]; MOST_PARTS];
            let mut mins = [[S::ints(0); T]; MOST_PARTS];
            for _ in 0..SUPER_GROUPS {
                for part in 0..parts::<S, T>() {
                    let (low, high) = dots::<S, F, T>(weights.add(4 * S::LANES * part), tokens.quants);
                    let subs = subs.add(S::LANES * part);
                    add_group::<S, F, T>(low, high, subs, tokens, &mut totals[part], &mut mins[part]);
                }
                weights = weights.add(planes.group_bytes());
                subs = subs.add(2 * PANEL);
                tokens = tokens.next_group::<T>();
            }
            for part in 0..parts::<S, T>() {
                let scales = scales.add(2 * (lane + S::LANES * part));
                let acc = &mut acc[part];
                let scale = S::load_f16(scales);
                for token in 0..T {
                    let of_token = S::floats(*of_block.scales.add(token));
                    let total = S::to_floats(totals[part][token]);
                    acc[token] = S::mul_add(total, S::mul(scale, of_token), acc[token]);
                    if kind.has_min() {
                        let min = S::load_f16(scales.add(2 * PANEL));
                        let less = S::to_floats(S::ints_sub(S::ints(0), mins[part][token]));
                        acc[token] = S::mul_add(less, S::mul(min, of_token), acc[token]);
                    }
                }
            }
            scales = scales.add(kind.bytes());
        }
        acc
    }
}

/// Adds the products of a group, times its own small scales.
#[inline(always)]
unsafe fn add_group<S: Simd, F: Format, const T: usize>(
    low: [S::Sums; T],
    high: [S::Sums; T],
    subs: *const u8,
    tokens: Tile<S>,
    totals: &mut [S::Ints; T],
    mins: &mut [S::Ints; T],
) {
    let kind = F::PLANES.scales;
    // SAFETY: the caller's promise, see `quantised_tile`.
    unsafe {
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
                        let offset = S::ints(sum.wrapping_mul(F::PLANES.offset));
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

/// Products of the largest weight and the largest activation, side by side in pairs, that fit into a sum of 16 bits.
const fn most_pairs(planes: Planes) -> usize {
    let largest = if planes.pairs && planes.nibbles {
        63
    } else if planes.nibbles {
        if planes.singles { 31 } else { 15 }
    } else {
        7
    };
    i16::MAX as usize / (2 * 127 * largest)
}

/// Whether sums of 16 bits could overflow in this step of a group; widening is exact, and nothing where sums are wide.
#[inline(always)]
const fn widens_before<F: Format, const T: usize>(step: usize) -> bool {
    if F::PLANES.bytes {
        return false; // The halves of a byte are as small as nibbles: 8 steps fit.
    }
    let per_step = if dual::<F, T>() { 1 } else { 2 };
    let steps = most_pairs(F::PLANES) / per_step;
    step > 0 && step.is_multiple_of(steps)
}

#[inline(always)]
unsafe fn total<S: Simd, F: Format>(sums: S::Sums) -> S::Ints {
    // SAFETY: needs the instructions only.
    unsafe {
        if F::PLANES.bytes {
            S::total_signed(sums)
        } else {
            S::total(sums)
        }
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
                    if widens_before::<F, T>($step) {
                        low[token] = S::widen(low[token]);
                        high[token] = S::widen(high[token]);
                    }
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
