//! The signed catalogue: which models there are, and what their bytes must be.

use std::collections::BTreeSet;

use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use kwaainet_types::{CHUNK_BYTES, Catalogue, ModelEntry, SignedCatalogue};

use crate::cid;

/// Keeps a signature for one use from being valid for another.
const DOMAIN: &[u8] = b"kwaainet-catalogue-v1\n";
/// Largest catalogue accepted. A 7 GB model takes half a megabyte of hashes.
pub const LARGEST_CATALOGUE: usize = 16 << 20;
/// Most models of a catalogue.
pub const MOST_MODELS: usize = 1000;
/// Most sources of a model, and most gateways.
pub const MOST_SOURCES: usize = 16;
/// Largest model: 1 TiB, so that sums of sizes cannot overflow.
pub const LARGEST_MODEL: u64 = 1 << 40;

/// Why a catalogue is not trusted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CatalogueError {
    /// It is not the JSON that we expect.
    #[error("the catalogue of models cannot be read: {0}")]
    Malformed(String),
    /// It is not signed by the configured key.
    #[error("the catalogue of models is not signed by the key that this deployment trusts")]
    Signature,
    /// A deployment without a key cannot trust any catalogue.
    #[error("this deployment has a catalogue of models but no key to check it with: set catalogueKey")]
    NoKey,
    /// An older edition than the one already seen.
    #[error("the catalogue of models is edition {found}, older than edition {kept} which was seen before")]
    RolledBack {
        /// The edition that came.
        found: u64,
        /// The edition that was kept.
        kept: u64,
    },
    /// An entry that contradicts itself.
    #[error("the catalogue's entry {id:?} is not valid: {reason}")]
    Entry {
        /// Its id.
        id: String,
        /// What is wrong.
        reason: String,
    },
}

/// Checks signature, bounds and every entry.
///
/// # Errors
/// [`CatalogueError`] that says what is wrong.
pub fn verify(signed: &SignedCatalogue, key: &[u8; 32]) -> Result<Catalogue, CatalogueError> {
    if signed.catalogue.len() > LARGEST_CATALOGUE {
        return Err(CatalogueError::Malformed(format!(
            "it has {} bytes, at most {LARGEST_CATALOGUE} are accepted",
            signed.catalogue.len()
        )));
    }
    let key = VerifyingKey::from_bytes(key).map_err(|_| CatalogueError::Signature)?;
    let mut bytes = [0; 64];
    hex::decode_to_slice(&signed.signature, &mut bytes).map_err(|_| CatalogueError::Signature)?;
    // Strict: no signature that is valid under several keys (small-order points).
    key.verify_strict(&message(&signed.catalogue), &Signature::from_bytes(&bytes))
        .map_err(|_| CatalogueError::Signature)?;
    let catalogue: Catalogue = serde_json::from_str(&signed.catalogue)
        .map_err(|error| CatalogueError::Malformed(error.to_string()))?;
    check(&catalogue)?;
    Ok(catalogue)
}

/// Signs a catalogue with an Ed25519 secret key.
///
/// # Errors
/// [`CatalogueError`] when nobody would accept the catalogue.
pub fn sign(catalogue: &Catalogue, secret: &[u8; 32]) -> Result<SignedCatalogue, CatalogueError> {
    check(catalogue)?;
    let text = serde_json::to_string_pretty(catalogue)
        .map_err(|error| CatalogueError::Malformed(error.to_string()))?;
    let key = SigningKey::from_bytes(secret);
    Ok(SignedCatalogue {
        signature: hex::encode(key.sign(&message(&text)).to_bytes()),
        key: hex::encode(key.verifying_key().to_bytes()),
        catalogue: text,
    })
}

/// The public key that belongs to a secret one.
pub fn public_key(secret: &[u8; 32]) -> [u8; 32] {
    SigningKey::from_bytes(secret).verifying_key().to_bytes()
}

fn message(text: &str) -> Vec<u8> {
    [DOMAIN, text.as_bytes()].concat()
}

