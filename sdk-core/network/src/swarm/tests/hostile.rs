//! Peers that break the rules of `/kwaainet/chunk/1`, and ends in the middle.

use futures::FutureExt;

use super::*;
use crate::{Incoming, MessageStream};

const WHOLE: usize = CHUNK / FRAME_BYTES;

/// Reads on a stream until a chunk is wanted, having said that all are here.
async fn wanted(stream: &mut MessageStream) -> u32 {
    loop {
        let message = stream.receiver.next().await.unwrap().unwrap();
        match Message::from_bytes(&message).unwrap() {
            Message::Ask(_) => say(stream, Message::Have(vec![0xff; 2])).await,
            Message::Want(chunk) => return chunk,
            other => panic!("{other:?}"),
        }
    }
}

async fn say(stream: &mut MessageStream, message: Message) {
    // Who has banned us does not listen.
    let _ = stream.sender.send(message.to_bytes()).await;
}

/// A right frame of a chunk.
fn frame(number: u32, index: usize) -> Message {
    Message::Frame {
        chunk: number,
        offset: (index * FRAME_BYTES) as u32,
        bytes: vec![number as u8; FRAME_BYTES],
    }
}

async fn next(incoming: &mut Box<dyn Incoming>) -> MessageStream {
    incoming.next().await.unwrap()
}

#[test]
fn frames_in_another_order_again_or_of_what_nobody_asked_for_ban_their_sender() {
    let short = |chunk| Message::Frame {
        chunk,
        offset: 0,
        bytes: vec![chunk as u8; FRAME_BYTES - 1],
    };
    type Lies = Box<dyn Fn(u32) -> Vec<Message>>;
    let lies: [Lies; 5] = [
        Box::new(|chunk| vec![frame(chunk, 1)]),
        Box::new(|chunk| vec![frame(chunk, 0), frame(chunk, 0)]),
        Box::new(|chunk| (0..=WHOLE).map(|index| frame(chunk, index)).collect()),
        Box::new(|chunk| vec![frame((chunk + 5) % 10, 0)]),
        Box::new(move |chunk| vec![short(chunk)]),
    ];
    for (index, lie) in lies.into_iter().enumerate() {
        let mut world = World::new(11);
        let hostile = world.join(1);
        let mut incoming = hostile.serve(CHUNKS).unwrap();
        let us = world.join(9);
        let mut download = world.download(&us, &[], 1, &[hostile.local_peer()]);
        let mut source = download.source();
        world.run(async move {
            let lying = async {
                let mut stream = next(&mut incoming).await;
                let chunk = wanted(&mut stream).await;
                for message in lie(chunk) {
                    say(&mut stream, message).await;
                }
                // Nothing but an end comes then: no chunk that it asks for is waited for any longer.
                while stream
                    .receiver
                    .next()
                    .await
                    .is_some_and(|message| message.is_ok())
                {}
            };
            let getting = async {
                let mut came = 0;
                while download.next().await.is_some() {
                    came += 1;
                }
                came
            };
            let (_, came) = futures::future::join(lying, getting).await;
            // A whole chunk is right as far as it goes; a frame of it too many is not.
            assert_eq!(came, u32::from(index == 2), "lie {index}");
            assert!(source.add_peer(hostile.local_peer()));
            assert!(download.next().await.is_none());
            let again = incoming.next().now_or_never();
            assert!(again.is_none(), "lie {index}: it is visited again");
        });
    }
}

#[test]
fn what_was_found_elsewhere_is_cancelled_on_its_way_and_its_last_frames_are_no_offence() {
    let mut world = World::new(11);
    let server = world.join(1);
    let mut incoming = server.serve(CHUNKS).unwrap();
    let us = world.join(9);
    let mut download = world.download(&us, &[], 1, &[server.local_peer()]);
    let beside = download.beside();
    let got = world.run(async move {
        let serving = async {
            let mut stream = next(&mut incoming).await;
            let found = wanted(&mut stream).await;
            let other = wanted(&mut stream).await;
            say(&mut stream, frame(found, 0)).await;
            beside.found(found);
            say(&mut stream, frame(found, 1)).await;
            let message = stream.receiver.next().await.unwrap().unwrap();
            assert_eq!(Message::from_bytes(&message), Some(Message::Cancel(found)));
            // This one was on its way already.
            say(&mut stream, frame(found, 2)).await;
            for index in 0..WHOLE {
                say(&mut stream, frame(other, index)).await;
            }
            (stream, found, other)
        };
        let (served, came) = futures::future::join(serving, download.next()).await;
        assert_eq!(came.unwrap().0, served.2);
        (served.1, download.beside().gaps())
    });
    let (found, gaps) = got;
    assert!(!gaps.had.contains(&found) && !gaps.lacked.contains(&found));
}

#[test]
fn consent_that_is_withdrawn_ends_every_stream_at_once() {
    let mut world = World::new(10);
    let seeder = world.join(1);
    let shelf = Shelf(Mutex::new((0..10).map(|n| (n, chunk(n, 10))).collect()));
    let us = world.join(9);
    let (lent, clock) = (Arc::clone(&seeder), Arc::clone(&world.clock));
    let (end, ended) = futures::channel::oneshot::channel::<()>();
    let serving = async move {
        let permit = permit();
        let served = serve_chunks(&*lent, &shelf, &*clock, &permit, Limits::default());
        drop(futures::future::select(ended, std::pin::pin!(served)).await);
    };
    world.spawner().spawn_local(serving).unwrap();
    futures::executor::block_on(us.dial(seeder.local_peer(), vec![])).unwrap();
    world.run(async move {
        let mut streams = vec![];
        for _ in 0..2 {
            let mut stream = us.open(seeder.local_peer(), CHUNKS).await.unwrap();
            say(&mut stream, Message::Ask(ROOT)).await;
            for chunk in 0..8 {
                say(&mut stream, Message::Want(chunk)).await;
            }
            stream.receiver.next().await.unwrap().unwrap();
            streams.push(stream);
        }
        end.send(()).unwrap();
        for stream in &mut streams {
            let mut frames = 0;
            while let Some(Ok(_)) = stream.receiver.next().await {
                frames += 1;
            }
            // No more than the network held already, of the 32 that were asked for.
            assert!(frames < 20, "{frames}");
            assert!(stream.sender.send(Message::Ask(ROOT).to_bytes()).await.is_err());
        }
        let refused = us.open(seeder.local_peer(), CHUNKS).await;
        assert!(
            matches!(refused, Err(crate::NetworkError::NotSpoken { .. })),
            "{refused:?}"
        );
    });
    assert!(world.clock.monotonic_ms() < 1.0, "it took time");
}
