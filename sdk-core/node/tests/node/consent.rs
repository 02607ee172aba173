//! Consent: given, kept, withdrawn, expired, and who may speak of it.

use std::sync::atomic::Ordering;

use futures::future::join;
use futures::{FutureExt as _, StreamExt as _};
use kwaainet_node::{Cancel, KwaaiNetCore};
use kwaainet_platform::BlobStore;
use kwaainet_testkit::{CatalogueBuilder, DeniedStore, ask, block_on, consent_record};
use kwaainet_types::{
    Chunk, Command, ErrorCode, Event, KeepModel, NodeConfig, Origin, Purpose, Reply, ResourceLimits, RunAi,
};

use crate::home::{ALL, Collected, Home, NOW, load, model_file, tell};

const URL: &str = "https://models.example/m.gguf";

fn home() -> Home {
    let file = model_file(1, 1);
    let home = Home::new(CatalogueBuilder::default().model("m", &file, &[URL]).deployment());
    home.http.serve(URL, file);
    home
}

fn question() -> Command {
    let mut request = ask("hello");
    request.max_tokens = Some(300);
    Command::Chat {
        request,
        resume: vec![],
    }
}

fn consent(node: &KwaaiNetCore) -> Option<Vec<Purpose>> {
    match tell(node, Origin::Site, Command::Consent) {
        Ok(Reply::Consent { record }) => record.map(|record| record.purposes),
        other => panic!("{other:?}"),
    }
}

#[test]
fn without_consent_nothing_is_computed_fetched_or_stored() {
    let home = home();
    let node = home.node();
    for command in [question(), Command::LoadModel { model: None }] {
        let error = tell(&node, Origin::Site, command).unwrap_err();
        assert_eq!(error.code, ErrorCode::ConsentRequired);
    }
    assert!(tell(&node, Origin::Site, Command::Capabilities).is_ok());
    assert!(tell(&node, Origin::Site, Command::Models).is_ok());
    assert_eq!(consent(&node), None);
    assert!(home.http.requests().is_empty());
    assert!(home.blobs().is_empty());
    assert_eq!(home.engine.loads.load(Ordering::Relaxed), 0);
}

#[test]
fn a_refusal_is_kept_nowhere() {
    let home = home();
    let node = home.node();
    let record = consent_record(&[], NOW);
    assert_eq!(
        tell(&node, Origin::Panel, Command::Grant { record }),
        Ok(Reply::Done)
    );
    assert!(home.blobs().is_empty());
    assert_eq!(
        tell(&node, Origin::Site, question()).unwrap_err().code,
        ErrorCode::ConsentRequired
    );
}

#[test]
fn a_site_can_neither_give_consent_nor_end_it_nor_delete() {
    let home = home();
    let node = home.agreed(ALL);
    load(&node, "m").unwrap();
    let record = consent_record(&[Purpose::RunAi, Purpose::HelpOthers], NOW);
    for command in [
        Command::Grant { record },
        Command::Withdraw,
        Command::DeleteModel { model: "m".into() },
    ] {
        let error = tell(&node, Origin::Site, command).unwrap_err();
        assert_eq!(error.code, ErrorCode::NotAllowed);
    }
    assert_eq!(consent(&node), Some(ALL.to_vec()));
    assert!(home.blobs().contains(&"m.gguf".to_owned()));
}

#[test]
fn consent_is_in_force_again_after_a_restart() {
    let home = home();
    drop(home.agreed(ALL));
    let reborn = home.node();
    assert_eq!(consent(&reborn), Some(ALL.to_vec()));
    assert!(reborn.permit::<KeepModel>().is_ok());
    assert!(load(&reborn, "m").is_ok());
}

#[test]
fn a_record_that_somebody_tampered_with_grants_nothing_and_everything_goes() {
    for damage in [&b"{}"[..], b"", &[0xff; 300]] {
        let home = home();
        load(&home.agreed(ALL), "m").unwrap();
        let blob = block_on(home.disk.open("consent.json", false)).unwrap();
        block_on(blob.set_size(0)).unwrap();
        block_on(blob.write_at(0, damage)).unwrap();
        let reborn = home.node();
        assert_eq!(consent(&reborn), None);
        assert!(home.blobs().is_empty(), "{:?}", home.blobs());
    }
}

