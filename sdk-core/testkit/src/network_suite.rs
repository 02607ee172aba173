//! What every network must do: libp2p and the one in memory.

use std::sync::Arc;
use std::time::Duration;

use futures::future::{Either, join, join_all, select};
use kwaainet_network::record::{ModelRoot, Offer, Share, Signed, keys_of};
use kwaainet_network::{
    Address, Incoming, Keypair, MessageStream, Network, NetworkError, PeerId, Protocol, RecordKey,
};
use kwaainet_platform::Clock;

const ECHO: Protocol = Protocol {
    name: "/kwaainet/test/echo/1",
    longest: 2 << 20,
};
const SHORT: Protocol = Protocol {
    name: "/kwaainet/test/short/1",
    longest: 100,
};
const UNKNOWN: Protocol = Protocol {
    name: "/kwaainet/test/unknown/1",
    longest: 100,
};

/// One node of a pair.
#[derive(Clone)]
pub struct End {
    /// The network, as this node sees it.
    pub network: Arc<dyn Network>,
    /// Where the other can dial it.
    pub addresses: Vec<Address>,
}

impl std::fmt::Debug for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("End")
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

impl End {
    fn peer(&self) -> PeerId {
        self.network.local_peer()
    }

    async fn dial(&self, other: &Self) -> Result<(), NetworkError> {
        self.network.dial(other.peer(), other.addresses.clone()).await
    }
}

/// Panics with the name of the rule that a network breaks. `pair` makes two nodes that have never met, and `vanish` takes
/// one away without a word. `clock` is waited on where a network needs time.
pub async fn network_suite(clock: &dyn Clock, pair: impl AsyncFn() -> (End, End), vanish: impl AsyncFn(End)) {
    strangers(&pair().await).await;
    echoes(&pair().await).await;
    halves(&pair().await).await;
    long_messages(&pair().await).await;
    slow_readers(clock, &pair().await).await;
    many_streams(&pair().await).await;
    serving(&pair().await).await;
    disconnecting(clock, &pair().await).await;
    records(clock, &pair().await).await;
    let (one, other) = pair().await;
    vanishing(one, other, vanish).await;
}

/// Waits until something is so, for as long as a slow machine needs.
async fn until(clock: &dyn Clock, rule: &str, mut so: impl AsyncFnMut() -> bool) {
    for _ in 0..500 {
        if so().await {
            return;
        }
        clock.sleep(Duration::from_millis(20)).await;
    }
    panic!("{rule}");
}

/// A stream from one to the other, both ends; `incoming` is the other's.
async fn stream(
    one: &End,
    other: &End,
    protocol: Protocol,
    incoming: &mut dyn Incoming,
) -> (MessageStream, MessageStream) {
    one.dial(other)
        .await
        .expect("a peer that is there can be dialled");
    let (near, far) = join(one.network.open(other.peer(), protocol), async {
        incoming.next().await.expect("a stream that was opened comes in")
    })
    .await;
    (near.expect("a protocol that is served can be opened"), far)
}

async fn strangers((one, other): &(End, End)) {
    let open = one.network.open(other.peer(), ECHO).await;
    assert!(
        matches!(open, Err(NetworkError::Unreachable { .. })),
        "nobody is connected yet: {open:?}"
    );
    let nobody = PeerId::from_public_key([7; 32]);
    let dial = one.network.dial(nobody, other.addresses.clone()).await;
    assert!(
        dial.is_err(),
        "a peer that is not there cannot be dialled at another's address"
    );
    assert!(one.network.peers().is_empty());
    one.dial(other)
        .await
        .expect("a peer that is there can be dialled");
    one.dial(other)
        .await
        .expect("dialling a connected peer does nothing");
    let peers = one.network.peers();
    assert_eq!(
        peers.iter().map(|info| info.peer).collect::<Vec<_>>(),
        [other.peer()]
    );
    let open = one.network.open(other.peer(), UNKNOWN).await;
    assert!(
        matches!(open, Err(NetworkError::NotSpoken { .. })),
        "nobody serves it: {open:?}"
    );
}

fn pattern(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at.wrapping_mul(31) >> 3) as u8).collect()
}

