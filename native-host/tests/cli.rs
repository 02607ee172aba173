//! The command line: exit codes, JSON keys, bad input, signals.
#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "these are tests"
)]

mod support;

use std::net::TcpListener;
use std::process::Stdio;
use std::sync::atomic::Ordering;
use std::time::Duration;

use support::{Dir, Done, FileServer, catalogue, keys, read_all, read_until, signal, text};

const PROMPT: &str = "the other and the one";

#[test]
fn wrong_usage_ends_with_2_and_says_what_was_meant() {
    let dir = Dir::new();
    let done = dir.run(&["run", "--modle", "x", "hi"]).ends_with(2);
    assert!(done.err().contains("--model"), "{}", done.err());
    dir.run(&[]).ends_with(2);
    dir.run(&["serve", "--port", "70000"]).ends_with(2);
    dir.run(&["run", "--model", "x.gguf", "--cpu", "0", "hi"])
        .ends_with(2);
    dir.run(&["run", "--model", "x.gguf", "--seed", "-1", "hi"])
        .ends_with(2);
    dir.run(&["run", "--model", "x.gguf", "--raw", "--system", "s", "hi"])
        .ends_with(2);
    let done = dir.run(&["run", "hi"]).ends_with(2);
    assert!(done.err().contains("--model"), "{}", done.err());
    let done = dir
        .run(&[
            "model",
            "list",
            "--catalogue",
            "https://example.invalid/models.json",
        ])
        .ends_with(2);
    assert!(done.err().contains("--catalogue-key"), "{}", done.err());
    dir.run(&["--help"]).ends_with(0);
    assert!(
        dir.run(&["run", "--help"])
            .ends_with(0)
            .out()
            .contains("Examples:")
    );
}

#[test]
fn models_that_are_not_there_or_not_models() {
    let dir = Dir::new();
    let done = dir.run(&["run", "--model", "/no/such.gguf", "hi"]).ends_with(3);
    assert!(done.err().contains("/no/such.gguf"), "{}", done.err());
    dir.run(&["run", "--model", "no-such-model", "hi"]).ends_with(3);
    dir.run(&["run", "--model", text(&dir.0), "hi"]).ends_with(1);
    let whole = std::fs::read(dir.tiny_model()).unwrap();
    let mut flipped = whole.clone();
    flipped[0] = b'X';
    for (name, bytes, code) in [
        ("empty.gguf", &whole[..0], 5),
        ("short.gguf", &whole[..1000], 5),
        ("cut.gguf", &whole[..whole.len() / 2], 5),
        ("magic.gguf", &flipped[..], 5),
    ] {
        let path = dir.path(name);
        std::fs::write(&path, bytes).unwrap();
        let done = dir
            .run(&["run", "--json", "--model", text(&path), "--raw", "hi"])
            .ends_with(code);
        let error: serde_json::Value = serde_json::from_str(&done.err()).unwrap();
        assert_eq!(keys(&error["error"]), ["code", "message", "retryable"], "{name}");
        assert!(done.out().is_empty(), "{name}");
    }
}

