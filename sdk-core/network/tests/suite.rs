//! The network in memory does what every network must do, also through a port.
#![expect(clippy::unwrap_used, reason = "tests fail by panicking, their helpers too")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use futures::channel::oneshot;
use futures::executor::{LocalPool, LocalSpawner};
use futures::task::LocalSpawnExt;
use kwaainet_network::remote::{Port, RemoteNetwork, serve_remote};
use kwaainet_network::{Keypair, MemoryHub, MemoryNetwork, Network};
use kwaainet_platform::ManualClock;
use kwaainet_testkit::{End, IdleClock, block_on, network_suite};

fn end(network: impl Network + 'static) -> End {
    End {
        network: Arc::new(network),
        addresses: vec![],
    }
}

#[derive(Default)]
struct World {
    hub: MemoryHub,
    seeds: AtomicU8,
}

impl World {
    fn near(&self) -> MemoryNetwork {
        let seed = self.seeds.fetch_add(1, Ordering::Relaxed);
        self.hub.join(&Keypair::from_seed([seed; 32]))
    }

    /// A node whose network is at the other end of a port.
    async fn remote(&self, clock: &Arc<IdleClock>, spawner: &LocalSpawner) -> RemoteNetwork {
        let (here, there) = Port::pair();
        let served = serve_remote(Arc::new(self.near()), Arc::clone(clock) as _, there);
        spawner.spawn_local(served).unwrap();
        let (network, moving) = RemoteNetwork::connect(here).await.unwrap();
        spawner.spawn_local(moving).unwrap();
        network
    }
}

#[test]
fn memory() {
    let world = World::default();
    let pair = async || (end(world.near()), end(world.near()));
    let vanish = async |end: End| world.hub.leave(end.network.local_peer());
    block_on(network_suite(&ManualClock::default(), pair, vanish));
}

#[test]
fn a_port() {
    let mut pool = LocalPool::new();
    let (clock, spawner) = (Arc::new(IdleClock::default()), pool.spawner());
    let (done, mut result) = oneshot::channel();
    let suite = {
        let clock = Arc::clone(&clock);
        async move {
            for both in [true, false] {
                // Another world: records of the first would be found in the second.
                let world = World::default();
                let vanish = async |end: End| world.hub.leave(end.network.local_peer());
                let remote = async || end(world.remote(&clock, &spawner).await);
                let other = async || if both { remote().await } else { end(world.near()) };
                network_suite(&*clock, async || (remote().await, other().await), vanish).await;
            }
            let _awaited = done.send(());
        }
    };
    pool.spawner().spawn_local(suite).unwrap();
    loop {
        pool.run_until_stalled();
        match result.try_recv() {
            Ok(Some(())) => break,
            Ok(None) => clock.advance(),
            Err(_) => panic!("a rule was broken"),
        }
    }
}
