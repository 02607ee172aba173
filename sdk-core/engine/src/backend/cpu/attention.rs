//! Attention over KV caches: who computes what, and how the parts come together.
//!
//! Positions are weighed in spans of 64, each with a largest score and a sum of its own, and the spans of a query are
//! joined from first to last (Milakov & Gimelshein 2018; Dao et al. 2022). So the buffers do not grow with the context,
//! and a query's result does not depend on how spans and queries are shared out: it is the same to the bit in prefill and
//! decode, on one thread or many, alone or beside other sequences.

#![expect(
    unsafe_code,
    clippy::indexing_slicing,
    reason = "kernel: lengths are checked on entry, and indices follow from them"
)]

use kwaainet_platform::Parallel;

use super::attention_kernel::{SPAN, TILE, Task, attend_spans, join};
use super::isa::Isa;
use super::kv_cache::{KvCache, zeros};
use super::matmul::Shared;
use super::simd::PANEL;

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

impl Heads {
    /// The first position that is seen from `position`.
    #[inline(always)]
    pub(super) fn first_seen(&self, position: usize) -> usize {
        self.window
            .map_or(0, |window| (position + 1).saturating_sub(window))
    }

    /// Queries that share a key.
    pub(super) const fn share(&self) -> usize {
        self.queries / self.kv
    }
}

/// Consecutive positions of one sequence, whose keys and values are in its cache.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sequence<'a> {
    pub(crate) cache: &'a KvCache,
    pub(crate) first: usize,
    pub(crate) tokens: usize,
}

/// Most queries of a KV head that are computed together: each span is unpacked once for all of them.
pub(super) const GROUP: usize = 8 * TILE;
/// Pieces of work per thread: one that is held up elsewhere does not hold up all.
const PIECES: usize = 4;
/// Most tokens whose spans are shared out among threads.
const MOST_SPLIT: usize = 8;
/// What is too small to be worth waking another thread, in multiplications.
const SMALL: usize = 1 << 16;

/// Buffers of attention: a part for each piece that runs at the same time, and results of single spans.
#[derive(Debug)]
pub(crate) struct AttentionScratch {
    parts: Vec<f32>,
    part: usize,
    pieces: usize,
    spans: Vec<f32>,
}

/// Numbers of a query's result: sums, the largest score, the sum of weights.
pub(super) const fn state_len(head_len: usize) -> usize {
    head_len.next_multiple_of(PANEL) + PANEL
}

/// Numbers in a part: queries and their state, unpacked keys and values, and what a tile needs.
const fn part_len(head_len: usize) -> u64 {
    let state = state_len(head_len) as u64;
    GROUP as u64 * (head_len as u64 + state) + 2 * SPAN as u64 * state + TILE as u64 * (SPAN as u64 + state)
}

const fn piece_count(width: usize) -> usize {
    if width > 1 { width * PIECES } else { 1 }
}

/// Numbers for the spans of a few tokens; one thread needs none.
const fn spans_len(context: usize, queries: usize, head_len: usize, width: usize) -> u64 {
    if width <= 1 {
        return 0;
    }
    let spans = MOST_SPLIT as u64 * context.div_ceil(SPAN) as u64;
    (spans * queries as u64).saturating_mul(state_len(head_len) as u64)
}

impl AttentionScratch {
    /// Bytes for a context of that length.
    pub(crate) const fn bytes(context: usize, queries: usize, head_len: usize, width: usize) -> u64 {
        let parts = part_len(head_len) * piece_count(width) as u64;
        parts
            .saturating_add(spans_len(context, queries, head_len, width))
            .saturating_mul(4)
    }

    pub(crate) fn new(context: usize, queries: usize, head_len: usize, width: usize) -> Option<Self> {
        let (part, pieces) = (part_len(head_len), piece_count(width));
        Some(Self {
            parts: zeros(part * pieces as u64)?,
            part: usize::try_from(part).ok()?,
            pieces,
            spans: zeros(spans_len(context, queries, head_len, width))?,
        })
    }
}

