//! Peers on one machine, each its own process: what one has, others fetch from it.
#![cfg(unix)]
#![expect(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    clippy::panic,
    reason = "tests fail by panicking, their helpers too"
)]

mod support;

use std::process::{Child, Stdio};
use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::Value;
use support::{Dir, Done, FileServer, catalogue, read_all, read_until, signal};

/// A running `kwaainet peer`.
struct Peer {
    child: Child,
    address: String,
    control: u64,
}

impl Peer {
    fn start(dir: &Dir, catalogue: &[String; 2], more: &[&str]) -> Self {
        let [flag, file] = catalogue;
        let args = ["peer", "--json", "--control", "0", flag, file];
        let mut child = dir
            .command(&[&args, more].concat())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let told = read_until(child.stdout.as_mut().unwrap(), "\n");
        let told: Value = serde_json::from_str(&told).unwrap();
        Self {
            child,
            address: told["addresses"][0].as_str().unwrap().to_owned(),
            control: told["control"].as_u64().unwrap(),
        }
    }

    fn ask(&self, path: &str) -> String {
        let stream = std::net::TcpStream::connect(("127.0.0.1", self.control as u16)).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
        std::io::Write::write_all(&mut &stream, request.as_bytes()).unwrap();
        read_all(stream)
    }

    /// Waits until it says this.
    fn says(&self, path: &str, what: &str) {
        for _ in 0..200 {
            if self.ask(path).contains(what) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("{what} is not in {}", self.ask(path));
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn a_model_comes_from_peers_and_survives_that_one_of_them_is_killed() {
    let home = Dir::new();
    let file = std::fs::read(home.tiny_model()).unwrap();
    let server = FileServer::new(file.clone(), Duration::from_millis(1));
    let catalogue = catalogue(&home, &server.url);
    let [flag, models] = &catalogue;
    let pull = |dir: &Dir, bootstrap: &[&str]| {
        let bootstrap: Vec<&str> = bootstrap.iter().flat_map(|at| ["--bootstrap", at]).collect();
        dir.run(&[&["model", "pull", "tiny", "--json", flag, models], &bootstrap[..]].concat())
    };
    let first = pull(&home, &[]).ends_with(0).json();
    assert_eq!((&first["from_peers"], &first["peers"]), (&0.into(), &0.into()));
    let by_server = server.sent.load(Ordering::Relaxed);
    assert_eq!(by_server, file.len() as u64);

    let one = Peer::start(&home, &catalogue, &[]);
    // It looks at what is here after it has said where it is.
    one.says("/peers", r#""models":["tiny"]"#);
    one.says("/metrics", "\nkwaainet_models 1\n");
    let second_home = Dir::new();
    let second = pull(&second_home, &[&one.address]).ends_with(0).json();
    assert_eq!(
        (&second["from_peers"], &second["peers"]),
        (&file.len().into(), &1.into())
    );

    // From two that are slow, one of which is killed in the middle.
    let two = Peer::start(
        &second_home,
        &catalogue,
        &["--upload", "1", "--bootstrap", &one.address],
    );
    drop(one);
    let one = Peer::start(&home, &catalogue, &["--upload", "1"]);
    let third_home = Dir::new();
    let args = ["model", "pull", "tiny", "--json", flag, models, "--bootstrap"];
    let both = format!("{},{}", one.address, two.address);
    let pulling = third_home
        .command(&[&args[..], &[&both]].concat())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(1200));
    signal(one.child.id(), "KILL");
    let third = Done(pulling.wait_with_output().unwrap()).ends_with(0).json();
    assert_eq!(third["source"], "network");
    assert_eq!(
        std::fs::read(third_home.path("data/models/tiny.gguf")).unwrap(),
        file
    );
    assert_eq!(
        server.sent.load(Ordering::Relaxed),
        by_server,
        "the server was asked for nothing more"
    );
}

#[test]
fn without_any_peer_that_answers_the_servers_give_it() {
    let home = Dir::new();
    let [flag, models] = catalogue(&home, "tiny.gguf");
    let nobody = "/ip4/127.0.0.1/tcp/9/p2p/12D3KooWRBhwfeP2Y4TCx1SM6s9rUoHhR5STiGwxBhgFRcw3UERE";
    let done = home
        .run(&["model", "pull", "tiny", &flag, &models, "--bootstrap", nobody])
        .ends_with(0);
    assert!(
        done.err().contains("None of 1 known peers answers"),
        "{}",
        done.err()
    );
    let done = home
        .run(&[
            "model",
            "pull",
            "tiny",
            &flag,
            &models,
            "--bootstrap",
            "localhost:4001",
        ])
        .ends_with(2);
    assert!(done.err().contains("multiaddr"), "{}", done.err());
}
