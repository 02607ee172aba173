//! What can be done with models by their ids: list, add, pull, load, delete, verify.

use std::sync::Arc;

use kwaainet_platform::{ReadAt, StoreError};
use kwaainet_types::{Catalogue, Event, KeepModel, ModelEntry, ModelSource, ModelStatus, Permit, RunAi};

use crate::cancel::{Cancel, Stop};
use crate::catalogue;
use crate::core::{KwaaiNetCore, LocalModel, ModelHandle, Outlet, lock};
use crate::model_store::Shelf;
use crate::ready::Asker;
use crate::trusted::Trusted;
use crate::{NodeError, manifest};

impl KwaaiNetCore {
    /// Loads a model, giving out progress as it comes. `None` is the configured one.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn load_model_with(
        &self,
        permit: &Permit<RunAi>,
        id: Option<&str>,
        out: &dyn Outlet,
        cancel: &Cancel,
    ) -> Result<ModelHandle, NodeError> {
        let _working = self.activity.begin();
        let stop = Stop::new(cancel, &self.consent);
        let id = self.model_id(id, &stop).await?;
        let stop = &stop;
        let ready = self.ready(Asker { permit, stop, out }, &id).await?;
        Ok(ModelHandle {
            id,
            source: ready.source,
            context_length: ready.model.context_length(),
        })
    }

    /// Fetches a model onto this device without loading it.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn pull_model(
        &self,
        permit: &Permit<RunAi>,
        keep: &Permit<KeepModel>,
        id: &str,
        out: &dyn Outlet,
        cancel: &Cancel,
    ) -> Result<ModelSource, NodeError> {
        let _working = self.activity.begin();
        let stop = Stop::new(cancel, &self.consent);
        let (entry, trusted) = self.entry(id, &stop).await?;
        let stop = &stop;
        let asker = Asker { permit, stop, out };
        let alone = self.alone(asker, id).await?;
        let shelf = Shelf::on_device(keep);
        let file = self.model_manager.open(&alone, &shelf, &entry).await?;
        let fetched = self.fetch(asker, &file, &trusted).await;
        file.close().await?;
        fetched
    }

    /// Adds a model that lies in a file of the operator's own; its header is read, nothing is copied.
    ///
    /// # Errors
    /// [`NodeError::Engine`] when it cannot run.
    pub async fn add_local_model(&self, id: &str, file: Arc<dyn ReadAt>) -> Result<ModelEntry, NodeError> {
        let entry = manifest::of_header(id, &*file).await?;
        let local = LocalModel {
            entry: entry.clone(),
            file,
        };
        lock(&self.local_models).insert(id.to_owned(), local);
        Ok(entry)
    }

    /// Every model and its state on this device.
    ///
    /// # Errors
    /// [`NodeError`] when the catalogue cannot be had.
    pub async fn models(&self) -> Result<Vec<ModelStatus>, NodeError> {
        let stop = Stop::new(&Cancel::new(), &self.consent);
        let trusted = self.trusted(&stop).await?;
        match self.model_manager.scan().await {
            // Without storage nothing is stored.
            Ok(()) | Err(StoreError::Denied(_)) => {}
            Err(error) => return Err(error.into()),
        }
        let local: Vec<ModelEntry> = lock(&self.local_models)
            .values()
            .map(|l| l.entry.clone())
            .collect();
        Ok(local
            .iter()
            .chain(&trusted.catalogue.models)
            .map(|entry| self.status(entry))
            .collect())
    }

    /// Deletes a model from this device.
    ///
    /// # Errors
    /// [`NodeError::Store`] when storage fails, or while the model is being fetched.
    pub async fn delete_model(&self, id: &str) -> Result<(), NodeError> {
        if !catalogue::is_model_id(id) {
            return Err(self.not_found(id, &[]));
        }
        self.model_manager.delete(id).await?;
        lock(&self.loaded).retain(|loaded| loaded.id != id);
        if let Some(trusted) = &*self.catalogue.lock().await {
            self.changed(&trusted.catalogue, id);
        }
        Ok(())
    }

    /// Hashes a model on this device again. Returns the numbers of the chunks that are wrong; they will be fetched
    /// again.
    ///
    /// # Errors
    /// [`NodeError`].
    pub async fn verify_model(
        &self,
        permit: &Permit<RunAi>,
        id: &str,
        cancel: &Cancel,
    ) -> Result<Vec<usize>, NodeError> {
        let _: &Permit<RunAi> = permit;
        let stop = Stop::new(cancel, &self.consent);
        let (entry, _) = self.entry(id, &stop).await?;
        let alone = stop.race(self.model_manager.alone(id)).await?;
        self.model_manager.verify(&alone, &entry, &stop).await
    }

    pub(crate) fn changed(&self, catalogue: &Catalogue, id: &str) {
        if let Some(entry) = catalogue.models.iter().find(|entry| entry.id == id) {
            self.announce(&Event::ModelChanged {
                status: self.status(entry),
            });
        }
    }

    pub(crate) fn status(&self, entry: &ModelEntry) -> ModelStatus {
        let is_local = lock(&self.local_models).contains_key(&entry.id);
        ModelStatus {
            stored_bytes: if is_local {
                entry.bytes
            } else {
                self.model_manager.stored_bytes(entry)
            },
            loaded: lock(&self.loaded).iter().any(|loaded| loaded.id == entry.id),
            ..ModelStatus::of(entry)
        }
    }

    /// The model that a request means: the one it names, the configured one, the first there is.
    pub(crate) async fn model_id(&self, asked: Option<&str>, stop: &Stop) -> Result<String, NodeError> {
        if let Some(id) = asked.filter(|id| !id.is_empty()) {
            return Ok(id.to_owned());
        }
        if let Some(id) = self.config().model {
            return Ok(id);
        }
        if let Some(id) = lock(&self.local_models).keys().next() {
            return Ok(id.clone());
        }
        let trusted = self.trusted(stop).await?;
        let first = trusted.catalogue.models.first().map(|entry| entry.id.clone());
        first.ok_or_else(|| NodeError::ModelNotFound {
            id: String::new(),
            hint: "this deployment has no models; give it a catalogue".to_owned(),
        })
    }

    fn not_found(&self, id: &str, models: &[ModelEntry]) -> NodeError {
        let local: Vec<String> = lock(&self.local_models).keys().cloned().collect();
        let known: Vec<&str> = local
            .iter()
            .map(String::as_str)
            .chain(models.iter().map(|entry| entry.id.as_str()))
            .take(20)
            .collect();
        NodeError::ModelNotFound {
            id: id.chars().take(100).collect(),
            hint: if known.is_empty() {
                "there are no models here".to_owned()
            } else {
                format!("there are {}", known.join(", "))
            },
        }
    }

    pub(crate) async fn entry(&self, id: &str, stop: &Stop) -> Result<(ModelEntry, Arc<Trusted>), NodeError> {
        let trusted = self.trusted(stop).await?;
        let models = &trusted.catalogue.models;
        match models.iter().find(|entry| entry.id == id) {
            Some(entry) => Ok((entry.clone(), Arc::clone(&trusted))),
            None => Err(self.not_found(id, models)),
        }
    }
}
