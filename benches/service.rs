//! Measures the service against its own parts, in one run on one machine, and prints the tables of docs/performance.md.
//!
//! `cargo bench --bench service` takes about half an hour and needs `wrk`. With `checks`, `logins`, `start`, `storm`,
//! `times`, `limiter`, `crowd` or `scale` after `--` it measures one part alone; the first two and the last need `wrk`.
//! `--short` runs everything briefly to show that it works: its numbers mean nothing. `--seconds=N` sets the duration
//! of a storm.
//!
//! Every figure has a baseline that is measured in the same minutes: the token check has a route that does nothing,
//! logins have the bare hash function, and a storm has the quiet before it. Servers listen only on 127.0.0.1, every
//! load has a time limit, and the run ends every process that it started. `BENCH_ALGORITHMS` (default `HS256,EdDSA`)
//! names the algorithms whose token checks are compared.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::panic,
    reason = "a benchmark is a program that talks to a person and stops at the first surprise"
)]

mod support;

use std::time::Instant;

use support::{Extent, Group, Load, Server, argon2_rate, crowd, limiter, median, populate, scale, storm, times};

const ACCOUNTS: usize = 10_000;

fn main() {
    // `cargo test --benches` and similar commands only check that this builds.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    if let Some(kind) = std::env::args().find_map(|argument| argument.strip_prefix(limiter::MEMORY).map(str::to_owned))
    {
        let keys = std::env::args().next_back().unwrap();
        return limiter::measure_memory(&kind, keys.parse().unwrap());
    }
    tokio::runtime::Runtime::new().unwrap().block_on(run());
}

async fn run() {
    if let Some(port) = std::env::args().skip_while(|argument| argument != "--serve-bare").nth(1) {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", port.parse().unwrap())).await.unwrap();
        if std::env::args().any(|argument| argument == "--plain") {
            return support::serve_plain(listener).await;
        }
        return doorward::serve_bare(listener).await;
    }
    let extent = Extent::of_command_line();
    let named: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let wanted = |name: &str| named.is_empty() || named.iter().any(|argument| argument == name);
    if wanted("checks") {
        token_checks(extent, &algorithms()).await;
    }
    if wanted("logins") {
        logins(extent).await;
    }
    if wanted("start") {
        start(extent).await;
    }
    if wanted("storm") {
        storm::run(extent).await;
    }
    if wanted("times") {
        times::run(extent).await;
    }
    if wanted("limiter") {
        limiter::run(extent).await;
    }
    if wanted("crowd") {
        crowd::run(extent).await;
    }
    if wanted("scale") {
        scale::run(extent).await;
    }
}

/// Returns the comma-separated names in `BENCH_ALGORITHMS`.
fn algorithms() -> Vec<String> {
    let named = std::env::var("BENCH_ALGORITHMS").unwrap_or_else(|_| "HS256,EdDSA".to_owned());
    named.split(',').map(|name| name.trim().to_owned()).collect()
}

/// Measures the token check with each of these algorithms and with the baselines. The rounds alternate.
async fn token_checks(extent: Extent, algorithms: &[String]) {
    let Extent { round, rounds, .. } = extent;
    let mut servers = Vec::new();
    for algorithm in algorithms {
        let server = Server::start(&[("ALGORITHM", algorithm.as_str())]).await;
        let token = server.token("ann").await;
        let verify = Load::verify(&server, &token);
        servers.push((server, verify));
    }
    let bare = Server::start_bare(&[]).await;
    let plain = Server::start_bare(&["--plain"]).await;
    println!(
        "\n| connections | `ALGORITHM` | `/verify` | bare route, same accept loop | bare route, bare loop | ratio to the former | to the latter |"
    );
    println!("|---|---|---|---|---|---|---|");
    for connections in [8, 64] {
        let (mut floors, mut plains) = (Vec::new(), Vec::new());
        let mut checks = vec![Vec::new(); servers.len()];
        for _ in 0..rounds {
            floors.push(Load::get(&bare, "/bare").run(connections, round));
            for ((_, verify), checks) in servers.iter().zip(&mut checks) {
                checks.push(verify.run(connections, round));
            }
            plains.push(Load::get(&plain, "/bare").run(connections, round));
        }
        for (algorithm, checks) in algorithms.iter().zip(&checks) {
            let ratio = |floors: &[f64]| {
                median(&checks.iter().zip(floors).map(|(check, floor)| check / floor).collect::<Vec<_>>())
            };
            println!(
                "| {connections} | {algorithm} | {:.0}/s | {:.0}/s | {:.0}/s | {:.2} | {:.2} |",
                median(checks),
                median(&floors),
                median(&plains),
                ratio(&floors),
                ratio(&plains)
            );
        }
    }
}

async fn logins(extent: Extent) {
    let Extent { round, rounds, .. } = extent;
    let server = Server::start(&[]).await;
    let mut people = Vec::new();
    for n in 0..16 {
        people.push(server.register(&format!("person{n}")).await);
    }
    let cores = std::thread::available_parallelism().unwrap().get();
    let load = Load::logins(&server, &people);
    let (mut rates, mut raws) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        raws.push(argon2_rate(cores, round));
        rates.push(load.run(4 * cores, round));
    }
    let ratio = median(&rates.iter().zip(&raws).map(|(rate, raw)| rate / raw).collect::<Vec<_>>());
    println!("\n| logins | argon2id alone, all cores | ratio |\n|---|---|---|");
    println!("| {:.1}/s | {:.1}/s | {ratio:.2} |", median(&rates), median(&raws));
}

async fn start(extent: Extent) {
    let directory = tempfile::TempDir::new().unwrap();
    populate(directory.path(), &[Group::good("somebody", ACCOUNTS)]).await;
    let mut starts = Vec::new();
    let mut idle = Vec::new();
    for _ in 0..extent.rounds {
        let began = Instant::now();
        let server = Server::start_in(directory.path(), &[]);
        server.until_ready().await;
        starts.push(began.elapsed().as_secs_f64() * 1000.0);
        idle.push(server.process().resident_mib());
    }
    let fresh = Server::start(&[]).await;
    fresh.until_ready().await;
    println!("\n| accounts | start to ready | resident memory when idle |\n|---|---|---|");
    println!("| 0 | – | {:.1} MiB |", fresh.process().resident_mib());
    println!("| {ACCOUNTS} | {:.0} ms | {:.1} MiB |", median(&starts), median(&idle));
}
