//! libp2p over the browser's `WebSocket` (WHATWG WebSockets): dials, and listens nowhere.
//!
//! A `WebSocket` gives as fast as the network does and takes whatever it is given, so both directions are bounded here. What
//! was received and not read yet is bounded by [`MOST_UNREAD`], and whoever sends more is hung up on. What was written and not sent
//! yet is bounded by [`HIGH`], and the writer waits.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use futures::future::{self, LocalBoxFuture};
use futures::{AsyncRead, AsyncWrite};
use js_sys::{ArrayBuffer, Uint8Array};
use kwaainet_p2p::websocket_url;
use kwaainet_platform::Clock;
use libp2p::Multiaddr;
use libp2p::core::transport::{DialOpts, ListenerId, Transport, TransportError, TransportEvent};
use send_wrapper::SendWrapper;
use wasm_bindgen::prelude::*;
use web_sys::{BinaryType, CloseEvent, MessageEvent, WebSocket};

/// Bytes that a peer may be ahead of the reader, [`MESSAGE_COST`] for each message included. yamux reads whatever has come, unless it
/// has an answer to write and the peer takes none; until then a peer that keeps to its windows can send 1 MiB on one stream
/// and 256 KiB on each other: this is a dozen streams.
const MOST_UNREAD: usize = 4 << 20;
/// What an unread message takes beside its bytes, so that small ones are bounded too.
const MESSAGE_COST: usize = 256;
/// From here on a writer waits. What comes later waits behind this: a quarter of a second at 1 MB/s.
const HIGH: u32 = 256 << 10;
/// Until here.
const LOW: u32 = HIGH / 2;
/// The longest message that is sent. (Noise has frames of 64 KiB.)
const LONGEST_MESSAGE: usize = 64 << 10;
/// The longest pause between two looks at what is not sent yet.
const LONGEST_PAUSE: Duration = Duration::from_millis(64);

/// Calls peers over WebSocket.
pub(crate) struct WebSockets {
    clock: SendWrapper<Arc<dyn Clock>>,
}

impl WebSockets {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock: SendWrapper::new(clock),
        }
    }
}

impl Transport for WebSockets {
    type Output = Connection;
    type Error = io::Error;
    type ListenerUpgrade = future::Pending<io::Result<Connection>>;
    /// All of this stays in its worker. libp2p wants futures that could leave it.
    type Dial = SendWrapper<LocalBoxFuture<'static, io::Result<Connection>>>;

    fn listen_on(&mut self, _: ListenerId, address: Multiaddr) -> Result<(), TransportError<io::Error>> {
        Err(TransportError::MultiaddrNotSupported(address))
    }

    fn remove_listener(&mut self, _: ListenerId) -> bool {
        false
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        options: DialOpts,
    ) -> Result<Self::Dial, TransportError<io::Error>> {
        let Some(url) = websocket_url(&address).filter(|_| !options.role.is_listener()) else {
            return Err(TransportError::MultiaddrNotSupported(address));
        };
        let clock = Arc::clone(&self.clock);
        Ok(SendWrapper::new(Box::pin(open(url, clock))))
    }

