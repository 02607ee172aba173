//! Downloads under every fault: the bytes on the device are the catalogue's, and nothing is fetched twice.

use std::sync::atomic::Ordering;

use kwaainet_node::Cancel;
use kwaainet_platform::{BlobStore, MemoryBlobStore};
use kwaainet_testkit::{CatalogueBuilder, DeniedStore, block_on, poll_times};
use kwaainet_types::{Chunk, Command, ErrorCode, ModelSource, NodeConfig, Origin, Purpose, Reply, Stage};

use crate::home::{ALL, Collected, Home, MIB, gguf, load, model_file, tell};

const URL: &str = "https://models.example/m.gguf";
const OTHER: &str = "https://mirror.example/m.gguf";

fn network() -> Result<Reply, kwaainet_types::ErrorBody> {
    Ok(Reply::Loaded {
        model: "m".into(),
        source: ModelSource::Network,
    })
}

/// A node with the model `m` of 5 MiB and a bit, at these sources.
fn home(file: &[u8], sources: &[&str]) -> Home {
    Home::new(CatalogueBuilder::default().model("m", file, sources).deployment())
}

#[test]
fn a_model_is_fetched_once_kept_and_loaded_from_the_device_after_a_restart() {
    let file = model_file(5, 1);
    let home = home(&file, &[URL]);
    home.http.serve(URL, file.clone());
    let node = home.agreed(ALL);
    assert_eq!(load(&node, "m"), network());
    let again = load(&node, "m");
    assert!(
        matches!(
            again,
            Ok(Reply::Loaded {
                source: ModelSource::Memory,
                ..
            })
        ),
        "{again:?}"
    );
    assert!(
        home.blob("m.gguf") == file,
        "the file on the device is not the one that was served"
    );
    let reborn = home.node();
    let loaded = load(&reborn, "m");
    assert!(
        matches!(
            loaded,
            Ok(Reply::Loaded {
                source: ModelSource::Device,
                ..
            })
        ),
        "{loaded:?}"
    );
    assert_eq!(
        home.http.requests().len(),
        1,
        "one GET, and none after the restart"
    );
}

#[test]
fn cut_connections_are_resumed_where_they_broke() {
    let file = model_file(5, 1);
    for percent in [0, 20, 60, 99] {
        let home = home(&file, &[URL]);
        home.http.serve(URL, file.clone());
        let cut = file.len() as u64 * percent / 100;
        home.http.cut_next(cut);
        let node = home.agreed(ALL);
        let out = Collected::default();
        let command = Command::LoadModel { model: None };
        let reply = block_on(node.dispatch(Origin::Site, command, &out, &Cancel::new()));
        assert_eq!(reply, network(), "cut at {percent} %");
        assert!(home.blob("m.gguf") == file);
        let whole_chunks = cut / MIB as u64 * MIB as u64;
        let requests = home.http.requests();
        assert_eq!(requests.len(), 2, "cut at {percent} %");
        let from = requests[1].range.map_or(0, |(from, _)| from);
        assert_eq!(from, whole_chunks, "cut at {percent} %");
        let chunks = out.0.lock().unwrap();
        let told: Vec<_> = chunks
            .iter()
            .filter_map(|chunk| match chunk {
                Chunk::Progress { progress } => Some((progress.stage, progress.done)),
                _ => None,
            })
            .collect();
        assert!(told.contains(&(Stage::Retry, whole_chunks)), "{told:?}");
        assert!(told.contains(&(Stage::Fetch, file.len() as u64)), "{told:?}");
        assert!(told.is_sorted_by_key(|(stage, done)| if *stage == Stage::Load { u64::MAX } else { *done }));
    }
}

#[test]
fn a_wrong_chunk_is_fetched_again_alone_and_from_the_next_source() {
    let file = model_file(5, 1);
    let mut wrong = file.clone();
    wrong[2 * MIB + 17] ^= 1;
    let home = home(&file, &[URL, OTHER]);
    home.http.serve(URL, wrong);
    home.http.serve(OTHER, file.clone());
    assert_eq!(load(&home.agreed(ALL), "m"), network());
    assert!(home.blob("m.gguf") == file);
    let requests = home.http.requests();
    assert_eq!(requests.len(), 2);
    assert_eq!(requests[1].url, OTHER);
    assert_eq!(
        requests[1].range,
        Some((2 * MIB as u64, MIB as u64)),
        "that chunk alone"
    );
}

