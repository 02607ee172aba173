//! What is a message of the protocol and what is not. (Each one's exact form: golden_protocol.rs.)

use std::collections::BTreeSet;
use std::path::Path;

use kwaainet_types::Envelope;
use serde_json::Value;

/// Kind and type of everything that can be said. Adding to the protocol means adding a golden file.
const SAID: [&str; 32] = [
    "cancel",
    "chunk delta",
    "chunk progress",
    "command capabilities",
    "command chat",
    "command configure",
    "command consent",
    "command deleteModel",
    "command grant",
    "command joinNetwork",
    "command leaveNetwork",
    "command loadModel",
    "command models",
    "command network",
    "command withdraw",
    "error",
    "event consentChanged",
    "event modelChanged",
    "event networkChanged",
    "event progress",
    "event warning",
    "hello",
    "ping",
    "pong",
    "reply capabilities",
    "reply chat",
    "reply consent",
    "reply done",
    "reply loaded",
    "reply models",
    "reply network",
    "welcome",
];

#[test]
fn there_is_a_golden_file_for_everything_that_can_be_said() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/protocol");
    let mut said = BTreeSet::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let text = std::fs::read_to_string(entry.unwrap().path()).unwrap();
        let message: Value = serde_json::from_str(&text).unwrap();
        let kind = message["kind"].as_str().unwrap();
        let body = message["body"]["type"].as_str().unwrap_or_default();
        said.insert(format!("{kind} {body}").trim().to_owned());
    }
    assert_eq!(said, SAID.iter().map(|name| (*name).to_owned()).collect());
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
