//! A model's file on its way into memory, also while it is still arriving.

use std::sync::Arc;

use kwaainet_platform::ReadAt;
use kwaainet_types::{Event, ModelEntry, ModelSource, Progress, Stage};

use crate::NodeError;
use crate::core::{KwaaiNetCore, Loaded, lock};
use crate::engine::{LoadProgress, LoadWish};
use crate::model_store::{ModelFile, Reading};
use crate::ready::{Asker, Ready};
use crate::resources::Paced;
use crate::turn::{Share, Turn};

/// A model that was just loaded, which others cannot see yet, and the whole turn that loading took.
pub(crate) type Fresh = (Loaded, Turn);

impl KwaaiNetCore {
    /// Loads what arrives of a file while it is being fetched, as long as nobody else wants the engine.
    ///
    /// `None` when somebody does, when the file is whole already, or is only in memory, where loading uses it up: then it
    /// is loaded in turn, as [`Self::load_arrived`] does. It is not `Ok` before the fetch is, so that what it read is what was kept.
    pub(crate) async fn load_arriving(
        &self,
        asker: Asker<'_>,
        file: &ModelFile<'_>,
    ) -> Result<Option<Fresh>, NodeError> {
        // A model in memory is worth more than one that may need the network for hours. And what arrived in memory only
        // is not to be lost with a connection that fails.
        if !file.is_kept() || file.is_whole() || !lock(&self.loaded).is_empty() {
            return Ok(None);
        }
        let Some(turn) = self.turns.at_once(Share::Whole) else {
            return Ok(None);
        };
        let loaded = {
            let reading = Reading::new(file, &turn);
            let told = |done: u64, total: u64| {
                // One bar at a time: of loading, what is left of it after the download.
                if file.is_whole() {
                    self.tell_load(asker, file.entry(), done, total);
                }
            };
            let outcome: Result<Loaded, NodeError> = async {
                let loaded = self.load(asker, file.entry(), &reading, &told).await?;
                asker.stop.race(reading.fetched()).await??;
                Ok(loaded)
            }
            .await;
            if reading.has_given_way() {
                return Ok(None);
            }
            outcome?
        };
        Ok(Some((loaded, turn)))
    }

    /// Waits for the engine, then loads a file that is whole.
    pub(crate) async fn load_arrived(
        &self,
        asker: Asker<'_>,
        file: &ModelFile<'_>,
    ) -> Result<Fresh, NodeError> {
        let turn = asker.stop.race(self.turns.next(Share::Whole)).await??;
        let loaded = {
            let reading = Reading::new(file, &turn);
            let told = |done: u64, total: u64| self.tell_load(asker, file.entry(), done, total);
            self.load(asker, file.entry(), &reading, &told).await?
        };
        Ok((loaded, turn))
    }

    /// Waits for the engine, then loads a file of the operator's own.
    pub(crate) async fn load_file(
        &self,
        asker: Asker<'_>,
        entry: &ModelEntry,
        file: &dyn ReadAt,
    ) -> Result<(Fresh, ModelSource), NodeError> {
        let turn = asker.stop.race(self.turns.next(Share::Whole)).await??;
        let told = |done: u64, total: u64| self.tell_load(asker, entry, done, total);
        let loaded = self.load(asker, entry, file, &told).await?;
        Ok(((loaded, turn), ModelSource::Device))
    }

    /// Shows a model that was just loaded to everybody, and shares the turn with them.
    pub(crate) fn publish(&self, entry: &ModelEntry, fresh: Fresh, source: ModelSource) -> Ready {
        let (loaded, mut turn) = fresh;
        let model = Arc::clone(&loaded.model);
        lock(&self.loaded).push(loaded);
        self.announce(&Event::ModelChanged {
            status: self.status(entry),
        });
        turn.share(model.answers());
        Ready {
            id: entry.id.clone(),
            model,
            source,
            turn,
        }
    }

    /// The memory cap, if the weights do not exceed it alone. They take about as much as the file.
    pub(crate) fn allowed_bytes(&self, entry: &ModelEntry) -> Result<u64, NodeError> {
        let allowed = self.resource_manager.memory_bytes();
        if entry.bytes > allowed {
            return Err(NodeError::AboveMemoryCap {
                id: entry.id.clone(),
                needed: entry.bytes,
                allowed,
            });
        }
        Ok(allowed)
    }

    /// Loads, under the caps. Changes what is in memory: for whoever has the whole turn.
    async fn load(
        &self,
        asker: Asker<'_>,
        entry: &ModelEntry,
        file: &dyn ReadAt,
        told: LoadProgress<'_>,
    ) -> Result<Loaded, NodeError> {
        let allowed = self.allowed_bytes(entry)?;
        lock(&self.loaded).retain(|loaded| loaded.id != entry.id);
        self.unload_above(allowed.saturating_sub(entry.bytes));
        let taken: u64 = lock(&self.loaded).iter().map(|l| l.model.memory_bytes()).sum();
        let config = self.config();
        let wish = LoadWish {
            context_length: config.context_length,
            kv_format: config.kv_cache,
            memory_bytes: allowed.saturating_sub(taken),
            answers: self.answers_at_once(),
        };
        let stop = asker.stop;
        let paced = Paced::new(file, &self.resource_manager, stop);
        let model = stop
            .race(self.inference_engine.load(asker.permit, &paced, wish, told))
            .await?;
        // What the engine could not read because it had to stop is no fault of the file.
        stop.check()?;
        Ok(Loaded {
            id: entry.id.clone(),
            model: model?,
            context_length: wish.context_length,
            kv_format: wish.kv_format,
        })
    }

    fn tell_load(&self, asker: Asker<'_>, entry: &ModelEntry, done: u64, total: u64) {
        let progress = Progress {
            model: entry.id.clone(),
            stage: Stage::Load,
            done,
            total,
            from_peers: 0,
            peers: 0,
            bytes_per_second: None,
        };
        self.tell(progress, asker.out);
    }
}
