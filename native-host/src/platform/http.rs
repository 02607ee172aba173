//! HTTP: a blocking client (ureq, rustls with ring) on a thread per transfer, and files beside a local catalogue.

use std::fs::File;
use std::io::{Read, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use futures::channel::{mpsc, oneshot};
use futures::executor::block_on;
use futures::future::{Either, select};
use futures::{SinkExt as _, StreamExt as _};
use kwaainet_platform::{BoxFuture, ByteStream, Clock, HttpClient, HttpError, HttpRequest, HttpResponse};
use ureq::Agent;
use ureq::tls::{RootCerts, TlsConfig, TlsProvider};

/// Bytes handed over at once.
const PIECE: usize = 64 << 10;
/// Pieces that wait for the reader: enough to keep the connection busy while a chunk is hashed and written.
const PIECES_AHEAD: usize = 16;
/// A connection that says nothing for so long is given up; the model store then goes on where it was.
const SILENCE: Duration = Duration::from_secs(30);

/// The client of this process. Honours `HTTPS_PROXY` and its relatives.
#[derive(Clone)]
pub struct SystemHttp {
    agent: Arc<OnceLock<Agent>>,
    clock: Arc<dyn Clock>,
    /// `file:` URLs below this folder may be fetched.
    files_below: Option<PathBuf>,
}

impl std::fmt::Debug for SystemHttp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SystemHttp")
            .field("files_below", &self.files_below)
            .finish_non_exhaustive()
    }
}

impl SystemHttp {
    /// A client that measures silence with `clock`.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            agent: Arc::default(),
            clock,
            files_below: None,
        }
    }

    /// Also fetches `file:` URLs below the folder of a catalogue that the operator named as a file.
    #[must_use]
    pub fn with_files_below(mut self, dir: &Path) -> Self {
        self.files_below = dir.canonicalize().ok();
        self
    }

    fn agent(&self) -> Agent {
        let make = || {
            let tls = TlsConfig::builder()
                .provider(TlsProvider::Rustls)
                .root_certs(roots())
                .build();
            Agent::config_builder()
                .tls_config(tls)
                .http_status_as_error(false)
                .max_redirects(5)
                .timeout_connect(Some(Duration::from_secs(15)))
                .timeout_recv_response(Some(Duration::from_secs(30)))
                .user_agent(concat!("kwaainet/", env!("CARGO_PKG_VERSION")))
                .build()
                .new_agent()
        };
        self.agent.get_or_init(make).clone()
    }

    fn open_file(&self, url: &str) -> Result<File, HttpError> {
        let bad = || HttpError::BadUrl(url.to_owned());
        let root = self.files_below.as_deref().ok_or_else(bad)?;
        let path = path_of_file_url(url).ok_or_else(bad)?;
        let unreachable = |error: std::io::Error| HttpError::Network {
            url: url.to_owned(),
            reason: error.to_string(),
        };
        // A catalogue says what lies beside it, and nothing about the rest of this machine.
        let path = path.canonicalize().map_err(unreachable)?;
        if !path.starts_with(root) {
            return Err(bad());
        }
        File::open(path).map_err(unreachable)
    }
}

/// The system's certificates, so that a company's own authority works; Mozilla's where the system has none.
fn roots() -> RootCerts {
    #[cfg(all(unix, not(target_vendor = "apple")))]
    if rustls_native_certs::load_native_certs().certs.is_empty() {
        return RootCerts::WebPki;
    }
    RootCerts::PlatformVerifier
}

/// The `file:` URL of a path.
pub fn file_url(path: &Path) -> String {
    let text = path.to_string_lossy().replace('\\', "/");
    let mut url = String::from(if text.starts_with('/') {
        "file://"
    } else {
        "file:///"
    });
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"/-._~:".contains(&byte) {
            url.push(char::from(byte));
        } else {
            url.push_str(&format!("%{byte:02X}"));
        }
    }
    url
}

fn path_of_file_url(url: &str) -> Option<PathBuf> {
    let text = url.strip_prefix("file://")?;
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
            let value = digit(rest.next())? * 16 + digit(rest.next())?;
            bytes.push(u8::try_from(value).ok()?);
        } else {
            bytes.push(byte);
        }
    }
    let text = String::from_utf8(bytes).ok()?;
    #[cfg(windows)]
    let text = text.trim_start_matches('/').to_owned();
    Some(PathBuf::from(text))
}

