//! Consecutive layers of a model in memory: all of them, or those that one of several peers holds.

use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kwaainet_platform::ReadAt;
use kwaainet_types::{Permit, RunAi};

use super::config::Config;
use super::load::{LoadOptions, MemoryPlan, Progress, context_of};
use super::tensors::{Role, TensorMap, Use};
use super::weights::read_weights;
use crate::backend::Backend;
use crate::backend::cpu::{Cache, Cpu, Workspace};
use crate::error::EngineError;
use crate::executor::{Executor, Pass, Piece, Take, shape_of};
use crate::gguf::Gguf;

/// Layers of a model, ready to be run. The first layer brings the embedding table along, the last the output head.
///
/// ```no_run
/// # use std::sync::Arc;
/// # use kwaainet_engine::{BlockInput, BlockSession, EngineError, LoadOptions, ModelBlocks, Wanted};
/// # async fn run(
/// #     permit: kwaainet_types::Permit<kwaainet_types::RunAi>,
/// #     file: &dyn kwaainet_platform::ReadAt,
/// # ) -> Result<(), EngineError> {
/// // Two peers, each with half of a model of 30 layers; the second would be on another machine.
/// let (options, mut told) = (LoadOptions::default(), |_, _| {});
/// let front = ModelBlocks::load(&permit, file, 0..15, options.clone(), &mut told).await?;
/// let back = ModelBlocks::load(&permit, file, 15..30, options, &mut told).await?;
/// let mut front = BlockSession::new(Arc::new(front))?;
/// let mut back = BlockSession::new(Arc::new(back))?;
/// let hidden = front.forward(&permit, BlockInput::Tokens(&[1, 2, 3]), Wanted::All)?;
/// let logits = back.forward(&permit, BlockInput::Hidden(&hidden), Wanted::Last)?;
/// # Ok(()) }
/// ```
pub struct ModelBlocks {
    executor: Executor<Cpu>,
    layers: Range<usize>,
    of: usize,
    width: usize,
    vocabulary: usize,
    plan: MemoryPlan,
    decode_bytes: u64,
    context: usize,
    /// Buffers that nobody computes in just now.
    workspaces: Mutex<Vec<Workspace>>,
}

impl std::fmt::Debug for ModelBlocks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ModelBlocks")
            .field("layers", &self.layers)
            .field("of", &self.of)
            .field("plan", &self.plan)
            .finish_non_exhaustive()
    }
}

impl ModelBlocks {
    /// Reads these layers in pieces of at most 1 MiB, straight into their final buffers. Of `source` only the header (in
    /// steps of 256 KiB) and the tensors of these layers are read; the rest need not be there.
    ///
    /// # Errors
    /// [`EngineError::NoSuchLayers`], or as [`LoadedModel::load`](crate::LoadedModel::load).
    pub async fn load(
        permit: &Permit<RunAi>,
        source: &dyn ReadAt,
        layers: Range<usize>,
        options: LoadOptions,
        progress: &mut dyn Progress,
    ) -> Result<Self, EngineError> {
        let gguf = Gguf::read(source).await?;
        let config = Config::read(&gguf)?;
        Self::read(permit, &gguf, config, layers, source, options, progress).await
    }

    pub(super) async fn read(
        _permit: &Permit<RunAi>,
        gguf: &Gguf,
        config: Config,
        layers: Range<usize>,
        source: &dyn ReadAt,
        options: LoadOptions,
        progress: &mut dyn Progress,
    ) -> Result<Self, EngineError> {
        if layers.is_empty() || layers.end > config.layers {
            return Err(EngineError::NoSuchLayers {
                wanted: layers,
                layers: config.layers,
            });
        }
        let mut tensors = TensorMap::find(gguf, &config)?;
        tensors.keep(&layers, config.layers);
        let backend = Cpu::new(Arc::clone(&options.parallel));
        let context = context_of(&config, &options);
        let shape = shape_of(&config, layers.len(), &tensors, context, options.kv_format);
        let plan = MemoryPlan::new(&backend, &tensors, &shape);
        if let Some(limit) = options.memory_limit
            && plan.total() > limit
        {
            return Err(EngineError::OutOfMemory {
                needed: plan.total(),
                limit,
            });
        }
        let weights = read_weights(&backend, source, &tensors, progress).await?;
        Ok(Self {
            decode_bytes: plan.weights.saturating_sub(idle_bytes(&backend, &tensors)),
            of: config.layers,
            width: config.width,
            vocabulary: config.vocabulary,
            executor: Executor::new(backend, config, layers.clone(), shape, weights)?,
            layers,
            plan,
            context,
            workspaces: Mutex::default(),
        })
    }

