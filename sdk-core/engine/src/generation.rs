//! One answer: from the prompt's tokens to text, a bounded step at a time.

mod options;
mod work;

use std::collections::VecDeque;
use std::sync::Arc;

use kwaainet_types::{FinishReason, Permit, RunAi};

use crate::backend::cpu::Workspace;
use crate::constraint::Constraint;
use crate::draft::{Lookup, MOST_GUESSES};
use crate::error::EngineError;
use crate::executor::Pass;
use crate::sampler::Sampler;
use crate::session::Session;
use crate::text::TextStream;

pub use options::GenerationOptions;
use work::{Computed, Work};

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
    /// Tokens that went through the model for the newest step.
    evaluated: usize,
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
            evaluated: 0,
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

    /// How many tokens the newest [`Step::Token`] needed to go through the model: its own predecessor and guesses, or none
    /// if it had been guessed. Steps that needed as many are equally much work.
    pub fn evaluated_in_step(&self) -> usize {
        self.evaluated
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
            Some(Ok(Computed::Answer)) => {}
            None => self.evaluated = 0,
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

    fn finish(&mut self, reason: FinishReason) -> Step {
        self.is_over = true;
        Step::Finished {
            reason,
            text: self.text.finish(),
            usage: self.usage,
        }
    }
}
