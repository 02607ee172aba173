use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard};

use futures::executor::block_on;
use futures::future::{join, poll_fn};
use futures::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;

/// One direction between two channels in memory.
#[derive(Debug, Default)]
struct Way {
    messages: VecDeque<Vec<u8>>,
    closed: bool,
    receiver: Option<Waker>,
    sender: Option<Waker>,
}

#[derive(Debug, Clone)]
struct Channel {
    out: Arc<Mutex<Way>>,
    back: Arc<Mutex<Way>>,
    room: usize,
}

fn lock(way: &Mutex<Way>) -> MutexGuard<'_, Way> {
    way.lock().unwrap()
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}

fn pair(room: usize) -> (Channel, Channel) {
    let (out, back) = (Arc::<Mutex<Way>>::default(), Arc::<Mutex<Way>>::default());
    let one = Channel { out, back, room };
    let other = Channel {
        out: Arc::clone(&one.back),
        back: Arc::clone(&one.out),
        room,
    };
    (one, other)
}

impl Channel {
    fn is_closed(&self) -> bool {
        lock(&self.out).closed
    }
}

impl DataChannel for Channel {
    fn poll_receive(&mut self, cx: &mut Context<'_>) -> Poll<Option<Vec<u8>>> {
        let mut way = lock(&self.back);
        match way.messages.pop_front() {
            Some(message) => {
                wake(way.sender.take());
                Poll::Ready(Some(message))
            }
            None if way.closed => Poll::Ready(None),
            None => {
                way.receiver = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut way = lock(&self.out);
        if way.messages.len() < self.room {
            return Poll::Ready(Ok(()));
        }
        way.sender = Some(cx.waker().clone());
        Poll::Pending
    }

    fn send(&mut self, message: &[u8]) -> io::Result<()> {
        let mut way = lock(&self.out);
        if way.closed {
            return Err(io::ErrorKind::NotConnected.into());
        }
        way.messages.push_back(message.to_vec());
        wake(way.receiver.take());
        Ok(())
    }

    fn close(&mut self) {
        for way in [&self.out, &self.back] {
            let mut way = lock(way);
            way.closed = true;
            wake(way.receiver.take());
            wake(way.sender.take());
        }
    }
}

struct Pair {
    ours: Substream<Channel>,
    theirs: Substream<Channel>,
    our_rest: Lingering<Channel>,
    their_rest: Lingering<Channel>,
    channel: Channel,
}

fn streams(room: usize) -> Pair {
    let (one, other) = pair(room);
    let (our_rest, their_rest) = (Lingering::default(), Lingering::default());
    Pair {
        channel: one.clone(),
        ours: our_rest.stream(one, Side::Ours),
        theirs: their_rest.stream(other, Side::Theirs),
        our_rest,
        their_rest,
    }
}

fn settle(rest: &mut Lingering<Channel>) {
    rest.poll(&mut Context::from_waker(Waker::noop()));
}

fn pattern(length: usize) -> Vec<u8> {
    (0..length).map(|at| ((at * 31) >> 3) as u8).collect()
}

/// Reader and writer are tasks of their own on both sides, and there is room for two messages.
#[test]
fn a_megabyte_each_way_at_once_arrives_as_it_was_sent() {
    for length in [64, 8_192, MOST_PAYLOAD + 1, 1 << 20] {
        let Pair {
            ours,
            theirs,
            our_rest,
            their_rest,
            ..
        } = streams(2);
        let move_both = |stream: Substream<Channel>, rest: Lingering<Channel>| async move {
            let (mut reader, mut writer) = stream.split();
            let sent = pattern(length);
            let mut got = Vec::new();
            let write = async {
                writer.write_all(&sent).await.unwrap();
                writer.close().await.unwrap();
            };
            let (read, ()) = join(reader.read_to_end(&mut got), write).await;
            assert_eq!(read.unwrap(), length);
            assert!(got == sent, "{length} bytes arrive as they were sent");
            drop(rest);
        };
        block_on(join(move_both(ours, our_rest), move_both(theirs, their_rest)));
    }
}

#[test]
fn a_half_is_closed_without_the_other_and_the_channel_when_the_end_was_seen() {
    let mut all = streams(8);
    block_on(async {
        all.ours.write_all(b"a question").await.unwrap();
        all.ours.close().await.unwrap();
        let mut asked = String::new();
        all.theirs.read_to_string(&mut asked).await.unwrap();
        assert_eq!(asked, "a question");
        all.theirs.write_all(b"an answer").await.unwrap();
        all.theirs.close().await.unwrap();
        let mut answered = String::new();
        all.ours.read_to_string(&mut answered).await.unwrap();
        assert_eq!(answered, "an answer");
        let refused = all.ours.write_all(b"more").await.unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::BrokenPipe);
    });
    drop(all.theirs);
    settle(&mut all.their_rest);
    assert!(!all.channel.is_closed(), "only whoever opened it closes it");
    drop(all.ours);
    settle(&mut all.our_rest);
    assert!(all.channel.is_closed(), "the end was seen");
    settle(&mut all.their_rest);
    assert!(all.our_rest.streams.is_empty() && all.their_rest.streams.is_empty());
}

#[test]
fn what_was_written_before_a_stream_was_closed_and_dropped_still_arrives() {
    let mut all = streams(8);
    block_on(async {
        all.ours.write_all(b"last words").await.unwrap();
        all.ours.close().await.unwrap();
    });
    drop(all.ours);
    settle(&mut all.our_rest);
    assert!(!all.channel.is_closed(), "it lingers until its end is seen");
    let mut read = String::new();
    block_on(all.theirs.read_to_string(&mut read)).unwrap();
    assert_eq!(read, "last words");
    settle(&mut all.our_rest);
    assert!(all.channel.is_closed());
}

#[test]
fn a_stream_that_is_dropped_is_reset() {
    let mut all = streams(8);
    drop(all.ours);
    let mut nothing = [0];
    let read = block_on(all.theirs.read(&mut nothing)).unwrap_err();
    assert_eq!(read.kind(), io::ErrorKind::ConnectionReset);
    let write = block_on(all.theirs.write(b"x")).unwrap_err();
    assert_eq!(write.kind(), io::ErrorKind::BrokenPipe);
    assert!(all.channel.is_closed());
}

/// A peer that stops reading without taking what was sent must not hold a writer for ever.
#[test]
fn a_writer_that_waits_for_room_hears_that_nobody_reads() {
    let all = streams(1);
    let mut ours = all.ours;
    block_on(ours.write(b"fills the room")).unwrap();
    let theirs = all.theirs;
    let write = async { ours.write(b"waits").await };
    let stop = async {
        let mut left = 2;
        // The writer waits by now.
        poll_fn(|cx| {
            left -= 1;
            cx.waker().wake_by_ref();
            if left == 0 { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        let mut theirs = theirs;
        let inner = theirs.inner.take().unwrap();
        let mut channel = inner.channel;
        channel
            .send(&frame::encode(Some(Flag::StopSending), &[]))
            .unwrap();
        channel
    };
    let (written, _channel) = block_on(join(write, stop));
    assert_eq!(written.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
}

#[test]
fn streams_whose_end_nobody_sees_give_way_to_later_ones() {
    let mut rest = Lingering::default();
    let channels: Vec<_> = (0..MOST_LINGERING + 3).map(|_| pair(8).0).collect();
    for channel in &channels {
        let mut stream = rest.stream(channel.clone(), Side::Ours);
        block_on(stream.close()).unwrap();
        drop(stream);
        settle(&mut rest);
    }
    let open = channels.iter().filter(|channel| !channel.is_closed()).count();
    assert_eq!(open, MOST_LINGERING);
    assert!(channels[..3].iter().all(Channel::is_closed));
}

#[test]
fn what_is_no_frame_breaks_the_stream_and_closes_the_channel() {
    let (one, mut other) = pair(8);
    let rest = Lingering::default();
    let mut stream = rest.stream(one, Side::Ours);
    other.send(&[0xff; 12]).unwrap();
    let read = block_on(stream.read(&mut [0; 8])).unwrap_err();
    assert_eq!(read.kind(), io::ErrorKind::ConnectionReset);
    assert!(other.is_closed());
}

/// Otherwise the other side keeps the stream, and its channel, for as long as the connection lasts.
#[test]
fn a_stream_that_was_told_to_stop_says_that_it_has() {
    let (mut one, other) = pair(8);
    let rest = Lingering::default();
    let stream = rest.stream(other, Side::Theirs);
    one.send(&frame::encode(Some(Flag::StopSending), &[])).unwrap();
    one.send(&frame::encode(Some(Flag::Fin), &[])).unwrap();
    drop(stream);
    let mut decoder = Decoder::default();
    let mut flags = Vec::new();
    while let Poll::Ready(Some(message)) = one.poll_receive(&mut Context::from_waker(Waker::noop())) {
        decoder.push(&message).unwrap();
        flags.extend(decoder.next().unwrap().and_then(|frame| frame.flag));
    }
    assert_eq!(flags, [Flag::FinAck, Flag::Fin]);
}
