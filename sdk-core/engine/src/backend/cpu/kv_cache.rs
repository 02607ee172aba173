//! What a model remembers of a sequence: keys and values, in the panels of the float kernel.
//!
//! Keys are panels of 16 positions, values panels of 16 elements of a head. So both products of attention are the
//! product that float weights have, and no sum runs across lanes.
//!
//! Memory is taken a span of positions at a time, as a sequence grows: most never fill their context.

#![expect(
    unsafe_code,
    clippy::indexing_slicing,
    reason = "kernel: lengths are checked on entry, and indices follow from them"
)]

use super::half::f32_to_f16;
use super::isa::{Isa, for_each_isa};
use super::simd::{PANEL, Simd};
use crate::backend::KvFormat;

/// Numbers, stored one way or the other.
#[derive(Debug)]
enum Numbers {
    F16(Vec<u16>),
    /// Bytes, with a factor for every head of every position: `[kv head][position]`.
    Q8(Vec<i8>, Vec<f32>),
}

impl Numbers {
    fn new(format: KvFormat, len: u64, scales: u64) -> Option<Self> {
        Some(match format {
            KvFormat::F16 => Self::F16(zeros(len)?),
            KvFormat::Q8 => Self::Q8(zeros(len)?, zeros(scales)?),
        })
    }

    fn erase(&mut self) {
        match self {
            Self::F16(numbers) => numbers.fill(0),
            Self::Q8(numbers, scales) => {
                numbers.fill(0);
                scales.fill(0.0);
            }
        }
    }

    /// Stores the numbers of one head of one position at `places`; `scale_at` is the place of their factor.
    #[inline(always)]
    fn store(&mut self, from: &[f32], places: impl Iterator<Item = usize>, scale_at: usize) {
        match self {
            Self::F16(numbers) => {
                for (at, value) in places.zip(from) {
                    numbers[at] = f32_to_f16(*value);
                }
            }
            Self::Q8(numbers, scales) => {
                let largest = from
                    .iter()
                    .fold(0.0_f32, |largest, value| largest.max(value.abs()));
                let scale = largest / 127.0;
                let inverse = if scale > 0.0 { 1.0 / scale } else { 0.0 };
                scales[scale_at] = if scale.is_finite() { scale } else { 0.0 };
                for (at, value) in places.zip(from) {
                    // A cast saturates, so rounding up past 127 does no harm.
                    numbers[at] = (value * inverse).round_ties_even() as i8;
                }
            }
        }
    }
}

/// Positions that are weighed together: their keys and values stay in the first or second cache for a group of queries.
pub(super) const SPAN: usize = 64;

/// Keys and values of a span of positions; positions count from its first.
#[derive(Debug)]
struct Span {
    /// `[kv head][position / 16][element][position % 16]`.
    keys: Numbers,
    /// `[kv head][element / 16][position][element % 16]`.
    values: Numbers,
}

/// Keys and values of one layer.
#[derive(Debug)]
pub(crate) struct KvCache {
    format: KvFormat,
    spans: Vec<Span>,
    /// Most positions.
    pub(super) capacity: usize,
    pub(super) kv_heads: usize,
    pub(super) head_len: usize,
}

/// Numbers in the cache of a layer: keys, values, and heads of positions. In 64 bits, because a file may claim anything.
const fn sizes(positions: usize, kv_heads: usize, head_len: usize) -> (u64, u64, u64) {
    let heads = (positions as u64).next_multiple_of(SPAN as u64) * kv_heads as u64;
    (
        heads.saturating_mul(head_len as u64),
        heads.saturating_mul((head_len as u64).next_multiple_of(PANEL as u64)),
        heads,
    )
}

/// A buffer of zeros; `None` if there is no memory for it.
pub(super) fn zeros<T: Copy + Default>(len: u64) -> Option<Vec<T>> {
    let len = usize::try_from(len).ok()?;
    let mut buffer = Vec::new();
    buffer.try_reserve_exact(len).ok()?;
    buffer.resize(len, T::default());
    Some(buffer)
}

