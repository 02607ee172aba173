//! The whole path natively on real weights: catalogue, download, load, template, answer, next turn, restart.
//!
//! Needs `.cache/models/smollm2-135m-instruct-q4_1.gguf`; says loudly when it is not there.

use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use kwaainet_node::manifest::{self, ManifestOptions};
use kwaainet_node::{Cancel, CandleEngine, Deployment, InferenceRequest, KwaaiNetCore, catalogue};
use kwaainet_platform::{MemoryBlobStore, MemoryHttp, Platform, Sequential};
use kwaainet_testkit::{CATALOGUE_SECRET, ask, block_on, catalogue_key, host_report};
use kwaainet_types::{Catalogue, ChatMessage, Chunk, FinishReason, ModelSource, Role, RunAi};

const URL: &str = "https://models.example/smollm2.gguf";

fn weights() -> Option<Vec<u8>> {
    let path =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../.cache/models/smollm2-135m-instruct-q4_1.gguf");
    #[expect(clippy::disallowed_methods, reason = "a native test reads its own fixture")]
    let bytes = std::fs::read(&path);
    if bytes.is_err() {
        eprintln!(
            "SKIPPED: {} is not there; fetch the test models first",
            path.display()
        );
    }
    bytes.ok()
}

#[test]
fn a_question_is_answered_from_the_signed_catalogue_to_the_receipt() {
    let Some(file) = weights() else { return };
    let options = ManifestOptions {
        id: "smollm2".into(),
        sources: vec![URL.into()],
        ..ManifestOptions::default()
    };
    let entry = block_on(manifest::of_file(&file, options, &|_, _| {})).unwrap();
    assert_eq!(
        (entry.architecture.as_str(), entry.quantisation.as_str()),
        ("llama", "Q4_1")
    );
    let catalogue = Catalogue {
        version: 1,
        edition: 1,
        gateways: vec![],
        models: vec![entry],
    };
    let http = MemoryHttp::default();
    http.serve(URL, file);
    let platform = Platform {
        store: Arc::new(MemoryBlobStore::default()),
        http: Arc::new(http.clone()),
        ..Platform::in_memory()
    };
    let deployment = Deployment {
        catalogue_url: None,
        catalogue_key: Some(catalogue_key()),
        catalogue: Some(catalogue::sign(&catalogue, &CATALOGUE_SECRET).unwrap()),
    };
    let start = || {
        let engine = Arc::new(CandleEngine::new(Arc::new(Sequential)));
        let node = KwaaiNetCore::with_engine(platform.clone(), host_report(), deployment.clone(), engine);
        node.grant_operator();
        node
    };
    let node = start();
    let permit = node.permit::<RunAi>().unwrap();
    let mut request = ask("What is the capital of France? Answer in one sentence.");
    request.sampling.temperature = Some(0.0);
    request.sampling.seed = Some(1);
    request.max_tokens = Some(24);
    let tokens = Mutex::new(Vec::new());
    let out = |chunk: Chunk| {
        if let Chunk::Delta { delta } = chunk {
            tokens.lock().unwrap().extend(delta.tokens);
        }
    };
    let first =
        block_on(node.run_inference_with(&permit, request.clone().into(), &out, &Cancel::new())).unwrap();
    println!("{:?} {:?}", first.text, first.done.receipt);
    assert!(first.text.contains("Paris"), "{:?}", first.text);
    assert_eq!(first.done.finish_reason, FinishReason::Stop);
    assert_eq!(*tokens.lock().unwrap(), first.tokens);

    // The next turn begins with this one.
    let mut next = request.clone();
    next.messages
        .push(ChatMessage::new(Role::Assistant, first.text.as_str()));
    next.messages.push(ChatMessage::new(Role::User, "And of Italy?"));
    next.max_tokens = Some(16);
    let second = block_on(node.run_inference(&permit, next.into())).unwrap();
    println!("{:?} {:?}", second.text, second.done.receipt);
    assert!(second.done.receipt.reused_tokens >= first.done.receipt.prompt_tokens);

    // A new node on the same device: no byte is fetched, and an answer interrupted after 4 tokens goes on as it was.
    let reborn = start();
    let permit = reborn.permit::<RunAi>().unwrap();
    assert_eq!(
        block_on(reborn.load_model(&permit, "smollm2")).unwrap().source,
        ModelSource::Device
    );
    let resumed = InferenceRequest {
        resume: first.tokens[..4].to_vec(),
        ..request.into()
    };
    let rest = block_on(reborn.run_inference(&permit, resumed)).unwrap();
    assert_eq!(rest.tokens, first.tokens[4..]);
    assert!(first.text.ends_with(&rest.text));
    assert_eq!(http.requests().len(), 1);
}
