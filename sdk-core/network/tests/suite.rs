//! The network in memory does what every network must do.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use kwaainet_network::{Keypair, MemoryHub};
use kwaainet_platform::ManualClock;
use kwaainet_testkit::{End, block_on, network_suite};

#[test]
fn memory() {
    let hub = MemoryHub::default();
    let seeds = AtomicU8::new(1);
    let end = || {
        let network = hub.join(&Keypair::from_seed([seeds.fetch_add(1, Ordering::Relaxed); 32]));
        End {
            network: Arc::new(network),
            addresses: vec![],
        }
    };
    let pair = async || (end(), end());
    let vanish = async |end: End| hub.leave(end.network.local_peer());
    block_on(network_suite(&ManualClock::default(), pair, vanish));
}
