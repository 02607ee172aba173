//! Routing tables as Kademlia converges to, worked out when they are asked for, and iterative lookups over them.
//!
//! Bucket `i` of a node holds up to twenty of the nodes that share exactly `i` leading bits with it. Which ones is drawn
//! from a hash of the node and the bucket, so no table is stored: a million nodes take 40 MB instead of more than 1 GB.
//! Nodes that left stay in the tables: that is what churn does to a lookup.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashSet};

use crate::world::{Node, World};

/// The width of a bucket, and how many nodes keep a record (Maymounkov, Mazières, "Kademlia", 2002).
pub(crate) const K: usize = 20;
/// Round trips until a stranger has answered: TCP, Noise with the muxer, the question. A peer that is connected: one.
pub(crate) const STRANGER: u64 = 3;
/// Until a node that does not answer is given up: as long as real nodes give a handshake (sdk-core/p2p/src/driver/mod.rs).
pub(crate) const TIMEOUT_US: u64 = 8_000_000;
/// Questions that a node has open at once, over all its lookups: a browser's node has no more connections.
pub(crate) const OPEN: usize = 64;

/// Up to [`K`] nodes of the table of `node`, the nearest to a point first.
pub(crate) fn nearest_known(world: &World, node: Node, target: u64) -> Vec<Node> {
    let id = world.ids[node as usize];
    let shared = (id ^ target).leading_zeros();
    let mut found = Vec::with_capacity(2 * K);
    bucket(world, id, shared, &mut found);
    if found.len() < K {
        // All deeper buckets are as near to the target as each other, up to the bit where it left the node's way.
        let mut depth = shared + 1;
        while depth < 64 && range(world, id & high(depth), depth).len() > 1 {
            bucket(world, id, depth, &mut found);
            depth += 1;
        }
    }
    for shallower in (0..shared.min(64)).rev() {
        if found.len() >= K {
            break;
        }
        bucket(world, id, shallower, &mut found);
    }
    found.sort_unstable_by_key(|node| world.ids[*node as usize] ^ target);
    found.truncate(K);
    found
}

/// The highest `depth` bits.
fn high(depth: u32) -> u64 {
    if depth == 0 { 0 } else { u64::MAX << (64 - depth) }
}

/// The nodes whose ids begin with the first `depth` bits of `prefix`, the rest of which is zero.
fn range(world: &World, prefix: u64, depth: u32) -> std::ops::Range<usize> {
    let end = prefix | !high(depth);
    world.ids.partition_point(|id| *id < prefix)..world.ids.partition_point(|id| *id <= end)
}

fn bucket(world: &World, id: u64, depth: u32, found: &mut Vec<Node>) {
    if depth >= 64 {
        return;
    }
    let other = (id ^ (1 << (63 - depth))) & high(depth + 1);
    let range = range(world, other, depth + 1);
    if range.len() <= K {
        found.extend(range.map(|node| node as Node));
        return;
    }
    let first = found.len();
    let mut draw = id ^ u64::from(depth).wrapping_mul(0xd6e8_feb8_6659_fd93);
    while found.len() < first + K {
        draw = scramble(draw);
        let node = (range.start + (draw % range.len() as u64) as usize) as Node;
        if !found[first..].contains(&node) {
            found.push(node);
        }
    }
}

/// SplitMix64, as in `kwaainet_platform::SeededRandom`.
fn scramble(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Heard,
    Asked,
    Answered,
    Failed,
}

/// One iterative lookup: it asks the nearest nodes that it has heard of until the [`K`] nearest have answered.
///
/// While one of those is waited for, it goes on with nodes that are farther away, and when answers bring nobody nearer
/// any more, it asks up to [`K`] at once. That is what libp2p's does (`ClosestPeersIter` of libp2p-kad 0.48): without it,
/// the lookups here needed a fifth to a quarter fewer requests than those of real swarms.
pub(crate) struct Lookup {
    /// Who looks, and does not ask itself.
    node: Node,
    target: u64,
    /// Sorted by distance.
    heard: Vec<(u64, Node, State)>,
    in_flight: usize,
    /// Answers in a row that brought nobody nearer.
    in_vain: usize,
    stopped: bool,
}

impl Lookup {
    /// Whether one of these is news, and among the nearest.
    fn hear(&mut self, world: &World, nodes: &[Node]) -> bool {
        let few = self.heard.len() < K;
        let farthest = self.heard.get(K - 1).or(self.heard.last());
        let farthest = farthest.map_or(u64::MAX, |(distance, ..)| *distance);
        let mut nearer = few;
        for node in nodes.iter().filter(|node| **node != self.node) {
            let distance = world.ids[*node as usize] ^ self.target;
            if let Err(at) = self
                .heard
                .binary_search_by_key(&distance, |(distance, ..)| *distance)
            {
                self.heard.insert(at, (distance, *node, State::Heard));
                nearer |= distance < farthest;
            }
        }
        nearer
    }

    /// Takes an answer.
    fn answered(&mut self, world: &World, names: &[Node]) {
        let nearer = self.hear(world, names);
        self.in_vain = if nearer { 0 } else { self.in_vain + 1 };
    }

    /// The nearest that have not failed: those that must answer.
    fn front(&mut self) -> impl Iterator<Item = &mut (u64, Node, State)> {
        self.heard
            .iter_mut()
            .filter(|(.., state)| *state != State::Failed)
            .take(K)
    }

