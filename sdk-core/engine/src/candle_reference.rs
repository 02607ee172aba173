//! Our products next to candle's, on the same numbers: for the decision in `docs/decisions/0005-own-executor.md`.

use std::sync::Arc;

use kwaainet_platform::{MaybeSend, ReadAt, Sequential};
use kwaainet_types::{Permit, RunAi};

use crate::backend::candle::Candle;
use crate::backend::cpu::Cpu;
use crate::backend::cpu::activations::{Activations, Rounding};
use crate::backend::cpu::isa::Isa;
use crate::backend::cpu::matmul::{Product, multiply};
use crate::backend::{Backend, KvFormat, Rows};
use crate::error::EngineError;
use crate::executor::{Executor, Input, Piece, shape_of};
use crate::gguf::{DType, Gguf};
use crate::model::{Config, TensorMap, read_weights};

/// One product, prepared for both.
#[derive(Debug)]
pub struct Comparison {
    isa: Isa,
    candle: <Candle as Backend>::Matrix,
    ours: <Cpu as Backend>::Matrix,
    activations: Activations,
    x: Vec<f32>,
    out: Vec<f32>,
}

impl Comparison {
    /// A matrix from the bytes of its rows, and vectors of `columns` numbers to multiply it with.
    ///
    /// # Errors
    /// [`EngineError`] if the bytes are not rows of this format.
    pub fn new(
        dtype: DType,
        rows: usize,
        columns: usize,
        bytes: &[u8],
        x: Vec<f32>,
    ) -> Result<Self, EngineError> {
        let (cpu, candle) = (
            Cpu::new(Arc::new(Sequential)),
            Candle(Cpu::new(Arc::new(Sequential))),
        );
        let mut ours = cpu.matrix(dtype, rows, columns)?;
        let mut theirs = candle.matrix(dtype, rows, columns)?;
        for row in bytes.chunks(ours.row_bytes().max(1)) {
            cpu.push_row(&mut ours, row, "weights")?;
            candle.push_row(&mut theirs, row, "weights")?;
        }
        Ok(Self {
            isa: Isa::detect(),
            candle: theirs,
            ours,
            activations: Activations::default(),
            out: vec![0.0; x.len() / columns * rows],
            x,
        })
    }

    /// Our product, rounding of the activations included.
    pub fn ours(&mut self) -> &[f32] {
        let rounding = Rounding::of(self.ours.dtype());
        self.activations
            .round(self.isa, rounding, &self.x, self.ours.columns());
        let product = Product {
            weights: &self.ours,
            activations: &self.activations,
            out: &mut self.out,
        };
        multiply(self.isa, &Sequential, &mut [product]);
        &self.out
    }

    /// candle's product, likewise.
    pub fn candle(&self) -> Vec<f32> {
        self.candle.multiply(&self.x)
    }
}

/// Logits behind `tokens`, computed once with our products and once with candle's.
///
/// # Errors
/// As [`LoadedModel::load`](crate::LoadedModel::load).
pub async fn logits_of_both(
    _permit: &Permit<RunAi>,
    source: &dyn ReadAt,
    tokens: &[u32],
) -> Result<(Vec<f32>, Vec<f32>), EngineError> {
    let cpu = || Cpu::new(Arc::new(Sequential));
    Ok((
        logits(cpu(), source, tokens).await?,
        logits(Candle(cpu()), source, tokens).await?,
    ))
}

async fn logits<B: Backend + MaybeSend>(
    backend: B,
    source: &dyn ReadAt,
    tokens: &[u32],
) -> Result<Vec<f32>, EngineError> {
    let gguf = Gguf::read(source).await?;
    let config = Config::read(&gguf)?;
    let map = TensorMap::find(&gguf, &config)?;
    let weights = read_weights(&backend, source, &map, &mut |_, _| {}).await?;
    let shape = shape_of(&config, config.layers, &map, tokens.len(), KvFormat::F16);
    let layers = 0..config.layers;
    let executor = Executor::new(backend, config, layers, shape, weights)?;
    let work = executor.workspace()?;
    let mut last = Vec::new();
    let piece = Piece {
        cache: executor.cache(),
        first: 0,
        input: Input::Tokens(tokens),
        rows: Rows::Last,
    };
    let mut take = |_: usize, _: usize, logits: &[f32]| last = logits.to_vec();
    let mut pass = executor.begin(work, vec![piece]);
    executor.advance(&mut pass, usize::MAX);
    executor.end(pass, &mut take).2?;
    Ok(last)
}
