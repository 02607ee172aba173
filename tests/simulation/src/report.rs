//! The page that a person reads.

use std::fmt::Write;

use crate::balance::Course;
use crate::discoveries::Discoveries;
use crate::kademlia::{K, OPEN, TIMEOUT_US};
use crate::keys::{BUCKET, SHARDS};
use crate::lookups::Lookups;
use crate::memory::Calibration;
use crate::real::{ALPHA, Measured};
use crate::swarm::{ALIVE, ASKED, BLOCKS, ENOUGH, Published, Way};
use crate::{CALIBRATION, FEW_SHARDS, POPULAR, RARE, RARE_MODELS};

/// One size, churn and alpha.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Case {
    pub(crate) nodes: usize,
    pub(crate) way: Way,
    pub(crate) lookups: Lookups,
    /// A few shards asked at once, and all.
    pub(crate) popular: [Discoveries; 2],
    pub(crate) rare: [Discoveries; 2],
    pub(crate) published: Published,
}

impl Case {
    /// The first columns.
    fn name(&self) -> String {
        let what = if self.nodes == CALIBRATION {
            " (calibration)"
        } else {
            ""
        };
        format!(
            "{}{what} | {} | {}",
            thousands(self.nodes),
            percent(self.way.gone),
            self.way.alpha
        )
    }
}

#[derive(Default)]
pub(crate) struct Report {
    pub(crate) cases: Vec<Case>,
    pub(crate) calibrations: Vec<(Way, Calibration)>,
    pub(crate) courses: Vec<(f64, Course)>,
    /// Real swarms; none if they were not asked for.
    pub(crate) measured: Vec<Measured>,
}

const COMMAND: &str = "`npm run simulate`";

fn seconds([median, most]: [u64; 2]) -> String {
    format!("{:.2} / {:.2}", median as f64 / 1e6, most as f64 / 1e6)
}

fn share(part: usize, whole: usize) -> String {
    format!("{:.1} %", 100.0 * part as f64 / whole.max(1) as f64)
}

