//! The plot of docs/scale.md: readable in dark and light, and in words for those who do not see it.

use std::fmt::Write;

use crate::report::{Case, percent, thousands};
use crate::{ALPHAS, GONE};

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 400.0;
/// The plot area of a panel, in its own coordinates.
const LEFT: f64 = 44.0;
const TOP: f64 = 64.0;
const PANEL: f64 = 270.0;
const TALL: f64 = 250.0;
/// From one panel to the next.
const STEP: f64 = 375.0;

const STYLE: &str = "text{font:12px system-ui,sans-serif;fill:#1f2328}.title{font-weight:600;font-size:14px}\
.axis{stroke:#59636e;stroke-width:1}.grid{stroke:#d1d9e0;stroke-width:1}.line{fill:none;stroke-width:2.5}.high{stroke-width:1.2}\
.c0{stroke:#0969da}.c1{stroke:#9a6700;stroke-dasharray:8 4}.c2{stroke:#cf222e;stroke-dasharray:2 3}\
@media (prefers-color-scheme:dark){text{fill:#f0f6fc}.axis{stroke:#9198a1}.grid{stroke:#3d444d}.c0{stroke:#58a6ff}.c1{stroke:#d29922}.c2{stroke:#ff7b72}}";

/// Time until enough offers of a rare model are found, all shards asked at once, by number of nodes: a panel per alpha, a line per churn.
pub(crate) fn draw(cases: &[Case]) -> String {
    let most = cases
        .iter()
        .flat_map(|case| case.rare[1].found)
        .max()
        .unwrap_or(1)
        .max(1);
    let top = (most as f64 / 1e6).ceil();
    let least = cases.iter().map(|case| case.nodes).min().unwrap_or(1);
    let largest = cases.iter().map(|case| case.nodes).max().unwrap_or(1);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-labelledby=\"title desc\">\n\
        <title id=\"title\">Simulation: seconds until enough offers of a rare model are found, by number of nodes</title>\n\
        <desc id=\"desc\">{}</desc>\n<style>{STYLE}</style>\n\
        <text class=\"title\" x=\"{LEFT}\" y=\"20\">Simulation: seconds until enough offers of a rare model are found</text>\n\
        <text x=\"{LEFT}\" y=\"38\">thick: median, thin: 95 of 100 are below; by share of nodes that are gone</text>\n",
        describe(cases)
    );
    for (panel, alpha) in ALPHAS.into_iter().enumerate() {
        let left = LEFT + STEP * panel as f64;
        let x = |nodes: usize| {
            let span = (largest as f64 / least as f64).log10().max(1.0);
            left + PANEL * (nodes as f64 / least as f64).log10() / span
        };
        let y = |us: u64| TOP + TALL * (1.0 - us as f64 / 1e6 / top);
        let (right, bottom) = (left + PANEL, TOP + TALL);
        let _ = writeln!(
            svg,
            "<text x=\"{left}\" y=\"{}\">{alpha} requests in flight per lookup</text>",
            TOP - 8.0
        );
        for quarter in 0..=4_u32 {
            let seconds = top * f64::from(quarter) / 4.0;
            let at = y((seconds * 1e6) as u64);
            let _ = writeln!(
                svg,
                "<line class=\"grid\" x1=\"{left}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>"
            );
            let _ = writeln!(
                svg,
                "<text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{seconds}</text>",
                left - 6.0,
                at + 4.0
            );
        }
        let mut nodes: Vec<usize> = cases.iter().map(|case| case.nodes).collect();
        nodes.sort_unstable();
        nodes.dedup();
        for nodes in nodes {
            let at = x(nodes);
            let _ = writeln!(
                svg,
                "<line class=\"axis\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{bottom}\" y2=\"{}\"/>",
                bottom + 5.0
            );
            let _ = writeln!(
                svg,
                "<text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                bottom + 20.0,
                thousands(nodes)
            );
        }
        let _ = writeln!(
            svg,
            "<line class=\"axis\" x1=\"{left}\" x2=\"{right}\" y1=\"{bottom}\" y2=\"{bottom}\"/>"
        );
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{}\" text-anchor=\"middle\">nodes</text>",
            left + PANEL / 2.0,
            bottom + 38.0
        );
        for (which, class) in [(1, "line high"), (0, "line")] {
            for (number, gone) in GONE.into_iter().enumerate() {
                let mut line: Vec<&Case> = cases
                    .iter()
                    .filter(|case| case.way.alpha == alpha && case.way.gone == gone)
                    .collect();
                line.sort_by_key(|case| case.nodes);
                let points: Vec<String> = line
                    .iter()
                    .map(|case| format!("{:.1},{:.1}", x(case.nodes), y(case.rare[1].found[which])))
                    .collect();
                let _ = writeln!(
                    svg,
                    "<polyline class=\"{class} c{number}\" points=\"{}\"/>",
                    points.join(" ")
                );
            }
        }
    }
    for (number, gone) in GONE.into_iter().enumerate() {
        let at = LEFT + 120.0 * number as f64;
        let y = HEIGHT - 16.0;
        let _ = writeln!(
            svg,
            "<line class=\"line c{number}\" x1=\"{at}\" x2=\"{}\" y1=\"{y}\" y2=\"{y}\"/>",
            at + 34.0
        );
        let _ = writeln!(
            svg,
            "<text x=\"{}\" y=\"{}\">{} gone</text>",
            at + 42.0,
            y + 4.0,
            percent(gone)
        );
    }
    svg.push_str("</svg>\n");
    svg
}

/// The same in words.
fn describe(cases: &[Case]) -> String {
    let sentences: Vec<String> = cases
        .iter()
        .map(|case| {
            let [median, most] = case.rare[1].found.map(|us| us as f64 / 1e6);
            format!(
                "{} nodes, {} gone, {} requests in flight: median {median:.2} s, 95 of 100 below {most:.2} s.",
                thousands(case.nodes),
                percent(case.way.gone),
                case.way.alpha
            )
        })
        .collect();
    sentences.join(" ")
}