    /// Which layers these are.
    pub fn layers(&self) -> Range<usize> {
        self.layers.clone()
    }

    /// Whether they begin with tokens, not with what other layers put out.
    pub fn is_first(&self) -> bool {
        self.layers.start == 0
    }

    /// Whether they end with logits, not with something for the layers behind them.
    pub fn is_last(&self) -> bool {
        self.layers.end == self.of
    }

    /// Numbers that a token is between layers.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Tokens that there are, so logits that a token has.
    pub fn vocabulary(&self) -> usize {
        self.vocabulary
    }

    /// Tokens that a session can hold.
    pub fn context_length(&self) -> usize {
        self.context
    }

    /// Where the bytes of the weights and of one session go.
    pub fn memory_plan(&self) -> MemoryPlan {
        self.plan
    }

    /// What computes, with its instruction set: `cpu (avx2)`.
    pub fn backend(&self) -> String {
        self.executor.backend.name()
    }

    pub(super) fn decode_bytes(&self) -> u64 {
        self.decode_bytes
    }

    /// Sees to it that there are buffers to compute in.
    pub(crate) fn reserve_workspace(&self) -> Result<(), EngineError> {
        let idle = self.workspace()?;
        self.put_back(idle);
        Ok(())
    }

    /// An empty cache for one sequence.
    pub(crate) fn cache(&self) -> Cache {
        self.executor.cache()
    }

    /// Whether all keys and values so far were numbers.
    pub(crate) fn is_sound(&self, cache: &Cache) -> bool {
        self.executor.backend.is_sound(cache)
    }

    /// Forgets everything, including what nobody should look at any more.
    pub(crate) fn clear(&self, cache: &mut Cache) {
        self.executor.backend.clear(cache);
    }

    /// Evaluates pieces of different sequences together; see [`Executor::begin`].
    pub(crate) fn forward(
        &self,
        pieces: Vec<Piece<'_, Cache>>,
        take: &mut Take<'_>,
    ) -> (Vec<Cache>, Result<(), EngineError>) {
        match self.begin(pieces) {
            Ok(mut pass) => {
                self.advance(&mut pass, usize::MAX);
                self.end(pass, take)
            }
            Err((caches, error)) => (caches, Err(error)),
        }
    }

    /// Begins to evaluate pieces; gives the caches back where there is no memory for that.
    pub(crate) fn begin(
        &self,
        pieces: Vec<Piece<'_, Cache>>,
    ) -> Result<Pass<Workspace>, (Vec<Cache>, EngineError)> {
        match self.workspace() {
            Ok(workspace) => Ok(self.executor.begin(workspace, pieces)),
            Err(error) => Err((pieces.into_iter().map(|piece| piece.cache).collect(), error)),
        }
    }

    /// Up to so many layers more; true when none is left.
    pub(crate) fn advance(&self, pass: &mut Pass<Workspace>, layers: usize) -> bool {
        self.executor.advance(pass, layers)
    }

    /// Ends a pass, also one that has not been through all layers: then nothing was computed.
    pub(crate) fn end(
        &self,
        pass: Pass<Workspace>,
        take: &mut Take<'_>,
    ) -> (Vec<Cache>, Result<(), EngineError>) {
        let (workspace, caches, outcome) = self.executor.end(pass, take);
        self.put_back(workspace);
        (caches, outcome)
    }

    fn workspace(&self) -> Result<Workspace, EngineError> {
        let idle = self.idle().pop();
        idle.map_or_else(|| self.executor.workspace(), Ok)
    }

    fn put_back(&self, workspace: Workspace) {
        self.idle().push(workspace);
    }

    fn idle(&self) -> MutexGuard<'_, Vec<Workspace>> {
        self.workspaces.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Bytes of weights that only looking up tokens reads.
fn idle_bytes<B: Backend>(backend: &B, tensors: &TensorMap) -> u64 {
    let of = |role: Role| tensors.tensors.get(&role);
    match (of(Role::OutputNorm), of(Role::Output), of(Role::Embedding)) {
        // Tied: the table is the output head too.
        (Some(_), None, _) => 0,
        (_, _, Some((tensor, Use::Matrix { rows, columns }))) => {
            backend.matrix_bytes(tensor.dtype, *rows, *columns)
        }
        _ => 0,
    }
}
