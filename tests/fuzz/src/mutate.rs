//! A small seeded mutator: the same seed makes the same inputs, so that a finding can be had again.

/// xorshift64*: Vigna, "An experimental exploration of Marsaglia's xorshift generators" (2016).
#[derive(Debug)]
pub struct Dice(u64);

impl Dice {
    /// Dice that always fall the same way for the same seed.
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `end`; 0 when `end` is 0.
    pub fn below(&mut self, end: usize) -> usize {
        if end == 0 {
            0
        } else {
            ((self.next() >> 11) as usize) % end
        }
    }
}

/// Numbers at which parsers break: borders of integer types, and lengths that overflow when multiplied.
const NUMBERS: [u64; 16] = [
    0,
    1,
    2,
    3,
    4,
    31,
    255,
    256,
    0x7fff,
    0xffff,
    0x7fff_ffff,
    0xffff_ffff,
    1 << 33,
    1 << 48,
    i64::MAX as u64,
    u64::MAX,
];

/// Longest mutant: seeds are small, and growth beyond this only costs time.
const LONGEST: usize = 64 << 10;

/// Changes `input` in one to four places. `other` is another seed to take pieces from; `words` are the tokens
/// of the format.
pub fn mutate(input: &mut Vec<u8>, other: &[u8], words: &[&[u8]], dice: &mut Dice) {
    for _ in 0..=dice.below(4) {
        let at = dice.below(input.len() + 1);
        match dice.below(10) {
            0 => {
                if let Some(byte) = input.get_mut(at) {
                    *byte ^= 1 << dice.below(8);
                }
            }
            1 => {
                if let Some(byte) = input.get_mut(at) {
                    *byte = dice.below(256) as u8;
                }
            }
            2 => input.truncate(at),
            3 => {
                let end = (at + 1 + dice.below(32)).min(input.len());
                input.drain(at.min(end)..end);
            }
            4 => {
                let bytes: Vec<u8> = (0..=dice.below(16)).map(|_| dice.below(256) as u8).collect();
                input.splice(at..at, bytes);
            }
            5 => {
                let width = [1, 2, 4, 8][dice.below(4)];
                let number = NUMBERS[dice.below(NUMBERS.len())].to_le_bytes();
                for (to, from) in input.iter_mut().skip(at).zip(&number[..width]) {
                    *to = *from;
                }
            }
            6 => {
                let end = (at + 1 + dice.below(64)).min(input.len());
                let piece = input[at.min(end)..end].to_vec();
                let to = dice.below(input.len() + 1);
                for _ in 0..=dice.below(8) {
                    input.splice(to..to, piece.iter().copied());
                }
            }
            7 => {
                let from = dice.below(other.len() + 1);
                let end = (from + 1 + dice.below(256)).min(other.len());
                input.splice(at..at, other[from.min(end)..end].iter().copied());
            }
            8 if !words.is_empty() => {
                input.splice(at..at, words[dice.below(words.len())].iter().copied());
            }
            _ => {
                // A number in digits: text formats.
                if let Some(start) = input.iter().skip(at).position(u8::is_ascii_digit) {
                    let start = at + start;
                    let len = input[start..]
                        .iter()
                        .take_while(|byte| byte.is_ascii_digit())
                        .count();
                    let number = NUMBERS[dice.below(NUMBERS.len())].to_string();
                    input.splice(start..start + len, number.into_bytes());
                }
            }
        }
    }
    input.truncate(LONGEST);
}
