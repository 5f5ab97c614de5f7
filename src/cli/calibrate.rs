//! `doorward calibrate`: measures the cost of a password hash on this machine.

use std::fmt::Write as _;
use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::time::Duration;

use doorward_actors::ports::Clock;
use doorward_actors::{CalibrationError, HashBackend, HashCost, pace_of};

use super::{CalibrateArgs, complain};
use crate::ambient::{SystemClock, SystemEntropy};

/// The minimum cost that the settings accept (ASVS 11.4.2).
const FLOOR: HashCost = HashCost { memory_kib: 19_456, iterations: 2 };
/// The memory costs to measure after the floor, in KiB.
const MEMORY_STEPS: [u32; 5] = [32_768, 65_536, 131_072, 262_144, 524_288];
/// The maximum number of passes that the settings accept.
const MAX_ITERATIONS: u32 = 16;
/// The maximum number of threads that the settings accept.
const MAX_THREADS: usize = 64;
/// How long one measurement lasts after its warm-up. A slow hash takes longer.
const MEASURE_FOR: Duration = Duration::from_millis(600);
/// No further measurement begins after this time.
const ENOUGH: Duration = Duration::from_secs(10);
/// The usable memory if the system does not report its memory, in KiB.
const UNKNOWN_MEMORY_KIB: u64 = 1 << 20;

/// One row of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Measured {
    cost: HashCost,
    /// The time of one hash while every thread computes one.
    pace: Duration,
}

/// Measures, and prints a table and the lines for a `.env` file.
pub(super) fn run(args: CalibrateArgs) -> ExitCode {
    let threads = args.threads.map_or_else(
        || std::thread::available_parallelism().map_or(1, NonZeroUsize::get).min(MAX_THREADS),
        usize::from,
    );
    let target = Duration::from_millis(u64::from(args.target_ms));
    let clock = SystemClock::new();
    let backend = HashBackend::choose(args.backend, &SystemEntropy);
    let mut measure = |cost| pace_of(cost, backend, threads, MEASURE_FOR, &clock, &SystemEntropy);
    let began = clock.monotonic();
    let out_of_time = || clock.monotonic().saturating_sub(began) > ENOUGH;
    let rows = match rows(threads, target, usable_memory_kib(), &mut measure, &out_of_time) {
        Ok(rows) => rows,
        Err(error) => {
            complain(&error);
            return ExitCode::FAILURE;
        }
    };
    super::print(&report(backend, threads, target, &rows));
    ExitCode::SUCCESS
}

/// Measures the floor first. Then measures more memory, as far as time and memory allow, because memory costs an attacker most
/// (RFC 9106 §4). Finally takes the most expensive cost that stays below the target and measures it with as many passes as fit.
fn rows(
    threads: usize,
    target: Duration,
    usable_kib: u64,
    measure: &mut impl FnMut(HashCost) -> Result<Duration, CalibrationError>,
    out_of_time: &impl Fn() -> bool,
) -> Result<Vec<Measured>, CalibrationError> {
    let mut row = |cost| Ok(Measured { cost, pace: measure(cost)? });
    let mut rows = vec![row(FLOOR)?];
    for memory_kib in MEMORY_STEPS {
        let last = rows.last().map_or(Duration::ZERO, |row| row.pace);
        if last > target || out_of_time() || ceiling_kib(threads, memory_kib) > usable_kib {
            break;
        }
        rows.push(row(HashCost { memory_kib, ..FLOOR })?);
    }
    let best = suggestion(target, &rows);
    let passes = best.pace / best.cost.iterations;
    let fitting = target.as_nanos().checked_div(passes.as_nanos()).and_then(|fitting| u32::try_from(fitting).ok());
    let iterations = fitting.unwrap_or(FLOOR.iterations).clamp(FLOOR.iterations, MAX_ITERATIONS);
    if iterations > best.cost.iterations && !out_of_time() {
        rows.push(row(HashCost { iterations, ..best.cost })?);
    }
    Ok(rows)
}

/// Returns the most expensive cost that stays within the target; the floor if none does.
fn suggestion(target: Duration, rows: &[Measured]) -> Measured {
    let floor = Measured { cost: FLOOR, pace: Duration::MAX };
    let first = rows.first().copied().unwrap_or(floor);
    rows.iter().copied().filter(|row| row.pace <= target).max_by_key(|row| row.pace).unwrap_or(first)
}

fn ceiling_kib(threads: usize, memory_kib: u32) -> u64 {
    u64::from(memory_kib).saturating_mul(threads as u64)
}

