//! Attention of some queries over some spans of positions, compiled for each instruction set.

#![expect(
    unsafe_code,
    clippy::indexing_slicing,
    clippy::needless_range_loop,
    reason = "kernel: lengths are checked by `attend`, and indices follow from them; iterators are not always inlined"
)]

use super::attention::{GROUP, Heads, Sequence, state_len};
use super::float::{F16, F32, Float, FloatPanels, Vectors, float_body};
use super::isa::{Isa, for_each_isa};
pub(super) use super::kv_cache::SPAN;
use super::matmul::{Output, Shared};
use super::ops::{exp, sum_lanes};
use super::simd::{PANEL, Simd};

/// Queries that are computed together at most.
pub(super) const TILE: usize = 6;
/// Queries that read keys and values as they are stored: for more, unpacking them once costs less.
const DIRECT: usize = 4;

/// Some queries of a KV head, counted token by token, and some of the spans that they see.
#[derive(Clone, Copy)]
pub(super) struct Task<'a> {
    pub(super) sequence: Sequence<'a>,
    pub(super) kv_head: usize,
    pub(super) at: usize,
    pub(super) count: usize,
    pub(super) from: usize,
    pub(super) to: usize,
    /// Of the sequence: `[token][head][element]`.
    pub(super) queries: &'a [f32],
    /// Likewise.
    pub(super) out: Shared<f32>,
    /// Where the states of single spans go, `[span][query]`; without it the task has all spans and joins them itself.
    pub(super) spans: Option<Shared<f32>>,
}

impl Task<'_> {
    /// The spans that its queries see.
    pub(super) fn seen(&self, heads: &Heads) -> (usize, usize) {
        let first = heads.first_seen(self.position(heads, 0));
        let last = self.position(heads, self.count - 1);
        (first / SPAN, last / SPAN + 1)
    }

    /// The position of a query's token.
    #[inline(always)]
    fn position(&self, heads: &Heads, query: usize) -> usize {
        self.sequence.first + (self.at + query) / heads.share()
    }

    /// The positions of the first queries; a table, because divisions would cost as much as a tile's products.
    #[inline(always)]
    fn positions(&self, heads: &Heads) -> [usize; GROUP] {
        let share = heads.share();
        let (mut position, mut within) = (self.position(heads, 0), self.at % share);
        let mut positions = [0; GROUP];
        for of_query in &mut positions {
            *of_query = position;
            within += 1;
            if within == share {
                (position, within) = (position + 1, 0);
            }
        }
        positions
    }

    /// Where a query's numbers lie in those of the sequence.
    #[inline(always)]
    fn offset(&self, heads: &Heads, query: usize) -> usize {
        let (token, head) = (
            (self.at + query) / heads.share(),
            (self.at + query) % heads.share(),
        );
        (token * heads.queries + self.kv_head * heads.share() + head) * heads.len
    }
}

/// Sums over some positions: `sum of e^((score - largest) scale) value`, and of the weights alone.
struct State<'a> {
    sums: &'a mut [f32],
    largest: f32,
    weight: f32,
}

impl<'a> State<'a> {
    /// # Safety
    /// `at` has `state_len` numbers that nobody else uses.
    #[inline(always)]
    unsafe fn read(at: *mut f32, head_len: usize) -> Self {
        let len = head_len.next_multiple_of(PANEL);
        // SAFETY: the caller's promise.
        unsafe {
            Self {
                sums: std::slice::from_raw_parts_mut(at, len),
                largest: *at.add(len),
                weight: *at.add(len + 1),
            }
        }
    }

    /// # Safety
    /// As [`Self::read`].
    #[inline(always)]
    unsafe fn write(&mut self) {
        // SAFETY: the numbers behind the sums, see `read`.
        unsafe {
            let at = self.sums.as_mut_ptr().add(self.sums.len());
            *at = self.largest;
            *at.add(1) = self.weight;
        }
    }

    /// Takes in the positions that follow.
    #[inline(always)]
    fn add(&mut self, next: &State<'_>, scale: f32) {
        if next.weight == 0.0 {
            return; // sees none of them
        }
        if self.weight == 0.0 {
            self.sums.copy_from_slice(next.sums);
            (self.largest, self.weight) = (next.largest, next.weight);
            return;
        }
        let largest = self.largest.max(next.largest);
        let mine = exp((self.largest - largest) * scale);
        let theirs = exp((next.largest - largest) * scale);
        for at in 0..self.sums.len().min(next.sums.len()) {
            self.sums[at] = self.sums[at] * mine + next.sums[at] * theirs;
        }
        self.weight = self.weight * mine + next.weight * theirs;
        self.largest = largest;
    }
}

