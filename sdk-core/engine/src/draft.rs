//! Guesses the next tokens from the text so far, so that several can be evaluated together.
//!
//! Prompt lookup decoding (Saxena 2023, github.com/apoorvumang/prompt-lookup-decoding): where the last words stood before,
//! what followed them then may follow now. Guesses are checked by the model itself, and a token's logits do not depend on
//! what is evaluated beside it, so the answer is the one without guesses; only when it comes is different.

/// Most tokens that are guessed at once: with the certain one before them they fill the largest tile of the kernels.
pub(crate) const MOST_GUESSES: usize = 7;

/// As long as guesses have not proved right: fills a tile of four, which takes little longer than one token.
const FIRST_GUESSES: usize = 3;

/// After wrong guesses in a row, this many powers of two of tokens are waited at most.
const MOST_MISSES: u32 = 5;

/// Looks up what followed before.
#[derive(Debug)]
pub(crate) struct Lookup {
    /// Tokens of the next guess.
    len: usize,
    /// Guesses in a row of which nothing was right.
    misses: u32,
    /// Tokens to come without a guess.
    rest: u32,
}

impl Default for Lookup {
    fn default() -> Self {
        Self {
            len: FIRST_GUESSES,
            misses: 0,
            rest: 0,
        }
    }
}

impl Lookup {
    /// Up to `most` tokens that may follow `tokens` and then `last`.
    pub(crate) fn guess(&mut self, tokens: &[u32], last: u32, most: usize) -> Vec<u32> {
        if self.rest > 0 {
            self.rest = self.rest.saturating_sub(1);
            return Vec::new();
        }
        let Some(from) = follows(tokens, last) else {
            return Vec::new();
        };
        let mut guess = Vec::with_capacity(MOST_GUESSES);
        // What followed may reach into the guess itself: a text that goes round in a circle.
        for at in from..from.saturating_add(most.min(self.len)) {
            let known = tokens.iter().chain([&last]).nth(at).copied();
            let beyond = at.saturating_sub(tokens.len().saturating_add(1));
            guess.extend(known.or_else(|| guess.get(beyond).copied()));
        }
        guess
    }

    /// Learns how many of the guessed tokens were right.
    pub(crate) fn learn(&mut self, guessed: usize, right: usize) {
        if guessed == 0 {
            return;
        }
        if right == 0 {
            self.misses = self.misses.saturating_add(1).min(MOST_MISSES);
            self.rest = 1 << self.misses;
        } else {
            self.misses = 0;
        }
        self.len = if right == guessed {
            MOST_GUESSES
        } else {
            FIRST_GUESSES
        };
    }
}

/// Where the text goes on behind the newest place that has the same last three tokens, or else the same last two.
fn follows(tokens: &[u32], last: u32) -> Option<usize> {
    let (previous, rest) = tokens.split_last()?;
    let three = rest.last().and_then(|before| {
        let wanted = [*before, *previous, last];
        Some(
            tokens
                .windows(3)
                .rposition(|place| place == wanted)?
                .saturating_add(3),
        )
    });
    three.or_else(|| {
        let wanted = [*previous, last];
        Some(
            tokens
                .windows(2)
                .rposition(|place| place == wanted)?
                .saturating_add(2),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guess(tokens: &[u32], last: u32) -> Vec<u32> {
        Lookup::default().guess(tokens, last, MOST_GUESSES)
    }

    #[test]
    fn what_followed_before_is_guessed() {
        assert_eq!(guess(&[1, 2, 3, 4, 5, 9, 1, 2], 3), [4, 5, 9]);
        // Three alike go before two alike, the newest before older ones.
        assert_eq!(guess(&[1, 2, 3, 4, 7, 2, 3, 5, 8, 1, 2], 3), [4, 7, 2]);
        assert_eq!(guess(&[7, 2, 3, 4, 8, 2, 3, 5, 6, 6, 9, 2], 3), [5, 6, 6]);
        for nothing in [&[1, 2, 3][..], &[], &[4]] {
            assert!(guess(nothing, 4).is_empty());
        }
    }

    #[test]
    fn a_circle_is_followed_round() {
        assert_eq!(guess(&[5, 5, 5], 5), [5, 5, 5]);
        assert_eq!(guess(&[1, 2, 1], 2), [1, 2, 1]);
        let mut lookup = Lookup::default();
        lookup.learn(3, 3);
        assert_eq!(lookup.guess(&[1, 2, 3, 1, 2], 3, 9), [1, 2, 3, 1, 2, 3, 1]);
        assert_eq!(lookup.guess(&[1, 2, 3, 1, 2], 3, 2), [1, 2]);
    }

    #[test]
    fn wrong_guesses_make_it_wait_longer_and_longer() {
        let mut lookup = Lookup::default();
        let mut waits = Vec::new();
        for _ in 0..7 {
            lookup.learn(3, 0);
            let mut wait = 0;
            while lookup.guess(&[5, 5, 5], 5, 7).is_empty() {
                wait += 1;
            }
            waits.push(wait);
        }
        assert_eq!(waits, [2, 4, 8, 16, 32, 32, 32]);
        lookup.learn(3, 1);
        assert_eq!(lookup.guess(&[5, 5, 5], 5, 7).len(), 3);
    }
}