/// Refuses an edition that is older than one seen before.
///
/// # Errors
/// [`CatalogueError::RolledBack`].
pub fn check_edition(found: &Catalogue, kept: Option<&Catalogue>) -> Result<(), CatalogueError> {
    match kept {
        Some(kept) if kept.edition > found.edition => Err(CatalogueError::RolledBack {
            found: found.edition,
            kept: kept.edition,
        }),
        _ => Ok(()),
    }
}

/// Checks bounds and every entry.
///
/// # Errors
/// [`CatalogueError::Malformed`] or [`CatalogueError::Entry`].
pub fn check(catalogue: &Catalogue) -> Result<(), CatalogueError> {
    let malformed = |reason: String| Err(CatalogueError::Malformed(reason));
    if catalogue.version != 1 {
        return malformed(format!("it has version {}, this node reads 1", catalogue.version));
    }
    if catalogue.models.len() > MOST_MODELS || catalogue.gateways.len() > MOST_SOURCES {
        return malformed(format!(
            "it has {} models and {} gateways, at most {MOST_MODELS} and {MOST_SOURCES} are accepted",
            catalogue.models.len(),
            catalogue.gateways.len()
        ));
    }
    let mut ids = BTreeSet::new();
    for entry in &catalogue.models {
        let fail = |reason: &str| CatalogueError::Entry {
            id: entry.id.chars().take(96).collect(),
            reason: reason.to_owned(),
        };
        check_entry(entry).map_err(|reason| fail(&reason))?;
        if !ids.insert(entry.id.as_str()) {
            return Err(fail("the id is used twice"));
        }
        if entry.sources.is_empty() && catalogue.gateways.is_empty() {
            return Err(fail("it has no source, and the catalogue no gateway"));
        }
    }
    Ok(())
}

/// Whether a model id is one: `[a-z0-9._-]{1,96}`, not starting with a dot.
pub fn is_model_id(id: &str) -> bool {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-');
    (1..=96).contains(&id.len()) && !id.starts_with('.') && id.bytes().all(fits)
}

fn check_entry(entry: &ModelEntry) -> Result<(), String> {
    if !is_model_id(&entry.id) {
        return Err("an id has 1 to 96 of a-z 0-9 . _ - and no leading dot".to_owned());
    }
    let texts = [
        &entry.name,
        &entry.architecture,
        &entry.quantisation,
        &entry.licence,
    ];
    if texts.iter().any(|text| text.is_empty() || text.len() > 200) {
        return Err("name, architecture, quantisation and licence have 1 to 200 bytes".to_owned());
    }
    if entry.bytes == 0 || entry.bytes > LARGEST_MODEL {
        return Err(format!("{} bytes are not 1 to {LARGEST_MODEL}", entry.bytes));
    }
    if entry.context_length == 0 {
        return Err("the context length is 0".to_owned());
    }
    if entry.sources.len() > MOST_SOURCES || entry.sources.iter().any(|s| s.is_empty() || s.len() > 2000) {
        return Err(format!(
            "up to {MOST_SOURCES} sources of 1 to 2000 bytes are accepted"
        ));
    }
    let chunks = entry.bytes.div_ceil(CHUNK_BYTES);
    if entry.chunk_hashes.len() as u64 != chunks {
        return Err(format!(
            "{} bytes make {chunks} chunks, but there are {} hashes",
            entry.bytes,
            entry.chunk_hashes.len()
        ));
    }
    let hashes = chunk_hashes(entry).ok_or("a chunk hash is not 64 hexadecimal digits")?;
    match cid::of_chunks(&hashes, entry.bytes) {
        Some(expected) if expected == entry.cid => Ok(()),
        expected => Err(format!(
            "its cid is {:?}, but the chunk hashes make {:?}",
            entry.cid,
            expected.unwrap_or_default()
        )),
    }
}

/// The chunk hashes as bytes; `None` when one is not a hash.
pub(crate) fn chunk_hashes(entry: &ModelEntry) -> Option<Vec<[u8; 32]>> {
    entry
        .chunk_hashes
        .iter()
        .map(|text| {
            let mut hash = [0; 32];
            hex::decode_to_slice(text, &mut hash).ok().map(|()| hash)
        })
        .collect()
}
