//! Measures how thousands of connections that never finish a request affect complete requests (R06).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use super::accounts::{Group, PASSWORD, login};
use super::probe::{Probe, Report};
use super::table::table;
use super::wire::TaskWire;
use super::{Extent, Server};

const PEOPLE: Group = Group::good("person", 500);
/// The token checks and logins per second of well-behaved clients. The logins use a part of the machine's capacity.
const CHECKS: u32 = 200;
const LOGINS: u32 = 20;
/// The number of connections from one address. It is below `MAX_CONNECTIONS_PER_ADDRESS`, which would refuse more.
const PER_ADDRESS: usize = 200;
/// One in this many connections sends a slow body. The others send a slow head.
const BODIES: usize = 5;
/// The pause of a connection between two bytes.
const DRIP: Duration = Duration::from_secs(2);
/// The time that the connections get to open. By then the server has closed the first of them, and they have returned.
const GATHERING: Duration = Duration::from_secs(12);

/// The beginning of a request that never ends.
const HEAD: &[u8] = b"POST /login HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Slow: ";
const BODY: &[u8] =
    b"POST /login HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 60000\r\n\r\n";

/// The counters of the crowd.
#[derive(Default)]
struct Count {
    open: AtomicUsize,
    /// Connections that the server closed.
    cut: AtomicUsize,
    /// Connections that could not be opened.
    failed: AtomicUsize,
    over: AtomicBool,
}

pub(crate) async fn run(extent: Extent) {
    let server = Server::start_with(&[PEOPLE], &[]).await;
    let checks = Probe::checks(&server, &PEOPLE, 64);
    let logins = (0..PEOPLE.count).map(|number| login(&PEOPLE.email(number), PASSWORD)).collect();
    let logins = Probe::new(&server, logins);
    let both = async || tokio::join!(checks.run(CHECKS, extent.storm), logins.run(LOGINS, extent.storm));

    let quiet = both().await;
    let idle = server.process().resident_mib();
    let count = Arc::new(Count::default());
    let crowd = gather(server.address(), extent.crowd, Arc::clone(&count));
    tokio::time::sleep(GATHERING).await;
    let held = count.open.load(Ordering::Relaxed);
    let crowded = both().await;
    let held = held.midpoint(count.open.load(Ordering::Relaxed));
    let resident = server.process().resident_mib();
    count.over.store(true, Ordering::Relaxed);
    tokio::task::spawn_blocking(move || crowd.join().unwrap()).await.unwrap();

    let columns = ["requests", "quiet p50", "quiet p99", "crowded p50", "crowded p99", "p99 ratio", "not 200"];
    let rows = [("`/verify`", CHECKS, &quiet.0, &crowded.0), ("`/login`", LOGINS, &quiet.1, &crowded.1)].map(row);
    println!("\n{}", table(&columns, &rows));
    println!(
        "{held} connections held, {} cut off by the server, {} not made; resident memory {idle:.1} MiB before, {resident:.1} MiB with them",
        count.cut.load(Ordering::Relaxed),
        count.failed.load(Ordering::Relaxed),
    );
}

fn row((name, rate, quiet, crowded): (&str, u32, &Report, &Report)) -> Vec<String> {
    let ms = |millis| format!("{millis:.2} ms");
    let (before, with) = (&quiet.latencies, &crowded.latencies);
    vec![
        format!("{name}, {rate}/s"),
        ms(before.within(0.5)),
        ms(before.within(0.99)),
        ms(with.within(0.5)),
        ms(with.within(0.99)),
        format!("{:.2}", with.within(0.99) / before.within(0.99)),
        (quiet.failures + crowded.failures).to_string(),
    ]
}

/// Keeps this number of connections open from a thread of its own, until `count.over` is set.
fn gather(server: SocketAddr, connections: usize, count: Arc<Count>) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            for number in 0..connections {
                tokio::spawn(linger(server, number, Arc::clone(&count)));
                // Opens them fast, but not all at once: the backlog of a listener is short.
                if number % 10 == 9 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
            while !count.over.load(Ordering::Relaxed) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        });
    })
}

/// Runs one connection of the crowd. It reconnects whenever the server closes it.
async fn linger(server: SocketAddr, number: usize, count: Arc<Count>) {
    let host = u8::try_from(1 + number / PER_ADDRESS % 250).unwrap_or(1);
    let from = IpAddr::V4(Ipv4Addr::new(127, 0, 1, host));
    let front = if number.is_multiple_of(BODIES) { BODY } else { HEAD };
    loop {
        let Ok(mut wire) = TaskWire::connect(server, Some(from)).await else {
            count.failed.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(DRIP).await;
            continue;
        };
        count.open.fetch_add(1, Ordering::Relaxed);
        if wire.write(front).await.is_ok() {
            // Sends a byte at each interval until the server closes the connection or a write fails.
            while tokio::time::timeout(DRIP, wire.ended()).await.is_err() && wire.write(b"a").await.is_ok() {}
        }
        count.open.fetch_sub(1, Ordering::Relaxed);
        count.cut.fetch_add(1, Ordering::Relaxed);
    }
}
