//! What a model file is, told from its header alone.

use std::collections::BTreeMap;

use super::config::Config;
use super::tensors::TensorMap;
use crate::error::EngineError;
use crate::gguf::{DType, Gguf, OptionalKey, file_type_name};

/// What people and programs want to know about a model before running it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ModelInfo {
    /// `general.architecture`.
    pub architecture: String,
    /// `general.name`.
    pub name: Option<String>,
    /// E.g. `Q4_1`: from `general.file_type`, else the format of most weights.
    pub quantisation: String,
    /// How many numbers all tensors hold.
    pub parameters: u64,
    /// Longest context the model was trained for, in tokens.
    pub context_length: u32,
    /// Words in the vocabulary.
    pub vocabulary: u32,
    /// Transformer blocks.
    pub layers: u32,
    /// Width of the residual stream.
    pub embedding_length: u32,
    /// Size of the file.
    pub file_bytes: u64,
}

/// Whether this engine can run the file, judged from its header: call it before fetching any tensor.
///
/// # Errors
/// [`EngineError`] that names what is missing, contradictory or not supported.
pub fn check_runnable(gguf: &Gguf) -> Result<ModelInfo, EngineError> {
    let config = Config::read(gguf)?;
    TensorMap::find(gguf, &config)?;
    describe(gguf, &config)
}

pub(crate) fn describe(gguf: &Gguf, config: &Config) -> Result<ModelInfo, EngineError> {
    let meta = &gguf.metadata;
    let file_type = meta.u32("general.file_type").optional().unwrap_or(None);
    let quantisation = match file_type.and_then(file_type_name) {
        Some(name) => name.to_owned(),
        None => majority(gguf).name().to_owned(),
    };
    let narrow = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    Ok(ModelInfo {
        architecture: meta.str("general.architecture")?.to_owned(),
        name: meta
            .str("general.name")
            .ok()
            .map(|name| name.chars().take(200).collect()),
        quantisation,
        parameters: gguf
            .tensors
            .iter()
            .fold(0_u64, |sum, tensor| sum.saturating_add(tensor.elements())),
        context_length: config.context,
        vocabulary: narrow(config.vocabulary),
        layers: narrow(config.layers),
        embedding_length: narrow(config.width),
        file_bytes: gguf.file_size,
    })
}

fn majority(gguf: &Gguf) -> DType {
    let mut counts: BTreeMap<DType, u64> = BTreeMap::new();
    for tensor in &gguf.tensors {
        let count = counts.entry(tensor.dtype).or_default();
        *count = count.saturating_add(tensor.elements());
    }
    counts
        .into_iter()
        .max_by_key(|(_, count)| *count)
        .map_or(DType::F32, |(dtype, _)| dtype)
}
