//! Joining the network of peers and leaving it, as the visitor and the site say.

use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use futures::StreamExt;
use futures::future::{Either, select};
use kwaainet_network::{Address, Keypair, MemoryHub, MemoryNetwork, Network, PeerId};
use kwaainet_node::{Cancel, KwaaiNetCore, NetworkHost};
use kwaainet_platform::{BoxFuture, Clock, boxed};
use kwaainet_testkit::{CatalogueBuilder, IdleClock};
use kwaainet_types::{
    Chunk, Command, ConsentRecord, ErrorBody, ErrorCode, Event, NetworkState, NetworkStatus, NodeConfig,
    Origin, Purpose, Reply, Via,
};

use crate::home::{Home, NOW, model_file};

const URL: &str = "https://models.example/m.gguf";
const PRIVATE: &[Purpose] = &[Purpose::RunAi, Purpose::KeepModel];
const HELPFUL: &[Purpose] = &[Purpose::RunAi, Purpose::KeepModel, Purpose::HelpOthers];

/// Starts networks in memory, and counts them.
#[derive(Default)]
struct Workers {
    hub: MemoryHub,
    keys: Mutex<Vec<Keypair>>,
    networks: Mutex<Vec<Weak<MemoryNetwork>>>,
    broken: bool,
}

impl NetworkHost for Workers {
    fn start<'a>(
        &'a self,
        keypair: &'a Keypair,
        _known: &'a [(PeerId, Address)],
    ) -> BoxFuture<'a, Result<Arc<dyn Network>, String>> {
        boxed(async move {
            if self.broken {
                return Err("this browser has no workers in workers".to_owned());
            }
            self.keys.lock().unwrap().push(keypair.clone());
            let network = Arc::new(self.hub.join(keypair));
            self.networks.lock().unwrap().push(Arc::downgrade(&network));
            Ok(network as Arc<dyn Network>)
        })
    }
}

struct Visit {
    clock: Arc<IdleClock>,
    workers: Workers,
    node: Arc<KwaaiNetCore>,
    relay: MemoryNetwork,
    _home: Home,
}

impl Visit {
    fn new(purposes: &[Purpose]) -> Self {
        let clock = Arc::new(IdleClock::new(NOW));
        let file = model_file(1, 1);
        let mut home = Home::new(CatalogueBuilder::default().model("m", &file, &[URL]).deployment());
        home.platform.clock = Arc::clone(&clock) as _;
        home.http.serve(URL, file);
        let workers = Workers::default();
        let relay = workers.hub.join(&Keypair::from_seed([200; 32]));
        let node = home.agreed(purposes);
        Self {
            clock,
            workers,
            node,
            relay,
            _home: home,
        }
    }

    fn bootstrap(&self) -> String {
        format!("/memory/x/p2p/{}", self.relay.local_peer())
    }

    /// Runs while the node takes part as it wants.
    fn run<T>(&self, work: impl Future<Output = T>) -> T {
        let taking_part = std::pin::pin!(self.node.take_part(&self.workers));
        let work = std::pin::pin!(work);
        self.clock.run(async {
            match select(work, taking_part).await {
                Either::Left((output, _)) => output,
                Either::Right(_) => panic!("taking part never ends"),
            }
        })
    }

    async fn tell(&self, origin: Origin, command: Command) -> Result<Reply, ErrorBody> {
        let out = |_: Chunk| {};
        self.node.dispatch(origin, command, &out, &Cancel::new()).await
    }

    async fn configure(&self, bootstrap: Vec<String>) -> Result<Reply, ErrorBody> {
        let config = NodeConfig {
            bootstrap,
            ..NodeConfig::default()
        };
        self.tell(Origin::Site, Command::Configure { config }).await
    }

    async fn status(&self, origin: Origin) -> NetworkStatus {
        match self.tell(origin, Command::Network).await {
            Ok(Reply::Network { network }) => network,
            other => panic!("{other:?}"),
        }
    }

    async fn a_while(&self) {
        self.clock.sleep(Duration::from_secs(3)).await;
    }

    /// Networks that were not dropped, which is how they end.
    fn running(&self) -> usize {
        let networks = self.workers.networks.lock().unwrap();
        networks
            .iter()
            .filter(|network| network.strong_count() > 0)
            .count()
    }

    fn started(&self) -> usize {
        self.workers.keys.lock().unwrap().len()
    }
}

#[test]
fn a_download_waits_a_moment_for_the_network() {
    let visit = Visit::new(HELPFUL);
    visit.run(async {
        visit.configure(vec![visit.bootstrap()]).await.unwrap();
        // Nobody had time to join.
        let load = Command::LoadModel { model: None };
        visit.tell(Origin::Site, load.clone()).await.unwrap();
        assert_eq!(visit.status(Origin::Site).await.state, NetworkState::Joined);
    });
    let visit = Visit::new(HELPFUL);
    visit.run(async {
        visit.workers.hub.leave(visit.relay.local_peer());
        visit.configure(vec![visit.bootstrap()]).await.unwrap();
        let began = visit.clock.monotonic_ms();
        let load = Command::LoadModel { model: None };
        visit.tell(Origin::Site, load).await.unwrap();
        assert!(
            visit.clock.monotonic_ms() - began < 3000.0,
            "nobody answers: no reason to wait"
        );
    });
}

