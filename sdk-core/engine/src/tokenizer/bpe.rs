//! Byte-pair encoding (`tokenizer.ggml.model = "gpt2"`): merges by rank, the leftmost first.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use super::table::StringTable;
use super::{NONE, TokenizerError};

/// What merging a pair gives, and how early it is done.
#[derive(Debug, Clone, Copy)]
struct Merge {
    rank: u32,
    result: u32,
}

/// The merges of a vocabulary, over the numbers that its texts have in the table. Halves and results that are
/// no tokens are numbered behind the tokens.
#[derive(Debug)]
pub(super) struct Bpe {
    merges: HashMap<u64, Merge>,
    /// The number of each byte's character.
    bytes: Vec<u32>,
    tokens: u32,
}

/// A stretch of a word while it is merged.
#[derive(Debug, Clone, Copy)]
struct Symbol {
    prev: u32,
    next: u32,
    /// Its number in the table, or [`NONE`].
    id: u32,
    /// Length in bytes of the word; 0 when it was merged into the one before.
    len: u32,
}

/// GPT-2's alphabet: a printable character for each byte (`bytes_to_unicode` in OpenAI's encoder.py).
pub(super) fn char_of_byte(byte: u8) -> char {
    let code = match byte {
        b'!'..=b'~' | 0xa1..=0xac | 0xae..=0xff => u32::from(byte),
        0..=0x20 => 0x100 + u32::from(byte),
        0x7f..=0xa0 => 0x100 + 33 + u32::from(byte - 0x7f),
        0xad => 0x100 + 67,
    };
    char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// The byte of a character of that alphabet.
pub(super) fn byte_of_char(c: char) -> Option<u8> {
    let code = u32::from(c);
    let byte = match code {
        0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => code,
        0x100..=0x120 => code - 0x100,
        0x121..=0x142 => code - 0x121 + 0x7f,
        0x143 => 0xad,
        _ => return None,
    };
    u8::try_from(byte).ok()
}

/// A word in that alphabet.
fn encoded(word: &[u8], into: &mut String) {
    into.clear();
    into.extend(word.iter().map(|&byte| char_of_byte(byte)));
}

fn key(left: u32, right: u32) -> u64 {
    (u64::from(left) << 32) | u64::from(right)
}

impl Bpe {
    /// Reads the merges ("left right", in order of rank) of a table that holds the tokens.
    pub(super) fn new<'a>(
        table: &mut StringTable,
        merges: impl Iterator<Item = &'a str>,
    ) -> Result<Self, TokenizerError> {
        let tokens = u32::try_from(table.len()).map_err(|_| TokenizerError::TooLarge)?;
        let mut ranks = HashMap::new();
        let mut joined = Vec::new();
        for (rank, merge) in merges.enumerate() {
            let rank = u32::try_from(rank).map_err(|_| TokenizerError::TooLarge)?;
            // The space that divides; one in first place belongs to the left half, as in llama.cpp.
            let Some(space) = merge.bytes().skip(1).position(|byte| byte == b' ') else {
                continue;
            };
            let (left, right) = merge.as_bytes().split_at(space + 1);
            let right = right.get(1..).unwrap_or_default();
            joined.clear();
            joined.extend_from_slice(left);
            joined.extend_from_slice(right);
            let pair = key(table.intern(left)?, table.intern(right)?);
            let result = table.intern(&joined)?;
            ranks.entry(pair).or_insert(Merge { rank, result });
        }
        let mut text = String::new();
        let bytes = (0..=u8::MAX)
            .map(|byte| {
                encoded(&[byte], &mut text);
                table.find(text.as_bytes()).unwrap_or(NONE)
            })
            .collect();
        Ok(Self {
            merges: ranks,
            bytes,
            tokens,
        })
    }

    /// Appends the tokens of one word.
    pub(super) fn encode(
        &self,
        table: &StringTable,
        word: &[u8],
        ignore_merges: bool,
        scratch: &mut Scratch,
        output: &mut Vec<u32>,
    ) {
        if ignore_merges && word.len() <= table.longest() {
            encoded(word, &mut scratch.text);
            let whole = table.find(scratch.text.as_bytes());
            if let Some(id) = whole.filter(|id| *id < self.tokens) {
                output.push(id);
                return;
            }
        }
        scratch.start(word.iter().map(|&byte| self.byte(byte)));
        for right in 1..scratch.symbols.len() as u32 {
            self.offer(right - 1, right, scratch);
        }
        while let Some(Reverse((_, left, right, len, result))) = scratch.queue.pop() {
            if scratch.merge(left, right, len, result) {
                let Some(symbol) = scratch.get(left) else { continue };
                self.offer(symbol.prev, left, scratch);
                self.offer(left, symbol.next, scratch);
            }
        }
        for symbol in scratch.symbols.iter().filter(|symbol| symbol.len > 0) {
            if symbol.id < self.tokens {
                output.push(symbol.id);
            } else if let Some(text) = table.get(symbol.id) {
                // llama.cpp then looks up single bytes of the *encoded* text, and drops what has no token.
                let bytes = text.iter().filter_map(|byte| table.find(&[*byte]));
                output.extend(bytes.filter(|id| *id < self.tokens));
            }
        }
    }

    fn byte(&self, byte: u8) -> u32 {
        self.bytes.get(usize::from(byte)).copied().unwrap_or(NONE)
    }

    fn offer(&self, left: u32, right: u32, scratch: &mut Scratch) {
        let (Some(l), Some(r)) = (scratch.get(left), scratch.get(right)) else {
            return;
        };
        if l.id == NONE || r.id == NONE {
            return;
        }
        if let Some(merge) = self.merges.get(&key(l.id, r.id)) {
            let entry = (merge.rank, left, right, l.len + r.len, merge.result);
            scratch.queue.push(Reverse(entry));
        }
    }
}

