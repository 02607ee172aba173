//! JSON schemas as grammars: every text that the grammar allows is valid under the schema.
//!
//! The other direction does not hold, where it need not: optional members come in the order in which they are declared,
//! members that are allowed and not declared are not written, and bounds of numbers are drawn in to whole numbers.
//! What cannot be enforced is an error that names the place.

mod containers;
mod scalars;

use std::collections::HashMap;

use super::disjoint::disjoint;
use super::error::GrammarError;
use super::expr::{Expr, Rules};
use super::gbnf;
use super::json::Json;

/// Longest schema.
const LONGEST: usize = 256 << 10;
/// Deepest nesting of schemas.
const DEEPEST: usize = 64;
/// Keywords that say nothing about what is valid.
const ANNOTATIONS: [&str; 12] = [
    "title",
    "description",
    "default",
    "examples",
    "$comment",
    "$schema",
    "$id",
    "deprecated",
    "readOnly",
    "writeOnly",
    "$defs",
    "definitions",
];
/// What may stand beside which type.
const OF_TYPES: [(&str, &[&str]); 6] = [
    ("object", &["properties", "required", "additionalProperties"]),
    ("array", &["items", "prefixItems", "minItems", "maxItems"]),
    ("string", &["minLength", "maxLength", "format"]),
    ("integer", BOUNDS),
    ("number", BOUNDS),
    ("null", &[]),
];
const BOUNDS: &[&str] = &["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"];
/// The parts of JSON.
const PARTS: &str = include_str!("json.gbnf");

/// Rules for the parts of JSON, which those of schemas refer to.
pub(super) fn parts() -> Result<Rules, GrammarError> {
    let mut rules = Rules::default();
    gbnf::parse(PARTS, &mut rules)?;
    Ok(rules)
}

/// Adds the rules of a schema; the first one gets this name.
///
/// # Errors
/// [`GrammarError::Schema`] naming what cannot be enforced, [`GrammarError::Json`].
pub(super) fn add(text: &str, name: &str, rules: &mut Rules) -> Result<usize, GrammarError> {
    if text.len() > LONGEST {
        return Err(GrammarError::TooLarge("more than 256 KiB of schema"));
    }
    let root: Json = serde_json::from_str(text).map_err(|error| GrammarError::Json(error.to_string()))?;
    let number = rules.number(name)?;
    let mut compiler = Compiler {
        root: &root,
        name,
        rules,
        references: HashMap::new(),
    };
    let body = compiler.reference("#", &Place::default())?;
    rules.define(number, body);
    Ok(number)
}

/// Where in the schema.
#[derive(Debug, Clone, Default)]
struct Place {
    pointer: String,
    depth: usize,
}

impl Place {
    fn child(&self, key: &str) -> Self {
        let key = key.replace('~', "~0").replace('/', "~1");
        Self {
            pointer: format!("{}/{key}", self.pointer),
            depth: self.depth.saturating_add(1),
        }
    }

    fn wrong<T>(&self, reason: impl Into<String>) -> Result<T, GrammarError> {
        Err(GrammarError::Schema {
            pointer: self.pointer.clone(),
            reason: reason.into(),
        })
    }
}

struct Compiler<'s, 'r> {
    root: &'s Json,
    /// Of the schema among others.
    name: &'r str,
    rules: &'r mut Rules,
    /// Rules of the schemas that were referred to.
    references: HashMap<String, usize>,
}

