//! Requests at a fixed rate that slow answers do not delay, and the time that each took.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Server;
use super::accounts::{Group, PASSWORD, login};
use super::answer::request;
use super::schedule::{Schedule, wait_until};
use super::server::SERVICE_TOKEN;
use super::statistics::Latencies;
use super::wire::Wire;

/// The number of connections, which take turns. A late answer delays the next request of its connection. The time of
/// that request counts from when it was due.
const THREADS: u32 = 8;
/// The time until the first request is due. By then all threads have connected.
const LEAD: Duration = Duration::from_millis(50);

/// The result of one request.
enum Outcome {
    Success(f64),
    /// An answer other than 200, or none.
    Failure,
}

/// The answers of a route.
pub(crate) struct Report {
    /// The times from the moment when each request was due to its complete answer.
    pub(crate) latencies: Latencies,
    /// The number of answers other than 200 and of requests without an answer.
    pub(crate) failures: usize,
}

/// Requests to one route, sent in turn.
#[derive(Clone)]
pub(crate) struct Probe {
    server: SocketAddr,
    requests: Arc<Vec<Vec<u8>>>,
}

impl Probe {
    pub(crate) fn new(server: &Server, requests: Vec<Vec<u8>>) -> Self {
        Self { server: server.address(), requests: Arc::new(requests) }
    }

    /// Token checks of the first accounts of a group, each with its own session.
    pub(crate) fn checks(server: &Server, group: &Group, sessions: usize) -> Self {
        let mut wire = Wire::connect(server.address()).unwrap();
        let mut check = |number| {
            let answer = wire.send(&login(&group.email(number), PASSWORD)).unwrap();
            assert_eq!(answer.status, 200);
            let answer: serde_json::Value = serde_json::from_slice(&answer.body).unwrap();
            let bearer = format!("Bearer {}", answer["access_token"].as_str().unwrap());
            request("POST", "/verify", &[("X-Service-Token", SERVICE_TOKEN), ("Authorization", &bearer)], None)
        };
        Self::new(server, (0..sessions).map(&mut check).collect())
    }

    /// Sends this number of requests per second for this time and waits for the answers. Runs on a blocking thread.
    pub(crate) async fn run(&self, per_second: u32, time: Duration) -> Report {
        let probe = self.clone();
        tokio::task::spawn_blocking(move || probe.measure(per_second, time)).await.unwrap()
    }

    fn measure(&self, per_second: u32, time: Duration) -> Report {
        let schedule = Schedule::new(Instant::now() + LEAD, per_second, time);
        let outcomes: Vec<Outcome> = std::thread::scope(|scope| {
            let of_thread = |thread| move || self.take_turns(schedule.of_thread(thread, THREADS), thread);
            let running: Vec<_> = (0..THREADS).map(|thread| scope.spawn(of_thread(thread))).collect();
            running.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        let failures = outcomes.iter().filter(|outcome| matches!(outcome, Outcome::Failure)).count();
        let took = |outcome| if let Outcome::Success(millis) = outcome { Some(millis) } else { None };
        Report { latencies: Latencies::new(outcomes.into_iter().filter_map(took).collect()), failures }
    }

    fn take_turns(&self, moments: impl Iterator<Item = Instant>, thread: u32) -> Vec<Outcome> {
        let connect = || Wire::connect(self.server).ok();
        let mut wire = connect();
        let of_thread = self.requests.iter().cycle().skip(thread as usize).step_by(THREADS as usize);
        moments
            .zip(of_thread)
            .map(|(moment, request)| {
                wait_until(moment);
                let answer = wire.as_mut().and_then(|wire| wire.send(request).ok());
                let took = moment.elapsed().as_secs_f64() * 1000.0;
                if answer.as_ref().is_none_or(|answer| answer.closes) {
                    wire = connect();
                }
                match answer {
                    Some(answer) if answer.status == 200 => Outcome::Success(took),
                    _ => Outcome::Failure,
                }
            })
            .collect()
    }
}
