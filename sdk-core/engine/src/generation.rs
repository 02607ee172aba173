//! One answer: from the prompt's tokens to text, a bounded step at a time.

use std::collections::VecDeque;
use std::sync::Arc;

use kwaainet_types::{FinishReason, Permit, RunAi};

use crate::backend::Rows;
use crate::backend::cpu::{Cache, Workspace};
use crate::constraint::Constraint;
use crate::draft::{Lookup, MOST_GUESSES};
use crate::error::EngineError;
use crate::executor::{BLOCK, Pass, Piece};
use crate::grammar::Grammar;
use crate::sampler::{OptionsError, Sampler, SamplerOptions};
use crate::session::{Judge, Session};
use crate::text::TextStream;

/// Tokens of the prompt per step: few enough that a slow device answers a cancel within a blink.
const PREFILL_SLICE: usize = 16;
/// Tokens of a block that goes through the layers in several steps. Of SmolLM2 in WebAssembly 64 at a time are read a
/// fifth faster than 8, and 128 no faster (`examples/speed.rs`).
const SPLIT_BLOCK: usize = 64;
/// The same for the slowest devices, which need longer than a slice for one layer of 64.
const SMALLEST_BLOCK: usize = 8;
/// Most stop strings (OpenAI allows 4).
const MOST_STOPS: usize = 16;
/// Longest stop string in bytes.
const LONGEST_STOP: usize = 256;

/// What to generate.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerationOptions {
    /// How tokens are chosen.
    pub sampler: SamplerOptions,
    /// Most tokens of the answer, resumed ones included.
    pub max_tokens: usize,
    /// Strings that end the answer and do not appear in it.
    pub stop: Vec<String>,
    /// Tokens of this answer that were delivered before an interruption.
    pub resume: Vec<u32>,
    /// How much of the prompt one step evaluates; see [`Generation::set_prefill_slice`].
    pub prefill_slice: usize,
    /// Most tokens that are guessed from the text so far and evaluated with the next one. The answer is the same; where it
    /// repeats its prompt or itself it comes sooner. 0 guesses none.
    pub guesses: usize,
    /// What the answer must follow. It may break off, with [`FinishReason::Length`], and is then incomplete.
    pub grammar: Option<Grammar>,
    /// Control tokens, by their texts, that are part of the answer's text and of what the grammar follows.
    pub marks: Vec<String>,
}

impl Default for GenerationOptions {
    fn default() -> Self {
        Self {
            sampler: SamplerOptions::default(),
            max_tokens: 256,
            stop: Vec::new(),
            resume: Vec::new(),
            prefill_slice: PREFILL_SLICE,
            guesses: MOST_GUESSES,
            grammar: None,
            marks: Vec::new(),
        }
    }
}

impl GenerationOptions {
    /// Checks every range.
    ///
    /// # Errors
    /// [`OptionsError`] naming the option and its range.
    pub fn check(&self) -> Result<(), OptionsError> {
        self.sampler.check()?;
        let wrong = |name, value: String, range| Err(OptionsError { name, value, range });
        if self.max_tokens == 0 {
            return wrong("max_tokens", "0".to_owned(), "at least 1");
        }
        if self.prefill_slice == 0 {
            return wrong("prefill_slice", "0".to_owned(), "at least 1");
        }
        if self.stop.len() > MOST_STOPS {
            return wrong(
                "stop",
                format!("{} strings", self.stop.len()),
                "at most 16 strings",
            );
        }
        match self
            .stop
            .iter()
            .find(|stop| stop.is_empty() || stop.len() > LONGEST_STOP)
        {
            Some(stop) => wrong(
                "stop",
                format!("a string of {} bytes", stop.len()),
                "1 to 256 bytes long each",
            ),
            None => Ok(()),
        }
    }
}

/// Tokens that an answer took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Of the prompt.
    pub prompt_tokens: usize,
    /// Of the prompt, taken over from what the session had evaluated before.
    pub reused_tokens: usize,
    /// Of the answer, resumed ones included.
    pub completion_tokens: usize,
    /// Evaluated together with the token before them, because they had been guessed.
    pub guessed_tokens: usize,
}