/// The buffers of a task; see `part_len`.
struct Buffers {
    queries: *mut f32,
    states: *mut f32,
    keys: *mut f32,
    values: *mut f32,
    scores: *mut f32,
    results: *mut f32,
}

impl Buffers {
    #[inline(always)]
    unsafe fn at(part: *mut f32, head_len: usize) -> Self {
        let state = state_len(head_len);
        // SAFETY: `part_len` adds these up.
        unsafe {
            let states = part.add(GROUP * head_len);
            let keys = states.add(GROUP * state);
            let values = keys.add(SPAN * state);
            let scores = values.add(SPAN * state);
            Self {
                queries: part,
                states,
                keys,
                values,
                scores,
                results: scores.add(TILE * SPAN),
            }
        }
    }
}

/// The next tile's queries.
const fn next_tile(left: usize) -> usize {
    match left {
        0..=4 => left,
        5 => 3,
        _ => TILE,
    }
}

/// Computes a task.
///
/// # Safety
/// Lengths were checked by `attend`; nobody else uses this part, or writes these results.
pub(super) unsafe fn attend_spans(isa: Isa, heads: Heads, task: Task<'_>, part: Shared<f32>) {
    let (len, state) = (heads.len, state_len(heads.len));
    // A few queries of one token are never more than a group: `by_span` has 8 tokens at most, and takes them in turns.
    let mut at = 0;
    while at < task.count {
        let count = GROUP.min(task.count - at);
        let group = Task {
            at: task.at + at,
            count,
            ..task
        };
        // SAFETY: the caller's promise, and `part_len`.
        unsafe {
            let buffers = Buffers::at(part.get(), len);
            transpose(heads, &group, &buffers);
            for query in 0..count {
                *buffers.states.add(query * state + state - PANEL + 1) = 0.0;
            }
            let positions = &group.positions(&heads)[..count];
            for span in task.from..task.to {
                let to = match task.spans {
                    Some(spans) => spans.get().add(((span - task.from) * task.count + at) * state),
                    None => buffers.states,
                };
                attend_span(isa, heads, &group, positions, &buffers, span, to);
            }
            if task.spans.is_none() {
                for query in 0..count {
                    let result = State::read(buffers.states.add(query * state), len);
                    let to = group.out.get().add(group.offset(&heads, query));
                    deliver(&result, to, len);
                }
            }
        }
        at += count;
    }
}

/// Puts the queries of each tile side by side: `[element][query]`.
unsafe fn transpose(heads: Heads, group: &Task<'_>, buffers: &Buffers) {
    let mut at = 0;
    while at < group.count {
        let tile = next_tile(group.count - at);
        for query in 0..tile {
            let from = &group.queries[group.offset(&heads, at + query)..][..heads.len];
            for (element, value) in from.iter().enumerate() {
                // SAFETY: there is room for a group.
                unsafe { *buffers.queries.add(at * heads.len + element * tile + query) = *value }
            }
        }
        at += tile;
    }
}

unsafe fn deliver(result: &State<'_>, to: *mut f32, len: usize) {
    let inverse = 1.0 / result.weight;
    for (element, sum) in result.sums.iter().enumerate().take(len) {
        // SAFETY: the query's place among the results, which is nobody else's.
        unsafe { *to.add(element) = sum * inverse }
    }
}

