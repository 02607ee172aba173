//! Rules as a flat machine over bytes: Thompson's construction (1968) with calls.

use std::collections::HashMap;

use super::error::GrammarError;
use super::expr::Expr;
use super::utf8;

/// Most nodes of a machine.
const MOST_NODES: usize = 200_000;
/// The node at which a rule is complete.
pub(super) const RETURN: u32 = 0;

/// A set of bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct ByteSet([u64; 4]);

impl ByteSet {
    fn range(low: u8, high: u8) -> Self {
        let mut set = [0; 4];
        for byte in low..=high {
            if let Some(word) = set.get_mut(usize::from(byte >> 6)) {
                *word |= 1 << (byte & 63);
            }
        }
        Self(set)
    }

    pub(super) fn contains(&self, byte: u8) -> bool {
        self.0
            .get(usize::from(byte >> 6))
            .is_some_and(|word| word >> (byte & 63) & 1 == 1)
    }
}

/// One node; the numbers are those of other nodes.
#[derive(Debug, Clone)]
pub(super) enum Node {
    /// The rule is complete.
    Return,
    /// Reads one byte of the set.
    Byte(ByteSet, u32),
    /// Goes on at any of these.
    Fork(Box<[u32]>),
    /// Follows a rule, and then goes on.
    Call(usize, u32),
}

/// The machine.
#[derive(Debug, Clone)]
pub(super) struct Program {
    pub(super) nodes: Vec<Node>,
    /// Where each rule begins.
    pub(super) starts: Vec<u32>,
    pub(super) root: usize,
}

impl Program {
    /// The machine of rules that were checked.
    ///
    /// # Errors
    /// [`GrammarError::TooLarge`].
    pub(super) fn new(rules: &[Expr], root: usize) -> Result<Self, GrammarError> {
        let mut builder = Builder {
            nodes: vec![Node::Return],
            // Parts that are repeated become rules of their own, behind the named ones.
            extra: Vec::new(),
            named: rules.len(),
            classes: HashMap::new(),
        };
        let mut starts = Vec::with_capacity(rules.len());
        for rule in rules {
            starts.push(builder.expr(rule, RETURN)?);
        }
        starts.append(&mut builder.extra);
        Ok(Self {
            nodes: builder.nodes,
            starts,
            root,
        })
    }
}

struct Builder {
    nodes: Vec<Node>,
    extra: Vec<u32>,
    named: usize,
    classes: HashMap<Vec<(u32, u32)>, usize>,
}

impl Builder {
    fn add(&mut self, node: Node) -> Result<u32, GrammarError> {
        if self.nodes.len() >= MOST_NODES {
            return Err(GrammarError::TooLarge("more than 200,000 states"));
        }
        self.nodes.push(node);
        Ok((self.nodes.len() - 1) as u32)
    }

    /// The node where the expression begins, when `next` is what follows it.
    fn expr(&mut self, expr: &Expr, next: u32) -> Result<u32, GrammarError> {
        match expr {
            Expr::Rule(number) => self.add(Node::Call(*number, next)),
            Expr::Literal(text) => text.bytes().rev().try_fold(next, |next, byte| {
                self.add(Node::Byte(ByteSet::range(byte, byte), next))
            }),
            Expr::Class(ranges) => self.class(ranges, next),
            Expr::Sequence(parts) => parts
                .iter()
                .rev()
                .try_fold(next, |next, part| self.expr(part, next)),
            Expr::Choice(parts) => {
                let ways: Result<Vec<_>, _> = parts.iter().map(|part| self.expr(part, next)).collect();
                self.add(Node::Fork(ways?.into()))
            }
            Expr::Repeat(part, min, max) => self.repeat(part, *min, *max, next),
        }
    }

    fn repeat(&mut self, part: &Expr, min: u32, max: Option<u32>, next: u32) -> Result<u32, GrammarError> {
        let copies = max.unwrap_or_else(|| min.saturating_add(1));
        let part = match part {
            Expr::Rule(_) | Expr::Class(_) => part.clone(),
            _ if copies < 2 => part.clone(),
            _ => self.hoist(part)?,
        };
        let mut entry = next;
        match max {
            None => {
                let fork = self.add(Node::Fork(Box::default()))?;
                let body = self.expr(&part, fork)?;
                if let Some(place) = self.nodes.get_mut(fork as usize) {
                    *place = Node::Fork([body, next].into());
                }
                entry = fork;
            }
            Some(max) => {
                for _ in min..max {
                    let body = self.expr(&part, entry)?;
                    entry = self.add(Node::Fork([body, next].into()))?;
                }
            }
        }
        for _ in 0..min {
            entry = self.expr(&part, entry)?;
        }
        Ok(entry)
    }

    fn hoist(&mut self, part: &Expr) -> Result<Expr, GrammarError> {
        let start = self.expr(part, RETURN)?;
        self.extra.push(start);
        Ok(Expr::Rule(self.named + self.extra.len() - 1))
    }

    fn class(&mut self, ranges: &[(u32, u32)], next: u32) -> Result<u32, GrammarError> {
        if ranges.iter().all(|range| range.1 <= 0x7f) {
            return self.ascii(ranges, next);
        }
        // Characters of several bytes: one rule for all places where this class stands.
        if let Some(rule) = self.classes.get(ranges) {
            let rule = *rule;
            return self.add(Node::Call(rule, next));
        }
        let mut ways = Vec::new();
        let ascii: Vec<_> = ranges
            .iter()
            .filter(|range| range.0 <= 0x7f)
            .map(|range| (range.0, range.1.min(0x7f)))
            .collect();
        if !ascii.is_empty() {
            ways.push(self.ascii(&ascii, RETURN)?);
        }
        let mut sequences = Vec::new();
        for (low, high) in ranges {
            utf8::sequences((*low).max(0x80), *high, &mut sequences);
        }
        for sequence in sequences {
            let way = sequence.into_iter().rev().try_fold(RETURN, |next, (low, high)| {
                self.add(Node::Byte(ByteSet::range(low, high), next))
            })?;
            ways.push(way);
        }
        let start = self.add(Node::Fork(ways.into()))?;
        self.extra.push(start);
        let rule = self.named + self.extra.len() - 1;
        self.classes.insert(ranges.to_vec(), rule);
        self.add(Node::Call(rule, next))
    }

    fn ascii(&mut self, ranges: &[(u32, u32)], next: u32) -> Result<u32, GrammarError> {
        let mut set = ByteSet([0; 4]);
        for (low, high) in ranges {
            for byte in *low..=*high {
                if let Some(word) = set.0.get_mut((byte >> 6) as usize) {
                    *word |= 1 << (byte & 63);
                }
            }
        }
        self.add(Node::Byte(set, next))
    }
}
