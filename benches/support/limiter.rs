//! Measures what the limiter costs a request, and how much memory its keys take while they count and after they are
//! forgotten.
//!
//! The measurement runs inside this process, through the handle that routes use. Over HTTP the cost would be too small
//! to see.

use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use doorward::settings::Settings;
use doorward::{Ambient, App};
use doorward_actors::testing::ManualClock;
use doorward_actors::{ProtectedResource, RateLimiterHandle};
use tempfile::TempDir;

use super::process::Process;
use super::table::table;
use super::{Extent, median};

/// The argument that makes this program measure memory. It runs in a process of its own, where nothing was allocated
/// before.
pub(crate) const MEMORY: &str = "--limiter-memory=";
/// The number of calls in one measurement.
const CALLS: u32 = 1_000_000;
/// Longer than any quota takes to refill, and longer than failures of an address are remembered.
const LONG: Duration = Duration::from_hours(2);

/// The time that the store gets for cleaning up after that.
const SETTLING: Duration = Duration::from_secs(15);

/// The kinds of keys.
const REQUESTS: &str = "requests";
/// How many failures are counted, and by how many clients at once.
const FAILED: u32 = 10_000;
const FAILING: u32 = 64;

fn settings(directory: &TempDir) -> Settings {
    let mut settings = Settings::default();
    settings.http.port = 0;
    settings.storage.data_dir = directory.path().into();
    // No call is refused, because a refusal would be faster.
    settings.limits.public.permits = NonZeroU32::MAX;
    settings.limits.address_failures = u32::MAX;
    settings
}

/// Returns a different address for each number. Neighbouring numbers give distant addresses.
fn address(number: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from_bits(number.wrapping_mul(2_654_435_761)))
}

pub(crate) async fn run(extent: Extent) {
    costs(extent).await;
    let rows = vec![memory_of(REQUESTS, extent.keys)];
    let head =
        ["keys", "how many", "before", "full", "the keys", "forgotten", "a while later", "filling", "forgetting"];
    println!("\n{}", table(&head, &rows));
}

async fn costs(extent: Extent) {
    let directory = TempDir::new().unwrap();
    let app = App::build_with(settings(&directory), Ambient::default()).await.unwrap();
    let limits = app.handles().limits.clone();
    let cores = u32::try_from(std::thread::available_parallelism().unwrap().get()).unwrap();
    let keys = extent.keys;
    let check = |limits: &RateLimiterHandle, number| assert!(limits.check_public(address(number)).is_ok());
    // Before the others: these keys are new once.
    let fresh = time(1, keys, |number| check(&limits, number));
    let cost = |call: &(dyn Fn(u32) + Sync)| {
        let of = |threads| median(&(0..extent.rounds).map(|_| time(threads, CALLS, call)).collect::<Vec<_>>());
        [of(1), of(cores)].map(nanos)
    };
    let mut rows = vec![vec!["`check_public`, an address for the first time".to_owned(), nanos(fresh), "–".to_owned()]];
    let mut row = |what: &str, call: &(dyn Fn(u32) + Sync)| {
        let [one, all] = cost(call);
        rows.push(vec![what.to_owned(), one, all]);
    };
    row("`check_public`, one of many addresses", &|number| check(&limits, number % keys));
    row("`check_public`, one address", &|_| check(&limits, 7));
    row("the deny-list alone, which is all that `/verify` asks", &|number| {
        assert!(limits.check_denied(address(number)).is_ok());
    });
    rows.push(vec![
        "`count_failure`, one of many addresses, durable".to_owned(),
        nanos(failures(&limits, 1).await),
        nanos(failures(&limits, FAILING).await),
    ]);
    println!("\n{}", table(&["call", "one thread", "all cores at once, or 64 tasks"], &rows));
}

/// How long it takes to count a failure, in nanoseconds, while so many clients fail at once.
async fn failures(limits: &RateLimiterHandle, at_once: u32) -> f64 {
    let began = Instant::now();
    let client = |first: u32| {
        let limits = limits.clone();
        async move {
            for number in (first..FAILED).step_by(usize::try_from(at_once).unwrap()) {
                limits.count_failure(ProtectedResource::ServiceToken, address(number)).await.unwrap().unwrap();
            }
        }
    };
    let clients: Vec<_> = (0..at_once).map(|first| tokio::spawn(client(first))).collect();
    for client in clients {
        client.await.unwrap();
    }
    began.elapsed().as_secs_f64() * 1e9 / f64::from(FAILED)
}

/// Returns the nanoseconds of a call while this number of threads make this number of calls each.
fn time(threads: u32, calls: u32, call: impl Fn(u32) + Sync) -> f64 {
    let run = |thread: u32| {
        let began = Instant::now();
        for number in 0..calls {
            // With several threads, each uses another key at any moment.
            call(number.wrapping_add(thread * (calls / threads)));
        }
        began.elapsed().as_secs_f64() * 1e9 / f64::from(calls)
    };
    let each: Vec<f64> = std::thread::scope(|scope| {
        let run = &run;
        let running: Vec<_> = (0..threads).map(|thread| scope.spawn(move || run(thread))).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    each.iter().sum::<f64>() / f64::from(threads)
}

fn nanos(nanos: f64) -> String {
    format!("{nanos:.0} ns")
}

/// Returns a row of the table, measured in a process of its own.
fn memory_of(kind: &str, keys: u32) -> Vec<String> {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg(format!("{MEMORY}{kind}")).arg(keys.to_string()).stderr(Stdio::inherit());
    let report = command.output().unwrap();
    assert!(report.status.success(), "the process that measures memory failed");
    String::from_utf8(report.stdout).unwrap().trim().split('\t').map(str::to_owned).collect()
}

/// Measures the memory of this number of keys and prints the cells of the row. Runs in a process of its own.
pub(crate) fn measure_memory(kind: &str, keys: u32) {
    // This runtime only runs when called, so no timer stores or forgets anything in between.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let directory = TempDir::new().unwrap();
    let clock = Arc::new(ManualClock::new());
    let ambient = Ambient { clock: Arc::clone(&clock) as _, ..Ambient::default() };
    let app = runtime.block_on(App::build_with(settings(&directory), ambient)).unwrap();
    let handles = app.handles().clone();
    let own = Process::own();
    let seconds = |work: &dyn Fn()| {
        let began = Instant::now();
        work();
        began.elapsed().as_secs_f64()
    };
    // Storing a million counters takes longer than the deadline of the request to the actor, so the call is repeated.
    let tend = || runtime.block_on(async { while handles.tend_limits().await.is_err() {} });

    tend();
    let before = own.resident_mib();
    let filling = seconds(&|| {
        for number in 0..keys {
            assert!(handles.limits.check_public(address(number)).is_ok());
        }
    });
    let full = own.resident_mib();
    clock.advance(LONG);
    let forgetting = seconds(&tend);
    let forgotten = own.resident_mib();
    runtime.block_on(async { tokio::time::sleep(SETTLING).await });
    let settled = own.resident_mib();

    let mib = |mib: f64| format!("{mib:.1} MiB");
    let time = |seconds: f64| format!("{seconds:.2} s");
    let sizes = [before, full, full - before, forgotten, settled].map(mib);
    let times = [filling, forgetting].map(time);
    println!("{kind}\t{keys}\t{}\t{}", sizes.join("\t"), times.join("\t"));
}