impl KvCache {
    /// Bytes of a layer's cache when it is full.
    pub(crate) const fn bytes(format: KvFormat, positions: usize, kv_heads: usize, head_len: usize) -> u64 {
        let (keys, values, heads) = sizes(positions, kv_heads, head_len);
        let numbers = keys.saturating_add(values);
        match format {
            KvFormat::F16 => numbers.saturating_mul(2),
            KvFormat::Q8 => numbers.saturating_add(heads.saturating_mul(8)),
        }
    }

    /// An empty cache.
    pub(crate) fn new(format: KvFormat, positions: usize, kv_heads: usize, head_len: usize) -> Self {
        Self {
            format,
            spans: Vec::new(),
            capacity: positions,
            kv_heads,
            head_len,
        }
    }

    /// Takes memory for the first `positions`; false if there is none. What is there stays there.
    #[must_use]
    pub(crate) fn reserve(&mut self, positions: usize) -> bool {
        let (keys, values, heads) = sizes(SPAN, self.kv_heads, self.head_len);
        while self.spans.len() < positions.div_ceil(SPAN) {
            let span = Numbers::new(self.format, keys, heads)
                .zip(Numbers::new(self.format, values, heads))
                .map(|(keys, values)| Span { keys, values });
            match span {
                Some(span) if self.spans.try_reserve(1).is_ok() => self.spans.push(span),
                _ => return false,
            }
        }
        true
    }

    /// Bytes that are taken now.
    #[cfg(test)]
    pub(super) fn taken(&self) -> u64 {
        let of = |numbers: &Numbers| match numbers {
            Numbers::F16(numbers) => size_of_val(&numbers[..]),
            Numbers::Q8(numbers, scales) => size_of_val(&numbers[..]) + size_of_val(&scales[..]),
        };
        let spans = self.spans.iter();
        spans.map(|span| (of(&span.keys) + of(&span.values)) as u64).sum()
    }

    /// Forgets everything, and gives its memory back.
    pub(crate) fn clear(&mut self) {
        for span in &mut self.spans {
            span.keys.erase();
            span.values.erase();
        }
        self.spans.clear();
    }

    /// Stores keys and values of consecutive positions that were reserved, and returns whether all are numbers: neither
    /// format keeps infinity and, on every machine, NaN.
    pub(crate) fn store(&mut self, first: usize, keys: &[f32], values: &[f32]) -> bool {
        let len = self.head_len;
        let value_panels = len.div_ceil(PANEL);
        let token_len = self.kv_heads * len;
        let tokens = keys.chunks_exact(token_len).zip(values.chunks_exact(token_len));
        for (token, (keys, values)) in tokens.enumerate() {
            let span = &mut self.spans[(first + token) / SPAN];
            let position = (first + token) % SPAN;
            for head in 0..self.kv_heads {
                let scale_at = head * SPAN + position;
                let at = (head * SPAN + position / PANEL * PANEL) * len + position % PANEL;
                let places = (0..len).map(|element| at + element * PANEL);
                span.keys.store(&keys[head * len..][..len], places, scale_at);
                let places = (0..len).map(|element| {
                    ((head * value_panels + element / PANEL) * SPAN + position) * PANEL + element % PANEL
                });
                span.values.store(&values[head * len..][..len], places, scale_at);
            }
        }
        is_finite(keys) && is_finite(values)
    }

    /// Panels of keys of a span, as halves, if that is what they are.
    pub(super) fn key_halves(&self, head: usize, span: usize) -> Option<*const u8> {
        match &self.spans[span].keys {
            Numbers::F16(keys) => Some(keys[head * SPAN * self.head_len..].as_ptr().cast()),
            Numbers::Q8(..) => None,
        }
    }

    /// Panels of values of a span; they are [`SPAN`] positions apart.
    pub(super) fn value_halves(&self, head: usize, span: usize) -> Option<*const u8> {
        let panels = self.head_len.div_ceil(PANEL);
        match &self.spans[span].values {
            Numbers::F16(values) => Some(values[head * panels * SPAN * PANEL..].as_ptr().cast()),
            Numbers::Q8(..) => None,
        }
    }

