//! The nodes: their ids, where on earth they are, and when they leave.

use kwaainet_network::{Keypair, PeerId};
use sha2::{Digest, Sha256};

use crate::dice::Dice;

/// Where nodes live: latitude, longitude, spread in degrees, and weight. By hand, after where the Internet's users are.
const REGIONS: [(f64, f64, f64, f64); 9] = [
    (50.0, 10.0, 8.0, 24.0),  // Europe
    (40.0, -78.0, 7.0, 17.0), // eastern North America
    (37.0, -120.0, 5.0, 9.0), // western North America
    (-23.0, -47.0, 8.0, 8.0), // South America
    (20.0, 78.0, 8.0, 14.0),  // India
    (35.0, 120.0, 9.0, 16.0), // East Asia
    (1.0, 104.0, 7.0, 6.0),   // Southeast Asia
    (-33.0, 150.0, 4.0, 2.0), // Australia
    (6.0, 10.0, 12.0, 4.0),   // Africa
];
const EARTH_KM: f64 = 6371.0;
/// Light in fibre, 2/3 c, and routes that are half again as long as the great circle.
const KM_PER_MS: f64 = 200.0 / 1.5;
/// From a node to its network's core and back, in milliseconds: fibre to mobile.
const LAST_MILE_MS: (f64, f64) = (4.0, 30.0);

/// A node, by its rank among the ids.
pub(crate) type Node = u32;

pub(crate) struct World {
    /// The first 64 bits of sha256(peer id), sorted: of a million nodes two share them once in 40 million worlds.
    pub(crate) ids: Vec<u64>,
    /// What the peer id of each is made from, and how.
    seeds: Vec<u64>,
    peer: fn(u64) -> PeerId,
    /// On the unit sphere.
    places: Vec<[f32; 3]>,
    last_miles_us: Vec<u32>,
    /// When it leaves, from 0 to 1.
    leaves: Vec<f32>,
}

/// A peer whom nobody can be, as there is no key to its id: quick to make by the million.
pub(crate) fn imagined(seed: u64) -> PeerId {
    PeerId::from_public_key(Sha256::digest(seed.to_le_bytes()).into())
}

/// The key of a peer that joins a network in earnest.
pub(crate) fn keypair(seed: u64) -> Keypair {
    Keypair::from_seed(Sha256::digest(seed.to_le_bytes()).into())
}

/// Where something lies in Kademlia's space.
pub(crate) fn point(bytes: &[u8]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..]: [u8; 32] = Sha256::digest(bytes).into();
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}

impl World {
    pub(crate) fn new(nodes: usize, seed: u64, peer: fn(u64) -> PeerId) -> Self {
        let dice = Dice::new(seed);
        let mut named: Vec<(u64, u64)> = (0..nodes as u64)
            .map(|number| {
                let seed = seed << 32 | number;
                (point(&peer(seed).to_bytes()), seed)
            })
            .collect();
        named.sort_unstable();
        let (ids, seeds) = named.into_iter().unzip();
        let total: f64 = REGIONS.iter().map(|region| region.3).sum();
        let places = (0..nodes).map(|_| place(&dice, total)).collect();
        let mile = || (dice.between(LAST_MILE_MS.0, LAST_MILE_MS.1) * 1000.0) as u32;
        let last_miles_us = (0..nodes).map(|_| mile()).collect();
        let leaves = (0..nodes).map(|_| dice.unit() as f32).collect();
        Self {
            ids,
            seeds,
            peer,
            places,
            last_miles_us,
            leaves,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.ids.len()
    }

    pub(crate) fn peer(&self, node: Node) -> PeerId {
        (self.peer)(self.seeds[node as usize])
    }

    /// What its peer id is made from.
    pub(crate) fn seed(&self, node: Node) -> u64 {
        self.seeds[node as usize]
    }

    /// There and back, in microseconds.
    pub(crate) fn rtt_us(&self, one: Node, other: Node) -> u64 {
        let (one, other) = (one as usize, other as usize);
        let dot: f32 = self.places[one]
            .iter()
            .zip(&self.places[other])
            .map(|(a, b)| a * b)
            .sum();
        let km = f64::from(dot.clamp(-1.0, 1.0)).acos() * EARTH_KM;
        let wire_us = 2.0 * km / KM_PER_MS * 1000.0;
        wire_us as u64 + u64::from(self.last_miles_us[one]) + u64::from(self.last_miles_us[other])
    }

    /// Whether it has left when this share has.
    pub(crate) fn left(&self, node: Node, share: f64) -> bool {
        f64::from(self.leaves[node as usize]) < share
    }

    /// A node that is there when this share has left.
    pub(crate) fn anyone(&self, dice: &Dice, share: f64) -> Node {
        loop {
            let node = dice.below(self.len()) as Node;
            if !self.left(node, share) {
                return node;
            }
        }
    }
}

fn place(dice: &Dice, total: f64) -> [f32; 3] {
    let mut left = dice.unit() * total;
    let mut region = REGIONS[0];
    for candidate in REGIONS {
        region = candidate;
        left -= candidate.3;
        if left < 0.0 {
            break;
        }
    }
    // The sum of two uniform numbers: more in the middle than at the edge.
    let around =
        |middle: f64, spread: f64| (middle + (dice.unit() + dice.unit() - 1.0) * 2.0 * spread).to_radians();
    let (latitude, longitude) = (around(region.0, region.2), around(region.1, region.2));
    [
        latitude.cos() * longitude.cos(),
        latitude.cos() * longitude.sin(),
        latitude.sin(),
    ]
    .map(|x| x as f32)
}
