//! The messages of the port. The tag comes last, behind a stream's number, so that a payload need not be moved to be sent
//! or received. Numbers are in big endian.

use crate::{Address, NetworkError, PeerId, PeerInfo, Protocol, Reach, RecordKey};

/// Texts: names of protocols, reasons.
const LONGEST_TEXT: usize = 512;
/// Entries of a list: more than a node has connections.
const LONGEST_LIST: usize = 4096;

/// About one stream, in either direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum OfStream {
    /// A message of the protocol.
    Data(Vec<u8>),
    /// So many bytes were taken, and may be sent again.
    Credit(u32),
    /// No more messages will come.
    Finish,
    /// No more messages are wanted.
    Stop,
    /// What was sent cannot arrive any more.
    SendBroken(Fault),
    /// What was awaited cannot come any more.
    ReceiveBroken(Fault),
}

/// From the node to the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToHost(pub(super) Request);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Request {
    Dial {
        call: u32,
        peer: PeerId,
        addresses: Vec<Address>,
    },
    Open {
        call: u32,
        stream: u32,
        peer: PeerId,
        name: String,
        longest: u32,
    },
    Publish {
        call: u32,
        key: RecordKey,
        record: Vec<u8>,
    },
    Find {
        call: u32,
        key: RecordKey,
        limit: u32,
    },
    /// Nobody waits for the call any more.
    Cancel {
        call: u32,
    },
    Disconnect {
        peer: PeerId,
    },
    Serve {
        slot: u32,
        name: String,
        longest: u32,
    },
    Unserve {
        slot: u32,
    },
    Stream {
        stream: u32,
        what: OfStream,
    },
}

/// From the network to the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToNode(pub(super) Report);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Report {
    /// The first message.
    Hello {
        peer: PeerId,
    },
    Addresses(Vec<Address>),
    Peers(Vec<PeerInfo>),
    Done {
        call: u32,
    },
    Found {
        call: u32,
        records: Vec<Vec<u8>>,
    },
    Failed {
        call: u32,
        fault: Fault,
    },
    /// A peer opened a stream of a protocol that is served.
    Accepted {
        slot: u32,
        stream: u32,
        peer: PeerId,
    },
    /// The protocol is not served any more.
    Ended {
        slot: u32,
    },
    Stream {
        stream: u32,
        what: OfStream,
    },
}

/// A [`NetworkError`] without what both halves know: which peer and which protocol it is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fault {
    Unreachable(String),
    NotSpoken,
    Broken(String),
    TooLong { bytes: u64, limit: u32 },
    Busy(String),
    AlreadyServed,
    BadAddress(Address),
    Closed,
}

impl From<NetworkError> for Fault {
    fn from(error: NetworkError) -> Self {
        match error {
            NetworkError::Unreachable { reason, .. } => Self::Unreachable(reason),
            NetworkError::NotSpoken { .. } => Self::NotSpoken,
            NetworkError::Broken { reason, .. } => Self::Broken(reason),
            NetworkError::TooLong { bytes, limit, .. } => Self::TooLong {
                bytes,
                limit: u32::try_from(limit).unwrap_or(u32::MAX),
            },
            NetworkError::Busy(why) => Self::Busy(why),
            NetworkError::AlreadyServed(_) => Self::AlreadyServed,
            NetworkError::BadAddress(address) => Self::BadAddress(address),
            NetworkError::Closed => Self::Closed,
        }
    }
}

impl Fault {
    pub(super) fn about(self, peer: PeerId, protocol: &'static str) -> NetworkError {
        match self {
            Self::Unreachable(reason) => NetworkError::Unreachable { peer, reason },
            Self::NotSpoken => NetworkError::NotSpoken { peer, protocol },
            Self::Broken(reason) => NetworkError::Broken { peer, reason },
            Self::TooLong { bytes, limit } => NetworkError::TooLong {
                bytes,
                limit: limit as usize,
                protocol,
            },
            Self::Busy(why) => NetworkError::Busy(why),
            Self::AlreadyServed => NetworkError::AlreadyServed(protocol),
            Self::BadAddress(address) => NetworkError::BadAddress(address),
            Self::Closed => NetworkError::Closed,
        }
    }
}

/// The length of a protocol's longest message, as it is told.
pub(super) fn longest(protocol: Protocol) -> u32 {
    u32::try_from(protocol.longest).unwrap_or(u32::MAX)
}

impl ToHost {
    /// Writes it down.
    pub fn into_bytes(self) -> Vec<u8> {
        let mut out = Writer::default();
        match self.0 {
            Request::Dial {
                call,
                peer,
                addresses,
            } => {
                out.list(&addresses, |out, address| out.text(address.as_str()));
                out.peer(peer).u32(call).tag(0)
            }
            Request::Open {
                call,
                stream,
                peer,
                name,
                longest,
            } => {
                out.text(&name);
                out.u32(longest).u32(stream).peer(peer).u32(call).tag(1)
            }
            Request::Publish { call, key, record } => {
                out.bytes(&record);
                out.array(key.0).u32(call).tag(2)
            }
            Request::Find { call, key, limit } => out.u32(limit).array(key.0).u32(call).tag(3),
            Request::Cancel { call } => out.u32(call).tag(4),
            Request::Disconnect { peer } => out.peer(peer).tag(5),
            Request::Serve { slot, name, longest } => {
                out.text(&name);
                out.u32(longest).u32(slot).tag(6)
            }
            Request::Unserve { slot } => out.u32(slot).tag(7),
            Request::Stream { stream, what } => what.into_bytes(stream),
        }
    }

