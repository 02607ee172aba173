//! What can be wrong with a grammar, or with a schema to make one from.

/// Why there is no grammar, or no next token under it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GrammarError {
    /// The grammar's text cannot be read.
    #[error("the grammar cannot be read at line {line}: {reason}")]
    Syntax {
        /// Line, from 1.
        line: usize,
        /// What is wrong.
        reason: String,
    },
    /// A rule that cannot be used.
    #[error("the rule {rule:?} of the grammar {reason}")]
    Rule {
        /// Its name.
        rule: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The schema is not JSON.
    #[error("the schema is not JSON: {0}")]
    Json(String),
    /// A part of the schema that cannot be enforced, which is not the same as ignored.
    #[error("the schema cannot be enforced at {pointer:?}: {reason}")]
    Schema {
        /// JSON pointer (RFC 6901) of the part.
        pointer: String,
        /// Why not.
        reason: String,
    },
    /// Larger than what is accepted.
    #[error("the grammar is too large ({0}): make it simpler")]
    TooLarge(&'static str),
    /// So ambiguous that following it takes too much work.
    #[error("the grammar is too ambiguous to follow: make its rules decide earlier")]
    TooAmbiguous,
    /// The vocabulary has no token that goes on, and the text is not complete.
    #[error("no token of this model can continue the text under the grammar")]
    NoToken,
    /// Tokens of an interrupted answer that the grammar forbids.
    #[error(
        "the tokens to resume from do not follow the grammar: resume with the options of the first request"
    )]
    WrongResume,
}