/// `out[token][head] = sum over positions of softmax(q . k * scale) v` (Vaswani et al. 2017). `queries` are those of the
/// sequences, one behind the other.
pub(crate) fn attend(
    isa: Isa,
    parallel: &dyn Parallel,
    heads: Heads,
    sequences: &[Sequence<'_>],
    queries: &[f32],
    scratch: &mut AttentionScratch,
    out: &mut [f32],
) {
    let token_len = heads.queries * heads.len;
    let tokens: usize = sequences.iter().map(|sequence| sequence.tokens).sum();
    assert!(
        queries.len() == tokens * token_len && out.len() >= queries.len(),
        "whole tokens"
    );
    assert!(
        scratch.part as u64 >= part_len(heads.len),
        "buffers of this model"
    );
    assert!(
        heads.queries.is_multiple_of(heads.kv),
        "queries share keys evenly"
    );
    let mut work = 0;
    for Sequence { cache, first, tokens } in sequences {
        assert!(first + tokens <= cache.capacity, "within the context");
        assert!(
            heads.kv == cache.kv_heads && heads.len == cache.head_len,
            "the cache of this model"
        );
        work += heads.queries * tokens * (first + tokens) * heads.len;
    }
    let pieces = if work < SMALL { 1 } else { scratch.pieces };
    let plan = Plan {
        heads,
        sequences,
        queries,
        out: Shared(out.as_mut_ptr()),
    };
    let split = pieces > 1 && tokens <= MOST_SPLIT;
    let tasks = if split {
        plan.by_span(&mut scratch.spans, pieces)
    } else {
        plan.by_query(pieces)
    };
    let (parts, part) = (Shared(scratch.parts.as_mut_ptr()), scratch.part);
    let run = |piece: usize| {
        let (from, to) = (tasks.len() * piece / pieces, tasks.len() * (piece + 1) / pieces);
        for task in &tasks[from..to] {
            // SAFETY: sizes were checked above; tasks have disjoint results, pieces disjoint buffers.
            unsafe { attend_spans(isa, heads, *task, Shared(parts.get().add(piece * part))) }
        }
    };
    if pieces == 1 {
        run(0);
    } else {
        parallel.run(pieces, &run);
    }
    if split {
        plan.join_spans(isa, &tasks);
    }
}

/// A call of attention, to be cut into tasks.
struct Plan<'a> {
    heads: Heads,
    sequences: &'a [Sequence<'a>],
    queries: &'a [f32],
    out: Shared<f32>,
}

impl<'a> Plan<'a> {
    /// Tasks that have all their queries' spans, each writing its results.
    fn by_query(&self, pieces: usize) -> Vec<Task<'a>> {
        let all: usize = self.sequences.iter().map(|sequence| sequence.tokens).sum();
        let group = (all * self.heads.queries / pieces).next_multiple_of(TILE);
        let group = group.clamp(TILE, GROUP);
        let mut tasks = Vec::new();
        self.for_each_head(|whole| {
            let mut at = 0;
            while at < whole.count {
                let count = group.min(whole.count - at);
                let task = Task { at, count, ..whole };
                let (from, to) = task.seen(&self.heads);
                tasks.push(Task { from, to, ..task });
                at += count;
            }
        });
        tasks
    }

    /// Tasks that have some spans each, whose results are joined by [`Self::join_spans`].
    fn by_span(&self, buffer: &mut [f32], pieces: usize) -> Vec<Task<'a>> {
        let mut total = 0;
        self.for_each_head(|whole| {
            let (from, to) = whole.seen(&self.heads);
            total += to - from;
        });
        let run = total.div_ceil(pieces).max(1);
        let (state, mut used) = (state_len(self.heads.len), 0);
        let mut tasks = Vec::new();
        self.for_each_head(|whole| {
            let (mut from, last) = whole.seen(&self.heads);
            while from < last {
                let to = last.min(from + run);
                let len = (to - from) * whole.count * state;
                let spans = Shared(buffer[used..][..len].as_mut_ptr());
                used += len;
                let spans = Some(spans);
                tasks.push(Task {
                    from,
                    to,
                    spans,
                    ..whole
                });
                from = to;
            }
        });
        tasks
    }

    /// Calls `take` with a task for all queries of each KV head of each sequence.
    fn for_each_head(&self, mut take: impl FnMut(Task<'a>)) {
        let token_len = self.heads.queries * self.heads.len;
        let mut start = 0;
        for sequence in self.sequences {
            for kv_head in 0..self.heads.kv {
                take(Task {
                    sequence: *sequence,
                    kv_head,
                    at: 0,
                    count: sequence.tokens * self.heads.share(),
                    from: 0,
                    to: 0,
                    queries: &self.queries[start..],
                    // In bounds: `attend` checked that there is room for all tokens.
                    out: Shared(self.out.get().wrapping_add(start)),
                    spans: None,
                });
            }
            start += sequence.tokens * token_len;
        }
    }

    /// Joins what the tasks of [`Self::by_span`] left: tasks of the same head follow one another.
    fn join_spans(&self, isa: Isa, tasks: &[Task<'_>]) {
        let same = |a: &Task<'_>, b: &Task<'_>| a.out.get() == b.out.get() && a.kv_head == b.kv_head;
        for tasks in tasks.chunk_by(same) {
            // SAFETY: every task has written the states of all its spans and queries.
            unsafe { join(isa, self.heads, tasks) }
        }
    }
}