    /// Reads it; `None` if it is no message.
    pub fn from_bytes(bytes: Vec<u8>) -> Option<Self> {
        let (stream, bytes) = OfStream::from_bytes(bytes)?;
        if let Some((stream, what)) = stream {
            return Some(Self(Request::Stream { stream, what }));
        }
        let mut input = Reader(&bytes);
        let request = match input.u8()? {
            0 => {
                let (call, peer) = (input.u32()?, input.peer()?);
                let addresses = input.list(Reader::address)?;
                Request::Dial {
                    call,
                    peer,
                    addresses,
                }
            }
            1 => Request::Open {
                call: input.u32()?,
                peer: input.peer()?,
                stream: input.u32()?,
                longest: input.u32()?,
                name: input.text()?,
            },
            2 => Request::Publish {
                call: input.u32()?,
                key: RecordKey(input.array()?),
                record: input.bytes()?.to_vec(),
            },
            3 => Request::Find {
                call: input.u32()?,
                key: RecordKey(input.array()?),
                limit: input.u32()?,
            },
            4 => Request::Cancel { call: input.u32()? },
            5 => Request::Disconnect { peer: input.peer()? },
            6 => Request::Serve {
                slot: input.u32()?,
                longest: input.u32()?,
                name: input.text()?,
            },
            7 => Request::Unserve { slot: input.u32()? },
            _ => return None,
        };
        input.0.is_empty().then_some(Self(request))
    }
}

impl ToNode {
    /// Writes it down.
    pub fn into_bytes(self) -> Vec<u8> {
        let mut out = Writer::default();
        match self.0 {
            Report::Hello { peer } => out.peer(peer).tag(0),
            Report::Addresses(addresses) => {
                out.list(&addresses, |out, address| out.text(address.as_str()));
                out.tag(1)
            }
            Report::Peers(peers) => {
                out.list(&peers, |out, info| {
                    out.text(info.address.as_str());
                    out.u64(info.received).u64(info.sent).peer(info.peer);
                    out.0.push(u8::from(info.reach == Reach::Relayed));
                });
                out.tag(2)
            }
            Report::Done { call } => out.u32(call).tag(3),
            Report::Found { call, records } => {
                out.list(&records, |out, record| out.bytes(record));
                out.u32(call).tag(4)
            }
            Report::Failed { call, fault } => {
                out.fault(&fault);
                out.u32(call).tag(5)
            }
            Report::Accepted { slot, stream, peer } => out.peer(peer).u32(stream).u32(slot).tag(6),
            Report::Ended { slot } => out.u32(slot).tag(7),
            Report::Stream { stream, what } => what.into_bytes(stream),
        }
    }

    /// Reads it; `None` if it is no message.
    pub fn from_bytes(bytes: Vec<u8>) -> Option<Self> {
        let (stream, bytes) = OfStream::from_bytes(bytes)?;
        if let Some((stream, what)) = stream {
            return Some(Self(Report::Stream { stream, what }));
        }
        let mut input = Reader(&bytes);
        let report = match input.u8()? {
            0 => Report::Hello { peer: input.peer()? },
            1 => Report::Addresses(input.list(Reader::address)?),
            2 => Report::Peers(input.list(Reader::info)?),
            3 => Report::Done { call: input.u32()? },
            4 => Report::Found {
                call: input.u32()?,
                records: input.list(|input| Some(input.bytes()?.to_vec()))?,
            },
            5 => Report::Failed {
                call: input.u32()?,
                fault: input.fault()?,
            },
            6 => Report::Accepted {
                slot: input.u32()?,
                stream: input.u32()?,
                peer: input.peer()?,
            },
            7 => Report::Ended { slot: input.u32()? },
            _ => return None,
        };
        input.0.is_empty().then_some(Self(report))
    }
}

/// Tags from here on are about a stream.
const STREAM: u8 = 16;

impl OfStream {
    fn into_bytes(self, stream: u32) -> Vec<u8> {
        let mut out = Writer::default();
        match self {
            Self::Data(bytes) => Writer(bytes).u32(stream).tag(STREAM),
            Self::Credit(bytes) => out.u32(bytes).u32(stream).tag(STREAM + 1),
            Self::Finish => out.u32(stream).tag(STREAM + 2),
            Self::Stop => out.u32(stream).tag(STREAM + 3),
            Self::SendBroken(fault) => {
                out.fault(&fault);
                out.u32(stream).tag(STREAM + 4)
            }
            Self::ReceiveBroken(fault) => {
                out.fault(&fault);
                out.u32(stream).tag(STREAM + 5)
            }
        }
    }