#[test]
fn a_source_with_nothing_but_wrong_bytes_is_left() {
    let file = model_file(5, 1);
    let home = home(&file, &[URL, OTHER]);
    home.http.serve(URL, model_file(5, 2));
    home.http.serve(OTHER, file.clone());
    assert_eq!(load(&home.agreed(ALL), "m"), network());
    assert!(home.blob("m.gguf") == file);
}

#[test]
fn when_every_source_is_wrong_nothing_is_kept_of_it() {
    let file = model_file(5, 1);
    let home = home(&file, &[URL, OTHER]);
    home.http.serve(URL, vec![0; file.len()]);
    home.http.serve(OTHER, model_file(5, 3));
    let node = home.agreed(ALL);
    let error = load(&node, "m").unwrap_err();
    assert_eq!(error.code, ErrorCode::IntegrityFailed, "{}", error.message);
    assert!(error.message.contains("mirror.example"), "{}", error.message);
    assert_eq!(home.blob("m.gguf").len(), 0, "wrong bytes were written");
    // Put right, the same node goes on.
    home.http.serve(URL, file.clone());
    assert_eq!(load(&node, "m"), network());
}

#[test]
fn without_any_network_the_error_says_so_and_may_be_retried() {
    let file = model_file(2, 1);
    let home = home(&file, &[URL, OTHER]);
    let error = load(&home.agreed(ALL), "m").unwrap_err();
    assert_eq!(
        (error.code, error.retryable),
        (ErrorCode::NetworkUnreachable, true)
    );
    assert!(error.message.contains("404"), "{}", error.message);
    // A network that breaks at once, again and again, is given up in the end.
    home.http.serve(URL, file.clone());
    for _ in 0..100 {
        home.http.cut_next(10);
    }
    let error = load(&home.agreed(ALL), "m").unwrap_err();
    assert_eq!(error.code, ErrorCode::NetworkUnreachable);
    assert!(home.http.requests().len() < 30);
}

#[test]
fn a_server_without_ranges_still_completes_a_download() {
    let file = model_file(3, 1);
    let mut home = home(&file, &[URL]);
    home.http.serve(URL, file.clone());
    home.http.cut_next(MIB as u64 + 5);
    home.replace_http(NoRanges(home.http.clone()));
    assert_eq!(load(&home.agreed(ALL), "m"), network());
    assert!(home.blob("m.gguf") == file);
}

struct NoRanges(kwaainet_platform::MemoryHttp);

impl kwaainet_platform::HttpClient for NoRanges {
    fn get(
        &self,
        mut request: kwaainet_platform::HttpRequest,
    ) -> kwaainet_platform::BoxFuture<'_, Result<kwaainet_platform::HttpResponse, kwaainet_platform::HttpError>>
    {
        request.range = None;
        self.0.get(request)
    }
}

#[test]
fn a_gateway_is_asked_first_leaf_by_leaf_and_what_it_lacks_comes_by_http() {
    let file = model_file(2, 1);
    let builder = CatalogueBuilder::default()
        .gateway("https://ipfs.example/ipfs/")
        .model("m", &file, &[URL]);
    let home = Home::new(builder.deployment());
    let mut hash = [0; 32];
    hex::decode_to_slice(&builder.catalogue.models[0].chunk_hashes[0], &mut hash).unwrap();
    let leaf = format!(
        "https://ipfs.example/ipfs/{}?format=raw",
        kwaainet_node::cid::of_leaf(&hash)
    );
    home.http.serve(&leaf, file[..MIB].to_vec());
    home.http.serve(URL, file.clone());
    assert_eq!(load(&home.agreed(ALL), "m"), network());
    assert!(home.blob("m.gguf") == file);
    let requests = home.http.requests();
    assert_eq!(requests[0].url, leaf);
    assert_eq!(
        requests.last().unwrap().range,
        Some((MIB as u64, (file.len() - MIB) as u64))
    );
}

