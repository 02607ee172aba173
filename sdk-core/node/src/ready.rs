//! A model on its way from the catalogue to an answer: found, fetched, loaded, and its user's turn.

use std::sync::Arc;

use futures::StreamExt as _;
use futures::future::{Either, select, try_join};
use kwaainet_platform::{ReadAt, StoreError};
use kwaainet_types::{Chunk, ErrorCode, Event, KeepModel, ModelEntry, ModelSource, Permit, Progress, RunAi};

use crate::NodeError;
use crate::cancel::Stop;
use crate::core::{KwaaiNetCore, Outlet, lock};
use crate::engine::RunnableModel;
use crate::load::Fresh;
use crate::model_store::{Alone, ModelFile, Origins, Shelf};
use crate::trusted::Trusted;
use crate::turn::{Share, Turn};

/// A loaded model and the leave to use it.
pub(crate) struct Ready {
    pub(crate) id: String,
    pub(crate) model: Arc<dyn RunnableModel>,
    pub(crate) source: ModelSource,
    pub(crate) turn: Turn,
}

/// Where a model's bytes come from.
enum Place {
    /// The operator's own file.
    File(Arc<dyn ReadAt>),
    /// This device or the network.
    Catalogue(Arc<Trusted>),
}

/// For whom a model is made ready.
#[derive(Clone, Copy)]
pub(crate) struct Asker<'a> {
    pub(crate) permit: &'a Permit<RunAi>,
    pub(crate) stop: &'a Stop,
    pub(crate) out: &'a dyn Outlet,
}

impl KwaaiNetCore {
    /// Waits until a model is in memory and it is this caller's turn to use it.
    pub(crate) async fn ready(&self, asker: Asker<'_>, id: &str) -> Result<Ready, NodeError> {
        let stop = asker.stop;
        let mut tries = 0;
        loop {
            if self.loaded(id).is_some() {
                let turn = stop.race(self.turns.next(Share::Place)).await??;
                match self.loaded(id) {
                    Some(model) => {
                        return Ok(Ready {
                            id: id.to_owned(),
                            model,
                            source: ModelSource::Memory,
                            turn,
                        });
                    }
                    // It was unloaded while we waited.
                    None => continue,
                }
            }
            let (entry, place) = self.find(id, stop).await?;
            let alone = self.alone(asker, id).await?;
            if self.loaded(id).is_some() {
                // Whoever was alone with it before has loaded it.
                continue;
            }
            tries += 1;
            let outcome = match &place {
                Place::File(file) => self.load_file(asker, &entry, &**file).await,
                Place::Catalogue(trusted) => self.load_from_shelf(asker, &alone, &entry, trusted).await,
            };
            match outcome {
                Ok((fresh, source)) => return Ok(self.publish(&entry, fresh, source)),
                // Bytes that were right when they were written may have rotted since.
                Err(NodeError::Engine(error)) if error.code() == ErrorCode::ModelInvalid && tries == 1 => {
                    let is_kept = matches!(place, Place::Catalogue(_)) && self.permit::<KeepModel>().is_ok();
                    if !is_kept || self.model_manager.verify(&alone, &entry, stop).await?.is_empty() {
                        return Err(error.into());
                    }
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn find(&self, id: &str, stop: &Stop) -> Result<(ModelEntry, Place), NodeError> {
        let local = lock(&self.local_models).get(id).cloned();
        if let Some(local) = local {
            return Ok((local.entry, Place::File(local.file)));
        }
        let (entry, trusted) = self.entry(id, stop).await?;
        Ok((entry, Place::Catalogue(trusted)))
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

    /// Waits until nobody else fetches, loads or checks this model, telling the asker how far they are.
    pub(crate) async fn alone(&self, asker: Asker<'_>, id: &str) -> Result<Alone, NodeError> {
        let mut events = self.events();
        let mut alone = std::pin::pin!(asker.stop.race(self.model_manager.alone(id)));
        loop {
            match select(alone.as_mut(), events.next()).await {
                Either::Left((alone, _)) => return alone,
                Either::Right((Some(Event::Progress { progress }), _)) if progress.model == id => {
                    asker.out.chunk(Chunk::Progress { progress });
                }
                Either::Right((Some(_), _)) => {}
                Either::Right((None, alone)) => return alone.await,
            }
        }
    }

    /// Loads a model of the catalogue, from the device or the network.
    async fn load_from_shelf(
        &self,
        asker: Asker<'_>,
        alone: &Alone,
        entry: &ModelEntry,
        trusted: &Trusted,
    ) -> Result<(Fresh, ModelSource), NodeError> {
        // Known before the first byte.
        self.allowed_bytes(entry)?;
        if let Ok(keep) = self.permit::<KeepModel>() {
            let shelf = Shelf::on_device(&keep);
            match self.fetch_and_load(asker, alone, &shelf, entry, trusted).await {
                Err(NodeError::Store(StoreError::Denied(_))) => self.announce(&Event::Warning {
                    message: "this device refuses storage, so the model is kept in memory only".to_owned(),
                }),
                outcome => return outcome,
            }
        }
        let shelf = Shelf::in_memory(asker.permit);
        let outcome = self.fetch_and_load(asker, alone, &shelf, entry, trusted).await;
        if outcome.is_ok() {
            // The file in memory has done its duty.
            self.model_manager.forget_in_memory(&entry.id).await?;
        }
        outcome
    }

    async fn fetch_and_load(
        &self,
        asker: Asker<'_>,
        alone: &Alone,
        shelf: &Shelf<'_>,
        entry: &ModelEntry,
        trusted: &Trusted,
    ) -> Result<(Fresh, ModelSource), NodeError> {
        let file = self.model_manager.open(alone, shelf, entry).await?;
        let outcome = async {
            let fetch = self.fetch(asker, &file, trusted);
            let (source, early) = try_join(fetch, self.load_arriving(asker, &file)).await?;
            let fresh = match early {
                Some(fresh) => fresh,
                None => self.load_arrived(asker, &file).await?,
            };
            Ok((fresh, source))
        }
        .await;
        file.close().await?;
        outcome
    }

    /// Fetches what is missing, telling the asker and everybody else how far it is.
    pub(crate) async fn fetch(
        &self,
        asker: Asker<'_>,
        file: &ModelFile<'_>,
        trusted: &Trusted,
    ) -> Result<ModelSource, NodeError> {
        let origins = Origins {
            gateways: &trusted.catalogue.gateways,
            base: trusted.base.as_deref(),
        };
        let tell = |progress: Progress| self.tell(progress, asker.out);
        let peers = if file.is_whole() {
            None
        } else {
            asker.stop.race(self.peers_with(file)).await?
        };
        let source = file
            .fetch(asker.permit, origins, peers, asker.stop, &tell)
            .await?;
        if source == ModelSource::Network {
            self.changed(&trusted.catalogue, &file.entry().id);
        }
        Ok(source)
    }

    pub(crate) fn tell(&self, progress: Progress, out: &dyn Outlet) {
        self.announce(&Event::Progress {
            progress: progress.clone(),
        });
        out.chunk(Chunk::Progress { progress });
    }
}
