//! What a generation evaluates between two steps: blocks of prompts, and the newest tokens of answers, alone or together.

use std::sync::Arc;

use kwaainet_types::{Permit, RunAi};

use super::Generation;
use crate::backend::Rows;
use crate::backend::cpu::Cache;
use crate::constraint::Constraint;
use crate::error::EngineError;
use crate::executor::{BLOCK, Piece};
use crate::session::Judge;

/// Tokens of a block that goes through the layers in several steps. Of SmolLM2 in WebAssembly 64 at a time are read a
/// fifth faster than 8, and 128 no faster (`examples/speed.rs`).
const SPLIT_BLOCK: usize = 64;
/// The same for the slowest devices, which need longer than a slice for one layer of 64.
const SMALLEST_BLOCK: usize = 8;

/// What a generation has to evaluate before its next step.
#[derive(Debug)]
pub(super) enum Work {
    /// Tokens of the prompt.
    Prompt(Vec<u32>),
    /// The pending token and guesses of what follows it.
    Answer(Vec<u32>),
}

/// What was evaluated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Computed {
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

    pub(super) fn is_prompt(&self) -> bool {
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
    pub(super) fn is_complete(&self) -> bool {
        self.text.is_stopped() || self.follows_all() || self.usage.completion_tokens >= self.max_tokens
    }

    /// Whether the answer has come to the end of its grammar, and all of it has been told.
    pub(super) fn follows_all(&self) -> bool {
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
        self.evaluated = work.tokens().len();
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
}
