//! Models from peers and to them: what a server is still asked, and what nobody is told without consent.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::{Either, join, join_all, select};
use kwaainet_network::swarm::Limits;
use kwaainet_network::{Keypair, MemoryHub, MemoryNetwork, Network, PeerId};
use kwaainet_node::{Cancel, KwaaiNetCore, NodeError, PeerAddr};
use kwaainet_platform::{BlobStore, Clock};
use kwaainet_testkit::{CatalogueBuilder, IdleClock, block_on};
use kwaainet_types::{
    Chunk, Command, ErrorBody, ErrorCode, HelpOthers, Origin, Progress, Purpose, Reply, Stage,
};

use crate::home::{Home, MIB, NOW, load, model_file, tell};

const URL: &str = "https://models.example/m.gguf";
const HELPFUL: &[Purpose] = &[Purpose::RunAi, Purpose::KeepModel, Purpose::HelpOthers];

/// A person with a device.
struct Person {
    home: Home,
    node: Arc<KwaaiNetCore>,
    network: Arc<MemoryNetwork>,
    keypair: Keypair,
}

struct World {
    file: Vec<u8>,
    clock: Arc<IdleClock>,
    hub: MemoryHub,
}

impl World {
    fn new(mib: usize) -> Self {
        Self {
            file: model_file(mib, 1),
            clock: Arc::new(IdleClock::new(NOW)),
            hub: MemoryHub::default(),
        }
    }

    /// Somebody who is in the network, agreed to these purposes, and finds the model at the server.
    fn person(&self, seed: u8, purposes: &[Purpose]) -> Person {
        let mut home = Home::new(
            CatalogueBuilder::default()
                .model("m", &self.file, &[URL])
                .deployment(),
        );
        home.platform.clock = Arc::clone(&self.clock) as _;
        home.http.serve(URL, self.file.clone());
        let node = home.agreed(purposes);
        let keypair = Keypair::from_seed([seed; 32]);
        let network = Arc::new(self.hub.join(&keypair));
        let person = Person {
            home,
            node,
            network,
            keypair,
        };
        person.enter();
        person
    }

    /// Somebody who has the model, or as much of it as is given.
    fn lender(&self, seed: u8, bytes: u64) -> Person {
        let person = self.person(seed, HELPFUL);
        if bytes < self.file.len() as u64 {
            person.home.http.cut_next(bytes);
            person.offline();
        }
        person.node.set_network(None);
        // (A fetch that fails keeps what has arrived.)
        let _ = self.clock.run(async { person.load().await.0 });
        person.enter();
        person
    }
}

impl Person {
    fn peer(&self) -> PeerId {
        self.keypair.peer_id()
    }

    fn enter(&self) {
        let network = Arc::clone(&self.network) as _;
        self.node.set_network(Some((network, self.keypair.clone())));
    }

    fn connect(&self, other: &Self) {
        let address = format!("/memory/x/p2p/{}", other.peer());
        let permit = self.node.permit().unwrap();
        let joined = self.node.join_network(&permit, vec![PeerAddr(address)]);
        assert_eq!(block_on(joined), Ok(1));
    }

    async fn lend(&self, limits: Limits) -> Result<(), NodeError> {
        let permit = self.node.permit::<HelpOthers>()?;
        self.node.lend_models(&permit, limits).await
    }

    /// Loads the model, and collects what is told.
    async fn load(&self) -> (Result<Reply, ErrorBody>, Vec<Progress>) {
        let told = Mutex::new(vec![]);
        let out = |chunk: Chunk| {
            if let Chunk::Progress { progress } = chunk {
                told.lock().unwrap().push(progress);
            }
        };
        let command = Command::LoadModel { model: None };
        let reply = self
            .node
            .dispatch(Origin::Site, command, &out, &Cancel::new())
            .await;
        let told = told.lock().unwrap().clone();
        (reply, told)
    }

    /// From now on no server answers.
    fn offline(&self) {
        (0..20).for_each(|_| self.home.http.cut_next(0));
    }

    fn asked(&self) -> u64 {
        self.home.asked(URL, 1 << 40)
    }
}

