//! The same swarm on a hundred nodes of `MemoryNetwork`: what the network of the tests gives, which loses nothing.

use futures::executor::block_on;
use kwaainet_network::route::{self, Chain, Offer};
use kwaainet_network::{MemoryHub, MemoryNetwork, Network, NetworkError};

use crate::keys::{SHARDS, buckets, provider_key};
use crate::swarm::{BLOCKS, RETURNED, ROOT, Swarm, Way, keys_of};
use crate::world::{Node, World, keypair};

/// What a node finds and plans there.
pub(crate) struct Real {
    /// Numbers of providers.
    pub(crate) providers: Vec<u16>,
    pub(crate) chain: Option<Chain>,
}

/// Joins all nodes, publishes all offers, lets nodes leave, then finds, dials and plans as `from`.
///
/// # Errors
/// If the network in memory fails, which is a bug.
pub(crate) fn run(world: &World, swarm: &Swarm<'_>, from: Node, gone: f64) -> Result<Real, NetworkError> {
    let hub = MemoryHub::default();
    let nodes: Vec<MemoryNetwork> = (0..world.len())
        .map(|node| hub.join(&keypair(world.seed(node as Node))))
        .collect();
    for (number, provider) in (0_u16..).zip(&swarm.providers) {
        for key in keys_of(&provider.offer) {
            block_on(nodes[provider.node as usize].publish(key, number.to_be_bytes().to_vec()))?;
        }
    }
    for node in (0..world.len() as Node).filter(|node| world.left(*node, gone)) {
        hub.leave(world.peer(node));
    }

    let finder = &nodes[from as usize];
    let mut providers: Vec<u16> = Vec::new();
    for bucket in buckets(0, BLOCKS) {
        for shard in 0..SHARDS {
            let records = block_on(finder.find(provider_key(&ROOT, bucket, shard), RETURNED))?;
            let numbers = records.into_iter().filter_map(|record| record.try_into().ok());
            providers.extend(numbers.map(u16::from_be_bytes));
        }
    }
    providers.sort_unstable();
    providers.dedup();

    let (mut offers, mut avoid) = (Vec::new(), Vec::new());
    for number in &providers {
        let provider = &swarm.providers[usize::from(*number)];
        if block_on(finder.dial(provider.offer.peer, Vec::new())).is_err() && provider.node != from {
            avoid.push(provider.offer.peer);
        }
        let rtt_us = u32::try_from(world.rtt_us(from, provider.node)).ok();
        offers.push(Offer {
            rtt_us,
            ..provider.offer.clone()
        });
    }
    let chain = route::plan(&offers, BLOCKS, &avoid).ok();
    Ok(Real { providers, chain })
}

/// The simulator's answer to the same question, and how many of the offers it found; the chain must be the same one.
pub(crate) struct Calibration {
    pub(crate) found: [usize; 2],
    pub(crate) same_chain: bool,
}

/// Compares both when everything is waited for: all shards, all signs of life.
///
/// # Errors
/// If the network in memory fails, which is a bug.
pub(crate) fn calibrate(
    world: &World,
    swarm: &Swarm<'_>,
    from: Node,
    way: Way,
) -> Result<Calibration, NetworkError> {
    let found = swarm.find(from, way, SHARDS, usize::MAX);
    let planned = swarm.plan(from, &found, way.gone, usize::MAX);
    let real = run(world, swarm, from, way.gone)?;
    Ok(Calibration {
        found: [found.providers.len(), real.providers.len()],
        same_chain: planned.chain == real.chain,
    })
}
