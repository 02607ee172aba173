//! A grammar at work in one answer: between the sampler and the text.

use std::sync::Arc;

use crate::error::EngineError;
use crate::grammar::{Grammar, GrammarError, Matcher};
use crate::model::LoadedModel;
use crate::sampler::Sampler;

/// Lets only those tokens be chosen that the grammar allows.
#[derive(Debug)]
pub(crate) struct Constraint {
    matcher: Matcher,
    model: Arc<LoadedModel>,
    /// Control tokens that the grammar reads by their texts.
    marks: Vec<u32>,
}

impl Constraint {
    /// Behind the tokens of an interrupted answer.
    pub(crate) fn new(
        grammar: &Grammar,
        model: &Arc<LoadedModel>,
        marks: Vec<u32>,
        resume: &[u32],
    ) -> Result<Self, EngineError> {
        let mut constraint = Self {
            matcher: grammar.matcher()?,
            model: Arc::clone(model),
            marks,
        };
        for token in resume {
            if !constraint.accept(*token)? {
                return Err(GrammarError::WrongResume.into());
            }
        }
        Ok(constraint)
    }

    /// Whether nothing but the end can follow.
    pub(crate) fn is_over(&self) -> bool {
        self.matcher.is_over()
    }

    /// The sampler's choice among the tokens that are allowed, which the text then goes on with.
    pub(crate) fn sample(
        &mut self,
        sampler: &mut Sampler,
        logits: &[f32],
        history: &[u32],
        position: u64,
    ) -> Result<Option<u32>, EngineError> {
        // The likeliest of all is also the likeliest of those allowed, if it is one of them: no mask is needed. A drawn
        // token must come from what top-k and the others keep of the allowed ones, or its chances would be wrong.
        if sampler.options().temperature == 0.0
            && let Some(token) = sampler.sample(logits, history, position)
            && self.accept(token)?
        {
            return Ok(Some(token));
        }
        let mask = self.matcher.mask(self.model.vocabulary())?;
        let mut marks = Vec::new();
        for mark in &self.marks {
            let bytes = self.bytes(*mark)?;
            if self.matcher.allows(&bytes)? {
                marks.push(*mark);
            }
        }
        let ends = self.model.tokenizer();
        let may_end = self.matcher.is_complete();
        let allowed = |token| mask.allows(token) || may_end && ends.is_end(token) || marks.contains(&token);
        let Some(token) = sampler.sample_where(logits, history, position, Some(&allowed)) else {
            return Err(GrammarError::NoToken.into());
        };
        // INVARIANT: the mask allows only tokens that are accepted.
        self.accept(token)?;
        Ok(Some(token))
    }

    fn accept(&mut self, token: u32) -> Result<bool, EngineError> {
        if self.model.tokenizer().is_end(token) {
            return Ok(self.matcher.is_complete());
        }
        let bytes = self.bytes(token)?;
        // A mark that is no text could be given for ever.
        Ok(!bytes.is_empty() && self.matcher.accept(&bytes)?)
    }

    fn bytes(&self, token: u32) -> Result<Vec<u8>, EngineError> {
        let mut bytes = Vec::new();
        let is_mark = self.marks.contains(&token);
        self.model.tokenizer().append_piece(token, is_mark, &mut bytes)?;
        Ok(bytes)
    }
}