/// Runs until the first is done, while these people lend.
fn while_lending<T>(world: &World, lenders: &[&Person], limits: Limits, work: impl Future<Output = T>) -> T {
    let lending = std::pin::pin!(join_all(lenders.iter().map(|lender| lender.lend(limits))));
    let work = std::pin::pin!(work);
    world.clock.run(async {
        match select(work, lending).await {
            Either::Left((output, _)) => output,
            Either::Right((ended, work)) => {
                assert!(
                    ended.iter().all(|end| *end == Err(NodeError::Withdrawn)),
                    "{ended:?}"
                );
                work.await
            }
        }
    })
}

#[test]
fn what_two_peers_have_is_not_asked_of_the_server() {
    let world = World::new(12);
    let (one, other) = (world.lender(1, u64::MAX), world.lender(2, 9 * MIB as u64));
    let us = world.person(9, HELPFUL);
    us.connect(&one);
    us.connect(&other);
    let (reply, told) = while_lending(&world, &[&one, &other], Limits::default(), us.load());
    assert!(reply.is_ok(), "{reply:?}");
    assert_eq!(us.home.http.requests().len(), 0);
    assert!(us.home.blob("m.gguf") == world.file);
    let last = told
        .iter()
        .rfind(|progress| progress.stage == Stage::Fetch)
        .unwrap();
    assert_eq!((last.from_peers, last.peers), (world.file.len() as u64, 2));
    assert!(other.network.peers()[0].sent > MIB as u64, "one did it all");
}

#[test]
fn the_server_is_asked_for_what_no_peer_has() {
    let world = World::new(12);
    let half = world.lender(1, 6 * MIB as u64);
    let us = world.person(9, HELPFUL);
    us.connect(&half);
    let (reply, told) = while_lending(&world, &[&half], Limits::default(), us.load());
    assert!(reply.is_ok(), "{reply:?}");
    assert!(us.home.blob("m.gguf") == world.file);
    assert_eq!(us.asked(), world.file.len() as u64 - 6 * MIB as u64);
    let last = told
        .iter()
        .rfind(|progress| progress.stage == Stage::Fetch)
        .unwrap();
    assert_eq!((last.from_peers, last.peers), (6 * MIB as u64, 1));
}

#[test]
fn without_consent_nothing_is_said_to_peers() {
    let world = World::new(3);
    let lender = world.lender(1, u64::MAX);
    let us = world.person(9, &[Purpose::RunAi, Purpose::KeepModel]);
    block_on(us.network.dial(lender.peer(), vec![])).unwrap();
    let (reply, _) = while_lending(&world, &[&lender], Limits::default(), us.load());
    assert!(reply.is_ok(), "{reply:?}");
    assert_eq!(us.network.peers()[0].sent, 0);
    assert_eq!(us.home.http.requests().len(), 1, "one plain GET");
    assert_eq!(
        us.node.permit::<HelpOthers>().unwrap_err().code(),
        ErrorCode::ConsentRequired
    );
}

#[test]
fn peers_are_enough_where_no_server_answers() {
    let world = World::new(6);
    let lender = world.lender(1, u64::MAX);
    let us = world.person(9, HELPFUL);
    us.offline();
    us.connect(&lender);
    let (reply, _) = while_lending(&world, &[&lender], Limits::default(), us.load());
    assert!(reply.is_ok(), "{reply:?}");

    // Peers that have half of it are not enough; what they had is kept.
    let half = world.lender(2, 3 * MIB as u64);
    let us = world.person(8, HELPFUL);
    us.offline();
    us.connect(&half);
    let (reply, _) = while_lending(&world, &[&half], Limits::default(), us.load());
    assert_eq!(reply.unwrap_err().code, ErrorCode::NetworkUnreachable);
    let status = block_on(us.node.models()).unwrap();
    assert_eq!(status[0].stored_bytes, 3 * MIB as u64);
}

#[test]
fn slow_peers_are_helped_by_the_server() {
    let world = World::new(12);
    let lender = world.lender(1, u64::MAX);
    let us = world.person(9, HELPFUL);
    us.connect(&lender);
    // Two minutes for all of it.
    let slow = Limits {
        bytes_per_second: Some(100_000),
        ..Limits::default()
    };
    let (reply, told) = while_lending(&world, &[&lender], slow, us.load());
    assert!(reply.is_ok(), "{reply:?}");
    assert!(us.home.blob("m.gguf") == world.file);
    assert!(us.asked() > 10 * MIB as u64, "{}", us.asked());
    assert!(told.iter().all(|progress| progress.stage != Stage::Retry));
}