async fn echoes((one, other): &(End, End)) {
    let mut incoming = other.network.serve(ECHO).expect("it is not served yet");
    let (mut near, far) = stream(one, other, ECHO, &mut *incoming).await;
    assert_eq!(
        (near.peer, far.peer),
        (other.peer(), one.peer()),
        "both ends know who is there"
    );
    let sizes = [0, 1, 64, 127, 128, 16_383, 16_384, 65_537, 1 << 20, 2 << 20];
    let mut far = far;
    let echo = async move {
        while let Some(message) = far.receiver.next().await {
            far.sender
                .send(message.expect("a whole message"))
                .await
                .expect("the peer reads");
        }
    };
    let ask = async {
        for len in sizes {
            near.sender.send(pattern(len)).await.expect("the peer reads");
            let back = near
                .receiver
                .next()
                .await
                .expect("an answer")
                .expect("a whole one");
            assert!(back == pattern(len), "{len} bytes come back as they were");
        }
        drop(near.sender);
        assert!(
            near.receiver.next().await.is_none(),
            "the end follows the last message"
        );
    };
    join(echo, ask).await;
    let info = one.network.peers();
    let total = sizes.iter().sum::<usize>() as u64;
    assert_eq!(
        (info[0].sent, info[0].received),
        (total, total),
        "bytes of messages are counted"
    );
}

async fn halves((one, other): &(End, End)) {
    let mut incoming = other.network.serve(ECHO).expect("it is not served yet");
    let (near, mut far) = stream(one, other, ECHO, &mut *incoming).await;
    let MessageStream {
        sender, mut receiver, ..
    } = near;
    let mut sender = sender;
    sender.send(vec![1]).await.expect("the peer reads");
    drop(sender);
    assert_eq!(
        far.receiver.next().await,
        Some(Ok(vec![1])),
        "what was sent before the end arrives"
    );
    assert_eq!(far.receiver.next().await, None, "then comes the end");
    assert_eq!(far.receiver.next().await, None, "and nothing after it");
    far.sender.send(vec![2]).await.expect("the other half goes on");
    assert_eq!(receiver.next().await, Some(Ok(vec![2])), "and arrives");
}

async fn long_messages((one, other): &(End, End)) {
    // The two sides disagree about the limit, as a hostile one would.
    let lax = Protocol {
        longest: 1000,
        ..SHORT
    };
    let mut incoming = other.network.serve(SHORT).expect("it is not served yet");
    let (mut near, mut far) = stream(one, other, lax, &mut *incoming).await;
    let error = near.sender.send(vec![0; 1001]).await.unwrap_err();
    assert!(
        matches!(
            error,
            NetworkError::TooLong {
                bytes: 1001,
                limit: 1000,
                ..
            }
        ),
        "not sent: {error}"
    );
    near.sender
        .send(vec![0; 100])
        .await
        .expect("the longest that is allowed");
    assert_eq!(far.receiver.next().await, Some(Ok(vec![0; 100])));
    // In memory the sender's own limit is the only one; on a wire the reader's counts.
    if near.sender.send(vec![0; 101]).await.is_ok() {
        match far.receiver.next().await {
            Some(Err(NetworkError::TooLong {
                bytes: 101,
                limit: 100,
                ..
            })) => {
                assert_eq!(far.receiver.next().await, None, "nothing follows an error");
            }
            read => assert_eq!(read, Some(Ok(vec![0; 101])), "the reader's limit is its own"),
        }
    }
}

async fn slow_readers(clock: &dyn Clock, (one, other): &(End, End)) {
    let mut incoming = other.network.serve(ECHO).expect("it is not served yet");
    let (mut near, mut far) = stream(one, other, ECHO, &mut *incoming).await;
    // More than any window between two nodes holds.
    let (count, len) = (64, 1 << 20);
    let mut sent = 0;
    for _ in 0..count {
        let sending = near.sender.send(vec![9; len]);
        match select(sending, clock.sleep(Duration::from_millis(500))).await {
            Either::Left((sent, _)) => sent.expect("the connection is there"),
            Either::Right(_) => break,
        }
        sent += 1;
    }
    assert!(
        sent < count,
        "a reader that does not read holds the sender up, and nothing grows without end"
    );
    for _ in 0..sent {
        let message = far
            .receiver
            .next()
            .await
            .expect("a message")
            .expect("a whole one");
        assert_eq!(message.len(), len);
    }
}