/// What a step did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A slice of the prompt was evaluated.
    Prefilled {
        /// Tokens that are evaluated now.
        done: usize,
        /// Tokens that have to be.
        total: usize,
    },
    /// The answer has one token more.
    Token {
        /// The token; a resumed generation needs all of them.
        id: u32,
        /// The text that is certain now; empty while a character is incomplete or a stop string is possible.
        text: String,
    },
    /// The answer is over.
    Finished {
        /// Why.
        reason: FinishReason,
        /// The rest of the text.
        text: String,
        /// What it took.
        usage: Usage,
    },
}

/// An answer being generated. It drives a [`Session`], which it gives back.
///
/// Each step is bounded (a slice of the prompt, or one token), so that its caller can yield, throttle and
/// cancel between steps. The same prompt, options and seed give the same tokens and text, whether or not the
/// answer was interrupted and resumed with the tokens delivered so far.
#[derive(Debug)]
pub struct Generation {
    session: Session,
    sampler: Sampler,
    text: TextStream,
    usage: Usage,
    max_tokens: usize,
    prefill_slice: usize,
    /// Tokens that are chosen and not yet told; all but the newest are evaluated.
    chosen: VecDeque<u32>,
    /// The newest token, told and not evaluated yet.
    pending: Option<u32>,
    guesses: usize,
    lookup: Lookup,
    constraint: Option<Constraint>,
    marks: Vec<u32>,
    resumed_text: String,
    /// Why no token could be chosen.
    failed: Option<EngineError>,
    /// A block of the prompt that is on its way through the layers.
    under_way: Option<(Work, Pass<Workspace>)>,
    /// What [`Self::compute`] did since the step before.
    computed: Option<Result<Computed, EngineError>>,
    is_over: bool,
}

/// What a generation has to evaluate before its next step.
#[derive(Debug)]
enum Work {
    /// Tokens of the prompt.
    Prompt(Vec<u32>),
    /// The pending token and guesses of what follows it.
    Answer(Vec<u32>),
}

/// What was evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Computed {
    Prompt,
    Answer,
}

impl Work {
    fn tokens(&self) -> &[u32] {
        match self {
            Self::Prompt(tokens) | Self::Answer(tokens) => tokens,
        }
    }
}

impl Generation {
    /// Begins an answer to `prompt`, or goes on with one.
    ///
    /// # Errors
    /// [`EngineError::Options`], and those of [`Session::begin`].
    pub fn new(
        mut session: Session,
        prompt: &[u32],
        options: GenerationOptions,
    ) -> Result<Self, EngineError> {
        options.check()?;
        let mut tokens = prompt.to_vec();
        tokens.extend_from_slice(&options.resume);
        if prompt.is_empty() {
            return Err(EngineError::NoTokens);
        }
        // The last token of an answer that filled the context was never evaluated, and such an answer is complete.
        let fills = !options.resume.is_empty() && tokens.len() > session.model().context_length();
        let max_tokens = if fills {
            options.resume.len()
        } else {
            options.max_tokens
        };
        let tokenizer = session.model().tokenizer();
        let marks: Vec<u32> = options
            .marks
            .iter()
            .filter_map(|mark| tokenizer.id(mark))
            .collect();
        let constraint = options.grammar.as_ref();
        let constraint = constraint
            .map(|grammar| Constraint::new(grammar, session.model(), marks.clone(), &options.resume))
            .transpose()?;
        let reused = session.begin(if fills { prompt } else { &tokens })?;
        let mut text = TextStream::new(options.stop);
        let mut resumed_text = String::new();
        let mut bytes = Vec::new();
        for token in &options.resume {
            bytes.clear();
            let is_mark = marks.contains(token);
            session
                .model()
                .tokenizer()
                .append_piece(*token, is_mark, &mut bytes)?;
            resumed_text.push_str(&text.push(&bytes));
        }
        Ok(Self {
            session,
            sampler: Sampler::new(options.sampler)?,
            text,
            usage: Usage {
                prompt_tokens: prompt.len(),
                reused_tokens: reused.min(prompt.len()),
                completion_tokens: options.resume.len(),
                guessed_tokens: 0,
            },
            max_tokens,
            prefill_slice: options.prefill_slice,
            chosen: VecDeque::with_capacity(MOST_GUESSES.saturating_add(1)),
            pending: None,
            guesses: options.guesses.min(MOST_GUESSES),
            lookup: Lookup::default(),
            constraint,
            marks,
            resumed_text,
            failed: None,
            under_way: None,
            computed: None,
            is_over: false,
        })
    }

