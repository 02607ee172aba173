//! The engine of this device, as the node uses it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use kwaainet_engine::tokenizer::EncodeOptions;
use kwaainet_engine::{
    EngineError, Generation, GenerationOptions, LoadOptions, LoadedModel, RenderOptions, Session, Step,
    ToolFormat,
};
use kwaainet_platform::{BoxFuture, Parallel, ReadAt, boxed};
use kwaainet_types::{ChatMessage, Permit, RunAi, ToolOptions};

use crate::batch::Batch;
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
                kv_format: wish.kv_format,
                parallel: Arc::clone(&self.parallel),
                memory_limit: Some(wish.memory_bytes),
            };
            let mut told = |done: u64, total: u64| progress.loaded(done, total);
            let model = LoadedModel::load(permit, file, options, &mut told).await?;
            // Each answer at the same time needs a cache of its own; one is in the plan.
            let plan = model.memory_plan();
            let room = wish.memory_bytes.saturating_sub(plan.total());
            let more = room.checked_div(plan.kv_cache).unwrap_or_default();
            let answers = wish
                .answers
                .clamp(1, usize::try_from(more).unwrap_or(usize::MAX).saturating_add(1));
            Ok(Arc::new(CandleModel {
                model: Arc::new(model),
                answers,
                desk: Arc::default(),
            }) as Arc<dyn RunnableModel>)
        })
    }
}

/// What the answers of a model share.
#[derive(Debug, Default)]
struct Desk {
    /// Sessions of answers before, whose caches the next ones can take over.
    idle: Mutex<Vec<Session>>,
    batch: Batch,
}

impl Desk {
    fn idle(&self) -> MutexGuard<'_, Vec<Session>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The session that knows most of this prompt's beginning. A new one is better than none, unless `most` are there.
    fn session(&self, prompt: &[u32], model: &Arc<LoadedModel>, most: usize) -> Result<Session, EngineError> {
        let mut idle = self.idle();
        let known = |session: &Session| {
            let same = session.tokens().iter().zip(prompt);
            same.take_while(|(a, b)| a == b).count()
        };
        let best = (0..idle.len()).max_by_key(|at| idle.get(*at).map_or(0, known));
        let in_use = Arc::strong_count(model).saturating_sub(1);
        match best {
            Some(at) if idle.get(at).map_or(0, known) > 0 || in_use >= most => Ok(idle.swap_remove(at)),
            _ => Session::new(Arc::clone(model)),
        }
    }
}

struct CandleModel {
    model: Arc<LoadedModel>,
    answers: usize,
    desk: Arc<Desk>,
}

impl RunnableModel for CandleModel {
    fn memory_bytes(&self) -> u64 {
        let more = self.answers.saturating_sub(1) as u64;
        let caches = self.model.memory_plan().kv_cache.saturating_mul(more);
        self.model.memory_bytes().saturating_add(caches)
    }

    fn answers(&self) -> usize {
        self.answers
    }

    fn context_length(&self) -> usize {
        self.model.context_length()
    }

    fn conversation(
        &self,
        messages: &[ChatMessage],
        tools: &ToolOptions,
        now_unix_ms: u64,
    ) -> Result<Vec<u32>, EngineError> {
        let options = RenderOptions {
            add_generation_prompt: true,
            now_unix_ms,
        };
        let template = self.model.chat_template()?;
        let text = template.render_with_tools(messages, tools, options)?;
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

    fn tool_format(&self) -> Result<ToolFormat, EngineError> {
        Ok(self.model.chat_template()?.tool_format())
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
        let session = self.desk.session(prompt, &self.model, self.answers)?;
        let defaults = GenerationOptions::default();
        let options = GenerationOptions {
            guesses: options.guesses.unwrap_or(defaults.guesses),
            sampler: options.sampler,
            max_tokens: options.max_tokens,
            stop: options.stops,
            resume: options.resume,
            grammar: options.grammar,
            marks: options.marks,
            ..defaults
        };
        let generation = Generation::new(session, prompt, options)?;
        self.desk.batch.enter();
        Ok(Box::new(CandleRun {
            desk: Arc::clone(&self.desk),
            reused_tokens: generation.usage().reused_tokens,
            generation: Some(generation),
        }))
    }
}

struct CandleRun {
    desk: Arc<Desk>,
    reused_tokens: usize,
    /// There until it is dropped, or lost in a panic.
    generation: Option<Generation>,
}

impl Run for CandleRun {
    fn reused_tokens(&self) -> usize {
        self.reused_tokens
    }

    fn resumed_text(&self) -> String {
        let generation = self.generation.as_ref();
        generation.map_or(String::new(), |generation| generation.resumed_text().to_owned())
    }

    fn step(&mut self, permit: &Permit<RunAi>, slice: usize) -> Result<RunStep, EngineError> {
        let lost = || EngineError::WrongOrder("what was to compute this answer has failed: ask again");
        let mut generation = self.generation.take().ok_or_else(lost)?;
        generation.set_prefill_slice(slice);
        if generation.computes_next() {
            generation = self.desk.batch.compute(permit, generation).ok_or_else(lost)?;
        }
        let generation = self.generation.insert(generation);
        Ok(match generation.step(permit)? {
            Step::Prefilled { .. } => RunStep::Prefilled,
            Step::Token { id, text } => RunStep::Token { id, text },
            Step::Finished { reason, text, .. } => RunStep::Finished { reason, text },
        })
    }

    fn evaluated_in_step(&self) -> usize {
        let generation = self.generation.as_ref();
        generation.map_or(0, Generation::evaluated_in_step)
    }
}

impl Drop for CandleRun {
    fn drop(&mut self) {
        // What was evaluated serves the next turn, however this answer ended.
        if let Some(generation) = self.generation.take() {
            self.desk.idle().push(generation.into_session());
        }
        self.desk.batch.leave();
    }
}