#[test]
fn who_helps_others_joins_whom_the_site_names() {
    let visit = Visit::new(HELPFUL);
    let mut events = visit.node.events();
    visit.run(async {
        visit.configure(vec![visit.bootstrap()]).await.unwrap();
        visit.a_while().await;
        let status = visit.status(Origin::Panel).await;
        assert_eq!(status.state, NetworkState::Joined);
        assert_eq!(status.peers[0].peer, visit.relay.local_peer().to_string());
        assert!(status.peers[0].address.is_some());
        let told = visit.status(Origin::Site).await;
        assert_eq!(
            (told.peers.len(), &told.peers[0].address),
            (1, &None),
            "no address for a site"
        );
        assert_eq!(told.peers[0].via, Via::Other);
        let joined = async {
            loop {
                if let Some(Event::NetworkChanged { network }) = events.next().await
                    && network.state == NetworkState::Joined
                {
                    return network;
                }
            }
        };
        assert!(joined.await.peers.iter().all(|peer| peer.address.is_none()));
        // The same configuration from another port changes nothing.
        visit.configure(vec![visit.bootstrap()]).await.unwrap();
        visit.a_while().await;
        assert_eq!(visit.started(), 1);
    });
}

#[test]
fn nobody_is_called_without_consent_or_without_a_name() {
    let visit = Visit::new(PRIVATE);
    visit.run(async {
        visit.configure(vec![visit.bootstrap()]).await.unwrap();
        visit.a_while().await;
        let join = Command::JoinNetwork { peers: vec![] };
        let refused = visit.tell(Origin::Site, join).await.unwrap_err();
        assert_eq!(refused.code, ErrorCode::ConsentRequired);
        assert_eq!(visit.started(), 0);
        assert_eq!(visit.status(Origin::Site).await, NetworkStatus::default());
    });

    let visit = Visit::new(HELPFUL);
    visit.run(async {
        visit.a_while().await;
        let join = Command::JoinNetwork { peers: vec![] };
        let nobody = visit.tell(Origin::Site, join).await.unwrap_err();
        assert_eq!(nobody.code, ErrorCode::BadRequest, "{}", nobody.message);
        let nonsense = visit
            .configure(vec!["/ip4/1.2.3.4".to_owned()])
            .await
            .unwrap_err();
        assert_eq!(nonsense.code, ErrorCode::BadRequest);
        assert_eq!(visit.started(), 0);
    });
}

#[test]
fn it_leaves_when_asked_and_joins_with_another_key() {
    let visit = Visit::new(HELPFUL);
    visit.run(async {
        let peers = vec![visit.bootstrap()];
        let join = Command::JoinNetwork { peers };
        let Ok(Reply::Network { network }) = visit.tell(Origin::Site, join.clone()).await else {
            panic!("it does not join");
        };
        assert_eq!(network.state, NetworkState::Joined);
        assert_eq!(visit.relay.peers().len(), 1);
        visit.tell(Origin::Site, Command::LeaveNetwork).await.unwrap();
        visit.a_while().await;
        assert_eq!(visit.status(Origin::Site).await, NetworkStatus::default());
        assert_eq!(visit.running(), 0);
        visit.tell(Origin::Site, join).await.unwrap();
        let keys = visit.workers.keys.lock().unwrap().clone();
        assert_eq!(keys.len(), 2);
        assert_ne!(keys[0].peer_id(), keys[1].peer_id());
    });
}

#[test]
fn the_network_ends_with_the_consent_to_help() {
    let visit = Visit::new(HELPFUL);
    visit.run(async {
        visit.configure(vec![visit.bootstrap()]).await.unwrap();
        visit.a_while().await;
        assert_eq!(visit.relay.peers().len(), 1);
        let Ok(Reply::Consent { record: Some(record) }) = visit.tell(Origin::Panel, Command::Consent).await
        else {
            panic!("there is a record");
        };
        let record = ConsentRecord {
            purposes: PRIVATE.to_vec(),
            ..record
        };
        visit
            .tell(Origin::Panel, Command::Grant { record })
            .await
            .unwrap();
        visit.a_while().await;
        assert_eq!(visit.running(), 0);
        assert_eq!(visit.status(Origin::Panel).await.state, NetworkState::Off);
    });
}

#[test]
fn peers_that_went_are_called_again() {
    let visit = Visit::new(HELPFUL);
    visit.run(async {
        visit.configure(vec![visit.bootstrap()]).await.unwrap();
        visit.a_while().await;
        let us = visit.relay.peers()[0].peer;
        visit.relay.disconnect(us);
        visit.a_while().await;
        assert_eq!(visit.status(Origin::Site).await.peers.len(), 1);
        assert_eq!(visit.started(), 1, "the same network");
    });
}

#[test]
fn a_network_that_ended_is_started_again() {
    let visit = Visit::new(HELPFUL);
    visit.run(async {
        visit.configure(vec![visit.bootstrap()]).await.unwrap();
        visit.a_while().await;
        // As when its worker dies.
        visit.workers.hub.leave(visit.relay.peers()[0].peer);
        visit.clock.sleep(Duration::from_secs(10)).await;
        assert_eq!(visit.started(), 2);
        assert_eq!(visit.status(Origin::Site).await.state, NetworkState::Joined);
    });
}

#[test]
fn why_there_is_none_is_said() {
    let mut visit = Visit::new(HELPFUL);
    visit.workers.broken = true;
    visit.run(async {
        let join = Command::JoinNetwork {
            peers: vec![visit.bootstrap()],
        };
        let error = visit.tell(Origin::Site, join).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::NetworkUnreachable);
        assert!(
            error.message.contains("no workers in workers"),
            "{}",
            error.message
        );
    });
    visit.workers.broken = false;
    visit.run(async {
        visit.workers.hub.leave(visit.relay.local_peer());
        let join = Command::JoinNetwork {
            peers: vec![visit.bootstrap()],
        };
        let error = visit.tell(Origin::Site, join).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::NetworkUnreachable);
    });
}
