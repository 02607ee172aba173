//! Models that are loaded while they are still on their way.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use kwaainet_node::{CandleEngine, KwaaiNetCore};
use kwaainet_platform::Sequential;
use kwaainet_testkit::tiny_gguf::{GgufValue, TinyModel};
use kwaainet_testkit::{CatalogueBuilder, ask, block_on, poll_times};
use kwaainet_types::{
    Chunk, Command, ErrorCode, ModelSource, ModelStatus, NodeConfig, Origin, Purpose, Reply, Stage,
};

use crate::held::{Gate, Tasks};
use crate::home::{ALL, Home, MIB, load, model_file, tell};

const URL: &str = "https://models.example/m.gguf";
const OTHER: &str = "https://models.example/other.gguf";
const IN_MEMORY: &[Purpose] = &[Purpose::RunAi];

/// The models `m`, which is held back, and `other`, which is not.
fn home(file: &[u8]) -> (Home, Gate) {
    let other = model_file(2, 9);
    let builder = CatalogueBuilder::default()
        .model("m", file, &[URL])
        .model("other", &other, &[OTHER]);
    let home = Home::new(builder.deployment());
    home.http.serve(URL, file.to_vec());
    home.http.serve(OTHER, other);
    home.held(URL)
}

fn loaded(model: &str, source: ModelSource) -> Option<Result<Reply, kwaainet_types::ErrorBody>> {
    Some(Ok(Reply::Loaded {
        model: model.into(),
        source,
    }))
}

fn status(node: &KwaaiNetCore, id: &str) -> ModelStatus {
    let models = block_on(node.models()).unwrap();
    models.into_iter().find(|model| model.id == id).unwrap()
}

fn stages(chunks: &[Chunk]) -> Vec<(Stage, u64)> {
    let told = chunks.iter().filter_map(|chunk| match chunk {
        Chunk::Progress { progress } => Some((progress.stage, progress.done)),
        _ => None,
    });
    told.collect()
}

#[test]
fn a_model_is_loaded_while_it_arrives_and_one_bar_is_shown_after_the_other() {
    for purposes in [ALL, IN_MEMORY] {
        let file = model_file(5, 1);
        let (home, gate) = home(&file);
        let node = home.agreed(purposes);
        let mut tasks = Tasks::new();
        let asked = tasks.load(&node, "m");
        for mib in 1..=5 {
            gate.open((mib * MIB) as u64);
            tasks.run();
            let read = home.engine.read.lock().unwrap().len();
            if purposes == ALL {
                // All but the piece that ends behind what has arrived.
                assert!(read > mib * MIB - 300_000, "{read} bytes read of {mib} MiB");
            } else {
                assert_eq!(read, 0, "loading would use up what is in memory only");
            }
            assert!(asked.reply().is_none() && !status(&node, "m").loaded);
        }
        gate.open(u64::MAX);
        tasks.run();
        assert_eq!(asked.reply(), loaded("m", ModelSource::Network));
        assert!(*home.engine.read.lock().unwrap() == file);
        assert_eq!(home.engine.loads.load(Ordering::Relaxed), 1);
        assert_eq!(home.http.requests().len(), 1);
        let told = stages(&asked.out.0.lock().unwrap());
        let bar = |stage: Stage| told.iter().filter(move |told| told.0 == stage);
        assert!(bar(Stage::Fetch).is_sorted_by_key(|told| told.1));
        let first_load = told.iter().position(|told| told.0 == Stage::Load).unwrap();
        assert!(
            told[first_load..].iter().all(|told| told.0 == Stage::Load),
            "{told:?}"
        );
        let is_rest = told[first_load].1 > file.len() as u64 * 8 / 10;
        assert_eq!(is_rest, purposes == ALL, "{told:?}");
        let kept = if purposes == ALL { file.len() as u64 } else { 0 };
        assert_eq!(status(&node, "m").stored_bytes, kept);
    }
}

#[test]
fn a_stalled_download_does_not_hold_up_another_model() {
    for purposes in [ALL, IN_MEMORY] {
        let file = model_file(5, 1);
        let (home, gate) = home(&file);
        let node = home.agreed(purposes);
        gate.open(3 * MIB as u64);
        let mut tasks = Tasks::new();
        let stalled = tasks.load(&node, "m");
        let read = home.engine.read.lock().unwrap().len();
        assert_eq!(read > 2 * MIB, purposes == ALL, "{read}");
        let other = tasks.load(&node, "other");
        assert_eq!(other.reply(), loaded("other", ModelSource::Network));
        let mut request = ask("Hi");
        request.model = Some("other".to_owned());
        let resume = Vec::new();
        let answer = tasks.tell(&node, Origin::Site, Command::Chat { request, resume });
        assert!(matches!(answer.reply(), Some(Ok(Reply::Chat { .. }))));
        assert!(stalled.reply().is_none());
        gate.open(u64::MAX);
        tasks.run();
        assert_eq!(stalled.reply(), loaded("m", ModelSource::Network));
        assert!(*home.engine.read.lock().unwrap() == file);
        assert_eq!(home.asked(URL, file.len() as u64), file.len() as u64);
    }
}