#[test]
fn killed_at_every_await_point_it_resumes_and_fetches_no_chunk_twice_but_the_unfinished_one() {
    let file = model_file(3, 1);
    let chunks = file.len().div_ceil(MIB) as u64;
    let deployment = CatalogueBuilder::default().model("m", &file, &[URL]).deployment();
    let mut kills = 0;
    for polls in (0..).step_by(3) {
        let home = Home::new(deployment.clone()).yielding();
        home.http.serve(URL, file.clone());
        let node = home.agreed(ALL);
        let command = Command::LoadModel { model: None };
        let first = poll_times(
            node.dispatch(Origin::Site, command, &|_: Chunk| {}, &Cancel::new()),
            polls,
        );
        drop(node);
        let received_before = received(&home, &file);
        let again = load(&home.node(), "m");
        assert!(again.is_ok(), "killed after {polls} polls: {again:?}");
        assert!(home.blob("m.gguf") == file, "killed after {polls} polls");
        let requests = home.http.requests();
        if requests.len() == 2 {
            let from = requests[1].range.map_or(0, |(from, _)| from);
            assert!(
                from + MIB as u64 >= received_before,
                "killed after {polls} polls: {received_before} verified, but fetched again from {from}"
            );
        }
        assert!(requests.len() <= 2 && chunks > 1);
        if first.is_some() {
            break;
        }
        kills += 1;
    }
    assert!(kills > 30, "only {kills} moments were tried");
}

/// Bytes on the device that are right, from the start.
fn received(home: &Home, file: &[u8]) -> u64 {
    if !home.blobs().contains(&"m.gguf".to_owned()) {
        return 0;
    }
    let here = home.blob("m.gguf");
    let same = here
        .chunks(MIB)
        .zip(file.chunks(MIB))
        .take_while(|(a, b)| a == b)
        .map(|(a, _)| a.len() as u64);
    same.sum()
}

#[test]
fn a_full_device_is_explained_with_both_numbers() {
    let file = model_file(5, 1);
    let deployment = CatalogueBuilder::default().model("m", &file, &[URL]).deployment();
    let home = Home::with_disk(deployment, MemoryBlobStore::with_capacity(2 * MIB as u64 + 5000));
    home.http.serve(URL, file.clone());
    let error = load(&home.agreed(ALL), "m").unwrap_err();
    assert_eq!((error.code, error.retryable), (ErrorCode::StorageFull, false));
    assert!(
        error.message.contains("5.3 MB") && error.message.contains("2.1 MB"),
        "{}",
        error.message
    );
    assert!(home.http.requests().is_empty(), "known before the first byte");
}

#[test]
fn a_device_that_fills_up_meanwhile_is_explained_too() {
    let file = model_file(5, 1);
    let mut home = home(&file, &[URL]);
    home.http.serve(URL, file.clone());
    home.replace_store(Boastful(MemoryBlobStore::with_capacity(2 * MIB as u64 + 5000)));
    let error = load(&home.agreed(ALL), "m").unwrap_err();
    assert_eq!(error.code, ErrorCode::StorageFull);
    assert!(error.message.contains("MB more room"), "{}", error.message);
}

/// Says that there is endless room, as a browser's estimate may.
struct Boastful(MemoryBlobStore);

impl BlobStore for Boastful {
    fn open<'a>(
        &'a self,
        name: &'a str,
        create: bool,
    ) -> kwaainet_platform::BoxFuture<
        'a,
        Result<std::sync::Arc<dyn kwaainet_platform::Blob>, kwaainet_platform::StoreError>,
    > {
        self.0.open(name, create)
    }

    fn list(
        &self,
    ) -> kwaainet_platform::BoxFuture<
        '_,
        Result<Vec<kwaainet_platform::BlobInfo>, kwaainet_platform::StoreError>,
    > {
        self.0.list()
    }

    fn delete<'a>(
        &'a self,
        name: &'a str,
    ) -> kwaainet_platform::BoxFuture<'a, Result<(), kwaainet_platform::StoreError>> {
        self.0.delete(name)
    }

    fn room(
        &self,
    ) -> kwaainet_platform::BoxFuture<'_, Result<kwaainet_platform::StoreRoom, kwaainet_platform::StoreError>>
    {
        kwaainet_platform::boxed(async {
            Ok(kwaainet_platform::StoreRoom {
                used: 0,
                available: u64::MAX,
                persistent: true,
            })
        })
    }
}

#[test]
fn a_model_above_the_storage_cap_is_refused_with_both_numbers() {
    let file = model_file(5, 1);
    let home = home(&file, &[URL]);
    let node = home.agreed(ALL);
    let mut config = NodeConfig::default();
    config.max_resources.storage = 3;
    tell(&node, Origin::Site, Command::Configure { config }).unwrap();
    let error = load(&node, "m").unwrap_err();
    assert_eq!(error.code, ErrorCode::StorageFull);
    assert!(
        error.message.contains("5.3 MB") && error.message.contains("3.1 MB"),
        "{}",
        error.message
    );
}

