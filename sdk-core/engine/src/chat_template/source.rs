//! Checks and small rewritings of a template's source, before minijinja sees it.
//!
//! - bounds the source, the size of one tag, its brackets and the length of `elif` chains: minijinja's parser and
//!   code generator walk these recursively;
//! - passes whatever a name is bound to through `__keep`, which bounds its size and nesting (see `functions.rs`):
//!   `{% set x = … %}` becomes `{% set x = __keep((…)) %}`, `{% set n.x = … %}` becomes `{% set n.x =
//!   __keep((…), true) %}`, `{% for x in … %}` becomes `{% for x in __keep((…)) %}`, and a macro begins with
//!   keeping its arguments. What one tag makes of such values is then bounded by the size of the tag;
//! - refuses `*` unless one side is a string literal, because a repeated list costs nothing until it is used;
//! - `{% generation %}` of Hugging Face's training templates becomes `{% if true %}`.

use super::TemplateError;

/// The longest of those templates has 16,714 bytes.
const LONGEST_SOURCE: usize = 128 << 10;
/// Characters of one tag, strings not counted. The longest in 71 templates of llama.cpp's collection has 224.
pub(super) const LONGEST_TAG: usize = 600;
/// Brackets open at the same time in one tag. Real tags have up to 4.
const DEEPEST_BRACKETS: usize = 12;
/// Blocks inside blocks. Real templates reach 9.
const DEEPEST_BLOCKS: usize = 32;
/// `elif`s in the whole source. Real templates have up to 20.
const MOST_ELIFS: usize = 100;

struct Scanner<'s> {
    source: &'s str,
    pos: usize,
    out: String,
    elifs: usize,
    blocks: usize,
}

/// Checks and rewrites a template.
pub(super) fn prepare(source: &str) -> Result<String, TemplateError> {
    if source.len() > LONGEST_SOURCE {
        return Err(TemplateError::TooLong {
            bytes: source.len(),
            limit: LONGEST_SOURCE,
        });
    }
    let mut scanner = Scanner {
        source,
        pos: 0,
        out: String::with_capacity(source.len() + source.len() / 8),
        elifs: 0,
        blocks: 0,
    };
    while scanner.next_tag()? {}
    Ok(scanner.out)
}

/// A tag without its delimiters and whitespace controls.
struct Tag<'s> {
    start: &'s str,
    inner: &'s str,
    end: &'s str,
}

