//! A conversation with a model: the tokens seen so far, and what the model remembers of them.

use std::sync::Arc;

use kwaainet_types::{Permit, RunAi};

use crate::backend::Backend;
use crate::backend::cpu::Workspace;
use crate::error::EngineError;
use crate::executor::{BLOCK, Wanted};
use crate::model::LoadedModel;

/// The token that follows the tokens so far, given their logits; `None` where nothing is to follow.
pub type Choose<'a> = dyn FnMut(&[u32], &[f32]) -> Option<u32> + 'a;

/// Tokens under evaluation, with the KV cache and all buffers, allocated once.
///
/// ```text
/// begin(tokens)            which tokens; what the cache already has of them is kept
/// prefill_step(n) -> left  evaluates up to n of them; logits are valid when 0 are left
/// decode(token)            one token more
/// decode_guesses(token, …) one token more, and those of the guessed ones that turn out right
/// ```
#[derive(Debug)]
pub struct Session {
    model: Arc<LoadedModel>,
    work: Workspace,
    /// Evaluated and pending tokens.
    tokens: Vec<u32>,
    evaluated: usize,
    logits_valid: bool,
}

impl Session {
    /// An empty session; allocates the KV cache for the model's whole context.
    ///
    /// # Errors
    /// [`EngineError::OutOfMemory`].
    pub fn new(model: Arc<LoadedModel>) -> Result<Self, EngineError> {
        let work = model.executor.workspace()?;
        Ok(Self {
            work,
            tokens: Vec::with_capacity(model.context_length()),
            model,
            evaluated: 0,
            logits_valid: false,
        })
    }

    /// The model.
    pub fn model(&self) -> &Arc<LoadedModel> {
        &self.model
    }

    /// The sequence: evaluated tokens, then those that wait for [`Self::prefill_step`].
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Tokens that are in the KV cache.
    pub fn evaluated(&self) -> usize {
        self.evaluated
    }

    /// Sets the sequence to evaluate, and returns how many of its tokens need not be evaluated again because the cache
    /// begins with the same ones. At least one token is always left to evaluate, so that there will be logits.
    ///
    /// # Errors
    /// [`EngineError::NoTokens`], [`EngineError::ContextFull`] or [`EngineError::UnknownToken`]; the session is then as
    /// it was.
    pub fn begin(&mut self, tokens: &[u32]) -> Result<usize, EngineError> {
        let available = self.model.context_length();
        let Some(all_but_last) = tokens.len().checked_sub(1) else {
            return Err(EngineError::NoTokens);
        };
        if tokens.len() > available {
            return Err(EngineError::ContextFull {
                needed: tokens.len(),
                available,
            });
        }
        for token in tokens {
            self.check(*token)?;
        }
        let cached = self.tokens.iter().take(self.evaluated);
        let same = cached.zip(tokens).take_while(|(a, b)| a == b).count();
        self.evaluated = same.min(all_but_last);
        self.tokens.clear();
        self.tokens.extend_from_slice(tokens);
        self.logits_valid = false;
        Ok(self.evaluated)
    }

    /// Evaluates up to `max_tokens` of what [`Self::begin`] left, and returns how many then remain.
    ///
    /// # Errors
    /// [`EngineError::NotFinite`] if the model computes nonsense.
    pub fn prefill_step(&mut self, _permit: &Permit<RunAi>, max_tokens: usize) -> Result<usize, EngineError> {
        let mut budget = max_tokens.max(1);
        while budget > 0 && self.evaluated < self.tokens.len() {
            let rest = self.tokens.get(self.evaluated..).unwrap_or_default();
            let block = rest.get(..rest.len().min(budget).min(BLOCK)).unwrap_or_default();
            let is_last = block.len() == rest.len();
            let wanted = if is_last { Wanted::Last } else { Wanted::Nothing };
            self.model
                .executor
                .forward(&mut self.work, block, self.evaluated, wanted)?;
            if !self.model.executor.backend.is_sound(&self.work) {
                return Err(self.forget());
            }
            budget = budget.saturating_sub(block.len());
            self.evaluated = self.evaluated.saturating_add(block.len());
            if is_last {
                self.accept_logits()?;
            }
        }
        Ok(self.tokens.len().saturating_sub(self.evaluated))
    }

    /// Evaluates one token more.
    ///
    /// # Errors
    /// [`EngineError::ContextFull`], [`EngineError::UnknownToken`], [`EngineError::WrongOrder`] while tokens are
    /// pending, or [`EngineError::NotFinite`].
    pub fn decode(&mut self, _permit: &Permit<RunAi>, token: u32) -> Result<(), EngineError> {
        self.check_next(token)?;
        self.model
            .executor
            .forward(&mut self.work, &[token], self.evaluated, Wanted::Last)?;
        self.tokens.push(token);
        self.evaluated = self.tokens.len();
        self.accept_logits()
    }

