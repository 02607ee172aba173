//! What a running peer tells programs of this machine: `/peers` and `/metrics`.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::CONTENT_TYPE;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use kwaainet_network::{Network as _, Reach};
use kwaainet_p2p::P2p;
use serde_json::json;
use tokio::net::TcpListener;

use super::{Guard, HEAD_TIMEOUT, Server};
use crate::HostError;
use crate::host::Host;

/// A server on 127.0.0.1 that only looks.
#[derive(Debug)]
pub struct Control(Server);

impl Control {
    /// Takes the port.
    ///
    /// # Errors
    /// [`HostError::Listen`] that says what to do.
    pub fn bind(port: u16) -> Result<Self, HostError> {
        Server::bind(&Ipv4Addr::LOCALHOST.to_string(), port).map(Self)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.0.address()
    }

    /// Answers until it is dropped.
    ///
    /// # Errors
    /// When the system takes the address away.
    pub async fn run(self, network: P2p, host: Host) -> Result<(), HostError> {
        let listener = TcpListener::from_std(self.0.listener)?;
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
                continue;
            };
            let peer = (network.clone(), host.clone());
            let service = service_fn(move |request| {
                let (network, host) = peer.clone();
                async move {
                    let models = host.core().kept_models().await.unwrap_or_default();
                    Ok::<_, Infallible>(answer(&network, &models, &request))
                }
            });
            tokio::spawn(async move {
                let connection = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .header_read_timeout(HEAD_TIMEOUT)
                    .max_headers(64)
                    .serve_connection(TokioIo::new(stream), service);
                // An error of a connection concerns its client, who knows already.
                let _ = connection.await;
            });
        }
    }
}

fn answer(network: &P2p, models: &[String], request: &Request<Incoming>) -> Response<Full<Bytes>> {
    // No web page may read it, whatever name it makes point here.
    let guard = Guard {
        origins: Vec::new(),
        api_key: None,
        loopback: true,
    };
    if guard.check_source(request.headers()).is_err() {
        return reply(
            StatusCode::FORBIDDEN,
            "text/plain",
            "for programs of this machine only\n".to_owned(),
        );
    }
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/peers") => reply(StatusCode::OK, "application/json", peers(network, models)),
        (&Method::GET, "/metrics") => reply(
            StatusCode::OK,
            "text/plain; version=0.0.4",
            metrics(network, models),
        ),
        _ => reply(
            StatusCode::NOT_FOUND,
            "text/plain",
            "there are /peers and /metrics\n".to_owned(),
        ),
    }
}

fn reply(status: StatusCode, kind: &'static str, body: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let kind = hyper::header::HeaderValue::from_static(kind);
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

fn word(reach: Reach) -> &'static str {
    match reach {
        Reach::Relayed => "relayed",
        _ => "direct",
    }
}

fn peers(network: &P2p, models: &[String]) -> String {
    let peers: Vec<_> = network
        .peers()
        .into_iter()
        .map(|info| {
            json!({
                "peer": info.peer.to_string(),
                "address": info.address.as_str(),
                "reach": word(info.reach),
                "sent": info.sent,
                "received": info.received,
            })
        })
        .collect();
    let addresses: Vec<_> = network.addresses().iter().map(ToString::to_string).collect();
    let peer = network.local_peer().to_string();
    json!({ "peer": peer, "addresses": addresses, "models": models, "peers": peers }).to_string()
}

/// Prometheus' text format, version 0.0.4.
fn metrics(network: &P2p, models: &[String]) -> String {
    let peers = network.peers();
    let of = |reach| peers.iter().filter(|info| info.reach == reach).count();
    let sum =
        |bytes: fn(&kwaainet_network::PeerInfo) -> u64| peers.iter().map(bytes).fold(0, u64::saturating_add);
    let mut text = String::new();
    let mut gauge = |name: &str, help: &str, values: &[(&str, u64)]| {
        // Writing to a string cannot fail.
        let _ = writeln!(
            text,
            "# HELP kwaainet_{name} {help}\n# TYPE kwaainet_{name} gauge"
        );
        for (labels, value) in values {
            let _ = writeln!(text, "kwaainet_{name}{labels} {value}");
        }
    };
    let connected = [
        ("{reach=\"direct\"}", of(Reach::Direct) as u64),
        ("{reach=\"relayed\"}", of(Reach::Relayed) as u64),
    ];
    gauge("peers", "Peers that are connected.", &connected);
    gauge(
        "sent_bytes",
        "Bytes of messages sent to peers that are connected.",
        &[("", sum(|info| info.sent))],
    );
    let received = [("", sum(|info| info.received))];
    gauge(
        "received_bytes",
        "Bytes of messages received from peers that are connected.",
        &received,
    );
    let load = network.relay_load();
    let places = [("", load.reservations as u64)];
    gauge(
        "relay_reservations",
        "Peers that keep a place at this relay, to be reached through it.",
        &places,
    );
    let circuits = [("", load.circuits as u64)];
    gauge(
        "relay_circuits",
        "Connections of others that lead through this relay.",
        &circuits,
    );
    let kept = [("", models.len() as u64)];
    gauge("models", "Models that are lent, whole or in part.", &kept);
    let records = [("", network.records_bytes() as u64)];
    gauge(
        "records_bytes",
        "Records of others that are kept for them.",
        &records,
    );
    text
}
