//! Tests of the functions that benchmarks compute with. `cargo bench` itself does not test them.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a helper of a benchmark stops at the first surprise")]

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use proptest::prelude::*;

#[path = "../benches/support/answer.rs"]
mod answer;
#[path = "../benches/support/process.rs"]
mod process;
#[path = "../benches/support/schedule.rs"]
mod schedule;
#[path = "../benches/support/statistics.rs"]
mod statistics;
#[path = "../benches/support/table.rs"]
mod table;

use answer::{Answer, request};
use process::{Process, cpu_seconds_of, mib_of};
use schedule::{Schedule, wait_until};
use statistics::{Latencies, auc, median, quantile};

#[test]
fn quantiles_are_measurements_by_nearest_rank() {
    let hundred: Vec<f64> = (1..=100).map(f64::from).collect();
    assert_eq!(quantile(&hundred, 0.5).to_bits(), 50_f64.to_bits());
    assert_eq!(quantile(&hundred, 0.99).to_bits(), 99_f64.to_bits());
    assert_eq!(quantile(&hundred, 0.999).to_bits(), 100_f64.to_bits());
    assert_eq!(quantile(&[7.0], 0.01).to_bits(), 7_f64.to_bits());
    assert_eq!(median(&[9.0, 1.0, 5.0]).to_bits(), 5_f64.to_bits());
    let latencies = Latencies::new(vec![3.0, 1.0, 2.0]);
    assert_eq!((latencies.within(0.5), latencies.longest()), (2.0, 3.0));
}

proptest! {
    /// The fast calculation equals the comparison of all pairs.
    #[test]
    fn auc_is_the_share_of_pairs(
        these in prop::collection::vec(0_u8..20, 1..40),
        others in prop::collection::vec(0_u8..20, 1..40),
    ) {
        let (these, others): (Vec<f64>, Vec<f64>) =
            (these.into_iter().map(f64::from).collect(), others.into_iter().map(f64::from).collect());
        let mut won = 0.0;
        for this in &these {
            for other in &others {
                won += if this > other { 1.0 } else if this < other { 0.0 } else { 0.5 };
            }
        }
        let pairs = f64::from(u32::try_from(these.len() * others.len()).unwrap());
        prop_assert!((auc(&these, &others) - won / pairs).abs() < 1e-9);
        prop_assert!((auc(&these, &others) + auc(&others, &these) - 1.0).abs() < 1e-9);
    }

    /// Threads that take turns cover each moment exactly once. `due` counts exactly the moments that are not later than
    /// now.
    #[test]
    fn threads_share_a_schedule(per_second in 1_u32..5_000, millis in 1_u64..3_000, threads in 1_u32..9) {
        let began = Instant::now();
        let schedule = Schedule::new(began, per_second, Duration::from_millis(millis));
        prop_assert_eq!(u64::from(schedule.len()), u64::from(per_second) * millis / 1000);
        let mut shared: Vec<Instant> =
            (0..threads).flat_map(|thread| schedule.of_thread(thread, threads)).collect();
        shared.sort();
        let moments: Vec<Instant> = (0..schedule.len()).map(|number| schedule.at(number)).collect();
        prop_assert_eq!(&shared, &moments);
        for (number, moment) in (1..).zip(&moments) {
            // A moment is a whole number of nanoseconds and may be earlier than the exact one by less than one
            // nanosecond.
            prop_assert!(schedule.due(*moment + Duration::from_nanos(1)) >= number);
            if let Some(earlier) = moment.checked_sub(Duration::from_nanos(1)) {
                prop_assert!(schedule.due(earlier) <= number);
            }
        }
        prop_assert_eq!(schedule.due(began + Duration::from_hours(1)), schedule.len());
    }
}

#[test]
fn waiting_ends_no_earlier_than_asked() {
    let moment = Instant::now() + Duration::from_millis(3);
    wait_until(moment);
    assert!(Instant::now() >= moment);
    wait_until(moment);
}

#[test]
fn requests_are_what_a_server_reads() {
    let sent = request("POST", "/login", &[("X-Service-Token", "secret")], Some("{}"));
    assert_eq!(
        String::from_utf8(sent).unwrap(),
        "POST /login HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Service-Token: secret\r\nContent-Type: application/json\r\n\
         Content-Length: 2\r\n\r\n{}"
    );
    assert!(!String::from_utf8(request("GET", "/", &[], None)).unwrap().contains("Content"));
}

#[test]
fn an_answer_is_read_once_it_is_whole() {
    let whole = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 2\r\ncontent-length: 4\r\nConnection: close\r\n\r\nbusyHTTP/1.1";
    let end = whole.len() - "HTTP/1.1".len();
    for cut in 0..end {
        assert_eq!(Answer::parse(&whole[..cut]), None, "{cut}");
    }
    let expected = Answer { status: 503, retry_after: Some(2), closes: true, body: b"busy".to_vec() };
    assert_eq!(Answer::parse(whole), Some((expected, end)));
    let (plain, _) = Answer::parse(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").unwrap();
    assert_eq!((plain.retry_after, plain.closes, plain.body.len()), (None, false, 0));
}

#[test]
fn the_kernel_is_understood() {
    assert_eq!(mib_of("VmHWM:\t    4096 kB\nVmRSS:\t    2048 kB\n", "VmRSS:").to_bits(), 2_f64.to_bits());
    let stat = "7 (a) b) S 1 7 7 0 -1 4194560 100 0 0 0 150 50 0 0 20 0 8 0 1 1 1";
    assert_eq!(cpu_seconds_of(stat).to_bits(), 2_f64.to_bits());
    let own = Process::own();
    assert!(own.resident_mib() > 0.5 && own.cpu_seconds() >= 0.0);
    let mut much = vec![0_u8; 64 << 20];
    std::io::repeat(1).read_exact(&mut much).unwrap();
    std::io::sink().write_all(&much).unwrap();
    assert!(own.peak_mib() > 64.0);
    drop(much);
    own.forget_peak();
    assert!(own.peak_mib() < own.resident_mib() + 32.0);
}

#[test]
fn tables_have_a_head_and_rows() {
    let text = table::table(&["what", "how much"], &[vec!["a".to_owned(), "1".to_owned()]]);
    assert_eq!(text, "| what | how much |\n|---|---|\n| a | 1 |\n");
}