#[test]
fn beside_a_model_in_memory_another_is_loaded_only_when_all_of_it_is_here() {
    let file = model_file(5, 1);
    let (home, gate) = home(&file);
    let node = home.agreed(ALL);
    let mut tasks = Tasks::new();
    tasks.load(&node, "other");
    let other = home.engine.read.lock().unwrap().clone();
    gate.open(4 * MIB as u64);
    let asked = tasks.load(&node, "m");
    assert_eq!(status(&node, "m").stored_bytes, 4 * MIB as u64);
    assert!(*home.engine.read.lock().unwrap() == other);
    gate.open(u64::MAX);
    tasks.run();
    assert_eq!(asked.reply(), loaded("m", ModelSource::Network));
    assert!(*home.engine.read.lock().unwrap() == file);
}

#[test]
fn who_asks_for_a_model_on_its_way_gets_that_load() {
    for purposes in [ALL, IN_MEMORY] {
        let file = model_file(5, 1);
        let (home, gate) = home(&file);
        let node = home.agreed(purposes);
        gate.open(2 * MIB as u64);
        let mut tasks = Tasks::new();
        let first = tasks.load(&node, "m");
        let second = tasks.load(&node, "m");
        home.clock.advance(Duration::from_secs(1));
        gate.open(3 * MIB as u64);
        tasks.run();
        gate.open(u64::MAX);
        tasks.run();
        assert_eq!(first.reply(), loaded("m", ModelSource::Network));
        assert_eq!(second.reply(), loaded("m", ModelSource::Memory));
        assert_eq!(home.engine.loads.load(Ordering::Relaxed), 1);
        assert_eq!(home.http.requests().len(), 1);
        let told = stages(&second.out.0.lock().unwrap());
        assert!(told.contains(&(Stage::Fetch, 3 * MIB as u64)), "{told:?}");
    }
}

#[test]
fn a_cancelled_load_leaves_the_engine_free_and_loses_nothing_that_arrived() {
    for purposes in [ALL, IN_MEMORY] {
        let file = model_file(5, 1);
        let (home, gate) = home(&file);
        let node = home.agreed(purposes);
        gate.open(3 * MIB as u64);
        let mut tasks = Tasks::new();
        let asked = tasks.load(&node, "m");
        asked.cancel.cancel();
        tasks.run();
        assert_eq!(asked.reply().unwrap().unwrap_err().code, ErrorCode::Cancelled);
        let here = status(&node, "m");
        assert!(!here.loaded);
        assert_eq!(here.stored_bytes, 3 * MIB as u64);
        gate.open(u64::MAX);
        let again = tasks.load(&node, "m");
        assert_eq!(again.reply(), loaded("m", ModelSource::Network));
        assert!(*home.engine.read.lock().unwrap() == file);
        let asked = home.asked(URL, file.len() as u64);
        assert_eq!(asked, 2 * file.len() as u64 - here.stored_bytes);
    }
}

#[test]
fn withdrawn_in_the_middle_nothing_is_left() {
    for purposes in [ALL, IN_MEMORY] {
        let (home, gate) = home(&model_file(5, 1));
        let node = home.agreed(purposes);
        gate.open(3 * MIB as u64);
        let mut tasks = Tasks::new();
        let asked = tasks.load(&node, "m");
        let withdrawn = tasks.tell(&node, Origin::Panel, Command::Withdraw);
        assert_eq!(
            asked.reply().unwrap().unwrap_err().code,
            ErrorCode::ConsentRequired
        );
        assert_eq!(withdrawn.reply(), Some(Ok(Reply::Done)));
        assert!(home.blobs().is_empty(), "{:?}", home.blobs());
        assert_eq!(status(&node, "m").stored_bytes, 0);
    }
}

#[test]
fn killed_at_every_await_point_a_load_from_memory_begins_again_and_reads_the_right_bytes() {
    let file = model_file(3, 1);
    let deployment = CatalogueBuilder::default().model("m", &file, &[URL]).deployment();
    let mut kills = 0;
    for polls in (0..).step_by(2) {
        let home = Home::new(deployment.clone()).yielding();
        home.http.serve(URL, file.clone());
        let node = home.agreed(IN_MEMORY);
        let command = Command::LoadModel { model: None };
        let never = kwaainet_node::Cancel::new();
        let first = poll_times(
            node.dispatch(Origin::Site, command, &|_: Chunk| {}, &never),
            polls,
        );
        assert!(load(&node, "m").is_ok(), "killed after {polls} polls");
        assert!(
            *home.engine.read.lock().unwrap() == file,
            "killed after {polls} polls"
        );
        if first.is_some() {
            break;
        }
        kills += 1;
    }
    assert!(kills > 30, "only {kills} moments were tried");
}

