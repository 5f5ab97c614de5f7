//! Records the order of events in a race and checks it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use tokio::task::JoinHandle;

/// A random source that can be repeated: `RACE_SEED` in the environment repeats a run, as far as the scheduling of
/// threads allows.
pub(super) struct Chance {
    rng: fastrand::Rng,
    /// Printed if the test fails. Only the first source of a test has it.
    seed: Option<u64>,
}

impl Chance {
    pub(super) fn of_the_test() -> Self {
        let given = std::env::var("RACE_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = given.unwrap_or_else(|| fastrand::u64(..));
        Self { rng: fastrand::Rng::with_seed(seed), seed: Some(seed) }
    }

    /// Returns an independent random source for another task.
    pub(super) fn fork(&mut self) -> Self {
        Self { rng: self.rng.fork(), seed: None }
    }

    pub(super) fn below(&mut self, n: usize) -> usize {
        self.rng.usize(..n)
    }

    /// Yields to other tasks a random number of times.
    pub(super) async fn dawdle(&mut self) {
        let most = 1 << self.rng.usize(..6);
        for _ in 0..self.rng.usize(..most) {
            tokio::task::yield_now().await;
        }
    }
}

impl Drop for Chance {
    #[expect(clippy::print_stderr, reason = "a test says how to repeat it")]
    fn drop(&mut self) {
        if let Some(seed) = self.seed.filter(|_| std::thread::panicking()) {
            eprintln!("this was RACE_SEED={seed}");
        }
    }
}

/// A race: one change and the tasks that watch it.
#[derive(Default)]
pub(super) struct Race {
    now: AtomicU64,
    over: AtomicBool,
    watching: AtomicUsize,
}

/// The logical times at which a request was sent and its answer arrived.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub(super) began: u64,
    pub(super) ended: u64,
}

/// One observation and its time.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    pub(super) span: Span,
    pub(super) alive: bool,
    /// The kind of check.
    pub(super) by: &'static str,
}

impl Race {
    /// Returns the next logical time. It increases across all threads.
    pub(super) fn moment(&self) -> u64 {
        self.now.fetch_add(1, Ordering::SeqCst)
    }

    /// Runs work and returns its span and its result.
    pub(super) async fn time<T>(&self, work: impl Future<Output = T>) -> (Span, T) {
        let began = self.moment();
        let done = work.await;
        (Span { began, ended: self.moment() }, done)
    }

    /// Makes the change as soon as this number of tasks watch.
    pub(super) async fn change<T>(
        &self,
        watchers: usize,
        luck: &mut Chance,
        work: impl Future<Output = T>,
    ) -> (Span, T) {
        while self.watching.load(Ordering::SeqCst) < watchers {
            tokio::task::yield_now().await;
        }
        luck.dawdle().await;
        let done = self.time(work).await;
        self.over.store(true, Ordering::SeqCst);
        done
    }

    /// Starts a task that checks until one check began after the change was acknowledged. Returns the observations and
    /// the asker.
    pub(super) fn watch<A: Ask>(self: &Arc<Self>, mut luck: Chance, mut asker: A) -> JoinHandle<(Vec<Seen>, A)> {
        let race = Arc::clone(self);
        tokio::spawn(async move {
            let mut seen = Vec::new();
            loop {
                let last = race.over.load(Ordering::SeqCst);
                let (span, (by, alive)) = race.time(asker.ask(&mut luck)).await;
                if seen.is_empty() {
                    race.watching.fetch_add(1, Ordering::SeqCst);
                }
                seen.push(Seen { span, alive, by });
                if last {
                    return (seen, asker);
                }
                luck.dawdle().await;
            }
        })
    }
}

/// Checks whether something is alive.
pub(super) trait Ask: Send + 'static {
    /// Returns the kind of the check and its result.
    fn ask(&mut self, luck: &mut Chance) -> impl Future<Output = (&'static str, bool)> + Send;
}

/// Checks the observations of something that a change ended.
#[track_caller]
pub(super) fn judge(seen: &[Seen], end: Span, what: &str) {
    for seen in seen {
        if seen.span.ended < end.began {
            assert!(seen.alive, "{what}: {} said dead before the end was sent: {seen:?}, {end:?}", seen.by);
        }
        if seen.span.began > end.ended {
            assert!(!seen.alive, "{what}: {} said alive after the end was acknowledged: {seen:?}, {end:?}", seen.by);
        }
    }
    never_revived(seen, what);
}

/// Asserts that nothing is alive after it was seen dead.
#[track_caller]
pub(super) fn never_revived(seen: &[Seen], what: &str) {
    let dead = seen.iter().filter(|seen| !seen.alive).min_by_key(|seen| seen.span.ended);
    let alive = seen.iter().filter(|seen| seen.alive).max_by_key(|seen| seen.span.began);
    if let (Some(dead), Some(alive)) = (dead, alive) {
        assert!(
            alive.span.began < dead.span.ended,
            "{what}: {} said alive after {} said dead: {dead:?}, {alive:?}",
            alive.by,
            dead.by
        );
    }
}
