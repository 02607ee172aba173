//! The bytes of a blob in memory, in pages, so that a part of it can be let go.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::StoreError;

const PAGE: u64 = 1 << 20;

/// Bytes by page. What was never written, or let go, reads as zeros and takes no memory.
#[derive(Debug, Default)]
pub(crate) struct Pages {
    size: u64,
    pages: BTreeMap<u64, Vec<u8>>,
}

/// The pieces of `len` bytes from `offset` on: page, where it begins there, and how long it is.
fn pieces(offset: u64, len: usize) -> impl Iterator<Item = (u64, usize, usize)> {
    let end = offset.saturating_add(len as u64);
    let mut at = offset;
    std::iter::from_fn(move || {
        let piece = (at < end).then(|| (at / PAGE, at % PAGE, (PAGE - at % PAGE).min(end - at)))?;
        at += piece.2;
        Some((piece.0, piece.1 as usize, piece.2 as usize))
    })
}

impl Pages {
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Bytes of memory.
    pub(crate) fn held(&self) -> u64 {
        self.pages.values().map(|page| page.len() as u64).sum()
    }

    /// Bytes of memory that writing there would add.
    pub(crate) fn growth(&self, offset: u64, len: usize) -> u64 {
        pieces(offset, len)
            .map(|(page, from, len)| {
                let has = self.pages.get(&page).map_or(0, Vec::len);
                (from + len).saturating_sub(has) as u64
            })
            .sum()
    }

    pub(crate) fn read(&self, offset: u64, mut buf: &mut [u8]) -> Result<(), StoreError> {
        let end = offset.checked_add(buf.len() as u64);
        if end.is_none_or(|end| end > self.size) {
            return Err(StoreError::Invalid(format!(
                "bytes {offset} to {} were asked of a blob of {}",
                offset.saturating_add(buf.len() as u64),
                self.size
            )));
        }
        for (page, from, len) in pieces(offset, buf.len()) {
            let Some((piece, rest)) = buf.split_at_mut_checked(len) else {
                break;
            };
            let page = self.pages.get(&page).and_then(|page| page.get(from..));
            let there = page.map_or(0, |page| page.len().min(len));
            piece.fill(0);
            if let (Some(page), Some(to)) = (page, piece.get_mut(..there)) {
                to.copy_from_slice(page.get(..there).unwrap_or_default());
            }
            buf = rest;
        }
        Ok(())
    }

    pub(crate) fn write(&mut self, offset: u64, mut bytes: &[u8]) {
        self.size = self.size.max(offset.saturating_add(bytes.len() as u64));
        for (page, from, len) in pieces(offset, bytes.len()) {
            let Some((piece, rest)) = bytes.split_at_checked(len) else {
                break;
            };
            let page = self.pages.entry(page).or_default();
            if page.len() < from + len {
                page.resize(from + len, 0);
            }
            if let Some(to) = page.get_mut(from..from + len) {
                to.copy_from_slice(piece);
            }
            bytes = rest;
        }
    }

    pub(crate) fn set_size(&mut self, size: u64) {
        self.size = size;
        self.pages.retain(|page, _| page * PAGE < size);
        if let Some(last) = self.pages.get_mut(&(size / PAGE)) {
            last.truncate((size % PAGE) as usize);
        }
    }

    /// Lets go of the pages that lie in this range as a whole.
    pub(crate) fn let_go(&mut self, range: Range<u64>) {
        let pages = range.start.div_ceil(PAGE)..range.end / PAGE;
        self.pages.retain(|page, _| !pages.contains(page));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_that_were_let_go_take_no_memory_and_read_as_zeros() {
        let mut pages = Pages::default();
        let bytes: Vec<u8> = (0..3 * PAGE + 5).map(|at| (at % 251) as u8 + 1).collect();
        pages.write(0, &bytes);
        assert_eq!((pages.size(), pages.held()), (3 * PAGE + 5, 3 * PAGE + 5));
        // Half of the first page and of the third stay, so they stay whole.
        pages.let_go(PAGE / 2..2 * PAGE + PAGE / 2);
        assert_eq!((pages.size(), pages.held()), (3 * PAGE + 5, 2 * PAGE + 5));
        let mut read = vec![9; bytes.len()];
        pages.read(0, &mut read).unwrap();
        let page = PAGE as usize;
        assert!(read[..page] == bytes[..page] && read[2 * page..] == bytes[2 * page..]);
        assert!(read[page..2 * page].iter().all(|byte| *byte == 0));
        // Written again, they are there again.
        pages.write(PAGE, &bytes[page..2 * page]);
        pages.read(0, &mut read).unwrap();
        assert!(read == bytes);
    }

    #[test]
    fn what_is_cut_off_reads_as_zeros_when_the_blob_grows_again() {
        let mut pages = Pages::default();
        pages.write(PAGE - 2, &[1, 2, 3, 4]);
        pages.set_size(PAGE - 1);
        pages.set_size(PAGE + 2);
        let mut read = [9; 4];
        pages.read(PAGE - 2, &mut read).unwrap();
        assert_eq!(read, [1, 0, 0, 0]);
        assert!(pages.read(PAGE - 1, &mut read).is_err());
        assert!(pages.read(u64::MAX, &mut read).is_err());
    }
}