#[test]
fn answers_follow_a_schema_or_a_grammar_given_as_text_or_as_a_file() {
    let dir = Dir::new();
    let model = dir.tiny_model();
    let run =
        |flag: &str, value: &str| dir.run(&["run", "--model", text(&model), "--raw", flag, value, PROMPT]);
    let schema = r#"{"enum": ["on", "off"]}"#;
    let grammar = "root ::= (\"on\" | \"off\")";
    let files = [("--json-schema", schema), ("--grammar", grammar)].map(|(flag, content)| {
        let path = dir.path(flag.trim_start_matches("--"));
        std::fs::write(&path, content).unwrap();
        (flag, text(&path).to_owned())
    });
    for (flag, value) in [
        ("--json-schema", schema),
        ("--grammar", grammar),
        (files[0].0, &files[0].1),
        (files[1].0, &files[1].1),
    ] {
        let out = run(flag, value).ends_with(0).out();
        let said = out.trim().trim_matches('"');
        assert!(["on", "off"].contains(&said), "{flag} {value}: {out}");
    }
    for (flag, value, why) in [
        ("--json-schema", r#"{"type": "object""#, "not JSON"),
        ("--json-schema", r#"{"type": "objekt"}"#, "object, array, string"),
        ("--grammar", "root ::= word", "\"word\""),
    ] {
        let done = run(flag, value).ends_with(2);
        assert!(done.err().contains(why), "{}", done.err());
    }
    let done = run("--grammar", "no-such.gbnf").ends_with(3);
    assert!(done.err().contains("no-such.gbnf"), "{}", done.err());
}

#[test]
fn what_scripts_read() {
    let dir = Dir::new();
    let model = dir.tiny_model();
    let model = text(&model);
    let run = |seed: &str| {
        let args = [
            "run",
            "--model",
            model,
            "--raw",
            "--json",
            "--max-tokens",
            "12",
            "--seed",
            seed,
            PROMPT,
        ];
        dir.run(&args).ends_with(0).json()
    };
    let first = run("7");
    assert_eq!(
        keys(&first),
        [
            "completion_tokens",
            "finish_reason",
            "prompt_tokens",
            "text",
            "timings",
            "token_ids"
        ]
    );
    assert_eq!(
        first["token_ids"].as_array().unwrap().len() as u64,
        first["completion_tokens"].as_u64().unwrap()
    );
    assert!(["stop", "length"].contains(&first["finish_reason"].as_str().unwrap()));
    let (again, other) = (run("7"), run("8"));
    assert_eq!(first["token_ids"], again["token_ids"]);
    assert_ne!(first["token_ids"], other["token_ids"]);

    let ids = dir
        .run_with_input(&["tokenize", "--model", model, "--json"], PROMPT)
        .ends_with(0)
        .json();
    assert_eq!(
        ids["token_ids"].as_array().unwrap().len() as u64,
        first["prompt_tokens"].as_u64().unwrap()
    );
    let plain = dir
        .run_with_input(&["tokenize", "--model", model], PROMPT)
        .ends_with(0)
        .out();
    let plain: Vec<u64> = plain.split_whitespace().map(|id| id.parse().unwrap()).collect();
    assert_eq!(serde_json::json!(plain), ids["token_ids"]);

    let perplexity = dir.run_with_input(&["perplexity", "--model", model, "--json"], &PROMPT.repeat(20));
    let perplexity = perplexity.ends_with(0).json();
    let (value, nll) = (
        perplexity["perplexity"].as_f64().unwrap(),
        perplexity["nll"].as_f64().unwrap(),
    );
    assert!(value > 1.0 && (nll.exp() - value).abs() < 1e-9 * value);
    dir.run_with_input(&["perplexity", "--model", model], "")
        .ends_with(2);

    let bench = [
        "bench",
        "--model",
        model,
        "--prompt-tokens",
        "16",
        "--decode-tokens",
        "4",
        "--repeat",
        "2",
        "--json",
    ];
    let bench = dir.run(&bench).ends_with(0).json();
    assert_eq!(bench["runs"].as_array().unwrap().len(), 2);
    assert!(bench["prefill_tokens_per_second"].as_f64().unwrap() > 0.0);
    assert!(bench["decode_tokens_per_second"].as_f64().unwrap() > 0.0);

    let doctor = dir.run(&["doctor", "--json"]).ends_with(0).json();
    for check in doctor["checks"].as_array().unwrap() {
        // Everything that is not well comes with the way to mend it.
        assert_eq!(check["status"] == "ok", check.get("mend").is_none(), "{check}");
    }
    for shell in ["bash", "zsh", "fish"] {
        assert!(
            dir.run(&["completions", shell])
                .ends_with(0)
                .out()
                .contains("perplexity"),
            "{shell}"
        );
    }
}

#[test]
fn caps_and_limits_are_explained() {
    let dir = Dir::new();
    let model = dir.tiny_model();
    let long = "one ".repeat(500);
    let done = dir
        .run(&["run", "--model", text(&model), "--raw", "--context", "100", &long])
        .ends_with(2);
    // Both numbers: how long it is, how long it may be.
    assert!(
        done.err().contains("100") && done.err().matches(char::is_numeric).count() > 5,
        "{}",
        done.err()
    );
    let many = [
        "bench",
        "--model",
        text(&model),
        "--prompt-tokens",
        "5000",
        "--decode-tokens",
        "1",
    ];
    dir.run(&many).ends_with(2);
}

#[test]
fn the_file_is_weaker_than_the_environment_and_that_than_a_flag() {
    let dir = Dir::new();
    let model = dir.tiny_model();
    std::fs::create_dir_all(dir.path("config/kwaainet")).unwrap();
    let config = dir.path("config/kwaainet/config.toml");
    std::fs::write(&config, format!("model = {:?}\nthreads = 1\n", text(&model))).unwrap();
    let ids = dir
        .run_with_input(&["tokenize", "--json"], PROMPT)
        .ends_with(0)
        .json();
    assert!(!ids["token_ids"].as_array().unwrap().is_empty());
    let threads = |args: &[&str], env: Option<&str>| {
        let mut command = dir.command(args);
        command.envs(env.map(|value| ("KWAAINET_THREADS", value)));
        Done(command.output().unwrap()).ends_with(0).json()["threads"].as_u64()
    };
    assert_eq!(threads(&["doctor", "--json"], None), Some(1));
    assert_eq!(threads(&["doctor", "--json"], Some("2")), Some(2));
    assert_eq!(
        threads(&["doctor", "--json", "--threads", "1"], Some("2")),
        Some(1)
    );
    std::fs::write(&config, "modle = \"x\"\n").unwrap();
    let done = dir.run(&["doctor"]).ends_with(2);
    assert!(
        done.err().contains("modle") && done.err().contains("config.toml"),
        "{}",
        done.err()
    );
}

#[test]
fn a_model_is_fetched_listed_verified_mended_and_removed() {
    let dir = Dir::new();
    let [flag, file] = catalogue(&dir, "tiny.gguf");
    let with = |args: &[&str]| dir.run(&[args, &[&flag, &file, "--json"]].concat());
    assert_eq!(with(&["model", "list"]).ends_with(0).json()[0]["stored_bytes"], 0);
    let done = with(&["model", "pull", "nonsense"]).ends_with(3);
    assert!(
        done.err().contains("tiny"),
        "it says which there are: {}",
        done.err()
    );
    assert_eq!(
        with(&["model", "pull", "tiny"]).ends_with(0).json()["source"],
        "network"
    );
    assert_eq!(
        with(&["model", "pull", "tiny"]).ends_with(0).json()["source"],
        "device"
    );
    let kept = dir.path("data/models/tiny.gguf");
    let original = std::fs::read(dir.path("tiny.gguf")).unwrap();
    assert_eq!(std::fs::read(&kept).unwrap(), original);
    assert_eq!(with(&["model", "verify"]).ends_with(0).json()["ok"], true);

    let mut rotten = original.clone();
    rotten[(2 << 20) + 5] ^= 1;
    std::fs::write(&kept, rotten).unwrap();
    let done = with(&["model", "verify", "tiny"]).ends_with(5).json();
    assert_eq!(done["bad_chunks"], serde_json::json!([2]));
    with(&["model", "pull", "tiny"]).ends_with(0);
    assert_eq!(std::fs::read(&kept).unwrap(), original);

    let run = with(&["run", "--model", "tiny", "--raw", "--max-tokens", "3", PROMPT])
        .ends_with(0)
        .json();
    assert!(run["completion_tokens"].as_u64().unwrap() > 0);
    with(&["model", "rm", "tiny", "nonsense"]).ends_with(3);
    assert!(kept.exists(), "a misspelt name removes nothing");
    with(&["model", "rm", "tiny"]).ends_with(0);
    assert!(!kept.exists());
}

#[test]
fn a_catalogue_of_somebody_else_is_not_believed() {
    let dir = Dir::new();
    let [flag, file] = catalogue(&dir, "tiny.gguf");
    let other = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
    dir.run(&["model", "list", &flag, &file, "--catalogue-key", other])
        .ends_with(5);
    let text = std::fs::read_to_string(&file).unwrap();
    std::fs::write(&file, text.replace("MIT", "mit")).unwrap();
    dir.run(&["model", "list", &flag, &file]).ends_with(5);
    dir.run(&["catalogue", "verify", &file]).ends_with(5);
    std::fs::write(&file, "{}").unwrap();
    dir.run(&["model", "list", &flag, &file]).ends_with(5);
    // Nobody there.
    let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let url = format!("http://{gone}/models.json");
    dir.run(&["model", "list", "--catalogue", &url, "--catalogue-key", other])
        .ends_with(4);
}

#[cfg(unix)]
#[test]
fn a_fetch_stopped_with_ctrl_c_goes_on_where_it_was() {
    let dir = Dir::new();
    let bytes = std::fs::read(dir.tiny_model()).unwrap();
    let total = bytes.len() as u64;
    let server = FileServer::new(bytes.clone(), Duration::from_millis(40));
    let [flag, file] = catalogue(&dir, &server.url);
    let mut child = dir
        .command(&["model", "pull", "tiny", &flag, &file])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    while server.sent.load(Ordering::Relaxed) < total / 2 {
        std::thread::sleep(Duration::from_millis(5));
        assert!(
            child.try_wait().unwrap().is_none(),
            "{}",
            read_all(child.stderr.take().unwrap())
        );
    }
    signal(child.id(), "INT");
    let errors = read_all(child.stderr.take().unwrap());
    assert_eq!(child.wait().unwrap().code(), Some(130), "{errors}");
    assert!(errors.contains("goes on from there"), "{errors}");
    let before = server.sent.swap(0, Ordering::Relaxed);
    dir.run(&["model", "pull", "tiny", &flag, &file]).ends_with(0);
    let after = server.sent.load(Ordering::Relaxed);
    // The chunk that was cut is fetched again, nothing else.
    assert!(
        after <= total - before + (3 << 20) / 2,
        "{before} before and {after} after of {total}"
    );
    assert!(after < total, "{before} before and {after} after of {total}");
    assert_eq!(std::fs::read(dir.path("data/models/tiny.gguf")).unwrap(), bytes);
}

#[cfg(unix)]
#[test]
fn ctrl_c_stops_an_answer_and_twice_the_program() {
    let dir = Dir::new();
    let model = dir.tiny_model();
    // A long prompt under a cap of 1 % lasts for a minute.
    let prompt = PROMPT.repeat(250);
    let flags = ["--raw", "--context", "4096", "--cpu", "1", "--json"];
    let args = [&["run", "--model", text(&model)], &flags[..], &[&prompt]].concat();
    let start = || {
        let mut command = dir.command(&args);
        command
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let mut child = start();
    std::thread::sleep(Duration::from_secs(2));
    assert!(child.try_wait().unwrap().is_none(), "it must still be running");
    signal(child.id(), "INT");
    let done = Done(child.wait_with_output().unwrap()).ends_with(130);
    assert!(done.err().contains("cancelled"), "{}", done.err());
    let child = start();
    std::thread::sleep(Duration::from_secs(1));
    signal(child.id(), "INT");
    signal(child.id(), "INT");
    Done(child.wait_with_output().unwrap()).ends_with(130);
}

#[cfg(unix)]
#[test]
fn a_closed_pipe_is_no_fault() {
    let dir = Dir::new();
    let model = dir.tiny_model();
    let args = [
        "run",
        "--model",
        text(&model),
        "--raw",
        "--context",
        "4096",
        "--temperature",
        "0",
        PROMPT,
    ];
    let mut child = dir
        .command(&args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let done = Done(child.wait_with_output().unwrap()).ends_with(0);
    assert_eq!(done.err(), "");
}

#[cfg(unix)]
#[test]
fn a_server_takes_a_free_port_says_which_and_ends_on_sigterm() {
    let dir = Dir::new();
    let model = dir.tiny_model();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let done = dir
        .run(&["serve", "--model", text(&model), "--port", &port])
        .ends_with(4);
    assert!(done.err().contains("--port"), "{}", done.err());
    dir.run(&[
        "serve",
        "--model",
        text(&model),
        "--host",
        "no.such.invalid",
        "--port",
        "0",
    ])
    .ends_with(4);
    dir.run(&["serve", "--model", text(&model), "--allow-origin", "example.org"])
        .ends_with(2);

    let args = [
        "serve",
        "--model",
        text(&model),
        "--port",
        "0",
        "--host",
        "0.0.0.0",
        "--quiet",
    ];
    let mut child = dir
        .command(&args)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let said = read_until(child.stdout.as_mut().unwrap(), "\n");
    assert!(said.contains("http://0.0.0.0:"), "{said}");
    signal(child.id(), "TERM");
    let done = Done(child.wait_with_output().unwrap()).ends_with(0);
    assert!(
        done.err().contains("WARNING") && done.err().contains("--api-key"),
        "even when quiet: {}",
        done.err()
    );
}

#[test]
fn a_conversation_can_be_piped() {
    let dir = Dir::new();
    let model = dir.tiny_model();
    let args = ["chat", "--model", text(&model), "--json", "--max-tokens", "4"];
    let done = dir
        .run_with_input(&args, "one\n/new\n/nonsense\ntwo\n")
        .ends_with(0);
    assert_eq!(done.out().lines().count(), 2, "{}", done.out());
}
