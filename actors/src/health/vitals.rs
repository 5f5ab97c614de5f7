//! What is counted of one actor.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{ActorHealth, Times};
use crate::domain::time::Timestamp;
use crate::ports::Clock;

/// Marks a time that has not occurred yet.
const NEVER: i64 = i64::MIN;
/// The same for a time on the monotonic clock, in nanoseconds.
const NOT_YET: u64 = u64::MAX;
/// The number of messages after which only every [`TIMED`]-th is timed. An actor that handles fewer has all of them timed.
const TIMED_ALL: u64 = 1024;
/// See [`TIMED_ALL`]. Reading the clock twice for each message would cost a busy session shard more than the counting.
const TIMED: u64 = 8;
/// How far back restarts count as recent.
pub(super) const RECENT: Duration = Duration::from_mins(1);
/// The maximum number of recent restarts that are remembered. The supervisor gives up earlier.
const MAX_RECENT: usize = 32;

/// Whether an actor runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum ActorState {
    Starting = 0,
    Running = 1,
    Restarting = 2,
    Stopped = 3,
}

impl ActorState {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Restarting => "restarting",
            Self::Stopped => "stopped",
        }
    }
}

/// The vital signs of one actor. They outlive its incarnations. Any thread may read them at any time.
pub(crate) struct Vitals {
    name: String,
    parent: Option<&'static str>,
    state: AtomicU8,
    started_at: AtomicI64,
    handled: AtomicU64,
    failed: AtomicU64,
    restarts: AtomicU64,
    last_restart: AtomicI64,
    /// When it last finished a message, on the monotonic clock, in nanoseconds.
    last_progress: AtomicU64,
    times: Times,
    failures: Mutex<Failures>,
}

/// What is known of the failures of an actor. No message waits for this lock unless the actor fails.
#[derive(Default)]
struct Failures {
    last: Option<String>,
    /// Why the actor itself last ended, whether it was started again or not.
    last_crash: Option<String>,
    /// Why it was last restarted.
    last_restart: Option<String>,
    /// The times of recent restarts, on the monotonic clock.
    restarts: VecDeque<Duration>,
}

impl Vitals {
    /// Creates the vital signs of an actor below the supervisor.
    pub(crate) fn new(name: impl Into<String>) -> Arc<Self> {
        Self::below(name, Some(super::SUPERVISOR))
    }