    /// Tokens taken so far.
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// The text of the resumed tokens, which was delivered before.
    pub fn resumed_text(&self) -> &str {
        &self.resumed_text
    }

    /// Sets how much of the prompt the coming steps evaluate, as the caller learns how fast they go: the work of so many
    /// tokens. A small slice is a block of more tokens in a part of the layers, because each reading of the weights should
    /// serve many tokens.
    pub fn set_prefill_slice(&mut self, tokens: usize) {
        self.prefill_slice = tokens.max(1);
    }

    /// Ends the answer and gives the session back, with what it has evaluated.
    pub fn into_session(mut self) -> Session {
        if let Some((_, pass)) = self.under_way.take() {
            let model = Arc::clone(self.session.model());
            let (caches, _given_up) = model.blocks.end(pass, &mut |_, _, _| {});
            self.session.take_back(caches);
        }
        self.session
    }

    /// Does one bounded piece of work.
    ///
    /// # Errors
    /// [`EngineError::WrongOrder`] behind [`Step::Finished`], and those of [`Session::prefill_step`] and
    /// [`Session::decode`].
    pub fn step(&mut self, permit: &Permit<RunAi>) -> Result<Step, EngineError> {
        if self.is_over {
            return Err(EngineError::WrongOrder("the answer is over: begin another"));
        }
        if self.text.is_stopped() || self.follows_all() {
            return Ok(self.finish(FinishReason::Stop));
        }
        if self.usage.completion_tokens >= self.max_tokens {
            return Ok(self.finish(FinishReason::Length));
        }
        let total = self.session.tokens().len();
        if self.computed.is_none() {
            self.compute_slice(permit);
        }
        if self.under_way.is_some() {
            return Ok(Step::Prefilled {
                done: self.session.evaluated(),
                total,
            });
        }
        match self.computed.take() {
            Some(Err(EngineError::ContextFull { .. })) => return Ok(self.finish(FinishReason::Length)),
            Some(Err(error)) => return Err(error),
            Some(Ok(Computed::Prompt)) => {
                return Ok(Step::Prefilled {
                    done: self.session.evaluated(),
                    total,
                });
            }
            Some(Ok(Computed::Answer)) | None => {}
        }
        let id = self.chosen.pop_front();
        let id = id.ok_or(EngineError::WrongOrder("there are no logits to choose from"))?;
        let tokenizer = self.session.model().tokenizer();
        if tokenizer.is_end(id) {
            return Ok(self.finish(FinishReason::Stop));
        }
        let mut bytes = Vec::new();
        tokenizer.append_piece(id, self.marks.contains(&id), &mut bytes)?;
        self.usage.completion_tokens = self.usage.completion_tokens.saturating_add(1);
        if self.chosen.is_empty() {
            self.pending = Some(id);
        }
        Ok(Step::Token {
            id,
            text: self.text.push(&bytes),
        })
    }

    /// Evaluates what the next step needs, of a prompt one slice. Unlike [`Self::compute`] it may end between two layers.
    pub fn compute_slice(&mut self, permit: &Permit<RunAi>) {
        if !self.is_prompt() || self.is_over || self.is_complete() || self.computed.is_some() {
            return Self::compute(permit, &mut [self]);
        }
        let blocks = self.session.model().blocks.layers().len();
        let split = self.prefill_slice.saturating_mul(SMALLEST_BLOCK).min(SPLIT_BLOCK);
        let tokens = self.prefill_slice.max(split);
        if self.under_way.is_none() {
            let work = Work::Prompt(self.session.next_of_prompt(tokens).to_vec());
            let model = Arc::clone(self.session.model());
            match model.blocks.begin(vec![self.begin_work(&work)]) {
                Ok(pass) => self.under_way = Some((work, pass)),
                Err((caches, error)) => {
                    self.session.take_back(caches);
                    self.computed = Some(Err(error));
                }
            }
        }
        let under_way = self
            .under_way
            .as_ref()
            .map_or(tokens, |(work, _)| work.tokens().len());
        let layers = self.prefill_slice.saturating_mul(blocks) / under_way.max(1);
        self.advance(layers.max(1));
    }

