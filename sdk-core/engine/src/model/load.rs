//! Streams a model from its file into memory, tensor by tensor.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use kwaainet_platform::{MaybeSend, Parallel, ReadAt, Sequential};
use kwaainet_types::{Permit, RunAi};

use super::config::Config;
use super::info::{ModelInfo, describe};
use super::tensors::{Role, TensorMap, Use};
use crate::backend::cpu::{Cache, Cpu, Workspace, bf16_to_f32, f16_to_f32};
use crate::backend::{Backend, KvFormat};
use crate::chat_template::{ChatTemplate, TemplateError};
use crate::error::EngineError;
use crate::executor::{Executor, Piece, Take, Weight, shape_of};
use crate::gguf::{DType, Gguf, TensorInfo};
use crate::grammar::Vocabulary;
use crate::tokenizer::Tokenizer;

/// Most bytes that are read at once; the only buffer besides the weights themselves.
const READ: usize = 1 << 20;

/// Longer than any model was trained for; keeps sizes in range whatever a file claims.
const LONGEST_CONTEXT: u32 = 1 << 21;

/// How a model is loaded.
#[derive(Clone)]
pub struct LoadOptions {
    /// Longest context of a session; the model's own limit applies too.
    pub context_length: u32,
    /// How a session remembers keys and values.
    pub kv_format: KvFormat,
    /// Processors to compute on.
    pub parallel: Arc<dyn Parallel>,
    /// Most memory for weights, one session's KV cache and scratch.
    pub memory_limit: Option<u64>,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            context_length: 2048,
            kv_format: KvFormat::F16,
            parallel: Arc::new(Sequential),
            memory_limit: None,
        }
    }
}

impl std::fmt::Debug for LoadOptions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoadOptions")
            .field("context_length", &self.context_length)
            .field("kv_format", &self.kv_format)
            .field("memory_limit", &self.memory_limit)
            .finish_non_exhaustive()
    }
}

/// Bytes that a model and one session take. Known from the header, before anything is allocated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryPlan {
    /// Weights, as they are kept in memory.
    pub weights: u64,
    /// Keys and values of the whole context.
    pub kv_cache: u64,
    /// Buffers of the forward pass, and of reading.
    pub scratch: u64,
}

impl MemoryPlan {
    /// What a model would take with these options.
    ///
    /// # Errors
    /// As [`check_runnable`](crate::check_runnable).
    pub fn of(gguf: &Gguf, options: &LoadOptions) -> Result<Self, EngineError> {
        let config = Config::read(gguf)?;
        let tensors = TensorMap::find(gguf, &config)?;
        Ok(Self::new(
            &Cpu::new(Arc::clone(&options.parallel)),
            &config,
            &tensors,
            context_of(&config, options),
            options.kv_format,
        ))
    }

    fn new<B: Backend>(
        backend: &B,
        config: &Config,
        tensors: &TensorMap,
        context: usize,
        kv_format: KvFormat,
    ) -> Self {
        let weights = tensors.tensors.values().fold(0_u64, |sum, (tensor, used_as)| {
            sum.saturating_add(match *used_as {
                Use::Matrix { rows, columns } => backend.matrix_bytes(tensor.dtype, rows, columns),
                Use::Vector { len } => 4 * len as u64,
            })
        });
        let (kv_cache, scratch) = backend.session_bytes(&shape_of(config, tensors, context, kv_format));
        Self {
            weights,
            kv_cache,
            scratch: scratch.saturating_add(READ as u64),
        }
    }

    /// All of it.
    pub fn total(&self) -> u64 {
        self.weights
            .saturating_add(self.kv_cache)
            .saturating_add(self.scratch)
    }
}

fn context_of(config: &Config, options: &LoadOptions) -> usize {
    // INVARIANT: all are at least 1, so a session can hold a token.
    options
        .context_length
        .max(1)
        .min(config.context)
        .min(LONGEST_CONTEXT) as usize
}

/// A model in memory, ready to be run. Sessions share it.
pub struct LoadedModel {
    pub(crate) executor: Executor<Cpu>,
    info: ModelInfo,
    tokenizer: Tokenizer,
    vocabulary: OnceLock<Vocabulary>,
    template: Result<ChatTemplate, TemplateError>,
    plan: MemoryPlan,
    decode_bytes: u64,
    context: usize,
    /// Buffers that nobody computes in just now.
    workspaces: Mutex<Vec<Workspace>>,
}

