//! Who may call: programs of this machine, not web pages that a browser on this machine happens to show.

use std::net::IpAddr;

use hyper::HeaderMap;
use hyper::header::{AUTHORIZATION, HOST, HeaderValue, ORIGIN};

/// The rules for one server.
#[derive(Clone)]
pub struct Guard {
    /// Origins of pages that may call; `*` allows every page.
    pub origins: Vec<String>,
    /// What clients must send as bearer token.
    pub api_key: Option<String>,
    /// Whether only this machine can connect.
    pub loopback: bool,
}

impl std::fmt::Debug for Guard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guard")
            .field("origins", &self.origins)
            .field("api_key", &self.api_key.as_ref().map(|_| "…"))
            .field("loopback", &self.loopback)
            .finish()
    }
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The `Host` is a name that may have been made to point here (DNS rebinding).
    Host,
    /// The page is not on the list.
    Origin,
    /// No key, or a wrong one.
    Key,
}

impl Guard {
    /// Checks where a request comes from. The key is checked by [`Guard::check_key`], after a preflight.
    pub(crate) fn check_source(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        if self.loopback && !headers.get(HOST).is_some_and(is_loopback_host) {
            return Err(Refusal::Host);
        }
        match headers.get(ORIGIN) {
            Some(origin) if self.allowed(origin).is_none() => Err(Refusal::Origin),
            _ => Ok(()),
        }
    }

    /// The value of `Access-Control-Allow-Origin` for this origin, if it may call.
    pub(crate) fn allowed(&self, origin: &HeaderValue) -> Option<HeaderValue> {
        let listed = |allowed: &String| allowed == "*" || allowed.as_bytes() == origin.as_bytes();
        self.origins.iter().any(listed).then(|| origin.clone())
    }

    pub(crate) fn check_key(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let Some(key) = &self.api_key else {
            return Ok(());
        };
        let sent = headers
            .get(AUTHORIZATION)
            .map(HeaderValue::as_bytes)
            .unwrap_or_default();
        let sent = sent.strip_prefix(b"Bearer ").unwrap_or_default();
        if same(sent, key.as_bytes()) {
            Ok(())
        } else {
            Err(Refusal::Key)
        }
    }
}

/// Compares without telling by its duration where the first difference is.
fn same(a: &[u8], b: &[u8]) -> bool {
    let differences = a.iter().zip(b).fold(0, |seen, (a, b)| seen | (a ^ b));
    a.len() == b.len() && std::hint::black_box(differences) == 0
}

/// `localhost`, names below it (RFC 6761 section 6.3), or an address: names that no stranger's DNS can point here.
fn is_loopback_host(host: &HeaderValue) -> bool {
    let Ok(host) = host.to_str() else {
        return false;
    };
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.rsplit_once(':').map_or(host, |(name, _)| name),
    };
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    name == "localhost"
        || name.ends_with(".localhost")
        || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs
            .iter()
            .map(|(name, value)| {
                (
                    hyper::header::HeaderName::from_static(name),
                    value.parse().unwrap(),
                )
            })
            .collect()
    }

    fn guard() -> Guard {
        Guard {
            origins: vec!["https://site.example".to_owned()],
            api_key: Some("secret".to_owned()),
            loopback: true,
        }
    }

    #[test]
    fn a_name_that_points_here_is_not_us() {
        for good in [
            "127.0.0.1:1",
            "localhost",
            "LOCALHOST:80",
            "cdn.localhost:8",
            "[::1]:9",
            "127.9.9.9",
        ] {
            assert_eq!(
                guard().check_source(&headers(&[("host", good)])),
                Ok(()),
                "{good}"
            );
        }
        for bad in [
            "evil.example:1",
            "localhost.evil.example",
            "192.168.0.2",
            "",
            "127.0.0.1.evil.example",
        ] {
            assert_eq!(
                guard().check_source(&headers(&[("host", bad)])),
                Err(Refusal::Host),
                "{bad}"
            );
        }
        assert_eq!(guard().check_source(&headers(&[])), Err(Refusal::Host));
    }

    #[test]
    fn only_listed_pages_may_call() {
        let from = |origin| guard().check_source(&headers(&[("host", "localhost"), ("origin", origin)]));
        assert_eq!(from("https://site.example"), Ok(()));
        for bad in [
            "https://evil.example",
            "null",
            "http://localhost",
            "https://site.example.evil",
        ] {
            assert_eq!(from(bad), Err(Refusal::Origin), "{bad}");
        }
    }

    #[test]
    fn the_key_must_be_the_key() {
        let with = |value| guard().check_key(&headers(&[("authorization", value)]));
        assert_eq!(with("Bearer secret"), Ok(()));
        for bad in [
            "Bearer secre",
            "Bearer secret1",
            "secret",
            "Basic secret",
            "Bearer ",
        ] {
            assert_eq!(with(bad), Err(Refusal::Key), "{bad}");
        }
        assert_eq!(guard().check_key(&headers(&[])), Err(Refusal::Key));
    }
}