#[test]
fn peers_that_need_some_seconds_are_left_alone() {
    let world = World::new(12);
    let lender = world.lender(1, u64::MAX);
    let us = world.person(9, HELPFUL);
    us.connect(&lender);
    // Six seconds for all of it: well after the head start, well before patience ends.
    let brisk = Limits {
        bytes_per_second: Some(2 << 20),
        ..Limits::default()
    };
    let (reply, _) = while_lending(&world, &[&lender], brisk, us.load());
    assert!(reply.is_ok(), "{reply:?}");
    assert_eq!(us.asked(), 0);
}

#[test]
fn who_offers_the_model_is_found_and_called() {
    let world = World::new(4);
    let lender = world.lender(1, u64::MAX);
    let us = world.person(9, HELPFUL);
    assert!(us.node.peers().is_empty());
    us.offline();
    let (reply, _) = while_lending(&world, &[&lender], Limits::default(), us.load());
    assert!(reply.is_ok(), "{reply:?}");
    assert_eq!(us.node.peers()[0].peer, lender.peer());
}

#[test]
fn a_chunk_that_rotted_is_not_lent() {
    let world = World::new(4);
    let lender = world.lender(1, u64::MAX);
    let blob = block_on(lender.home.disk.open("m.gguf", false)).unwrap();
    block_on(blob.write_at(2 * MIB as u64 + 5, &[1, 2, 3])).unwrap();
    let us = world.person(9, HELPFUL);
    us.connect(&lender);
    let (reply, _) = while_lending(&world, &[&lender], Limits::default(), us.load());
    assert!(reply.is_ok(), "{reply:?}");
    assert!(us.home.blob("m.gguf") == world.file);
    assert_eq!(us.asked(), MIB as u64, "that chunk alone, of the server");
}

#[test]
fn lending_ends_with_the_consent() {
    let world = World::new(12);
    let lender = world.lender(1, u64::MAX);
    let us = world.person(9, HELPFUL);
    us.connect(&lender);
    let slow = Limits {
        bytes_per_second: Some(2 << 20),
        ..Limits::default()
    };
    let withdrawal = async {
        world.clock.sleep(Duration::from_millis(1500)).await;
        assert_eq!(
            tell(&lender.node, Origin::Panel, Command::Withdraw),
            Ok(Reply::Done)
        );
        lender.network.peers()[0].sent
    };
    let (reply, sent) = while_lending(&world, &[&lender], slow, async {
        let ((reply, _), sent) = join(us.load(), withdrawal).await;
        (reply, sent)
    });
    assert!(reply.is_ok(), "{reply:?}");
    assert!(us.home.blob("m.gguf") == world.file);
    assert!((1..8 * MIB as u64).contains(&sent), "{sent}");
    assert_eq!(lender.network.peers()[0].sent, sent, "nothing after that");
}

#[test]
fn an_address_that_is_none_is_refused_before_anybody_is_called() {
    let world = World::new(1);
    let (us, other) = (world.person(9, HELPFUL), world.person(1, HELPFUL));
    let addresses = [
        format!("/memory/x/p2p/{}", other.peer()),
        "/ip4/1.2.3.4/tcp/1".to_owned(),
    ];
    let permit = us.node.permit().unwrap();
    let joined = us.node.join_network(&permit, addresses.map(PeerAddr).to_vec());
    let error = block_on(joined).unwrap_err();
    assert_eq!(error.code(), ErrorCode::BadRequest);
    assert!(error.to_string().contains("/p2p/12D3KooW"), "{error}");
    assert!(us.node.peers().is_empty());
    us.node.set_network(None);
    let error = block_on(us.node.join_network(&permit, vec![])).unwrap_err();
    assert_eq!(error.code(), ErrorCode::Unsupported);
    assert!(load(&us.node, "m").is_ok(), "the model comes without a network");
}