struct Head {
    status: u16,
    content_length: Option<u64>,
}

type Pieces = mpsc::Receiver<Result<Vec<u8>, HttpError>>;

fn pump(url: &str, mut body: impl Read, mut to: mpsc::Sender<Result<Vec<u8>, HttpError>>) {
    let mut buffer = vec![0; PIECE];
    loop {
        let piece = match body.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => Ok(buffer.get(..count).unwrap_or_default().to_vec()),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => Err(network(url, &error.to_string())),
        };
        let failed = piece.is_err();
        // The reader went away: dropping the body closes the connection.
        if block_on(to.send(piece)).is_err() || failed {
            return;
        }
    }
}

fn network(url: &str, reason: &str) -> HttpError {
    HttpError::Network {
        url: url.to_owned(),
        reason: reason.to_owned(),
    }
}

/// What happens on the transfer's own thread.
fn transfer(
    client: &SystemHttp,
    request: &HttpRequest,
    head: oneshot::Sender<Result<Head, HttpError>>,
    to: mpsc::Sender<Result<Vec<u8>, HttpError>>,
) {
    let url = request.url.as_str();
    if url.starts_with("file:") {
        let opened = client.open_file(url).and_then(|mut file| {
            let size = file
                .metadata()
                .map_err(|error| network(url, &error.to_string()))?
                .len();
            let (first, len) = request.range.unwrap_or((0, size));
            let len = len.min(size.saturating_sub(first));
            file.seek(SeekFrom::Start(first))
                .map_err(|error| network(url, &error.to_string()))?;
            Ok((file.take(len), len))
        });
        let status = if request.range.is_some() { 206 } else { 200 };
        match opened {
            Err(error) => drop(head.send(Err(error))),
            Ok((body, len)) => {
                let answer = Head {
                    status,
                    content_length: Some(len),
                };
                if head.send(Ok(answer)).is_ok() {
                    pump(url, body, to);
                }
            }
        }
        return;
    }
    // Hashes and ranges are about the bytes of the file, so no transfer encoding.
    let mut builder = client.agent().get(url).header("accept-encoding", "identity");
    if let Some((first, len)) = request.range {
        let last = first.saturating_add(len).saturating_sub(1);
        builder = builder.header("range", format!("bytes={first}-{last}"));
    }
    match builder.call() {
        Err(ureq::Error::BadUri(_) | ureq::Error::Http(_)) => {
            drop(head.send(Err(HttpError::BadUrl(url.to_owned()))))
        }
        Err(error) => drop(head.send(Err(network(url, &error.to_string())))),
        Ok(response) => {
            let answer = Head {
                status: response.status().as_u16(),
                content_length: response.body().content_length(),
            };
            if head.send(Ok(answer)).is_ok() {
                pump(url, response.into_body().into_reader(), to);
            }
        }
    }
}

struct Body {
    url: String,
    pieces: Pieces,
    clock: Arc<dyn Clock>,
}

impl ByteStream for Body {
    fn next(&mut self) -> BoxFuture<'_, Option<Result<Vec<u8>, HttpError>>> {
        Box::pin(async {
            let silence = self.clock.sleep(SILENCE);
            match select(self.pieces.next(), silence).await {
                Either::Left((piece, _)) => piece,
                Either::Right(_) => Some(Err(network(
                    &self.url,
                    &format!("nothing arrived for {} seconds", SILENCE.as_secs()),
                ))),
            }
        })
    }
}

