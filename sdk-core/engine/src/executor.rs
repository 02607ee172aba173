//! The forward pass of llama, mistral3, phi3, qwen2, qwen3 and gemma3, or of some layers of one: a fixed order of operations
//! over a backend's buffers.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::backend::cpu::LOGIT_ROWS;
use crate::backend::{Backend, KvFormat, Linear, Rows, Segment, Shape, Slot};
use crate::error::EngineError;
use crate::gguf::DType;
use crate::model::{Config, Part, Role, Rope, RopeFactors, TensorMap, Use};

/// Most tokens that go through the layers together. Enough that weights are read seldom; little enough that the
/// buffers stay in the processor's second cache.
pub(crate) const BLOCK: usize = 128;

/// A tensor in memory.
#[derive(Debug)]
pub(crate) enum Weight<M> {
    Matrix(M),
    Vector(Vec<f32>),
}

/// A layer's weights.
#[derive(Debug)]
struct Layer<M> {
    matrices: BTreeMap<Part, M>,
    vectors: BTreeMap<Part, Vec<f32>>,
}

/// Consecutive layers of a model on a backend.
#[derive(Debug)]
pub(crate) struct Executor<B: Backend> {
    pub(crate) backend: B,
    config: Config,
    shape: Shape,
    /// Only where these layers are the first, or where it is the output head too.
    embedding: Option<B::Matrix>,
    /// Only where these layers are the last; so is `output`.
    output_norm: Option<Vec<f32>>,
    /// `None`: the embedding table is the output head too.
    output: Option<B::Matrix>,
    /// Number of the first of `layers` in the model.
    first: usize,
    layers: Vec<Layer<B::Matrix>>,
    /// Of global and of local layers.
    ropes: [Rope; 2],
}

/// Tokens of one sequence to be evaluated: they fit its cache and are in the vocabulary.
#[derive(Debug)]
pub(crate) struct Piece<'a, C> {
    pub(crate) cache: C,
    /// Position of the first token.
    pub(crate) first: usize,
    pub(crate) input: Input<'a>,
    pub(crate) rows: Rows,
}