impl std::fmt::Debug for LoadedModel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LoadedModel")
            .field("info", &self.info)
            .field("plan", &self.plan)
            .finish_non_exhaustive()
    }
}

/// Told how many bytes of all have been read.
pub trait Progress: FnMut(u64, u64) + MaybeSend {}
impl<F: FnMut(u64, u64) + MaybeSend> Progress for F {}

impl LoadedModel {
    /// Reads a model in pieces of at most 1 MiB, straight into its final buffers.
    ///
    /// # Errors
    /// [`EngineError`]: before any tensor is read if the header is bad, not supported, or the model would not fit
    /// into `options.memory_limit`.
    pub async fn load(
        _permit: &Permit<RunAi>,
        source: &dyn ReadAt,
        options: LoadOptions,
        progress: &mut dyn Progress,
    ) -> Result<Self, EngineError> {
        let gguf = Gguf::read(source).await?;
        let config = Config::read(&gguf)?;
        let tensors = TensorMap::find(&gguf, &config)?;
        let info = describe(&gguf, &config)?;
        let backend = Cpu::new(options.parallel.clone());
        let context = context_of(&config, &options);
        let plan = MemoryPlan::new(&backend, &config, &tensors, context, options.kv_format);
        if let Some(limit) = options.memory_limit
            && plan.total() > limit
        {
            return Err(EngineError::OutOfMemory {
                needed: plan.total(),
                limit,
            });
        }
        let tokenizer = Tokenizer::from_metadata(&gguf.metadata)?;
        // A template that cannot be used leaves a model that can still complete plain text.
        let template = ChatTemplate::from_metadata(&gguf.metadata, &tokenizer);
        let weights = read_weights(&backend, source, &tensors, progress).await?;
        let decode_bytes = plan.weights.saturating_sub(idle_bytes(&backend, &tensors));
        let shape = shape_of(&config, &tensors, context, options.kv_format);
        Ok(Self {
            executor: Executor::new(backend, config, shape, weights)?,
            info,
            tokenizer,
            vocabulary: OnceLock::new(),
            template,
            plan,
            decode_bytes,
            context,
            workspaces: Mutex::default(),
        })
    }

    /// Sees to it that there are buffers to compute in.
    pub(crate) fn reserve_workspace(&self) -> Result<(), EngineError> {
        let idle = self.workspace()?;
        self.put_back(idle);
        Ok(())
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

    /// Evaluates pieces of different sequences together; see [`Executor::forward`].
    pub(crate) fn forward(
        &self,
        pieces: Vec<Piece<'_, Cache>>,
        take: &mut Take<'_>,
    ) -> (Vec<Cache>, Result<(), EngineError>) {
        match self.workspace() {
            Ok(mut workspace) => {
                let outcome = self.executor.forward(&mut workspace, pieces, take);
                self.put_back(workspace);
                outcome
            }
            Err(error) => (pieces.into_iter().map(|piece| piece.cache).collect(), Err(error)),
        }
    }

    /// What the model is.
    pub fn info(&self) -> &ModelInfo {
        &self.info
    }

    /// Its tokenizer.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.tokenizer
    }

    /// The bytes of its tokens, sorted when a grammar first asks for them.
    pub(crate) fn vocabulary(&self) -> &Vocabulary {
        self.vocabulary.get_or_init(|| Vocabulary::new(&self.tokenizer))
    }

    /// How it writes a conversation.
    ///
    /// # Errors
    /// [`EngineError::Template`] when the file's template cannot be used.
    pub fn chat_template(&self) -> Result<&ChatTemplate, EngineError> {
        self.template.as_ref().map_err(|error| error.clone().into())
    }

    /// Bytes of the weights and of one session.
    pub fn memory_bytes(&self) -> u64 {
        self.plan.total()
    }

    /// Where those bytes go.
    pub fn memory_plan(&self) -> MemoryPlan {
        self.plan
    }

    /// Tokens that a session can hold.
    pub fn context_length(&self) -> usize {
        self.context
    }

    /// Bytes of weights that a token of an answer reads: all, but of an embedding table that is no output head a row.
    pub fn decode_bytes(&self) -> u64 {
        self.decode_bytes
    }

    /// What computes, with its instruction set: `cpu (avx2)`.
    pub fn backend(&self) -> String {
        self.executor.backend.name()
    }
}