/// A group's part in one span: joined to its states, or written apart.
unsafe fn attend_span(
    isa: Isa,
    heads: Heads,
    group: &Task<'_>,
    positions: &[usize],
    buffers: &Buffers,
    span: usize,
    states: *mut f32,
) {
    let cache = group.sequence.cache;
    let (len, start) = (heads.len, span * SPAN);
    let end = (start + SPAN).min(positions[positions.len() - 1] + 1);
    let stored = (end - start).next_multiple_of(PANEL);
    let halves = (
        cache.key_halves(group.kv_head, span),
        cache.value_halves(group.kv_head, span),
    );
    // SAFETY: the cache has these positions, in whole panels; the buffers have room for a span.
    unsafe {
        match halves {
            (Some(keys), Some(values)) if group.count <= DIRECT => {
                let span_of = Stored {
                    start,
                    keys,
                    values,
                    value_panel: SPAN * PANEL * F16::BYTES,
                };
                tiles::<F16>(
                    isa,
                    heads,
                    group.spans.is_some(),
                    positions,
                    buffers,
                    span_of,
                    states,
                );
            }
            _ => {
                let keys = std::slice::from_raw_parts_mut(buffers.keys, stored * len);
                cache.unpack_keys(isa, group.kv_head, span, stored, keys);
                let padded = len.next_multiple_of(PANEL);
                let values = std::slice::from_raw_parts_mut(buffers.values, stored * padded);
                cache.unpack_values(isa, group.kv_head, span, stored, values);
                let span_of = Stored {
                    start,
                    keys: keys.as_ptr().cast(),
                    values: values.as_ptr().cast(),
                    value_panel: stored * PANEL * F32::BYTES,
                };
                tiles::<F32>(
                    isa,
                    heads,
                    group.spans.is_some(),
                    positions,
                    buffers,
                    span_of,
                    states,
                );
            }
        }
    }
}

/// Keys and values of a span.
#[derive(Clone, Copy)]
struct Stored {
    /// The first position.
    start: usize,
    keys: *const u8,
    values: *const u8,
    /// Bytes from one panel of values to the next.
    value_panel: usize,
}

/// All tiles of a group in one span: joined to the states, or put there.
unsafe fn tiles<W: Float>(
    isa: Isa,
    heads: Heads,
    apart: bool,
    positions: &[usize],
    buffers: &Buffers,
    stored: Stored,
    states: *mut f32,
) {
    let state = state_len(heads.len);
    let mut at = 0;
    while at < positions.len() {
        let tile = next_tile(positions.len() - at);
        let of_tile = &positions[at..][..tile];
        // SAFETY: the caller's promise.
        unsafe {
            let queries = buffers.queries.add(at * heads.len);
            let states = Shared(states.add(at * state));
            match tile {
                6 => attend_tile::<W, 6>(isa, heads, of_tile, buffers, queries, stored, states, apart),
                4 => attend_tile::<W, 4>(isa, heads, of_tile, buffers, queries, stored, states, apart),
                3 => attend_tile::<W, 3>(isa, heads, of_tile, buffers, queries, stored, states, apart),
                2 => attend_tile::<W, 2>(isa, heads, of_tile, buffers, queries, stored, states, apart),
                _ => attend_tile::<W, 1>(isa, heads, of_tile, buffers, queries, stored, states, apart),
            }
        }
        at += tile;
    }
}

for_each_isa! {
    /// T queries in one span: joined to their states, or, if they are to stay apart, put there.
    ///
    /// # Safety
    /// As [`attend_spans`].
    #[inline(never)]
    unsafe fn attend_tile<W: Float, const T: usize>(
        heads: Heads,
        positions: &[usize],
        buffers: &Buffers,
        queries: *const f32,
        stored: Stored,
        states: Shared<f32>,
        apart: bool,
    ) = attend_tile_body
}

#[inline(always)]
unsafe fn attend_tile_body<S: Simd, W: Float, const T: usize>(
    heads: Heads,
    positions: &[usize],
    buffers: &Buffers,
    queries: *const f32,
    stored: Stored,
    states: Shared<f32>,
    apart: bool,
) {
    let state = state_len(heads.len);
    // SAFETY: the caller's promise; there are states for all queries.
    unsafe {
        let weighed = weigh_tile::<S, W, T>(heads, positions, buffers, queries, stored);
        for query in 0..T {
            let mut next = State::read(buffers.results.add(query * state), heads.len);
            (next.largest, next.weight) = weighed[query];
            let mut to = State::read(states.get().add(query * state), heads.len);
            if apart {
                to.weight = 0.0;
            }
            to.add(&next, heads.scale);
            to.write();
        }
    }
}

