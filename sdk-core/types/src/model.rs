//! The signed catalogue of models.

use serde::{Deserialize, Serialize};

/// Bytes of one chunk: the unit of hashing, re-fetching and (later) sharing between peers.
pub const CHUNK_BYTES: u64 = 1 << 20;

/// Lowest tier of device that runs a model at a useful speed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(feature = "ts", derive(tsify::Tsify))]
pub enum Tier {
    /// Control plane only.
    T0,
    /// SIMD on one processor.
    T1,
    /// SIMD and threads.
    T2,
    /// GPU.
    T3,
}

/// One model that can be fetched and verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "ts", derive(tsify::Tsify))]
pub struct ModelEntry {
    /// Id that requests name: `[a-z0-9._-]{1,96}`.
    pub id: String,
    /// Name shown to people.
    pub name: String,
    /// `general.architecture` of the file.
    pub architecture: String,
    /// E.g. `Q4_1`.
    pub quantisation: String,
    /// Size of the file.
    pub bytes: u64,
    /// SPDX id, or a name where there is none.
    pub licence: String,
    /// Longest context the model was trained for, in tokens.
    pub context_length: u32,
    /// Lowest tier that runs it.
    pub smallest_tier: Tier,
    /// CIDv1 of the file as one DAG-PB/UnixFS file of raw 1 MiB leaves.
    pub cid: String,
    /// SHA-256 (hex) of each chunk of [`CHUNK_BYTES`], the last one shorter.
    pub chunk_hashes: Vec<String>,
    /// Where to fetch from, in order: `https:` URLs, or paths relative to the catalogue's own URL.
    pub sources: Vec<String>,
}

/// All models of a deployment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "ts", derive(tsify::Tsify))]
pub struct Catalogue {
    /// Version of this format: 1.
    pub version: u32,
    /// Rises with every edition, so that an old one cannot be passed off as new.
    pub edition: u64,
    /// IPFS trustless gateways to try after the device itself, e.g. `https://ipfs.example/ipfs/`.
    pub gateways: Vec<String>,
    /// The models.
    pub models: Vec<ModelEntry>,
}

/// `models.json`: the catalogue as the exact text that was signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[cfg_attr(feature = "ts", derive(tsify::Tsify))]
pub struct SignedCatalogue {
    /// JSON text of a [`Catalogue`]; signed as these bytes, so no canonical form is needed.
    pub catalogue: String,
    /// Ed25519 signature (hex) over `kwaainet-catalogue-v1\n` followed by those bytes.
    pub signature: String,
    /// Ed25519 public key (hex) it claims to be signed with; trusted only if it is the configured one.
    pub key: String,
}