#[test]
fn the_model_that_was_not_used_for_the_longest_makes_room() {
    let files = [model_file(2, 1), model_file(2, 2), model_file(2, 3)];
    let urls = [
        "https://x.example/a",
        "https://x.example/b",
        "https://x.example/c",
    ];
    let mut builder = CatalogueBuilder::default();
    for (at, id) in ["a", "b", "c"].into_iter().enumerate() {
        builder = builder.model(id, &files[at], &[urls[at]]);
    }
    let home = Home::new(builder.deployment());
    for (url, file) in urls.iter().zip(&files) {
        home.http.serve(url, file.clone());
    }
    let mut config = NodeConfig::default();
    config.max_resources.storage = 5;
    let node = home.agreed(ALL);
    tell(
        &node,
        Origin::Site,
        Command::Configure {
            config: config.clone(),
        },
    )
    .unwrap();
    load(&node, "a").unwrap();
    load(&node, "b").unwrap();
    // After a restart the order is still known: now `a` is used again, so `b` is the oldest.
    let node = home.node();
    tell(&node, Origin::Site, Command::Configure { config }).unwrap();
    load(&node, "a").unwrap();
    load(&node, "c").unwrap();
    let blobs = home.blobs();
    assert!(
        blobs.contains(&"a.gguf".into()) && blobs.contains(&"c.gguf".into()),
        "{blobs:?}"
    );
    assert!(
        !blobs.contains(&"b.gguf".into()) && !blobs.contains(&"b.journal".into()),
        "{blobs:?}"
    );
}

#[test]
fn where_storage_is_denied_the_model_lives_in_memory_and_the_developer_is_told() {
    let file = model_file(2, 1);
    let mut home = home(&file, &[URL]);
    home.http.serve(URL, file);
    home.replace_store(DeniedStore);
    let node = home.agreed(ALL);
    assert_eq!(load(&node, "m"), network());
}

#[test]
fn without_consent_to_keep_it_no_model_byte_touches_the_device() {
    let file = model_file(2, 1);
    let home = home(&file, &[URL]);
    home.http.serve(URL, file);
    assert_eq!(load(&home.agreed(&[Purpose::RunAi]), "m"), network());
    assert_eq!(home.blobs(), ["consent-limits.json", "consent.json"]);
}

#[test]
fn an_unsupported_model_is_refused_after_its_first_chunk_and_not_kept() {
    let file = gguf("mamba", 5, 1);
    let home = home(&file, &[URL]);
    home.http.serve(URL, file);
    let error = load(&home.agreed(ALL), "m").unwrap_err();
    assert_eq!(error.code, ErrorCode::ModelUnsupported);
    assert!(error.message.contains("mamba"), "{}", error.message);
    assert_eq!(home.blobs(), ["consent-limits.json", "consent.json"]);
}

#[test]
fn rotten_bytes_on_the_device_are_found_and_fetched_again_alone() {
    let file = model_file(5, 1);
    let home = home(&file, &[URL]);
    home.http.serve(URL, file.clone());
    load(&home.agreed(ALL), "m").unwrap();
    let blob = block_on(home.disk.open("m.gguf", false)).unwrap();
    block_on(blob.write_at(3 * MIB as u64 + 9, b"rot")).unwrap();
    home.engine.damaged.store(1, Ordering::Relaxed);
    assert_eq!(load(&home.node(), "m"), network());
    assert!(home.blob("m.gguf") == file);
    assert_eq!(home.http.requests()[1].range, Some((3 * MIB as u64, MIB as u64)));
}

#[test]
fn a_lost_journal_costs_no_download() {
    let file = model_file(5, 1);
    let home = home(&file, &[URL]);
    home.http.serve(URL, file.clone());
    load(&home.agreed(ALL), "m").unwrap();
    for damage in [Vec::new(), b"nonsense".to_vec()] {
        block_on(home.disk.delete("m.journal")).unwrap();
        if !damage.is_empty() {
            let blob = block_on(home.disk.open("m.journal", true)).unwrap();
            block_on(blob.write_at(0, &damage)).unwrap();
        }
        assert!(load(&home.node(), "m").is_ok());
        assert_eq!(home.http.requests().len(), 1);
    }
}

