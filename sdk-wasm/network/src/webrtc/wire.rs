//! What the worker and the window say of one connection to each other, a message each; js/src/webrtc/main.ts has the other
//! half. A message is its kind, mostly the number of a data channel (four bytes, little end first), and the rest.
//!
//! Even numbers are given here, odd ones by the window; 0 is the channel of the handshake, which both peers open.

/// Towards the window.
pub(super) enum ToPage<'a> {
    /// Make an offer, with the channel of the handshake in it.
    Offer,
    /// What the peer answers to it.
    Answer(&'a str),
    /// Open a channel.
    Open(u32),
    /// Send a message.
    Send(u32, &'a [u8]),
    /// Close a channel, after what was sent.
    Close(u32),
}

impl ToPage<'_> {
    pub(super) fn encode(&self) -> Vec<u8> {
        match *self {
            Self::Offer => vec![1],
            Self::Answer(sdp) => [&[2], sdp.as_bytes()].concat(),
            Self::Open(channel) => [&[3][..], &channel.to_le_bytes()].concat(),
            Self::Send(channel, message) => [&[4][..], &channel.to_le_bytes(), message].concat(),
            Self::Close(channel) => [&[5][..], &channel.to_le_bytes()].concat(),
        }
    }
}

/// From the window.
pub(super) enum FromPage {
    /// The offer, as the browser has made it.
    Offered(String),
    /// The peer has opened a channel.
    Incoming(u32),
    /// A message has arrived.
    Message(u32, Vec<u8>),
    /// So many bytes more have left this device.
    Sent(u32, usize),
    /// A channel is closed.
    Closed(u32),
    /// The connection has ended, and why.
    Failed(String),
}

impl FromPage {
    /// `None` for what the window does not say.
    pub(super) fn decode(message: &[u8]) -> Option<Self> {
        let (kind, rest) = message.split_first()?;
        let text = || String::from_utf8(rest.to_vec()).ok();
        let number = || {
            let (channel, rest) = rest.split_first_chunk::<4>()?;
            Some((u32::from_le_bytes(*channel), rest))
        };
        Some(match kind {
            1 => Self::Offered(text()?),
            2 => Self::Incoming(number()?.0),
            3 => {
                let (channel, message) = number()?;
                Self::Message(channel, message.to_vec())
            }
            4 => {
                let (channel, count) = number()?;
                let count = u32::from_le_bytes(count.try_into().ok()?);
                Self::Sent(channel, usize::try_from(count).ok()?)
            }
            5 => Self::Closed(number()?.0),
            6 => Self::Failed(text()?),
            _ => return None,
        })
    }
}
