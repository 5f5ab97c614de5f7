//! Measures how ten times as many logins as the server can compute affect token checks, memory and the logins
//! themselves (R08).

use std::time::Duration;

use super::accounts::Group;
use super::flood::{Flood, Tally, rate};
use super::probe::{Probe, Report};
use super::process::Process;
use super::table::table;
use super::{Extent, Server, argon2_rate};

/// Enough accounts that none has two logins in flight, and that sessions stay below the cap of an account.
const PEOPLE: Group = Group::good("person", 2000);
/// The number of sessions that are checked in turn.
const CHECKED: usize = 64;
/// Token checks per second: a moderate load, far below the capacity of the service.
const CHECKS: u32 = 500;
const TIMES_CAPACITY: f64 = 10.0;
/// The memory of one hash of the default cost, in MiB.
const HASH_MIB: f64 = 19.0;
/// The memory that a storm may take in addition to the hashes, in MiB.
const SLACK_MIB: f64 = 20.0;

/// The results of one round.
struct Round {
    raw: f64,
    capacity: f64,
    quiet: Report,
    stormy: Report,
    offered: u32,
    tally: Tally,
    /// The resident memory before the storm and its peak during the storm, in MiB.
    before: f64,
    peak: f64,
    /// The cores in use by the server and by this process.
    used: (f64, f64),
}

pub(crate) async fn run(extent: Extent) {
    let settings = [("MAX_CONNECTIONS_PER_ADDRESS", "8192"), ("ADDRESS_FAILURES", "10000")];
    let server = Server::start_with(&[PEOPLE], &settings).await;
    let fresh = server.process().resident_mib();
    let checks = Probe::checks(&server, &PEOPLE, CHECKED);
    let flood = Flood::new(&server, &PEOPLE);
    let mut rounds = Vec::new();
    for _ in 0..extent.storms {
        rounds.push(round(extent, &server, &checks, &flood).await);
    }
    print(&rounds, fresh, extent.storm);
}

async fn round(extent: Extent, server: &Server, checks: &Probe, flood: &Flood) -> Round {
    let cores = cores();
    let raw = argon2_rate(cores, extent.round);
    let capacity = flood.capacity(4 * cores, extent.round).await;
    let quiet = checks.run(CHECKS, extent.storm).await;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate of logins is a small number")]
    let offered = (TIMES_CAPACITY * capacity) as u32;
    let (process, own) = (server.process(), Process::own());
    let resident = process.resident_mib();
    process.forget_peak();
    let before = (process.cpu_seconds(), own.cpu_seconds());
    let watch = async {
        tokio::time::sleep(extent.storm).await;
        let share = |after: f64, before: f64| (after - before) / extent.storm.as_secs_f64();
        (share(process.cpu_seconds(), before.0), share(own.cpu_seconds(), before.1))
    };
    let (stormy, tally, used) =
        tokio::join!(checks.run(CHECKS, extent.storm), flood.storm(offered, extent.storm), watch);
    Round { raw, capacity, quiet, stormy, offered, tally, before: resident, peak: process.peak_mib(), used }
}

fn cores() -> usize {
    std::thread::available_parallelism().unwrap().get()
}

fn print(rounds: &[Round], fresh: f64, time: Duration) {
    println!("\nToken checks at {CHECKS}/s, alone and during {} s of a login storm:\n", time.as_secs());
    let head =
        ["round", "quiet p50", "quiet p99", "storm p50", "storm p99", "storm p99.9", "longest", "p99 ratio", "not 200"];
    println!("{}", table(&head, &numbered(rounds, checks_row)));
    println!("Logins during it:\n");
    let head = [
        "round",
        "argon2id alone",
        "capacity",
        "offered",
        "opened",
        "opened to capacity",
        "p50",
        "503",
        "503 without `Retry-After`",
        "`Retry-After`",
        "429",
        "other answers",
        "errors",
    ];
    println!("{}", table(&head, &numbered(rounds, |round| logins_row(round, time))));
    println!("Memory and cores:\n");
    #[expect(clippy::cast_precision_loss, reason = "machines have few cores")]
    let more = cores() as f64 * HASH_MIB + SLACK_MIB;
    let head = ["round", "after the start", "idle", "peak", "bound", "cores used by the server", "by the load"];
    let memory = |round: &Round| {
        let (server, load) = round.used;
        let mib = |mib| format!("{mib:.1} MiB");
        vec![
            mib(fresh),
            mib(round.before),
            mib(round.peak),
            mib(round.before + more),
            format!("{server:.2}"),
            format!("{load:.2}"),
        ]
    };
    println!("{}", table(&head, &numbered(rounds, memory)));
}

fn numbered(rounds: &[Round], cells: impl Fn(&Round) -> Vec<String>) -> Vec<Vec<String>> {
    let row = |(number, round): (usize, &Round)| [vec![(number + 1).to_string()], cells(round)].concat();
    rounds.iter().enumerate().map(row).collect()
}

fn checks_row(round: &Round) -> Vec<String> {
    let ms = |millis| format!("{millis:.2} ms");
    let (quiet, stormy) = (&round.quiet.latencies, &round.stormy.latencies);
    vec![
        ms(quiet.within(0.5)),
        ms(quiet.within(0.99)),
        ms(stormy.within(0.5)),
        ms(stormy.within(0.99)),
        ms(stormy.within(0.999)),
        ms(stormy.longest()),
        format!("{:.2}", stormy.within(0.99) / quiet.within(0.99)),
        (round.quiet.failures + round.stormy.failures).to_string(),
    ]
}

fn logins_row(round: &Round, time: Duration) -> Vec<String> {
    let tally = &round.tally;
    let goodput = rate(tally.opened, time);
    let took = if tally.took.is_empty() { f64::NAN } else { super::median(&tally.took) };
    let retry = tally.retry_after.map_or("–".to_owned(), |(least, most)| format!("{least} to {most} s"));
    vec![
        format!("{:.1}/s", round.raw),
        format!("{:.1}/s", round.capacity),
        format!("{}/s", round.offered),
        format!("{goodput:.1}/s"),
        format!("{:.2}", goodput / round.capacity),
        format!("{took:.0} ms"),
        tally.refused.to_string(),
        tally.refused_silently.to_string(),
        retry,
        tally.limited.to_string(),
        tally.others.to_string(),
        tally.errors.to_string(),
    ]
}
