//! A reader over a prefix of the file that can tell "not yet here" from "never there".

use super::GgufError;

/// Longest text kept from a header: chat templates reach tens of kilobytes.
const LONGEST_STRING: u64 = 4 << 20;

/// What stops a parse.
pub(super) enum Stop {
    /// The prefix must reach this many bytes before the parse can go on.
    NeedMore(u64),
    /// The file is bad.
    Bad(GgufError),
}

impl From<GgufError> for Stop {
    fn from(error: GgufError) -> Self {
        Self::Bad(error)
    }
}

pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
    /// Bytes that a header of this file can have at most.
    limit: u64,
    file_size: u64,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(bytes: &'a [u8], file_size: u64, header_limit: u64) -> Self {
        Self {
            bytes,
            at: 0,
            limit: file_size.min(header_limit),
            file_size,
        }
    }

    pub(super) fn position(&self) -> u64 {
        self.at as u64
    }

    /// The next `len` bytes. Nothing is allocated for bytes that do not exist yet.
    pub(super) fn take(&mut self, len: u64) -> Result<&'a [u8], Stop> {
        let end = self.position().saturating_add(len);
        if end > self.limit {
            return Err(Stop::Bad(if end > self.file_size {
                GgufError::Truncated {
                    needed: end,
                    size: self.file_size,
                }
            } else {
                GgufError::HeaderTooLarge { limit: self.limit }
            }));
        }
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let taken = usize::try_from(len).ok().and_then(|len| rest.get(..len));
        let taken = taken.ok_or(Stop::NeedMore(end))?;
        self.at = self.at.saturating_add(taken.len());
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], Stop> {
        let mut out = [0; N];
        for (to, from) in out.iter_mut().zip(self.take(N as u64)?) {
            *to = *from;
        }
        Ok(out)
    }

    pub(super) fn u32(&mut self) -> Result<u32, Stop> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub(super) fn u64(&mut self) -> Result<u64, Stop> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    /// A text with its length before it; `what` names it in errors.
    pub(super) fn text(&mut self, what: &str, longest: u64) -> Result<&'a str, Stop> {
        let len = self.u64()?;
        if len > longest.min(LONGEST_STRING) {
            return Err(Stop::Bad(GgufError::TooMany {
                what: format!("bytes in {what}"),
                count: len,
                limit: longest.min(LONGEST_STRING),
            }));
        }
        std::str::from_utf8(self.take(len)?).map_err(|_| {
            Stop::Bad(GgufError::NotText {
                what: what.to_owned(),
            })
        })
    }
}
