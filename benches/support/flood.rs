//! Logins from one thread with many connections, either at a fixed rate that waits for no answer, or as fast as they
//! are answered.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::{JoinSet, LocalSet};

use super::Server;
use super::accounts::{Group, PASSWORD, login};
use super::answer::Answer;
use super::schedule::Schedule;
use super::wire::TaskWire;

/// The maximum number of requests in flight. The server holds fewer and refuses the rest at once. Requests that are due
/// beyond this number count as errors.
const MOST: usize = 4096;
/// The interval at which a thread with a fixed rate checks which requests are due.
const TICK: Duration = Duration::from_millis(1);

/// The results of the logins.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// The number of logins sent.
    pub(crate) sent: u64,
    /// Sessions opened within the time.
    pub(crate) opened: u64,
    /// Sessions opened after the time, by requests that were sent within it.
    pub(crate) opened_late: u64,
    /// Answers with status 503.
    pub(crate) refused: u64,
    /// Answers with status 503 and no `Retry-After` of at least one second.
    pub(crate) refused_silently: u64,
    /// The shortest and the longest `Retry-After`, in seconds.
    pub(crate) retry_after: Option<(u64, u64)>,
    /// Answers with status 429.
    pub(crate) limited: u64,
    /// Any other answer.
    pub(crate) others: u64,
    /// Failed or broken connections, missing answers, and requests that were due but not sent.
    pub(crate) errors: u64,
    /// The times that the successful logins took, in milliseconds.
    pub(crate) took: Vec<f64>,
}

impl Tally {
    fn add(&mut self, answer: Option<&Answer>, began: Instant, in_time: bool) {
        let Some(answer) = answer else {
            self.errors += 1;
            return;
        };
        match (answer.status, answer.retry_after) {
            (200, _) => {
                self.took.push(began.elapsed().as_secs_f64() * 1000.0);
                *(if in_time { &mut self.opened } else { &mut self.opened_late }) += 1;
            }
            (503, None | Some(0)) => {
                self.refused += 1;
                self.refused_silently += 1;
            }
            (503, Some(seconds)) => {
                self.refused += 1;
                let (least, most) = self.retry_after.unwrap_or((seconds, seconds));
                self.retry_after = Some((least.min(seconds), most.max(seconds)));
            }
            (429, _) => self.limited += 1,
            _ => self.others += 1,
        }
    }
}

/// The logins of many people.
#[derive(Clone)]
pub(crate) struct Flood {
    server: SocketAddr,
    /// One login for each account, in random order. They are sent in turn, so no account has two in flight.
    logins: Arc<Vec<Vec<u8>>>,
}

impl Flood {
    pub(crate) fn new(server: &Server, group: &Group) -> Self {
        let mut logins: Vec<_> = (0..group.count).map(|number| login(&group.email(number), PASSWORD)).collect();
        fastrand::Rng::with_seed(1).shuffle(&mut logins);
        Self { server: server.address(), logins: Arc::new(logins) }
    }

    /// Logs in on this number of connections, each as soon as its previous login is answered. Returns logins per
    /// second. Panics on any answer other than success.
    pub(crate) async fn capacity(&self, connections: usize, time: Duration) -> f64 {
        let tally = self.on_a_thread(move |sender| sender.saturate(connections, time)).await;
        assert_eq!(tally.refused + tally.limited + tally.others + tally.errors, 0, "{tally:?}");
        rate(tally.opened, time)
    }

    /// Sends this number of logins per second without waiting for answers, then waits for the last answer.
    pub(crate) async fn storm(&self, per_second: u32, time: Duration) -> Tally {
        self.on_a_thread(move |sender| sender.keep_up(per_second, time)).await
    }

    async fn on_a_thread<F: Future<Output = ()>>(&self, send: impl FnOnce(Rc<Sender>) -> F + Send + 'static) -> Tally {
        let flood = self.clone();
        let load = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let sender =
                Rc::new(Sender { flood, next: Cell::new(0), idle: RefCell::default(), tally: RefCell::default() });
            LocalSet::new().block_on(&runtime, send(Rc::clone(&sender)));
            sender.tally.take()
        };
        tokio::task::spawn_blocking(load).await.unwrap()
    }
}

/// Returns the rate per second.
pub(crate) fn rate(count: u64, time: Duration) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a benchmark sends few enough to be counted exactly")]
    let count = count as f64;
    count / time.as_secs_f64()
}

/// The state that the tasks of the thread share.
struct Sender {
    flood: Flood,
    next: Cell<usize>,
    idle: RefCell<Vec<TaskWire>>,
    tally: RefCell<Tally>,
}

impl Sender {
    async fn saturate(self: Rc<Self>, connections: usize, time: Duration) {
        let end = Instant::now() + time;
        let mut tasks = JoinSet::new();
        for _ in 0..connections {
            let sender = Rc::clone(&self);
            tasks.spawn_local(async move {
                while Instant::now() < end {
                    sender.log_in(Instant::now(), end).await;
                }
            });
        }
        tasks.join_all().await;
    }

    async fn keep_up(self: Rc<Self>, per_second: u32, time: Duration) {
        let schedule = Schedule::new(Instant::now(), per_second, time);
        let end = Instant::now() + time;
        let mut tasks = JoinSet::new();
        let mut number = 0;
        while number < schedule.len() {
            let due = schedule.due(Instant::now());
            for number in number..due {
                if tasks.len() < MOST {
                    let sender = Rc::clone(&self);
                    tasks.spawn_local(async move { sender.log_in(schedule.at(number), end).await });
                } else {
                    self.tally.borrow_mut().errors += 1;
                }
            }
            number = due;
            while tasks.try_join_next().is_some() {}
            tokio::time::sleep(TICK).await;
        }
        tasks.join_all().await;
    }

    /// Logs in the next person, on an idle connection or a new one.
    async fn log_in(&self, began: Instant, end: Instant) {
        let logins = &self.flood.logins;
        let number = self.next.replace(self.next.get() + 1);
        self.tally.borrow_mut().sent += 1;
        let answer = self.exchange(&logins[number % logins.len()]).await;
        self.tally.borrow_mut().add(answer.as_ref().ok(), began, Instant::now() <= end);
    }

    /// Sends a request on an idle connection. Uses a new one if none is idle or the server has closed it meanwhile, as
    /// every client does.
    async fn exchange(&self, request: &[u8]) -> io::Result<Answer> {
        let idle = self.idle.borrow_mut().pop();
        let mut answered = None;
        if let Some(mut wire) = idle {
            answered = wire.send(request).await.ok().map(|answer| (answer, wire));
        }
        let (answer, wire) = if let Some(answered) = answered {
            answered
        } else {
            let mut wire = TaskWire::connect(self.flood.server, None).await?;
            (wire.send(request).await?, wire)
        };
        if !answer.closes {
            self.idle.borrow_mut().push(wire);
        }
        Ok(answer)
    }
}
