//! What a session keeps of one data channel.

use std::collections::VecDeque;
use std::task::Waker;

use sctp_proto::{Association, AssociationHandle, PayloadProtocolIdentifier};

/// A channel of a session. Numbers of streams are used again, these are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct ChannelId(pub(super) u64);

/// An association, once there is one.
pub(super) type Associated = Option<(AssociationHandle, Association)>;

#[derive(Debug)]
pub(super) struct Channel {
    pub(super) stream: u16,
    pub(super) unread: VecDeque<Vec<u8>>,
    /// What cannot be sent yet: a peer may open a stream again while the end of what it was before is still being agreed on
    /// (RFC 6525, section 5.1.2). An acknowledgement and flags at most; payload waits for room.
    pub(super) unsent: VecDeque<(PayloadProtocolIdentifier, Vec<u8>)>,
    /// The peer has closed it.
    pub(super) ended: bool,
    pub(super) reader: Option<Waker>,
    pub(super) writer: Option<Waker>,
}

impl Channel {
    pub(super) fn new(stream: u16) -> Self {
        Self {
            stream,
            unread: VecDeque::new(),
            unsent: VecDeque::new(),
            ended: false,
            reader: None,
            writer: None,
        }
    }

    pub(super) fn wake(&mut self) {
        let wakers = [self.reader.take(), self.writer.take()];
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    /// Hands over what waits, as far as the stream takes it. `false` if it takes nothing ever again.
    pub(super) fn flush(&mut self, association: &mut Associated) -> bool {
        let Some((_, association)) = association else {
            return false;
        };
        let Ok(mut stream) = association.stream(self.stream) else {
            return false;
        };
        while stream.is_writable()
            && let Some((kind, message)) = self.unsent.pop_front()
        {
            if stream.write_with_ppi(&message, kind).is_err() {
                return false;
            }
        }
        true
    }
}

/// Sent on a stream and not acknowledged, in bytes.
pub(super) fn ahead(association: &mut Associated, stream: u16) -> usize {
    association.as_mut().map_or(0, |(_, association)| {
        association
            .stream(stream)
            .and_then(|stream| stream.buffered_amount())
            .unwrap_or_default()
    })
}