impl HttpClient for SystemHttp {
    fn get(&self, request: HttpRequest) -> BoxFuture<'_, Result<HttpResponse, HttpError>> {
        Box::pin(async move {
            let fetchable = ["http://", "https://", "file://"];
            if !fetchable.iter().any(|scheme| request.url.starts_with(scheme)) {
                return Err(HttpError::BadUrl(request.url));
            }
            let url = request.url.clone();
            let (head_to, head) = oneshot::channel();
            let (to, pieces) = mpsc::channel(PIECES_AHEAD);
            let client = self.clone();
            thread::Builder::new()
                .name("kwaainet-http".to_owned())
                .spawn(move || transfer(&client, &request, head_to, to))
                .map_err(|error| network(&url, &error.to_string()))?;
            let head = head.await.map_err(|_| network(&url, "the transfer stopped"))??;
            Ok(HttpResponse {
                status: head.status,
                content_length: head.content_length,
                body: Box::new(Body {
                    url,
                    pieces,
                    clock: Arc::clone(&self.clock),
                }),
            })
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::net::TcpListener;

    use super::*;
    use crate::platform::SystemClock;

    fn client() -> SystemHttp {
        SystemHttp::new(Arc::new(SystemClock::default()))
    }

    /// One connection after another: answers with `answer(request head)` and closes.
    fn serve(answer: impl Fn(&str) -> Vec<u8> + Send + 'static) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut head = String::new();
                let mut lines = BufReader::new(stream.try_clone().unwrap());
                while lines.read_line(&mut head).unwrap() > 2 {}
                stream.write_all(&answer(&head)).unwrap();
            }
        });
        format!("http://{address}/file")
    }

    fn fetch(client: &SystemHttp, url: &str, range: Option<(u64, u64)>) -> Result<(u16, Vec<u8>), HttpError> {
        block_on(async {
            let request = HttpRequest {
                url: url.to_owned(),
                range,
            };
            let mut response = client.get(request).await?;
            let mut bytes = Vec::new();
            while let Some(piece) = response.body.next().await {
                bytes.extend(piece?);
            }
            Ok((response.status, bytes))
        })
    }

    #[test]
    fn a_range_is_asked_for_and_the_status_is_passed_on() {
        let url = serve(|head| {
            let body = head.to_lowercase();
            format!(
                "HTTP/1.1 206 Partial\r\ncontent-length: {}\r\n\r\n{body}",
                body.len()
            )
            .into_bytes()
        });
        let (status, body) = fetch(&client(), &url, Some((10, 5))).unwrap();
        let body = String::from_utf8(body).unwrap();
        assert_eq!(status, 206);
        assert!(body.contains("range: bytes=10-14\r\n"), "{body}");
        assert!(body.contains("accept-encoding: identity"), "{body}");
        assert!(!body.contains("cookie") && !body.contains("referer"), "{body}");
    }

    #[test]
    fn a_missing_page_is_an_answer_and_a_cut_body_an_error() {
        let url = serve(|_| b"HTTP/1.1 404 No\r\ncontent-length: 2\r\n\r\nno".to_vec());
        assert_eq!(fetch(&client(), &url, None).unwrap(), (404, b"no".to_vec()));
        let url = serve(|_| b"HTTP/1.1 200 Ok\r\ncontent-length: 100\r\n\r\nonly this".to_vec());
        assert!(matches!(
            fetch(&client(), &url, None),
            Err(HttpError::Network { .. })
        ));
    }

    #[test]
    fn nobody_there_and_nonsense_are_told_apart() {
        let gone = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let error = fetch(&client(), &format!("http://{gone}/"), None).unwrap_err();
        assert!(matches!(error, HttpError::Network { .. }), "{error}");
        for bad in ["ftp://example.org/x", "no url", "file:///etc/hostname"] {
            assert_eq!(
                fetch(&client(), bad, None).unwrap_err(),
                HttpError::BadUrl(bad.to_owned())
            );
        }
    }

    #[test]
    fn files_are_read_only_below_the_catalogue() {
        let dir = std::env::temp_dir().join(format!("kwaainet http {}", std::process::id()));
        std::fs::create_dir_all(dir.join("in")).unwrap();
        std::fs::write(dir.join("in/model ü.gguf"), b"0123456789").unwrap();
        std::fs::write(dir.join("secret"), b"secret").unwrap();
        let client = client().with_files_below(&dir.join("in"));
        let url = file_url(&dir.join("in/model ü.gguf"));
        assert_eq!(
            fetch(&client, &url, Some((8, 100))).unwrap(),
            (206, b"89".to_vec())
        );
        assert_eq!(fetch(&client, &url, None).unwrap(), (200, b"0123456789".to_vec()));
        let outside = format!("{}/../secret", file_url(&dir.join("in")));
        assert!(matches!(
            fetch(&client, &outside, None),
            Err(HttpError::BadUrl(_))
        ));
        std::fs::remove_dir_all(dir).unwrap();
    }
}
