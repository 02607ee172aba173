//! Reads tensors from a model's file, straight into the form in which they are kept.

use std::collections::BTreeMap;

use kwaainet_platform::ReadAt;

use super::load::Progress;
use super::tensors::{Role, TensorMap, Use};
use crate::backend::Backend;
use crate::backend::cpu::{bf16_to_f32, f16_to_f32};
use crate::error::EngineError;
use crate::executor::Weight;
use crate::gguf::{DType, TensorInfo};

/// Most bytes that are read at once; the only buffer besides the weights themselves.
pub(super) const READ: usize = 1 << 20;

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