#[test]
fn a_file_cut_short_behind_our_back_is_completed() {
    let file = model_file(5, 1);
    let home = home(&file, &[URL]);
    home.http.serve(URL, file.clone());
    load(&home.agreed(ALL), "m").unwrap();
    let blob = block_on(home.disk.open("m.gguf", false)).unwrap();
    block_on(blob.set_size(2 * MIB as u64 + 1)).unwrap();
    assert_eq!(load(&home.node(), "m"), network());
    assert!(home.blob("m.gguf") == file);
    assert_eq!(home.http.requests()[1].range.unwrap().0, 2 * MIB as u64);
}

#[test]
fn a_new_edition_of_a_model_takes_over_the_chunks_that_stayed_the_same() {
    let old = model_file(5, 1);
    let mut new = old.clone();
    new[4 * MIB + 3] ^= 1;
    let mut home = home(&old, &[URL]);
    home.http.serve(URL, old);
    load(&home.agreed(ALL), "m").unwrap();
    home.deployment = CatalogueBuilder::default()
        .model("m", &new, &[OTHER])
        .deployment();
    home.http.serve(OTHER, new.clone());
    assert_eq!(load(&home.node(), "m"), network());
    assert!(home.blob("m.gguf") == new);
    assert_eq!(
        home.asked(OTHER, new.len() as u64),
        MIB as u64,
        "one chunk changed"
    );
}

#[test]
fn two_who_want_the_same_model_share_one_download_and_both_see_progress() {
    let file = model_file(3, 1);
    let home = home(&file, &[URL]).slow().yielding();
    home.http.serve(URL, file);
    let node = home.agreed(ALL);
    let (first, second) = (Collected::default(), Collected::default());
    let cancel = Cancel::new();
    let command = || Command::LoadModel { model: None };
    let (a, b) = block_on(futures::future::join(
        node.dispatch(Origin::Site, command(), &first, &cancel),
        node.dispatch(Origin::Panel, command(), &second, &cancel),
    ));
    assert!(a.is_ok() && b.is_ok());
    assert_eq!(home.http.requests().len(), 1);
    for out in [first, second] {
        let chunks = out.0.into_inner().unwrap();
        assert!(chunks.len() > 2, "{chunks:?}");
    }
}

#[test]
fn a_model_on_its_way_cannot_be_deleted_under_the_download() {
    let file = model_file(4, 1);
    let home = home(&file, &[URL]).slow();
    home.http.serve(URL, file.clone());
    let node = home.agreed(ALL);
    let deleted = std::sync::Mutex::new(None);
    let out = |chunk: Chunk| {
        if matches!(chunk, Chunk::Progress { progress } if progress.done >= 2 * MIB as u64 && progress.stage == Stage::Fetch)
        {
            let model = "m".to_owned();
            *deleted.lock().unwrap() = poll_times(
                node.dispatch(
                    Origin::Panel,
                    Command::DeleteModel { model },
                    &|_: Chunk| {},
                    &Cancel::new(),
                ),
                9,
            );
        }
    };
    let command = Command::LoadModel { model: None };
    assert_eq!(
        block_on(node.dispatch(Origin::Site, command, &out, &Cancel::new())),
        network()
    );
    let refused = deleted.into_inner().unwrap().unwrap().unwrap_err();
    assert_eq!((refused.code, refused.retryable), (ErrorCode::StorageInUse, true));
    assert!(home.blob("m.gguf") == file);
}

#[test]
fn cancelling_a_download_keeps_what_has_arrived() {
    let file = model_file(4, 1);
    let home = home(&file, &[URL]).slow();
    home.http.serve(URL, file.clone());
    let node = home.agreed(ALL);
    let cancel = Cancel::new();
    let out = |chunk: Chunk| {
        if matches!(chunk, Chunk::Progress { progress } if progress.done >= 2 * MIB as u64) {
            cancel.cancel();
        }
    };
    let command = Command::LoadModel { model: None };
    let error = block_on(node.dispatch(Origin::Site, command, &out, &cancel)).unwrap_err();
    assert_eq!(error.code, ErrorCode::Cancelled);
    assert_eq!(load(&node, "m"), network());
    assert_eq!(home.http.requests()[1].range.unwrap().0, 2 * MIB as u64);
}
