//! Whether no value can be valid under two schemas: what `oneOf` needs, as far as it can be seen.

use super::json::Json;
use super::schema::is;

/// How deep it looks.
const DEEPEST: usize = 8;

/// True only when it is certain.
pub(super) fn disjoint(a: &Json, b: &Json) -> bool {
    at_depth(a, b, 0)
}

fn at_depth(a: &Json, b: &Json, depth: usize) -> bool {
    if depth > DEEPEST {
        return false;
    }
    if let (Some(left), Some(right)) = (values(a), values(b)) {
        // 1 and 1.0 are the same value.
        let same = |left: &Json, right: &Json| match (left, right) {
            (Json::Number(left), Json::Number(right)) => left.as_f64() == right.as_f64(),
            // Members may stand in another order.
            (Json::Object(_) | Json::List(_), Json::Object(_) | Json::List(_)) => true,
            _ => left == right,
        };
        return !left
            .iter()
            .any(|left| right.iter().any(|right| same(left, right)));
    }
    if let (Some(left), Some(right)) = (types(a), types(b)) {
        let overlap = |left: &str, right: &str| {
            left == right || matches!((left, right), ("integer", "number") | ("number", "integer"))
        };
        if !left
            .iter()
            .any(|left| right.iter().any(|right| overlap(left, right)))
        {
            return true;
        }
    }
    // Objects that both must have a member, whose values are disjoint.
    let object = |schema: &Json| schema.get("type").and_then(Json::text) == Some("object");
    let (Some(Json::Object(left)), Some(right)) = (a.get("properties"), b.get("properties")) else {
        return false;
    };
    object(a)
        && object(b)
        && left.iter().any(|(name, schema)| {
            requires(a, name)
                && requires(b, name)
                && right
                    .get(name)
                    .is_some_and(|other| at_depth(schema, other, depth.saturating_add(1)))
        })
}

fn requires(schema: &Json, name: &str) -> bool {
    matches!(schema.get("required"), Some(Json::List(names)) if names.iter().any(|other| other.text() == Some(name)))
}

fn values(schema: &Json) -> Option<&[Json]> {
    match (schema.get("enum"), schema.get("const")) {
        (Some(Json::List(values)), _) => Some(values),
        (_, Some(value)) => Some(std::slice::from_ref(value)),
        _ => None,
    }
}

fn types(schema: &Json) -> Option<Vec<&'static str>> {
    const NAMES: [&str; 7] = [
        "object", "array", "string", "integer", "number", "boolean", "null",
    ];
    let named = |name: &&'static str| match schema.get("type") {
        Some(Json::List(names)) => names.iter().any(|other| other.text() == Some(name)),
        Some(other) => other.text() == Some(name),
        None => values(schema).is_some_and(|values| values.iter().any(|value| is(value, name))),
    };
    let known = schema.get("type").is_some() || values(schema).is_some();
    known.then(|| NAMES.into_iter().filter(named).collect())
}