impl<'s> Compiler<'s, '_> {
    fn reference(&mut self, target: &str, place: &Place) -> Result<Expr, GrammarError> {
        let Some(pointer) = target.strip_prefix('#') else {
            return place.wrong(format!("$ref {target:?} is outside this schema"));
        };
        if let Some(number) = self.references.get(pointer) {
            return Ok(Expr::Rule(*number));
        }
        let Some(schema) = find(self.root, pointer) else {
            return place.wrong(format!("$ref {target:?} points to nothing"));
        };
        let number = self.rules.number(&format!("{} {target}", self.name))?;
        self.references.insert(pointer.to_owned(), number);
        let place = Place {
            pointer: pointer.to_owned(),
            depth: place.depth.saturating_add(1),
        };
        let body = self.schema(schema, &place)?;
        self.rules.define(number, body);
        Ok(Expr::Rule(number))
    }

    fn schema(&mut self, schema: &'s Json, place: &Place) -> Result<Expr, GrammarError> {
        if place.depth > DEEPEST {
            return place.wrong("it is nested deeper than 64");
        }
        let fields = match schema {
            Json::Bool(true) => return self.rules.refer("j-any"),
            Json::Bool(false) => return place.wrong("nothing is valid under the schema false"),
            Json::Object(fields) => fields,
            _ => return place.wrong("a schema is an object, true or false"),
        };
        let assertions: Vec<&(String, Json)> = fields
            .iter()
            .filter(|(key, _)| !ANNOTATIONS.contains(&key.as_str()))
            .collect();
        match assertions.as_slice() {
            [] => return self.rules.refer("j-any"),
            [(key, value)] if key == "$ref" => {
                let Some(target) = value.text() else {
                    return place.wrong("$ref must be a string");
                };
                return self.reference(target, place);
            }
            [(key, Json::List(schemas))] if key == "anyOf" || key == "oneOf" || key == "allOf" => {
                return self.combine(key, schemas, &place.child(key));
            }
            _ => {}
        }
        let types = types(schema, place)?;
        for key in ["enum", "const"] {
            if let Some(value) = schema.get(key) {
                let values = match value {
                    Json::List(values) if key == "enum" => values.as_slice(),
                    _ if key == "enum" => return place.wrong("enum must be a list"),
                    value => std::slice::from_ref(value),
                };
                if assertions
                    .iter()
                    .any(|(other, _)| other != key && other != "type")
                {
                    return place.wrong(format!("{key} cannot be combined with other keywords than type"));
                }
                let fits = |value: &&Json| types.is_empty() || types.iter().any(|name| is(value, name));
                let ways: Vec<_> = values
                    .iter()
                    .filter(fits)
                    .map(|value| Expr::Literal(value.write()))
                    .collect();
                if ways.is_empty() {
                    return place.wrong(format!("no value of {key} has the type that is asked for"));
                }
                return Ok(Expr::Choice(ways));
            }
        }
        let types = if types.is_empty() {
            implied(&assertions)
        } else {
            types
        };
        for (key, _) in &assertions {
            let known = key == "type" || types.iter().any(|name| keywords(name).contains(&key.as_str()));
            if !known {
                return place.wrong(format!("the keyword {key:?} is not supported here"));
            }
        }
        let ways: Result<Vec<_>, _> = types
            .iter()
            .map(|name| self.of_type(name, schema, place))
            .collect();
        Ok(Expr::Choice(ways?))
    }

    fn combine(&mut self, key: &str, schemas: &'s [Json], place: &Place) -> Result<Expr, GrammarError> {
        if schemas.is_empty() {
            return place.wrong(format!("{key} must not be empty"));
        }
        if key == "allOf" && schemas.len() > 1 {
            return place.wrong("allOf is supported with one schema only: merge them");
        }
        if key == "oneOf" {
            for (index, schema) in schemas.iter().enumerate() {
                let others = schemas.iter().skip(index.saturating_add(1));
                if !others.into_iter().all(|other| disjoint(schema, other)) {
                    return place.wrong(
                        "a value could be valid under two schemas of oneOf: use anyOf, or give each a property with another const",
                    );
                }
            }
        }
        let ways = schemas.iter().enumerate();
        let ways: Result<Vec<_>, _> = ways
            .map(|(index, schema)| self.schema(schema, &place.child(&index.to_string())))
            .collect();
        Ok(Expr::Choice(ways?))
    }

    fn of_type(&mut self, name: &str, schema: &'s Json, place: &Place) -> Result<Expr, GrammarError> {
        match name {
            "object" => self.object(schema, place),
            "array" => self.array(schema, place),
            "string" => self.string(schema, place),
            "integer" | "number" => self.number(name, schema, place),
            "boolean" => self.rules.refer("j-boolean"),
            _ => self.rules.refer("j-null"),
        }
    }

    /// The expression as a rule, so that it can stand in several places. The same place of a schema gives one rule,
    /// however many references lead there.
    fn shared(&mut self, place: &str, part: &str, body: Expr) -> Result<Expr, GrammarError> {
        let mut name = format!("{} {place} {part}", self.name);
        while self.rules.knows(&name) {
            name.push('\'');
        }
        let number = self.rules.number(&name)?;
        self.rules.define(number, body);
        Ok(Expr::Rule(number))
    }
}

fn keywords(name: &str) -> &'static [&'static str] {
    OF_TYPES
        .iter()
        .find(|(of, _)| *of == name)
        .map_or(&[], |(_, keywords)| keywords)
}

/// The types that a schema names; none when it names none.
fn types<'s>(schema: &'s Json, place: &Place) -> Result<Vec<&'s str>, GrammarError> {
    let names = match schema.get("type") {
        None => return Ok(Vec::new()),
        Some(Json::List(names)) => names.as_slice(),
        Some(name) => std::slice::from_ref(name),
    };
    let known = |name: &str| name == "boolean" || OF_TYPES.iter().any(|(of, _)| *of == name);
    let names: Option<Vec<_>> = names
        .iter()
        .map(|name| name.text().filter(|name| known(name)))
        .collect();
    match names {
        Some(names) if !names.is_empty() => Ok(names),
        _ => {
            place.wrong("type is one or several of object, array, string, number, integer, boolean and null")
        }
    }
}

/// The type whose keywords are used where none is named: other types would be valid too, but this one is meant.
fn implied(assertions: &[&(String, Json)]) -> Vec<&'static str> {
    let uses = |name: &&str| {
        assertions
            .iter()
            .any(|(key, _)| keywords(name).contains(&key.as_str()))
    };
    ["object", "array", "string", "number"]
        .into_iter()
        .filter(uses)
        .take(1)
        .collect()
}

pub(super) fn is(value: &Json, name: &str) -> bool {
    match value {
        Json::Null => name == "null",
        Json::Bool(_) => name == "boolean",
        Json::Text(_) => name == "string",
        Json::List(_) => name == "array",
        Json::Object(_) => name == "object",
        Json::Number(number) => {
            name == "number"
                || name == "integer" && number.as_f64().is_some_and(|number| number.fract() == 0.0)
        }
    }
}

fn count(schema: &Json, key: &str, place: &Place) -> Result<Option<u32>, GrammarError> {
    match schema.get(key) {
        None => Ok(None),
        Some(Json::Number(number)) => match number.as_u64().and_then(|count| u32::try_from(count).ok()) {
            Some(count) if count <= gbnf::MOST_REPEATS => Ok(Some(count)),
            _ => place.wrong(format!("{key} must be a whole number up to 10000")),
        },
        Some(_) => place.wrong(format!("{key} must be a number")),
    }
}

fn find<'s>(root: &'s Json, pointer: &str) -> Option<&'s Json> {
    let mut parts = pointer.split('/');
    if parts.next() != Some("") {
        return None;
    }
    parts.try_fold(root, |at, part| {
        let part = part.replace("~1", "/").replace("~0", "~");
        match at {
            Json::List(items) => items.get(part.parse::<usize>().ok()?),
            at => at.get(&part),
        }
    })
}