    /// Takes the block that is under way through so many layers more.
    fn advance(&mut self, layers: usize) {
        let Some((work, mut pass)) = self.under_way.take() else {
            return;
        };
        let model = Arc::clone(self.session.model());
        if !model.blocks.advance(&mut pass, layers) {
            self.under_way = Some((work, pass));
            return;
        }
        let mut judge = Judge::default();
        let mut take = |_: usize, _: usize, logits: &[f32]| self.choose(logits, None, &mut judge);
        let (caches, outcome) = model.blocks.end(pass, &mut take);
        self.session.take_back(caches);
        let done = self.end_work(&work, &judge);
        self.computed = Some(outcome.and(done));
    }

    /// Evaluates what these generations of one model need for their next steps, all together: weights are read once for
    /// all. Each gets the tokens that it would get alone. Errors come with the next [`Self::step`]; one that needs nothing
    /// is left as it is.
    pub fn compute(_permit: &Permit<RunAi>, generations: &mut [&mut Self]) {
        // Answers first: what room they leave in a block, prompts fill.
        for generation in generations.iter_mut() {
            generation.advance(usize::MAX);
        }
        let mut room = BLOCK;
        let mut batch: Vec<(usize, Work)> = Vec::with_capacity(generations.len());
        for wants_answer in [true, false] {
            for (index, generation) in generations.iter_mut().enumerate() {
                if generation.is_prompt() == wants_answer || generation.computed.is_some() {
                    continue;
                }
                match generation.next_work(room) {
                    Ok(Some(work)) => {
                        room = room.saturating_sub(work.tokens().len());
                        batch.push((index, work));
                    }
                    Ok(None) => {}
                    Err(error) => generation.computed = Some(Err(error)),
                }
            }
        }
        Self::evaluate(generations, &batch);
    }

    /// Whether the next step evaluates something.
    pub fn computes_next(&self) -> bool {
        let answers = self.chosen.is_empty() && self.pending.is_some();
        !self.is_over && !self.is_complete() && self.computed.is_none() && (self.is_prompt() || answers)
    }

    fn is_prompt(&self) -> bool {
        self.session.evaluated() < self.session.tokens().len()
    }

    /// What the next step needs, in at most `room` tokens.
    fn next_work(&mut self, room: usize) -> Result<Option<Work>, EngineError> {
        if self.is_over || room == 0 || self.is_complete() {
            return Ok(None);
        }
        if self.is_prompt() {
            let tokens = self.session.next_of_prompt(self.prefill_slice.min(room));
            return Ok(Some(Work::Prompt(tokens.to_vec())));
        }
        let (true, Some(pending)) = (self.chosen.is_empty(), self.pending) else {
            return Ok(None);
        };
        self.session.check_next(pending)?;
        let context = self.session.model().context_length();
        let behind = context
            .saturating_sub(self.session.tokens().len())
            .saturating_sub(1);
        let left = self.max_tokens.saturating_sub(self.usage.completion_tokens);
        let most = left.saturating_sub(1).min(behind).min(room.saturating_sub(1));
        let mut tokens = vec![pending];
        let guesses = self
            .lookup
            .guess(self.session.tokens(), pending, self.guesses.min(most));
        tokens.extend_from_slice(&guesses);
        Ok(Some(Work::Answer(tokens)))
    }

    /// Whether the next step ends the answer.
    fn is_complete(&self) -> bool {
        self.text.is_stopped() || self.follows_all() || self.usage.completion_tokens >= self.max_tokens
    }

    /// Whether the answer has come to the end of its grammar, and all of it has been told.
    fn follows_all(&self) -> bool {
        self.chosen.is_empty() && self.constraint.as_ref().is_some_and(Constraint::is_over)
    }

