//! Ranges of characters as sequences of byte ranges, so that the matcher knows bytes only and a token may end inside a
//! character. The split is that of Russ Cox, "Regular Expression Matching in the Wild" (2010).

/// Byte ranges, one for each byte of the character.
pub(super) type Sequence = Vec<(u8, u8)>;

/// The last code points of each length in UTF-8 (RFC 3629).
const LAST: [u32; 4] = [0x7f, 0x7ff, 0xffff, 0x10_ffff];
/// Surrogates are no characters.
const SURROGATES: (u32, u32) = (0xd800, 0xdfff);

/// The sequences that together are the characters from `low` to `high`.
pub(super) fn sequences(low: u32, high: u32, out: &mut Vec<Sequence>) {
    let (low, high) = (low, high.min(0x10_ffff));
    if low > high {
        return;
    }
    if low <= SURROGATES.1 && high >= SURROGATES.0 {
        if low < SURROGATES.0 {
            sequences(low, SURROGATES.0 - 1, out);
        }
        return sequences(SURROGATES.1 + 1, high, out);
    }
    // Both ends must have the same number of bytes,
    for last in LAST {
        if low <= last && last < high {
            sequences(low, last, out);
            return sequences(last + 1, high, out);
        }
    }
    // and from the first byte in which they differ on, all values of the bytes behind.
    for bits in [6, 12, 18] {
        let mask = (1_u32 << bits) - 1;
        if low > 0x7f && low & !mask != high & !mask {
            if low & mask != 0 {
                sequences(low, low | mask, out);
                return sequences((low | mask) + 1, high, out);
            }
            if high & mask != mask {
                sequences(low, (high & !mask) - 1, out);
                return sequences(high & !mask, high, out);
            }
        }
    }
    let encode = |code: u32| char::from_u32(code).map(|c| c.to_string().into_bytes());
    if let (Some(first), Some(last)) = (encode(low), encode(high)) {
        out.push(first.into_iter().zip(last).collect());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequences_are_the_range_and_nothing_else() {
        for (low, high) in [
            (0, 0x10_ffff),
            (0x20, 0x7e),
            (0x7f, 0x801),
            (0xd7ff, 0xe000),
            (0x3a9, 0x20ac),
            (0x1_0345, 0x1_f600),
        ] {
            let mut found = Vec::new();
            sequences(low, high, &mut found);
            for c in (0..=0x10_ffff).filter_map(char::from_u32) {
                let bytes = c.to_string().into_bytes();
                let matches = found
                    .iter()
                    .filter(|sequence| {
                        sequence.len() == bytes.len()
                            && sequence
                                .iter()
                                .zip(&bytes)
                                .all(|(range, byte)| (range.0..=range.1).contains(byte))
                    })
                    .count();
                assert_eq!(
                    matches,
                    usize::from((low..=high).contains(&u32::from(c))),
                    "{c:?} in {low:x}-{high:x}"
                );
            }
        }
    }
}