#[test]
fn no_byte_of_a_long_header_is_freed_before_it_was_judged() {
    let mut model = TinyModel::new("llama", "Q8_0").build();
    for number in 0..3 {
        let filler = GgufValue::Text("x".repeat(MIB - 1));
        model.set(&format!("filler.{number}"), filler);
    }
    let file = model.bytes();
    let (home, gate) = home(&file);
    let node = home.agreed(IN_MEMORY);
    let mut tasks = Tasks::new();
    let asked = tasks.load(&node, "m");
    gate.open(2 * MIB as u64);
    tasks.run();
    assert!(home.engine.read.lock().unwrap().is_empty());
    gate.open(u64::MAX);
    tasks.run();
    assert_eq!(asked.reply(), loaded("m", ModelSource::Network));
    assert!(*home.engine.read.lock().unwrap() == file);
}

#[test]
fn a_model_above_the_memory_cap_is_refused_before_the_first_byte() {
    for purposes in [ALL, IN_MEMORY] {
        let (home, _gate) = home(&model_file(64, 1));
        let node = home.agreed(purposes);
        let mut config = NodeConfig::default();
        config.max_resources.memory = 64;
        tell(&node, Origin::Site, Command::Configure { config }).unwrap();
        let error = load(&node, "m").unwrap_err();
        assert_eq!(error.code, ErrorCode::OutOfMemory, "{}", error.message);
        assert!(home.http.requests().is_empty());
    }
}

/// A node with the real engine.
fn real(home: &Home, purposes: &[Purpose]) -> Arc<KwaaiNetCore> {
    let engine = Arc::new(CandleEngine::new(Arc::new(Sequential)));
    let deployment = home.deployment.clone();
    let host = kwaainet_testkit::host_report();
    let node = KwaaiNetCore::with_engine(home.platform.clone(), host, deployment, engine);
    let record = kwaainet_testkit::consent_record(purposes, crate::home::NOW);
    tell(&node, Origin::Panel, Command::Grant { record }).unwrap();
    node
}

fn answer(node: &Arc<KwaaiNetCore>, tasks: &mut Tasks) -> Vec<u32> {
    let mut request = ask("a tale of two cities");
    request.model = Some("m".to_owned());
    request.sampling.temperature = Some(1.5);
    request.sampling.seed = Some(3);
    request.max_tokens = Some(40);
    let resume = Vec::new();
    let told = tasks.tell(node, Origin::Site, Command::Chat { request, resume });
    assert!(
        matches!(told.reply(), Some(Ok(Reply::Chat { .. }))),
        "{:?}",
        told.reply()
    );
    told.out.tokens()
}

#[test]
fn a_model_loaded_from_broken_connections_answers_as_one_from_a_file() {
    let file = TinyModel::new("llama", "Q8_0").bytes();
    assert!(file.len() > 4 * MIB, "{}", file.len());
    let (plain, _gate) = home(&file);
    let node = real(&plain, ALL);
    block_on(node.add_local_model("m", Arc::new(file.clone()))).unwrap();
    let mut tasks = Tasks::new();
    let expected = answer(&node, &mut tasks);
    assert!(expected.len() > 30, "{expected:?}");
    for purposes in [ALL, IN_MEMORY] {
        let (home, gate) = home(&file);
        home.http.cut_next(2 * MIB as u64 + 5);
        home.http.cut_next(MIB as u64 + 7);
        let node = real(&home, purposes);
        let asked = tasks.load(&node, "m");
        for kib in (64..4600).step_by(64) {
            gate.open(kib * 1024);
            tasks.run();
        }
        gate.open(u64::MAX);
        tasks.run();
        assert_eq!(asked.reply(), loaded("m", ModelSource::Network));
        assert_eq!(home.http.requests().len(), 3);
        assert_eq!(answer(&node, &mut tasks), expected);
    }
}

#[test]
fn a_bad_tensor_ends_the_download_with_the_error_that_the_whole_file_gives() {
    let mut model = TinyModel::new("llama", "Q8_0").build();
    // The factor of its first block, as a 16-bit float.
    let matrix = model.tensor_mut("blk.0.attn_q.weight");
    matrix.data[..2].copy_from_slice(&[0, 0x7e]);
    let file = model.bytes();
    let (plain, _gate) = home(&file);
    let node = real(&plain, ALL);
    block_on(node.add_local_model("m", Arc::new(file.clone()))).unwrap();
    let expected = load(&node, "m").unwrap_err();
    assert!(
        expected.message.contains("blk.0.attn_q.weight"),
        "{}",
        expected.message
    );
    for purposes in [ALL, IN_MEMORY] {
        let (home, gate) = home(&file);
        let node = real(&home, purposes);
        // What is in memory only is loaded when all of it is there.
        gate.open(if purposes == ALL { 3 * MIB as u64 } else { u64::MAX });
        let mut tasks = Tasks::new();
        let asked = tasks.load(&node, "m");
        assert_eq!(asked.reply(), Some(Err(expected.clone())));
        assert_eq!(home.http.requests().len(), 1);
    }
}
