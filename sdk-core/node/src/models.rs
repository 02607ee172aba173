//! Models on their way from the catalogue into memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures::StreamExt as _;
use futures::future::{Either, select};
use kwaainet_platform::{ReadAt, StoreError};
use kwaainet_types::{
    Catalogue, Chunk, ErrorCode, Event, KeepModel, ModelEntry, ModelSource, ModelStatus, Permit, Progress,
    RunAi, Stage,
};

use crate::cancel::{Cancel, Stop};
use crate::catalogue;
use crate::core::{KwaaiNetCore, Loaded, LocalModel, ModelHandle, Outlet, lock};
use crate::engine::{LoadWish, RunnableModel};
use crate::model_store::{Fetched, Order, Shelf};
use crate::trusted::Trusted;
use crate::turn::{Share, Turn};
use crate::{NodeError, manifest};

/// A loaded model and the leave to use it.
pub(crate) struct Ready {
    pub(crate) id: String,
    pub(crate) model: Arc<dyn RunnableModel>,
    pub(crate) source: ModelSource,
    pub(crate) turn: Turn,
}

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
        let ready = self.ready(permit, &id, &stop, out).await?;
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
        let fetched = self
            .fetch(permit, &Shelf::on_device(keep), &entry, &trusted, &stop, out)
            .await?;
        Ok(fetched.source)
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
        self.model_manager.verify(&entry, &stop).await
    }

    fn changed(&self, catalogue: &Catalogue, id: &str) {
        if let Some(entry) = catalogue.models.iter().find(|entry| entry.id == id) {
            self.announce(&Event::ModelChanged {
                status: self.status(entry),
            });
        }
    }

    fn status(&self, entry: &ModelEntry) -> ModelStatus {
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

    async fn entry(&self, id: &str, stop: &Stop) -> Result<(ModelEntry, Arc<Trusted>), NodeError> {
        let trusted = self.trusted(stop).await?;
        let models = &trusted.catalogue.models;
        match models.iter().find(|entry| entry.id == id) {
            Some(entry) => Ok((entry.clone(), Arc::clone(&trusted))),
            None => Err(self.not_found(id, models)),
        }
    }

    /// Fetches what is missing, telling the asker and everybody else how far it is, whoever began it.
    async fn fetch(
        &self,
        permit: &Permit<RunAi>,
        shelf: &Shelf<'_>,
        entry: &ModelEntry,
        trusted: &Trusted,
        stop: &Stop,
        out: &dyn Outlet,
    ) -> Result<Fetched, NodeError> {
        let order = Order {
            entry,
            gateways: &trusted.catalogue.gateways,
            base: trusted.base.as_deref(),
        };
        let is_ours = AtomicBool::new(false);
        let tell = |progress: Progress| {
            is_ours.store(true, Ordering::Relaxed);
            self.tell(progress, out);
        };
        let mut events = self.events();
        let mut fetch = std::pin::pin!(self.model_manager.fetch(permit, shelf, order, stop, &tell));
        let fetched = loop {
            match select(fetch.as_mut(), events.next()).await {
                Either::Left((fetched, _)) => break fetched?,
                Either::Right((Some(Event::Progress { progress }), _))
                    if progress.model == entry.id && !is_ours.load(Ordering::Relaxed) =>
                {
                    out.chunk(Chunk::Progress { progress });
                }
                Either::Right((Some(_), _)) => {}
                Either::Right((None, fetch)) => break fetch.await?,
            }
        };
        if fetched.source == ModelSource::Network {
            self.changed(&trusted.catalogue, &entry.id);
        }
        Ok(fetched)
    }

    fn tell(&self, progress: Progress, out: &dyn Outlet) {
        self.announce(&Event::Progress {
            progress: progress.clone(),
        });
        out.chunk(Chunk::Progress { progress });
    }

    fn loaded(&self, id: &str) -> Option<Arc<dyn RunnableModel>> {
        let config = self.config();
        let wanted = (id, config.context_length, config.kv_cache);
        let mut loaded = lock(&self.loaded);
        let at = loaded
            .iter()
            .position(|loaded| (loaded.id.as_str(), loaded.context_length, loaded.kv_format) == wanted)?;
        // Used last, so evicted last.
        let used = loaded.remove(at);
        let model = Arc::clone(&used.model);
        loaded.push(used);
        Some(model)
    }

    /// Waits until a model is in memory and it is this caller's turn to use it.
    pub(crate) async fn ready(
        &self,
        permit: &Permit<RunAi>,
        id: &str,
        stop: &Stop,
        out: &dyn Outlet,
    ) -> Result<Ready, NodeError> {
        let mut tries = 0;
        loop {
            let file = if self.loaded(id).is_some() {
                None
            } else {
                Some(self.file(permit, id, stop, out).await?)
            };
            // Loading changes what is in memory: alone.
            let share = if file.is_none() {
                Share::Place
            } else {
                Share::Whole
            };
            let mut turn = stop.race(self.turns.next(share)).await??;
            let id = id.to_owned();
            if let Some(model) = self.loaded(&id) {
                if share == Share::Whole {
                    turn.share(model.answers());
                }
                let source = ModelSource::Memory;
                return Ok(Ready {
                    id,
                    model,
                    source,
                    turn,
                });
            }
            // It was unloaded while we waited.
            let Some((file, source, entry)) = file else {
                continue;
            };
            tries += 1;
            match self.load(permit, &entry, &*file, stop, out).await {
                Ok(model) => {
                    turn.share(model.answers());
                    return Ok(Ready {
                        id,
                        model,
                        source,
                        turn,
                    });
                }
                // Bytes that were right when they were written may have rotted since.
                Err(NodeError::Engine(error)) if error.code() == ErrorCode::ModelInvalid && tries == 1 => {
                    drop((turn, file));
                    let is_local = lock(&self.local_models).contains_key(&id);
                    let kept = self.permit::<KeepModel>().is_ok();
                    if is_local || !kept || self.model_manager.verify(&entry, stop).await?.is_empty() {
                        return Err(error.into());
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    /// The model's bytes: the operator's own file, this device, or the network.
    async fn file(
        &self,
        permit: &Permit<RunAi>,
        id: &str,
        stop: &Stop,
        out: &dyn Outlet,
    ) -> Result<(Arc<dyn ReadAt>, ModelSource, ModelEntry), NodeError> {
        let local = lock(&self.local_models).get(id).cloned();
        if let Some(local) = local {
            return Ok((local.file, ModelSource::Device, local.entry));
        }
        let (entry, trusted) = self.entry(id, stop).await?;
        let keep = self.permit::<KeepModel>();
        let shelf = match &keep {
            Ok(keep) => Shelf::on_device(keep),
            Err(_) => Shelf::in_memory(permit),
        };
        let mut fetched = self.fetch(permit, &shelf, &entry, &trusted, stop, out).await;
        if keep.is_ok() && matches!(fetched, Err(NodeError::Store(StoreError::Denied(_)))) {
            self.announce(&Event::Warning {
                message: "this device refuses storage, so the model is kept in memory only".to_owned(),
            });
            let shelf = Shelf::in_memory(permit);
            fetched = self.fetch(permit, &shelf, &entry, &trusted, stop, out).await;
        }
        let fetched = fetched?;
        Ok((fetched.blob, fetched.source, entry))
    }

    async fn load(
        &self,
        permit: &Permit<RunAi>,
        entry: &ModelEntry,
        file: &dyn ReadAt,
        stop: &Stop,
        out: &dyn Outlet,
    ) -> Result<Arc<dyn RunnableModel>, NodeError> {
        let allowed = self.resource_manager.memory_bytes();
        if entry.bytes > allowed {
            return Err(NodeError::AboveMemoryCap {
                id: entry.id.clone(),
                needed: entry.bytes,
                allowed,
            });
        }
        lock(&self.loaded).retain(|loaded| loaded.id != entry.id);
        // The weights take about as much memory as the file.
        self.unload_above(allowed.saturating_sub(entry.bytes));
        let taken: u64 = lock(&self.loaded).iter().map(|l| l.model.memory_bytes()).sum();
        let config = self.config();
        let wish = LoadWish {
            context_length: config.context_length,
            kv_format: config.kv_cache,
            memory_bytes: allowed.saturating_sub(taken),
            answers: self.answers_at_once(),
        };
        let progress = |done: u64, total: u64| {
            let progress = Progress {
                model: entry.id.clone(),
                stage: Stage::Load,
                done,
                total,
                bytes_per_second: None,
            };
            self.tell(progress, out);
        };
        let _pin = self.model_manager.pin(&entry.id);
        let busy = self.resource_manager.begin();
        let model = stop
            .race(self.inference_engine.load(permit, file, wish, &progress))
            .await;
        self.resource_manager.end(&busy);
        let model = model??;
        // A copy in memory has done its duty.
        self.model_manager.forget_in_memory(&entry.id).await?;
        lock(&self.loaded).push(Loaded {
            id: entry.id.clone(),
            model: Arc::clone(&model),
            context_length: wish.context_length,
            kv_format: wish.kv_format,
        });
        self.announce(&Event::ModelChanged {
            status: self.status(entry),
        });
        Ok(model)
    }
}
