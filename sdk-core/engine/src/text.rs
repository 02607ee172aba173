//! Bytes of tokens to text that may be shown: whole characters only, and nothing of a stop string.

/// Turns the pieces of tokens into text, one after the other.
///
/// What it gives out depends on the bytes alone and never on how they are cut into pieces, except that text is
/// given out later where a character is incomplete or where a stop string could be beginning.
///
/// ```
/// use kwaainet_engine::TextStream;
/// let mut stream = TextStream::new(vec!["\nUser:".to_owned()]);
/// assert_eq!(stream.push(b"caf\xc3"), "caf");
/// assert_eq!(stream.push(b"\xa9\nUs"), "é"); // "\nUs" may become the stop string
/// assert_eq!(stream.push(b"er: hi"), "");
/// assert!(stream.is_stopped());
/// ```
#[derive(Debug, Clone, Default)]
pub struct TextStream {
    stops: Vec<String>,
    /// An incomplete character.
    partial: Vec<u8>,
    /// Text that may be the beginning of a stop string.
    held: String,
    stopped: bool,
}

impl TextStream {
    /// A stream that ends before any of these strings. Empty ones are ignored.
    pub fn new(stops: Vec<String>) -> Self {
        Self {
            stops: stops.into_iter().filter(|stop| !stop.is_empty()).collect(),
            ..Self::default()
        }
    }

    /// Whether a stop string came. From then on there is no more text.
    pub fn is_stopped(&self) -> bool {
        self.stopped
    }

    /// Takes the bytes of a token and gives out the text that is certain now.
    pub fn push(&mut self, bytes: &[u8]) -> String {
        if self.stopped {
            return String::new();
        }
        self.partial.extend_from_slice(bytes);
        let bytes = std::mem::take(&mut self.partial);
        let mut rest = bytes.as_slice();
        while let Err(error) = std::str::from_utf8(rest) {
            let (valid, broken) = rest.split_at(error.valid_up_to());
            self.hold(std::str::from_utf8(valid).unwrap_or_default());
            let Some(len) = error.error_len() else {
                self.partial = broken.to_vec();
                rest = &[];
                break;
            };
            self.hold("\u{fffd}");
            rest = broken.get(len..).unwrap_or_default();
        }
        self.hold(std::str::from_utf8(rest).unwrap_or_default());
        let certain = if self.stopped {
            self.held.len()
        } else {
            self.held.len() - self.doubtful()
        };
        self.held.drain(..certain).collect()
    }

    /// The rest, when no more tokens come. An incomplete character becomes U+FFFD.
    pub fn finish(&mut self) -> String {
        if !self.partial.is_empty() && !self.stopped {
            self.partial.clear();
            self.hold("\u{fffd}");
        }
        std::mem::take(&mut self.held)
    }

    /// Appends text up to the first stop string: the one that is complete first, and of several the longest.
    fn hold(&mut self, text: &str) {
        for c in text.chars() {
            if self.stopped {
                return;
            }
            self.held.push(c);
            let complete = self
                .stops
                .iter()
                .filter(|stop| self.held.ends_with(stop.as_str()));
            if let Some(len) = complete.map(String::len).max() {
                self.held.truncate(self.held.len() - len);
                self.stopped = true;
            }
        }
    }

    /// The length of the longest end of the held text with which a stop string begins.
    fn doubtful(&self) -> usize {
        let of_stop = |stop: &String| {
            let longest = self.held.len().min(stop.len() - 1);
            (1..=longest)
                .rev()
                .find(|len| stop.get(..*len).is_some_and(|start| self.held.ends_with(start)))
                .unwrap_or(0)
        };
        self.stops.iter().map(of_stop).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_pieces(bytes: &[u8], cuts: &[usize], stops: &[&str]) -> (String, bool) {
        let mut stream = TextStream::new(stops.iter().map(|stop| (*stop).to_owned()).collect());
        let mut text = String::new();
        let mut start = 0;
        for &cut in cuts.iter().chain([&bytes.len()]) {
            text += &stream.push(&bytes[start..cut]);
            start = cut;
        }
        text += &stream.finish();
        (text, stream.is_stopped())
    }

    #[test]
    fn any_cut_gives_the_same_text() {
        let samples: [&[u8]; 6] = [
            "aé中👨‍👩‍👧b".as_bytes(),
            b"bad \xff\xfe\xc3( \xf0\x9f\x98 x \xe4\xb8",
            b"\xf0\x9f",
            "one two STOP three".as_bytes(),
            "ababababc".as_bytes(),
            b"xx\xe2\x80\xa6yy",
        ];
        let stops = ["STOP", "ababc", "\u{2026}y", "never"];
        for sample in samples {
            let whole = in_pieces(sample, &[], &stops);
            for first in 0..=sample.len() {
                for second in first..=sample.len() {
                    assert_eq!(
                        in_pieces(sample, &[first, second], &stops),
                        whole,
                        "{first} {second}"
                    );
                }
            }
        }
        assert_eq!(in_pieces(samples[3], &[], &stops), ("one two ".to_owned(), true));
        assert_eq!(in_pieces(samples[4], &[], &stops), ("abab".to_owned(), true));
    }

    #[test]
    fn without_stops_it_is_the_lossy_text() {
        let sample = b"ok \xf0\x9f\x98\x80 \xf0\x9f\x98 \xed\xa0\x80 \xc0\x80 end \xe2";
        assert_eq!(
            in_pieces(sample, &[5, 9, 12], &[]).0,
            String::from_utf8_lossy(sample)
        );
    }

    #[test]
    fn holds_back_no_more_than_it_must() {
        let mut stream = TextStream::new(vec!["\n\n###".to_owned()]);
        assert_eq!(stream.push(b"a\n"), "a");
        assert_eq!(stream.push(b"\n"), "");
        assert_eq!(stream.push(b"\n"), "\n");
        assert_eq!(stream.push(b"#"), "");
        assert_eq!(stream.push(b"x"), "\n\n#x");
        assert_eq!(stream.finish(), "");
    }

    #[test]
    fn of_two_stop_strings_the_first_to_be_complete_ends_it() {
        assert_eq!(in_pieces(b"abcX", &[], &["abcX", "bc"]).0, "a");
        assert_eq!(in_pieces(b"abcX", &[], &["abc", "c"]).0, "");
    }
}
