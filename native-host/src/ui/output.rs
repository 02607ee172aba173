//! Results on standard output, notes on standard error.

use std::io::{self, IsTerminal as _, Write as _};

use serde::Serialize;

use crate::HostError;

/// Where the program writes. `println!` would panic when a pipe is closed.
#[derive(Debug, Clone, Copy)]
pub struct Output {
    /// Results are JSON.
    pub json: bool,
    /// No notes.
    pub quiet: bool,
}

impl Output {
    /// Writes text as it is, at once.
    ///
    /// # Errors
    /// [`HostError::Pipe`].
    pub fn text(self, text: &str) -> Result<(), HostError> {
        let mut out = io::stdout().lock();
        out.write_all(text.as_bytes())?;
        Ok(out.flush()?)
    }

    /// Writes a line.
    ///
    /// # Errors
    /// [`HostError::Pipe`].
    pub fn line(self, text: &str) -> Result<(), HostError> {
        self.text(&format!("{text}\n"))
    }

    /// Writes one JSON document on a line of its own.
    ///
    /// # Errors
    /// [`HostError::Pipe`].
    pub fn json(self, value: &impl Serialize) -> Result<(), HostError> {
        let text = serde_json::to_string(value).map_err(io::Error::from)?;
        self.line(&text)
    }

    /// A note for a person: on standard error, and never a reason to fail.
    pub fn note(self, text: &str) {
        if !self.quiet {
            drop(writeln!(io::stderr().lock(), "{text}"));
        }
    }

    /// A note for a person who looks at a terminal; programs that read our output are spared it.
    pub fn aside(self, text: &str) {
        if !self.json && stderr_is_terminal() {
            self.note(text);
        }
    }

    /// Writes what a model says. On a terminal, control characters are made visible: a model must not be able to
    /// move the cursor, change the title or fill the clipboard.
    ///
    /// # Errors
    /// [`HostError::Pipe`].
    pub fn speech(self, text: &str) -> Result<(), HostError> {
        if io::stdout().is_terminal() {
            self.text(&harmless(text))
        } else {
            self.text(text)
        }
    }

    /// Reports an error.
    pub fn error(self, error: &HostError) {
        let mut err = io::stderr().lock();
        if self.json {
            let body = serde_json::json!({ "error": error.body() });
            drop(writeln!(err, "{body}"));
        } else {
            drop(writeln!(err, "kwaainet: {error}"));
        }
    }
}

/// Whether a person looks at standard error.
pub(crate) fn stderr_is_terminal() -> bool {
    io::stderr().is_terminal()
}

fn harmless(text: &str) -> String {
    let harmless = |c: char| {
        if c.is_control() && !matches!(c, '\n' | '\t') {
            '\u{fffd}'
        } else {
            c
        }
    };
    text.chars().map(harmless).collect()
}

/// A number of bytes as people read it (decimal units, as disks and downloads are sold).
pub fn bytes(count: u64) -> String {
    const UNITS: [(u64, &str); 3] = [(1_000_000_000, "GB"), (1_000_000, "MB"), (1000, "kB")];
    for (size, unit) in UNITS {
        if count >= size {
            return format!("{:.1} {unit}", count as f64 / size as f64);
        }
    }
    format!("{count} B")
}

/// A number of peers as people read it.
pub fn count(peers: usize) -> String {
    format!("{peers} peer{}", if peers == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_model_cannot_speak_to_the_terminal() {
        assert_eq!(
            harmless("a\tb\n\u{1b}[2J\r\u{9b}"),
            "a\tb\n\u{fffd}[2J\u{fffd}\u{fffd}"
        );
    }

    #[test]
    fn bytes_are_readable() {
        assert_eq!(bytes(999), "999 B");
        assert_eq!(bytes(98_700_000), "98.7 MB");
        assert_eq!(bytes(4_500_000_000), "4.5 GB");
    }
}
