//! A conversation with a model: the tokens seen so far, and what the model remembers of them.

use std::sync::Arc;

use kwaainet_types::{Permit, RunAi};

use crate::backend::Rows;
use crate::backend::cpu::Cache;
use crate::error::EngineError;
use crate::executor::{BLOCK, Input, Piece};
use crate::model::LoadedModel;

/// The token that follows the tokens so far, given their logits; `None` where nothing is to follow.
pub type Choose<'a> = dyn FnMut(&[u32], &[f32]) -> Option<u32> + 'a;

/// Tokens under evaluation, with their KV cache; buffers are the model's.
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
    cache: Cache,
    /// Evaluated and pending tokens.
    tokens: Vec<u32>,
    evaluated: usize,
    logits: Vec<f32>,
    logits_valid: bool,
}

impl Session {
    /// An empty session. Memory for keys and values is taken as they come, 64 positions at a time.
    ///
    /// # Errors
    /// [`EngineError::OutOfMemory`].
    pub fn new(model: Arc<LoadedModel>) -> Result<Self, EngineError> {
        model.blocks.reserve_workspace()?;
        Ok(Self {
            cache: model.blocks.cache(),
            logits: vec![0.0; model.info().vocabulary as usize],
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
            let block = self.next_of_prompt(budget).to_vec();
            let is_last = self.evaluated.saturating_add(block.len()) == self.tokens.len();
            let rows = if is_last { Rows::Last } else { Rows::None };
            self.run(&block, rows)?;
            budget = budget.saturating_sub(block.len());
        }
        Ok(self.tokens.len().saturating_sub(self.evaluated))
    }

    /// The next tokens that [`Self::begin`] left, at most `most` and a block.
    pub(crate) fn next_of_prompt(&self, most: usize) -> &[u32] {
        let rest = self.tokens.get(self.evaluated..).unwrap_or_default();
        rest.get(..rest.len().min(most).min(BLOCK)).unwrap_or_default()
    }

    /// Evaluates one token more.
    ///
    /// # Errors
    /// [`EngineError::ContextFull`], [`EngineError::UnknownToken`], [`EngineError::WrongOrder`] while tokens are
    /// pending, or [`EngineError::NotFinite`].
    pub fn decode(&mut self, _permit: &Permit<RunAi>, token: u32) -> Result<(), EngineError> {
        self.check_next(token)?;
        self.tokens.push(token);
        self.run(&[token], Rows::Last)
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
        let mut judge = Judge::default();
        self.tokens.push(token);
        let mut tokens = std::mem::take(&mut self.tokens);
        let piece = self.piece(&block, Rows::All);
        let model = Arc::clone(&self.model);
        let mut take = |_: usize, at: usize, logits: &[f32]| {
            let guess = block.get(at.saturating_add(1)).copied();
            judge.look(&mut tokens, logits, guess, choose);
        };
        let (caches, outcome) = model.blocks.forward(vec![piece], &mut take);
        self.tokens = tokens;
        self.take_back(caches);
        outcome?;
        self.accept_judged(judge.right.saturating_add(1), &judge)?;
        Ok(judge.right)
    }

    /// Looks at the logits behind the sequence; see [`Judge::look`].
    pub(crate) fn judge(
        &mut self,
        logits: &[f32],
        guess: Option<u32>,
        judge: &mut Judge,
        choose: &mut Choose<'_>,
    ) {
        judge.look(&mut self.tokens, logits, guess, choose);
    }

    /// Adds a token that is about to be evaluated.
    pub(crate) fn append(&mut self, token: Option<u32>) {
        self.tokens.extend(token);
    }

    /// Counts tokens as evaluated whose logits went to a judge.
    pub(crate) fn accept_judged(&mut self, tokens: usize, judge: &Judge) -> Result<(), EngineError> {
        self.logits_valid = false;
        self.evaluated = self.evaluated.saturating_add(tokens);
        self.check_sound(!judge.found_nonsense)
    }

    /// These tokens behind the evaluated ones, with the cache, to be evaluated; [`Self::take_back`] gives it back.
    pub(crate) fn piece<'a>(&mut self, tokens: &'a [u32], rows: Rows) -> Piece<'a, Cache> {
        Piece {
            cache: std::mem::take(&mut self.cache),
            first: self.evaluated,
            input: Input::Tokens(tokens),
            rows,
        }
    }

    pub(crate) fn take_back(&mut self, caches: impl IntoIterator<Item = Cache>) {
        // INVARIANT: a forward pass gives back as many as it was given.
        self.cache = caches.into_iter().next().unwrap_or_default();
    }

    /// Evaluates tokens that are part of the sequence already, and keeps the logits behind the last if they are wanted.
    fn run(&mut self, tokens: &[u32], rows: Rows) -> Result<(), EngineError> {
        let mut logits = std::mem::take(&mut self.logits);
        let piece = self.piece(tokens, rows);
        let mut take = |_: usize, _: usize, row: &[f32]| logits.copy_from_slice(row);
        let (caches, outcome) = Arc::clone(&self.model).blocks.forward(vec![piece], &mut take);
        self.take_back(caches);
        self.logits = logits;
        outcome?;
        self.evaluated = self.evaluated.saturating_add(tokens.len());
        self.logits_valid = rows != Rows::None;
        let finite = !self.logits_valid || is_finite(&self.logits);
        self.check_sound(finite)
    }

    fn check_sound(&mut self, finite: bool) -> Result<(), EngineError> {
        if finite && self.model.blocks.is_sound(&self.cache) {
            return Ok(());
        }
        // Not-a-number spreads through a cache: begin anew.
        self.model.blocks.clear(&mut self.cache);
        self.tokens.clear();
        self.evaluated = 0;
        self.logits_valid = false;
        Err(EngineError::NotFinite {
            what: "what the model computed".to_owned(),
        })
    }

    /// Logits behind the last token; empty while tokens are pending.
    pub fn logits(&self) -> &[f32] {
        if self.logits_valid { &self.logits } else { &[] }
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
        for block in tokens.chunks(BLOCK) {
            let first = self.evaluated;
            let piece = self.piece(block, Rows::All);
            let mut take = |_: usize, within: usize, logits: &[f32]| {
                let next = first.saturating_add(within).saturating_add(1);
                if let Some(next) = tokens.get(next) {
                    let score = log_probability(logits, *next);
                    finite &= score.is_finite();
                    scores.push(score);
                }
            };
            let (caches, outcome) = Arc::clone(&self.model).blocks.forward(vec![piece], &mut take);
            self.take_back(caches);
            outcome?;
            self.evaluated = self.evaluated.saturating_add(block.len());
        }
        self.check_sound(finite)?;
        Ok(scores)
    }

    pub(crate) fn check(&self, token: u32) -> Result<(), EngineError> {
        let vocabulary = self.model.info().vocabulary;
        if token >= vocabulary {
            return Err(EngineError::UnknownToken { token, vocabulary });
        }
        Ok(())
    }

    /// Whether the sequence can go on with this token.
    pub(crate) fn check_next(&self, token: u32) -> Result<(), EngineError> {
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
}

/// Compares what is chosen with what was guessed, as long as that is right.
#[derive(Debug, Default)]
pub(crate) struct Judge {
    is_over: bool,
    /// Guesses that were right.
    pub(crate) right: usize,
    pub(crate) found_nonsense: bool,
}

impl Judge {
    /// Looks at the logits behind `tokens`, to which the guess is added if it is what `choose` chooses.
    pub(crate) fn look(
        &mut self,
        tokens: &mut Vec<u32>,
        logits: &[f32],
        guess: Option<u32>,
        choose: &mut Choose<'_>,
    ) {
        if self.is_over {
            return;
        }
        self.found_nonsense = !is_finite(logits);
        let next = if self.found_nonsense {
            None
        } else {
            choose(tokens, logits)
        };
        match guess {
            Some(guess) if next == Some(guess) => {
                tokens.push(guess);
                self.right = self.right.saturating_add(1);
            }
            _ => self.is_over = true,
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
