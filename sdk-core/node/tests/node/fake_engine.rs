//! An engine whose tokens are a known function of prompt, seed and position.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kwaainet_engine::EngineError;
use kwaainet_engine::gguf::GgufError;
use kwaainet_node::engine::{
    InferenceEngine, LoadProgress, LoadWish, Run, RunOptions, RunStep, RunnableModel,
};
use kwaainet_platform::{BoxFuture, ManualClock, ReadAt, boxed};
use kwaainet_types::{ChatMessage, FinishReason, Permit, RunAi, ToolOptions};

/// Tokens of a prompt read in one step.
const SLICE: usize = 4;
/// Bytes of a file read at once.
const PIECE: u64 = 300_000;
/// Time of one step.
const STEP: Duration = Duration::from_millis(20);

#[derive(Clone)]
pub(crate) struct FakeEngine {
    clock: Arc<ManualClock>,
    pub(crate) loads: Arc<AtomicUsize>,
    /// What the load under way, or the last one, has read.
    pub(crate) read: Arc<Mutex<Vec<u8>>>,
    pub(crate) steps: Arc<AtomicUsize>,
    /// Loads that will say that the file is damaged.
    pub(crate) damaged: Arc<AtomicUsize>,
    /// Runs under way, and the most there were at once.
    pub(crate) runs: Arc<(AtomicUsize, AtomicUsize)>,
    /// What every answer says, a letter for each token, instead of what prompt and seed give.
    pub(crate) script: Arc<Mutex<Option<&'static str>>>,
    /// What the run before left in the cache.
    cache: Arc<Mutex<Vec<u32>>>,
}

impl FakeEngine {
    pub(crate) fn new(clock: Arc<ManualClock>) -> Self {
        Self {
            clock,
            loads: Arc::default(),
            read: Arc::default(),
            steps: Arc::default(),
            damaged: Arc::default(),
            runs: Arc::default(),
            script: Arc::default(),
            cache: Arc::default(),
        }
    }
}

impl InferenceEngine for FakeEngine {
    fn load<'a>(
        &'a self,
        _: &'a Permit<RunAi>,
        file: &'a dyn ReadAt,
        wish: LoadWish,
        progress: LoadProgress<'a>,
    ) -> BoxFuture<'a, Result<Arc<dyn RunnableModel>, EngineError>> {
        boxed(async move {
            self.read.lock().unwrap().clear();
            let mut at = 0;
            while at < file.size() {
                let mut piece = vec![0; PIECE.min(file.size() - at) as usize];
                file.read_at(at, &mut piece).await.map_err(EngineError::Read)?;
                at += piece.len() as u64;
                self.read.lock().unwrap().extend(piece);
                progress.loaded(at, file.size());
                if self.damaged.load(Ordering::Relaxed) > 0 {
                    self.damaged.fetch_sub(1, Ordering::Relaxed);
                    return Err(GgufError::WrongMagic { found: *b"GGML" }.into());
                }
            }
            assert!(self.read.lock().unwrap().starts_with(b"GGUF"));
            self.loads.fetch_add(1, Ordering::Relaxed);
            Ok(Arc::new(FakeModel {
                engine: self.clone(),
                context: wish.context_length as usize,
                bytes: file.size(),
            }) as Arc<dyn RunnableModel>)
        })
    }
}

struct FakeModel {
    engine: FakeEngine,
    context: usize,
    bytes: u64,
}

impl RunnableModel for FakeModel {
    fn memory_bytes(&self) -> u64 {
        self.bytes
    }

    fn context_length(&self) -> usize {
        self.context
    }

    fn conversation(
        &self,
        messages: &[ChatMessage],
        _: &ToolOptions,
        _: u64,
    ) -> Result<Vec<u32>, EngineError> {
        let text: String = messages.iter().map(|message| message.text()).collect();
        self.text(&text)
    }

    /// A token per word.
    fn text(&self, text: &str) -> Result<Vec<u32>, EngineError> {
        let token = |word: &str| {
            word.bytes()
                .fold(7_u32, |sum, b| sum.wrapping_mul(31) + u32::from(b))
        };
        Ok(text.split_whitespace().map(token).collect())
    }

    fn start(
        &self,
        _: &Permit<RunAi>,
        prompt: &[u32],
        options: RunOptions,
    ) -> Result<Box<dyn Run>, EngineError> {
        let cache = self.engine.cache.lock().unwrap();
        let reused = cache.iter().zip(prompt).take_while(|(a, b)| a == b).count();
        let (now, most) = &*self.engine.runs;
        let running = now.fetch_add(1, Ordering::SeqCst) + 1;
        most.fetch_max(running, Ordering::SeqCst);
        Ok(Box::new(FakeRun {
            engine: self.engine.clone(),
            prompt: prompt.to_vec(),
            read: reused.min(prompt.len().saturating_sub(1)),
            reused,
            made: options.resume.clone(),
            options,
        }))
    }
}

struct FakeRun {
    engine: FakeEngine,
    prompt: Vec<u32>,
    read: usize,
    reused: usize,
    made: Vec<u32>,
    options: RunOptions,
}

impl Run for FakeRun {
    fn reused_tokens(&self) -> usize {
        self.reused
    }

    fn resumed_text(&self) -> String {
        let script = self.engine.script.lock().unwrap().unwrap_or_default();
        script.chars().take(self.options.resume.len()).collect()
    }

    fn step(&mut self, _: &Permit<RunAi>, _: usize) -> Result<RunStep, EngineError> {
        self.engine.steps.fetch_add(1, Ordering::Relaxed);
        self.engine.clock.advance(STEP);
        if self.read < self.prompt.len() {
            self.read += SLICE;
            return Ok(RunStep::Prefilled);
        }
        if self.made.len() >= self.options.max_tokens {
            return Ok(RunStep::Finished {
                reason: FinishReason::Length,
                text: String::new(),
            });
        }
        if let Some(script) = *self.engine.script.lock().unwrap() {
            let at = self.made.len() as u32;
            let Some(letter) = script.chars().nth(at as usize) else {
                return Ok(RunStep::Finished {
                    reason: FinishReason::Stop,
                    text: String::new(),
                });
            };
            self.made.push(at);
            return Ok(RunStep::Token {
                id: at,
                text: letter.to_string(),
            });
        }
        let prompt: u32 = self
            .prompt
            .iter()
            .fold(0, |sum, token| sum.wrapping_mul(17) + token);
        let id = prompt
            .wrapping_add(self.options.sampler.seed as u32)
            .wrapping_add(self.made.len() as u32 * 5)
            % 26;
        self.made.push(id);
        Ok(RunStep::Token {
            id,
            text: char::from(b'a' + id as u8).to_string(),
        })
    }

    fn evaluated_in_step(&self) -> usize {
        1
    }
}

impl Drop for FakeRun {
    fn drop(&mut self) {
        self.engine.runs.0.fetch_sub(1, Ordering::SeqCst);
        *self.engine.cache.lock().unwrap() = self.prompt.clone();
    }
}