#[test]
fn withdrawing_stops_a_running_answer_and_deletes_everything() {
    let home = home().yielding();
    let node = home.agreed(ALL);
    load(&node, "m").unwrap();
    let mut events = node.events();
    let out = Collected::default();
    let (withdrawn, never) = (Cancel::new(), Cancel::new());
    let outlet = |chunk: Chunk| {
        out.0.lock().unwrap().push(chunk);
        if out.tokens().len() == 5 {
            withdrawn.cancel();
        }
    };
    let withdraw = async {
        withdrawn.cancelled().await;
        node.dispatch(Origin::Panel, Command::Withdraw, &|_: Chunk| {}, &never)
            .await
    };
    let (answer, done) = block_on(join(
        node.dispatch(Origin::Site, question(), &outlet, &never),
        withdraw,
    ));
    let error = answer.unwrap_err();
    assert_eq!(error.code, ErrorCode::ConsentRequired);
    assert!(error.message.contains("withdrawn"), "{}", error.message);
    assert_eq!(done, Ok(Reply::Done));
    assert!(
        out.tokens().len() < 10,
        "it went on for {} tokens",
        out.tokens().len()
    );
    assert!(home.blobs().is_empty(), "{:?}", home.blobs());
    assert_eq!(consent(&node), None);
    assert!(node.permit::<RunAi>().is_err());
    let heard: Vec<Event> = std::iter::from_fn(|| events.next().now_or_never().flatten()).collect();
    assert!(
        heard.contains(&Event::ConsentChanged { purposes: vec![] }),
        "{heard:?}"
    );
    // Agreed again, everything begins anew.
    let record = consent_record(ALL, NOW);
    tell(&node, Origin::Panel, Command::Grant { record }).unwrap();
    assert!(load(&node, "m").is_ok());
    assert_eq!(home.http.requests().len(), 2);
}

#[test]
fn withdrawing_during_a_download_leaves_no_byte() {
    let file = model_file(4, 1);
    let home = Home::new(CatalogueBuilder::default().model("m", &file, &[URL]).deployment())
        .slow()
        .yielding();
    home.http.serve(URL, file);
    let node = home.agreed(ALL);
    let (begun, never) = (Cancel::new(), Cancel::new());
    let outlet = |chunk: Chunk| {
        if matches!(chunk, Chunk::Progress { progress } if progress.done > 0) {
            begun.cancel();
        }
    };
    let withdraw = async {
        begun.cancelled().await;
        node.dispatch(Origin::Panel, Command::Withdraw, &|_: Chunk| {}, &never)
            .await
    };
    let command = Command::LoadModel { model: None };
    let (loaded, done) = block_on(join(
        node.dispatch(Origin::Site, command, &outlet, &never),
        withdraw,
    ));
    assert_eq!(loaded.unwrap_err().code, ErrorCode::ConsentRequired);
    assert_eq!(done, Ok(Reply::Done));
    assert!(home.blobs().is_empty(), "{:?}", home.blobs());
}

#[test]
fn consent_that_expires_while_an_answer_runs_stops_it() {
    for by_wall_clock in [true, false] {
        let home = home();
        let node = home.node();
        let mut record = consent_record(ALL, NOW);
        record.expires_at_ms = NOW + 60_000;
        tell(&node, Origin::Panel, Command::Grant { record }).unwrap();
        let out = Collected::default();
        let outlet = |chunk: Chunk| {
            out.0.lock().unwrap().push(chunk);
            if out.tokens().len() == 5 {
                if by_wall_clock {
                    home.clock.set_unix_ms(NOW + 60_000);
                } else {
                    home.clock.advance(std::time::Duration::from_secs(61));
                    // Turning the wall clock back does not prolong consent.
                    home.clock.set_unix_ms(NOW);
                }
            }
        };
        let error = block_on(node.dispatch(Origin::Site, question(), &outlet, &Cancel::new())).unwrap_err();
        assert_eq!(error.code, ErrorCode::ConsentExpired);
        assert_eq!(out.tokens().len(), 5);
        home.clock.set_unix_ms(NOW);
        assert_eq!(
            tell(&node, Origin::Site, question()).unwrap_err().code,
            ErrorCode::ConsentExpired,
            "expired stays expired"
        );
    }
}

#[test]
fn expired_consent_is_not_restored_and_nothing_is_kept_under_it() {
    let home = home();
    load(&home.agreed(ALL), "m").unwrap();
    home.clock.advance(std::time::Duration::from_secs(31 * 24 * 3600));
    let reborn = home.node();
    assert_eq!(consent(&reborn), None);
    assert!(home.blobs().is_empty());
}