    /// Evaluates one token more together with `guesses` of what follows it, and asks `choose` for the token behind each,
    /// given the tokens so far and the logits: as long as it chooses what was guessed, the guess is taken over. Ends at the
    /// first token that was not guessed, or when `choose` returns `None`. Returns how many guesses were taken over.
    ///
    /// Logits are those of [`Self::decode`] to the bit, so whoever chooses by them gets the same text. Afterwards
    /// [`Self::logits`] is empty: `choose` has seen the last ones. Guesses beyond the context are left out.
    ///
    /// # Errors
    /// As [`Self::decode`].
    pub fn decode_guesses(
        &mut self,
        _permit: &Permit<RunAi>,
        token: u32,
        guesses: &[u32],
        choose: &mut Choose<'_>,
    ) -> Result<usize, EngineError> {
        self.check_next(token)?;
        let room = self
            .model
            .context_length()
            .saturating_sub(self.evaluated)
            .saturating_sub(1);
        let mut block = Vec::with_capacity(BLOCK);
        block.push(token);
        for guess in guesses.iter().take(room.min(BLOCK.saturating_sub(1))) {
            self.check(*guess)?;
            block.push(*guess);
        }
        let Self {
            model, work, tokens, ..
        } = self;
        let (mut going_on, mut finite) = (true, true);
        let mut right = 0_usize;
        tokens.push(token);
        let mut take = |at: usize, logits: &[f32]| {
            if !going_on {
                return;
            }
            finite &= is_finite(logits);
            let next = if finite { choose(tokens, logits) } else { None };
            let guess = block.get(at.saturating_add(1));
            going_on = next.is_some() && next.as_ref() == guess;
            if let (true, Some(guess)) = (going_on, guess) {
                tokens.push(*guess);
                right = right.saturating_add(1);
            }
        };
        model
            .executor
            .forward(work, &block, self.evaluated, Wanted::All(&mut take))?;
        self.logits_valid = false;
        self.evaluated = self.tokens.len();
        if !finite || !self.model.executor.backend.is_sound(&self.work) {
            return Err(self.forget());
        }
        Ok(right)
    }

    /// Logits behind the last token; empty while tokens are pending.
    pub fn logits(&self) -> &[f32] {
        if self.logits_valid {
            self.model.executor.backend.logits(&self.work)
        } else {
            &[]
        }
    }

    /// Natural logarithms of the probabilities of `tokens[1..]`, each given all tokens before it. Replaces whatever the
    /// session held. Perplexity is `exp` of minus their mean; llama.cpp's tool counts the second half of each window.
    ///
    /// # Errors
    /// As [`Self::begin`] and [`Self::prefill_step`].
    pub fn score(&mut self, _permit: &Permit<RunAi>, tokens: &[u32]) -> Result<Vec<f32>, EngineError> {
        self.evaluated = 0;
        self.begin(tokens)?;
        let mut scores = Vec::with_capacity(tokens.len());
        let mut finite = true;
        for (index, block) in tokens.chunks(BLOCK).enumerate() {
            let first = index.saturating_mul(BLOCK);
            let mut take = |within: usize, logits: &[f32]| {
                let next = first.saturating_add(within).saturating_add(1);
                if let Some(next) = tokens.get(next) {
                    let score = log_probability(logits, *next);
                    finite &= score.is_finite();
                    scores.push(score);
                }
            };
            let wanted = Wanted::All(&mut take);
            self.model
                .executor
                .forward(&mut self.work, block, first, wanted)?;
        }
        if !finite || !self.model.executor.backend.is_sound(&self.work) {
            return Err(self.forget());
        }
        self.evaluated = tokens.len();
        Ok(scores)
    }

    fn check(&self, token: u32) -> Result<(), EngineError> {
        let vocabulary = self.model.info().vocabulary;
        if token >= vocabulary {
            return Err(EngineError::UnknownToken { token, vocabulary });
        }
        Ok(())
    }

    /// Whether the sequence can go on with this token.
    fn check_next(&self, token: u32) -> Result<(), EngineError> {
        if self.evaluated < self.tokens.len() {
            return Err(EngineError::WrongOrder(
                "tokens of the prompt are still to be evaluated: call prefill_step until none remain",
            ));
        }
        self.check(token)?;
        let needed = self.tokens.len().saturating_add(1);
        let available = self.model.context_length();
        if needed > available {
            return Err(EngineError::ContextFull { needed, available });
        }
        Ok(())
    }

    fn accept_logits(&mut self) -> Result<(), EngineError> {
        let finite = is_finite(self.model.executor.backend.logits(&self.work));
        if !finite || !self.model.executor.backend.is_sound(&self.work) {
            return Err(self.forget());
        }
        self.logits_valid = true;
        Ok(())
    }

    /// Not-a-number spreads through a cache: begin anew.
    fn forget(&mut self) -> EngineError {
        self.model.executor.backend.clear(&mut self.work);
        self.tokens.clear();
        self.evaluated = 0;
        self.logits_valid = false;
        EngineError::NotFinite {
            what: "what the model computed".to_owned(),
        }
    }
}

/// Whether all are numbers. What is not has all exponent bits set; magnitudes order like their bits.
fn is_finite(logits: &[f32]) -> bool {
    let magnitudes = logits.iter().map(|logit| logit.to_bits() & 0x7fff_ffff);
    magnitudes.fold(0, u32::max) < f32::INFINITY.to_bits()
}

/// ln softmax(logits)[token].
fn log_probability(logits: &[f32], token: u32) -> f32 {
    let largest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|logit| f64::from(logit - largest).exp()).sum();
    let logit = logits.get(token as usize).copied().unwrap_or(f32::NAN);
    (f64::from(logit - largest) - sum.ln()) as f32
}
