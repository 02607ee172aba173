//! Attention over a KV cache that lies in the panels of the matrix kernels, as f16.
//!
//! Keys are panels of 16 positions, values panels of 16 elements of a head. So both products of attention are the
//! product that float weights have, and no sum runs across lanes.

#![expect(
    unsafe_code,
    clippy::indexing_slicing,
    reason = "kernel: lengths are checked on entry, and indices follow from them"
)]

use kwaainet_platform::Parallel;

use super::activations::next_tile;
use super::float::{F16, Float, float_body};
use super::half::f32_to_f16;
use super::isa::{Isa, for_each_isa};
use super::matmul::{Output, Shared};
use super::ops::softmax;
use super::simd::{PANEL, Simd};

/// The shape of attention in one layer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heads {
    pub(crate) queries: usize,
    pub(crate) kv: usize,
    pub(crate) len: usize,
    pub(crate) scale: f32,
    /// Tokens that a query sees, itself included.
    pub(crate) window: Option<usize>,
}

/// Keys and values of one layer.
#[derive(Debug)]
pub(crate) struct KvCache {
    /// `[kv head][position / 16][element][position % 16]`.
    keys: Vec<u16>,
    /// `[kv head][element / 16][position][element % 16]`.
    values: Vec<u16>,
    /// A multiple of 16.
    capacity: usize,
    kv_heads: usize,
    head_len: usize,
}

/// Numbers in the cache of a layer: keys and values. In 64 bits, because a file may claim anything.
const fn sizes(positions: usize, kv_heads: usize, head_len: usize) -> (u64, u64) {
    let heads = (positions as u64).next_multiple_of(PANEL as u64) * kv_heads as u64;
    (
        heads.saturating_mul(head_len as u64),
        heads.saturating_mul((head_len as u64).next_multiple_of(PANEL as u64)),
    )
}

/// A buffer of zeros; `None` if there is no memory for it.
fn zeros<T: Copy + Default>(len: u64) -> Option<Vec<T>> {
    let len = usize::try_from(len).ok()?;
    let mut buffer = Vec::new();
    buffer.try_reserve_exact(len).ok()?;
    buffer.resize(len, T::default());
    Some(buffer)
}

impl KvCache {
    /// Bytes of a layer's cache.
    pub(crate) const fn bytes(positions: usize, kv_heads: usize, head_len: usize) -> u64 {
        let (keys, values) = sizes(positions, kv_heads, head_len);
        keys.saturating_add(values).saturating_mul(2)
    }

    /// An empty cache; `None` if there is no memory for it.
    pub(crate) fn new(positions: usize, kv_heads: usize, head_len: usize) -> Option<Self> {
        let (keys, values) = sizes(positions, kv_heads, head_len);
        Some(Self {
            keys: zeros(keys)?,
            values: zeros(values)?,
            capacity: positions.next_multiple_of(PANEL),
            kv_heads,
            head_len,
        })
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.keys.fill(0);
        self.values.fill(0);
    }

    /// Stores keys and values of consecutive positions, and returns whether all are numbers: a half keeps neither
    /// infinity nor, on every machine, NaN.
    pub(crate) fn store(&mut self, first: usize, keys: &[f32], values: &[f32]) -> bool {
        let (len, capacity) = (self.head_len, self.capacity);
        let value_panels = len.div_ceil(PANEL);
        let token_len = self.kv_heads * len;
        for (token, (of_token, values)) in keys
            .chunks_exact(token_len)
            .zip(values.chunks_exact(token_len))
            .enumerate()
        {
            let position = first + token;
            for head in 0..self.kv_heads {
                let at = (head * capacity + position / PANEL * PANEL) * len + position % PANEL;
                let to = self.keys[at..].iter_mut().step_by(PANEL);
                for (to, key) in to.zip(&of_token[head * len..][..len]) {
                    *to = f32_to_f16(*key);
                }
                for (panel, values) in values[head * len..][..len].chunks(PANEL).enumerate() {
                    let at = ((head * value_panels + panel) * capacity + position) * PANEL;
                    for (to, value) in self.values[at..].iter_mut().zip(values) {
                        *to = f32_to_f16(*value);
                    }
                }
            }
        }
        is_finite(keys) && is_finite(values)
    }
}

/// Whether all are numbers. Magnitudes order like their bits, and what is not finite comes last.
fn is_finite(x: &[f32]) -> bool {
    let magnitudes = x.iter().map(|x| x.to_bits() & 0x7fff_ffff);
    magnitudes.fold(0, u32::max) < f32::INFINITY.to_bits()
}

