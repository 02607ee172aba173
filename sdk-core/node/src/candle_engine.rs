//! The engine of this device, as the node uses it.

use std::sync::{Arc, Mutex, PoisonError};

use kwaainet_engine::gguf::Gguf;
use kwaainet_engine::tokenizer::EncodeOptions;
use kwaainet_engine::{
    ChatTemplate, EngineError, LoadOptions, LoadedModel, RenderOptions, Sampler, Session, TextStream,
};
use kwaainet_platform::{BoxFuture, Parallel, ReadAt, boxed};
use kwaainet_types::{ChatMessage, FinishReason, Permit, RunAi};

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
            let gguf = Gguf::read(file).await?;
            Ok(Arc::new(CandleModel {
                template: ChatTemplate::from_metadata(&gguf.metadata, model.tokenizer())?,
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
    template: ChatTemplate,
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
        let text = self.template.render(messages, options)?;
        let tokenizer = self.model.tokenizer();
        // Most templates write the beginning-of-text token themselves; twice would be once too often.
        let begins = tokenizer
            .bos()
            .and_then(|bos| tokenizer.text(bos))
            .is_some_and(|bos| text.starts_with(bos));
        let options = EncodeOptions {
            add_special: !begins,
            parse_special: true,
        };
        Ok(tokenizer.encode(&text, options)?)
    }

    fn text(&self, text: &str) -> Result<Vec<u32>, EngineError> {
        Ok(self.model.tokenizer().encode(
            text,
            EncodeOptions {
                add_special: true,
                parse_special: true,
            },
        )?)
    }

    fn start(
        &self,
        _permit: &Permit<RunAi>,
        prompt: &[u32],
        options: RunOptions,
    ) -> Result<Box<dyn Run>, EngineError> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut session = match idle {
            Some(session) => session,
            None => Session::new(Arc::clone(&self.model))?,
        };
        let mut tokens = prompt.to_vec();
        tokens.extend_from_slice(&options.resume);
        let reused = session.begin(&tokens)?.min(prompt.len());
        let mut text = TextStream::new(options.stops);
        let mut bytes = Vec::new();
        for token in &options.resume {
            self.model.tokenizer().append_piece(*token, false, &mut bytes)?;
        }
        text.push(&bytes);
        let sampler = Sampler::new(options.sampler)?;
        Ok(Box::new(CandleRun {
            model: Arc::clone(&self.model),
            idle: Arc::clone(&self.idle),
            session: Some(session),
            sampler,
            text,
            reused,
            made: options.resume.len(),
            most: options.max_tokens,
            pending: None,
        }))
    }
}

struct CandleRun {
    model: Arc<LoadedModel>,
    idle: Idle,
    session: Option<Session>,
    sampler: Sampler,
    text: TextStream,
    reused: usize,
    /// Tokens of the answer so far.
    made: usize,
    most: usize,
    pending: Option<u32>,
}

impl Run for CandleRun {
    fn reused_tokens(&self) -> usize {
        self.reused
    }

    fn step(&mut self, permit: &Permit<RunAi>, slice: usize) -> Result<RunStep, EngineError> {
        let Some(session) = &mut self.session else {
            return Err(EngineError::WrongOrder("this answer is over"));
        };
        if session.evaluated() < session.tokens().len() {
            session.prefill_step(permit, slice)?;
            return Ok(RunStep::Prefilled);
        }
        if let Some(token) = self.pending.take() {
            session.decode(permit, token)?;
        }
        if self.text.is_stopped() || self.made >= self.most {
            let reason = if self.text.is_stopped() {
                FinishReason::Stop
            } else {
                FinishReason::Length
            };
            return Ok(RunStep::Finished {
                reason,
                text: self.text.finish(),
            });
        }
        let token = self
            .sampler
            .sample(session.logits(), session.tokens(), self.made as u64)
            .ok_or(EngineError::WrongOrder("there are no logits to choose from"))?;
        if self.model.tokenizer().is_end(token) {
            return Ok(RunStep::Finished {
                reason: FinishReason::Stop,
                text: self.text.finish(),
            });
        }
        let mut bytes = Vec::new();
        self.model.tokenizer().append_piece(token, false, &mut bytes)?;
        self.made = self.made.saturating_add(1);
        self.pending = Some(token);
        Ok(RunStep::Token {
            id: token,
            text: self.text.push(&bytes),
        })
    }
}

impl Drop for CandleRun {
    fn drop(&mut self) {
        *self.idle.lock().unwrap_or_else(PoisonError::into_inner) = self.session.take();
    }
}
