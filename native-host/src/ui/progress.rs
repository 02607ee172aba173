//! A bar on a terminal, a line now and then anywhere else.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use kwaainet_types::{Progress, Stage};

use super::output::{Output, bytes, count, stderr_is_terminal};

/// Time between two lines, where there is no terminal.
const PAUSE: Duration = Duration::from_secs(2);

/// Shows the progress of one model at a time.
#[derive(Debug)]
pub struct ProgressView {
    output: Output,
    terminal: bool,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    bar: Option<(ProgressBar, String, Stage)>,
    /// What a line was last printed for, or work that began and was not worth one yet.
    told: Option<(String, Stage, Instant)>,
}

impl ProgressView {
    /// A view that shows nothing until something happens.
    pub fn new(output: Output) -> Self {
        Self {
            output,
            terminal: stderr_is_terminal(),
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows how far it has come.
    pub fn show(&self, progress: &Progress) {
        if self.output.quiet {
            return;
        }
        if self.terminal {
            self.draw(progress);
        } else {
            self.tell(progress);
        }
    }

    /// Takes the bar away, so that results can be written.
    pub fn clear(&self) {
        if let Some((bar, ..)) = self.state().bar.take() {
            bar.finish_and_clear();
        }
    }

    fn draw(&self, progress: &Progress) {
        let mut state = self.state();
        let same = |(_, model, stage): &(ProgressBar, String, Stage)| {
            // While it retries, the bar of the fetch stays.
            *model == progress.model && (*stage == progress.stage || progress.stage == Stage::Retry)
        };
        if !state.bar.as_ref().is_some_and(same) {
            if let Some((bar, ..)) = state.bar.take() {
                bar.finish_and_clear();
            }
            let bar = ProgressBar::with_draw_target(Some(progress.total), ProgressDrawTarget::stderr());
            bar.set_style(style(progress.stage));
            bar.enable_steady_tick(Duration::from_millis(200));
            state.bar = Some((bar, progress.model.clone(), progress.stage));
        }
        if let Some((bar, ..)) = &state.bar {
            bar.set_prefix(format!("{} {}", verb(progress.stage), progress.model));
            bar.set_length(progress.total);
            bar.set_position(progress.done);
            bar.set_message(details(progress));
        }
    }

    fn tell(&self, progress: &Progress) {
        let mut state = self.state();
        let now = Instant::now();
        match &mut state.told {
            Some((model, stage, at)) if *model == progress.model && *stage == progress.stage => {
                if at.elapsed() < PAUSE {
                    return;
                }
                *at = now;
            }
            told => {
                // What is over soon needs no line; that a connection broke is told at once.
                *told = Some((progress.model.clone(), progress.stage, now));
                if progress.stage != Stage::Retry {
                    return;
                }
            }
        }
        let Progress {
            model, done, total, ..
        } = progress;
        let percent = (done * 100).checked_div(*total).unwrap_or(0);
        self.output.note(&format!(
            "{} {model}: {percent} % ({} of {}){}",
            verb(progress.stage),
            bytes(*done),
            bytes(*total),
            match details(progress) {
                text if text.is_empty() => text,
                text => format!(", {text}"),
            }
        ));
    }
}

fn verb(stage: Stage) -> &'static str {
    match stage {
        Stage::Fetch => "Fetching",
        Stage::Load => "Loading",
        Stage::Retry => "Waiting to retry",
    }
}

fn details(progress: &Progress) -> String {
    let Some(speed) = progress.bytes_per_second.filter(|speed| *speed >= 1.0) else {
        return String::new();
    };
    let left = progress.total.saturating_sub(progress.done) as f64 / speed;
    let left = match left as u64 {
        seconds @ 0..60 => format!("{seconds} s"),
        seconds @ 60..3600 => format!("{} min {:02} s", seconds / 60, seconds % 60),
        seconds => format!("{} h {:02} min", seconds / 3600, seconds % 3600 / 60),
    };
    let peers = match progress.peers {
        0 => String::new(),
        peers => format!(", {} from {}", bytes(progress.from_peers), count(peers as usize)),
    };
    format!("{}/s, {left} left{peers}", bytes(speed as u64))
}

fn style(stage: Stage) -> ProgressStyle {
    let template = match stage {
        Stage::Load => "{prefix} [{bar:30}] {percent:>3} %",
        Stage::Fetch | Stage::Retry => {
            "{prefix} [{bar:30}] {percent:>3} %  {decimal_bytes} of {decimal_total_bytes}  {msg}"
        }
    };
    // Both templates are constants; the default would only look different.
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speed_and_time_left_are_told_when_they_are_known() {
        let mut progress = Progress {
            model: "m".into(),
            stage: Stage::Fetch,
            done: 10_000_000,
            total: 100_000_000,
            from_peers: 0,
            peers: 0,
            bytes_per_second: None,
        };
        assert_eq!(details(&progress), "");
        progress.bytes_per_second = Some(1_000_000.0);
        assert_eq!(details(&progress), "1.0 MB/s, 1 min 30 s left");
        (progress.from_peers, progress.peers) = (9_000_000, 2);
        assert_eq!(
            details(&progress),
            "1.0 MB/s, 1 min 30 s left, 9.0 MB from 2 peers"
        );
    }
}
