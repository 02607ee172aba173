//! The program as a user has it: its own process, no settings of whoever runs the tests.
#![expect(dead_code, reason = "each test program uses its own part")]
#![expect(unreachable_pub, reason = "compiled into several test programs")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use kwaainet_testkit::tiny_gguf::TinyModel;
use serde_json::Value;

/// A folder that is gone when the test is.
pub struct Dir(pub PathBuf);

impl Dir {
    pub fn new() -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let dir = std::env::temp_dir().join(format!("kwaainet-test-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        Self(dir)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// A model with random weights and some 4 MB, so that it has several chunks.
    pub fn tiny_model(&self) -> PathBuf {
        let path = self.path("tiny.gguf");
        let model = TinyModel {
            context: 4096,
            ..TinyModel::new("llama", "Q8_0")
        };
        std::fs::write(&path, model.bytes()).unwrap();
        path
    }

    /// The program, with everything it keeps in this folder.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_kwaainet"));
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("KWAAINET_")) {
            command.env_remove(name);
        }
        command
            .args(args)
            .env("KWAAINET_DATA_DIR", self.path("data"))
            .env("XDG_CONFIG_HOME", self.path("config"))
            .stdin(Stdio::null());
        command
    }

    pub fn run(&self, args: &[&str]) -> Done {
        Done(self.command(args).output().unwrap())
    }

    pub fn run_with_input(&self, args: &[&str], input: &str) -> Done {
        let mut command = self.command(args);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        Done(child.wait_with_output().unwrap())
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

/// How a run ended.
pub struct Done(pub Output);

impl Done {
    pub fn code(&self) -> i32 {
        self.0.status.code().unwrap_or(-1)
    }

    pub fn out(&self) -> String {
        String::from_utf8_lossy(&self.0.stdout).into_owned()
    }

    pub fn err(&self) -> String {
        String::from_utf8_lossy(&self.0.stderr).into_owned()
    }

    /// The exit code, with what was said when it is not the expected one.
    #[track_caller]
    pub fn ends_with(self, code: i32) -> Self {
        assert_eq!(
            self.code(),
            code,
            "stdout: {}\nstderr: {}",
            self.out(),
            self.err()
        );
        self
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.0.stdout)
            .unwrap_or_else(|error| panic!("{error}: {}{}", self.out(), self.err()))
    }
}

#[track_caller]
pub fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// Sends a signal by name, as Ctrl-C or a service manager does.
pub fn signal(pid: u32, name: &str) {
    let status = Command::new("kill")
        .args([format!("-{name}"), pid.to_string()])
        .status()
        .unwrap();
    assert!(status.success());
}

/// A file server with ranges, slow on purpose.
pub struct FileServer {
    pub url: String,
    /// Bytes of bodies that were sent.
    pub sent: Arc<AtomicU64>,
    pub ranges: Arc<Mutex<Vec<String>>>,
}

impl FileServer {
    pub fn new(bytes: Vec<u8>, pause_per_64_kib: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/model.gguf", listener.local_addr().unwrap());
        let (sent, ranges) = (Arc::new(AtomicU64::new(0)), Arc::new(Mutex::new(Vec::new())));
        let (sent_here, ranges_here, bytes) = (Arc::clone(&sent), Arc::clone(&ranges), Arc::new(bytes));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let (sent, ranges, bytes) = (
                    Arc::clone(&sent_here),
                    Arc::clone(&ranges_here),
                    Arc::clone(&bytes),
                );
                std::thread::spawn(move || {
                    let mut range = (0, bytes.len());
                    let mut status = "200 OK";
                    for line in BufReader::new(stream.try_clone().unwrap()).lines() {
                        let line = line.unwrap_or_default().to_lowercase();
                        if let Some(asked) = line.strip_prefix("range: bytes=") {
                            ranges.lock().unwrap().push(asked.to_owned());
                            let (first, last) = asked.split_once('-').unwrap();
                            let last: usize = last.parse().unwrap_or(bytes.len() - 1);
                            status = "206 Partial Content";
                            range = (first.parse().unwrap(), bytes.len().min(last + 1));
                        }
                        if line.is_empty() {
                            break;
                        }
                    }
                    let body = &bytes[range.0..range.1];
                    let head = format!(
                        "HTTP/1.1 {status}\r\ncontent-length: {}\r\ncontent-range: bytes {}-{}/{}\r\nconnection: close\r\n\r\n",
                        body.len(),
                        range.0,
                        range.1 - 1,
                        bytes.len()
                    );
                    drop(stream.write_all(head.as_bytes()));
                    for piece in body.chunks(64 << 10) {
                        if stream.write_all(piece).is_err() {
                            return;
                        }
                        sent.fetch_add(piece.len() as u64, Ordering::Relaxed);
                        std::thread::sleep(pause_per_64_kib);
                    }
                });
            }
        });
        Self { url, sent, ranges }
    }
}

/// A catalogue with the tiny model, signed; returns the flags that name it.
pub fn catalogue(dir: &Dir, source: &str) -> [String; 2] {
    let model = dir.tiny_model();
    let entry = dir
        .run(&[
            "model",
            "manifest",
            text(&model),
            "--licence",
            "MIT",
            "--source",
            source,
        ])
        .ends_with(0);
    std::fs::write(dir.path("entry.json"), entry.out()).unwrap();
    let (key, out, entry) = (
        dir.path("secret"),
        dir.path("models.json"),
        dir.path("entry.json"),
    );
    dir.run(&["catalogue", "keygen", "--out", text(&key)])
        .ends_with(0);
    // A second time would lose the first key.
    dir.run(&["catalogue", "keygen", "--out", text(&key)])
        .ends_with(2);
    dir.run(&[
        "catalogue",
        "sign",
        "--key",
        text(&key),
        "--out",
        text(&out),
        text(&entry),
    ])
    .ends_with(0);
    ["--catalogue".to_owned(), text(&out).to_owned()]
}

/// Reads until the needle has come; returns everything read.
pub fn read_until(mut from: impl std::io::Read, needle: &str) -> String {
    let mut text = String::new();
    let mut byte = [0; 1];
    while !text.ends_with(needle) {
        match from.read(&mut byte) {
            Ok(1) => text.push(char::from(byte[0])),
            _ => panic!("it ended before {needle:?} came: {text}"),
        }
    }
    text
}

/// Reads the rest.
pub fn read_all(mut from: impl std::io::Read) -> String {
    let mut text = String::new();
    from.read_to_string(&mut text).unwrap();
    text
}

/// Asks a server for one long answer after the other; returns how many it gave.
pub fn keep_asking(port: u16, duration: Duration) -> u32 {
    let until = std::time::Instant::now() + duration;
    let body = r#"{"prompt":"the other and the one","max_tokens":300,"temperature":5}"#;
    let mut answers = 0;
    while std::time::Instant::now() < until {
        let Ok(mut stream) = std::net::TcpStream::connect(("127.0.0.1", port)) else {
            break;
        };
        let request = format!(
            "POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
             connection: close\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut answer = String::new();
        if stream.write_all(request.as_bytes()).is_ok()
            && stream.read_to_string(&mut answer).is_ok()
            && answer.starts_with("HTTP/1.1 200")
        {
            answers += 1;
        }
    }
    answers
}
