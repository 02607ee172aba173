//! Several answers at the same time, each on a thread of its own, as a server makes them.

#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "tests fail by panicking, their helpers too"
)]

use std::sync::{Arc, Barrier, Mutex};

use kwaainet_node::{Cancel, CandleEngine, Deployment, InferenceRequest, KwaaiNetCore};
use kwaainet_platform::{Platform, Sequential};
use kwaainet_testkit::tiny_gguf::TinyModel;
use kwaainet_testkit::{ask, block_on, host_report};
use kwaainet_types::{Chunk, RunAi};

fn node(answers: usize) -> Arc<KwaaiNetCore> {
    let engine = Arc::new(CandleEngine::new(Arc::new(Sequential)));
    let node = KwaaiNetCore::with_engine(
        Platform::in_memory(),
        host_report(),
        Deployment::default(),
        engine,
    );
    node.grant_operator();
    node.set_answers_at_once(answers);
    let file = Arc::new(TinyModel::new("llama", "Q8_0").bytes());
    block_on(node.add_local_model("tiny", file)).unwrap();
    node
}

fn request(number: usize) -> InferenceRequest {
    // Seeds whose answers are not over at once.
    let seed = [0, 1, 3][number];
    let mut chat = ask("");
    chat.sampling.temperature = Some(1.5);
    chat.sampling.top_k = Some(0);
    chat.sampling.top_p = Some(1.0);
    chat.sampling.min_p = Some(0.0);
    chat.sampling.seed = Some(seed);
    chat.max_tokens = Some(40);
    InferenceRequest {
        chat,
        raw: Some(format!("the same words and {seed} others")),
        resume: Vec::new(),
    }
}

#[test]
fn answers_at_the_same_time_are_those_one_after_the_other() {
    const AT_ONCE: usize = 3;
    let alone = node(1);
    let permit = alone.permit::<RunAi>().unwrap();
    let expected: Vec<_> = (0..AT_ONCE)
        .map(|number| {
            block_on(alone.run_inference(&permit, request(number)))
                .unwrap()
                .tokens
        })
        .collect();
    assert!(expected.iter().all(|tokens| !tokens.is_empty()), "{expected:?}");

    let node = node(AT_ONCE);
    block_on(node.load_model(&permit, "tiny")).unwrap();
    for _ in 0..3 {
        // Everybody waits at the first piece until all have one: with a queue in front of one place nobody would get on.
        let all_there = Barrier::new(AT_ONCE);
        let answers = Mutex::new(vec![Vec::new(); AT_ONCE]);
        std::thread::scope(|scope| {
            for number in 0..AT_ONCE {
                let (node, all_there, answers) = (&node, &all_there, &answers);
                scope.spawn(move || {
                    let is_first = Mutex::new(true);
                    let out = |chunk: Chunk| {
                        if matches!(chunk, Chunk::Delta { .. })
                            && std::mem::replace(&mut *is_first.lock().unwrap(), false)
                        {
                            all_there.wait();
                        }
                    };
                    let permit = node.permit::<RunAi>().unwrap();
                    let never = Cancel::new();
                    let answering = node.run_inference_with(&permit, request(number), &out, &never);
                    let tokens = block_on(answering).unwrap().tokens;
                    answers.lock().unwrap()[number] = tokens;
                });
            }
        });
        assert_eq!(*answers.lock().unwrap(), expected);
    }
}
