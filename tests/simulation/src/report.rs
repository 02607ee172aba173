//! The page that a person reads.

use std::fmt::Write;

use crate::balance::Course;
use crate::keys::{BUCKET, SHARDS};
use crate::lookups::Lookups;
use crate::memory::Calibration;
use crate::swarm::{BLOCKS, Discoveries, ENOUGH};

/// One size, churn and alpha.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Case {
    pub(crate) nodes: usize,
    pub(crate) gone: f64,
    pub(crate) alpha: usize,
    pub(crate) providers: usize,
    pub(crate) fullest: usize,
    pub(crate) announcements: usize,
    pub(crate) published_us: u64,
    pub(crate) lookups: Lookups,
    pub(crate) discoveries: Discoveries,
}

#[derive(Default)]
pub(crate) struct Report {
    pub(crate) cases: Vec<Case>,
    pub(crate) calibrations: Vec<(f64, usize, Calibration)>,
    pub(crate) courses: Vec<(f64, Course)>,
}

const COMMAND: &str = "`npm run simulate`";

fn seconds([median, most]: [u64; 2]) -> String {
    format!("{:.2} / {:.2}", median as f64 / 1e6, most as f64 / 1e6)
}

fn share(part: usize, whole: usize) -> String {
    format!("{:.1} %", 100.0 * part as f64 / whole.max(1) as f64)
}

pub(crate) fn percent(gone: f64) -> String {
    format!("{:.0} %", gone * 100.0)
}

/// 1000000 as 1,000,000.
pub(crate) fn thousands(number: usize) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

impl Report {
    /// The cases in groups of the same churn and alpha, so that the calibration stands above what it belongs to.
    fn groups(&self) -> impl Iterator<Item = &Case> {
        let mut cases: Vec<&Case> = self.cases.iter().collect();
        cases.sort_by(|a, b| {
            a.gone
                .total_cmp(&b.gone)
                .then(a.alpha.cmp(&b.alpha))
                .then(a.nodes.cmp(&b.nodes))
        });
        cases.into_iter()
    }

    fn lookups(&self) -> String {
        let mut text = "| nodes | gone | alpha | requests | all 20 nearest (s), p50 / p95 | the node itself (s), p50 / p95 | missed |\n|---:|---:|---:|---:|---:|---:|---:|\n".to_owned();
        for Case {
            nodes,
            gone,
            alpha,
            lookups,
            ..
        } in self.groups()
        {
            let _ = writeln!(
                text,
                "| {} | {} | {alpha} | {:.1} | {} | {} | {} of {} |",
                name(*nodes),
                percent(*gone),
                lookups.requests,
                seconds(lookups.full),
                seconds(lookups.found),
                lookups.missed,
                lookups.count
            );
        }
        text
    }

    fn discoveries(&self) -> String {
        let mut text = "| nodes | gone | alpha | requests | enough offers (s), p50 / p95 | chain planned (s), p50 / p95 | had a chain | of these, repaired | hops | ms per token | silent peers |\n|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n".to_owned();
        for Case {
            nodes,
            gone,
            alpha,
            discoveries: found,
            ..
        } in self.groups()
        {
            let _ = writeln!(
                text,
                "| {} | {} | {alpha} | {:.0} | {} | {} | {} | {} | {:.1} | {:.0} | {:.1} |",
                name(*nodes),
                percent(*gone),
                found.requests,
                seconds(found.enough),
                seconds(found.planned),
                share(found.chains, found.count),
                share(found.repaired, found.chains),
                found.hops,
                found.token_ms,
                found.silent
            );
        }
        text
    }

    fn publishing(&self) -> String {
        let mut text = "| nodes | gone before | alpha | peers that serve the model | announcements | one takes (s), p50 | records on the fullest node, one key |\n|---:|---:|---:|---:|---:|---:|---:|\n".to_owned();
        for case in self.groups() {
            let _ = writeln!(
                text,
                "| {} | {} | {} | {} | {} | {:.2} | {} |",
                name(case.nodes),
                percent(case.gone / 2.0),
                case.alpha,
                case.providers,
                case.announcements,
                case.published_us as f64 / 1e6,
                case.fullest
            );
        }
        text
    }

    fn calibration(&self) -> String {
        let mut text = "| nodes | gone | alpha | offers found: simulated | on `MemoryNetwork` | the same chain | 100 libp2p swarms |\n|---:|---:|---:|---:|---:|---|---|\n".to_owned();
        for (gone, alpha, calibration) in &self.calibrations {
            let [simulated, real] = calibration.found;
            let same = if calibration.same_chain { "yes" } else { "**no**" };
            let _ = writeln!(
                text,
                "| 100 | {} | {alpha} | {simulated} | {real} | {same} | **missing** |",
                percent(*gone)
            );
        }
        text
    }

