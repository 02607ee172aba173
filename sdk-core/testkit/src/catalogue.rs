//! Small catalogues, really signed.

use kwaainet_node::{Deployment, catalogue, cid};
use kwaainet_types::{CHUNK_BYTES, Catalogue, ModelEntry, SignedCatalogue, Tier};
use sha2::{Digest, Sha256};

/// The secret key that test catalogues are signed with.
pub const CATALOGUE_SECRET: [u8; 32] = [7; 32];

/// The public key that belongs to it.
pub fn catalogue_key() -> [u8; 32] {
    catalogue::public_key(&CATALOGUE_SECRET)
}

/// Collects models and signs them.
#[derive(Debug, Clone)]
pub struct CatalogueBuilder {
    /// What will be signed; change it to make a bad one.
    pub catalogue: Catalogue,
}

impl Default for CatalogueBuilder {
    fn default() -> Self {
        Self {
            catalogue: Catalogue {
                version: 1,
                edition: 1,
                gateways: Vec::new(),
                models: Vec::new(),
            },
        }
    }
}

impl CatalogueBuilder {
    /// Adds a model with these bytes.
    #[must_use]
    pub fn model(mut self, id: &str, bytes: &[u8], sources: &[&str]) -> Self {
        let hashes: Vec<[u8; 32]> = bytes
            .chunks(CHUNK_BYTES as usize)
            .map(|chunk| Sha256::digest(chunk).into())
            .collect();
        self.catalogue.models.push(ModelEntry {
            id: id.to_owned(),
            name: format!("Test model {id}"),
            architecture: "llama".to_owned(),
            quantisation: "F32".to_owned(),
            bytes: bytes.len() as u64,
            licence: "MIT".to_owned(),
            context_length: 512,
            smallest_tier: Tier::T1,
            cid: cid::of_chunks(&hashes, bytes.len() as u64).unwrap(),
            chunk_hashes: hashes.iter().map(hex::encode).collect(),
            sources: sources.iter().map(|source| (*source).to_owned()).collect(),
        });
        self
    }

    /// Adds a gateway.
    #[must_use]
    pub fn gateway(mut self, url: &str) -> Self {
        self.catalogue.gateways.push(url.to_owned());
        self
    }

    /// Signs it.
    pub fn sign(&self) -> SignedCatalogue {
        catalogue::sign(&self.catalogue, &CATALOGUE_SECRET).unwrap()
    }

    /// A deployment with this catalogue built in.
    pub fn deployment(&self) -> Deployment {
        Deployment {
            catalogue_url: None,
            catalogue_key: Some(catalogue_key()),
            catalogue: Some(self.sign()),
        }
    }
}