impl<'s> Scanner<'s> {
    fn rest(&self) -> &'s str {
        self.source.get(self.pos..).unwrap_or_default()
    }

    fn copy(&mut self, len: usize) {
        let text = self.rest();
        let text = text.get(..len).unwrap_or(text);
        self.out.push_str(text);
        self.pos += text.len();
    }

    fn too_complex(&self, what: &'static str) -> TemplateError {
        let before = self.source.get(..self.pos).unwrap_or_default();
        TemplateError::TooComplex {
            line: before.matches('\n').count() + 1,
            what,
        }
    }

    /// Copies up to the next tag and handles it; `false` at the end.
    fn next_tag(&mut self) -> Result<bool, TemplateError> {
        let rest = self.rest();
        let is_tag = |at: &usize| matches!(rest.as_bytes().get(at + 1), Some(b'{' | b'%' | b'#'));
        let Some(at) = rest.match_indices('{').map(|(at, _)| at).find(is_tag) else {
            self.copy(rest.len());
            return Ok(false);
        };
        self.copy(at);
        let rest = self.rest();
        if rest.starts_with("{#") {
            self.copy(rest.find("#}").map_or(rest.len(), |end| end + 2));
            return Ok(true);
        }
        let len = self.tag_len(rest)?;
        let tag = rest.get(..len).unwrap_or(rest);
        if rest.starts_with("{%") {
            self.block(tag)?;
        } else {
            self.copy(len);
        }
        Ok(true)
    }

    /// The length of the tag at the beginning, found as minijinja finds it: an end counts outside of strings
    /// and brackets.
    fn tag_len(&self, rest: &str) -> Result<usize, TemplateError> {
        let closing = if rest.starts_with("{%") { b'%' } else { b'}' };
        let bytes = rest.as_bytes();
        let mut open = 0usize;
        let mut code = 0usize;
        let mut pos = 2;
        let mut before = b' ';
        while let Some(&byte) = bytes.get(pos) {
            if open == 0 && byte == closing && bytes.get(pos + 1) == Some(&b'}') {
                return Ok(pos + 2);
            }
            match byte {
                b'\'' | b'"' => pos = string_end(bytes, pos, byte),
                b'(' | b'[' | b'{' => open += 1,
                b')' | b']' | b'}' => open = open.saturating_sub(1),
                _ => {}
            }
            if byte == b'*' && !self.may_multiply(before, bytes, pos) {
                return Err(self.too_complex("only a text in quotes can be repeated with *"));
            }
            if !byte.is_ascii_whitespace() {
                code += 1;
                before = byte;
            }
            if code > LONGEST_TAG {
                return Err(self.too_complex("one tag has more than 600 characters besides its strings"));
            }
            if open > DEEPEST_BRACKETS {
                return Err(self.too_complex("more than 12 brackets are open at once"));
            }
            pos += 1;
        }
        Ok(rest.len()) // not closed: minijinja will say so
    }

    /// Whether a `*` is a power, or stands beside a string literal.
    fn may_multiply(&self, before: u8, bytes: &[u8], pos: usize) -> bool {
        let mut behind = bytes
            .iter()
            .skip(pos + 1)
            .filter(|byte| !byte.is_ascii_whitespace());
        let is_quote = |byte: u8| matches!(byte, b'\'' | b'"');
        let is_power = before == b'*' || bytes.get(pos + 1) == Some(&b'*');
        is_power || is_quote(before) || behind.next().is_some_and(|byte| is_quote(*byte))
    }

    fn block(&mut self, whole: &'s str) -> Result<(), TemplateError> {
        let tag = Tag::of(whole);
        let word_len = tag
            .inner
            .find(|c: char| !c.is_ascii_alphabetic())
            .unwrap_or(tag.inner.len());
        let (word, argument) = tag.inner.split_at_checked(word_len).unwrap_or((tag.inner, ""));
        let opens = matches!(word, "if" | "for" | "macro" | "filter" | "generation")
            || (word == "set" && assignment(argument).is_none());
        if opens {
            self.blocks += 1;
        } else if word.starts_with("end") {
            self.blocks = self.blocks.saturating_sub(1);
        }
        if self.blocks > DEEPEST_BLOCKS {
            return Err(self.too_complex("more than 32 blocks are inside each other"));
        }
        match word {
            "elif" => {
                self.elifs += 1;
                if self.elifs > MOST_ELIFS {
                    return Err(self.too_complex("there are more than 100 elifs"));
                }
            }
            "with" | "call" | "include" | "import" | "from" | "extends" | "block" | "autoescape" => {
                return Err(self.too_complex("chat templates have no use for this kind of block"));
            }
            "raw" => return self.raw(whole),
            "set" => {
                if let Some((target, value)) = assignment(argument) {
                    let is_attribute = if target.contains('.') { ", true" } else { "" };
                    let new = format!("set {target} = __keep(({value}){is_attribute})");
                    self.replace(whole, &tag, &new);
                    return Ok(());
                }
            }
            "for" => {
                let parts = top_level_words(argument);
                let word_at = |word: &str| parts.iter().find(|(_, found)| *found == word).map(|(at, _)| *at);
                if word_at("recursive").is_some() {
                    return Err(self.too_complex("recursive loops are not supported"));
                }
                if let Some(at) = word_at("in") {
                    let (target, rest) = argument.split_at_checked(at).unwrap_or((argument, ""));
                    let filter_at = word_at("if")
                        .filter(|filter| *filter > at)
                        .unwrap_or(argument.len());
                    let items = rest.get(2..filter_at - at).unwrap_or_default().trim();
                    let filter = argument.get(filter_at..).unwrap_or_default();
                    self.replace(
                        whole,
                        &tag,
                        &format!("for {} in __keep(({items})) {filter}", target.trim()),
                    );
                    return Ok(());
                }
            }
            "macro" => {
                let Tag { start, end, inner } = tag;
                let names = parameters(argument);
                let keeps = names
                    .iter()
                    .map(|name| format!("{{% set {name} = __keep(({name})) %}}"));
                let mut keeps: String = keeps.collect();
                // Whitespace control belongs to the last tag before the macro's text.
                if let Some(start_of_end) = keeps.len().checked_sub(2).filter(|_| !names.is_empty()) {
                    keeps.truncate(start_of_end);
                    keeps.push_str(end);
                    self.out.push_str(&format!("{start} {inner} %}}{keeps}"));
                    self.pos += whole.len();
                    return Ok(());
                }
            }
            "generation" | "endgeneration" if argument.trim().is_empty() => {
                self.replace(
                    whole,
                    &tag,
                    if word == "generation" { "if true" } else { "endif" },
                );
                return Ok(());
            }
            _ => {}
        }
        self.copy(whole.len());
        Ok(())
    }

    /// Writes something else inside the same delimiters. The spaces keep a `-` of it apart from them.
    fn replace(&mut self, whole: &str, tag: &Tag<'_>, new: &str) {
        self.out.push_str(&format!("{} {new} {}", tag.start, tag.end));
        self.pos += whole.len();
    }

    /// Copies `{% raw %}…{% endraw %}`.
    fn raw(&mut self, start: &str) -> Result<(), TemplateError> {
        self.copy(start.len());
        loop {
            let rest = self.rest();
            let Some(at) = rest.find("{%") else {
                self.copy(rest.len());
                return Ok(());
            };
            self.copy(at);
            let rest = self.rest();
            let len = rest.find("%}").map_or(rest.len(), |end| end + 2);
            let is_end = Tag::of(rest.get(..len).unwrap_or(rest))
                .inner
                .starts_with("endraw");
            self.copy(if is_end { len } else { 2 });
            if is_end {
                return Ok(());
            }
        }
    }
}