    fn balance(&self) -> String {
        let mut text = "| peers left | gone | after joining | after some left | 20 minutes later | moves | blocks without a peer, then and 20 minutes later |\n|---:|---:|---:|---:|---:|---:|---:|\n".to_owned();
        for (gone, course) in &self.courses {
            let _ = writeln!(
                text,
                "| {} | {} | {:.2} | {:.2} | {:.2} | {} | {}, {} |",
                course.peers,
                percent(*gone),
                course.joined.weakest,
                course.left.weakest,
                course.settled.weakest,
                course.moves,
                course.left.unserved,
                course.settled.unserved
            );
        }
        text
    }

    /// What is printed.
    pub(crate) fn tables(&self) -> String {
        let parts = [
            ("Calibration", self.calibration()),
            ("Lookups", self.lookups()),
            ("From nothing to a chain", self.discoveries()),
            ("Publishing", self.publishing()),
            ("Placement", self.balance()),
        ];
        let mut text = "SIMULATION. The calibration against 100 real libp2p swarms is missing.\n".to_owned();
        for (title, table) in parts {
            let _ = write!(text, "\n{title}\n\n{table}");
        }
        text
    }

    /// What is written to docs/scale.md.
    pub(crate) fn page(&self) -> String {
        let mut page = format!(
            "# Scale\n\n\
            Written by {COMMAND}. **Everything on this page is simulated**: no number here was measured on a network.\n\
            Times are simulated seconds, the same on every machine; p50 is the median, p95 is what 95 of 100 stay below.\n\n\
            **The calibration against 100 real libp2p swarms is missing.** Until it is here, read the times as what follows from the\n\
            model below, and not as what a user will see. Rows of 100 nodes are there to be compared with them.\n\n\
            ![Simulated time until enough offers are found, by number of nodes](images/scale.svg)\n\n\
            ## What is real and what is not\n\n\
            - Real: the planning of chains, repair and placement (`kwaainet_network::route`), as the node runs it. The keys of\n  \
            records are computed by the node's formula.\n\
            - Simulated: Kademlia with k = 20, as discrete events. Routing tables are converged: a bucket names up to 20 random nodes\n  \
            of those that it may name. Nobody lies, and a node answers any number of questions.\n\
            - The earth: nine regions, light in fibre on routes that are half again as long as the great circle, 4 to 30 ms for each\n  \
            node's last mile. A stranger takes three round trips to answer, a connected peer one.\n\
            - \"Gone\": this share of the nodes that the routing tables name has left, without a word. Each question to one of them\n  \
            costs 5 s. Half of them left after the records were published: their records are found, and they hold records.\n\
            - The model: {BLOCKS} blocks; peers serve 8 to 40 of them and compute 20 to 400 blocks a second. Records are kept by\n  \
            {BUCKET} blocks and in {SHARDS} shards. A finder asks two shards of each bucket at once and stops when each block is\n  \
            served by {ENOUGH} peers.\n\n"
        );
        let parts = [
            (
                "Calibration at 100 nodes",
                "The same peers, offers, keys and departures on 100 nodes of `MemoryNetwork`, which keeps every record and takes no time:\n\
                so only what is found and planned can be compared, and not how long it takes or how many requests it needs.",
                self.calibration(),
            ),
            (
                "Lookups",
                "A node looks up the id of another one. \"All 20 nearest\" is the whole lookup, as publishing needs it; \"the node itself\"\n\
                is when its name was first heard. Churn, not size, sets the time; more requests in flight help most where it is high.",
                self.lookups(),
            ),
            (
                "From nothing to a chain",
                "A node that knows only its routing table looks for the model, asks up to 64 of the peers that it found for a sign of\n\
                life (1 s at most), and plans a chain through all blocks. Then the hop in the middle fails: \"repaired\" says how often\n\
                there was another way on from there. Silent peers had left, but their records had not. \"ms per token\" is what the\n\
                planner expects of its chain.",
                self.discoveries(),
            ),
            (
                "Publishing",
                "Each peer announces its span once under every bucket of blocks that it touches. One announcement is one lookup and 20\n\
                stores.",
                self.publishing(),
            ),
            (
                "Placement",
                "Peers join one after the other, each where the throughput is lowest; then some leave at once, and the others look at the\n\
                balance at random intervals of 120 s on average, with a view that is up to 60 s old. Numbers are the throughput of the\n\
                weakest block as a share of the mean: 1 would be perfect balance. No network is simulated here.",
                self.balance(),
            ),
        ];
        for (title, text, table) in parts {
            let _ = write!(page, "## {title}\n\n{text} Command: {COMMAND}.\n\n{table}\n");
        }
        page.truncate(page.trim_end().len());
        page.push('\n');
        page
    }
}

fn name(nodes: usize) -> String {
    let number = thousands(nodes);
    if nodes == crate::CALIBRATION {
        format!("{number} (calibration)")
    } else {
        number
    }
}
