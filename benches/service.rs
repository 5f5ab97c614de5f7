//! Measures the service against its own parts, in one run on one machine, and prints the tables of docs/performance.md.
//!
//! `cargo bench --bench service` takes some minutes and needs `wrk`; `checks`, `logins` or `start` after `--` measures one part alone. `BENCH_ALGORITHMS` (`HS256,EdDSA`) says with what the tokens of the checks are signed. Every figure is a ratio to something that runs in the same minutes: the
//! token check to a route that does nothing, logins to the bare hash function. Servers listen on 127.0.0.1 alone, loads
//! are bounded in time, and every process is ended by the run that started it.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::panic,
    reason = "a benchmark is a program that talks to a person and stops at the first surprise"
)]

mod support;

use std::time::{Duration, Instant};

use support::{Load, Server, argon2_rate, median, populate};

/// How long one measurement lasts.
const ROUND: Duration = Duration::from_secs(8);
/// How often each is repeated; the rounds of what is compared alternate, so that a slow minute hits both.
const ROUNDS: usize = 5;
const ACCOUNTS: usize = 10_000;

#[tokio::main]
async fn main() {
    // `cargo test --benches` and the like only want to know that it builds.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    if let Some(port) = std::env::args().skip_while(|argument| argument != "--serve-bare").nth(1) {
        let listener = tokio::net::TcpListener::bind(("127.0.0.1", port.parse().unwrap())).await.unwrap();
        if std::env::args().any(|argument| argument == "--plain") {
            return support::serve_plain(listener).await;
        }
        return doorward::serve_bare(listener).await;
    }
    let named: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with("--")).collect();
    let wanted = |name: &str| named.is_empty() || named.iter().any(|argument| argument == name);
    if wanted("checks") {
        token_checks(&algorithms()).await;
    }
    if wanted("logins") {
        logins().await;
    }
    if wanted("start") {
        start().await;
    }
}

/// What `BENCH_ALGORITHMS` names, separated by commas.
fn algorithms() -> Vec<String> {
    let named = std::env::var("BENCH_ALGORITHMS").unwrap_or_else(|_| "HS256,EdDSA".to_owned());
    named.split(',').map(|name| name.trim().to_owned()).collect()
}

/// The token check with each of these algorithms, and what they are compared with. The rounds alternate.
async fn token_checks(algorithms: &[String]) {
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
        for _ in 0..ROUNDS {
            floors.push(Load::get(&bare, "/bare").run(connections, ROUND));
            for ((_, verify), checks) in servers.iter().zip(&mut checks) {
                checks.push(verify.run(connections, ROUND));
            }
            plains.push(Load::get(&plain, "/bare").run(connections, ROUND));
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

async fn logins() {
    let server = Server::start(&[]).await;
    let mut people = Vec::new();
    for n in 0..16 {
        people.push(server.register(&format!("person{n}")).await);
    }
    let cores = std::thread::available_parallelism().unwrap().get();
    let load = Load::logins(&server, &people);
    let (mut rates, mut raws) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        raws.push(argon2_rate(cores, ROUND));
        rates.push(load.run(4 * cores, ROUND));
    }
    let ratio = median(&rates.iter().zip(&raws).map(|(rate, raw)| rate / raw).collect::<Vec<_>>());
    println!("\n| logins | argon2id alone, all cores | ratio |\n|---|---|---|");
    println!("| {:.1}/s | {:.1}/s | {ratio:.2} |", median(&rates), median(&raws));
}

async fn start() {
    let directory = tempfile::TempDir::new().unwrap();
    populate(directory.path(), ACCOUNTS).await;
    let mut starts = Vec::new();
    let mut idle = Vec::new();
    for _ in 0..ROUNDS {
        let began = Instant::now();
        let server = Server::start_in(directory.path(), &[]);
        server.until_ready().await;
        starts.push(began.elapsed().as_secs_f64() * 1000.0);
        idle.push(server.resident_mib());
    }
    let fresh = Server::start(&[]).await;
    fresh.until_ready().await;
    println!("\n| accounts | start to ready | resident memory when idle |\n|---|---|---|");
    println!("| 0 | – | {:.1} MiB |", fresh.resident_mib());
    println!("| {ACCOUNTS} | {:.0} ms | {:.1} MiB |", median(&starts), median(&idle));
}