async fn many_streams((one, other): &(End, End)) {
    let mut incoming = other.network.serve(ECHO).expect("it is not served yet");
    one.dial(other).await.expect("it is there");
    let serve = async {
        let mut all = Vec::new();
        for _ in 0..50 {
            all.push(incoming.next().await.expect("a stream"));
        }
        join_all(all.into_iter().map(async |mut far| {
            let message = far
                .receiver
                .next()
                .await
                .expect("a message")
                .expect("a whole one");
            far.sender.send(message).await.expect("the peer reads");
            // The stream stays until its last message has been read.
            far.receiver.next().await
        }))
        .await;
    };
    let ask = join_all((0..50_u8).map(async |which| {
        let mut near = one
            .network
            .open(other.peer(), ECHO)
            .await
            .expect("fifty streams are not many");
        near.sender.send(vec![which; 1000]).await.expect("the peer reads");
        assert_eq!(
            near.receiver.next().await,
            Some(Ok(vec![which; 1000])),
            "no stream gets another's bytes"
        );
    }));
    join(serve, ask).await;
}

async fn serving((one, other): &(End, End)) {
    let incoming = other.network.serve(ECHO).expect("it is not served yet");
    assert!(
        matches!(other.network.serve(ECHO), Err(NetworkError::AlreadyServed(_))),
        "a protocol is served once"
    );
    one.dial(other).await.expect("it is there");
    drop(incoming);
    let mut incoming = other.network.serve(ECHO).expect("and again when that has ended");
    stream(one, other, ECHO, &mut *incoming).await;
}

async fn disconnecting(clock: &dyn Clock, (one, other): &(End, End)) {
    let mut incoming = other.network.serve(ECHO).expect("it is not served yet");
    let (mut near, _far) = stream(one, other, ECHO, &mut *incoming).await;
    other.network.disconnect(one.peer());
    let next = near.receiver.next().await;
    assert!(
        !matches!(next, Some(Ok(_))),
        "the stream ends with the connection: {next:?}"
    );
    until(clock, "a peer that left is no peer", async || {
        one.network.peers().is_empty()
    })
    .await;
    one.dial(other).await.expect("it may be dialled again");
}

async fn records(clock: &dyn Clock, (one, other): &(End, End)) {
    one.dial(other).await.expect("it is there");
    // A real record: whoever keeps it looks at it.
    let publisher = Keypair::from_seed([42; 32]);
    let (offer, model) = offer();
    let body = offer.to_bytes().expect("a small offer");
    let expires_ms = clock.unix_ms() + 60_000;
    let record = Signed::sign(&publisher, 1, expires_ms, &body)
        .expect("a short one")
        .into_bytes();
    let keys = keys_of(publisher.peer_id(), model, &Share::Chunks);
    let key = *keys.first().expect("chunks have a key");
    // Both must have learnt that the other routes.
    until(clock, "a record finds a keeper", async || {
        one.network.publish(key, record.clone()).await.is_ok()
    })
    .await;
    until(clock, "what one published, the other finds", async || {
        other
            .network
            .find(key, 10)
            .await
            .is_ok_and(|found| found == [record.clone()])
    })
    .await;
    let unknown = one.network.find(RecordKey([6; 32]), 10).await;
    assert_eq!(unknown, Ok(vec![]), "nothing is known under another key");
}

fn offer() -> (Offer, ModelRoot) {
    let model = ModelRoot([3; 32]);
    let offer = Offer {
        model,
        share: Share::Chunks,
        dtype: "q4_1".to_owned(),
        inference_rps_milli: 0,
        forward_rps_milli: 0,
        cache_left: 0,
        next_pings: vec![],
        build: "test".to_owned(),
        addresses: vec![],
    };
    (offer, model)
}

async fn vanishing(one: End, other: End, vanish: impl AsyncFn(End)) {
    let mut incoming = other.network.serve(ECHO).expect("it is not served yet");
    let (mut near, far) = stream(&one, &other, ECHO, &mut *incoming).await;
    drop((far, incoming));
    vanish(other).await;
    let next = near.receiver.next().await;
    assert!(!matches!(next, Some(Ok(_))), "nobody is there any more: {next:?}");
}
