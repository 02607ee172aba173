use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use futures::channel::oneshot;
use futures::executor::{LocalPool, LocalSpawner};
use futures::task::LocalSpawnExt;
use kwaainet_platform::Clock;
use kwaainet_testkit::IdleClock;
use proptest::prelude::*;

use super::*;
use crate::{Keypair, MemoryHub, MemoryNetwork, MessageStream, Network, NetworkError, Protocol};

const ECHO: Protocol = Protocol {
    name: "/kwaainet/test/echo/1",
    longest: 1 << 20,
};

/// Nodes of a network in memory, some of which are behind a port.
struct World {
    hub: MemoryHub,
    clock: Arc<IdleClock>,
    spawner: LocalSpawner,
    seed: Cell<u8>,
}

/// Runs everything that was spawned, too; time passes when nobody has anything to do.
fn run<T: 'static>(test: impl AsyncFnOnce(World) -> T + 'static) -> T {
    let mut pool = LocalPool::new();
    let clock = Arc::new(IdleClock::default());
    let world = World {
        hub: MemoryHub::default(),
        clock: Arc::clone(&clock),
        spawner: pool.spawner(),
        seed: Cell::new(1),
    };
    let (done, mut result) = oneshot::channel();
    let task = async move { drop(done.send(test(world).await)) };
    pool.spawner().spawn_local(task).unwrap();
    loop {
        pool.run_until_stalled();
        match result.try_recv() {
            Ok(Some(value)) => return value,
            Ok(None) => clock.advance(),
            Err(_) => panic!("the test panicked"),
        }
    }
}

impl World {
    fn near(&self) -> MemoryNetwork {
        self.seed.set(self.seed.get() + 1);
        self.hub.join(&Keypair::from_seed([self.seed.get(); 32]))
    }

    /// The node's half of a port, at whose other end this network is.
    fn lend(&self, network: impl Network + 'static) -> Port {
        let (here, there) = Port::pair();
        let served = serve_remote(Arc::new(network), Arc::clone(&self.clock) as _, there);
        self.spawner.spawn_local(served).unwrap();
        here
    }

    async fn remote(&self) -> RemoteNetwork {
        let (network, moving) = RemoteNetwork::connect(self.lend(self.near())).await.unwrap();
        self.spawner.spawn_local(moving).unwrap();
        network
    }

    async fn settle(&self) {
        self.clock.sleep(Duration::from_secs(2)).await;
    }
}

/// A stream from a remote node to a near one, both ends.
async fn stream(world: &World) -> (RemoteNetwork, MessageStream, MessageStream) {
    let (near, remote) = (world.near(), world.remote().await);
    let mut incoming = near.serve(ECHO).unwrap();
    remote.dial(near.local_peer(), vec![]).await.unwrap();
    let here = remote.open(near.local_peer(), ECHO).await.unwrap();
    (remote, here, incoming.next().await.unwrap())
}

#[test]
fn everything_ends_when_the_port_does() {
    run(async |world: World| {
        let port = world.lend(world.near());
        let (network, moving) = RemoteNetwork::connect(port).await.unwrap();
        let near = world.near();
        let _incoming = near.serve(ECHO).unwrap();
        let (stop, stopped) = oneshot::channel::<()>();
        world
            .spawner
            .spawn_local(async move { drop(futures::future::select(moving, stopped).await) })
            .unwrap();
        network.dial(near.local_peer(), vec![]).await.unwrap();
        let mut stream = network.open(near.local_peer(), ECHO).await.unwrap();
        let mut served = network.serve(ECHO).unwrap();
        let dialling = network.find(crate::RecordKey([1; 32]), 1);
        drop(stop);
        // The worker is gone: nobody answers, and nobody waits for ever.
        world.settle().await;
        assert_eq!(dialling.await, Err(NetworkError::Closed));
        assert!(stream.receiver.next().await.is_none_or(|next| next.is_err()));
        assert!(served.next().await.is_none());
        assert_eq!(stream.sender.send(vec![1]).await, Err(NetworkError::Closed));
    });
}