/// Queries that are computed together at most.
const LARGEST_TILE: usize = 8;
/// Pieces of work per thread.
const PIECES: usize = 4;

/// Scratch of attention: one part for each piece that runs at the same time.
#[derive(Debug)]
pub(crate) struct AttentionScratch {
    buffer: Vec<f32>,
    pieces: usize,
    part: usize,
    context: usize,
}

/// Numbers in a part: queries, scores, their transpose, results.
const fn part_len(context: usize, head_len: usize) -> u64 {
    let context = (context as u64).next_multiple_of(PANEL as u64);
    let head_len = (head_len as u64).next_multiple_of(PANEL as u64);
    LARGEST_TILE as u64 * 2 * (head_len + context)
}

const fn piece_count(width: usize) -> usize {
    if width > 1 { width * PIECES } else { 1 }
}

impl AttentionScratch {
    /// Bytes for a context of that length.
    pub(crate) const fn bytes(context: usize, head_len: usize, width: usize) -> u64 {
        4 * part_len(context, head_len) * piece_count(width) as u64
    }

    pub(crate) fn new(context: usize, head_len: usize, width: usize) -> Option<Self> {
        let (part, pieces) = (part_len(context, head_len), piece_count(width));
        Some(Self {
            buffer: zeros(part * pieces as u64)?,
            pieces,
            part: usize::try_from(part).ok()?,
            context,
        })
    }
}

/// One call of attention: the queries of consecutive positions.
#[derive(Clone, Copy)]
struct Call<'a> {
    heads: Heads,
    cache: &'a KvCache,
    /// `[token][head][element]`.
    queries: &'a [f32],
    /// Position of the first token.
    first: usize,
    tokens: usize,
}

/// `out[token][head] = sum over positions of softmax(q . k * scale) v` (Vaswani et al. 2017), for consecutive positions
/// whose keys and values are in the cache.
#[expect(clippy::too_many_arguments, reason = "an operation has operands")]
pub(crate) fn attend(
    isa: Isa,
    parallel: &dyn Parallel,
    heads: Heads,
    cache: &KvCache,
    first: usize,
    queries: &[f32],
    scratch: &mut AttentionScratch,
    out: &mut [f32],
) {
    let token_len = heads.queries * heads.len;
    let tokens = queries.len() / token_len.max(1);
    assert!(
        queries.len() == tokens * token_len && out.len() >= queries.len(),
        "whole tokens"
    );
    assert!(
        first + tokens <= cache.capacity && first + tokens <= scratch.context,
        "within the context"
    );
    assert!(
        heads.kv == cache.kv_heads && heads.len == cache.head_len,
        "the cache of this model"
    );
    assert!(
        heads.queries.is_multiple_of(heads.kv),
        "queries share keys evenly"
    );
    let call = Call {
        heads,
        cache,
        queries,
        first,
        tokens,
    };
    // A piece is a run of the queries of one KV head.
    let per_head = heads.queries / heads.kv * tokens;
    let total = per_head * heads.kv;
    let small = total * (first + tokens) * heads.len < 1 << 16;
    let pieces = if small { 1 } else { scratch.pieces.min(total) };
    let (out, buffer, part) = (
        Shared(out.as_mut_ptr()),
        Shared(scratch.buffer.as_mut_ptr()),
        scratch.part,
    );
    let run = |piece: usize| {
        let (from, to) = (total * piece / pieces, total * (piece + 1) / pieces);
        // SAFETY: sizes were checked above; pieces have disjoint queries, results and scratch.
        unsafe { queries_of(isa, call, from, to, out, Shared(buffer.get().add(piece * part))) }
    };
    if pieces == 1 {
        run(0);
    } else {
        parallel.run(pieces, &run);
    }
}

/// Queries `from` to `to`, counted KV head by KV head.
///
/// # Safety
/// As [`attend_tile`].
unsafe fn queries_of(
    isa: Isa,
    call: Call<'_>,
    from: usize,
    to: usize,
    out: Shared<f32>,
    scratch: Shared<f32>,
) {
    let per_head = call.heads.queries / call.heads.kv * call.tokens;
    let mut at = from;
    while at < to {
        let head = at / per_head;
        let left = to.min((head + 1) * per_head) - at;
        // 2 and 3 are common here: queries that share keys.
        let tile = match next_tile(left, isa.tile()) {
            1 => left.min(3),
            tile => tile,
        };
        let within = at % per_head;
        // SAFETY: the caller's promise.
        unsafe {
            match tile {
                8 => attend_tile::<F16, 8>(isa, call, head, within, out, scratch),
                4 => attend_tile::<F16, 4>(isa, call, head, within, out, scratch),
                3 => attend_tile::<F16, 3>(isa, call, head, within, out, scratch),
                2 => attend_tile::<F16, 2>(isa, call, head, within, out, scratch),
                _ => attend_tile::<F16, 1>(isa, call, head, within, out, scratch),
            }
        }
        at += tile;
    }
}

