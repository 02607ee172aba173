//! What a model remembers of a sequence: keys and values, in the panels of the float kernel.
//!
//! Keys are panels of 16 positions, values panels of 16 elements of a head. So both products of attention are the
//! product that float weights have, and no sum runs across lanes.

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

    fn clear(&mut self) {
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

/// Keys and values of one layer.
#[derive(Debug)]
pub(crate) struct KvCache {
    /// `[kv head][position / 16][element][position % 16]`.
    keys: Numbers,
    /// `[kv head][element / 16][position][element % 16]`.
    values: Numbers,
    /// A multiple of 16.
    pub(super) capacity: usize,
    pub(super) kv_heads: usize,
    pub(super) head_len: usize,
}

/// Numbers in the cache of a layer: keys, values, and heads of positions. In 64 bits, because a file may claim anything.
const fn sizes(positions: usize, kv_heads: usize, head_len: usize) -> (u64, u64, u64) {
    let heads = (positions as u64).next_multiple_of(PANEL as u64) * kv_heads as u64;
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
    /// Bytes of a layer's cache.
    pub(crate) const fn bytes(format: KvFormat, positions: usize, kv_heads: usize, head_len: usize) -> u64 {
        let (keys, values, heads) = sizes(positions, kv_heads, head_len);
        let numbers = keys.saturating_add(values);
        match format {
            KvFormat::F16 => numbers.saturating_mul(2),
            KvFormat::Q8 => numbers.saturating_add(heads.saturating_mul(8)),
        }
    }

    /// An empty cache; `None` if there is no memory for it.
    pub(crate) fn new(format: KvFormat, positions: usize, kv_heads: usize, head_len: usize) -> Option<Self> {
        let (keys, values, heads) = sizes(positions, kv_heads, head_len);
        Some(Self {
            keys: Numbers::new(format, keys, heads)?,
            values: Numbers::new(format, values, heads)?,
            capacity: positions.next_multiple_of(PANEL),
            kv_heads,
            head_len,
        })
    }

    /// Forgets everything.
    pub(crate) fn clear(&mut self) {
        self.keys.clear();
        self.values.clear();
    }

    /// Stores keys and values of consecutive positions, and returns whether all are numbers: neither format keeps
    /// infinity and, on every machine, NaN.
    pub(crate) fn store(&mut self, first: usize, keys: &[f32], values: &[f32]) -> bool {
        let (len, capacity) = (self.head_len, self.capacity);
        let value_panels = len.div_ceil(PANEL);
        let token_len = self.kv_heads * len;
        let tokens = keys.chunks_exact(token_len).zip(values.chunks_exact(token_len));
        for (token, (keys, values)) in tokens.enumerate() {
            let position = first + token;
            for head in 0..self.kv_heads {
                let scale_at = head * capacity + position;
                let at = (head * capacity + position / PANEL * PANEL) * len + position % PANEL;
                let places = (0..len).map(|element| at + element * PANEL);
                self.keys.store(&keys[head * len..][..len], places, scale_at);
                let places = (0..len).map(|element| {
                    ((head * value_panels + element / PANEL) * capacity + position) * PANEL + element % PANEL
                });
                self.values.store(&values[head * len..][..len], places, scale_at);
            }
        }
        is_finite(keys) && is_finite(values)
    }

    /// Panels of keys from position `start` on, as halves, if that is what they are.
    pub(super) fn key_halves(&self, head: usize, start: usize) -> Option<*const u8> {
        match &self.keys {
            Numbers::F16(keys) => Some(
                keys[(head * self.capacity + start) * self.head_len..]
                    .as_ptr()
                    .cast(),
            ),
            Numbers::Q8(..) => None,
        }
    }

    /// The panel of values that begins at element `16 * panel`, from position `start` on; panels are `capacity` positions
    /// apart.
    pub(super) fn value_halves(&self, head: usize, panel: usize, start: usize) -> Option<*const u8> {
        let panels = self.head_len.div_ceil(PANEL);
        match &self.values {
            Numbers::F16(values) => {
                let at = ((head * panels + panel) * self.capacity + start) * PANEL;
                Some(values[at..].as_ptr().cast())
            }
            Numbers::Q8(..) => None,
        }
    }

    /// Writes `count` positions of keys as floats: `[position / 16][element][position % 16]`.
    pub(super) fn unpack_keys(&self, isa: Isa, head: usize, start: usize, count: usize, to: &mut [f32]) {
        let from = (head * self.capacity + start) * self.head_len;
        let len = count * self.head_len;
        let to = &mut to[..len];
        match &self.keys {
            // SAFETY: both have the same length, a multiple of 16; the machine has the instruction set.
            Numbers::F16(keys) => unsafe { unpack_halves(isa, &keys[from..][..len], to) },
            Numbers::Q8(keys, scales) => {
                let scales = &scales[head * self.capacity + start..][..count];
                for (panel, scales) in scales.as_chunks::<PANEL>().0.iter().enumerate() {
                    let (at, len) = (panel * PANEL * self.head_len, PANEL * self.head_len);
                    // SAFETY: as above.
                    unsafe { unpack_bytes(isa, &keys[from + at..][..len], scales, &mut to[at..][..len]) }
                }
            }
        }
    }

    /// Writes `count` positions of values as floats: `[element / 16][position][element % 16]`.
    pub(super) fn unpack_values(&self, isa: Isa, head: usize, start: usize, count: usize, to: &mut [f32]) {
        let panels = self.head_len.div_ceil(PANEL);
        let len = count * PANEL;
        for panel in 0..panels {
            let from = ((head * panels + panel) * self.capacity + start) * PANEL;
            let to = &mut to[panel * len..][..len];
            match &self.values {
                // SAFETY: as in `unpack_keys`.
                Numbers::F16(values) => unsafe { unpack_halves(isa, &values[from..][..len], to) },
                Numbers::Q8(values, scales) => {
                    let scales = &scales[head * self.capacity + start..][..count];
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