#[test]
fn the_other_half_dies_in_the_middle_of_everything() {
    run(async |world: World| {
        let (here, mut there) = Port::pair();
        let peer = Keypair::from_seed([9; 32]).peer_id();
        let hello = ToNode(wire::Report::Hello { peer }).into_bytes();
        there.to.unbounded_send(hello).unwrap();
        let (network, moving) = RemoteNetwork::connect(here).await.unwrap();
        world.spawner.spawn_local(moving).unwrap();
        let mut incoming = network.serve(ECHO).unwrap();
        let calls = async {
            let dialled = network.dial(peer, vec![]);
            let found = network.find(crate::RecordKey([1; 32]), 1);
            let opened = network.open(peer, ECHO);
            futures::join!(dialled, found, opened, incoming.next())
        };
        let dies = async {
            for _ in 0..4 {
                there.from.next().await.unwrap();
            }
            drop(there);
        };
        let ((dialled, found, opened, came), ()) = futures::join!(calls, dies);
        assert_eq!(dialled, Err(NetworkError::Closed));
        assert_eq!(found, Err(NetworkError::Closed));
        assert_eq!(opened.unwrap_err(), NetworkError::Closed);
        assert!(came.is_none());
        assert!(network.peers().is_empty());
        assert_eq!(network.dial(peer, vec![]).await, Err(NetworkError::Closed));
        assert_eq!(network.serve(ECHO).err(), Some(NetworkError::Closed));
    });
}

#[test]
fn who_leaves_a_stream_or_a_call_leaves_nothing_behind() {
    run(async |world: World| {
        let (network, here, mut there) = stream(&world).await;
        drop(here);
        assert_eq!(there.receiver.next().await, None);
        drop(there);
        // A call that nobody waits for, and a stream that was nearly opened.
        let near = world.near();
        let mut incoming = near.serve(ECHO).unwrap();
        network.dial(near.local_peer(), vec![]).await.unwrap();
        drop(network.open(near.local_peer(), ECHO));
        let opening = network.open(near.local_peer(), ECHO);
        let short = world.clock.sleep(Duration::ZERO);
        drop(futures::future::select(opening, short).await);
        world.settle().await;
        while let Some(Some(mut left)) = futures::FutureExt::now_or_never(incoming.next()) {
            assert_eq!(left.receiver.next().await, None);
        }
        assert_eq!(network.left_behind(), (0, 0));
    });
}

#[test]
fn a_reader_that_does_not_read_holds_little() {
    run(async |world: World| {
        let (_network, mut here, mut there) = stream(&world).await;
        let mut sent = 0;
        for _ in 0..1000 {
            let sending = there.sender.send(vec![7; 100_000]);
            let short = world.clock.sleep(Duration::from_secs(1));
            if matches!(
                futures::future::select(sending, short).await,
                futures::future::Either::Right(_)
            ) {
                break;
            }
            sent += 1;
        }
        // The window, one more, and what the network in memory holds (16 messages and one in the sender's hands).
        assert!((11..=30).contains(&sent), "{sent}");
        for _ in 0..sent {
            assert_eq!(here.receiver.next().await.unwrap().unwrap().len(), 100_000);
        }
    });
}

#[test]
fn what_makes_no_sense_ends_the_port() {
    run(async |world: World| {
        for nonsense in [vec![], vec![99], vec![0; 3], vec![1, 2, 3, 255]] {
            let mut port = world.lend(world.near());
            port.to.unbounded_send(nonsense).unwrap();
            while port.from.next().await.is_some() {}
        }
        // More than any credit allows, on one stream.
        let near = world.near();
        let _incoming = near.serve(ECHO).unwrap();
        let (peer, mut port) = (near.local_peer(), world.lend(world.near()));
        let say = |request| port.to.unbounded_send(ToHost(request).into_bytes());
        let addresses = vec![];
        say(wire::Request::Dial {
            call: 1,
            peer,
            addresses,
        })
        .unwrap();
        let (name, longest) = (ECHO.name.to_owned(), 1000);
        say(wire::Request::Open {
            call: 2,
            stream: 3,
            peer,
            name,
            longest,
        })
        .unwrap();
        world.settle().await;
        for _ in 0..100 {
            let what = wire::OfStream::Data(vec![0; 100_000]);
            let _ = say(wire::Request::Stream { stream: 3, what });
        }
        while port.from.next().await.is_some() {}
    });
}

proptest! {
    #[test]
    fn whatever_is_read_is_written_alike(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Some(message) = ToHost::from_bytes(bytes.clone()) {
            prop_assert_eq!(ToHost::from_bytes(message.clone().into_bytes()), Some(message));
        }
        if let Some(message) = ToNode::from_bytes(bytes) {
            prop_assert_eq!(ToNode::from_bytes(message.clone().into_bytes()), Some(message));
        }
    }
}
