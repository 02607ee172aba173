//! A day of visitors who come and go, in minutes, at nodes that stay: what do these keep of those who left?
//!
//! Every visitor is a real node. It joins through one of those that stay, publishes its offer, is found by another of them,
//! and leaves without a word when a few more have come. Between two of them, the clock by which records live is put forward,
//! so that a day's records are made, kept and dropped. What libp2p does by its own clocks runs at the machine's speed.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use kwaainet_network::record::{LIFETIME_MS, RETURNED, open};
use kwaainet_network::{Address, Network as _, NetworkError, RecordKey};
use kwaainet_p2p::P2p;
use kwaainet_platform::Clock;

use crate::dice::Dice;
use crate::keys::{buckets, provider_key, shard_of};
use crate::nodes::signed;
use crate::real::{Wall, runtime, start};
use crate::swarm::ROOT;
use crate::world::keypair;

/// Nodes that stay.
const STAY: usize = 20;
/// Visitors that are there at once.
const AT_ONCE: usize = 5;
/// A visitor every so often: 2400 in a day.
const EVERY: Duration = Duration::from_secs(36);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);
/// Blocks of each visitor: under two keys.
const SPAN: std::ops::Range<u32> = 0..32;
/// What the process may grow by between the second quarter and the last one. One node takes more than 1 MiB, mostly for its
/// routing table, so that not a handful of visitors may be kept; the rest is for what the allocator does.
pub(crate) const GROWTH: u64 = 8 << 20;

/// What the nodes that stayed came to.
#[derive(Debug)]
pub(crate) struct Soak {
    pub(crate) visitors: u64,
    /// Visitors whose record was found.
    pub(crate) found: u64,
    /// Of this process, in bytes, at evenly spread moments.
    pub(crate) resident: Vec<u64>,
    /// Records at the end on the node that keeps most, in bytes.
    pub(crate) records: usize,
}

impl Soak {
    /// Growth in bytes from the second quarter to the last one, median to median: the first is for warming up.
    pub(crate) fn growth(&self) -> u64 {
        let quarter = self.resident.len() / 4;
        let median = |from: usize| {
            let mut some = self.resident[from..from + quarter].to_vec();
            some.sort_unstable();
            some[quarter / 2]
        };
        median(3 * quarter).saturating_sub(median(quarter))
    }

    /// What is written to docs/soak.md.
    pub(crate) fn page(&self) -> String {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let samples: Vec<String> = self
            .resident
            .iter()
            .map(|bytes| format!("{:.1}", mib(*bytes)))
            .collect();
        format!(
            "# Soak

Written by `npm run soak`. Measured on one machine, between real nodes (`kwaainet_p2p`) in one process over libp2p's transport
in memory; only the clock by which records live is put forward.

{STAY} nodes stay. {} visitors come in ten minutes, as many as in a day of one every {} s: each joins through one of those that
stay, publishes its offer under {} keys, is found by another of them, and leaves without a word when {AT_ONCE} more have come.

- Visitors whose offer was found: {} of {}.
- Growth of the process from the second quarter to the last one, median to median: {:.1} MiB. More than {:.0} MiB fails. A
  node takes more than 1 MiB, so that not a handful of {} visitors may be kept; the rest is for what the allocator does.
- Records at the end, on the node that keeps most: {} bytes. They last {} s.

Resident memory in MiB, at {} evenly spread moments: {}.

The same with 150 visitors is a test in `npm test`. It does not show what grows by real time alone, for example in libp2p's
own tables over days.
",
            self.visitors,
            EVERY.as_secs(),
            buckets(SPAN.start, SPAN.end).len(),
            self.found,
            self.visitors,
            mib(self.growth()),
            mib(GROWTH),
            self.visitors,
            self.records,
            LIFETIME_MS / 1000,
            samples.len(),
            samples.join(", "),
        )
    }

    /// What is wrong, if anything is.
    pub(crate) fn problem(&self) -> Option<String> {
        if self.growth() > GROWTH {
            return Some(format!("it has grown by {} bytes", self.growth()));
        }
        // Those of the last three minutes under two keys, with room for some that are not yet dropped.
        let (lasting, most) = (LIFETIME_MS / EVERY.as_millis() as u64, 1024);
        if self.records as u64 > 4 * 2 * lasting * most {
            return Some(format!("a node keeps {} bytes of records", self.records));
        }
        (self.found < self.visitors)
            .then(|| format!("{} visitors were not found", self.visitors - self.found))
    }
}

/// All visitors of a day.
pub(crate) const fn visitors_of_a_day() -> u64 {
    DAY.as_secs() / EVERY.as_secs()
}

/// Lets so many visitors come and go. `every` says how long the next waits at least, in real time.
///
/// # Errors
/// [`NetworkError`] if a node cannot join, or a record is not taken.
pub(crate) fn run(visitors: u64, every: Duration) -> Result<Soak, NetworkError> {
    runtime()?.block_on(come_and_go(visitors, every))
}

async fn come_and_go(visitors: u64, every: Duration) -> Result<Soak, NetworkError> {
    const SAMPLES: u64 = 40;
    let dice = Dice::new(6);
    let time = Arc::new(Wall::new());
    let clock: Arc<dyn Clock> = Arc::clone(&time) as Arc<dyn Clock>;
    let mut stay: Vec<P2p> = Vec::new();
    for seed in 0..STAY as u64 {
        let node = start(seed, &clock).await?;
        let known = stay.first().map(door).into_iter().flatten();
        node.bootstrap(known.collect()).await;
        stay.push(node);
    }
    let mut there = VecDeque::new();
    let (mut found, mut resident) = (0, Vec::new());
    for visitor in 0..visitors {
        let pause = tokio::time::sleep(every);
        let seed = STAY as u64 + visitor;
        let node = start(seed, &clock).await?;
        node.bootstrap(door(&stay[dice.below(STAY)]).collect()).await;
        let pair = keypair(seed);
        let record = signed(&pair, SPAN, 1000, clock.unix_ms())?;
        let mut keys: Vec<RecordKey> = Vec::new();
        for bucket in buckets(SPAN.start, SPAN.end) {
            let key = provider_key(&ROOT, bucket, shard_of(pair.peer_id()));
            node.publish(key, record.clone()).await?;
            keys.push(key);
        }
        let records = stay[dice.below(STAY)].find(keys[0], RETURNED).await?;
        let signers = records
            .iter()
            .filter_map(|record| open(record, clock.unix_ms()).ok());
        found += u64::from(signers.into_iter().any(|record| record.peer == pair.peer_id()));
        there.push_back(node);
        if there.len() > AT_ONCE {
            there.pop_front();
        }
        pause.await;
        time.advance(EVERY);
        if visitor * SAMPLES / visitors != (visitor + 1) * SAMPLES / visitors {
            resident.push(resident_bytes());
        }
    }
    Ok(Soak {
        visitors,
        found,
        resident,
        records: stay.iter().map(P2p::records_bytes).max().unwrap_or(0),
    })
}

/// How others join through a node.
fn door(node: &P2p) -> impl Iterator<Item = (kwaainet_network::PeerId, Address)> + use<> {
    let addresses = node.addresses();
    addresses.into_iter().filter_map(|address| address.split_peer())
}

/// Of this process; 0 where Linux does not tell.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}