/// A pair that could be merged: rank, left, right, length of both, result. Sorts by rank, then from the left.
type Offer = (u32, u32, u32, u32, u32);

/// Buffers that live from word to word.
#[derive(Debug, Default)]
pub(super) struct Scratch {
    text: String,
    symbols: Vec<Symbol>,
    queue: BinaryHeap<Reverse<Offer>>,
}

impl Scratch {
    fn start(&mut self, ids: impl ExactSizeIterator<Item = u32>) {
        let count = ids.len() as u32;
        self.queue.clear();
        self.symbols.clear();
        self.symbols.extend(ids.enumerate().map(|(index, id)| {
            let index = index as u32;
            Symbol {
                prev: index.wrapping_sub(1),
                next: if index + 1 == count { NONE } else { index + 1 },
                id,
                len: 1,
            }
        }));
    }

    fn get(&self, index: u32) -> Option<Symbol> {
        self.symbols.get(index as usize).copied()
    }

    /// Merges, unless one of the two has changed since the pair was offered.
    fn merge(&mut self, left: u32, right: u32, len: u32, result: u32) -> bool {
        let (Some(l), Some(r)) = (self.get(left), self.get(right)) else {
            return false;
        };
        if l.len == 0 || r.len == 0 || l.len + r.len != len {
            return false;
        }
        if let Some(symbol) = self.symbols.get_mut(left as usize) {
            symbol.len = len;
            symbol.id = result;
            symbol.next = r.next;
        }
        if let Some(symbol) = self.symbols.get_mut(right as usize) {
            symbol.len = 0;
        }
        if let Some(symbol) = self.symbols.get_mut(r.next as usize) {
            symbol.prev = left;
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alphabet_is_a_bijection() {
        for byte in 0..=u8::MAX {
            assert_eq!(byte_of_char(char_of_byte(byte)), Some(byte));
        }
        assert_eq!(char_of_byte(b' '), 'Ġ');
        assert_eq!(char_of_byte(b'\n'), 'Ċ');
        assert_eq!(byte_of_char('中'), None);
    }
}
