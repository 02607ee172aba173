//! Addresses of WebSockets, as the URLs that browsers call.

use libp2p::Multiaddr;
use libp2p::multiaddr::Protocol;

/// The URL of `/ip4|ip6|dns|dns4|dns6/…/tcp/N/ws|wss|tls/ws`, with `/p2p/…` behind it or not; `None` for all else.
///
/// The address may come from a stranger, and a browser takes more for a URL than one would think: in
/// `wss://name@192.168.1.1` the name is a user's, and 127.0.0.1 may be written `0x7f.1`. What is said here to be a name is one, or
/// whoever looks for private addresses ([`Elsewhere`](crate::Elsewhere)) would look at something else than what is called.
pub fn websocket_url(address: &Multiaddr) -> Option<String> {
    let mut parts = address.iter();
    let host = match parts.next()? {
        Protocol::Ip4(ip) => ip.to_string(),
        Protocol::Ip6(ip) => format!("[{ip}]"),
        Protocol::Dns(name) | Protocol::Dns4(name) | Protocol::Dns6(name) if is_name(&name) => {
            name.into_owned()
        }
        _ => return None,
    };
    let Protocol::Tcp(port) = parts.next()? else {
        return None;
    };
    let (scheme, path) = match parts.next()? {
        Protocol::Ws(path) => ("ws", path),
        Protocol::Wss(path) => ("wss", path),
        Protocol::Tls => match parts.next()? {
            Protocol::Ws(path) => ("wss", path),
            _ => return None,
        },
        _ => return None,
    };
    match (parts.next(), parts.next()) {
        (None | Some(Protocol::P2p(_)), None) => {}
        _ => return None,
    }
    // What does not begin with a slash would belong to the port.
    path.starts_with('/')
        .then(|| format!("{scheme}://{host}:{port}{path}"))
}

/// Letters, digits, `-` and `_`, with dots between them (RFC 1123, and what is found beside it). The last label begins with a letter
/// as those of all top-level domains do, for one that is a number makes the whole an IPv4 address (WHATWG URL, 3.5).
fn is_name(name: &str) -> bool {
    let labels = name.strip_suffix('.').unwrap_or(name);
    let is_label = |label: &str| {
        let known = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        !label.is_empty() && label.bytes().all(known)
    };
    let last = labels.rsplit('.').next().unwrap_or_default();
    labels.split('.').all(is_label) && last.starts_with(|first: char| first.is_ascii_alphabetic())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_become_urls() {
        let peer = "/p2p/12D3KooWGxr4otVZUNx7XDX3tvBnAnSRwL6V4KbtcwBj7ruZFFpn";
        for (address, url) in [
            ("/ip4/127.0.0.1/tcp/2222/ws", "ws://127.0.0.1:2222/"),
            ("/ip4/203.0.113.7/tcp/443/wss", "wss://203.0.113.7:443/"),
            ("/ip4/203.0.113.7/tcp/443/tls/ws", "wss://203.0.113.7:443/"),
            ("/ip6/::1/tcp/2222/ws", "ws://[::1]:2222/"),
            ("/ip6/2001:db8::1/tcp/443/tls/ws", "wss://[2001:db8::1]:443/"),
            ("/dns/example.org/tcp/443/wss", "wss://example.org:443/"),
            (
                "/dns4/xn--bcher-kva.example/tcp/1/ws",
                "ws://xn--bcher-kva.example:1/",
            ),
            ("/dns6/a_b.example.org./tcp/1/tls/ws", "wss://a_b.example.org.:1/"),
            ("/dns/localhost/tcp/1/ws", "ws://localhost:1/"),
            (
                "/dns/example.org/tcp/443/x-parity-wss/%2Fp2p%3Fa",
                "wss://example.org:443/p2p?a",
            ),
        ] {
            assert_eq!(
                websocket_url(&address.parse().unwrap()).as_deref(),
                Some(url),
                "{address}"
            );
            let of_peer: Multiaddr = format!("{address}{peer}").parse().unwrap();
            assert_eq!(websocket_url(&of_peer).as_deref(), Some(url), "{of_peer}");
            let through: Multiaddr = format!("{of_peer}/p2p-circuit").parse().unwrap();
            assert_eq!(websocket_url(&through), None, "another peer is meant");
        }
        for address in [
            "/ip4/127.0.0.1/tcp/1",
            "/ip4/127.0.0.1/udp/1/quic-v1",
            "/ip4/127.0.0.1/tcp/1/tls",
            "/ip4/127.0.0.1/tcp/1/tls/wss",
            "/ip4/127.0.0.1/tcp/1/http",
            "/dnsaddr/example.org/tcp/1/ws",
            "/tcp/1/ws",
        ] {
            assert_eq!(websocket_url(&address.parse().unwrap()), None, "{address}");
        }
        assert_eq!(websocket_url(&Multiaddr::empty()), None);
    }

    /// In binary a name may hold any text.
    #[test]
    fn nothing_hides_in_a_name() {
        for name in [
            "",
            ".",
            "a..example",
            "example.org@192.168.1.1",
            "192.168.1.1",
            "127.1",
            "2130706433",
            "0x7f000001",
            "example.0x7f",
            "127.1.",
            "router/",
            "router?",
            "router#",
            "router:80",
            "router\\",
            "[::1]",
            "a b.example",
            "a%2eexample",
            "１２７.１",
            "ex\nample",
        ] {
            let address = Multiaddr::empty()
                .with(Protocol::Dns(name.into()))
                .with(Protocol::Tcp(80))
                .with(Protocol::Ws("/".into()));
            assert_eq!(websocket_url(&address), None, "{name:?}");
        }
        let address = Multiaddr::empty()
            .with(Protocol::Ip4([203, 0, 113, 7].into()))
            .with(Protocol::Tcp(4))
            .with(Protocol::Ws("43/".into()));
        assert_eq!(websocket_url(&address), None, "a path is no port");
    }
}