#[test]
fn taking_back_one_purpose_deletes_what_rested_on_it() {
    let home = home();
    let node = home.agreed(ALL);
    load(&node, "m").unwrap();
    let record = consent_record(&[Purpose::RunAi], NOW);
    tell(&node, Origin::Panel, Command::Grant { record }).unwrap();
    assert_eq!(home.blobs(), ["consent-limits.json", "consent.json"]);
    assert!(
        tell(&node, Origin::Site, question()).is_ok(),
        "running is still agreed to"
    );
}

#[test]
fn a_site_can_lower_the_caps_agreed_to_but_not_raise_them() {
    let home = home();
    let node = home.node();
    let limits = |cpu, memory, storage| ResourceLimits { cpu, memory, storage };
    let configure = |node: &KwaaiNetCore, origin, max_resources| {
        let config = NodeConfig {
            max_resources,
            ..NodeConfig::default()
        };
        tell(node, origin, Command::Configure { config }).unwrap();
        node.capabilities().limits
    };
    // Before consent a site may ask for anything; what is in force then is what the visitor sees and agrees to.
    assert_eq!(
        configure(&node, Origin::Site, limits(30, 500, 1000)),
        limits(30, 500, 1000)
    );
    let record = consent_record(ALL, NOW);
    tell(&node, Origin::Panel, Command::Grant { record }).unwrap();
    let mut events = node.events();
    assert_eq!(
        configure(&node, Origin::Site, limits(90, 400, 9000)),
        limits(30, 400, 1000)
    );
    let warned = events.next().now_or_never().flatten();
    assert!(
        matches!(&warned, Some(Event::Warning { message }) if message.contains("cpu:30")),
        "{warned:?}"
    );
    // The ceiling is what was agreed to, not what was last in force, and it outlives the node.
    assert_eq!(
        configure(&node, Origin::Site, limits(30, 500, 1000)),
        limits(30, 500, 1000)
    );
    let reborn = home.node();
    assert_eq!(
        configure(&reborn, Origin::Site, limits(100, 9999, 9999)),
        limits(30, 500, 1000)
    );
    assert_eq!(
        configure(&reborn, Origin::Panel, limits(60, 600, 2000)),
        limits(60, 600, 2000)
    );
    assert_eq!(
        configure(&reborn, Origin::Site, limits(50, 9999, 9999)),
        limits(50, 600, 2000)
    );
}

#[test]
fn nonsense_records_and_configurations_are_refused() {
    let home = home();
    let node = home.node();
    let mut record = consent_record(ALL, NOW);
    record.notice_digest = "none".into();
    let error = tell(&node, Origin::Panel, Command::Grant { record }).unwrap_err();
    assert_eq!(error.code, ErrorCode::BadRequest);
    let mut config = NodeConfig::default();
    config.max_resources.cpu = 0;
    let error = tell(&node, Origin::Site, Command::Configure { config }).unwrap_err();
    assert!(error.message.contains("cpu:0"), "{}", error.message);
    assert!(home.blobs().is_empty());
}

#[test]
fn where_storage_is_denied_consent_holds_for_this_visit() {
    let mut home = home();
    home.replace_store(DeniedStore);
    let node = home.node();
    let mut events = node.events();
    let record = consent_record(ALL, NOW);
    assert_eq!(
        tell(&node, Origin::Panel, Command::Grant { record }),
        Ok(Reply::Done)
    );
    let warned = events.next().now_or_never().flatten();
    assert!(matches!(warned, Some(Event::Warning { .. })), "{warned:?}");
    assert!(node.permit::<RunAi>().is_ok());
    assert_eq!(tell(&node, Origin::Panel, Command::Withdraw), Ok(Reply::Done));
}

#[test]
fn the_visitor_deletes_a_model() {
    let home = home();
    let node = home.agreed(ALL);
    load(&node, "m").unwrap();
    let model = "m".to_owned();
    assert_eq!(
        tell(&node, Origin::Panel, Command::DeleteModel { model }),
        Ok(Reply::Done)
    );
    assert_eq!(home.blobs(), ["consent-limits.json", "consent.json"]);
    let Ok(Reply::Models { models }) = tell(&node, Origin::Site, Command::Models) else {
        panic!("the models can be listed");
    };
    assert_eq!((models[0].stored_bytes, models[0].loaded), (0, false));
}