    /// What it is about a stream, or the bytes if it is about something else; `None` if it is no message.
    #[expect(clippy::type_complexity, reason = "one of the two, once")]
    fn from_bytes(mut bytes: Vec<u8>) -> Option<(Option<(u32, Self)>, Vec<u8>)> {
        if *bytes.last()? < STREAM {
            return Some((None, bytes));
        }
        let mut input = Reader(&bytes);
        let (tag, stream) = (input.u8()?, input.u32()?);
        let what = match tag - STREAM {
            0 => {
                let len = input.0.len();
                bytes.truncate(len);
                return Some((Some((stream, Self::Data(bytes))), Vec::new()));
            }
            1 => Self::Credit(input.u32()?),
            2 => Self::Finish,
            3 => Self::Stop,
            4 => Self::SendBroken(input.fault()?),
            5 => Self::ReceiveBroken(input.fault()?),
            _ => return None,
        };
        input.0.is_empty().then_some((Some((stream, what)), Vec::new()))
    }
}

/// Writes from the end to the beginning of what will be read: the last thing written is read first.
#[derive(Default)]
struct Writer(Vec<u8>);

impl Writer {
    fn array<const N: usize>(&mut self, bytes: [u8; N]) -> &mut Self {
        self.0.extend_from_slice(&bytes);
        self
    }

    fn u32(&mut self, number: u32) -> &mut Self {
        self.array(number.to_be_bytes())
    }

    fn u64(&mut self, number: u64) -> &mut Self {
        self.array(number.to_be_bytes())
    }

    fn peer(&mut self, peer: PeerId) -> &mut Self {
        self.array(*peer.public_key())
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
        self.u32(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
    }

    /// Cut where it is too long.
    fn text(&mut self, text: &str) {
        let end = text.floor_char_boundary(LONGEST_TEXT);
        self.bytes(text.get(..end).unwrap_or_default().as_bytes());
    }

    fn list<T>(&mut self, items: &[T], write: impl Fn(&mut Self, &T)) {
        let items = items.get(..items.len().min(LONGEST_LIST)).unwrap_or_default();
        items.iter().rev().for_each(|item| write(self, item));
        self.u32(items.len() as u32);
    }

    fn fault(&mut self, fault: &Fault) {
        let tag = match fault {
            Fault::Unreachable(reason) => {
                self.text(reason);
                0
            }
            Fault::NotSpoken => 1,
            Fault::Broken(reason) => {
                self.text(reason);
                2
            }
            Fault::TooLong { bytes, limit } => {
                self.u32(*limit).u64(*bytes);
                3
            }
            Fault::Busy(why) => {
                self.text(why);
                4
            }
            Fault::AlreadyServed => 5,
            Fault::BadAddress(address) => {
                self.text(address.as_str());
                6
            }
            Fault::Closed => 7,
        };
        self.0.push(tag);
    }

    fn tag(&mut self, tag: u8) -> Vec<u8> {
        self.0.push(tag);
        std::mem::take(&mut self.0)
    }
}

/// Reads from the end.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (rest, last) = self.0.split_last_chunk()?;
        self.0 = rest;
        Some(*last)
    }

    fn u8(&mut self) -> Option<u8> {
        self.array().map(|[byte]| byte)
    }

    fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    fn peer(&mut self) -> Option<PeerId> {
        self.array().map(PeerId::from_public_key)
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = self.u32()? as usize;
        let (rest, bytes) = self.0.split_at_checked(self.0.len().checked_sub(len)?)?;
        self.0 = rest;
        Some(bytes)
    }

    fn text(&mut self) -> Option<String> {
        let bytes = self.bytes().filter(|bytes| bytes.len() <= LONGEST_TEXT)?;
        String::from_utf8(bytes.to_vec()).ok()
    }

    fn address(&mut self) -> Option<Address> {
        Address::new(self.text()?)
    }

    fn info(&mut self) -> Option<PeerInfo> {
        let reach = match self.u8()? {
            0 => Reach::Direct,
            1 => Reach::Relayed,
            _ => return None,
        };
        Some(PeerInfo {
            reach,
            peer: self.peer()?,
            sent: self.u64()?,
            received: self.u64()?,
            address: self.address()?,
        })
    }

    /// (Every item has bytes, so a list is never longer than the message.)
    fn list<T>(&mut self, mut read: impl FnMut(&mut Self) -> Option<T>) -> Option<Vec<T>> {
        let count = self.u32()? as usize;
        if count > LONGEST_LIST {
            return None;
        }
        (0..count).map(|_| read(self)).collect()
    }

    fn fault(&mut self) -> Option<Fault> {
        Some(match self.u8()? {
            0 => Fault::Unreachable(self.text()?),
            1 => Fault::NotSpoken,
            2 => Fault::Broken(self.text()?),
            3 => Fault::TooLong {
                bytes: self.u64()?,
                limit: self.u32()?,
            },
            4 => Fault::Busy(self.text()?),
            5 => Fault::AlreadyServed,
            6 => Fault::BadAddress(self.address()?),
            7 => Fault::Closed,
            _ => return None,
        })
    }
}
