//! The processor: kernels in the instruction set of the machine, on as many threads as the host lends.

pub(crate) mod activations;
mod attention;
mod attention_kernel;
#[cfg(test)]
mod attention_tests;
mod blocks;
mod float;
mod half;
pub(crate) mod isa;
mod kv_cache;
mod layout;
pub(crate) mod matmul;
#[cfg(test)]
mod model_tests;
#[cfg(target_arch = "aarch64")]
mod neon;
pub(crate) mod ops;
pub(crate) mod packed;
#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
mod portable;
mod quantised;
mod simd;
#[cfg(test)]
mod tests;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod wasm;
#[cfg(all(
    target_arch = "wasm32",
    target_feature = "simd128",
    not(target_feature = "relaxed-simd")
))]
mod wasm_dot;
#[cfg(all(target_arch = "wasm32", target_feature = "relaxed-simd"))]
#[path = "wasm_dot_relaxed.rs"]
mod wasm_dot;
#[cfg(target_arch = "x86_64")]
mod x86;

use std::sync::Arc;

use kwaainet_platform::Parallel;

use self::activations::{Activations, Rounding};
use self::attention::{AttentionScratch, Heads, Sequence, attend};
use self::isa::Isa;
use self::kv_cache::KvCache;
use self::matmul::{Product, multiply};
use self::ops::Rotation;
use self::packed::{PackedMatrix, packed_bytes};
use super::{Backend, Linear, Rows, Segment, Shape, Slot};
use crate::error::EngineError;
use crate::gguf::DType;
use crate::model::{Activation, Rope};

pub(crate) use self::half::{bf16_to_f32, f16_to_f32};

/// The backend of every device.
pub(crate) struct Cpu {
    isa: Isa,
    parallel: Arc<dyn Parallel>,
}

impl std::fmt::Debug for Cpu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cpu")
            .field("isa", &self.isa)
            .finish_non_exhaustive()
    }
}

impl Cpu {
    /// The best instruction set of this machine, on these processors.
    pub(crate) fn new(parallel: Arc<dyn Parallel>) -> Self {
        Self {
            isa: Isa::detect(),
            parallel,
        }
    }

    /// A given instruction set, so that tests can compare them.
    #[cfg(test)]
    pub(crate) fn with_isa(isa: Isa, parallel: Arc<dyn Parallel>) -> Self {
        Self { isa, parallel }
    }
}

/// Keys and values of one sequence.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    layers: Vec<KvCache>,
    /// Whether everything that went into it was a number.
    sound: bool,
}

/// The buffers of a block.
#[derive(Debug)]
pub(crate) struct Workspace {
    shape: Shape,
    segments: Vec<Segment<Cache>>,
    tokens: usize,
    slots: [Vec<f32>; Slot::COUNT],
    rotations: [Rotation; 2],
    activations: Vec<(Rounding, Activations)>,
    attention: AttentionScratch,
}

impl Workspace {
    pub(super) fn slot(&self, slot: Slot) -> &[f32] {
        let len = self.tokens.saturating_mul(self.shape.len(slot));
        self.slots
            .get(slot as usize)
            .and_then(|buffer| buffer.get(..len))
            .unwrap_or_default()
    }

    pub(super) fn slot_mut(&mut self, slot: Slot) -> &mut [f32] {
        let len = self.tokens.saturating_mul(self.shape.len(slot));
        self.slots
            .get_mut(slot as usize)
            .and_then(|buffer| buffer.get_mut(..len))
            .unwrap_or_default()
    }

    /// Takes a buffer out, so that others can be borrowed; put it back.
    fn take(&mut self, slot: Slot) -> Vec<f32> {
        self.slots
            .get_mut(slot as usize)
            .map(std::mem::take)
            .unwrap_or_default()
    }

    fn put_back(&mut self, slot: Slot, buffer: Vec<f32>) {
        if let Some(place) = self.slots.get_mut(slot as usize) {
            *place = buffer;
        }
    }
}

/// Rows of logits that are computed together, when a text is scored or guesses are checked.
pub(crate) const LOGIT_ROWS: usize = 8;

const SLOTS: [Slot; Slot::COUNT] = [
    Slot::Hidden,
    Slot::Normed,
    Slot::Query,
    Slot::Key,
    Slot::Value,
    Slot::Attended,
    Slot::Projected,
    Slot::Gate,
    Slot::Up,
    Slot::Logits,
];

