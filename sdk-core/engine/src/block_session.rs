//! One sequence on some layers of a model, for models that several peers hold together.

use std::sync::Arc;

use kwaainet_types::{Permit, RunAi};

use crate::backend::Rows;
use crate::backend::cpu::Cache;
use crate::error::EngineError;
use crate::executor::{BLOCK, Input, Piece};
use crate::model::ModelBlocks;

/// What the layers of a [`BlockSession`] are given.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum BlockInput<'a> {
    /// For layers that are the first of the model.
    Tokens(&'a [u32]),
    /// What the layers before put out: [`ModelBlocks::width`] numbers for every token. They come from another machine, so
    /// they are checked.
    Hidden(&'a [f32]),
}

/// Of which tokens something is wanted back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// Of none: only to be remembered.
    None,
    /// Of the last one.
    Last,
    /// Of all.
    All,
}

/// Keys and values that some layers remember of one sequence; see [`ModelBlocks`] for an example.
///
/// Whoever passes what one session puts out to the next, over all layers, gets the logits of [`Session`](crate::Session) to
/// the bit, as long as the machines have the same instruction set and tokens are passed in the same blocks.
#[derive(Debug)]
pub struct BlockSession {
    blocks: Arc<ModelBlocks>,
    cache: Cache,
    position: usize,
}

impl BlockSession {
    /// An empty session. Memory for keys and values is taken as they come, 64 positions at a time.
    ///
    /// # Errors
    /// [`EngineError::OutOfMemory`].
    pub fn new(blocks: Arc<ModelBlocks>) -> Result<Self, EngineError> {
        blocks.reserve_workspace()?;
        Ok(Self {
            cache: blocks.cache(),
            blocks,
            position: 0,
        })
    }

    /// The layers.
    pub fn blocks(&self) -> &Arc<ModelBlocks> {
        &self.blocks
    }

    /// Tokens so far.
    pub fn position(&self) -> usize {
        self.position
    }

    /// Forgets the tokens behind the first `position`, so that others can follow them.
    ///
    /// # Errors
    /// [`EngineError::WrongInput`] if there are not so many.
    pub fn rewind(&mut self, position: usize) -> Result<(), EngineError> {
        if position > self.position {
            return Err(EngineError::WrongInput(format!(
                "this session holds {} tokens and cannot go back to {position}: send them again",
                self.position
            )));
        }
        self.position = position;
        Ok(())
    }

    /// Evaluates the next tokens. Returns rows for those that are wanted: of logits ([`ModelBlocks::vocabulary`] numbers
    /// each) from the last layers of a model, and otherwise [`ModelBlocks::width`] numbers that the layers behind are to be
    /// given. Those need every token, so that they want [`Wanted::All`] here.
    ///
    /// # Errors
    /// The session is as it was after [`EngineError::NoTokens`], [`EngineError::ContextFull`],
    /// [`EngineError::UnknownToken`], [`EngineError::WrongInput`], and [`EngineError::NotFinite`] of the input; it is empty
    /// after [`EngineError::NotFinite`] of what was computed.
    pub fn forward(
        &mut self,
        _permit: &Permit<RunAi>,
        input: BlockInput<'_>,
        wanted: Wanted,
    ) -> Result<Vec<f32>, EngineError> {
        let tokens = self.check(input)?;
        let row_len = if self.blocks.is_last() {
            self.blocks.vocabulary()
        } else {
            self.blocks.width()
        };
        let mut out = Vec::with_capacity(match wanted {
            Wanted::None => 0,
            Wanted::Last => row_len,
            Wanted::All => row_len.saturating_mul(tokens),
        });
        let mut done = 0_usize;
        while done < tokens {
            let count = tokens.saturating_sub(done).min(BLOCK);
            let end = done.saturating_add(count);
            let rows = match wanted {
                Wanted::All => Rows::All,
                Wanted::Last if end == tokens => Rows::Last,
                _ => Rows::None,
            };
            let piece = Piece {
                cache: std::mem::take(&mut self.cache),
                first: self.position,
                input: self.part(input, done, end),
                rows,
            };
            let mut take = |_: usize, _: usize, row: &[f32]| out.extend_from_slice(row);
            let (caches, outcome) = Arc::clone(&self.blocks).forward(vec![piece], &mut take);
            // INVARIANT: a forward pass gives back as many as it was given.
            self.cache = caches.into_iter().next().unwrap_or_default();
            outcome?;
            self.position = self.position.saturating_add(count);
            done = end;
        }
        if !self.blocks.is_sound(&self.cache) || !is_finite(&out) {
            // Not-a-number spreads through a cache: begin anew.
            self.blocks.clear(&mut self.cache);
            self.position = 0;
            return Err(EngineError::NotFinite {
                what: "what the model computed".to_owned(),
            });
        }
        Ok(out)
    }

    /// How many tokens the input is, if it can be evaluated.
    fn check(&self, input: BlockInput<'_>) -> Result<usize, EngineError> {
        let width = self.blocks.width();
        let tokens = match input {
            BlockInput::Tokens(tokens) if self.blocks.is_first() => {
                let vocabulary = u32::try_from(self.blocks.vocabulary()).unwrap_or(u32::MAX);
                match tokens.iter().find(|token| **token >= vocabulary) {
                    Some(&token) => return Err(EngineError::UnknownToken { token, vocabulary }),
                    None => tokens.len(),
                }
            }
            BlockInput::Hidden(hidden) if !self.blocks.is_first() => {
                if !hidden.len().is_multiple_of(width) {
                    return Err(EngineError::WrongInput(format!(
                        "{} numbers are no whole tokens of {width}",
                        hidden.len()
                    )));
                }
                if !hidden.chunks_exact(width).all(has_finite_norm) {
                    return Err(EngineError::NotFinite {
                        what: "the input of these layers".to_owned(),
                    });
                }
                hidden.len() / width
            }
            BlockInput::Tokens(_) => {
                return Err(EngineError::WrongInput(format!(
                    "layers {:?} begin with what the layers before them put out, not with tokens",
                    self.blocks.layers()
                )));
            }
            BlockInput::Hidden(_) => {
                return Err(EngineError::WrongInput(format!(
                    "layers {:?} begin with tokens",
                    self.blocks.layers()
                )));
            }
        };
        if tokens == 0 {
            return Err(EngineError::NoTokens);
        }
        let (needed, available) = (self.position.saturating_add(tokens), self.blocks.context_length());
        if needed > available {
            return Err(EngineError::ContextFull { needed, available });
        }
        Ok(tokens)
    }

    fn part<'a>(&self, input: BlockInput<'a>, from: usize, to: usize) -> Input<'a> {
        let width = self.blocks.width();
        match input {
            BlockInput::Tokens(tokens) => Input::Tokens(tokens.get(from..to).unwrap_or_default()),
            BlockInput::Hidden(hidden) => Input::Hidden(
                hidden
                    .get(from.saturating_mul(width)..to.saturating_mul(width))
                    .unwrap_or_default(),
            ),
        }
    }
}

/// Norms divide by the root of this sum.
fn has_finite_norm(row: &[f32]) -> bool {
    row.iter().map(|number| number * number).sum::<f32>().is_finite()
}

fn is_finite(numbers: &[f32]) -> bool {
    numbers.iter().all(|number| number.is_finite())
}