impl<'s> Tag<'s> {
    fn of(whole: &'s str) -> Self {
        let control = |c: Option<u8>| usize::from(matches!(c, Some(b'-' | b'+')));
        let bytes = whole.as_bytes();
        let head = 2 + control(bytes.get(2).copied());
        let before_end = whole.len().saturating_sub(3);
        let foot = 2 + control(bytes.get(before_end).copied().filter(|_| before_end >= head));
        let foot_at = whole.len().saturating_sub(foot).max(head);
        Self {
            start: whole.get(..head).unwrap_or(whole),
            inner: whole.get(head..foot_at).unwrap_or_default().trim(),
            end: whole.get(foot_at..).unwrap_or_default(),
        }
    }
}

/// The last byte of the string that begins at `start`.
fn string_end(bytes: &[u8], start: usize, quote: u8) -> usize {
    let mut pos = start + 1;
    while let Some(&byte) = bytes.get(pos) {
        match byte {
            b'\\' => pos += 1,
            _ if byte == quote => return pos,
            _ => {}
        }
        pos += 1;
    }
    pos
}

/// Target and value of `x = …`, `n.x = …` and `a, b = …`; `None` for `{% set x %}…{% endset %}`.
fn assignment(argument: &str) -> Option<(&str, &str)> {
    let is_target =
        |c: char| c.is_alphanumeric() || matches!(c, '_' | '.' | ',' | '(' | ')') || c.is_whitespace();
    let equals = argument.find(|c: char| !is_target(c))?;
    let (target, value) = argument.split_at_checked(equals)?;
    let value = value.strip_prefix('=').filter(|value| !value.starts_with('='))?;
    Some((target.trim(), value.trim()))
}

/// The words outside of brackets and strings, and where they begin.
fn top_level_words(text: &str) -> Vec<(usize, &str)> {
    let bytes = text.as_bytes();
    let mut words = Vec::new();
    let mut open = 0usize;
    let mut pos = 0;
    while let Some(&byte) = bytes.get(pos) {
        match byte {
            b'\'' | b'"' => pos = string_end(bytes, pos, byte),
            b'(' | b'[' | b'{' => open += 1,
            b')' | b']' | b'}' => open = open.saturating_sub(1),
            b'a'..=b'z' | b'A'..=b'Z' | b'_' => {
                let start = pos;
                while bytes
                    .get(pos)
                    .is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
                {
                    pos += 1;
                }
                if open == 0 {
                    words.push((start, text.get(start..pos).unwrap_or_default()));
                }
                continue;
            }
            _ => {}
        }
        pos += 1;
    }
    words
}

/// The names of a macro's parameters, from ` name(a, b='x')`.
fn parameters(argument: &str) -> Vec<&str> {
    let Some((_, list)) = argument.split_once('(') else {
        return Vec::new();
    };
    let bytes = list.as_bytes();
    let mut names = Vec::new();
    let mut open = 0usize;
    let mut expects_name = true;
    let mut pos = 0;
    while let Some(&byte) = bytes.get(pos) {
        match byte {
            b'\'' | b'"' => pos = string_end(bytes, pos, byte),
            b')' if open == 0 => break,
            b'(' | b'[' | b'{' => open += 1,
            b')' | b']' | b'}' => open = open.saturating_sub(1),
            b',' if open == 0 => expects_name = true,
            _ if expects_name && (byte.is_ascii_alphabetic() || byte == b'_') => {
                let start = pos;
                while bytes
                    .get(pos)
                    .is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
                {
                    pos += 1;
                }
                names.extend(list.get(start..pos));
                expects_name = false;
                continue;
            }
            _ => {}
        }
        pos += 1;
    }
    names
}
