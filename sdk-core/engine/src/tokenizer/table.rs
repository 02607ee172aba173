//! Strings by number and numbers by string, for vocabularies of hundreds of thousands.
//!
//! One block of bytes and one open-addressed index: 262,144 tokens cost about 4 MB where a
//! `HashMap<String, u32>` costs 20.

use std::hash::{DefaultHasher, Hasher};

use super::TokenizerError;

const FREE: u32 = u32::MAX;
/// At half load a probe sequence is a few slots long; only a crafted vocabulary gets here.
const LONGEST_PROBE: usize = 2048;
/// The longest piece of text that may be one token; the longest known real ones have 512 bytes.
pub(super) const LONGEST_TOKEN: usize = 4096;

#[derive(Debug, Default)]
pub(super) struct StringTable {
    bytes: Vec<u8>,
    ends: Vec<u32>,
    slots: Vec<u32>,
    longest: usize,
}

impl StringTable {
    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// The length in bytes of the longest entry.
    pub(super) fn longest(&self) -> usize {
        self.longest
    }

    pub(super) fn get(&self, id: u32) -> Option<&[u8]> {
        let index = usize::try_from(id).ok()?;
        let end = *self.ends.get(index)? as usize;
        let start = match index.checked_sub(1) {
            Some(before) => *self.ends.get(before)? as usize,
            None => 0,
        };
        self.bytes.get(start..end)
    }

    pub(super) fn find(&self, key: &[u8]) -> Option<u32> {
        if key.len() > self.longest || self.slots.is_empty() {
            return None;
        }
        let mask = self.slots.len() - 1;
        let mut slot = hash(key) & mask;
        for _ in 0..LONGEST_PROBE {
            let id = *self.slots.get(slot)?;
            if id == FREE {
                return None;
            }
            if self.get(id) == Some(key) {
                return Some(id);
            }
            slot = (slot + 1) & mask;
        }
        None
    }

    /// Adds an entry; a later one with the same text hides the earlier from `find`.
    pub(super) fn push(&mut self, key: &[u8]) -> Result<u32, TokenizerError> {
        let too_big = || TokenizerError::TooLarge;
        if key.len() > LONGEST_TOKEN {
            return Err(TokenizerError::TokenTooLong {
                id: self.len(),
                bytes: key.len(),
            });
        }
        let id = u32::try_from(self.ends.len()).map_err(|_| too_big())?;
        self.bytes.extend_from_slice(key);
        self.ends
            .push(u32::try_from(self.bytes.len()).map_err(|_| too_big())?);
        self.longest = self.longest.max(key.len());
        if self.ends.len() * 2 > self.slots.len() {
            self.grow()?;
        } else {
            self.index(id)?;
        }
        Ok(id)
    }

    /// The number of this text, adding it if it is new.
    pub(super) fn intern(&mut self, key: &[u8]) -> Result<u32, TokenizerError> {
        match self.find(key) {
            Some(id) => Ok(id),
            None => self.push(key),
        }
    }

    fn grow(&mut self) -> Result<(), TokenizerError> {
        self.slots = vec![FREE; (self.ends.len() * 4).next_power_of_two().max(64)];
        (0..self.ends.len() as u32).try_for_each(|id| self.index(id))
    }

    fn index(&mut self, id: u32) -> Result<(), TokenizerError> {
        let Some(key) = self.get(id) else { return Ok(()) };
        let mask = self.slots.len().wrapping_sub(1);
        let mut slot = hash(key) & mask;
        for _ in 0..LONGEST_PROBE {
            let found = self.slots.get(slot).copied().unwrap_or(FREE);
            if found == FREE || self.get(found) == self.get(id) {
                if let Some(place) = self.slots.get_mut(slot) {
                    *place = id;
                }
                return Ok(());
            }
            slot = (slot + 1) & mask;
        }
        Err(TokenizerError::Colliding)
    }
}

fn hash(key: &[u8]) -> usize {
    let mut hasher = DefaultHasher::new();
    hasher.write(key);
    hasher.finish() as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_what_was_added() {
        let mut table = StringTable::default();
        for i in 0..10_000u32 {
            assert_eq!(table.push(format!("token {i}").as_bytes()).unwrap(), i);
        }
        for i in 0..10_000u32 {
            let text = format!("token {i}");
            assert_eq!(table.find(text.as_bytes()), Some(i));
            assert_eq!(table.get(i), Some(text.as_bytes()));
        }
        assert_eq!(table.find(b"token"), None);
        assert_eq!(table.get(10_000), None);
    }

    #[test]
    fn the_later_of_two_equal_entries_is_found() {
        let mut table = StringTable::default();
        table.push(b"a").unwrap();
        table.push(b"a").unwrap();
        assert_eq!(table.find(b"a"), Some(1));
        assert_eq!(table.intern(b"a").unwrap(), 1);
    }

    #[test]
    fn a_giant_token_is_refused() {
        let error = StringTable::default().push(&[b'x'; 5000]).unwrap_err();
        assert!(error.to_string().contains("5000 bytes"), "{error}");
    }
}