    /// Creates the vital signs of an actor below another one, or of the root of the tree.
    pub(crate) fn below(name: impl Into<String>, parent: Option<&'static str>) -> Arc<Self> {
        Arc::new(Self {
            name: name.into(),
            parent,
            state: AtomicU8::new(ActorState::Starting as u8),
            started_at: AtomicI64::new(NEVER),
            handled: AtomicU64::new(0),
            failed: AtomicU64::new(0),
            restarts: AtomicU64::new(0),
            last_restart: AtomicI64::new(NEVER),
            last_progress: AtomicU64::new(NOT_YET),
            times: Times::of_times(),
            failures: Mutex::default(),
        })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn set_state(&self, state: ActorState) {
        self.state.store(state as u8, Ordering::Relaxed);
    }

    /// Returns how many messages were handled.
    pub(crate) fn handled(&self) -> u64 {
        self.handled.load(Ordering::Relaxed)
    }

    /// Notes that an incarnation is ready for messages.
    pub(crate) fn started(&self, clock: &dyn Clock) {
        let now = clock.now();
        self.set_state(ActorState::Running);
        if self.started_at.swap(now.as_millis(), Ordering::Relaxed) != NEVER {
            self.restarts.fetch_add(1, Ordering::Relaxed);
            self.last_restart.store(now.as_millis(), Ordering::Relaxed);
            let mut failures = self.failures();
            let cause = failures.last_crash.clone();
            failures.last_restart = cause;
            if failures.restarts.len() == MAX_RECENT {
                failures.restarts.pop_front();
            }
            failures.restarts.push_back(clock.monotonic());
        }
    }

    /// Returns the time at which the actor takes a message, if this message is timed.
    pub(crate) fn begins(&self, clock: &dyn Clock) -> Option<Duration> {
        let handled = self.handled.load(Ordering::Relaxed);
        (handled < TIMED_ALL || handled.is_multiple_of(TIMED)).then(|| clock.monotonic())
    }

    /// Notes that a message was handled.
    pub(crate) fn progressed(&self, began: Option<Duration>, clock: &dyn Clock) {
        let now = clock.monotonic();
        self.handled.fetch_add(1, Ordering::Relaxed);
        self.last_progress.store(nanos(now), Ordering::Relaxed);
        if let Some(began) = began {
            self.times.count_time(now.saturating_sub(began));
        }
    }

    /// Notes that a message or a piece of work failed.
    pub(crate) fn failed(&self, cause: String) {
        self.failed.fetch_add(1, Ordering::Relaxed);
        self.failures().last = Some(cause);
    }

    /// Notes that the actor itself failed.
    pub(crate) fn crashed(&self, cause: String) {
        self.failures().last_crash = Some(cause.clone());
        self.failed(cause);
    }

    /// Returns the report, given how many letters wait and for how long the oldest has waited.
    pub(crate) fn report(&self, clock: &dyn Clock, (mailbox, oldest): (u64, Duration)) -> ActorHealth {
        let (now, monotonic) = (clock.now(), clock.monotonic());
        let time = |at: &AtomicI64| match at.load(Ordering::Relaxed) {
            NEVER => None,
            millis => Some(Timestamp::from_millis(millis)),
        };
        let state = match self.state.load(Ordering::Relaxed) {
            0 => ActorState::Starting,
            1 => ActorState::Running,
            2 => ActorState::Restarting,
            _ => ActorState::Stopped,
        };
        let progress = self.last_progress.load(Ordering::Relaxed);
        let idle = (progress != NOT_YET).then(|| monotonic.saturating_sub(Duration::from_nanos(progress)));
        let mut failures = self.failures();
        failures.restarts.retain(|at| monotonic.saturating_sub(*at) < RECENT);
        ActorHealth {
            name: self.name.clone(),
            parent: self.parent,
            state: state.as_str(),
            uptime: time(&self.started_at)
                .filter(|_| state == ActorState::Running)
                .map_or(Duration::ZERO, |started| now.since(started)),
            mailbox,
            oldest_message: (mailbox > 0).then_some(oldest),
            handled: self.handled.load(Ordering::Relaxed),
            failed: self.failed.load(Ordering::Relaxed),
            restarts: self.restarts.load(Ordering::Relaxed),
            recent_restarts: failures.restarts.len(),
            last_restart: time(&self.last_restart),
            last_restart_cause: failures.last_restart.clone(),
            last_failure: failures.last.clone(),
            last_progress: idle.map(|idle| now.minus(idle)),
            since_progress: idle,
            handling: self.times.read(),
        }
    }

    fn failures(&self) -> MutexGuard<'_, Failures> {
        self.failures.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(NOT_YET - 1)
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use super::*;
    use crate::testing::ManualClock;

    #[test]
    fn a_busy_actor_has_every_eighth_message_timed_and_others_all_of_them() {
        let (vitals, clock) = (Vitals::new("x"), ManualClock::new());
        for _ in 0..TIMED_ALL + 80 {
            let began = vitals.begins(&clock);
            clock.advance(Duration::from_micros(1));
            vitals.progressed(began, &clock);
        }
        let report = vitals.report(&clock, (0, Duration::ZERO));
        assert_eq!(report.handled, TIMED_ALL + 80);
        assert_eq!((report.handling.count(), report.handling.sum()), (TIMED_ALL + 10, (TIMED_ALL + 10) * 1_000));
        assert_eq!(report.last_progress, Some(clock.now()));
    }

    #[test]
    fn restarts_are_recent_for_a_minute_and_have_the_cause_of_the_crash() {
        let (vitals, clock) = (Vitals::new("x"), ManualClock::new());
        vitals.started(&clock);
        vitals.crashed("first".to_owned());
        clock.advance(Duration::from_secs(30));
        vitals.started(&clock);
        vitals.failed("a flow panicked".to_owned());
        let report = vitals.report(&clock, (0, Duration::ZERO));
        assert_eq!((report.restarts, report.recent_restarts, report.failed), (1, 1, 2));
        assert_eq!(report.last_restart, Some(clock.now()));
        assert_eq!(report.last_restart_cause.as_deref(), Some("first"));
        assert_eq!(report.last_failure.as_deref(), Some("a flow panicked"));
        clock.advance(RECENT);
        let report = vitals.report(&clock, (0, Duration::ZERO));
        assert_eq!((report.restarts, report.recent_restarts), (1, 0));
    }
}
