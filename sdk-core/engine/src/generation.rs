//! One answer: from the prompt's tokens to text, a bounded step at a time.

use std::collections::VecDeque;
use std::sync::Arc;

use kwaainet_types::{FinishReason, Permit, RunAi};

use crate::constraint::Constraint;
use crate::draft::{Lookup, MOST_GUESSES};
use crate::error::EngineError;
use crate::grammar::Grammar;
use crate::sampler::{OptionsError, Sampler, SamplerOptions};
use crate::session::Session;
use crate::text::TextStream;

/// Tokens of the prompt per step: few enough that a slow device answers a cancel within a blink.
const PREFILL_SLICE: usize = 16;
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
    /// Most tokens of the prompt that one step evaluates.
    pub prefill_slice: usize,
    /// Most tokens that are guessed from the text so far and evaluated with the next one. The answer is the same; where it
    /// repeats its prompt or itself it comes sooner. 0 guesses none.
    pub guesses: usize,
    /// What the answer must follow. It may break off, with [`FinishReason::Length`], and is then incomplete.
    pub grammar: Option<Grammar>,
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
    is_over: bool,
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
        let constraint = options.grammar.as_ref();
        let constraint = constraint
            .map(|grammar| Constraint::new(grammar, session.model(), &options.resume))
            .transpose()?;
        let reused = session.begin(if fills { prompt } else { &tokens })?;
        let mut text = TextStream::new(options.stop);
        let mut bytes = Vec::new();
        for token in &options.resume {
            bytes.clear();
            session
                .model()
                .tokenizer()
                .append_piece(*token, false, &mut bytes)?;
            text.push(&bytes); // delivered before
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
            is_over: false,
        })
    }

    /// Tokens taken so far.
    pub fn usage(&self) -> Usage {
        self.usage
    }

    /// Sets how many tokens of the prompt the coming steps evaluate at most, as the caller learns how fast they go.
    pub fn set_prefill_slice(&mut self, tokens: usize) {
        self.prefill_slice = tokens.max(1);
    }

    /// Ends the answer and gives the session back, with what it has evaluated.
    pub fn into_session(self) -> Session {
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
        if self.text.is_stopped() {
            return Ok(self.finish(FinishReason::Stop));
        }
        if self.chosen.is_empty() && self.constraint.as_ref().is_some_and(Constraint::is_over) {
            return Ok(self.finish(FinishReason::Stop));
        }
        if self.usage.completion_tokens >= self.max_tokens {
            return Ok(self.finish(FinishReason::Length));
        }
        let total = self.session.tokens().len();
        if self.session.evaluated() < total {
            let left = self.session.prefill_step(permit, self.prefill_slice)?;
            return Ok(Step::Prefilled {
                done: total.saturating_sub(left),
                total,
            });
        }
        if self.chosen.is_empty() {
            match self.choose(permit) {
                Err(EngineError::ContextFull { .. }) => return Ok(self.finish(FinishReason::Length)),
                result => result?,
            }
        }
        let id = self.chosen.pop_front();
        let id = id.ok_or(EngineError::WrongOrder("there are no logits to choose from"))?;
        let tokenizer = self.session.model().tokenizer();
        if tokenizer.is_end(id) {
            return Ok(self.finish(FinishReason::Stop));
        }
        let mut bytes = Vec::new();
        tokenizer.append_piece(id, false, &mut bytes)?;
        self.usage.completion_tokens = self.usage.completion_tokens.saturating_add(1);
        if self.chosen.is_empty() {
            self.pending = Some(id);
        }
        Ok(Step::Token {
            id,
            text: self.text.push(&bytes),
        })
    }

    /// Chooses the next token, and those behind it that could be guessed.
    fn choose(&mut self, permit: &Permit<RunAi>) -> Result<(), EngineError> {
        let Self {
            session,
            sampler,
            chosen,
            constraint,
            ..
        } = self;
        let mut sample = |logits: &[f32], history: &[u32], at: usize| match constraint {
            Some(constraint) => constraint.sample(sampler, logits, history, at as u64),
            None => Ok(sampler.sample(logits, history, at as u64)),
        };
        let position = self.usage.completion_tokens;
        let Some(pending) = self.pending else {
            chosen.extend(sample(session.logits(), session.tokens(), position)?);
            return Ok(());
        };
        let left = self.max_tokens.saturating_sub(position).saturating_sub(1);
        let guesses = self
            .lookup
            .guess(session.tokens(), pending, self.guesses.min(left));
        if guesses.is_empty() {
            session.decode(permit, pending)?;
            chosen.extend(sample(session.logits(), session.tokens(), position)?);
        } else {
            let model = Arc::clone(session.model());
            let mut failed = None;
            let mut choose = |tokens: &[u32], logits: &[f32]| {
                let at = position.saturating_add(chosen.len());
                let token = match sample(logits, tokens, at) {
                    Ok(token) => token?,
                    Err(error) => {
                        failed = Some(error);
                        return None;
                    }
                };
                chosen.push_back(token);
                // Nothing comes behind the end.
                (!model.tokenizer().is_end(token)).then_some(token)
            };
            let right = session.decode_guesses(permit, pending, &guesses, &mut choose)?;
            if let Some(error) = failed {
                return Err(error);
            }
            self.lookup.learn(guesses.len(), right);
            self.usage.guessed_tokens = self.usage.guessed_tokens.saturating_add(right);
        }
        self.pending = None;
        Ok(())
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
