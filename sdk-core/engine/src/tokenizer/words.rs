//! Pre-tokenizers: how a text is cut into the words that BPE works on, one after the other.
//!
//! Each model was trained with a list of regular expressions. Here each expression is a hand-written matcher,
//! because a regex engine with Unicode tables would be larger than the rest of the engine in wasm, and because
//! these run in linear time on any text. The expressions are those that llama.cpp uses for the same names;
//! tests/oracle compares the results.

use std::ops::Range;

use super::unicode::{Ch, at, run_end};

/// The end of the match that starts exactly at a position of a text, if there is one there.
type Matcher = fn(&str, usize) -> Option<usize>;

/// A list of expressions; each cuts what the one before left.
#[derive(Debug, Clone, Copy)]
pub(super) struct PreTokenizer {
    steps: &'static [Matcher],
    /// A word that is a token is taken whole, whatever the merges say.
    pub(super) ignore_merges: bool,
    /// Whether texts begin with the beginning-of-text token unless the file says otherwise.
    pub(super) add_bos: bool,
}

const fn plain(steps: &'static [Matcher]) -> PreTokenizer {
    PreTokenizer {
        steps,
        ignore_merges: false,
        add_bos: false,
    }
}

const GPT2: PreTokenizer = plain(&[gpt2]);
const STARCODER: PreTokenizer = plain(&[number, gpt2]);
const QWEN2: PreTokenizer = plain(&[modern::<1, false>]);
const LLAMA3_WORDS: PreTokenizer = plain(&[modern::<3, false>]);
const LLAMA3: PreTokenizer = PreTokenizer {
    ignore_merges: true,
    add_bos: true,
    ..LLAMA3_WORDS
};
const DEFAULT: PreTokenizer = plain(&[default_punctuation, gpt2, numbers, three_digits]);
const GPT4O: PreTokenizer = plain(&[cased::<3, true>]);

/// `tokenizer.ggml.pre` and what it stands for. Sorted, for the error that lists them.
const KNOWN: &[(&str, PreTokenizer)] = &[
    ("a.x-4.0", GPT2),
    ("chatglm-bpe", LLAMA3_WORDS),
    ("codeshell", STARCODER),
    ("command-r", STARCODER),
    ("dbrx", LLAMA3_WORDS),
    (
        "deepseek-coder",
        plain(&[newline, spaced_letters, spaced_punctuation, cjk_wide, number]),
    ),
    ("deepseek-r1-qwen", QWEN2),
    ("deepseek-v3", plain(&[numbers_by_three, cjk_kana, deepseek3])),
    ("default", DEFAULT),
    ("exaone", STARCODER),
    ("exaone4", GPT2),
    ("f2llmv2", QWEN2),
    ("falcon", plain(&[falcon_punctuation, gpt2, three_digits])),
    ("falcon-h1", LLAMA3),
    ("falcon3", LLAMA3),
    ("gigachat", GPT2),
    ("glm4", LLAMA3_WORDS),
    ("gpt-2", GPT2),
    ("gpt-4o", GPT4O),
    ("granite-docling", GPT2),
    ("grok-2", QWEN2),
    ("hunyuan", QWEN2),
    ("jais", GPT2),
    ("kanana2", GPT4O),
    ("kormo", QWEN2),
    ("lfm2", LLAMA3),
    ("llama-bpe", LLAMA3),
    ("llama-v3", LLAMA3),
    ("llama3", LLAMA3),
    ("llama4", GPT4O),
    ("megrez", QWEN2),
    ("mellum", GPT2),
    ("mellum2", STARCODER),
    ("midm-2.0", LLAMA3),
    ("minerva-7b", STARCODER),
    ("minimax-m2", GPT4O),
    ("modern-bert", GPT2),
    ("mpt", GPT2),
    ("olmo", GPT2),
    ("phi-2", GPT2),
    ("pixtral", LLAMA3),
    ("qwen2", QWEN2),
    ("qwen35", plain(&[modern::<1, true>])),
    ("refact", STARCODER),
    ("smaug-bpe", LLAMA3_WORDS),
    ("smollm", STARCODER),
    ("solar-open", QWEN2),
    ("stablelm2", QWEN2),
    ("starcoder", STARCODER),
    (
        "tekken",
        PreTokenizer {
            steps: &[cased::<1, false>],
            ignore_merges: true,
            add_bos: true,
        },
    ),
    ("trillion", GPT2),
];

impl PreTokenizer {
    /// The pre-tokenizer of that name.
    pub(super) fn named(name: &str) -> Option<Self> {
        KNOWN
            .iter()
            .find(|(known, _)| *known == name)
            .map(|(_, pre)| *pre)
    }

