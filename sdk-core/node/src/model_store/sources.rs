//! Where a model's bytes can be had, and which place to ask next.

use std::collections::BTreeMap;

use kwaainet_platform::HttpRequest;
use kwaainet_types::{CHUNK_BYTES, ModelEntry};

use super::journal::chunk_len;
use crate::cid;

/// A place is given up after so many failures in a row.
const MOST_FAILURES: u32 = 6;
/// How often one place may give wrong bytes for the same chunk.
const MOST_WRONG_PER_CHUNK: u32 = 2;
/// A place that gave so many wrong chunks in a row does not have the file.
const MOST_WRONG_IN_A_ROW: u32 = 3;
const FIRST_PAUSE_MS: u64 = 500;
const LONGEST_PAUSE_MS: u64 = 30_000;

/// How a place is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Kind {
    /// An IPFS gateway: one raw leaf at a time, by its own CID.
    Gateway(String),
    /// The file, by ranges.
    File(String),
}

#[derive(Debug)]
struct Source {
    kind: Kind,
    failures: u32,
    wrong: BTreeMap<usize, u32>,
    wrong_in_a_row: u32,
    given_up: bool,
}

/// Why no place is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exhausted {
    Network,
    Integrity,
}

/// All places for one model, in the order of the catalogue: gateways, then URLs.
#[derive(Debug)]
pub(crate) struct Sources {
    sources: Vec<Source>,
    last_failure: String,
    any_unreachable: bool,
}

impl Sources {
    /// Relative paths are relative to `base`, the catalogue's own URL.
    pub(crate) fn new(entry: &ModelEntry, gateways: &[String], base: Option<&str>) -> Self {
        let gateways = gateways.iter().cloned().map(Kind::Gateway);
        let mut last_failure = String::from("it has no source");
        let mut any_unreachable = false;
        let mut files = Vec::new();
        for source in &entry.sources {
            match absolute(source, base) {
                Ok(url) => files.push(Kind::File(url)),
                Err(reason) => {
                    last_failure = reason;
                    any_unreachable = true;
                }
            }
        }
        Self {
            sources: gateways
                .chain(files)
                .map(|kind| Source {
                    kind,
                    failures: 0,
                    wrong: BTreeMap::new(),
                    wrong_in_a_row: 0,
                    given_up: false,
                })
                .collect(),
            last_failure,
            any_unreachable,
        }
    }

    /// The place to ask for this chunk: the one that failed least, then the first.
    pub(crate) fn pick(&self, chunk: usize) -> Result<usize, Exhausted> {
        self.sources
            .iter()
            .enumerate()
            .filter(|(_, source)| !source.given_up && source.wrong_for(chunk) < MOST_WRONG_PER_CHUNK)
            .min_by_key(|(at, source)| (source.wrong_for(chunk), source.failures, *at))
            .map(|(at, _)| at)
            .ok_or(if self.any_unreachable || self.sources.is_empty() {
                Exhausted::Network
            } else {
                Exhausted::Integrity
            })
    }

    /// What to ask for, and for which of the missing chunks; they follow each other without a gap.
    pub(crate) fn request(
        &self,
        at: usize,
        missing: &[usize],
        entry: &ModelEntry,
    ) -> Option<(HttpRequest, Vec<usize>)> {
        let source = self.sources.get(at)?;
        let first = *missing.first()?;
        match &source.kind {
            Kind::Gateway(gateway) => {
                let mut hash = [0; 32];
                hex::decode_to_slice(entry.chunk_hashes.get(first)?, &mut hash).ok()?;
                let slash = if gateway.ends_with('/') { "" } else { "/" };
                let url = format!("{gateway}{slash}{}?format=raw", cid::of_leaf(&hash));
                Some((HttpRequest { url, range: None }, vec![first]))
            }
            Kind::File(url) => {
                let chunks: Vec<usize> = missing
                    .iter()
                    .copied()
                    .zip(first..)
                    .take_while(|(chunk, expected)| {
                        chunk == expected && (*chunk == first || source.wrong_for(*chunk) == 0)
                    })
                    .map(|(chunk, _)| chunk)
                    .collect();
                let bytes = chunks.iter().map(|chunk| chunk_len(entry, *chunk) as u64).sum();
                let from = (first as u64).saturating_mul(CHUNK_BYTES);
                let whole = from == 0 && bytes == entry.bytes;
                let request = HttpRequest {
                    url: url.clone(),
                    // A plain GET can be cached by every proxy.
                    range: (!whole).then_some((from, bytes)),
                };
                Some((request, chunks))
            }
        }
    }

    /// How long to wait before asking this place again.
    pub(crate) fn pause_ms(&self, at: usize, random: u64) -> u64 {
        let failures = self.sources.get(at).map_or(0, |source| source.failures);
        if failures == 0 {
            return 0;
        }
        let pause = (FIRST_PAUSE_MS << (failures - 1).min(10)).min(LONGEST_PAUSE_MS);
        // Jitter of a quarter, so that many visitors do not come back at the same moment.
        pause - random % (pause / 4)
    }

    pub(crate) fn right(&mut self, at: usize) {
        if let Some(source) = self.sources.get_mut(at) {
            source.failures = 0;
            source.wrong_in_a_row = 0;
        }
    }