/// Rows of a buffer.
const fn rows(shape: &Shape, slot: Slot) -> usize {
    match slot {
        Slot::Logits => LOGIT_ROWS,
        _ => shape.block,
    }
}

fn roundings(shape: &Shape) -> Vec<Rounding> {
    let mut roundings = Vec::new();
    for dtype in &shape.dtypes {
        let rounding = Rounding::of(*dtype);
        if !roundings.contains(&rounding) {
            roundings.push(rounding);
        }
    }
    roundings
}

fn widest_input(shape: &Shape) -> usize {
    shape.width.max(shape.feed_forward).max(shape.len(Slot::Attended))
}

fn out_of_memory(needed: u64) -> EngineError {
    EngineError::OutOfMemory {
        needed,
        limit: usize::MAX as u64,
    }
}

impl Backend for Cpu {
    type Matrix = PackedMatrix;
    type Workspace = Workspace;
    type Cache = Cache;

    fn name(&self) -> String {
        format!("cpu ({})", self.isa.name())
    }

    fn matrix_bytes(&self, dtype: DType, rows: usize, columns: usize) -> u64 {
        packed_bytes(dtype, rows, columns)
    }

    fn matrix(&self, dtype: DType, rows: usize, columns: usize) -> Result<PackedMatrix, EngineError> {
        PackedMatrix::new(dtype, rows, columns)
    }

    fn push_row(&self, matrix: &mut PackedMatrix, row: &[u8], name: &str) -> Result<(), EngineError> {
        matrix.push_row(row, name)
    }

    fn session_bytes(&self, shape: &Shape) -> (u64, u64) {
        let cache = KvCache::bytes(shape.kv_format, shape.context, shape.kv_heads, shape.head_len);
        let slots: u64 = SLOTS
            .into_iter()
            .map(|slot| 4 * rows(shape, slot) as u64 * shape.len(slot) as u64)
            .sum();
        let activations: u64 = roundings(shape)
            .into_iter()
            .map(|rounding| Activations::bytes(rounding, shape.block, widest_input(shape)))
            .sum();
        let rotations = 2 * 4 * shape.block as u64 * shape.head_len as u64;
        let attention =
            AttentionScratch::bytes(shape.context, shape.heads, shape.head_len, self.parallel.width());
        (
            cache.saturating_mul(shape.layers as u64),
            slots + activations + rotations + attention,
        )
    }

    fn workspace(&self, shape: &Shape) -> Result<Workspace, EngineError> {
        let no_memory = || out_of_memory(self.session_bytes(shape).1);
        let mut slots = [const { Vec::new() }; Slot::COUNT];
        for (slot, buffer) in SLOTS.into_iter().zip(&mut slots) {
            let len = rows(shape, slot)
                .checked_mul(shape.len(slot))
                .ok_or_else(no_memory)?;
            buffer.try_reserve_exact(len).map_err(|_| no_memory())?;
            buffer.resize(len, 0.0);
        }
        let mut activations = Vec::new();
        for rounding in roundings(shape) {
            let mut of_rounding = Activations::default();
            of_rounding.reserve(rounding, shape.block, widest_input(shape));
            activations.push((rounding, of_rounding));
        }
        let (heads, len) = (shape.heads, shape.head_len);
        let attention = AttentionScratch::new(shape.context, heads, len, self.parallel.width());
        Ok(Workspace {
            shape: shape.clone(),
            segments: Vec::new(),
            tokens: 0,
            slots,
            rotations: Default::default(),
            activations,
            attention: attention.ok_or_else(no_memory)?,
        })
    }

    fn cache(&self, shape: &Shape) -> Cache {
        let layer = || KvCache::new(shape.kv_format, shape.context, shape.kv_heads, shape.head_len);
        Cache {
            layers: (0..shape.layers).map(|_| layer()).collect(),
            sound: true,
        }
    }

    fn is_sound(&self, cache: &Cache) -> bool {
        cache.sound
    }

    fn clear(&self, cache: &mut Cache) {
        cache.sound = true;
        for layer in &mut cache.layers {
            layer.clear();
        }
    }