    /// Evaluates work of generations, by their numbers, and chooses the tokens that follow.
    fn evaluate(generations: &mut [&mut Self], batch: &[(usize, Work)]) {
        let Some(model) = batch
            .first()
            .and_then(|(index, _)| generations.get(*index))
            .map(|generation| Arc::clone(generation.session.model()))
        else {
            return;
        };
        let mut pieces = Vec::with_capacity(batch.len());
        for (index, work) in batch {
            if let Some(generation) = generations.get_mut(*index) {
                pieces.push(generation.begin_work(work));
            }
        }
        let mut judges: Vec<Judge> = Vec::new();
        judges.resize_with(batch.len(), Judge::default);
        let mut take = |piece: usize, row: usize, logits: &[f32]| {
            if let (Some((index, work)), Some(judge)) = (batch.get(piece), judges.get_mut(piece))
                && let Some(generation) = generations.get_mut(*index)
            {
                let guess = match work {
                    Work::Prompt(_) => None,
                    Work::Answer(tokens) => tokens.get(row.saturating_add(1)).copied(),
                };
                generation.choose(logits, guess, judge);
            }
        };
        let (caches, outcome) = model.blocks.forward(pieces, &mut take);
        for (((index, work), judge), cache) in batch.iter().zip(&judges).zip(caches) {
            if let Some(generation) = generations.get_mut(*index) {
                generation.session.take_back([cache]);
                let done = generation.end_work(work, judge);
                generation.computed = Some(outcome.clone().and(done));
            }
        }
    }

    fn begin_work<'a>(&mut self, work: &'a Work) -> Piece<'a, Cache> {
        let rows = match work {
            Work::Prompt(tokens)
                if self.session.evaluated().saturating_add(tokens.len()) < self.session.tokens().len() =>
            {
                Rows::None
            }
            Work::Prompt(_) => Rows::Last,
            Work::Answer(_) => Rows::All,
        };
        let piece = self.session.piece(work.tokens(), rows);
        if let Work::Answer(tokens) = work {
            self.session.append(tokens.first().copied());
        }
        piece
    }

    /// Chooses the token that follows the sequence so far, and takes the guess over if that is it.
    fn choose(&mut self, logits: &[f32], guess: Option<u32>, judge: &mut Judge) {
        let Self {
            session,
            sampler,
            chosen,
            usage,
            constraint,
            failed,
            ..
        } = self;
        let model = Arc::clone(session.model());
        let mut choose = |tokens: &[u32], logits: &[f32]| {
            let at = usage.completion_tokens.saturating_add(chosen.len());
            let token = match constraint {
                None => sampler.sample(logits, tokens, at as u64)?,
                Some(constraint) => match constraint.sample(sampler, logits, tokens, at as u64) {
                    Ok(token) => token?,
                    Err(error) => {
                        *failed = Some(error);
                        return None;
                    }
                },
            };
            chosen.push_back(token);
            // Nothing comes behind the end.
            (!model.tokenizer().is_end(token)).then_some(token)
        };
        session.judge(logits, guess, judge, &mut choose);
    }

    fn end_work(&mut self, work: &Work, judge: &Judge) -> Result<Computed, EngineError> {
        if let Some(error) = self.failed.take() {
            return Err(error);
        }
        match work {
            Work::Prompt(tokens) => {
                self.session.accept_judged(tokens.len(), judge)?;
                Ok(Computed::Prompt)
            }
            Work::Answer(tokens) => {
                self.pending = None;
                let guesses = tokens.len().saturating_sub(1);
                if guesses > 0 {
                    self.lookup.learn(guesses, judge.right);
                    self.usage.guessed_tokens = self.usage.guessed_tokens.saturating_add(judge.right);
                }
                self.session.accept_judged(judge.right.saturating_add(1), judge)?;
                Ok(Computed::Answer)
            }
        }
    }

    fn finish(&mut self, reason: FinishReason) -> Step {
        self.is_over = true;
        Step::Finished {
            reason,
            text: self.text.finish(),
            usage: self.usage,
        }
    }
}