    pub(crate) fn wrong(&mut self, at: usize, chunk: usize) {
        if let Some(source) = self.sources.get_mut(at) {
            let count = source.wrong.entry(chunk).or_default();
            *count = count.saturating_add(1);
            source.wrong_in_a_row = source.wrong_in_a_row.saturating_add(1);
            if source.wrong_in_a_row >= MOST_WRONG_IN_A_ROW {
                source.given_up = true;
            }
            self.last_failure = format!("{} gave wrong bytes for chunk {chunk}", source.kind.name());
        }
    }

    /// The connection failed or broke.
    pub(crate) fn failed(&mut self, at: usize, reason: &str) {
        if let Some(source) = self.sources.get_mut(at) {
            source.failures = source.failures.saturating_add(1);
            if source.failures >= MOST_FAILURES {
                source.given_up = true;
                self.any_unreachable = true;
            }
            self.last_failure = reason.to_owned();
        }
    }

    /// It answered that it does not have the file.
    pub(crate) fn give_up(&mut self, at: usize, reason: &str) {
        if let Some(source) = self.sources.get_mut(at) {
            source.given_up = true;
            self.any_unreachable = true;
            self.last_failure = reason.to_owned();
        }
    }

    pub(crate) fn is_given_up(&self, at: usize) -> bool {
        self.sources.get(at).is_none_or(|source| source.given_up)
    }

    pub(crate) fn last_failure(&self) -> &str {
        &self.last_failure
    }
}

impl Source {
    fn wrong_for(&self, chunk: usize) -> u32 {
        self.wrong.get(&chunk).copied().unwrap_or(0)
    }
}

impl Kind {
    fn name(&self) -> &str {
        match self {
            Self::Gateway(url) | Self::File(url) => url,
        }
    }
}

/// An absolute URL. Plain HTTP is for this very machine only: elsewhere somebody could read along.
fn absolute(source: &str, base: Option<&str>) -> Result<String, String> {
    let url = if source.contains("://") {
        source.to_owned()
    } else {
        let base = base.ok_or_else(|| {
            format!("the source {source} is relative, but the catalogue came from no URL that it could be relative to")
        })?;
        join(base, source).ok_or_else(|| format!("the source {source} cannot be joined to {base}"))?
    };
    // Beside a catalogue that the operator named as a file; the native client reads nothing outside its folder.
    let is_beside_a_file = base.is_some_and(|base| base.starts_with("file://")) && url.starts_with("file://");
    if is_fetchable(&url) || is_beside_a_file {
        Ok(url)
    } else {
        Err(format!("{url} is neither https nor on this machine"))
    }
}

/// Whether a URL is `https:`, or `http:` on the local machine (`localhost`, `*.localhost`, loopback addresses).
pub(crate) fn is_fetchable(url: &str) -> bool {
    if url.starts_with("https://") {
        return true;
    }
    let Some(rest) = url.strip_prefix("http://") else {
        return false;
    };
    let authority = rest.split(['/', '?', '#', '\\']).next().unwrap_or_default();
    if authority.contains('@') {
        // `http://localhost:x@evil.example/` goes to evil.example.
        return false;
    }
    let host = match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    };
    host == "localhost" || host.ends_with(".localhost") || host == "127.0.0.1" || host == "::1"
}

/// RFC 3986 resolution as far as we allow it: an absolute path, or one below the base's directory.
fn join(base: &str, path: &str) -> Option<String> {
    let (scheme, rest) = base.split_once("://")?;
    let rest = rest.split(['?', '#']).next()?;
    let (authority, base_path) = rest.split_once('/').unwrap_or((rest, ""));
    if path.starts_with("//") || path.split('/').any(|part| part == "..") {
        return None;
    }
    if let Some(path) = path.strip_prefix('/') {
        return Some(format!("{scheme}://{authority}/{path}"));
    }
    let path = path.strip_prefix("./").unwrap_or(path);
    let directory = base_path.rsplit_once('/').map_or("", |(directory, _)| directory);
    let slash = if directory.is_empty() { "" } else { "/" };
    Some(format!("{scheme}://{authority}/{directory}{slash}{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_sources_are_found_beside_the_catalogue() {
        let base = Some("http://cdn.localhost:8081/v1/models.json?x=1");
        assert_eq!(
            absolute("models/a.gguf", base).unwrap(),
            "http://cdn.localhost:8081/v1/models/a.gguf"
        );
        assert_eq!(
            absolute("/a.gguf", base).unwrap(),
            "http://cdn.localhost:8081/a.gguf"
        );
        assert_eq!(
            absolute("./a.gguf", Some("https://c.example/models.json")).unwrap(),
            "https://c.example/a.gguf"
        );
        assert_eq!(
            absolute("https://x.example/a", None).unwrap(),
            "https://x.example/a"
        );
        assert_eq!(
            absolute("a.gguf", Some("file:///d/models.json")).unwrap(),
            "file:///d/a.gguf"
        );
    }

    #[test]
    fn other_places_are_refused() {
        let base = Some("https://cdn.example/models.json");
        for bad in [
            "../up.gguf",
            "//evil.example/x",
            "http://example.org/x",
            "file:///etc/passwd",
            "ftp://x/y",
        ] {
            assert!(absolute(bad, base).is_err(), "{bad}");
        }
        assert!(absolute("models/a.gguf", None).is_err());
        assert!(!is_fetchable("http://localhost.evil.example/"));
        assert!(!is_fetchable("http://localhost:x@evil.example/"));
        assert!(is_fetchable("http://[::1]:80/x"));
    }
}
