//! The protocol on the wire, one golden file for each kind of message. TypeScript reads the same folder.
//!
//! After a deliberate change: `UPDATE_GOLDEN=1 cargo test -p kwaainet-types --test protocol`, and look at the diff.
#![expect(
    clippy::disallowed_methods,
    reason = "a native test reads and writes its own fixtures"
)]

use std::collections::BTreeMap;
use std::path::PathBuf;

use kwaainet_types::*;

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/protocol")
}

fn record() -> ConsentRecord {
    ConsentRecord {
        receipt_id: "0190a6c2-7b1e".into(),
        purposes: vec![Purpose::RunAi, Purpose::KeepModel],
        notice_digest: "ab".repeat(32),
        language: "de".into(),
        granted_at_ms: 1_700_000_000_000,
        expires_at_ms: 1_715_000_000_000,
    }
}

fn request() -> ChatRequest {
    let message = |role, text: &str| ChatMessage {
        role,
        content: Content::Text(text.into()),
    };
    ChatRequest {
        model: Some("smollm2-135m-instruct-q4_1".into()),
        messages: vec![
            message(Role::System, "Be brief."),
            message(Role::User, "Grüß Gott! 👋"),
            ChatMessage {
                role: Role::Assistant,
                content: Content::Parts(vec![ContentPart::Text { text: "Hello.".into() }]),
            },
        ],
        sampling: SamplingOptions {
            temperature: Some(0.5),
            top_k: Some(40),
            top_p: Some(0.25),
            min_p: Some(0.125),
            repetition_penalty: Some(1.5),
            presence_penalty: Some(-1.0),
            frequency_penalty: Some(1.0),
            seed: Some(9_007_199_254_740_991),
        },
        max_tokens: Some(256),
        stop: Some(Stop::Many(vec!["\n\n".into(), "User:".into()])),
        n: Some(1),
        stream: Some(true),
    }
}

fn progress(stage: Stage, bytes_per_second: Option<f64>) -> Progress {
    Progress {
        model: "smollm2-135m-instruct-q4_1".into(),
        stage,
        done: 41_943_040,
        total: 98_335_872,
        bytes_per_second,
    }
}

fn status() -> ModelStatus {
    ModelStatus {
        id: "smollm2-135m-instruct-q4_1".into(),
        name: "SmolLM2 135M Instruct".into(),
        bytes: 98_335_872,
        licence: "Apache-2.0".into(),
        quantisation: "Q4_1".into(),
        context_length: 8192,
        stored_bytes: 41_943_040,
        loaded: false,
    }
}

fn capabilities() -> Capabilities {
    Capabilities {
        host: HostReport {
            host: "worker".into(),
            backend: "wasm simd128".into(),
            threads: 1,
            processors: 8,
            storage: "opfs-sync".into(),
            tier: Tier::T1,
            missing: vec![Missing {
                what: "crossOriginIsolated".into(),
                instead: "one thread".into(),
            }],
        },
        limits: ResourceLimits {
            cpu: 20,
            memory: 1024,
            storage: 5000,
        },
        purposes: vec![Purpose::RunAi],
        architectures: vec!["llama".into(), "gemma3".into()],
        quantisations: vec!["Q4_1".into()],
    }
}

fn done(finish_reason: FinishReason) -> ChatDone {
    ChatDone {
        text: ".".into(),
        finish_reason,
        receipt: Receipt {
            model: "smollm2-135m-instruct-q4_1".into(),
            privacy: PrivacyMode::Device,
            backend: "wasm simd128, 1 thread".into(),
            prompt_tokens: 42,
            reused_tokens: 31,
            completion_tokens: 7,
            prefill_ms: 812.5,
            decode_ms: 350.25,
            bytes_sent: 0,
            seed: 9_007_199_254_740_991,
        },
    }
}

fn commands() -> Vec<(&'static str, Command)> {
    let config = NodeConfig {
        services: vec![Service::Compute, Service::Storage, Service::Identity, Service::Carbon],
        privacy_compliance: vec![PolicyPack::Gdpr, PolicyPack::Ccpa, PolicyPack::Hipaa],
        model: Some("smollm2-135m-instruct-q4_1".into()),
        ..NodeConfig::default()
    };
    let model = "smollm2-135m-instruct-q4_1".to_owned();
    vec![
        ("configure", Command::Configure { config }),
        ("grant", Command::Grant { record: record() }),
        ("withdraw", Command::Withdraw),
        ("consent", Command::Consent),
        ("capabilities", Command::Capabilities),
        ("models", Command::Models),
        ("load-model", Command::LoadModel { model: Some(model.clone()) }),
        ("load-model-configured", Command::LoadModel { model: None }),
        ("delete-model", Command::DeleteModel { model }),
        ("chat", Command::Chat { request: request(), resume: vec![] }),
        ("chat-resumed", Command::Chat { request: request(), resume: vec![504, 3575, 282] }),
    ]
}

fn replies() -> Vec<(&'static str, Reply)> {
    let model = "smollm2-135m-instruct-q4_1".to_owned();
    let loaded = |source| Reply::Loaded { model: model.clone(), source };
    vec![
        ("done", Reply::Done),
        ("consent", Reply::Consent { record: Some(record()) }),
        ("consent-none", Reply::Consent { record: None }),
        ("capabilities", Reply::Capabilities { capabilities: capabilities() }),
        ("models", Reply::Models { models: vec![status()] }),
        ("loaded-memory", loaded(ModelSource::Memory)),
        ("loaded-device", loaded(ModelSource::Device)),
        ("loaded-network", loaded(ModelSource::Network)),
        ("chat-stop", Reply::Chat { done: done(FinishReason::Stop) }),
        ("chat-length", Reply::Chat { done: done(FinishReason::Length) }),
        ("chat-cancelled", Reply::Chat { done: done(FinishReason::Cancelled) }),
    ]
}

