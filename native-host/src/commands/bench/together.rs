//! Several answers at the same time, as the server makes them.

use std::sync::Arc;

use kwaainet_engine::{Generation, GenerationOptions, LoadedModel, SamplerOptions, Session, Step};
use kwaainet_node::Cancel;
use kwaainet_types::{Permit, RunAi};

use crate::HostError;

/// Tokens of each answer's own prompt: enough that there is something to attend to, too few to matter.
const PROMPT: usize = 16;

/// Tokens per second of so many answers of `tokens` tokens, all together; `None` when it was cancelled.
pub(super) fn decode(
    model: &Arc<LoadedModel>,
    prompt: &[u32],
    answers: usize,
    tokens: u32,
    permit: &Permit<RunAi>,
    now_ms: &dyn Fn() -> f64,
    cancel: &Cancel,
) -> Result<Option<f64>, HostError> {
    let mut generations = Vec::with_capacity(answers);
    for number in 0..answers {
        // Different beginnings, so that no answer is another one's.
        let own: Vec<u32> = prompt.iter().cycle().skip(number).take(PROMPT).copied().collect();
        let options = GenerationOptions {
            sampler: SamplerOptions {
                // An answer that ends early would be one less.
                logit_bias: model
                    .tokenizer()
                    .ends()
                    .iter()
                    .map(|end| (*end, -100.0))
                    .collect(),
                ..SamplerOptions::greedy()
            },
            max_tokens: tokens as usize,
            guesses: 0,
            ..GenerationOptions::default()
        };
        let session = Session::new(Arc::clone(model))?;
        let mut generation = Generation::new(session, &own, options)?;
        while let Step::Prefilled { .. } = generation.step(permit)? {}
        generations.push(generation);
    }
    let (begun, mut made) = (now_ms(), 0_u32);
    while !generations.is_empty() {
        if cancel.is_cancelled() {
            return Ok(None);
        }
        Generation::compute(permit, &mut generations.iter_mut().collect::<Vec<_>>());
        let mut going_on = Vec::with_capacity(generations.len());
        for mut generation in generations {
            if let Step::Token { .. } = generation.step(permit)? {
                made = made.saturating_add(1);
                going_on.push(generation);
            }
        }
        generations = going_on;
    }
    Ok(Some(super::per_second(made, now_ms() - begun)))
}
