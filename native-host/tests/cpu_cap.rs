//! A cap of 20 % of all processors holds within 3 points over 30 seconds, measured from outside the process.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, clippy::panic, reason = "these are tests")]
#![expect(clippy::indexing_slicing, reason = "the support module is shared")]

mod support;

use std::process::Stdio;
use std::time::{Duration, Instant};

use support::{Dir, read_until, text};

/// User and system time of a process, in seconds (proc(5), fields 14 and 15, in clock ticks of 1/100 s).
fn processor_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name in parentheses may hold spaces.
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: f64 = fields
        .iter()
        .skip(11)
        .take(2)
        .map(|field| field.parse::<f64>().unwrap())
        .sum();
    ticks / 100.0
}

#[test]
fn twenty_per_cent_are_twenty_per_cent() {
    const CAP: f64 = 20.0;
    let dir = Dir::new();
    let model = dir.tiny_model();
    // Answers end by themselves, so a server is kept busy with one after the other.
    let serve = [
        "serve",
        "--model",
        text(&model),
        "--port",
        "0",
        "--cpu",
        "20",
        "--context",
        "4096",
        "--json",
    ];
    let mut child = dir
        .command(&serve)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let said = read_until(child.stdout.as_mut().unwrap(), "\n");
    let port = serde_json::from_str::<serde_json::Value>(&said).unwrap()["port"]
        .as_u64()
        .unwrap();
    let busy = std::thread::spawn(move || {
        support::keep_asking(u16::try_from(port).unwrap(), Duration::from_secs(34))
    });
    // The first seconds may use what the process saved up while it was idle.
    std::thread::sleep(Duration::from_secs(2));
    let (begun, before) = (Instant::now(), processor_seconds(child.id()));
    std::thread::sleep(Duration::from_secs(30));
    let used = processor_seconds(child.id()) - before;
    let share = 100.0 * used / begun.elapsed().as_secs_f64() / kwaainet::machine::processors() as f64;
    child.kill().unwrap();
    drop(child.wait());
    let answers = busy.join().unwrap();
    println!("{share:.2} % of all processors over 30 s, {answers} answers");
    assert!(answers > 0);
    assert!(
        (share - CAP).abs() <= 3.0,
        "{share:.2} % of all processors, the cap is {CAP} %"
    );
}