    /// Every name, for an error message.
    pub(super) fn names() -> String {
        KNOWN.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ")
    }

    /// Cuts a text into words. Nothing is lost: the words follow each other without gaps.
    pub(super) fn split(&self, text: &str) -> Vec<Range<usize>> {
        let mut words = Vec::new();
        if !text.is_empty() {
            words.push(0..text.len());
        }
        let mut finer = Vec::new();
        for step in self.steps {
            finer.clear();
            for word in &words {
                split_one(
                    text.get(word.clone()).unwrap_or_default(),
                    word.start,
                    *step,
                    &mut finer,
                );
            }
            std::mem::swap(&mut words, &mut finer);
        }
        words
    }
}

/// Cuts out every match; what is between two matches is a word too.
fn split_one(text: &str, offset: usize, matcher: Matcher, words: &mut Vec<Range<usize>>) {
    let mut pos = 0;
    let mut gap = 0;
    while let Some(ch) = at(text, pos) {
        let Some(end) = matcher(text, pos) else {
            pos = ch.end;
            continue;
        };
        if gap < pos {
            words.push(offset + gap..offset + pos);
        }
        words.push(offset + pos..offset + end);
        pos = end;
        gap = end;
    }
    if gap < text.len() {
        words.push(offset + gap..offset + text.len());
    }
}

/// `\p{N}`
fn number(text: &str, pos: usize) -> Option<usize> {
    at(text, pos).filter(|ch| ch.is_number()).map(|ch| ch.end)
}

/// `[\r\n]`
fn newline(text: &str, pos: usize) -> Option<usize> {
    at(text, pos).filter(|ch| ch.is_newline()).map(|ch| ch.end)
}

fn run(text: &str, pos: usize, wanted: impl Fn(Ch) -> bool) -> Option<usize> {
    Some(run_end(text, pos, wanted)).filter(|end| *end > pos)
}

/// `\p{N}+`
fn numbers(text: &str, pos: usize) -> Option<usize> {
    run(text, pos, Ch::is_number)
}

/// `[\p{P}\$\+<=>\^~\|]+`
fn default_punctuation(text: &str, pos: usize) -> Option<usize> {
    let extra = |ch: Ch| matches!(ch.c, '$' | '+' | '<' | '=' | '>' | '^' | '~' | '|');
    run(text, pos, |ch| ch.is_punctuation() || extra(ch))
}

/// `[\p{P}\$\+<=>\^~\|`]+`
fn falcon_punctuation(text: &str, pos: usize) -> Option<usize> {
    let extra = |ch: Ch| matches!(ch.c, '$' | '+' | '<' | '=' | '>' | '^' | '~' | '|' | '`');
    run(text, pos, |ch| ch.is_punctuation() || extra(ch))
}

/// `[0-9][0-9][0-9]`
fn three_digits(text: &str, pos: usize) -> Option<usize> {
    let digits = text.as_bytes().get(pos..pos + 3)?;
    digits.iter().all(u8::is_ascii_digit).then_some(pos + 3)
}

/// `[一-龥ࠀ-一가-퟿]+`, as DeepSeek wrote it: U+0800 to U+9FA5 and U+AC00 to U+D7FF.
fn cjk_wide(text: &str, pos: usize) -> Option<usize> {
    run(
        text,
        pos,
        |ch| matches!(ch.c, '\u{800}'..='\u{9fa5}' | '\u{ac00}'..='\u{d7ff}'),
    )
}

/// `[一-龥぀-ゟ゠-ヿ]+`: U+4E00 to U+9FA5, hiragana, katakana.
fn cjk_kana(text: &str, pos: usize) -> Option<usize> {
    run(
        text,
        pos,
        |ch| matches!(ch.c, '\u{4e00}'..='\u{9fa5}' | '\u{3040}'..='\u{30ff}'),
    )
}

/// `\s?` and then a run.
fn spaced(text: &str, pos: usize, wanted: impl Fn(Ch) -> bool) -> Option<usize> {
    let start = at(text, pos).filter(|ch| ch.is_space()).map_or(pos, |ch| ch.end);
    run(text, start, wanted)
}

/// `\s?\p{L}+`
fn spaced_letters(text: &str, pos: usize) -> Option<usize> {
    spaced(text, pos, Ch::is_letter)
}

/// `\s?\p{P}+`
fn spaced_punctuation(text: &str, pos: usize) -> Option<usize> {
    spaced(text, pos, Ch::is_punctuation)
}