/// Bytes of weights that only looking up tokens reads.
fn idle_bytes<B: Backend>(backend: &B, tensors: &TensorMap) -> u64 {
    let of = |role: Role| tensors.tensors.get(&role);
    match (of(Role::Output), of(Role::Embedding)) {
        (Some(_), Some((tensor, Use::Matrix { rows, columns }))) => {
            backend.matrix_bytes(tensor.dtype, *rows, *columns)
        }
        _ => 0,
    }
}

pub(crate) async fn read_weights<B: Backend>(
    backend: &B,
    source: &dyn ReadAt,
    tensors: &TensorMap,
    progress: &mut dyn Progress,
) -> Result<BTreeMap<Role, Weight<B::Matrix>>, EngineError> {
    let total = tensors
        .tensors
        .values()
        .fold(0_u64, |sum, (tensor, _)| sum.saturating_add(tensor.bytes));
    let mut done = 0_u64;
    let mut buffer = Vec::new();
    let mut weights = BTreeMap::new();
    // In the file's order: disks and downloads like that best.
    let mut order: Vec<_> = tensors.tensors.iter().collect();
    order.sort_by_key(|(_, (tensor, _))| tensor.offset);
    for (role, (tensor, used_as)) in order {
        let mut on_piece = |bytes: usize| {
            done = done.saturating_add(bytes as u64);
            progress(done, total);
        };
        let weight = match *used_as {
            Use::Matrix { rows, columns } => {
                let mut matrix = backend.matrix(tensor.dtype, rows, columns)?;
                let row = usize::try_from(tensor.bytes).unwrap_or(usize::MAX) / rows.max(1);
                let mut pieces = Pieces::new(tensor, row);
                while let Some(len) = pieces.next_len() {
                    let bytes = pieces.read(source, &mut buffer, len).await?;
                    for row in bytes.chunks_exact(row.max(1)) {
                        backend.push_row(&mut matrix, row, &tensor.name)?;
                    }
                    on_piece(len);
                }
                Weight::Matrix(matrix)
            }
            Use::Vector { len } => {
                let mut vector = Vec::with_capacity(len);
                let mut pieces = Pieces::new(tensor, tensor.dtype.block_bytes());
                while let Some(len) = pieces.next_len() {
                    let bytes = pieces.read(source, &mut buffer, len).await?;
                    floats(tensor.dtype, bytes, &mut vector);
                    on_piece(len);
                }
                if vector.iter().any(|value| !value.is_finite()) {
                    return Err(EngineError::NotFinite {
                        what: format!("tensor {:?}", tensor.name),
                    });
                }
                Weight::Vector(vector)
            }
        };
        weights.insert(*role, weight);
    }
    Ok(weights)
}

fn floats(dtype: DType, bytes: &[u8], out: &mut Vec<f32>) {
    match dtype {
        DType::F16 | DType::Bf16 => out.extend(bytes.as_chunks::<2>().0.iter().map(|half| {
            let half = u16::from_le_bytes(*half);
            match dtype {
                // Infinity and NaN, which the fast conversion does not keep.
                DType::F16 if half & 0x7c00 == 0x7c00 => f32::NAN,
                DType::F16 => f16_to_f32(half),
                _ => bf16_to_f32(half),
            }
        })),
        _ => out.extend(
            bytes
                .as_chunks::<4>()
                .0
                .iter()
                .map(|float| f32::from_le_bytes(*float)),
        ),
    }
}

/// The pieces of a tensor, each of whole rows.
struct Pieces {
    offset: u64,
    left: usize,
    piece: usize,
}

impl Pieces {
    fn new(tensor: &TensorInfo, row: usize) -> Self {
        Self {
            offset: tensor.offset,
            // A tensor that does not fit the address space was refused when its matrix was made.
            left: usize::try_from(tensor.bytes).unwrap_or(usize::MAX),
            piece: (READ / row.max(1)).max(1).saturating_mul(row.max(1)),
        }
    }

    fn next_len(&self) -> Option<usize> {
        (self.left > 0).then(|| self.left.min(self.piece))
    }

    async fn read<'a>(
        &mut self,
        source: &dyn ReadAt,
        buffer: &'a mut Vec<u8>,
        len: usize,
    ) -> Result<&'a [u8], EngineError> {
        buffer.resize(len, 0);
        source
            .read_at(self.offset, buffer)
            .await
            .map_err(EngineError::Read)?;
        self.offset = self.offset.saturating_add(len as u64);
        self.left = self.left.saturating_sub(len);
        Ok(buffer)
    }
}
