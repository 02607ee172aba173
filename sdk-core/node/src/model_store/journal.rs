//! Which chunks of a model are verified, so that a killed download goes on where it was.

use kwaainet_platform::{BlobStore, StoreError};
use kwaainet_types::{CHUNK_BYTES, ModelEntry};
use sha2::{Digest, Sha256};

const MAGIC: &[u8; 8] = b"KWAAIJ1\n";
/// Magic, digest of the chunk hashes, use counter.
const HEAD: usize = 8 + 32 + 8;
/// A model of 1 TiB has 2^20 chunks, an eighth of that in bytes.
const LARGEST: u64 = HEAD as u64 + (1 << 17);

/// The journal of one model: in memory, and in the blob `<id>.journal` behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Journal {
    /// Tells which file the bits are about.
    digest: [u8; 32],
    /// Rises with every use of any model: the smallest was not used for the longest. (No wall clock: it may jump.)
    pub(crate) used: u64,
    bits: Vec<u8>,
}

pub(crate) fn file_blob(id: &str) -> String {
    format!("{id}.gguf")
}

pub(crate) fn journal_blob(id: &str) -> String {
    format!("{id}.journal")
}

fn digest_of(entry: &ModelEntry) -> [u8; 32] {
    let mut digest = Sha256::new();
    digest.update(entry.bytes.to_le_bytes());
    for hash in &entry.chunk_hashes {
        digest.update(hash);
    }
    digest.finalize().into()
}

/// Length of a chunk; the last one is shorter.
pub(crate) fn chunk_len(entry: &ModelEntry, chunk: usize) -> usize {
    let from = (chunk as u64).saturating_mul(CHUNK_BYTES);
    CHUNK_BYTES.min(entry.bytes.saturating_sub(from)) as usize
}

impl Journal {
    /// A journal in which nothing is verified.
    pub(crate) fn empty(entry: &ModelEntry, used: u64) -> Self {
        Self {
            digest: digest_of(entry),
            used,
            bits: vec![0; entry.chunk_hashes.len().div_ceil(8)],
        }
    }

    /// Whether it is about this very file.
    pub(crate) fn is_of(&self, entry: &ModelEntry) -> bool {
        self.digest == digest_of(entry) && self.bits.len() == entry.chunk_hashes.len().div_ceil(8)
    }

    /// A bit for each chunk; bit 0 of byte 0 is the first.
    pub(crate) fn bits(&self) -> &[u8] {
        &self.bits
    }

    /// Takes over what another journal of the same file says is verified.
    pub(crate) fn add(&mut self, other: &Self) {
        if self.digest == other.digest {
            for (ours, theirs) in self.bits.iter_mut().zip(&other.bits) {
                *ours |= theirs;
            }
        }
    }

    pub(crate) fn has(&self, chunk: usize) -> bool {
        self.bits
            .get(chunk / 8)
            .is_some_and(|byte| byte >> (chunk % 8) & 1 == 1)
    }

    pub(crate) fn set(&mut self, chunk: usize, verified: bool) {
        if let Some(byte) = self.bits.get_mut(chunk / 8) {
            let bit = 1 << (chunk % 8);
            *byte = if verified { *byte | bit } else { *byte & !bit };
        }
    }

    pub(crate) fn missing(&self, entry: &ModelEntry) -> Vec<usize> {
        (0..entry.chunk_hashes.len())
            .filter(|chunk| !self.has(*chunk))
            .collect()
    }

    pub(crate) fn verified_bytes(&self, entry: &ModelEntry) -> u64 {
        (0..entry.chunk_hashes.len())
            .filter(|chunk| self.has(*chunk))
            .map(|chunk| chunk_len(entry, chunk) as u64)
            .sum()
    }

    /// Reads the journal of a model; `None` when there is none or it is damaged.
    pub(crate) async fn read(store: &dyn BlobStore, id: &str) -> Result<Option<Self>, StoreError> {
        let blob = match store.open(&journal_blob(id), false).await {
            Ok(blob) => blob,
            Err(StoreError::NotFound(_)) => return Ok(None),
            Err(error) => return Err(error),
        };
        if blob.size() > LARGEST {
            return Ok(None);
        }
        let mut bytes = vec![0; blob.size() as usize];
        blob.read_at(0, &mut bytes).await?;
        Ok(Self::parse(&bytes))
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let (magic, rest) = bytes.split_first_chunk::<8>()?;
        let (digest, rest) = rest.split_first_chunk::<32>()?;
        let (used, bits) = rest.split_first_chunk::<8>()?;
        (magic == MAGIC).then(|| Self {
            digest: *digest,
            used: u64::from_le_bytes(*used),
            bits: bits.to_vec(),
        })
    }

    /// Writes all of it.
    pub(crate) async fn write(&self, store: &dyn BlobStore, id: &str) -> Result<(), StoreError> {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&self.digest);
        bytes.extend_from_slice(&self.used.to_le_bytes());
        bytes.extend_from_slice(&self.bits);
        let blob = store.open(&journal_blob(id), true).await?;
        blob.write_at(0, &bytes).await?;
        blob.set_size(bytes.len() as u64).await?;
        blob.flush().await
    }

    /// Writes the byte that holds one chunk's bit: what a kill could tear apart is one byte.
    pub(crate) async fn write_bit(
        &self,
        store: &dyn BlobStore,
        id: &str,
        chunk: usize,
    ) -> Result<(), StoreError> {
        let Some(byte) = self.bits.get(chunk / 8) else {
            return Ok(());
        };
        let blob = store.open(&journal_blob(id), true).await?;
        blob.write_at((HEAD + chunk / 8) as u64, &[*byte]).await?;
        blob.flush().await
    }
}
