//! The engine of this device, as the node uses it.

use std::sync::{Arc, Mutex, PoisonError};

use kwaainet_engine::tokenizer::EncodeOptions;
use kwaainet_engine::{
    EngineError, Generation, GenerationOptions, LoadOptions, LoadedModel, RenderOptions, Session, Step,
};
use kwaainet_platform::{BoxFuture, Parallel, ReadAt, boxed};
use kwaainet_types::{ChatMessage, Permit, RunAi};

use crate::engine::{InferenceEngine, LoadProgress, LoadWish, Run, RunOptions, RunStep, RunnableModel};

/// Runs models with `kwaainet_engine` on this device's processors. (The name is the specification's.)
pub struct CandleEngine {
    parallel: Arc<dyn Parallel>,
}

/// The specification's spelling.
pub type CandelEngine = CandleEngine;

impl std::fmt::Debug for CandleEngine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CandleEngine")
            .field("width", &self.parallel.width())
            .finish()
    }
}

impl CandleEngine {
    /// An engine on these processors.
    pub fn new(parallel: Arc<dyn Parallel>) -> Self {
        Self { parallel }
    }
}

impl InferenceEngine for CandleEngine {
    fn load<'a>(
        &'a self,
        permit: &'a Permit<RunAi>,
        file: &'a dyn ReadAt,
        wish: LoadWish,
        progress: LoadProgress<'a>,
    ) -> BoxFuture<'a, Result<Arc<dyn RunnableModel>, EngineError>> {
        boxed(async move {
            let options = LoadOptions {
                context_length: wish.context_length,
                parallel: Arc::clone(&self.parallel),
                memory_limit: Some(wish.memory_bytes),
            };
            let mut told = |done: u64, total: u64| progress.loaded(done, total);
            let model = LoadedModel::load(permit, file, options, &mut told).await?;
            Ok(Arc::new(CandleModel {
                model: Arc::new(model),
                idle: Arc::default(),
            }) as Arc<dyn RunnableModel>)
        })
    }
}

/// The session of the answer before, whose cache the next one can take over.
type Idle = Arc<Mutex<Option<Session>>>;

struct CandleModel {
    model: Arc<LoadedModel>,
    idle: Idle,
}

impl RunnableModel for CandleModel {
    fn memory_bytes(&self) -> u64 {
        self.model.memory_bytes()
    }

    fn context_length(&self) -> usize {
        self.model.context_length()
    }

    fn conversation(&self, messages: &[ChatMessage], now_unix_ms: u64) -> Result<Vec<u32>, EngineError> {
        let options = RenderOptions {
            add_generation_prompt: true,
            now_unix_ms,
        };
        let text = self.model.chat_template()?.render(messages, options)?;
        let tokenizer = self.model.tokenizer();
        // Most templates write the beginning-of-text token themselves; twice would be once too often.
        let begins = tokenizer
            .bos()
            .and_then(|bos| tokenizer.text(bos))
            .is_some_and(|bos| !bos.is_empty() && text.starts_with(bos));
        let options = EncodeOptions {
            add_special: !begins,
            parse_special: true,
        };
        Ok(tokenizer.encode(&text, options)?)
    }

    fn text(&self, text: &str) -> Result<Vec<u32>, EngineError> {
        let options = EncodeOptions {
            add_special: true,
            parse_special: true,
        };
        Ok(self.model.tokenizer().encode(text, options)?)
    }

    fn start(
        &self,
        _permit: &Permit<RunAi>,
        prompt: &[u32],
        options: RunOptions,
    ) -> Result<Box<dyn Run>, EngineError> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).take();
        let session = match idle {
            Some(session) => session,
            None => Session::new(Arc::clone(&self.model))?,
        };
        let defaults = GenerationOptions::default();
        let options = GenerationOptions {
            guesses: options.guesses.unwrap_or(defaults.guesses),
            sampler: options.sampler,
            max_tokens: options.max_tokens,
            stop: options.stops,
            resume: options.resume,
            ..defaults
        };
        let generation = Generation::new(session, prompt, options)?;
        Ok(Box::new(CandleRun {
            idle: Arc::clone(&self.idle),
            generation: Some(generation),
        }))
    }
}

struct CandleRun {
    idle: Idle,
    /// There until it is dropped.
    generation: Option<Generation>,
}

impl Run for CandleRun {
    fn reused_tokens(&self) -> usize {
        self.generation
            .as_ref()
            .map_or(0, |generation| generation.usage().reused_tokens)
    }

    fn step(&mut self, permit: &Permit<RunAi>, slice: usize) -> Result<RunStep, EngineError> {
        let Some(generation) = &mut self.generation else {
            return Err(EngineError::WrongOrder("this answer is over"));
        };
        generation.set_prefill_slice(slice);
        Ok(match generation.step(permit)? {
            Step::Prefilled { .. } => RunStep::Prefilled,
            Step::Token { id, text } => RunStep::Token { id, text },
            Step::Finished { reason, text, .. } => RunStep::Finished { reason, text },
        })
    }
}

impl Drop for CandleRun {
    fn drop(&mut self) {
        // What was evaluated serves the next turn, however this answer ended.
        let session = self.generation.take().map(Generation::into_session);
        *self.idle.lock().unwrap_or_else(PoisonError::into_inner) = session;
    }
}
