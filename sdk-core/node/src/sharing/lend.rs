//! Lending what is verified on this device to peers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::future::{Either, join_all, select};
use kwaainet_network::record::{Discovery, MAX_ADDRESSES, ModelRoot, Offer, Providers, Share};
use kwaainet_network::swarm::{Library, Limits};
use kwaainet_platform::{BoxFuture, boxed};
use kwaainet_types::{HelpOthers, ModelEntry, Permit};

use super::Member;
use super::find::manifest_of;
use crate::NodeError;
use crate::cancel::{Cancel, Stop};
use crate::core::KwaaiNetCore;
use crate::model_store::ModelStore;

/// How often it is seen what has come, and whether an offer is due.
const LOOK: Duration = Duration::from_secs(5);
/// The longest name of a number format in an offer, in bytes.
const LONGEST_DTYPE: usize = 16;

/// The models of the catalogue, as far as they are on this device.
struct Shelves<'a> {
    store: &'a ModelStore,
    models: BTreeMap<ModelRoot, ModelEntry>,
    /// Where the chunk with each hash is.
    chunks: BTreeMap<[u8; 32], (ModelRoot, u32)>,
}

impl Library for Shelves<'_> {
    fn has(&self, root: ModelRoot) -> Option<Vec<u8>> {
        self.store.kept_bits(self.models.get(&root)?)
    }

    fn find(&self, hash: &[u8; 32]) -> Option<(ModelRoot, u32)> {
        let (root, chunk) = *self.chunks.get(hash)?;
        let bits = self.has(root)?;
        let byte = bits.get(chunk as usize / 8)?;
        (byte >> (chunk % 8) & 1 == 1).then_some((root, chunk))
    }

    fn read(&self, root: ModelRoot, chunk: u32) -> BoxFuture<'_, Option<Vec<u8>>> {
        boxed(async move {
            let entry = self.models.get(&root)?;
            self.store.kept_chunk(entry, chunk as usize).await
        })
    }
}

impl KwaaiNetCore {
    /// Lends the models of the catalogue that lie on this device, whole or in part, and tells the network so, until
    /// consent is withdrawn. Dropping the future stops at once.
    ///
    /// # Errors
    /// [`NodeError::Unsupported`] without a network, and when lending already; [`NodeError::Withdrawn`]; what the catalogue
    /// or the store says.
    pub async fn lend_models(&self, permit: &Permit<HelpOthers>, limits: Limits) -> Result<(), NodeError> {
        let member = self.member()?;
        let stop = Stop::new(&Cancel::new(), &self.consent);
        let trusted = self.trusted(&stop).await?;
        self.model_manager.look_again().await?;
        let mut shelves = Shelves {
            store: &self.model_manager,
            models: BTreeMap::new(),
            chunks: BTreeMap::new(),
        };
        for entry in &trusted.catalogue.models {
            if let Some(manifest) = manifest_of(entry) {
                shelves.models.insert(manifest.root, entry.clone());
                let chunks = manifest.hashes.into_iter().zip(0..);
                shelves
                    .chunks
                    .extend(chunks.map(|(hash, chunk)| (hash, (manifest.root, chunk))));
            }
        }
        let serving = std::pin::pin!(member.exchange.serve(&shelves, permit, limits));
        let offering = std::pin::pin!(self.offer(&member, &shelves));
        match stop.race(select(serving, offering)).await? {
            Either::Left((served, _)) => served.map_err(|error| NodeError::Unsupported(error.to_string())),
            Either::Right(((), _)) => Ok(()),
        }
    }

    /// Ids of the catalogue's models that lie on this device, whole or in part.
    ///
    /// # Errors
    /// What the catalogue says.
    pub async fn kept_models(&self) -> Result<Vec<String>, NodeError> {
        let trusted = self.trusted(&Stop::new(&Cancel::new(), &self.consent)).await?;
        let kept = |entry: &&ModelEntry| self.model_manager.kept_bits(entry).is_some();
        Ok(trusted
            .catalogue
            .models
            .iter()
            .filter(kept)
            .map(|entry| entry.id.clone())
            .collect())
    }

    /// Keeps an offer published for every model that is here.
    async fn offer(&self, member: &Member, shelves: &Shelves<'_>) {
        let mut offered = BTreeMap::<ModelRoot, (Offer, Providers)>::new();
        loop {
            // What is known already stays true if the store cannot be read just now.
            let _ = self.model_manager.look_again().await;
            let mut addresses = member.network.addresses();
            addresses.truncate(MAX_ADDRESSES);
            for (root, entry) in &shelves.models {
                // Who can be reached nowhere need not be looked for.
                if addresses.is_empty() || shelves.has(*root).is_none() {
                    offered.remove(root);
                    continue;
                }
                let offer = offer_of(*root, entry, addresses.clone());
                if let Some((before, providers)) = offered.get_mut(root) {
                    if *before != offer && providers.set_offer(Some(offer.clone())).is_ok() {
                        *before = offer;
                    }
                } else if let Ok(discovery) = Discovery::new(member.keypair.clone(), *root, Share::Chunks) {
                    let (clock, random) = (
                        Arc::clone(&self.platform.clock),
                        Arc::clone(&self.platform.random),
                    );
                    let providers = Providers::new(Arc::clone(&member.network), clock, random, discovery);
                    if providers.set_offer(Some(offer.clone())).is_ok() {
                        offered.insert(*root, (offer, providers));
                    }
                }
            }
            join_all(offered.values().map(|(_, providers)| providers.renew())).await;
            self.platform.clock.sleep(LOOK).await;
        }
    }
}

fn offer_of(model: ModelRoot, entry: &ModelEntry, addresses: Vec<kwaainet_network::Address>) -> Offer {
    Offer {
        model,
        share: Share::Chunks,
        dtype: entry
            .quantisation
            .chars()
            .filter(char::is_ascii)
            .take(LONGEST_DTYPE)
            .collect(),
        inference_rps_milli: 0,
        forward_rps_milli: 0,
        cache_left: 0,
        next_pings: Vec::new(),
        build: concat!("kwaainet/", env!("CARGO_PKG_VERSION")).to_owned(),
        addresses,
    }
}
