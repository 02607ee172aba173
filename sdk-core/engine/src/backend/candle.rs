//! candle's quantised product behind the same seam: a reference that nobody here wrote, for tests and measurements.
//!
//! Everything but the product is the processor backend's. Only built with the feature `candle`, never shipped.

use std::borrow::Cow;
use std::sync::OnceLock;

use candle_core::quantized::{GgmlDType, QMatMul, QStorage, QTensor};
use candle_core::{Device, Module, Tensor};

use super::cpu::ops::add_bias;
use super::cpu::packed::PackedMatrix;
use super::cpu::{Cache, Cpu, Workspace};
use super::{Backend, Linear, Rows, Segment, Shape, Slot};
use crate::error::EngineError;
use crate::gguf::DType;
use crate::model::{Activation, Rope};

/// candle's product, everything else by [`Cpu`].
#[derive(Debug)]
pub(crate) struct Candle(pub(crate) Cpu);

/// The file's own bytes for candle, and our panels for looking up rows.
#[derive(Debug)]
pub(crate) struct Matrix {
    bytes: Vec<u8>,
    packed: PackedMatrix,
    product: OnceLock<QMatMul>,
}

const fn candle_dtype(dtype: DType) -> GgmlDType {
    match dtype {
        DType::F32 => GgmlDType::F32,
        DType::F16 => GgmlDType::F16,
        DType::Bf16 => GgmlDType::BF16,
        DType::Q4_0 => GgmlDType::Q4_0,
        DType::Q4_1 => GgmlDType::Q4_1,
        DType::Q5_0 => GgmlDType::Q5_0,
        DType::Q5_1 => GgmlDType::Q5_1,
        DType::Q8_0 => GgmlDType::Q8_0,
        DType::Q2K => GgmlDType::Q2K,
        DType::Q3K => GgmlDType::Q3K,
        DType::Q4K => GgmlDType::Q4K,
        DType::Q5K => GgmlDType::Q5K,
        DType::Q6K => GgmlDType::Q6K,
    }
}

impl Matrix {
    /// Fails only if candle refuses what the GGUF reader accepted.
    fn product(&self) -> &QMatMul {
        self.product.get_or_init(|| {
            let shape = (self.packed.rows(), self.packed.columns());
            let dtype = candle_dtype(self.packed.dtype());
            QStorage::from_data(Cow::Borrowed(&self.bytes), &Device::Cpu, dtype)
                .and_then(|storage| QTensor::new(storage, shape))
                .and_then(QMatMul::from_qtensor)
                .unwrap_or_else(|error| reference_failed(&error))
        })
    }

    /// The product with whole vectors.
    pub(crate) fn multiply(&self, x: &[f32]) -> Vec<f32> {
        let columns = self.packed.columns();
        Tensor::from_slice(x, (x.len() / columns, columns), &Device::Cpu)
            .and_then(|x| self.product().forward(&x))
            .and_then(|y| y.flatten_all()?.to_vec1())
            .unwrap_or_else(|error| reference_failed(&error))
    }
}

#[expect(
    clippy::panic,
    reason = "a reference for tests that fails has nothing to fall back on"
)]
fn reference_failed<T>(error: &candle_core::Error) -> T {
    panic!("candle: {error}")
}

impl Backend for Candle {
    type Matrix = Matrix;
    type Workspace = Workspace;
    type Cache = Cache;

    fn name(&self) -> String {
        "candle".to_owned()
    }

    fn matrix_bytes(&self, dtype: DType, rows: usize, columns: usize) -> u64 {
        3 * self.0.matrix_bytes(dtype, rows, columns)
    }

    fn matrix(&self, dtype: DType, rows: usize, columns: usize) -> Result<Matrix, EngineError> {
        Ok(Matrix {
            bytes: Vec::new(),
            packed: self.0.matrix(dtype, rows, columns)?,
            product: OnceLock::new(),
        })
    }

    fn push_row(&self, matrix: &mut Matrix, row: &[u8], name: &str) -> Result<(), EngineError> {
        matrix.bytes.extend_from_slice(row);
        self.0.push_row(&mut matrix.packed, row, name)
    }

    fn session_bytes(&self, shape: &Shape) -> (u64, u64) {
        self.0.session_bytes(shape)
    }

    fn cache(&self, shape: &Shape) -> Cache {
        self.0.cache(shape)
    }

    fn workspace(&self, shape: &Shape) -> Result<Workspace, EngineError> {
        self.0.workspace(shape)
    }

    fn multiply(&self, work: &mut Workspace, from: Slot, products: &[Linear<'_, Matrix>]) {
        for product in products {
            let result = product.weights.multiply(work.slot(from));
            for (to, from) in work.slot_mut(product.to).iter_mut().zip(&result) {
                *to = *from;
            }
            if let Some(bias) = product.bias {
                add_bias(work.slot_mut(product.to), bias);
            }
        }
    }

    fn embed(&self, work: &mut Workspace, row: usize, table: &Matrix, tokens: &[u32], factor: f32) {
        self.0.embed(work, row, &table.packed, tokens, factor);
    }

    fn is_sound(&self, cache: &Cache) -> bool {
        self.0.is_sound(cache)
    }

    fn clear(&self, cache: &mut Cache) {
        self.0.clear(cache);
    }

    fn begin(
        &self,
        work: &mut Workspace,
        segments: Vec<Segment<Cache>>,
        ropes: &[Rope; 2],
    ) -> Result<(), EngineError> {
        self.0.begin(work, segments, ropes)
    }

    fn end(&self, work: &mut Workspace) -> Vec<Segment<Cache>> {
        self.0.end(work)
    }

    fn norm(&self, work: &mut Workspace, from: Slot, weights: &[f32], eps: f32, to: Slot) {
        self.0.norm(work, from, weights, eps, to);
    }

    fn norm_heads(&self, work: &mut Workspace, slot: Slot, weights: &[f32], eps: f32) {
        self.0.norm_heads(work, slot, weights, eps);
    }

    fn rotate(&self, work: &mut Workspace, slot: Slot, kind: usize) {
        self.0.rotate(work, slot, kind);
    }

    fn store(&self, work: &mut Workspace, layer: usize) {
        self.0.store(work, layer);
    }

    fn attend(&self, work: &mut Workspace, layer: usize, window: Option<usize>) {
        self.0.attend(work, layer, window);
    }

    fn gate(&self, work: &mut Workspace, activation: Activation) {
        self.0.gate(work, activation);
    }

    fn add(&self, work: &mut Workspace, to: Slot, from: Slot) {
        self.0.add(work, to, from);
    }

    fn copy_rows(&self, work: &mut Workspace, from: Slot, start: usize, count: usize, to: Slot) {
        self.0.copy_rows(work, from, start, count, to);
    }

    fn keep(&self, work: &mut Workspace, rows: &[Rows]) {
        self.0.keep(work, rows);
    }

    fn set_tokens(&self, work: &mut Workspace, tokens: usize) {
        self.0.set_tokens(work, tokens);
    }

    fn set_hidden(&self, work: &mut Workspace, row: usize, hidden: &[f32]) {
        self.0.set_hidden(work, row, hidden);
    }

    fn hidden<'a>(&self, work: &'a Workspace) -> &'a [f32] {
        self.0.hidden(work)
    }

    fn logits<'a>(&self, work: &'a Workspace) -> &'a [f32] {
        self.0.logits(work)
    }
}