    fn poll(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, io::Error>> {
        Poll::Pending
    }
}

async fn open(url: String, clock: Arc<dyn Clock>) -> io::Result<Connection> {
    let socket = WebSocket::new(&url).map_err(|error| refused(&url, &error))?;
    let mut socket = Socket::new(socket, clock);
    future::poll_fn(|cx| socket.poll_open(cx, &url)).await?;
    Ok(Connection(SendWrapper::new(socket)))
}

/// What the browser says against a URL: that the page's policy forbids it, or the port.
fn refused(url: &str, error: &JsValue) -> io::Error {
    let why = error
        .dyn_ref::<js_sys::Error>()
        .map(|error| String::from(error.message()));
    io::Error::other(format!(
        "this browser does not call {url}: {}",
        why.unwrap_or_default()
    ))
}

/// A connection over WebSocket.
pub(crate) struct Connection(SendWrapper<Socket>);

/// Of the three events. They live as long as the socket may call them.
type Listeners = (
    Closure<dyn FnMut()>,
    Closure<dyn FnMut(MessageEvent)>,
    Closure<dyn FnMut(CloseEvent)>,
);

struct Socket {
    socket: WebSocket,
    clock: Arc<dyn Clock>,
    heard: Rc<RefCell<Heard>>,
    /// Runs while more is unsent than a writer may add to.
    sending: Option<LocalBoxFuture<'static, ()>>,
    _listeners: Listeners,
}

/// What the browser has told, and who waits for it.
#[derive(Default)]
struct Heard {
    unread: VecDeque<Uint8Array>,
    /// Counted towards [`MOST_UNREAD`].
    held: usize,
    ended: Option<Ended>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

#[derive(Clone)]
enum Ended {
    /// The peer has said that it sends no more.
    Closed,
    Broken(String),
}

impl Heard {
    fn message(&mut self, event: &MessageEvent) {
        if self.ended.is_some() {
            return;
        }
        let Ok(buffer) = event.data().dyn_into::<ArrayBuffer>() else {
            return self.end(Ended::Broken(
                "the peer sent text, and libp2p has none".to_owned(),
            ));
        };
        let message = Uint8Array::new(&buffer);
        // An empty one would read as the end.
        if message.length() == 0 {
            return;
        }
        self.held += message.length() as usize + MESSAGE_COST;
        if self.held > MOST_UNREAD {
            self.unread.clear();
            let much = format!(
                "the peer sent {} bytes more than could be read meanwhile",
                self.held
            );
            return self.end(Ended::Broken(much));
        }
        self.unread.push_back(message);
        wake(&mut self.reader);
    }

    fn end(&mut self, how: Ended) {
        self.ended.get_or_insert(how);
        wake(&mut self.reader);
        wake(&mut self.writer);
    }

    /// Moves what there is; `None` if there is nothing.
    fn read(&mut self, into: &mut [u8]) -> Option<usize> {
        let message = self.unread.pop_front()?;
        let length = message.length() as usize;
        let count = length.min(into.len());
        message.subarray(0, count as u32).copy_to(into.get_mut(..count)?);
        if count < length {
            self.unread
                .push_front(message.subarray(count as u32, length as u32));
            self.held -= count;
        } else {
            self.held -= count + MESSAGE_COST;
        }
        Some(count)
    }
}

/// Whoever is woken runs later, never within an event (`kwaainet_browser::spawn`).
fn wake(waiting: &mut Option<Waker>) {
    if let Some(waker) = waiting.take() {
        waker.wake();
    }
}

impl Socket {
    fn new(socket: WebSocket, clock: Arc<dyn Clock>) -> Self {
        socket.set_binary_type(BinaryType::Arraybuffer);
        let heard = Rc::<RefCell<Heard>>::default();
        let on_open = Closure::<dyn FnMut()>::new({
            let heard = Rc::clone(&heard);
            move || wake(&mut heard.borrow_mut().reader)
        });
        let on_message = Closure::<dyn FnMut(MessageEvent)>::new({
            let heard = Rc::clone(&heard);
            let socket = socket.clone();
            move |event: MessageEvent| {
                let mut heard = heard.borrow_mut();
                heard.message(&event);
                if heard.ended.is_some() {
                    // A socket that is closing takes up nothing more.
                    let _closing = socket.close();
                }
            }
        });
        // Every `error` is followed by a `close`, and tells nothing.
        let on_close = Closure::<dyn FnMut(CloseEvent)>::new({
            let heard = Rc::clone(&heard);
            move |event: CloseEvent| heard.borrow_mut().end(ended(&event))
        });
        socket.set_onopen(Some(on_open.as_ref().unchecked_ref()));
        socket.set_onmessage(Some(on_message.as_ref().unchecked_ref()));
        socket.set_onclose(Some(on_close.as_ref().unchecked_ref()));
        Self {
            socket,
            clock,
            heard,
            sending: None,
            _listeners: (on_open, on_message, on_close),
        }
    }