/// What the first of the layers is given.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Input<'a> {
    Tokens(&'a [u32]),
    /// What the layers before put out, a row for every token.
    Hidden(&'a [f32]),
}

/// A block on its way through the layers. Between two of them its host may do other things, or give it up.
#[derive(Debug)]
pub(crate) struct Pass<W> {
    work: W,
    rows: Vec<Rows>,
    /// The next layer, counted among those that are here.
    next: usize,
    outcome: Result<(), EngineError>,
}

/// Takes what was computed: number of the piece, number of the row among those that were wanted of it, and its logits, or
/// what the layers behind these need.
pub(crate) type Take<'a> = dyn FnMut(usize, usize, &[f32]) + 'a;

/// The sizes of the buffers of a session.
pub(crate) fn shape_of(
    config: &Config,
    layers: usize,
    tensors: &TensorMap,
    context: usize,
    kv_format: KvFormat,
) -> Shape {
    let mut dtypes: Vec<DType> = Vec::new();
    for (tensor, used_as) in tensors.tensors.values() {
        if matches!(used_as, Use::Matrix { .. }) && !dtypes.contains(&tensor.dtype) {
            dtypes.push(tensor.dtype);
        }
    }
    Shape {
        layers,
        width: config.width,
        heads: config.heads,
        kv_heads: config.kv_heads,
        head_len: config.head_len,
        feed_forward: config.feed_forward,
        vocabulary: config.vocabulary,
        attention_scale: config.attention_scale,
        rope: config.rope,
        context,
        kv_format,
        block: BLOCK.min(context),
        dtypes,
    }
}

impl<B: Backend> Executor<B> {
    pub(crate) fn new(
        backend: B,
        config: Config,
        layers: Range<usize>,
        shape: Shape,
        mut weights: BTreeMap<Role, Weight<B::Matrix>>,
    ) -> Result<Self, EngineError> {
        let mut matrix = |role| match weights.remove(&role) {
            Some(Weight::Matrix(matrix)) => Some(matrix),
            _ => None,
        };
        let (embedding, output) = (matrix(Role::Embedding), matrix(Role::Output));
        let mut vector = |role| match weights.remove(&role) {
            Some(Weight::Vector(vector)) => Some(vector),
            _ => None,
        };
        let output_norm = vector(Role::OutputNorm);
        let factors = RopeFactors {
            always: vector(Role::RopeFactors),
            short: vector(Role::ShortRopeFactors),
            long: vector(Role::LongRopeFactors),
        };
        let ropes = Rope::of(&config, &factors, shape.context)?;
        let first = layers.start;
        let mut layers: Vec<Layer<B::Matrix>> = Vec::new();
        layers.resize_with(shape.layers, || Layer {
            matrices: BTreeMap::new(),
            vectors: BTreeMap::new(),
        });
        for (role, weight) in weights {
            if let Role::Layer(index, part) = role
                && let Some(layer) = index.checked_sub(first).and_then(|index| layers.get_mut(index))
            {
                match weight {
                    Weight::Matrix(matrix) => drop(layer.matrices.insert(part, matrix)),
                    Weight::Vector(vector) => drop(layer.vectors.insert(part, vector)),
                }
            }
        }
        Ok(Self {
            backend,
            config,
            shape,
            embedding,
            output_norm,
            output,
            first,
            layers,
            ropes,
        })
    }

    pub(crate) fn workspace(&self) -> Result<B::Workspace, EngineError> {
        self.backend.workspace(&self.shape)
    }

    pub(crate) fn cache(&self) -> B::Cache {
        self.backend.cache(&self.shape)
    }

    /// Begins to evaluate pieces of different sequences together, [`BLOCK`] tokens at most.
    ///
    /// What is computed of a piece does not depend on the others, to the bit.
    pub(crate) fn begin(
        &self,
        mut work: B::Workspace,
        pieces: Vec<Piece<'_, B::Cache>>,
    ) -> Pass<B::Workspace> {
        let width = self.shape.width.max(1);
        let mut inputs = Vec::with_capacity(pieces.len());
        let mut rows = Vec::with_capacity(pieces.len());
        let mut segments = Vec::with_capacity(pieces.len());
        for piece in pieces {
            rows.push(piece.rows);
            inputs.push(piece.input);
            segments.push(Segment {
                cache: piece.cache,
                first: piece.first,
                tokens: match piece.input {
                    Input::Tokens(tokens) => tokens.len(),
                    Input::Hidden(hidden) => hidden.len() / width,
                },
            });
        }
        let begun = self.backend.begin(&mut work, segments, &self.ropes);
        Pass {
            outcome: begun.and_then(|()| self.input(&mut work, &inputs)),
            work,
            rows,
            next: 0,
        }
    }

    /// Takes a block through up to so many layers more; true when it has been through all.
    pub(crate) fn advance(&self, pass: &mut Pass<B::Workspace>, layers: usize) -> bool {
        for layer in self.layers.iter().skip(pass.next).take(layers) {
            if pass.outcome.is_err() {
                return true;
            }
            pass.outcome = self.layer(&mut pass.work, pass.next, layer, &pass.rows);
            pass.next = pass.next.saturating_add(1);
        }
        pass.next == self.layers.len()
    }

    /// Gives back the buffers and the caches. What was wanted of the block is there if it has been through all layers.
    pub(crate) fn end(
        &self,
        mut pass: Pass<B::Workspace>,
        take: &mut Take<'_>,
    ) -> (B::Workspace, Vec<B::Cache>, Result<(), EngineError>) {
        let segments = self.backend.end(&mut pass.work);
        if pass.outcome.is_ok() && pass.next == self.layers.len() {
            let wanted = segments.iter().zip(&pass.rows).map(|(segment, rows)| match rows {
                Rows::None => 0,
                _ => segment.tokens,
            });
            self.output(&mut pass.work, wanted, take);
        }
        let caches = segments.into_iter().map(|segment| segment.cache);
        (pass.work, caches.collect(), pass.outcome)
    }

    /// Fills the residual stream.
    fn input(&self, work: &mut B::Workspace, inputs: &[Input<'_>]) -> Result<(), EngineError> {
        let mut row = 0_usize;
        for input in inputs {
            row = row.saturating_add(match input {
                Input::Tokens(tokens) => {
                    let table = self
                        .embedding
                        .as_ref()
                        .ok_or_else(|| missing("token_embd.weight"))?;
                    let factor = self.config.embedding_scale;
                    self.backend.embed(work, row, table, tokens, factor);
                    tokens.len()
                }
                Input::Hidden(hidden) => {
                    self.backend.set_hidden(work, row, hidden);
                    hidden.len() / self.shape.width.max(1)
                }
            });
        }
        Ok(())
    }

    /// A layer; of the last one only what is wanted: in the layers behind, a cache needs every token.
    fn layer(
        &self,
        work: &mut B::Workspace,
        index: usize,
        layer: &Layer<B::Matrix>,
        rows: &[Rows],
    ) -> Result<(), EngineError> {
        self.keys_and_values(work, index, layer)?;
        if index.saturating_add(1) == self.layers.len() {
            self.backend.keep(work, rows);
            if rows.iter().all(|rows| *rows == Rows::None) {
                // The cache is complete: nobody needs what the last layer would put out.
                return Ok(());
            }
        }
        self.attention(work, index, layer)?;
        self.feed_forward(work, layer)
    }

    /// What comes out of the rows that are left, so many of each piece.
    fn output(&self, work: &mut B::Workspace, wanted: impl Iterator<Item = usize>, take: &mut Take<'_>) {
        let rows: Vec<(usize, usize)> = wanted
            .enumerate()
            .flat_map(|(piece, rows)| (0..rows).map(move |row| (piece, row)))
            .collect();
        let head = self.output.as_ref().or(self.embedding.as_ref());
        match (&self.output_norm, head) {
            _ if rows.is_empty() => {}
            (Some(norm), Some(head)) => self.logits(work, &rows, norm, head, take),
            _ => {
                let hidden = self.backend.hidden(work).chunks_exact(self.shape.width.max(1));
                for ((piece, row), hidden) in rows.iter().zip(hidden) {
                    take(*piece, *row, hidden);
                }
            }
        }
    }

    fn logits(
        &self,
        work: &mut B::Workspace,
        rows: &[(usize, usize)],
        norm: &[f32],
        head: &B::Matrix,
        take: &mut Take<'_>,
    ) {
        let eps = self.config.norm_eps;
        self.backend.norm(work, Slot::Hidden, norm, eps, Slot::Normed);
        let head = Linear {
            weights: head,
            bias: None,
            to: Slot::Logits,
        };
        let mut start = 0;
        for rows in rows.chunks(LOGIT_ROWS) {
            self.backend.set_tokens(work, rows.len());
            self.backend
                .copy_rows(work, Slot::Normed, start, rows.len(), Slot::Projected);
            self.backend
                .multiply(work, Slot::Projected, std::slice::from_ref(&head));
            let logits = self.backend.logits(work).chunks_exact(self.config.vocabulary);
            for ((piece, row), logits) in rows.iter().zip(logits) {
                take(*piece, *row, logits);
            }
            start = start.saturating_add(rows.len());
        }
    }

    /// Queries, keys and values of the block; the latter two go into the cache.
    fn keys_and_values(
        &self,
        work: &mut B::Workspace,
        index: usize,
        layer: &Layer<B::Matrix>,
    ) -> Result<(), EngineError> {
        let eps = self.config.norm_eps;
        self.backend.norm(
            work,
            Slot::Hidden,
            layer.vector(Part::AttentionNorm)?,
            eps,
            Slot::Normed,
        );
        self.backend.multiply(
            work,
            Slot::Normed,
            &[
                layer.linear(Part::Query, Part::QueryBias, Slot::Query)?,
                layer.linear(Part::Key, Part::KeyBias, Slot::Key)?,
                layer.linear(Part::Value, Part::ValueBias, Slot::Value)?,
            ],
        );
        if self.config.has_head_norms() {
            self.backend
                .norm_heads(work, Slot::Query, layer.vector(Part::QueryNorm)?, eps);
            self.backend
                .norm_heads(work, Slot::Key, layer.vector(Part::KeyNorm)?, eps);
        }
        let kind = usize::from(self.is_local(index));
        self.backend.rotate(work, Slot::Query, kind);
        self.backend.rotate(work, Slot::Key, kind);
        self.backend.store(work, index);
        Ok(())
    }

    /// Whether a layer looks only at a window; counted among those that are here.
    fn is_local(&self, index: usize) -> bool {
        self.config.is_local(self.first.saturating_add(index))
    }

    fn attention(
        &self,
        work: &mut B::Workspace,
        index: usize,
        layer: &Layer<B::Matrix>,
    ) -> Result<(), EngineError> {
        let window = self.config.window.filter(|_| self.is_local(index));
        self.backend.attend(work, index, window);
        let product = layer.linear(Part::AttentionOutput, Part::AttentionOutputBias, Slot::Projected)?;
        self.backend.multiply(work, Slot::Attended, &[product]);
        self.join(work, layer, Part::PostAttentionNorm)
    }

    fn feed_forward(&self, work: &mut B::Workspace, layer: &Layer<B::Matrix>) -> Result<(), EngineError> {
        let eps = self.config.norm_eps;
        self.backend.norm(
            work,
            Slot::Hidden,
            layer.vector(Part::FeedForwardNorm)?,
            eps,
            Slot::Normed,
        );
        self.backend.multiply(
            work,
            Slot::Normed,
            &[
                layer.plain(Part::Gate, Slot::Gate)?,
                layer.plain(Part::Up, Slot::Up)?,
            ],
        );
        self.backend.gate(work, self.config.activation);
        self.backend
            .multiply(work, Slot::Gate, &[layer.plain(Part::Down, Slot::Projected)?]);
        self.join(work, layer, Part::PostFeedForwardNorm)
    }

    /// Adds `Projected` to the residual stream, normalised first where the architecture says so.
    fn join(&self, work: &mut B::Workspace, layer: &Layer<B::Matrix>, norm: Part) -> Result<(), EngineError> {
        if self.config.has_post_norms() {
            let (weights, eps) = (layer.vector(norm)?, self.config.norm_eps);
            self.backend
                .norm(work, Slot::Projected, weights, eps, Slot::Projected);
        }
        self.backend.add(work, Slot::Hidden, Slot::Projected);
        Ok(())
    }
}

impl<M> Layer<M> {
    fn vector(&self, part: Part) -> Result<&[f32], EngineError> {
        self.vectors
            .get(&part)
            .map(Vec::as_slice)
            .ok_or_else(|| Self::missing(part))
    }

    fn plain(&self, part: Part, to: Slot) -> Result<Linear<'_, M>, EngineError> {
        Ok(Linear {
            weights: self.matrices.get(&part).ok_or_else(|| Self::missing(part))?,
            bias: None,
            to,
        })
    }

    fn linear(&self, part: Part, bias: Part, to: Slot) -> Result<Linear<'_, M>, EngineError> {
        Ok(Linear {
            bias: self.vectors.get(&bias).map(Vec::as_slice),
            ..self.plain(part, to)?
        })
    }

    fn missing(part: Part) -> EngineError {
        missing(&format!("{part:?}"))
    }
}

// INVARIANT: `TensorMap::find` checked that every tensor is there, so this is never seen.
fn missing(name: &str) -> EngineError {
    EngineError::MissingTensor {
        name: name.to_owned(),
    }
}
