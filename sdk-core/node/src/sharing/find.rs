//! Peers that lend what this node lacks.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures::channel::mpsc;
use futures::future::join3;
use futures::stream::StreamExt as _;
use kwaainet_network::record::{Discovery, ModelRoot, Provider, Providers, Share};
use kwaainet_network::swarm::{Download, Manifest, PeerSource};
use kwaainet_platform::{Platform, boxed};
use kwaainet_types::{HelpOthers, ModelEntry};

use super::Member;
use crate::cid;
use crate::core::{KwaaiNetCore, lock};
use crate::model_store::{ModelFile, Peers};

/// Connected peers are looked at so often: somebody may have joined meanwhile.
const LOOK: Duration = Duration::from_secs(1);
/// Peers that are dialled for one model, and at once.
const MOST_DIALLED: usize = 16;
const DIALLED_AT_ONCE: usize = 4;

/// What a model consists of, as peers name it; `None` for an entry that contradicts itself.
pub(super) fn manifest_of(entry: &ModelEntry) -> Option<Manifest> {
    let hash = |text: &String| {
        let mut hash = [0; 32];
        hex::decode_to_slice(text, &mut hash).ok().map(|()| hash)
    };
    let hashes: Vec<[u8; 32]> = entry.chunk_hashes.iter().map(hash).collect::<Option<_>>()?;
    Some(Manifest {
        root: ModelRoot(cid::root_of_chunks(&hashes, entry.bytes)?),
        bytes: entry.bytes,
        hashes,
    })
}

impl KwaaiNetCore {
    /// Peers that may have what is missing of a file; `None` without a network or without consent.
    pub(crate) async fn peers_with(&self, file: &ModelFile<'_>) -> Option<Peers<'static>> {
        self.wait_to_join().await;
        let member = lock(&self.member).clone()?;
        let permit = self.permit::<HelpOthers>().ok()?;
        let manifest = manifest_of(file.entry())?;
        let root = manifest.root;
        let Platform { clock, random, .. } = self.platform.clone();
        let download = Download::new(
            Arc::clone(&member.network),
            clock,
            &*random,
            &permit,
            manifest,
            &file.bits(),
        )?;
        download.speak_bitswap(member.exchange.clone());
        let any = !member.network.peers().is_empty();
        let finding = find(member, self.platform.clone(), root, download.source());
        Some(Peers {
            download,
            finding: boxed(finding),
            any,
        })
    }
}

/// Names peers to a download for as long as it is polled: those that are connected, and those that offer the model.
async fn find(member: Member, platform: Platform, model: ModelRoot, source: PeerSource) {
    let Member { network, keypair, .. } = member;
    let (found, mut offers) = mpsc::unbounded();
    let connected = async {
        let (mut named, mut source) = (BTreeSet::new(), source.clone());
        loop {
            for info in network.peers() {
                if named.insert(info.peer) {
                    source.add_peer(info.peer);
                }
            }
            platform.clock.sleep(LOOK).await;
        }
    };
    let searching = async {
        // INVARIANT: only a span of blocks can be refused.
        let Ok(discovery) = Discovery::new(keypair, model, Share::Chunks) else {
            return;
        };
        let (clock, random) = (Arc::clone(&platform.clock), Arc::clone(&platform.random));
        let providers = Providers::new(Arc::clone(&network), clock, random, discovery);
        providers.run(|known| drop(found.unbounded_send(known))).await;
    };
    let dialling = async {
        let mut dialled = BTreeSet::new();
        while let Some(known) = offers.next().await {
            let fresh: Vec<Provider> = known
                .into_iter()
                .filter(|provider| dialled.len() < MOST_DIALLED && dialled.insert(provider.peer))
                .collect();
            let dial = |Provider { peer, offer }| {
                let (network, mut source) = (&network, source.clone());
                async move {
                    let addresses = offer.addresses.iter();
                    let addresses =
                        addresses.map(|whole| whole.split_peer().map_or_else(|| whole.clone(), |(_, at)| at));
                    if network.dial(peer, addresses.collect()).await.is_ok() {
                        source.add_peer(peer);
                    }
                }
            };
            futures::stream::iter(fresh)
                .for_each_concurrent(DIALLED_AT_ONCE, dial)
                .await;
        }
    };
    join3(connected, searching, dialling).await;
}
