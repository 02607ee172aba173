//! What a backend does for the executor: the operations of a transformer over buffers that were allocated beforehand.
//!
//! Operations name buffers ([`Slot`]) instead of passing numbers, so that a GPU can keep them to itself and be asked for
//! nothing but what comes out at the end. `cpu` is the backend of every device, and the reference of those to come.

#[cfg(feature = "candle")]
pub(crate) mod candle;
pub(crate) mod cpu;

use kwaainet_platform::{MaybeSend, MaybeSync};
pub use kwaainet_types::KvFormat;

use crate::error::EngineError;
use crate::gguf::DType;
use crate::model::{Activation, Rope, RopeKind};

/// A buffer of a workspace. Each has a row for every token of the block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slot {
    /// The residual stream.
    Hidden,
    /// It, normalised.
    Normed,
    Query,
    Key,
    Value,
    /// What attention gathered.
    Attended,
    /// Output of attention or feed-forward, before it joins the residual stream.
    Projected,
    Gate,
    Up,
    Logits,
}

impl Slot {
    /// How many there are.
    pub(crate) const COUNT: usize = 10;
}

/// Sizes that a workspace is made for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Shape {
    pub(crate) layers: usize,
    pub(crate) width: usize,
    pub(crate) heads: usize,
    pub(crate) kv_heads: usize,
    pub(crate) head_len: usize,
    pub(crate) feed_forward: usize,
    pub(crate) vocabulary: usize,
    pub(crate) attention_scale: f32,
    pub(crate) rope: RopeKind,
    /// Positions in the KV cache.
    pub(crate) context: usize,
    pub(crate) kv_format: KvFormat,
    /// Most tokens in a block.
    pub(crate) block: usize,
    /// Formats of the matrices, without repeats.
    pub(crate) dtypes: Vec<DType>,
}

impl Shape {
    /// Numbers per token in a buffer.
    pub(crate) const fn len(&self, slot: Slot) -> usize {
        match slot {
            Slot::Hidden | Slot::Normed | Slot::Projected => self.width,
            Slot::Query | Slot::Attended => self.heads * self.head_len,
            Slot::Key | Slot::Value => self.kv_heads * self.head_len,
            Slot::Gate | Slot::Up => self.feed_forward,
            Slot::Logits => self.vocabulary,
        }
    }
}

/// Consecutive tokens of one sequence in a block; several sequences may share a block.
#[derive(Debug)]
pub(crate) struct Segment<C> {
    /// What is remembered of the sequence.
    pub(crate) cache: C,
    /// Position of the first token.
    pub(crate) first: usize,
    pub(crate) tokens: usize,
}

/// Of which tokens of a segment logits are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rows {
    None,
    Last,
    All,
}

/// A product of the current block: weights, bias, and where the result goes.
#[derive(Debug)]
pub(crate) struct Linear<'a, M> {
    pub(crate) weights: &'a M,
    pub(crate) bias: Option<&'a [f32]>,
    pub(crate) to: Slot,
}

/// The operations. All of them work on the block that [`Backend::begin`] announced.
pub(crate) trait Backend: std::fmt::Debug + MaybeSend + MaybeSync + 'static {
    /// Weights.
    type Matrix: std::fmt::Debug + MaybeSend + MaybeSync;
    /// The buffers of a block.
    type Workspace: std::fmt::Debug + MaybeSend;
    /// Keys and values of one sequence.
    type Cache: std::fmt::Debug + MaybeSend;

    /// Name and instruction set, for reports.
    fn name(&self) -> String;

    /// Bytes that such a matrix will take.
    fn matrix_bytes(&self, dtype: DType, rows: usize, columns: usize) -> u64;

    /// An empty matrix.
    fn matrix(&self, dtype: DType, rows: usize, columns: usize) -> Result<Self::Matrix, EngineError>;

    /// Adds the next row, as it is in the file; `name` is for errors.
    fn push_row(&self, matrix: &mut Self::Matrix, row: &[u8], name: &str) -> Result<(), EngineError>;

    /// Bytes of a full cache, and of a workspace.
    fn session_bytes(&self, shape: &Shape) -> (u64, u64);

    /// A workspace of this shape.
    fn workspace(&self, shape: &Shape) -> Result<Self::Workspace, EngineError>;

    /// An empty cache of this shape.
    fn cache(&self, shape: &Shape) -> Self::Cache;

    /// Whether all keys and values so far were numbers.
    fn is_sound(&self, cache: &Self::Cache) -> bool;

    /// Forgets everything, including what nobody should look at any more.
    fn clear(&self, cache: &mut Self::Cache);

    /// Begins a block: takes memory for its keys and values. `ropes` rotate, in each kind of layer. Whatever it returns,
    /// [`Backend::end`] gives the caches back.
    fn begin(
        &self,
        work: &mut Self::Workspace,
        segments: Vec<Segment<Self::Cache>>,
        ropes: &[Rope; 2],
    ) -> Result<(), EngineError>;

    /// Ends it, and gives the caches back.
    fn end(&self, work: &mut Self::Workspace) -> Vec<Segment<Self::Cache>>;

    /// Looks up tokens in the embedding table, times `factor`, into `Hidden` from this row on.
    fn embed(
        &self,
        work: &mut Self::Workspace,
        row: usize,
        table: &Self::Matrix,
        tokens: &[u32],
        factor: f32,
    );

    /// Copies rows into `Hidden` from this row on.
    fn set_hidden(&self, work: &mut Self::Workspace, row: usize, hidden: &[f32]);

    /// `Hidden`, of the tokens that are left.
    fn hidden<'a>(&self, work: &'a Self::Workspace) -> &'a [f32];

    /// RMS norm.
    fn norm(&self, work: &mut Self::Workspace, from: Slot, weights: &[f32], eps: f32, to: Slot);

    /// RMS norm of every head, in place.
    fn norm_heads(&self, work: &mut Self::Workspace, slot: Slot, weights: &[f32], eps: f32);

    /// Products that share their input.
    fn multiply(&self, work: &mut Self::Workspace, from: Slot, products: &[Linear<'_, Self::Matrix>]);

    /// Rotates queries or keys; `kind` chooses the rope.
    fn rotate(&self, work: &mut Self::Workspace, slot: Slot, kind: usize);

    /// Puts keys and values of the block into the caches of a layer.
    fn store(&self, work: &mut Self::Workspace, layer: usize);

    /// Attention of `Query` over the caches of a layer, into `Attended`.
    fn attend(&self, work: &mut Self::Workspace, layer: usize, window: Option<usize>);

    /// `Gate = activation(Gate) * Up`.
    fn gate(&self, work: &mut Self::Workspace, activation: Activation);

    /// `to += from`.
    fn add(&self, work: &mut Self::Workspace, to: Slot, from: Slot);

    /// Copies rows of a buffer to the beginning of another; both have the same length.
    fn copy_rows(&self, work: &mut Self::Workspace, from: Slot, start: usize, count: usize, to: Slot);

    /// From here on each segment has only these of its tokens.
    fn keep(&self, work: &mut Self::Workspace, rows: &[Rows]);

    /// From here on products have this many tokens.
    fn set_tokens(&self, work: &mut Self::Workspace, tokens: usize);

    /// The first row of `Logits`, and those that follow.
    fn logits<'a>(&self, work: &'a Self::Workspace) -> &'a [f32];
}
