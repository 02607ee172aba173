//! Answers that are computed together are those that are computed alone.

#![expect(clippy::unwrap_used, reason = "tests may fail loudly")]

use std::sync::Arc;

use futures::executor::block_on;
use kwaainet_engine::{
    Generation, GenerationOptions, LoadOptions, LoadedModel, SamplerOptions, Session, Step, Usage,
};
use kwaainet_testkit::tiny_gguf::TinyModel;
use kwaainet_types::{ConsentGrant, Permit, RunAi};

fn permit() -> Permit<RunAi> {
    ConsentGrant::of_operator(0).permit::<RunAi>(0).unwrap()
}

/// An answer's tokens and what they took, step by step.
#[derive(Debug, Default, PartialEq)]
struct Answer {
    tokens: Vec<u32>,
    usage: Usage,
    is_over: bool,
}

impl Answer {
    fn take(&mut self, step: Step) {
        match step {
            Step::Prefilled { .. } => {}
            Step::Token { id, .. } => self.tokens.push(id),
            Step::Finished { usage, .. } => (self.usage, self.is_over) = (usage, true),
        }
    }
}

fn generation(model: &Arc<LoadedModel>, prompt: &[u32], options: &GenerationOptions) -> Generation {
    let session = Session::new(Arc::clone(model)).unwrap();
    Generation::new(session, prompt, options.clone()).unwrap()
}

#[test]
fn answers_made_together_are_those_made_alone() {
    let mut guessed = 0;
    for architecture in ["llama", "gemma3", "qwen3"] {
        let file = TinyModel::new(architecture, "Q8_0").bytes();
        let options = LoadOptions {
            context_length: 256,
            ..LoadOptions::default()
        };
        let (permit, mut told) = (permit(), |_, _| {});
        let loading = LoadedModel::load(&permit, &file, options, &mut told);
        let model = Arc::new(block_on(loading).unwrap());
        let words = model.info().vocabulary;
        // Long and short prompts, some that repeat themselves so that guesses are made, greedy and sampled, and one that
        // fills the context.
        let wishes: Vec<(Vec<u32>, GenerationOptions)> = (0..7_u32)
            .map(|number| {
                let len = [3, 150, 40, 1, 240, 9, 77].get(number as usize).copied().unwrap();
                let prompt = (0..len).map(|at| 1 + (at % 7 + number) % (words - 1)).collect();
                let sampler = SamplerOptions {
                    temperature: if number % 2 == 0 { 0.0 } else { 0.3 },
                    repetition_penalty: 1.05,
                    top_k: 0,
                    top_p: 1.0,
                    min_p: 0.0,
                    seed: u64::from(number),
                    ..SamplerOptions::default()
                };
                let options = GenerationOptions {
                    sampler,
                    max_tokens: 60 + 3 * number as usize,
                    prefill_slice: 30 + number as usize,
                    guesses: if number % 3 == 2 { 0 } else { 5 },
                    ..GenerationOptions::default()
                };
                (prompt, options)
            })
            .collect();
        let alone: Vec<Answer> = wishes
            .iter()
            .map(|(prompt, options)| {
                let mut generation = generation(&model, prompt, options);
                let mut answer = Answer::default();
                while !answer.is_over {
                    answer.take(generation.step(&permit).unwrap());
                }
                answer
            })
            .collect();
        let mut together: Vec<(Generation, Answer)> = wishes
            .iter()
            .map(|(prompt, options)| (generation(&model, prompt, options), Answer::default()))
            .collect();
        let mut rounds = 0;
        while together.iter().any(|(_, answer)| !answer.is_over) {
            // Not all of them every time: some are slower than others.
            rounds += 1;
            let mut batch: Vec<&mut (Generation, Answer)> = together
                .iter_mut()
                .enumerate()
                .filter(|(index, (_, answer))| !answer.is_over && (rounds + index) % 4 != 0)
                .map(|(_, both)| both)
                .collect();
            let mut generations: Vec<&mut Generation> =
                batch.iter_mut().map(|(generation, _)| generation).collect();
            Generation::compute(&permit, &mut generations);
            for (generation, answer) in batch {
                answer.take(generation.step(&permit).unwrap());
            }
        }
        for (number, (alone, (_, together))) in alone.iter().zip(&together).enumerate() {
            assert_eq!(together.tokens, alone.tokens, "{architecture} {number}");
            assert_eq!(together.usage.completion_tokens, alone.usage.completion_tokens);
        }
        guessed += together
            .iter()
            .map(|(_, answer)| answer.usage.guessed_tokens)
            .sum::<usize>();
    }
    assert!(guessed > 20, "only {guessed} tokens were guessed");
}
