//! What to generate.

use crate::draft::MOST_GUESSES;
use crate::grammar::Grammar;
use crate::sampler::{OptionsError, SamplerOptions};

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
