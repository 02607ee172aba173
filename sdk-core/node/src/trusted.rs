//! The catalogue in force: given, fetched, or kept from the last visit.

use std::sync::Arc;

use kwaainet_platform::{HttpRequest, StoreError};
use kwaainet_types::{Catalogue, KeepModel, SignedCatalogue};

use crate::NodeError;
use crate::cancel::Stop;
use crate::catalogue::{self, CatalogueError, LARGEST_CATALOGUE};
use crate::core::KwaaiNetCore;
use crate::model_store::sources::is_fetchable;

/// The catalogue as it was last seen, signed as it came, against rollback and for days without network.
const CATALOGUE_BLOB: &str = "catalogue.json";

/// A catalogue whose signature was checked.
#[derive(Debug)]
pub(crate) struct Trusted {
    pub(crate) catalogue: Catalogue,
    pub(crate) base: Option<String>,
}

impl KwaaiNetCore {
    /// The catalogue: the one given, or the one at its URL, or the one seen last.
    pub(crate) async fn trusted(&self, stop: &Stop) -> Result<Arc<Trusted>, NodeError> {
        let mut known = self.catalogue.lock().await;
        if let Some(trusted) = &*known {
            return Ok(Arc::clone(trusted));
        }
        let base = self.deployment.catalogue_url.clone();
        let catalogue = match (&self.deployment.catalogue, &base) {
            (Some(signed), _) => self.verified(signed)?,
            (None, Some(url)) => self.fetch_catalogue(url, stop).await?,
            (None, None) => Catalogue {
                version: 1,
                edition: 0,
                gateways: Vec::new(),
                models: Vec::new(),
            },
        };
        let trusted = Arc::new(Trusted { catalogue, base });
        *known = Some(Arc::clone(&trusted));
        Ok(trusted)
    }

    fn verified(&self, signed: &SignedCatalogue) -> Result<Catalogue, NodeError> {
        let key = self.deployment.catalogue_key.ok_or(CatalogueError::NoKey)?;
        Ok(catalogue::verify(signed, &key)?)
    }

    async fn fetch_catalogue(&self, url: &str, stop: &Stop) -> Result<Catalogue, NodeError> {
        // Nothing is fetched without consent.
        stop.check()?;
        let kept = self.kept_catalogue().await;
        let fetched = match stop.race(self.download(url)).await? {
            Ok(text) => text,
            Err(reason) => {
                return kept.ok_or(NodeError::Network {
                    what: "the catalogue of models".to_owned(),
                    reason,
                });
            }
        };
        let signed: SignedCatalogue =
            serde_json::from_slice(&fetched).map_err(|error| CatalogueError::Malformed(error.to_string()))?;
        let catalogue = self.verified(&signed)?;
        catalogue::check_edition(&catalogue, kept.as_ref())?;
        if kept.as_ref() != Some(&catalogue) && self.permit::<KeepModel>().is_ok() {
            // Only a convenience for days without network: a full device is not an error here.
            let _ = self.keep_catalogue(&fetched).await;
        }
        Ok(catalogue)
    }

    async fn kept_catalogue(&self) -> Option<Catalogue> {
        let blob = self.platform.store.open(CATALOGUE_BLOB, false).await.ok()?;
        if blob.size() > 2 * LARGEST_CATALOGUE as u64 {
            return None;
        }
        let mut bytes = vec![0; blob.size() as usize];
        blob.read_at(0, &mut bytes).await.ok()?;
        self.verified(&serde_json::from_slice(&bytes).ok()?).ok()
    }

    async fn keep_catalogue(&self, bytes: &[u8]) -> Result<(), StoreError> {
        let blob = self.platform.store.open(CATALOGUE_BLOB, true).await?;
        blob.write_at(0, bytes).await?;
        blob.set_size(bytes.len() as u64).await?;
        blob.flush().await
    }

    async fn download(&self, url: &str) -> Result<Vec<u8>, String> {
        if !is_fetchable(url) {
            return Err(format!("{url} is neither https nor on this machine"));
        }
        let request = HttpRequest {
            url: url.to_owned(),
            range: None,
        };
        let mut response = self
            .platform
            .http
            .get(request)
            .await
            .map_err(|error| error.to_string())?;
        if response.status != 200 {
            return Err(format!("{url} answers with status {}", response.status));
        }
        let mut bytes = Vec::new();
        while let Some(piece) = response.body.next().await {
            bytes.extend(piece.map_err(|error| error.to_string())?);
            // JSON escapes at most double the text that was signed.
            if bytes.len() > 2 * LARGEST_CATALOGUE {
                return Err(format!("{url} is larger than a catalogue may be"));
            }
        }
        Ok(bytes)
    }
}