for_each_isa! {
    /// # Safety
    /// Lengths were checked by [`attend`]; nobody else writes the results of these queries, or this scratch.
    unsafe fn attend_tile<W: Float, const T: usize>(
        call: Call<'_>,
        kv_head: usize,
        at: usize,
        out: Shared<f32>,
        scratch: Shared<f32>,
    ) = attend_body
}

/// Queries `at` to `at + T` of a KV head, counted token by token.
#[inline(always)]
unsafe fn attend_body<S: Simd, W: Float, const T: usize>(
    call: Call<'_>,
    kv_head: usize,
    at: usize,
    out: Shared<f32>,
    scratch: Shared<f32>,
) {
    let Heads {
        len, scale, window, ..
    } = call.heads;
    let cache = call.cache;
    let share = call.heads.queries / call.heads.kv;
    let token_of = |query: usize| (at + query) / share;
    let offset_of = |query: usize| {
        token_of(query) * call.heads.queries * len + (kv_head * share + (at + query) % share) * len
    };
    let first_seen = |query: usize| {
        let position = call.first + token_of(query);
        window.map_or(0, |window| (position + 1).saturating_sub(window))
    };
    // All queries of the tile work on the same positions, in whole panels; what a query must not see weighs 0.
    let start = first_seen(0) / PANEL * PANEL;
    let seen = (call.first + token_of(T - 1) + 1).next_multiple_of(PANEL) - start;
    let padded_len = len.next_multiple_of(PANEL);
    // SAFETY: `part_len` made room for 8 queries, results, and scores and their transpose over the whole context.
    let (queries, results, scores, weights) = unsafe {
        let queries = std::slice::from_raw_parts_mut(scratch.get(), T * len);
        let results = std::slice::from_raw_parts_mut(scratch.get().add(T * padded_len), T * padded_len);
        let scores = scratch.get().add(2 * T * padded_len);
        let weights = std::slice::from_raw_parts_mut(scores.add(T * seen), T * seen);
        (
            queries,
            results,
            std::slice::from_raw_parts_mut(scores, T * seen),
            weights,
        )
    };
    for query in 0..T {
        let from = &call.queries[offset_of(query)..][..len];
        for (element, value) in from.iter().enumerate() {
            queries[element * T + query] = *value;
        }
    }
    let keys = &cache.keys[(kv_head * cache.capacity + start) * len..][..seen * len];
    for panel in 0..seen / PANEL {
        // SAFETY: a panel has 16 x len keys; scores have `seen` places per query.
        unsafe {
            let keys = keys.as_ptr().add(panel * PANEL * len).cast();
            let to = scores.as_mut_ptr().add(panel * PANEL);
            let out = Output {
                to,
                stride: seen,
                rows: PANEL,
            };
            float_body::<S, W, T>(keys, len, queries.as_ptr(), out);
        }
    }
    let mut inverse_sums = [0.0; T];
    for query in 0..T {
        let last = call.first + token_of(query) + 1 - start;
        let scores = &mut scores[query * seen..][..seen];
        let valid = first_seen(query) - start..last;
        inverse_sums[query] = softmax(scores, valid, scale);
        for (position, weight) in scores.iter().enumerate() {
            weights[position * T + query] = *weight;
        }
    }
    let panels = padded_len / PANEL;
    for panel in 0..panels {
        let at = ((kv_head * panels + panel) * cache.capacity + start) * PANEL;
        let values = &cache.values[at..][..seen * PANEL];
        // SAFETY: `seen` positions of 16 values; results have `padded_len` places per query.
        unsafe {
            let to = results.as_mut_ptr().add(panel * PANEL);
            let out = Output {
                to,
                stride: padded_len,
                rows: PANEL,
            };
            float_body::<S, W, T>(values.as_ptr().cast(), seen, weights.as_ptr(), out);
        }
    }
    for query in 0..T {
        // SAFETY: this query's place in the output is nobody else's.
        let to = unsafe { std::slice::from_raw_parts_mut(out.get().add(offset_of(query)), len) };
        for (to, from) in to.iter_mut().zip(&results[query * padded_len..][..len]) {
            *to = from * inverse_sums[query];
        }
    }
}