    /// Writes the first `count` positions of a span's keys as floats: `[position / 16][element][position % 16]`.
    pub(super) fn unpack_keys(&self, isa: Isa, head: usize, span: usize, count: usize, to: &mut [f32]) {
        let from = head * SPAN * self.head_len;
        let len = count * self.head_len;
        let to = &mut to[..len];
        match &self.spans[span].keys {
            // SAFETY: both have the same length, a multiple of 16; the machine has the instruction set.
            Numbers::F16(keys) => unsafe { unpack_halves(isa, &keys[from..][..len], to) },
            Numbers::Q8(keys, scales) => {
                let scales = &scales[head * SPAN..][..count];
                for (panel, scales) in scales.as_chunks::<PANEL>().0.iter().enumerate() {
                    let (at, len) = (panel * PANEL * self.head_len, PANEL * self.head_len);
                    // SAFETY: as above.
                    unsafe { unpack_bytes(isa, &keys[from + at..][..len], scales, &mut to[at..][..len]) }
                }
            }
        }
    }

    /// Writes the first `count` positions of a span's values as floats: `[element / 16][position][element % 16]`.
    pub(super) fn unpack_values(&self, isa: Isa, head: usize, span: usize, count: usize, to: &mut [f32]) {
        let panels = self.head_len.div_ceil(PANEL);
        let len = count * PANEL;
        for panel in 0..panels {
            let from = (head * panels + panel) * SPAN * PANEL;
            let to = &mut to[panel * len..][..len];
            match &self.spans[span].values {
                // SAFETY: as in `unpack_keys`.
                Numbers::F16(values) => unsafe { unpack_halves(isa, &values[from..][..len], to) },
                Numbers::Q8(values, scales) => {
                    let scales = &scales[head * SPAN..][..count];
                    for (position, scale) in scales.iter().enumerate() {
                        let (values, to) = (&values[from + position * PANEL..], &mut to[position * PANEL..]);
                        // SAFETY: as in `unpack_keys`.
                        unsafe { unpack_bytes(isa, &values[..PANEL], &[*scale; PANEL], &mut to[..PANEL]) }
                    }
                }
            }
        }
    }
}

for_each_isa! {
    /// # Safety
    /// `to` is as long as `from`, which is a multiple of 16.
    unsafe fn unpack_halves(from: &[u16], to: &mut [f32]) = unpack_halves_body
}

#[inline(always)]
unsafe fn unpack_halves_body<S: Simd>(from: &[u16], to: &mut [f32]) {
    let mut at = 0;
    while at < from.len() {
        // SAFETY: a vector's length is left of both.
        unsafe {
            let half = from.as_ptr().add(at).cast();
            S::store(S::load_f16(half), to.as_mut_ptr().add(at));
        }
        at += S::LANES;
    }
}

for_each_isa! {
    /// # Safety
    /// `to` is as long as `from`, which is a multiple of 16.
    unsafe fn unpack_bytes(from: &[i8], scales: &[f32; PANEL], to: &mut [f32]) = unpack_bytes_body
}

#[inline(always)]
unsafe fn unpack_bytes_body<S: Simd>(from: &[i8], scales: &[f32; PANEL], to: &mut [f32]) {
    let mut at = 0;
    while at < from.len() {
        // SAFETY: a vector's length is left of both, and of the scales of its panel.
        unsafe {
            let scale = S::load_f32(scales.as_ptr().add(at % PANEL).cast());
            let number = S::to_floats(S::ints_from_i8(from.as_ptr().add(at).cast()));
            S::store(S::mul(number, scale), to.as_mut_ptr().add(at));
        }
        at += S::LANES;
    }
}

/// Whether all are numbers. Magnitudes order like their bits, and what is not finite comes last.
fn is_finite(x: &[f32]) -> bool {
    let magnitudes = x.iter().map(|x| x.to_bits() & 0x7fff_ffff);
    magnitudes.fold(0, u32::max) < f32::INFINITY.to_bits()
}
