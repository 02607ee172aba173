//! Rules as a tree, which both GBNF and schemas become, and the checks that make following them finite.

use std::collections::HashMap;

use super::error::GrammarError;

/// Most rules.
const MOST_RULES: usize = 4096;

/// What a rule, or a part of one, stands for.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Expr {
    /// Exactly this text.
    Literal(String),
    /// One character of these ranges of code points; the ranges do not touch.
    Class(Vec<(u32, u32)>),
    /// One after the other.
    Sequence(Vec<Expr>),
    /// One of them.
    Choice(Vec<Expr>),
    /// From so many to so many times; without an end when there is none.
    Repeat(Box<Expr>, u32, Option<u32>),
    /// What another rule stands for.
    Rule(usize),
}

impl Expr {
    pub(super) fn literal(text: impl Into<String>) -> Self {
        Self::Literal(text.into())
    }

    pub(super) fn optional(self) -> Self {
        Self::Repeat(Box::new(self), 0, Some(1))
    }
}

/// Rules that refer to one another by number.
#[derive(Debug, Default)]
pub(super) struct Rules {
    names: Vec<String>,
    bodies: Vec<Option<Expr>>,
    numbers: HashMap<String, usize>,
}

impl Rules {
    /// The number of a rule that is, or will be, defined.
    pub(super) fn number(&mut self, name: &str) -> Result<usize, GrammarError> {
        if let Some(number) = self.numbers.get(name) {
            return Ok(*number);
        }
        if self.names.len() >= MOST_RULES {
            return Err(GrammarError::TooLarge("more than 4096 rules"));
        }
        let number = self.names.len();
        self.names.push(name.to_owned());
        self.bodies.push(None);
        self.numbers.insert(name.to_owned(), number);
        Ok(number)
    }

    /// A reference to a rule.
    pub(super) fn refer(&mut self, name: &str) -> Result<Expr, GrammarError> {
        self.number(name).map(Expr::Rule)
    }

    /// Whether a rule has this name.
    pub(super) fn knows(&self, name: &str) -> bool {
        self.numbers.contains_key(name)
    }

    /// Sets what the rule stands for; false when that is said already.
    pub(super) fn define(&mut self, number: usize, body: Expr) -> bool {
        match self.bodies.get_mut(number) {
            Some(place @ None) => {
                *place = Some(body);
                true
            }
            _ => false,
        }
    }

    /// The rules, in order of their numbers.
    ///
    /// # Errors
    /// [`GrammarError::Rule`] for one that is not defined, that begins with itself (following it would not end), or that
    /// no text can complete.
    pub(super) fn finish(self) -> Result<Vec<Expr>, GrammarError> {
        let Self { names, bodies, .. } = self;
        let wrong = |number: usize, reason| GrammarError::Rule {
            rule: names.get(number).cloned().unwrap_or_default(),
            reason,
        };
        let mut rules = Vec::with_capacity(bodies.len());
        for (number, body) in bodies.into_iter().enumerate() {
            rules.push(body.ok_or_else(|| wrong(number, "is used and not defined"))?);
        }
        let ends = fixpoint(&rules, |rule, ends| can(rule, ends, &|_| true));
        if let Some(number) = ends.iter().position(|ends| !ends) {
            return Err(wrong(number, "can never be completed"));
        }
        let empty = fixpoint(&rules, |rule, empty| {
            can(
                rule,
                empty,
                &|leaf| matches!(leaf, Expr::Literal(text) if text.is_empty()),
            )
        });
        if let Some(number) = begins_with_itself(&rules, &empty) {
            return Err(wrong(
                number,
                "begins with itself (left recursion): write it with a repetition instead",
            ));
        }
        Ok(rules)
    }
}

/// The least set of rules that `step` finds to have a property, given those already found.
fn fixpoint(rules: &[Expr], step: impl Fn(&Expr, &[bool]) -> bool) -> Vec<bool> {
    let mut found = vec![false; rules.len()];
    loop {
        let mut grew = false;
        for (number, rule) in rules.iter().enumerate() {
            if found.get(number) == Some(&false) && step(rule, &found) {
                if let Some(place) = found.get_mut(number) {
                    *place = true;
                }
                grew = true;
            }
        }
        if !grew {
            return found;
        }
    }
}

/// Whether the expression has a property that leaves have by themselves, sequences when all parts have it, and choices
/// when one has it.
fn can(expr: &Expr, rules: &[bool], leaf: &dyn Fn(&Expr) -> bool) -> bool {
    match expr {
        Expr::Class(ranges) if ranges.is_empty() => false,
        Expr::Literal(_) | Expr::Class(_) => leaf(expr),
        Expr::Sequence(parts) => parts.iter().all(|part| can(part, rules, leaf)),
        Expr::Choice(parts) => parts.iter().any(|part| can(part, rules, leaf)),
        Expr::Repeat(part, min, _) => *min == 0 || can(part, rules, leaf),
        Expr::Rule(number) => rules.get(*number).copied().unwrap_or(false),
    }
}

/// A rule that can call itself before it has read anything: what is left when rules without such calls are taken away, one
/// after the other (Kahn 1962).
fn begins_with_itself(rules: &[Expr], empty: &[bool]) -> Option<usize> {
    let mut callers: Vec<Vec<usize>> = vec![Vec::new(); rules.len()];
    let mut calls = vec![0_usize; rules.len()];
    for (number, rule) in rules.iter().enumerate() {
        let mut first = Vec::new();
        first_calls(rule, empty, &mut first);
        for callee in first {
            if let (Some(callers), Some(count)) = (callers.get_mut(callee), calls.get_mut(number)) {
                callers.push(number);
                *count += 1;
            }
        }
    }
    let mut free: Vec<usize> = (0..rules.len())
        .filter(|number| calls.get(*number) == Some(&0))
        .collect();
    while let Some(number) = free.pop() {
        for caller in callers.get(number).into_iter().flatten() {
            if let Some(count) = calls.get_mut(*caller) {
                *count -= 1;
                if *count == 0 {
                    free.push(*caller);
                }
            }
        }
    }
    calls.iter().position(|count| *count > 0)
}

fn first_calls(expr: &Expr, empty: &[bool], out: &mut Vec<usize>) {
    match expr {
        Expr::Literal(_) | Expr::Class(_) => {}
        Expr::Rule(number) => out.push(*number),
        Expr::Repeat(part, ..) => first_calls(part, empty, out),
        Expr::Choice(parts) => parts.iter().for_each(|part| first_calls(part, empty, out)),
        Expr::Sequence(parts) => {
            for part in parts {
                first_calls(part, empty, out);
                if !can(
                    part,
                    empty,
                    &|leaf| matches!(leaf, Expr::Literal(text) if text.is_empty()),
                ) {
                    break;
                }
            }
        }
    }
}
