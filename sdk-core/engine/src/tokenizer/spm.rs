//! SentencePiece as llama.cpp runs it (`tokenizer.ggml.model = "llama"`): join the neighbours whose union is the
//! token with the highest score, the leftmost first, until no union is a token.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::table::StringTable;
use super::{NONE, TokenizerError};

#[derive(Debug, Clone, Copy)]
struct Symbol {
    prev: u32,
    next: u32,
    start: u32,
    /// Length in bytes; 0 when it was joined to the one before.
    len: u32,
}

/// A number that sorts as scores do, the highest first.
fn order(score: f32) -> u32 {
    let bits = (score + 0.0).to_bits(); // -0.0 becomes 0.0
    let ascending = if bits >> 31 == 0 { bits | (1 << 31) } else { !bits };
    !ascending
}

/// A text being joined.
struct Joining<'a> {
    table: &'a StringTable,
    scores: &'a [f32],
    text: &'a [u8],
    symbols: Vec<Symbol>,
    /// Order of score, left, right, length of both.
    queue: BinaryHeap<Reverse<(u32, u32, u32, u32)>>,
}

impl Joining<'_> {
    fn get(&self, index: u32) -> Option<Symbol> {
        self.symbols.get(index as usize).copied()
    }

    fn slice(&self, start: u32, len: u32) -> &[u8] {
        let start = start as usize;
        self.text.get(start..start + len as usize).unwrap_or_default()
    }

    fn offer(&mut self, left: u32, right: u32) {
        let (Some(l), Some(r)) = (self.get(left), self.get(right)) else {
            return;
        };
        let len = l.len + r.len;
        // `find` refuses what is longer than any token before it hashes, so this stays cheap on any text.
        if let Some(id) = self.table.find(self.slice(l.start, len)) {
            let score = self.scores.get(id as usize).copied().unwrap_or(0.0);
            self.queue.push(Reverse((order(score), left, right, len)));
        }
    }

    fn join(&mut self, left: u32, right: u32, len: u32) {
        let (Some(l), Some(r)) = (self.get(left), self.get(right)) else {
            return;
        };
        if l.len == 0 || r.len == 0 || l.len + r.len != len {
            return; // one of them changed since it was offered
        }
        if let Some(symbol) = self.symbols.get_mut(left as usize) {
            symbol.len = len;
            symbol.next = r.next;
        }
        if let Some(symbol) = self.symbols.get_mut(right as usize) {
            symbol.len = 0;
        }
        if let Some(symbol) = self.symbols.get_mut(r.next as usize) {
            symbol.prev = left;
        }
        self.offer(l.prev, left);
        self.offer(left, r.next);
    }
}

/// Appends the tokens of a text whose spaces are already written as `▁`.
pub(super) fn encode(
    table: &StringTable,
    scores: &[f32],
    unknown: Option<u32>,
    text: &str,
    output: &mut Vec<u32>,
) -> Result<(), TokenizerError> {
    let mut joining = Joining {
        table,
        scores,
        text: text.as_bytes(),
        symbols: Vec::with_capacity(text.len()),
        queue: BinaryHeap::new(),
    };
    for (start, c) in text.char_indices() {
        let index = joining.symbols.len() as u32;
        joining.symbols.push(Symbol {
            prev: index.wrapping_sub(1),
            next: index + 1, // one behind the last is no symbol, so it ends the chain
            start: start as u32,
            len: c.len_utf8() as u32,
        });
    }
    for right in 1..joining.symbols.len() as u32 {
        joining.offer(right - 1, right);
    }
    while let Some(Reverse((_, left, right, len))) = joining.queue.pop() {
        joining.join(left, right, len);
    }
    for symbol in joining.symbols.iter().filter(|symbol| symbol.len > 0) {
        let piece = joining.slice(symbol.start, symbol.len);
        match table.find(piece) {
            Some(id) => output.push(id),
            None => {
                for byte in piece {
                    output.push(byte_token(table, *byte, unknown)?);
                }
            }
        }
    }
    Ok(())
}

/// The token of a byte that is part of no token: `<0x0A>`, else the byte as text, else "unknown".
fn byte_token(table: &StringTable, byte: u8, unknown: Option<u32>) -> Result<u32, TokenizerError> {
    table
        .find(format!("<0x{byte:02X}>").as_bytes())
        .or_else(|| table.find(&[byte]))
        .or(unknown)
        .ok_or(TokenizerError::NoByteToken { byte })
}

// `prev` of the first symbol and `next` of the last lie outside the list.
const _: () = assert!(NONE == u32::MAX);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scores_sort_downwards() {
        let scores = [f32::MAX, 2.0, 1.0, 0.0, -1.0, -2.5, f32::MIN];
        assert!(scores.map(order).is_sorted());
        assert_eq!(order(0.0), order(-0.0));
    }
}