    fn begin(
        &self,
        work: &mut Workspace,
        segments: Vec<Segment<Cache>>,
        ropes: &[Rope; 2],
    ) -> Result<(), EngineError> {
        work.tokens = segments.iter().map(|segment| segment.tokens).sum();
        for (rotation, rope) in work.rotations.iter_mut().zip(ropes) {
            rotation.clear();
            for segment in &segments {
                rotation.prepare(rope, segment.first, segment.tokens);
            }
        }
        work.segments = segments;
        for segment in &mut work.segments {
            let positions = segment.first.saturating_add(segment.tokens);
            if !segment
                .cache
                .layers
                .iter_mut()
                .all(|layer| layer.reserve(positions))
            {
                return Err(out_of_memory(self.session_bytes(&work.shape).0));
            }
        }
        Ok(())
    }

    fn end(&self, work: &mut Workspace) -> Vec<Segment<Cache>> {
        std::mem::take(&mut work.segments)
    }

    fn embed(&self, work: &mut Workspace, row: usize, table: &PackedMatrix, tokens: &[u32], factor: f32) {
        let width = work.shape.width;
        let rows = work.slot_mut(Slot::Hidden).chunks_exact_mut(width).skip(row);
        for (token, to) in tokens.iter().zip(rows) {
            table.row(*token as usize, factor, to);
        }
    }

    fn set_hidden(&self, work: &mut Workspace, row: usize, hidden: &[f32]) {
        let first = row.saturating_mul(work.shape.width);
        let to = work.slot_mut(Slot::Hidden).get_mut(first..).unwrap_or_default();
        for (to, from) in to.iter_mut().zip(hidden) {
            *to = *from;
        }
    }