    fn poll_open(&mut self, cx: &Context<'_>, url: &str) -> Poll<io::Result<()>> {
        let mut heard = self.heard.borrow_mut();
        if self.socket.ready_state() == WebSocket::OPEN {
            return Poll::Ready(Ok(()));
        }
        if heard.ended.is_some() {
            let told = format!("no WebSocket could be opened to {url}; browsers do not tell why");
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionRefused, told)));
        }
        heard.reader = Some(cx.waker().clone());
        Poll::Pending
    }

    fn poll_read(&mut self, cx: &Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut heard = self.heard.borrow_mut();
        if let Some(count) = heard.read(into) {
            return Poll::Ready(Ok(count));
        }
        match &heard.ended {
            Some(Ended::Closed) => Poll::Ready(Ok(0)),
            Some(Ended::Broken(why)) => Poll::Ready(Err(broken(io::ErrorKind::ConnectionReset, why))),
            None => {
                heard.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &self.heard.borrow().ended {
            Some(Ended::Closed) => {
                return Poll::Ready(Err(broken(io::ErrorKind::BrokenPipe, "the peer has closed it")));
            }
            Some(Ended::Broken(why)) => return Poll::Ready(Err(broken(io::ErrorKind::BrokenPipe, why))),
            None => {}
        }
        if self.sending.is_none() && self.socket.buffered_amount() >= HIGH {
            self.sending = Some(Box::pin(sent(self.socket.clone(), Arc::clone(&self.clock))));
        }
        if let Some(sending) = &mut self.sending {
            // It may end meanwhile.
            self.heard.borrow_mut().writer = Some(cx.waker().clone());
            ready!(sending.as_mut().poll(cx));
            self.sending = None;
        }
        let message = bytes.get(..LONGEST_MESSAGE).unwrap_or(bytes);
        match self.socket.send_with_u8_array(message) {
            Ok(()) => Poll::Ready(Ok(message.len())),
            Err(_) => Poll::Ready(Err(broken(io::ErrorKind::BrokenPipe, "it is not open"))),
        }
    }
}

/// The browser tells nobody when it has sent something, so this looks, after pauses that double. It looks again after as long as it
/// has waited in all, in which at most another [`LOW`] was sent at the same speed: so the socket does not run dry, however fast
/// it is, and who is slow is seldom looked at.
async fn sent(socket: WebSocket, clock: Arc<dyn Clock>) {
    let mut pause = Duration::ZERO;
    while socket.ready_state() == WebSocket::OPEN && socket.buffered_amount() > LOW {
        // The first is a turn of the event loop, and no timer.
        clock.sleep(pause).await;
        pause = (pause * 2).clamp(Duration::from_millis(1), LONGEST_PAUSE);
    }
}

fn broken(kind: io::ErrorKind, why: &str) -> io::Error {
    io::Error::new(kind, format!("the WebSocket ended: {why}"))
}

fn ended(event: &CloseEvent) -> Ended {
    // 1000 (RFC 6455, 7.4.1), or 1005 where the peer gave no code.
    if event.was_clean() && matches!(event.code(), 1000 | 1005) {
        return Ended::Closed;
    }
    Ended::Broken(
        format!("code {} {}", event.code(), event.reason())
            .trim_end()
            .to_owned(),
    )
}

impl Drop for Socket {
    fn drop(&mut self) {
        // The listeners go with it.
        self.socket.set_onopen(None);
        self.socket.set_onmessage(None);
        self.socket.set_onclose(None);
        // What was written is still sent. Of one that is closed already this is nothing.
        let _closed = self.socket.close();
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut [u8]) -> Poll<io::Result<usize>> {
        self.0.poll_read(cx, into)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.poll_write(cx, bytes)
    }

    /// The browser sends what it has without being asked.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// The browser sends what it has, and then says goodbye to a peer that may never answer: nobody need wait for that.
    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let _closing = self.0.socket.close();
        Poll::Ready(Ok(()))
    }
}
