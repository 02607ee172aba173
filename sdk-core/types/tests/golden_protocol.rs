//! The golden messages of tests/golden/protocol mean here what they mean in TypeScript (js/tests/golden.test.ts):
//! each is read without loss and written again as it was.

use std::collections::HashSet;
use std::path::Path;

use kwaainet_types::{Envelope, PROTOCOL_VERSION};
use serde_json::Value;

/// A number read as `5.0` and written as `5` is the same in JavaScript.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        _ => a == b,
    }
}

#[test]
fn golden_messages_are_read_and_written_as_they_are() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/protocol");
    let mut kinds = HashSet::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let golden: Value = serde_json::from_str(&text).unwrap();
        let envelope: Envelope =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path:?}: {error}"));
        assert_eq!(envelope.v, PROTOCOL_VERSION, "{path:?}");
        let written = serde_json::to_value(&envelope).unwrap();
        assert!(same(&golden, &written), "{path:?} is written as\n{written:#}");
        kinds.insert(std::mem::discriminant(&envelope.message));
    }
    assert_eq!(kinds.len(), 10, "there is a golden message of every kind");
}