/// `\p{N}{1,3}`
fn numbers_by_three(text: &str, pos: usize) -> Option<usize> {
    up_to(text, pos, 3)
}

/// `\p{N}{1,most}`
fn up_to(text: &str, pos: usize, most: usize) -> Option<usize> {
    let mut end = pos;
    for _ in 0..most {
        end = number(text, end).unwrap_or(end);
    }
    (end > pos).then_some(end)
}

/// `'s|'t|'re|'ve|'m|'ll|'d`, in lower case only or in any.
fn contraction(text: &str, pos: usize, any_case: bool) -> Option<usize> {
    let bytes = text.as_bytes();
    if bytes.get(pos) != Some(&b'\'') {
        return None;
    }
    let letter = |n: usize| {
        let byte = bytes.get(pos + n).copied().unwrap_or(0);
        if any_case { byte.to_ascii_lowercase() } else { byte }
    };
    match (letter(1), letter(2)) {
        (b's' | b't' | b'm' | b'd', _) => Some(pos + 2),
        (b'r' | b'v', b'e') | (b'l', b'l') => Some(pos + 3),
        _ => None,
    }
}

/// `\s+(?!\S)|\s+`: leaves the last space of a run to the word behind it.
fn spaces(text: &str, pos: usize) -> Option<usize> {
    let mut last = pos;
    let mut end = pos;
    while let Some(ch) = at(text, end).filter(|ch| ch.is_space()) {
        last = end;
        end = ch.end;
    }
    if end == pos {
        None
    } else if end == text.len() || last == pos {
        Some(end)
    } else {
        Some(last)
    }
}

/// `\s*[\r\n]+`: up to the last newline of a run of spaces.
fn spaces_with_newline(text: &str, pos: usize) -> Option<usize> {
    let mut end = pos;
    let mut after_newline = None;
    while let Some(ch) = at(text, end).filter(|ch| ch.is_space()) {
        end = ch.end;
        if ch.is_newline() {
            after_newline = Some(end);
        }
    }
    after_newline
}

/// A space at `pos` is optional: where the rest would start.
fn after_space(text: &str, pos: usize) -> usize {
    if text.as_bytes().get(pos) == Some(&b' ') {
        pos + 1
    } else {
        pos
    }
}

/// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
fn gpt2(text: &str, pos: usize) -> Option<usize> {
    if let Some(end) = contraction(text, pos, false) {
        return Some(end);
    }
    let start = after_space(text, pos);
    run(text, start, Ch::is_letter)
        .or_else(|| run(text, start, Ch::is_number))
        .or_else(|| {
            run(text, start, |ch| {
                !ch.is_space() && !ch.is_letter() && !ch.is_number()
            })
        })
        .or_else(|| spaces(text, pos))
}

/// `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,DIGITS}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`,
/// where MARKS lets `\p{M}` count as letters.
fn modern<const DIGITS: usize, const MARKS: bool>(text: &str, pos: usize) -> Option<usize> {
    let is_letter = |ch: Ch| ch.is_letter() || (MARKS && ch.is_mark());
    let first = at(text, pos)?;
    if let Some(end) = contraction(text, pos, true) {
        return Some(end);
    }
    if !first.is_newline() && !first.is_number() {
        let start = if is_letter(first) { pos } else { first.end };
        if let Some(end) = run(text, start, is_letter) {
            return Some(end);
        }
    }
    up_to(text, pos, DIGITS)
        .or_else(|| {
            let start = after_space(text, pos);
            let end = run(text, start, |ch| {
                !ch.is_space() && !is_letter(ch) && !ch.is_number()
            })?;
            Some(run_end(text, end, Ch::is_newline))
        })
        .or_else(|| spaces_with_newline(text, pos))
        .or_else(|| spaces(text, pos))
}

/// ``[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+``
fn deepseek3(text: &str, pos: usize) -> Option<usize> {
    let first = at(text, pos)?;
    let is_word = |ch: Ch| ch.is_letter() || ch.is_mark();
    if first.c.is_ascii_punctuation()
        && let Some(end) = run(text, first.end, |ch| ch.c.is_ascii_alphabetic())
    {
        return Some(end);
    }
    let may_lead = !first.is_newline() && !first.is_letter() && !first.is_punctuation() && !first.is_symbol();
    if may_lead && let Some(end) = run(text, first.end, is_word) {
        return Some(end);
    }
    run(text, pos, is_word)
        .or_else(|| {
            let end = run(text, after_space(text, pos), |ch| {
                ch.is_punctuation() || ch.is_symbol()
            })?;
            Some(run_end(text, end, Ch::is_newline))
        })
        .or_else(|| spaces_with_newline(text, pos))
        .or_else(|| spaces(text, pos))
}

