//! Who may change what: configuration, consent, its end.

use std::sync::Arc;

use kwaainet_platform::StoreError;
use kwaainet_types::{ConsentGrant, ConsentRecord, Event, NodeConfig, Origin, Purpose, ResourceLimits};

use crate::NodeError;
use crate::consent::{self, CONSENT_BLOB};
use crate::core::{KwaaiNetCore, lock};
use crate::resources::lower;
use crate::sharing::PeerAddr;

impl KwaaiNetCore {
    /// Sets the configuration. A site cannot raise caps above what the visitor agreed to.
    pub(crate) fn configure(&self, origin: Origin, config: NodeConfig) -> Result<(), NodeError> {
        config.check()?;
        for peer in &config.bootstrap {
            PeerAddr(peer.clone()).parse()?;
        }
        let mut config = config;
        let asked = config.max_resources;
        let others_to_call = {
            let mut settings = lock(&self.settings);
            match (origin, settings.ceiling) {
                (Origin::Site, Some(ceiling)) => config.max_resources = lower(asked, ceiling),
                (_, Some(_)) => settings.ceiling = Some(asked),
                (_, None) => {}
            }
            let others_to_call = settings.config.bootstrap != config.bootstrap;
            settings.config = config.clone();
            others_to_call
        };
        if others_to_call {
            self.reconsider_network();
        }
        let in_force = config.max_resources;
        self.resource_manager.set_limits(in_force);
        self.unload_above(self.resource_manager.memory_bytes());
        if in_force != asked {
            self.announce(&Event::Warning {
                message: format!(
                    "the visitor agreed to cpu:{},memory:{},storage:{}; higher caps have no effect until they agree again",
                    in_force.cpu, in_force.memory, in_force.storage
                ),
            });
        }
        Ok(())
    }

    pub(crate) fn set_ceiling(&self, limits: ResourceLimits) {
        let in_force = {
            let mut settings = lock(&self.settings);
            settings.ceiling = Some(limits);
            settings.config.max_resources = lower(settings.config.max_resources, limits);
            settings.config.max_resources
        };
        self.resource_manager.set_limits(in_force);
    }

    /// Puts the visitor's decision in force, and keeps it for the next visit. A refusal is kept nowhere.
    pub(crate) async fn grant(&self, record: ConsentRecord) -> Result<(), NodeError> {
        let _alone = self.consent_change.lock().await;
        let grant = ConsentGrant::accept(record, self.platform.clock.unix_ms())?;
        let purposes = grant.record().purposes.clone();
        if purposes.is_empty() {
            return self.end_consent().await;
        }
        let limits = lock(&self.settings).config.max_resources;
        let kept_before = self.consent.purposes().contains(&Purpose::KeepModel);
        self.consent.set(grant.clone());
        self.reconsider_network();
        self.set_ceiling(limits);
        if kept_before && !purposes.contains(&Purpose::KeepModel) {
            self.activity.idle().await;
            self.model_manager.delete_kept().await?;
        }
        if let Err(error) = consent::keep(&*self.platform.store, &grant, limits).await {
            self.announce(&Event::Warning {
                message: format!("the decision cannot be kept, so it will be asked for again: {error}"),
            });
        }
        self.announce(&Event::ConsentChanged { purposes });
        Ok(())
    }

    /// Ends all consent: stops what runs, unloads and deletes everything.
    pub(crate) async fn withdraw(&self) -> Result<(), NodeError> {
        let _alone = self.consent_change.lock().await;
        self.end_consent().await
    }

    async fn end_consent(&self) -> Result<(), NodeError> {
        self.consent.clear();
        self.reconsider_network();
        self.announce(&Event::ConsentChanged { purposes: Vec::new() });
        // The record goes first: whatever is interrupted from here on, the next start finds no consent.
        let record_gone = self.platform.store.delete(CONSENT_BLOB).await;
        self.activity.idle().await;
        lock(&self.loaded).clear();
        *self.catalogue.lock().await = None;
        lock(&self.settings).ceiling = None;
        let all_gone = self.model_manager.delete_everything().await;
        match record_gone.and(all_gone) {
            // Where storage is refused there is nothing to delete.
            Err(StoreError::Denied(_)) | Ok(()) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Unloads the models that were used least recently until the rest fits.
    pub(crate) fn unload_above(&self, allowed: u64) {
        let mut loaded = lock(&self.loaded);
        while !loaded.is_empty() {
            let total: u64 = loaded.iter().map(|loaded| loaded.model.memory_bytes()).sum();
            if total <= allowed {
                break;
            }
            // One that is answering keeps its memory until it has finished.
            let Some(idle) = loaded
                .iter()
                .position(|loaded| Arc::strong_count(&loaded.model) == 1)
            else {
                break;
            };
            loaded.remove(idle);
        }
    }
}