/// Formats the output.
fn report(backend: HashBackend, threads: usize, target: Duration, rows: &[Measured]) -> String {
    let mut text = String::new();
    let mut line = |line: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{line}");
    };
    line(format!(
        "argon2id ({}) with {threads} threads at once; the target is {} ms a hash.",
        backend.name(),
        target.as_millis()
    ));
    line(String::new());
    line("memory a hash   passes   time a hash   memory of all threads   logins a second".to_owned());
    for Measured { cost, pace } in rows {
        let millis = pace.as_secs_f64() * 1000.0;
        let rate = f64::from(u32::try_from(threads).unwrap_or(u32::MAX)) / pace.as_secs_f64().max(f64::EPSILON);
        let ceiling = ceiling_kib(threads, cost.memory_kib) / 1024;
        line(format!(
            "{:>10} KiB {:>8} {millis:>10.1} ms {ceiling:>19} MiB {rate:>17.1}",
            cost.memory_kib, cost.iterations
        ));
    }
    let Measured { cost, pace } = suggestion(target, rows);
    line(String::new());
    if pace > target {
        line(format!(
            "Even the least that Doorward takes needs {:.1} ms here, more than the target. A cheaper hash is not offered: it would \
             protect\nnobody. Use fewer threads, a faster machine, or expect fewer logins a second.",
            pace.as_secs_f64() * 1000.0
        ));
        line(String::new());
    }
    line(format!("HASH_MEMORY_KIB={}", cost.memory_kib));
    line(format!("HASH_ITERATIONS={}", cost.iterations));
    line(format!("HASH_THREADS={threads}"));
    text
}

/// Returns a quarter of the memory that is available to this process, in KiB. The rest is for other processes.
/// Reads what Linux reports for the machine and for the container.
fn usable_memory_kib() -> u64 {
    let machine = std::fs::read_to_string("/proc/meminfo").ok().as_deref().and_then(available_kib);
    let container = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok();
    let container = container.and_then(|limit| limit.trim().parse::<u64>().ok()).map(|bytes| bytes / 1024);
    match (machine, container) {
        (Some(machine), Some(container)) => machine.min(container) / 4,
        (Some(there), None) | (None, Some(there)) => there / 4,
        (None, None) => UNKNOWN_MEMORY_KIB,
    }
}

fn available_kib(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    const PLENTY: u64 = 1 << 40;

    /// Simulates a machine on which one pass over one MiB takes this many microseconds.
    fn measured(micros: u64, target_ms: u64, usable: u64, measurements: u32) -> Vec<Measured> {
        let count = Cell::new(0);
        let mut measure = |cost: HashCost| {
            count.set(count.get() + 1);
            let work = u64::from(cost.memory_kib) * u64::from(cost.iterations);
            Ok(Duration::from_micros(work * micros / 1024))
        };
        rows(2, Duration::from_millis(target_ms), usable, &mut measure, &|| count.get() >= measurements).unwrap()
    }

    fn suggested(rows: &[Measured], target_ms: u64) -> (u32, u32) {
        let cost = suggestion(Duration::from_millis(target_ms), rows).cost;
        (cost.memory_kib, cost.iterations)
    }

    #[test]
    fn memory_grows_first_and_then_the_passes_up_to_the_target() {
        let rows = measured(600, 250, PLENTY, 99);
        assert_eq!(suggested(&rows, 250), (131_072, 3));
        assert!(rows.iter().all(|row| row.cost.memory_kib >= 19_456 && row.cost.iterations >= 2));
        assert_eq!(suggested(&measured(600, 25, PLENTY, 99), 25), (19_456, 2));
        assert_eq!(suggested(&measured(1, 10_000, PLENTY, 99), 10_000), (524_288, 16), "never more passes than 16");
    }

    #[test]
    fn memory_that_is_not_there_is_neither_used_nor_suggested() {
        let rows = measured(600, 250, 200 * 1024, 99);
        assert!(rows.iter().all(|row| row.cost.memory_kib <= 100 * 1024), "{rows:?}");
        assert_eq!(suggested(&rows, 250), (65_536, 6));
    }

    #[test]
    fn s01_a_slow_machine_gets_the_floor_and_is_told_so() {
        let rows = measured(20_000, 250, PLENTY, 99);
        assert_eq!(rows.len(), 1, "nothing dearer is tried");
        assert_eq!(suggested(&rows, 250), (19_456, 2));
        let text = report(HashBackend::Portable, 2, Duration::from_millis(250), &rows);
        assert!(
            text.contains("Even the least that Doorward takes needs 760.0 ms here, more than the target."),
            "{text}"
        );
        assert!(text.ends_with("HASH_MEMORY_KIB=19456\nHASH_ITERATIONS=2\nHASH_THREADS=2\n"), "{text}");
    }

    #[test]
    fn the_measuring_ends_when_its_time_is_over() {
        assert_eq!(measured(1, 10_000, PLENTY, 2).len(), 2);
    }

    #[test]
    fn the_table_says_what_a_cost_comes_to() {
        let rows = [Measured { cost: FLOOR, pace: Duration::from_millis(25) }];
        let text = report(HashBackend::Portable, 4, Duration::from_millis(250), &rows);
        assert!(
            text.contains("     19456 KiB        2       25.0 ms                  76 MiB             160.0"),
            "{text}"
        );
        assert!(!text.contains("Even"), "{text}");
        assert!(text.starts_with("argon2id (portable) with 4 threads at once; "), "{text}");
    }

    #[test]
    fn the_memory_of_the_machine_is_read() {
        assert_eq!(available_kib("MemTotal:  100 kB\nMemAvailable:    52428 kB\nCached: 1 kB\n"), Some(52_428));
        assert_eq!(available_kib("MemTotal:  100 kB\n"), None);
    }
}
