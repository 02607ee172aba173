//! The same swarm on a hundred nodes of `MemoryNetwork`: what the network of the tests gives, which loses nothing.

use futures::executor::block_on;
use kwaainet_network::{MemoryHub, MemoryNetwork, NetworkError};

use crate::keys::SHARDS;
use crate::nodes::{Heard, discover, publish};
use crate::swarm::{Swarm, Way};
use crate::world::{Node, World, keypair};

/// Joins all nodes, publishes all offers, lets nodes leave, then finds, dials and plans as `from`.
///
/// # Errors
/// If the network in memory fails, which is a bug.
pub(crate) fn run(world: &World, swarm: &Swarm<'_>, from: Node, gone: f64) -> Result<Heard, NetworkError> {
    let hub = MemoryHub::default();
    let nodes: Vec<MemoryNetwork> = (0..world.len())
        .map(|node| hub.join(&keypair(world.seed(node as Node))))
        .collect();
    for provider in &swarm.providers {
        block_on(publish(&nodes[provider.node as usize], world, provider))?;
    }
    for node in (0..world.len() as Node).filter(|node| world.left(*node, gone)) {
        hub.leave(world.peer(node));
    }
    block_on(discover(&nodes[from as usize], swarm, from, |_| Vec::new()))
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
