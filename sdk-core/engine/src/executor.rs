//! The forward pass of llama, mistral3, phi3, qwen2, qwen3 and gemma3: a fixed order of operations over a backend's buffers.

use std::collections::BTreeMap;

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

/// A model on a backend.
#[derive(Debug)]
pub(crate) struct Executor<B: Backend> {
    pub(crate) backend: B,
    config: Config,
    shape: Shape,
    embedding: B::Matrix,
    output_norm: Vec<f32>,
    /// `None`: the embedding table is the output head too.
    output: Option<B::Matrix>,
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
    pub(crate) tokens: &'a [u32],
    pub(crate) rows: Rows,
}

/// Takes logits: number of the piece, number of the row among those that were wanted of it, logits.
pub(crate) type Take<'a> = dyn FnMut(usize, usize, &[f32]) + 'a;

/// The sizes of the buffers of a session.
pub(crate) fn shape_of(config: &Config, tensors: &TensorMap, context: usize, kv_format: KvFormat) -> Shape {
    let mut dtypes: Vec<DType> = Vec::new();
    for (tensor, used_as) in tensors.tensors.values() {
        if matches!(used_as, Use::Matrix { .. }) && !dtypes.contains(&tensor.dtype) {
            dtypes.push(tensor.dtype);
        }
    }
    Shape {
        layers: config.layers,
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
        shape: Shape,
        mut weights: BTreeMap<Role, Weight<B::Matrix>>,
    ) -> Result<Self, EngineError> {
        let missing = |role: &str| EngineError::MissingTensor {
            name: role.to_owned(),
        };
        let Some(Weight::Matrix(embedding)) = weights.remove(&Role::Embedding) else {
            return Err(missing("token_embd.weight"));
        };
        let Some(Weight::Vector(output_norm)) = weights.remove(&Role::OutputNorm) else {
            return Err(missing("output_norm.weight"));
        };
        let output = match weights.remove(&Role::Output) {
            Some(Weight::Matrix(output)) => Some(output),
            _ => None,
        };
        let mut vector = |role| match weights.remove(&role) {
            Some(Weight::Vector(vector)) => Some(vector),
            _ => None,
        };
        let factors = RopeFactors {
            always: vector(Role::RopeFactors),
            short: vector(Role::ShortRopeFactors),
            long: vector(Role::LongRopeFactors),
        };
        let ropes = Rope::of(&config, &factors, shape.context)?;
        let mut layers: Vec<Layer<B::Matrix>> = Vec::new();
        layers.resize_with(config.layers, || Layer {
            matrices: BTreeMap::new(),
            vectors: BTreeMap::new(),
        });
        for (role, weight) in weights {
            if let Role::Layer(index, part) = role
                && let Some(layer) = layers.get_mut(index)
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
            layers,
            ropes,
        })
    }

    pub(crate) fn workspace(&self) -> Result<B::Workspace, EngineError> {
        self.backend.workspace(&self.shape)
    }

    pub(crate) fn cache(&self) -> Result<B::Cache, EngineError> {
        self.backend.cache(&self.shape)
    }

    /// Evaluates pieces of different sequences together, [`BLOCK`] tokens at most, and gives their caches back.
    ///
    /// What is computed of a piece does not depend on the others, to the bit.
    pub(crate) fn forward(
        &self,
        work: &mut B::Workspace,
        pieces: Vec<Piece<'_, B::Cache>>,
        take: &mut Take<'_>,
    ) -> (Vec<B::Cache>, Result<(), EngineError>) {
        let (mut tokens, mut rows) = (Vec::with_capacity(BLOCK), Vec::with_capacity(pieces.len()));
        let mut segments = Vec::with_capacity(pieces.len());
        for piece in pieces {
            tokens.extend_from_slice(piece.tokens);
            rows.push(piece.rows);
            segments.push(Segment {
                cache: piece.cache,
                first: piece.first,
                tokens: piece.tokens.len(),
            });
        }
        self.backend.begin(work, segments, &self.ropes);
        self.backend
            .embed(work, &self.embedding, &tokens, self.config.embedding_scale);
        let layers = self.layers(work, &rows);
        let segments = self.backend.end(work);
        if layers.is_ok() {
            let wanted = segments.iter().zip(&rows).map(|(segment, rows)| match rows {
                Rows::None => 0,
                _ => segment.tokens,
            });
            self.head(work, wanted, take);
        }
        let caches = segments.into_iter().map(|segment| segment.cache);
        (caches.collect(), layers)
    }

    /// All layers, of the last one only what is wanted.
    fn layers(&self, work: &mut B::Workspace, rows: &[Rows]) -> Result<(), EngineError> {
        let last = self.layers.len().saturating_sub(1);
        for (index, layer) in self.layers.iter().enumerate() {
            self.keys_and_values(work, index, layer)?;
            if index == last {
                self.backend.keep(work, rows);
                if rows.iter().all(|rows| *rows == Rows::None) {
                    // The cache is complete: nobody needs what the last layer would put out.
                    return Ok(());
                }
            }
            self.attention(work, index, layer)?;
            self.feed_forward(work, layer)?;
        }
        Ok(())
    }

    /// Logits of the rows that are left, so many of each piece.
    fn head(&self, work: &mut B::Workspace, wanted: impl Iterator<Item = usize>, take: &mut Take<'_>) {
        let rows: Vec<(usize, usize)> = wanted
            .enumerate()
            .flat_map(|(piece, rows)| (0..rows).map(move |row| (piece, row)))
            .collect();
        if rows.is_empty() {
            return;
        }
        let (norm, eps) = (&self.output_norm, self.config.norm_eps);
        self.backend.norm(work, Slot::Hidden, norm, eps, Slot::Normed);
        let head = Linear {
            weights: self.output.as_ref().unwrap_or(&self.embedding),
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
        let kind = usize::from(self.config.is_local(index));
        self.backend.rotate(work, Slot::Query, kind);
        self.backend.rotate(work, Slot::Key, kind);
        self.backend.store(work, index);
        Ok(())
    }

    fn attention(
        &self,
        work: &mut B::Workspace,
        index: usize,
        layer: &Layer<B::Matrix>,
    ) -> Result<(), EngineError> {
        let window = self.config.window.filter(|_| self.config.is_local(index));
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

    // INVARIANT: `TensorMap::find` checked that every tensor is there, so this is never seen.
    fn missing(part: Part) -> EngineError {
        EngineError::MissingTensor {
            name: format!("{part:?}"),
        }
    }
}
