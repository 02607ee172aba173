//! A catalogue entry made from a model file.

use kwaainet_engine::EngineError;
use kwaainet_engine::gguf::Gguf;
use kwaainet_platform::ReadAt;
use kwaainet_types::{CHUNK_BYTES, ModelEntry, Tier};
use sha2::{Digest, Sha256};

use crate::{NodeError, catalogue, cid};

/// What a file does not say about itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ManifestOptions {
    /// Id that requests will name.
    pub id: String,
    /// Name shown to people; the file's own name for itself when absent.
    pub name: Option<String>,
    /// SPDX id; what the file says when absent.
    pub licence: Option<String>,
    /// Where it will be served.
    pub sources: Vec<String>,
    /// Lowest tier that runs it at a useful speed; by its size when absent.
    pub smallest_tier: Option<Tier>,
}

/// A SIMD build on one processor reads about 2 GB of weights per second: above half of that it is slower than speech.
const LARGEST_FOR_ONE_PROCESSOR: u64 = 1 << 30;
/// Likewise for a handful of processors, whose memory bandwidth is the limit.
const LARGEST_FOR_PROCESSORS: u64 = 4 << 30;

/// Hashes a model file and describes it. `progress` is told bytes done and bytes in all.
///
/// # Errors
/// [`NodeError::Engine`] when it is not a model that can run; [`NodeError::Store`] when it cannot be read.
pub async fn of_file(
    file: &dyn ReadAt,
    options: ManifestOptions,
    progress: &(dyn Fn(u64, u64) + Sync),
) -> Result<ModelEntry, NodeError> {
    let mut entry = of_header(&options.id, file).await?;
    let mut hashes = Vec::new();
    let mut at = 0;
    while at < entry.bytes {
        let len = CHUNK_BYTES.min(entry.bytes.saturating_sub(at));
        let mut chunk = vec![0; len as usize];
        file.read_at(at, &mut chunk).await?;
        hashes.push(<[u8; 32]>::from(Sha256::digest(&chunk)));
        at = at.saturating_add(len);
        progress(at, entry.bytes);
    }
    entry.cid = cid::of_chunks(&hashes, entry.bytes).unwrap_or_default();
    entry.chunk_hashes = hashes.iter().map(hex::encode).collect();
    entry.sources = options.sources;
    entry.name = options.name.unwrap_or(entry.name);
    entry.licence = options.licence.unwrap_or(entry.licence);
    entry.smallest_tier = options.smallest_tier.unwrap_or(entry.smallest_tier);
    Ok(entry)
}

/// Describes a model file by its header alone: no hashes, no CID, no sources.
///
/// # Errors
/// [`NodeError::Engine`] when it is not a model that can run.
pub async fn of_header(id: &str, file: &dyn ReadAt) -> Result<ModelEntry, NodeError> {
    if !catalogue::is_model_id(id) {
        return Err(NodeError::BadRequest(format!(
            "{id:?} is not a model id: use 1 to 96 of a-z 0-9 . _ - and no leading dot"
        )));
    }
    let gguf = Gguf::read(file).await.map_err(EngineError::from)?;
    let info = kwaainet_engine::check_runnable(&gguf)?;
    let licence = gguf
        .metadata
        .str("general.license")
        .ok()
        .map(|text| text.chars().take(100).collect());
    let bytes = file.size();
    Ok(ModelEntry {
        id: id.to_owned(),
        name: info.name.unwrap_or_else(|| id.to_owned()),
        architecture: info.architecture,
        quantisation: info.quantisation,
        bytes,
        licence: licence.unwrap_or_else(|| "unknown".to_owned()),
        context_length: info.context_length,
        smallest_tier: if bytes <= LARGEST_FOR_ONE_PROCESSOR {
            Tier::T1
        } else if bytes <= LARGEST_FOR_PROCESSORS {
            Tier::T2
        } else {
            Tier::T3
        },
        cid: String::new(),
        chunk_hashes: Vec::new(),
        sources: Vec::new(),
    })
}