fn events() -> Vec<(&'static str, Event)> {
    let every = vec![
        Purpose::RunAi,
        Purpose::KeepModel,
        Purpose::HelpOthers,
        Purpose::Identity,
        Purpose::Analytics,
        Purpose::Carbon,
        Purpose::Rewards,
    ];
    vec![
        ("consent-changed", Event::ConsentChanged { purposes: every }),
        ("model-changed", Event::ModelChanged { status: status() }),
        ("progress", Event::Progress { progress: progress(Stage::Retry, None) }),
        ("warning", Event::Warning { message: "the device refuses storage".into() }),
    ]
}

fn chunks() -> Vec<(&'static str, Chunk)> {
    let delta = ChatDelta {
        text: "Paris 🗼".into(),
        tokens: vec![7042, 17, 4_294_967_295],
    };
    vec![
        ("progress-fetch", Chunk::Progress { progress: progress(Stage::Fetch, Some(1_250_000.5)) }),
        ("progress-load", Chunk::Progress { progress: progress(Stage::Load, None) }),
        ("delta", Chunk::Delta { delta }),
    ]
}

const CODES: [ErrorCode; 23] = [
    ErrorCode::BadRequest,
    ErrorCode::Busy,
    ErrorCode::Cancelled,
    ErrorCode::ConsentRequired,
    ErrorCode::ConsentExpired,
    ErrorCode::NotAllowed,
    ErrorCode::ContextTooLong,
    ErrorCode::ModelNotFound,
    ErrorCode::ModelInvalid,
    ErrorCode::ModelUnsupported,
    ErrorCode::TemplateInvalid,
    ErrorCode::OutOfMemory,
    ErrorCode::StorageFull,
    ErrorCode::StorageDenied,
    ErrorCode::StorageInUse,
    ErrorCode::NetworkUnreachable,
    ErrorCode::IntegrityFailed,
    ErrorCode::CatalogueInvalid,
    ErrorCode::VersionMismatch,
    ErrorCode::HostBlocked,
    ErrorCode::Interrupted,
    ErrorCode::Unsupported,
    ErrorCode::Internal,
];

/// Every message, by the name of its file.
fn samples() -> BTreeMap<String, Envelope> {
    let mut all = BTreeMap::new();
    let mut add = |name: String, id: u32, message: Message| {
        let envelope = Envelope {
            v: PROTOCOL_VERSION,
            id,
            message,
        };
        assert!(all.insert(format!("{name}.json"), envelope).is_none(), "{name} twice");
    };
    for (name, command) in commands() {
        add(format!("command-{name}"), 7, Message::Command(command));
    }
    for (name, reply) in replies() {
        add(format!("reply-{name}"), 7, Message::Reply(reply));
    }
    for (name, chunk) in chunks() {
        add(format!("chunk-{name}"), 7, Message::Chunk(chunk));
    }
    for (name, event) in events() {
        add(format!("event-{name}"), 0, Message::Event(event));
    }
    for code in CODES {
        let name = serde_json::to_string(&code).unwrap();
        let body = ErrorBody::new(code, "what happened, and what to do about it");
        add(format!("error-{}", name.trim_matches('"')), 7, Message::Error(body));
    }
    let welcome = Welcome {
        protocol: PROTOCOL_VERSION,
        version: "0.1.0".into(),
        epoch: "f3a1c2d4".into(),
    };
    add("hello".into(), 0, Message::Hello);
    add("welcome".into(), 0, Message::Welcome(welcome));
    add("cancel".into(), 7, Message::Cancel);
    add("ping".into(), 0, Message::Ping);
    add("pong".into(), 0, Message::Pong);
    all
}

#[test]
fn every_message_is_on_the_wire_as_its_golden_file_says() {
    let samples = samples();
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(folder()).unwrap();
        for (name, envelope) in &samples {
            let text = serde_json::to_string_pretty(envelope).unwrap() + "\n";
            std::fs::write(folder().join(name), text).unwrap();
        }
    }
    for (name, envelope) in &samples {
        let text = std::fs::read_to_string(folder().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        // Both ways: what we read is what we meant, and what we write is what is in the file.
        let read: Envelope = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(&read, envelope, "{name}");
        let written = serde_json::to_value(envelope).unwrap();
        let golden: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(written, golden, "{name}");
    }
    let on_disk = std::fs::read_dir(folder()).unwrap().count();
    assert_eq!(on_disk, samples.len(), "a golden file without a sample, or the other way round");
}

#[test]
fn what_is_not_a_message_is_refused() {
    for bad in [
        "",
        "null",
        "[]",
        "{}",
        r#"{"v":1,"id":1}"#,
        r#"{"v":1,"id":-1,"kind":"ping"}"#,
        r#"{"v":1,"id":4294967296,"kind":"ping"}"#,
        r#"{"v":1,"id":1,"kind":"shutdown"}"#,
        r#"{"v":1,"id":1,"kind":"command"}"#,
        r#"{"v":1,"id":1,"kind":"command","body":{"type":"becomeOperator"}}"#,
        r#"{"v":1,"id":1,"kind":"command","body":{"type":"loadModel","model":5}}"#,
        r#"{"v":1,"id":1,"kind":"command","body":{"type":"grant","record":{"purposes":["everything"]}}}"#,
    ] {
        assert!(serde_json::from_str::<Envelope>(bad).is_err(), "{bad}");
    }
}
