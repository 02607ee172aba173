//! GBNF, llama.cpp's notation for grammars:
//! <https://github.com/ggml-org/llama.cpp/blob/master/grammars/README.md>.

use super::error::GrammarError;
use super::expr::{Expr, Rules};

/// Longest text.
const LONGEST: usize = 256 << 10;
/// Deepest nesting of groups.
const DEEPEST: usize = 64;
/// Most repetitions of `{m,n}`.
pub(super) const MOST_REPEATS: u32 = 10_000;

/// Adds the rules of a text.
///
/// # Errors
/// [`GrammarError::Syntax`] with the line, [`GrammarError::TooLarge`].
pub(super) fn parse(text: &str, rules: &mut Rules) -> Result<(), GrammarError> {
    if text.len() > LONGEST {
        return Err(GrammarError::TooLarge("more than 256 KiB of text"));
    }
    let mut parser = Parser {
        rest: text,
        line: 1,
        rules,
    };
    parser.space(true);
    while !parser.rest.is_empty() {
        parser.rule()?;
        parser.space(true);
    }
    Ok(())
}

struct Parser<'t, 'r> {
    rest: &'t str,
    line: usize,
    rules: &'r mut Rules,
}

impl Parser<'_, '_> {
    fn wrong<T>(&self, reason: impl Into<String>) -> Result<T, GrammarError> {
        Err(GrammarError::Syntax {
            line: self.line,
            reason: reason.into(),
        })
    }

    fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let mut chars = self.rest.chars();
        let c = chars.next()?;
        self.rest = chars.as_str();
        if c == '\n' {
            self.line = self.line.saturating_add(1);
        }
        Some(c)
    }

    fn take(&mut self, expected: &str) -> bool {
        match self.rest.strip_prefix(expected) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    /// Skips blanks and comments, and line ends where a rule may go on behind them.
    fn space(&mut self, newlines: bool) {
        while let Some(c) = self.peek() {
            match c {
                ' ' | '\t' => {}
                '\r' | '\n' if newlines => {}
                '#' => {
                    while self.peek().is_some_and(|c| c != '\n') {
                        self.next();
                    }
                    continue;
                }
                _ => break,
            }
            self.next();
        }
    }

    fn name(&mut self) -> Option<String> {
        let end = self
            .rest
            .find(|c: char| !(c.is_ascii_alphanumeric() || c == '-'))
            .unwrap_or(self.rest.len());
        let (name, rest) = self
            .rest
            .split_at_checked(end)
            .filter(|(name, _)| !name.is_empty())?;
        self.rest = rest;
        Some(name.to_owned())
    }

    fn rule(&mut self) -> Result<(), GrammarError> {
        let Some(name) = self.name() else {
            return self.wrong("a rule begins with its name, of letters, digits and '-'");
        };
        self.space(false);
        if !self.take("::=") {
            return self.wrong(format!("::= must follow the name {name:?}"));
        }
        self.space(true);
        let body = self.choice(0)?;
        if !self.rest.is_empty() && !self.rest.starts_with(['\n', '\r']) {
            return self.wrong(format!(
                "{:?} is not expected here",
                self.peek().unwrap_or_default()
            ));
        }
        let number = self.rules.number(&name)?;
        if !self.rules.define(number, body) {
            return self.wrong(format!("the rule {name:?} is defined twice"));
        }
        Ok(())
    }

    fn choice(&mut self, depth: usize) -> Result<Expr, GrammarError> {
        let mut choices = vec![self.sequence(depth)?];
        while self.take("|") {
            self.space(true);
            choices.push(self.sequence(depth)?);
        }
        Ok(match choices.pop() {
            Some(only) if choices.is_empty() => only,
            last => {
                choices.extend(last);
                Expr::Choice(choices)
            }
        })
    }

    fn sequence(&mut self, depth: usize) -> Result<Expr, GrammarError> {
        let mut parts: Vec<Expr> = Vec::new();
        while let Some(c) = self.peek() {
            match c {
                '*' | '+' | '?' | '{' => {
                    let (min, max) = self.repeats(c)?;
                    match parts.pop() {
                        Some(part) => parts.push(Expr::Repeat(Box::new(part), min, max)),
                        None => return self.wrong(format!("there is nothing before {c:?} to repeat")),
                    }
                }
                _ => match self.part(c, depth)? {
                    Some(part) => parts.push(part),
                    None => break,
                },
            }
            self.space(depth > 0);
        }
        Ok(Expr::Sequence(parts))
    }

    fn part(&mut self, c: char, depth: usize) -> Result<Option<Expr>, GrammarError> {
        Ok(Some(match c {
            '"' => {
                self.next();
                let mut text = String::new();
                loop {
                    match self.peek() {
                        None | Some('\n') => return self.wrong("the text is not closed by \""),
                        Some('"') => break,
                        Some(_) => text.push(self.character()?),
                    }
                }
                self.next();
                Expr::Literal(text)
            }
            '[' => {
                self.next();
                self.class()?
            }
            '.' => {
                self.next();
                Expr::Class(vec![(0, u32::from(char::MAX))])
            }
            '(' => {
                if depth >= DEEPEST {
                    return Err(GrammarError::TooLarge("groups nested deeper than 64"));
                }
                self.next();
                self.space(true);
                let inner = self.choice(depth.saturating_add(1))?;
                if !self.take(")") {
                    return self.wrong("a group is not closed by )");
                }
                inner
            }
            _ => match self.name() {
                Some(name) => self.rules.refer(&name)?,
                None => return Ok(None),
            },
        }))
    }

    fn class(&mut self) -> Result<Expr, GrammarError> {
        let negated = self.take("^");
        let mut ranges = Vec::new();
        while !self.take("]") {
            let low = u32::from(self.character()?);
            let mut high = low;
            if self.rest.starts_with('-') && !self.rest.starts_with("-]") {
                self.next();
                high = u32::from(self.character()?);
            }
            if high < low {
                return self.wrong("a range of characters ends before it begins");
            }
            ranges.push((low, high));
        }
        Ok(Expr::Class(normalise(ranges, negated)))
    }

    fn character(&mut self) -> Result<char, GrammarError> {
        match self.next() {
            None | Some('\n') => self.wrong("a text or a class of characters is not closed"),
            Some('\\') => match self.next() {
                Some('n') => Ok('\n'),
                Some('r') => Ok('\r'),
                Some('t') => Ok('\t'),
                Some('x') => self.hex(2),
                Some('u') => self.hex(4),
                Some('U') => self.hex(8),
                Some(c @ ('\\' | '"' | '[' | ']')) => Ok(c),
                _ => self.wrong("an escape is one of \\n \\r \\t \\\\ \\\" \\[ \\] \\x \\u \\U"),
            },
            Some(c) => Ok(c),
        }
    }

    fn hex(&mut self, digits: usize) -> Result<char, GrammarError> {
        let number = self
            .rest
            .get(..digits)
            .filter(|text| text.chars().all(|c| c.is_ascii_hexdigit()));
        let code = number.and_then(|text| u32::from_str_radix(text, 16).ok());
        let Some(c) = code.and_then(char::from_u32) else {
            return self.wrong(format!("{digits} hexadecimal digits of a character must follow"));
        };
        self.rest = self.rest.get(digits..).unwrap_or_default();
        Ok(c)
    }

    fn repeats(&mut self, sign: char) -> Result<(u32, Option<u32>), GrammarError> {
        self.next();
        match sign {
            '*' => return Ok((0, None)),
            '+' => return Ok((1, None)),
            '?' => return Ok((0, Some(1))),
            _ => {}
        }
        let min = self.count()?;
        let max = if self.take(",") {
            self.space(true);
            if self.rest.starts_with('}') {
                None
            } else {
                Some(self.count()?)
            }
        } else {
            Some(min)
        };
        if !self.take("}") || max.is_some_and(|max| max < min) {
            return self.wrong("repetitions are written {m}, {m,} or {m,n} with m up to n");
        }
        Ok((min, max))
    }

    fn count(&mut self) -> Result<u32, GrammarError> {
        self.space(true);
        let end = self
            .rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(self.rest.len());
        let count = self.rest.get(..end).and_then(|digits| digits.parse::<u32>().ok());
        let Some(count) = count.filter(|count| *count <= MOST_REPEATS) else {
            return self.wrong("a number of repetitions, up to 10000, must follow");
        };
        self.rest = self.rest.get(end..).unwrap_or_default();
        self.space(true);
        Ok(count)
    }
}

/// The ranges, or everything else, sorted and without overlaps.
fn normalise(mut ranges: Vec<(u32, u32)>, negated: bool) -> Vec<(u32, u32)> {
    ranges.sort_unstable();
    let mut merged: Vec<(u32, u32)> = Vec::with_capacity(ranges.len());
    for (low, high) in ranges {
        match merged.last_mut() {
            Some(last) if low <= last.1.saturating_add(1) => last.1 = last.1.max(high),
            _ => merged.push((low, high)),
        }
    }
    if !negated {
        return merged;
    }
    let mut rest = Vec::with_capacity(merged.len().saturating_add(1));
    let mut from = 0;
    for (low, high) in merged {
        if low > from {
            rest.push((from, low - 1));
        }
        from = high.saturating_add(1);
    }
    if from <= u32::from(char::MAX) {
        rest.push((from, u32::from(char::MAX)));
    }
    rest
}