fn yes(so: bool) -> &'static str {
    if so { "yes" } else { "**no**" }
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
    /// A table with a line for each case. Those of the same churn and alpha stand together, the calibration first.
    fn table(&self, columns: &[&str], line: impl Fn(&Case) -> Vec<String>) -> String {
        let mut cases: Vec<&Case> = self.cases.iter().collect();
        cases.sort_by(|a, b| {
            a.way
                .gone
                .total_cmp(&b.way.gone)
                .then(a.way.alpha.cmp(&b.way.alpha))
                .then(a.nodes.cmp(&b.nodes))
        });
        let mut text = format!(
            "| nodes | gone | alpha | {} |\n|{}\n",
            columns.join(" | "),
            "---:|".repeat(3 + columns.len())
        );
        for case in cases {
            let _ = writeln!(text, "| {} | {} |", case.name(), line(case).join(" | "));
        }
        text
    }

    fn lookups(&self) -> String {
        let columns = ["requests", "all 20 nearest (s)", "the node itself (s)", "missed"];
        self.table(&columns, |Case { lookups, .. }| {
            vec![
                format!("{:.1}", lookups.requests),
                seconds(lookups.full),
                seconds(lookups.found),
                format!("{} of {}", lookups.missed, lookups.count),
            ]
        })
    }

    fn discoveries(&self, of: impl Fn(&Case) -> &[Discoveries; 2]) -> String {
        let columns = [
            "few shards: requests",
            "chain planned (s)",
            "all shards: requests",
            "enough offers (s)",
            "chain planned (s)",
            "had a chain",
            "could repair it",
            "hops",
            "ms per token",
        ];
        self.table(&columns, |case| {
            let [few, all] = of(case);
            vec![
                format!("{:.0}", few.requests),
                seconds(few.planned),
                format!("{:.0}", all.requests),
                seconds(all.found),
                seconds(all.planned),
                share(all.chains, all.count),
                share(all.repaired, all.chains),
                format!("{:.1}", all.hops),
                format!("{:.0}", all.token_ms),
            ]
        })
    }

    fn publishing(&self) -> String {
        let columns = [
            "peers",
            "announcements",
            "one takes (s), p50",
            "records on the fullest node, one key",
        ];
        self.table(&columns, |Case { published, .. }| {
            vec![
                published.peers.to_string(),
                published.announcements.to_string(),
                format!("{:.2}", published.median_us as f64 / 1e6),
                published.fullest.to_string(),
            ]
        })
    }

    fn calibration(&self) -> String {
        let mut text = "| nodes | gone | alpha | offers found: simulated | on `MemoryNetwork` | the same chain |\n|---:|---:|---:|---:|---:|---|\n".to_owned();
        for (way, calibration) in &self.calibrations {
            let [simulated, kept] = calibration.found;
            let same = yes(calibration.same_chain);
            let (gone, alpha) = (percent(way.gone), way.alpha);
            let _ = writeln!(
                text,
                "| {CALIBRATION} | {gone} | {alpha} | {simulated} | {kept} | {same} |"
            );
        }
        text
    }

    /// Simulated and real beside each other.
    fn measured(&self) -> String {
        let columns = [
            "gone",
            "requests per lookup: simulated",
            "real",
            "real / simulated",
            "of the real, unanswered",
            "targets found: simulated",
            "real",
            "requests for all 40 keys: simulated",
            "real",
            "real / simulated",
            "offers found: simulated",
            "real",
            "hops of the chain: simulated",
            "real",
            "the same chain",
        ];
        let mut text = format!(
            "| {} |\n|{}---|\n",
            columns.join(" | "),
            "---:|".repeat(columns.len() - 1)
        );
        for measured in &self.measured {
            let found = measured.found.map(|found| share(found, measured.lookups));
            let _ = writeln!(
                text,
                "| {} | {:.1} | {:.1} | {:.2} | {:.1} | {} | {} | {} | {} | {:.2} | {} | {} | {} | {} | {} |",
                percent(measured.gone),
                measured.requests[0],
                measured.requests[1],
                measured.requests[1] / measured.requests[0],
                measured.failures,
                found[0],
                found[1],
                measured.search[0],
                measured.search[1],
                measured.search[1] as f64 / measured.search[0] as f64,
                measured.offers[0],
                measured.offers[1],
                measured.hops[0],
                measured.hops[1],
                yes(measured.same_chain),
            );
        }
        text
    }

    /// The difference in a line, to stand beside what is simulated.
    fn difference(&self) -> String {
        let ratios: Vec<String> = self
            .measured
            .iter()
            .map(|measured| {
                let ratio = measured.requests[1] / measured.requests[0];
                format!("{ratio:.2} with {} gone", percent(measured.gone))
            })
            .collect();
        if ratios.is_empty() {
            return "calibration: not measured in this run".to_owned();
        }
        format!(
            "calibration at {CALIBRATION} nodes, alpha {ALPHA}: real / simulated requests = {}",
            ratios.join(", ")
        )
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
            ("Against `MemoryNetwork`", self.calibration()),
            ("Against libp2p swarms (measured)", self.measured()),
            ("Lookups", self.lookups()),
            (
                "A popular model, from nothing to a chain",
                self.discoveries(|case| &case.popular),
            ),
            (
                "A rare model, from nothing to a chain",
                self.discoveries(|case| &case.rare),
            ),
            ("Publishing", self.publishing()),
            ("Placement", self.balance()),
        ];
        let mut text = format!("SIMULATION; {}.\n", self.difference());
        for (title, table) in parts {
            let _ = write!(text, "\n{title}\n\n{table}");
        }
        text
    }

    /// What stands out, from the cases themselves.
    fn summary(&self) -> String {
        let case = |nodes: usize, gone: f64, alpha| {
            self.cases
                .iter()
                .find(|case| case.nodes == nodes && case.way == Way { alpha, gone })
        };
        let most = self.cases.iter().map(|case| case.nodes).max().unwrap_or(0);
        let (Some(small), Some(large), Some(wide), Some(gone)) = (
            case(1000, 0.0, 3),
            case(most, 0.0, 3),
            case(most, 0.3, 10),
            case(most, 0.3, 3),
        ) else {
            return String::new();
        };
        let median = |times: [u64; 2]| times[0] as f64 / 1e6;
        format!(
            "## What stands out (simulated)

- From 1,000 to {} nodes a lookup grows from {:.1} to {:.1} requests (alpha 3, nobody gone).
- Departed nodes cost more than size does: at {} nodes with 30 % gone, a whole lookup takes {:.1} s instead of {:.1} s,
  because it waits for {} s again and again. With alpha 10 it takes {:.1} s.
- A finder that stops when it has enough offers waits less: there, with alpha 3, it has planned a chain through the
  popular model after {:.1} s. Through the rare one after {:.1} s if it asks all shards at once, and {:.1} s if a few at a time.

",
            thousands(most),
            small.lookups.requests,
            large.lookups.requests,
            thousands(most),
            median(gone.lookups.full),
            median(large.lookups.full),
            TIMEOUT_US / 1_000_000,
            median(wide.lookups.full),
            median(gone.popular[1].planned),
            median(gone.rare[1].planned),
            median(gone.rare[0].planned),
        )
    }

    /// What is written to docs/scale.md.
    pub(crate) fn page(&self) -> String {
        let (difference, timeout) = (self.difference(), TIMEOUT_US / 1_000_000);
        let mut page = format!(
            "# Scale

Written by {COMMAND}. **Everything on this page is simulated**, but for what is called real in \"Calibration\": that was
measured between {CALIBRATION} libp2p swarms, and differs a little from run to run. Times are simulated seconds, median /
95th percentile unless said otherwise, and the same on every machine. They are not calibrated: swarms in one process
have no distance between them, and who has left there refuses at once. Numbers of requests are:
{difference}.

![Simulated seconds until enough offers of a rare model are found, by number of nodes](images/scale.svg)

## What is real and what is not

- Real: planning of chains, repair and placement (`kwaainet_network::route`), as the node runs them.
- Copied: the keys under which records are kept, by the node's formula (tests/simulation/src/keys.rs).
- Simulated: Kademlia with k = 20, as discrete events. Routing tables are converged: a bucket names up to 20 random nodes
  of those that it may name. Nobody lies. A node has {OPEN} questions open at once, and answers any number.
- The earth: nine regions, light in fibre on routes that are half again as long as the great circle, 4 to 30 ms for each
  node's last mile. A stranger takes three round trips to answer, a connected peer one.
- \"Gone\": this share of the nodes that the routing tables name has left, without a word. A question to one of them takes
  {timeout} s. Half of them left after the records were published: their records are still found, and those that they kept are lost.
- The model: {BLOCKS} blocks; peers serve 8 to 40 of them each and compute 20 to 400 blocks a second. Records are kept by
  {BUCKET} blocks in {SHARDS} shards.
- A lookup goes on as libp2p's does: past the nearest while one of them is waited for, and with {K} requests at once when
  answers bring nobody nearer.
- **Records come with the answers of a lookup. Real nodes do not do that yet**: they end the lookup, then ask its {K} nearest.
  So their search takes as long as \"all 20 nearest\" does, or the 5 s after which a lookup makes do with those that answered,
  and it needs more requests than \"from nothing to a chain\" says.
- A finder's lookups take turns, those of a bucket end when each of its blocks is offered by {ENOUGH} peers, and all when that
  is so for all blocks. Then it asks up to {ASKED} of the peers for a sign of life, and plans when each block is served by
  {ALIVE} that gave one, or after 1 s.

"
        );
        page.push_str(&self.summary());
        let popular = format!(
            "A node that knows only its routing table looks for a model that {POPULAR} peers serve, or half of all nodes if those\n\
             are fewer. It asks {FEW_SHARDS} shards of each bucket at once and the next when a lookup has ended, or all {SHARDS} at once.\n\
             The columns on the right are of the latter. \"Could repair it\": there was another way on when the hop in the middle\n\
             failed. \"ms per token\" is what the planner expects of its chain."
        );
        let rare = format!("The same for a model that {RARE} peers serve, over {RARE_MODELS} such models.");
        let parts = [
            (
                "Against `MemoryNetwork`",
                "The same peers, offers, keys and departures on 100 nodes of `MemoryNetwork`, which keeps every record and takes no\n\
                 time: what is found and planned can be compared, and neither how long it takes nor how many requests it needs.",
                self.calibration(),
            ),
            (
                "Lookups",
                "A node looks up the id of another one. \"All 20 nearest\" is the whole lookup, as publishing needs it; \"the node\n\
                 itself\" is when its name was first heard.",
                self.lookups(),
            ),
            (
                "A popular model, from nothing to a chain",
                popular.as_str(),
                self.discoveries(|case| &case.popular),
            ),
            (
                "A rare model, from nothing to a chain",
                rare.as_str(),
                self.discoveries(|case| &case.rare),
            ),
            (
                "Publishing",
                "Each peer that serves the popular model announces its span once, under every bucket that it touches. One\n\
                 announcement is one lookup and 20 stores. When they do that, half of \"gone\" have left.",
                self.publishing(),
            ),
            (
                "Placement",
                "Peers join one after the other, each where the throughput is lowest; then some leave at once, and the others look at\n\
                 the balance at random intervals of 120 s on average, with a view that is up to 60 s old. Numbers are the throughput\n\
                 of the weakest block as a share of the mean: 1 would be perfect balance. No network is simulated here.",
                self.balance(),
            ),
        ];
        if !self.measured.is_empty() {
            let lookups = self.measured[0].lookups;
            let _ = write!(
                page,
                "## Calibration against {CALIBRATION} libp2p swarms\n\n\
                 {CALIBRATION} nodes of `kwaainet_p2p` with its own settings (alpha {ALPHA}) in one process, over libp2p's transport in memory:\n\
                 the same ids, offers, keys and departures. {lookups} lookups from and for the same nodes, those of all keys of the popular\n\
                 model, then all its records, dials to all who published them, and a plan. \"Unanswered\" are those who have left.\n\n\
                 Simulated and **measured** by {COMMAND}:\n\n{}\n",
                self.measured()
            );
        }
        for (title, text, table) in parts {
            let beside = match title {
                "Placement" | "Against `MemoryNetwork`" => String::new(),
                _ => format!(" ({difference})"),
            };
            let _ = write!(
                page,
                "## {title}\n\n{text}\n\nSimulated by {COMMAND}{beside}:\n\n{table}\n"
            );
        }
        page.truncate(page.trim_end().len());
        page.push('\n');
        page
    }
}
