//! Answers that follow a grammar: a JSON schema, or rules in GBNF.
//!
//! A grammar becomes a machine over bytes. In front of each token it tells which tokens of the vocabulary go on, and only
//! those can be chosen. What it costs is kept off the way from logits to token: the vocabulary is sorted once for each model,
//! masks and the steps between places are remembered, and a greedy choice that the grammar allows anyway needs no mask.

mod disjoint;
mod error;
mod expr;
mod gbnf;
mod json;
mod matcher;
mod number;
mod program;
mod schema;
#[cfg(test)]
mod tests;
mod utf8;
mod vocabulary;

use std::fmt;
use std::sync::Arc;

pub use error::GrammarError;
pub(crate) use json::{Json, quote};
pub(crate) use matcher::Matcher;
pub(crate) use vocabulary::Vocabulary;

use expr::Rules;
use program::Program;

/// What an answer must follow.
///
/// ```
/// use kwaainet_engine::Grammar;
/// let yes_or_no = Grammar::from_gbnf(r#"root ::= "yes" | "no""#)?;
/// assert!(yes_or_no.allows("no")? && !yes_or_no.allows("maybe")?);
///
/// let schema = r#"{ "type": "object", "properties": { "age": { "type": "integer", "minimum": 0 } },
///     "required": ["age"], "additionalProperties": false }"#;
/// let person = Grammar::from_json_schema(schema)?;
/// assert!(person.allows(r#"{"age": 7}"#)? && !person.allows(r#"{"age": -7}"#)?);
/// # Ok::<(), kwaainet_engine::GrammarError>(())
/// ```
#[derive(Clone)]
pub struct Grammar {
    program: Arc<Program>,
}

impl fmt::Debug for Grammar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grammar")
            .field("states", &self.program.nodes.len())
            .finish_non_exhaustive()
    }
}

impl PartialEq for Grammar {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.program, &other.program)
    }
}

impl Grammar {
    /// A grammar in GBNF, which llama.cpp reads too. Its first rule to follow is `root`.
    ///
    /// # Errors
    /// [`GrammarError`] that says what to change.
    pub fn from_gbnf(text: &str) -> Result<Self, GrammarError> {
        let mut rules = Rules::default();
        gbnf::parse(text, &mut rules)?;
        let root = rules.number("root")?;
        Self::new(&rules.finish()?, root)
    }

    /// A grammar of JSON texts that are valid under a schema. Not all of them: optional members come in the order in which
    /// they are declared, members that are allowed and not declared are not written, and a number's bounds are drawn in to
    /// whole numbers.
    ///
    /// # Errors
    /// [`GrammarError::Schema`] with the place of what cannot be enforced.
    pub fn from_json_schema(schema: &str) -> Result<Self, GrammarError> {
        let mut rules = schema::parts()?;
        let root = schema::add(schema, "schema", &mut rules)?;
        Self::new(&rules.finish()?, root)
    }

    /// A grammar in GBNF that may use, by their names, the parts of JSON (`json.gbnf`) and these schemas.
    ///
    /// # Errors
    /// As [`Self::from_gbnf`] and [`Self::from_json_schema`].
    pub(crate) fn with_schemas(text: &str, schemas: &[(String, &str)]) -> Result<Self, GrammarError> {
        let mut rules = schema::parts()?;
        for (name, schema) in schemas {
            schema::add(schema, name, &mut rules)?;
        }
        gbnf::parse(text, &mut rules)?;
        let root = rules.number("root")?;
        Self::new(&rules.finish()?, root)
    }

    fn new(rules: &[expr::Expr], root: usize) -> Result<Self, GrammarError> {
        Ok(Self {
            program: Arc::new(Program::new(rules, root)?),
        })
    }

    /// Whether the text follows the grammar and is complete.
    ///
    /// # Errors
    /// [`GrammarError::TooAmbiguous`].
    pub fn allows(&self, text: &str) -> Result<bool, GrammarError> {
        let mut matcher = self.matcher()?;
        Ok(matcher.accept(text.as_bytes())? && matcher.is_complete())
    }

    pub(crate) fn matcher(&self) -> Result<Matcher, GrammarError> {
        Matcher::new(Arc::clone(&self.program))
    }
}
