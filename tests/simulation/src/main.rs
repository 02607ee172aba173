//! Discovery and planning of up to a million nodes: our own code, over a simulated Kademlia.
//!
//! What is real is the code of `kwaainet_network::route` and the keys of records. What is simulated is everything
//! underneath: routing tables, lookups, the earth, nodes that leave. It writes docs/scale.md. Run: npm run simulate.

#![expect(
    clippy::indexing_slicing,
    reason = "a tool for developers: a wrong index is a bug that must be seen"
)]

mod balance;
mod dice;
mod discoveries;
mod kademlia;
mod keys;
mod lookups;
mod memory;
mod nodes;
mod plot;
mod real;
mod report;
mod soak;
mod swarm;
#[cfg(test)]
mod tests;
mod world;

use std::process::ExitCode;

use dice::Dice;
use keys::SHARDS;
use kwaainet_network::NetworkError;
use real::Measured;
use report::{Case, Report};
use swarm::{Swarm, Way};
use world::World;

/// Requests that a lookup has in flight.
const ALPHAS: [usize; 2] = [3, 10];
/// Shares of all nodes that left since routing tables were made; half of them since records were published.
const GONE: [f64; 3] = [0.0, 0.1, 0.3];
/// Nodes of the calibration, which as many real ones can be compared with.
const CALIBRATION: usize = 100;

/// Lookups between real swarms, for each share that has left.
const REAL_LOOKUPS: usize = 300;

/// Peers that serve a model that many want, and one that few want; at most half of all nodes.
const POPULAR: usize = 1000;
const RARE: usize = 50;
/// So many rare models, as luck decides where few peers are.
const RARE_MODELS: usize = 10;
/// Shards of a bucket that a finder asks at once, if not all of them.
const FEW_SHARDS: u8 = 2;

/// What is run.
struct Plan {
    sizes: Vec<usize>,
    lookups: usize,
    discoveries: usize,
    balance: Vec<usize>,
}

impl Plan {
    fn full() -> Self {
        Self {
            sizes: vec![CALIBRATION, 1_000, 100_000, 1_000_000],
            lookups: 1000,
            discoveries: 200,
            balance: vec![50, 200],
        }
    }

    /// For the tests: seconds.
    fn quick() -> Self {
        Self {
            sizes: vec![CALIBRATION, 1_000],
            lookups: 100,
            discoveries: 20,
            balance: vec![30],
        }
    }
}

/// Compares the simulator with real swarms: their numbers are measured, and differ a little from run to run.
fn calibrate(nodes: usize, lookups: usize) -> Result<Vec<Measured>, NetworkError> {
    let world = World::new(nodes, 1, |seed| world::keypair(seed).peer_id());
    let measure = |gone: f64| {
        eprintln!("calibration: {nodes} libp2p swarms, {:.0} % gone", gone * 100.0);
        real::measure(&world, gone, nodes / 2, lookups)
    };
    GONE.into_iter().map(measure).collect()
}

/// Runs everything. The same plan gives the same report.
fn simulate(plan: &Plan) -> Result<Report, NetworkError> {
    let mut report = Report::default();
    for &nodes in &plan.sizes {
        let made: fn(u64) -> kwaainet_network::PeerId = if nodes == CALIBRATION {
            |seed| world::keypair(seed).peer_id()
        } else {
            world::imagined
        };
        let world = World::new(nodes, 1, made);
        for gone in GONE {
            for alpha in ALPHAS {
                eprintln!(
                    "simulation: {nodes} nodes, {:.0} % gone, alpha {alpha}",
                    gone * 100.0
                );
                let dice = Dice::new(2);
                let way = Way { alpha, gone };
                let lookups = lookups::measure(&world, way, plan.lookups, &dice);
                // A peer that publishes is there until then; so many had left before.
                let before = Way {
                    alpha,
                    gone: gone / 2.0,
                };
                let published = |peers| {
                    let mut swarm = Swarm::new(&world, peers, before.gone, &dice);
                    swarm.publish(before);
                    swarm
                };
                let discover = |swarms: &[Swarm<'_>]| {
                    [FEW_SHARDS, SHARDS]
                        .map(|at_once| discoveries::measure(swarms, way, at_once, plan.discoveries, &dice))
                };
                let rare: Vec<Swarm<'_>> = (0..RARE_MODELS).map(|_| published(RARE.min(nodes / 2))).collect();
                let popular = [published(POPULAR.min(nodes / 2))];
                if nodes == CALIBRATION {
                    let from = world.anyone(&dice, gone);
                    report
                        .calibrations
                        .push((way, memory::calibrate(&world, &popular[0], from, way)?));
                }
                report.cases.push(Case {
                    nodes,
                    way,
                    lookups,
                    popular: discover(&popular),
                    rare: discover(&rare),
                    published: popular[0].published(),
                });
            }
        }
    }
    for &peers in &plan.balance {
        for gone in GONE {
            report
                .courses
                .push((gone, balance::measure(peers, gone, &Dice::new(3))));
        }
    }
    Ok(report)
}

/// Writes a page of this repository, or says why not.
fn write(path: &str, text: String) -> bool {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../..")
        .join(path);
    #[expect(clippy::disallowed_methods, reason = "a program that writes its report")]
    let written = std::fs::write(&path, text);
    if let Err(error) = &written {
        eprintln!("simulation: {}: {error}", path.display());
    }
    written.is_ok()
}

/// A day of visitors who come and go, in ten minutes.
fn soak() -> ExitCode {
    let visitors = soak::visitors_of_a_day();
    let every = std::time::Duration::from_secs(10 * 60) / u32::try_from(visitors).unwrap_or(1);
    match soak::run(visitors, every) {
        Ok(soak) => {
            println!("{soak:?}");
            if !write("docs/soak.md", soak.page()) {
                return ExitCode::FAILURE;
            }
            let Some(problem) = soak.problem() else {
                return ExitCode::SUCCESS;
            };
            eprintln!("soak: {problem}");
        }
        Err(error) => eprintln!("soak: {error}"),
    }
    ExitCode::FAILURE
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let plan = match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => Plan::full(),
        ["--quick" | "--real" | "--soak"] => Plan::quick(),
        _ => {
            eprintln!(
                "npm run simulate            everything; writes docs/scale.md and docs/images/scale.svg"
            );
            eprintln!("npm run simulate -- --quick 100 and 1000 nodes, in seconds; writes nothing");
            eprintln!("npm run simulate -- --real  the same, and 100 libp2p swarms");
            eprintln!("npm run soak                a day of visitors in ten minutes; fails if memory grows");
            return ExitCode::from(2);
        }
    };
    if arguments == ["--soak"] {
        return soak();
    }
    let measured = if arguments.is_empty() || arguments == ["--real"] {
        calibrate(CALIBRATION, REAL_LOOKUPS)
    } else {
        Ok(Vec::new())
    };
    let report = simulate(&plan).and_then(|report| {
        Ok(Report {
            measured: measured?,
            ..report
        })
    });
    let report = match report {
        Ok(report) => report,
        Err(error) => {
            eprintln!("simulation: {error}");
            return ExitCode::FAILURE;
        }
    };
    println!("{}", report.tables());
    if arguments.is_empty() {
        for (path, text) in [
            ("docs/scale.md", report.page()),
            ("docs/images/scale.svg", plot::draw(&report.cases)),
        ] {
            if !write(path, text) {
                return ExitCode::FAILURE;
            }
        }
    }
    ExitCode::SUCCESS
}