    /// Whom to ask next, with so many requests in flight at most.
    fn next(&mut self, alpha: usize) -> Option<Node> {
        let room = if self.in_vain >= alpha {
            K.max(alpha)
        } else {
            alpha
        };
        if self.in_flight >= room || self.is_done() {
            return None;
        }
        let (_, node, state) = self.heard.iter_mut().find(|(.., state)| *state == State::Heard)?;
        *state = State::Asked;
        Some(*node)
    }

    fn settle(&mut self, world: &World, node: Node, new: State) {
        let distance = world.ids[node as usize] ^ self.target;
        if let Ok(at) = self
            .heard
            .binary_search_by_key(&distance, |(distance, ..)| *distance)
        {
            self.heard[at].2 = new;
        }
        self.in_flight -= 1;
    }

    fn is_done(&mut self) -> bool {
        self.stopped || self.front().all(|(.., state)| *state == State::Answered)
    }

    /// The nearest that answered.
    pub(crate) fn nearest(&self) -> Vec<Node> {
        let answered = self.heard.iter().filter(|(.., state)| *state == State::Answered);
        answered.map(|(_, node, _)| *node).take(K).collect()
    }
}

/// What to do after an answer.
pub(crate) enum Then {
    GoOn,
    /// Begin another lookup.
    Begin(u64),
    /// End these lookups.
    End(Vec<usize>),
    /// End all lookups.
    Enough,
}

/// What a finder was told.
pub(crate) struct News<'a> {
    /// The number of the lookup, in the order in which they began.
    pub(crate) lookup: usize,
    /// Who answered; `None` if a node was given up.
    pub(crate) from: Option<Node>,
    /// The nodes that it named.
    pub(crate) names: &'a [Node],
    pub(crate) time_us: u64,
    /// Whether the lookup is at its end.
    pub(crate) done: bool,
}

/// Lookups of one node, which share its connections and its clock.
pub(crate) struct Finder<'a> {
    world: &'a World,
    node: Node,
    alpha: usize,
    gone: f64,
    open: usize,
    /// The lookup that asked last.
    turn: usize,
    connected: HashSet<Node>,
    events: BinaryHeap<Reverse<(u64, u64, usize, Node)>>,
    pub(crate) lookups: Vec<Lookup>,
    pub(crate) requests: u64,
    pub(crate) now_us: u64,
}

impl<'a> Finder<'a> {
    pub(crate) fn new(world: &'a World, node: Node, alpha: usize, gone: f64) -> Self {
        Self {
            world,
            node,
            alpha,
            gone,
            open: 0,
            turn: 0,
            connected: HashSet::new(),
            events: BinaryHeap::new(),
            lookups: Vec::new(),
            requests: 0,
            now_us: 0,
        }
    }

    pub(crate) fn begin(&mut self, target: u64) {
        let mut lookup = Lookup {
            node: self.node,
            target,
            heard: Vec::new(),
            in_flight: 0,
            in_vain: 0,
            stopped: false,
        };
        lookup.hear(self.world, &nearest_known(self.world, self.node, target));
        self.lookups.push(lookup);
    }

    /// Ends a lookup. What it still waits for is nobody's business any more.
    fn end(&mut self, number: usize) {
        let lookup = &mut self.lookups[number];
        if !lookup.stopped {
            lookup.stopped = true;
            self.open -= lookup.in_flight;
        }
    }

    /// Asks while there is room, one question for each lookup in turn.
    fn ask(&mut self) {
        let mut asked = true;
        while asked {
            asked = false;
            for _ in 0..self.lookups.len() {
                self.turn = (self.turn + 1) % self.lookups.len();
                asked |= self.ask_one(self.turn);
            }
        }
    }

    /// Asks one question for a lookup, if there is one and room for it.
    fn ask_one(&mut self, number: usize) -> bool {
        let lookup = &mut self.lookups[number];
        if lookup.stopped || self.open >= OPEN {
            return false;
        }
        let Some(node) = lookup.next(self.alpha) else {
            return false;
        };
        lookup.in_flight += 1;
        self.open += 1;
        self.requests += 1;
        let takes = if self.world.left(node, self.gone) {
            TIMEOUT_US
        } else {
            let trips = if self.connected.contains(&node) {
                1
            } else {
                STRANGER
            };
            self.world.rtt_us(self.node, node) * trips
        };
        self.events
            .push(Reverse((self.now_us + takes, self.requests, number, node)));
        true
    }

    /// Runs until all lookups are done, or `told` has enough. It is told of every answer and of every failure.
    pub(crate) fn run(&mut self, mut told: impl FnMut(&News<'_>) -> Then) {
        self.ask();
        while let Some(Reverse((time, _, number, node))) = self.events.pop() {
            if self.lookups[number].stopped {
                continue;
            }
            self.now_us = time;
            let (state, names) = if self.world.left(node, self.gone) {
                (State::Failed, Vec::new())
            } else {
                self.connected.insert(node);
                (
                    State::Answered,
                    nearest_known(self.world, node, self.lookups[number].target),
                )
            };
            let lookup = &mut self.lookups[number];
            lookup.settle(self.world, node, state);
            if state == State::Answered {
                lookup.answered(self.world, &names);
            }
            self.open -= 1;
            let done = lookup.is_done();
            if done {
                self.end(number);
            }
            let from = (state == State::Answered).then_some(node);
            match told(&News {
                lookup: number,
                from,
                names: &names,
                time_us: time,
                done,
            }) {
                Then::GoOn => (),
                Then::Begin(target) => self.begin(target),
                Then::End(numbers) => numbers.into_iter().for_each(|number| self.end(number)),
                Then::Enough => return,
            }
            self.ask();
        }
    }
}