/// Tekken and GPT-4o, in llama.cpp's approximation, where "upper case" is any letter but a-z and "lower case"
/// any letter but A-Z:
/// `[^\r\n\p{L}\p{N}]?U*L+C?|[^\r\n\p{L}\p{N}]?U+L*C?|\p{N}{1,DIGITS}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`
/// with C the contractions in any case, if CONTRACTIONS.
fn cased<const DIGITS: usize, const CONTRACTIONS: bool>(text: &str, pos: usize) -> Option<usize> {
    let first = at(text, pos)?;
    let start = if first.is_letter() || first.is_newline() || first.is_number() {
        pos
    } else {
        first.end
    };
    if let Some(end) = cased_word(text, start) {
        let contracted = if CONTRACTIONS {
            contraction(text, end, true)
        } else {
            None
        };
        return Some(contracted.unwrap_or(end));
    }
    up_to(text, pos, DIGITS)
        .or_else(|| {
            let start = after_space(text, pos);
            let end = run(text, start, |ch| {
                !ch.is_space() && !ch.is_letter() && !ch.is_number()
            })?;
            Some(run_end(text, end, |ch| ch.is_newline() || ch.c == '/'))
        })
        .or_else(|| spaces_with_newline(text, pos))
        .or_else(|| spaces(text, pos))
}

/// `U*L+|U+L*`, with the backtracking worked out.
fn cased_word(text: &str, start: usize) -> Option<usize> {
    let mut end = start;
    // The last letter that is both U and L, where a backtracking U* would stop for L+.
    let mut both = None;
    while let Some(ch) = at(text, end).filter(|ch| ch.is_letter() && !ch.c.is_ascii_lowercase()) {
        end = ch.end;
        if !ch.c.is_ascii() {
            both = Some(end);
        }
    }
    run(text, end, |ch| ch.is_letter() && !ch.c.is_ascii_uppercase())
        .or(both)
        .or((end > start).then_some(end))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words<'t>(pre: &str, text: &'t str) -> Vec<&'t str> {
        let ranges = PreTokenizer::named(pre).unwrap().split(text);
        ranges.into_iter().map(|range| text.get(range).unwrap()).collect()
    }

    #[test]
    fn gpt2_words() {
        assert_eq!(
            words("gpt-2", "I'm  here's 123\n\n x"),
            ["I", "'m", " ", " here", "'s", " 123", "\n\n", " x"]
        );
        assert_eq!(words("gpt-2", " "), [" "]);
        assert_eq!(words("gpt-2", ""), [""; 0]);
    }

    #[test]
    fn smollm_takes_digits_apart() {
        assert_eq!(words("smollm", "a 12b"), ["a", " ", "1", "2", "b"]);
    }

    #[test]
    fn llama3_words() {
        assert_eq!(
            words("llama-bpe", "HE'S 12345 (ok)\n\n  x!\n"),
            [
                "HE", "'S", " ", "123", "45", " (", "ok", ")\n\n", " ", " x", "!\n"
            ]
        );
    }

    #[test]
    fn qwen35_keeps_marks_with_letters() {
        assert_eq!(words("qwen2", "e\u{301}a"), ["e", "\u{301}a"]);
        assert_eq!(words("qwen35", "e\u{301}a"), ["e\u{301}a"]);
    }

    #[test]
    fn default_words() {
        assert_eq!(words("default", "x=1234 y"), ["x", "=", "123", "4", " y"]);
    }

    #[test]
    fn cased_words() {
        assert_eq!(
            words("tekken", "helloWorldABC xÉA"),
            ["hello", "World", "ABC", " xÉ", "A"]
        );
        assert_eq!(words("gpt-4o", "don't 1234"), ["don't", " ", "123", "4"]);
    }

    #[test]
    fn nothing_is_lost_whatever_the_text() {
        let text = "a1 \u{301}\u{200d}🎉 \r\n\t中文ABCdé!? '''re\u{85}\u{a0}x\0\u{10ffff}";
        for (name, pre) in KNOWN {
            let joined: String = pre
                .split(text)
                .into_iter()
                .map(|range| text.get(range).unwrap())
                .collect();
            assert_eq!(joined, text, "{name}");
        }
    }

    #[test]
    fn the_known_names_are_sorted() {
        assert!(KNOWN.is_sorted_by(|a, b| a.0 < b.0));
    }
}
