//! What kind of character it is, as far as pre-tokenizers ask.

use super::unicode_table::BORDERS;

/// General category groups (Unicode Standard, table 4-4); the numbers are those of the generated table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// Everything else: separators, controls, private use, unassigned.
    Other,
    /// `\p{L}`
    Letter,
    /// `\p{N}`
    Number,
    /// `\p{M}`
    Mark,
    /// `\p{P}`
    Punctuation,
    /// `\p{S}`
    Symbol,
}

/// The class of a character.
pub(super) fn class(c: char) -> Class {
    if c.is_ascii_alphabetic() {
        return Class::Letter; // most text of most prompts
    }
    let after = (u32::from(c) << 3) | 7;
    let index = BORDERS.partition_point(|&border| border <= after);
    match index
        .checked_sub(1)
        .and_then(|i| BORDERS.get(i))
        .map_or(0, |b| b & 7)
    {
        1 => Class::Letter,
        2 => Class::Number,
        3 => Class::Mark,
        4 => Class::Punctuation,
        5 => Class::Symbol,
        _ => Class::Other,
    }
}

/// A character in its text.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ch {
    pub(super) c: char,
    pub(super) class: Class,
    /// Where the next one starts.
    pub(super) end: usize,
}

impl Ch {
    pub(super) fn is_letter(self) -> bool {
        self.class == Class::Letter
    }

    pub(super) fn is_number(self) -> bool {
        self.class == Class::Number
    }

    pub(super) fn is_mark(self) -> bool {
        self.class == Class::Mark
    }

    /// `\s`: the property `White_Space`.
    pub(super) fn is_space(self) -> bool {
        self.c.is_whitespace()
    }

    pub(super) fn is_newline(self) -> bool {
        matches!(self.c, '\r' | '\n')
    }

    pub(super) fn is_punctuation(self) -> bool {
        self.class == Class::Punctuation
    }

    pub(super) fn is_symbol(self) -> bool {
        self.class == Class::Symbol
    }
}

/// The character that starts at byte `pos`, if any.
pub(super) fn at(text: &str, pos: usize) -> Option<Ch> {
    let c = text.get(pos..)?.chars().next()?;
    Some(Ch {
        c,
        class: class(c),
        end: pos + c.len_utf8(),
    })
}

/// Where the run of characters from `pos` on that satisfy `wanted` ends.
pub(super) fn run_end(text: &str, pos: usize, wanted: impl Fn(Ch) -> bool) -> usize {
    let mut end = pos;
    while let Some(ch) = at(text, end).filter(|&ch| wanted(ch)) {
        end = ch.end;
    }
    end
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_of_known_characters() {
        for (c, expected) in [
            ('\0', Class::Other),
            (' ', Class::Other),
            ('a', Class::Letter),
            ('Z', Class::Letter),
            ('0', Class::Number),
            ('½', Class::Number),
            ('é', Class::Letter),
            ('\u{301}', Class::Mark),
            ('!', Class::Punctuation),
            ('$', Class::Symbol),
            ('中', Class::Letter),
            ('٣', Class::Number),
            ('🎉', Class::Symbol),
            ('\u{200d}', Class::Other),
            ('\u{10ffff}', Class::Other),
        ] {
            assert_eq!(class(c), expected, "{c:?}");
        }
    }

    #[test]
    fn the_table_ascends() {
        assert!(BORDERS.is_sorted_by(|a, b| a >> 3 < b >> 3));
    }
}
