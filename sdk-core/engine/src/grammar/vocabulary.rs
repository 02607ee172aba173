//! The bytes of every token, in an order that lets one walk find all that may come next.

use crate::tokenizer::Tokenizer;

/// The tokens that are text, sorted by their bytes: tokens with a common beginning are neighbours, as in a trie.
#[derive(Debug)]
pub(crate) struct Vocabulary {
    bytes: Vec<u8>,
    /// Token, where its bytes begin, how many there are, and how many it shares with the entry before.
    entries: Vec<Entry>,
    /// Words of a [`Mask`].
    words: usize,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) token: u32,
    start: u32,
    len: u32,
    pub(super) shared: u32,
}

impl Vocabulary {
    /// Marks (control and unknown tokens) and ends are left out: they are no text.
    pub(crate) fn new(tokenizer: &Tokenizer) -> Self {
        let mut pieces: Vec<(Vec<u8>, u32)> = (0..tokenizer.len() as u32)
            .filter(|id| !tokenizer.is_control(*id) && !tokenizer.is_end(*id))
            .filter_map(|id| {
                let mut bytes = Vec::new();
                tokenizer.append_piece(id, false, &mut bytes).ok()?;
                (!bytes.is_empty()).then_some((bytes, id))
            })
            .collect();
        pieces.sort_unstable();
        let mut vocabulary = Self {
            bytes: Vec::new(),
            entries: Vec::with_capacity(pieces.len()),
            words: tokenizer.len().div_ceil(64),
        };
        let mut before: &[u8] = &[];
        for (bytes, token) in &pieces {
            let shared = bytes.iter().zip(before).take_while(|(a, b)| a == b).count();
            vocabulary.entries.push(Entry {
                token: *token,
                start: vocabulary.bytes.len() as u32,
                len: bytes.len() as u32,
                shared: shared as u32,
            });
            vocabulary.bytes.extend_from_slice(bytes);
            before = bytes;
        }
        vocabulary
    }

    pub(super) fn entries(&self) -> impl Iterator<Item = (Entry, &[u8])> {
        self.entries.iter().map(|entry| {
            let start = entry.start as usize;
            let bytes = self.bytes.get(start..start + entry.len as usize);
            (*entry, bytes.unwrap_or_default())
        })
    }

    pub(super) fn mask(&self) -> Mask {
        Mask(vec![0; self.words])
    }
}

/// Tokens that may come next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mask(Vec<u64>);

impl Mask {
    pub(super) fn allow(&mut self, token: u32) {
        if let Some(word) = self.0.get_mut(token as usize / 64) {
            *word |= 1 << (token % 64);
        }
    }

    pub(crate) fn allows(&self, token: u32) -> bool {
        self.0
            .get(token as usize / 64)
            .is_some_and(|word| word >> (token % 64) & 1 == 1)
    }
}