    fn hidden<'a>(&self, work: &'a Workspace) -> &'a [f32] {
        work.slot(Slot::Hidden)
    }

    fn norm(&self, work: &mut Workspace, from: Slot, weights: &[f32], eps: f32, to: Slot) {
        if from == to {
            return ops::rms_norm_in_place(self.isa, work.slot_mut(to), weights, eps);
        }
        let mut out = work.take(to);
        ops::rms_norm(self.isa, work.slot(from), weights, eps, &mut out);
        work.put_back(to, out);
    }

    fn norm_heads(&self, work: &mut Workspace, slot: Slot, weights: &[f32], eps: f32) {
        ops::rms_norm_in_place(self.isa, work.slot_mut(slot), weights, eps);
    }

    fn multiply(&self, work: &mut Workspace, from: Slot, products: &[Linear<'_, PackedMatrix>]) {
        let mut outputs: Vec<Vec<f32>> = products.iter().map(|product| work.take(product.to)).collect();
        let mut activations = std::mem::take(&mut work.activations);
        let columns = work.shape.len(from);
        for (rounding, activations) in &mut activations {
            let wanted =
                |product: &Linear<'_, PackedMatrix>| Rounding::of(product.weights.dtype()) == *rounding;
            if products.iter().any(wanted) {
                activations.round(self.isa, *rounding, work.slot(from), columns);
            }
        }
        let mut list = Vec::with_capacity(products.len());
        for (product, out) in products.iter().zip(&mut outputs) {
            let rounding = Rounding::of(product.weights.dtype());
            // INVARIANT: the workspace was made for the formats of this model.
            if let Some((_, activations)) = activations.iter().find(|(of, _)| *of == rounding) {
                list.push(Product {
                    weights: product.weights,
                    activations,
                    out,
                });
            }
        }
        multiply(self.isa, &*self.parallel, &mut list);
        work.activations = activations;
        for (product, out) in products.iter().zip(outputs) {
            work.put_back(product.to, out);
            if let Some(bias) = product.bias {
                ops::add_bias(work.slot_mut(product.to), bias);
            }
        }
    }

    fn rotate(&self, work: &mut Workspace, slot: Slot, kind: usize) {
        let (head_len, rope) = (work.shape.head_len, work.shape.rope);
        let heads = work.shape.len(slot) / head_len.max(1);
        let mut buffer = work.take(slot);
        if let Some(rotation) = work.rotations.get(kind) {
            rotation.apply(rope, &mut buffer, head_len, heads);
        }
        work.put_back(slot, buffer);
    }

    fn store(&self, work: &mut Workspace, layer: usize) {
        let (key, value) = (work.take(Slot::Key), work.take(Slot::Value));
        let token_len = work.shape.len(Slot::Key);
        let (mut keys, mut values) = (key.as_slice(), value.as_slice());
        for segment in &mut work.segments {
            let len = segment.tokens.saturating_mul(token_len);
            let (Some((of_keys, more_keys)), Some((of_values, more_values))) =
                (keys.split_at_checked(len), values.split_at_checked(len))
            else {
                break; // INVARIANT: a block has no more tokens than its buffers
            };
            let cache = &mut segment.cache;
            if let Some(of_layer) = cache.layers.get_mut(layer) {
                cache.sound &= of_layer.store(segment.first, of_keys, of_values);
            }
            (keys, values) = (more_keys, more_values);
        }
        work.put_back(Slot::Key, key);
        work.put_back(Slot::Value, value);
    }

    fn attend(&self, work: &mut Workspace, layer: usize, window: Option<usize>) {
        let heads = Heads {
            queries: work.shape.heads,
            kv: work.shape.kv_heads,
            len: work.shape.head_len,
            scale: work.shape.attention_scale,
            window,
        };
        let mut out = work.take(Slot::Attended);
        let query = work.take(Slot::Query);
        let len = work.tokens.saturating_mul(work.shape.len(Slot::Query));
        let segments = work.segments.iter().filter(|segment| segment.tokens > 0);
        let sequences: Vec<Sequence<'_>> = segments
            .filter_map(|segment| {
                Some(Sequence {
                    cache: segment.cache.layers.get(layer)?,
                    first: segment.first,
                    tokens: segment.tokens,
                })
            })
            .collect();
        if let Some(queries) = query.get(..len) {
            let scratch = &mut work.attention;
            attend(
                self.isa,
                &*self.parallel,
                heads,
                &sequences,
                queries,
                scratch,
                &mut out,
            );
        }
        work.put_back(Slot::Query, query);
        work.put_back(Slot::Attended, out);
    }

    fn gate(&self, work: &mut Workspace, activation: Activation) {
        let mut gate = work.take(Slot::Gate);
        let up = work.slot(Slot::Up);
        if let Some(gate) = gate.get_mut(..up.len()) {
            ops::gate(self.isa, activation, gate, up);
        }
        work.put_back(Slot::Gate, gate);
    }

    fn add(&self, work: &mut Workspace, to: Slot, from: Slot) {
        let mut sum = work.take(to);
        ops::add(&mut sum, work.slot(from));
        work.put_back(to, sum);
    }

    fn copy_rows(&self, work: &mut Workspace, from: Slot, start: usize, count: usize, to: Slot) {
        let len = work.shape.len(from);
        let rows = start.saturating_mul(len)..start.saturating_add(count).saturating_mul(len);
        let mut out = work.take(to);
        if let Some(rows) = work.slots.get(from as usize).and_then(|buffer| buffer.get(rows)) {
            for (to, from) in out.iter_mut().zip(rows) {
                *to = *from;
            }
        }
        work.put_back(to, out);
    }

    fn keep(&self, work: &mut Workspace, rows: &[Rows]) {
        let mut segments = std::mem::take(&mut work.segments);
        let (mut from, mut kept) = (0_usize, 0_usize);
        for (segment, rows) in segments.iter_mut().zip(rows) {
            let had = segment.tokens;
            segment.tokens = match rows {
                Rows::None => 0,
                Rows::Last => had.min(1),
                Rows::All => had,
            };
            let dropped = had.saturating_sub(segment.tokens);
            segment.first = segment.first.saturating_add(dropped);
            for slot in [Slot::Hidden, Slot::Query] {
                let len = work.shape.len(slot);
                let first = from.saturating_add(dropped).saturating_mul(len);
                let end = from.saturating_add(had).saturating_mul(len);
                if let Some(buffer) = work.slots.get_mut(slot as usize)
                    && end <= buffer.len()
                {
                    buffer.copy_within(first..end, kept.saturating_mul(len));
                }
            }
            from = from.saturating_add(had);
            kept = kept.saturating_add(segment.tokens);
        }
        work.segments = segments;
        work.tokens = kept;
    }

    fn set_tokens(&self, work: &mut Workspace, tokens: usize) {
        work.tokens = tokens;
    }

    fn logits<'a>(&self, work: &'a Workspace) -> &'a [f32] {
        work.slot(Slot::Logits)
    }
}
