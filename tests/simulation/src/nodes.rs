//! What a node does on any network of nodes: it publishes its offer, or finds those of others and plans a chain.

use std::ops::Range;

use kwaainet_network::record::{self, ModelRoot, RETURNED, Share, Signed, open};
use kwaainet_network::route::{self, Chain, Offer};
use kwaainet_network::{Address, Keypair, Network, NetworkError};

use crate::keys::{SHARDS, buckets, provider_key};
use crate::swarm::{BLOCKS, Provider, ROOT, Swarm, keys_of};
use crate::world::{Node, World, keypair};

/// The moment at which everything happens, in Unix milliseconds: no record expires.
pub(crate) const NOW_MS: u64 = 1_800_000_000_000;

/// What a node finds and plans.
pub(crate) struct Heard {
    /// Numbers of providers.
    pub(crate) providers: Vec<u16>,
    pub(crate) chain: Option<Chain>,
}

/// A provider gives its record, signed as the network wants it, to those who keep it.
///
/// # Errors
/// If nobody takes it.
pub(crate) async fn publish(
    node: &dyn Network,
    world: &World,
    provider: &Provider,
) -> Result<(), NetworkError> {
    let Offer {
        start,
        end,
        rps_milli,
        ..
    } = provider.offer;
    let pair = keypair(world.seed(provider.node));
    let record = signed(&pair, start..end, rps_milli, NOW_MS)?;
    for key in keys_of(&provider.offer) {
        node.publish(key, record.clone()).await?;
    }
    Ok(())
}

/// An offer as it is published, signed at a moment of Unix time.
///
/// # Errors
/// If it is none that can be published.
pub(crate) fn signed(
    pair: &Keypair,
    span: Range<u32>,
    rps_milli: u32,
    now_ms: u64,
) -> Result<Vec<u8>, NetworkError> {
    let offer = record::Offer {
        model: ModelRoot(ROOT),
        share: Share::Blocks(span),
        dtype: String::new(),
        inference_rps_milli: rps_milli,
        forward_rps_milli: 0,
        cache_left: 0,
        next_pings: Vec::new(),
        build: String::new(),
        addresses: Vec::new(),
    };
    let signed = offer
        .to_bytes()
        .and_then(|body| Signed::sign(pair, now_ms, now_ms + record::LIFETIME_MS, &body));
    signed
        .map(Signed::into_bytes)
        .map_err(|error| NetworkError::Busy(error.to_string()))
}

/// A node asks all shards of all buckets, dials whom it found, and plans a chain of those that answer.
///
/// # Errors
/// If it cannot ask.
pub(crate) async fn discover(
    finder: &dyn Network,
    swarm: &Swarm<'_>,
    from: Node,
    addresses: impl Fn(Node) -> Vec<Address>,
) -> Result<Heard, NetworkError> {
    let mut providers: Vec<u16> = Vec::new();
    for bucket in buckets(0, BLOCKS) {
        for shard in 0..SHARDS {
            let records = finder.find(provider_key(&ROOT, bucket, shard), RETURNED).await?;
            let signers = records.iter().filter_map(|record| open(record, NOW_MS).ok());
            providers.extend(signers.filter_map(|signed| swarm.number(signed.peer)));
        }
    }
    providers.sort_unstable();
    providers.dedup();

    let (mut offers, mut avoid) = (Vec::new(), Vec::new());
    for number in &providers {
        let provider = &swarm.providers[usize::from(*number)];
        let peer = provider.offer.peer;
        if provider.node != from && finder.dial(peer, addresses(provider.node)).await.is_err() {
            avoid.push(peer);
        }
        let rtt_us = u32::try_from(swarm.world.rtt_us(from, provider.node)).ok();
        offers.push(Offer {
            rtt_us,
            ..provider.offer.clone()
        });
    }
    let chain = route::plan(&offers, BLOCKS, &avoid).ok();
    Ok(Heard { providers, chain })
}