/// Puts the sums of T queries into `buffers.results`; returns their largest scores and sums of weights.
#[inline(always)]
unsafe fn weigh_tile<S: Simd, W: Float, const T: usize>(
    heads: Heads,
    positions: &[usize],
    buffers: &Buffers,
    queries: *const f32,
    stored: Stored,
) -> [(f32, f32); T] {
    let mut weighed = [(0.0, 0.0); T];
    let (len, start, last) = (heads.len, stored.start, positions[T - 1]);
    if last < start || heads.first_seen(positions[0]) >= start + SPAN {
        return weighed;
    }
    // All queries of the tile work on the same positions, in whole panels; what a query must not see weighs 0.
    let panels = (SPAN.min(last + 1 - start)).div_ceil(PANEL);
    // SAFETY: the span has these panels; there is room for scores and results of a tile.
    unsafe {
        let scores = std::slice::from_raw_parts_mut(buffers.scores, TILE * SPAN);
        let keys = FloatPanels {
            at: stored.keys,
            panel_bytes: len * PANEL * W::BYTES,
            count: panels,
            columns: len,
        };
        let queries = Vectors {
            at: queries,
            token_step: 1,
            column_step: T,
        };
        let out = Output {
            to: scores.as_mut_ptr(),
            stride: SPAN,
            rows: SPAN,
        };
        float_body::<S, W, T>(keys, queries, out);
        for (query, scores) in scores.as_chunks_mut::<SPAN>().0.iter_mut().enumerate().take(T) {
            let position = positions[query];
            let from = heads.first_seen(position).saturating_sub(start).min(SPAN);
            let to = (position + 1).saturating_sub(start).min(SPAN);
            weighed[query] = weigh(scores, from..to.max(from), heads.scale);
        }
        let values = FloatPanels {
            at: stored.values,
            panel_bytes: stored.value_panel,
            count: len.div_ceil(PANEL),
            columns: panels * PANEL,
        };
        let weights = Vectors {
            at: scores.as_ptr(),
            token_step: SPAN,
            column_step: 1,
        };
        let state = state_len(len);
        let out = Output {
            to: buffers.results,
            stride: state,
            rows: state,
        };
        float_body::<S, W, T>(values, weights, out);
    }
    weighed
}

/// Replaces scores by their weights, `e^((score - largest) scale)` within `valid` and 0 elsewhere; returns the largest
/// score and the sum of the weights.
#[inline(always)]
fn weigh(scores: &mut [f32; SPAN], valid: std::ops::Range<usize>, scale: f32) -> (f32, f32) {
    if valid.is_empty() {
        scores.fill(0.0);
        return (0.0, 0.0);
    }
    scores[..valid.start].fill(f32::NEG_INFINITY);
    scores[valid.end..].fill(f32::NEG_INFINITY);
    let mut lanes = [f32::NEG_INFINITY; PANEL];
    for piece in scores.as_chunks::<PANEL>().0 {
        for lane in 0..PANEL {
            lanes[lane] = if piece[lane] > lanes[lane] {
                piece[lane]
            } else {
                lanes[lane]
            };
        }
    }
    let largest = lanes.into_iter().fold(f32::NEG_INFINITY, f32::max);
    for score in scores.iter_mut() {
        *score = exp((*score - largest) * scale);
    }
    scores[..valid.start].fill(0.0);
    scores[valid.end..].fill(0.0);
    let mut sums = [0.0; PANEL];
    for piece in scores.as_chunks::<PANEL>().0 {
        for lane in 0..PANEL {
            sums[lane] += piece[lane];
        }
    }
    (largest, sum_lanes(sums))
}

for_each_isa! {
    /// Joins the states that tasks of one head left, from the first span to the last.
    ///
    /// # Safety
    /// The tasks have all spans of the head's queries in order, and their states were written.
    pub(super) unsafe fn join(heads: Heads, tasks: &[Task<'_>]) = join_body
}

#[inline(always)]
unsafe fn join_body<S: Simd>(heads: Heads, tasks: &[Task<'_>]) {
    let (len, state) = (heads.len, state_len(heads.len));
    let Some(first) = tasks.first() else { return };
    for query in 0..first.count {
        let mut joined: Option<State<'_>> = None;
        for task in tasks {
            let Some(spans) = task.spans else { return };
            for span in 0..task.to - task.from {
                // SAFETY: the caller's promise; every state is looked at once.
                unsafe {
                    let next = State::read(spans.get().add((span * task.count + query) * state), len);
                    match &mut joined {
                        Some(joined) => joined.add(&next, heads.scale),
                        None => joined = Some(next),
                    }
                }
            }
        }
        if let Some(joined) = joined {
            // SAFETY: the query's place among the results.
            unsafe { deliver(&joined, first.out.get().add(first.offset(&heads, query)), len) }
        }
    }
}
