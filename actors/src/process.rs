//! The common parts of all actors: a mailbox that survives restarts, vital signs, and a host that maintains both.
//!
//! An actor implements [`Process`]. Its [`Mailbox`] keeps the queue, and hands one letter at a time to the running incarnation. So the
//! queue outlives an incarnation that crashes or freezes, and only the letter in its hands is lost. During a restart, letters wait.
//! Each incarnation has a number. One that was replaced gets no more letters, and what its tasks tell it is dropped.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::oneshot;

use crate::ask::AskError;
use crate::health::{ActorHealth, Letters, Vitals};
use crate::ports::Clock;

/// The maximum number of letters that an actor handles before it looks for a signal to stop.
const BATCH: usize = 64;
/// The number of looks, one a second, after which an actor counts as frozen if it has had letters and finished none.
/// It is more than the 10 s for which a handler may wait for a commit. It counts looks and not seconds, so that no actor is taken for
/// frozen after the whole process was.
const FROZEN_LOOKS: u32 = 12;
/// The capacity of an empty queue above which its memory is given back.
const KEPT_CAPACITY: usize = 1024;

/// The channel for an answer. Dropping it tells the caller that there will be no answer.
pub(crate) type Reply<T> = oneshot::Sender<T>;

/// A kind of actor: how it starts, handles a message, and cleans up when it stops.
///
/// `Err` from [`Process::handle`] is a crash, like a panic: the supervisor restarts the actor, and the message is lost.
/// A refusal for the caller is sent in the reply instead.
pub(crate) trait Process: Send + Sync + 'static {
    type Message: Send + 'static;
    type State: Send + 'static;

    fn start(&self, mailbox: &OwnMailbox<Self::Message>) -> impl Future<Output = Result<Self::State, String>> + Send;

    fn handle(
        &self,
        state: &mut Self::State,
        message: Self::Message,
    ) -> impl Future<Output = Result<(), String>> + Send;

    /// Runs after the last message when the actor was drained, but not after a crash.
    fn stop(&self, _state: &mut Self::State) -> impl Future<Output = ()> + Send {
        async {}
    }
}

/// A message in the mailbox of an actor.
enum Letter<M> {
    Work(M),
    /// Answered by the host itself, which shows that the actor processes its mailbox.
    Ping(Reply<()>),
    /// Makes the actor fail, in tests of supervision.
    #[cfg(feature = "testing")]
    Fault(crate::testing::Fault),
}

/// Tells an actor that there are letters in its mailbox.
pub(crate) struct Wake;

/// The address of an actor, valid as long as the system runs.
pub(crate) struct Mailbox<M: Send + 'static> {
    queue: Mutex<Queue<M>>,
    /// The number of the incarnation that runs, or of the next one. It changes only while the queue is locked.
    incarnation: AtomicU64,
    letters: Letters,
    vitals: Arc<Vitals>,
}

struct Queue<M> {
    /// The waiting letters. A letter that an incarnation sent to itself has its number.
    letters: VecDeque<(Option<u64>, Letter<M>)>,
    /// The running incarnation. `None` before the first start, during a restart and after the stop.
    actor: Option<ActorRef<Wake>>,
    /// Whether the incarnation knows that there are letters.
    awake: bool,
    /// Whether no letter is taken any more.
    closed: bool,
    /// How many messages had been handled at the last look that found letters, and how many looks in a row found this number.
    looks: (u64, u32),
}

/// The view of a mailbox that does not depend on the kind of its messages.
pub(crate) trait AnyMailbox: Send + Sync {
    fn vitals(&self) -> &Arc<Vitals>;

    /// Looks at the actor, without asking it anything, and returns what it reports.
    fn report(&self, clock: &dyn Clock) -> ActorHealth;

    /// Checks that the actor takes a letter from its queue within the deadline.
    fn ping(&self, deadline: Duration) -> Pin<Box<dyn Future<Output = Result<(), AskError>> + Send + '_>>;

    /// Looks at the actor, once a second. Returns the number of the incarnation while it is frozen.
    fn find_frozen(&self) -> Option<u64>;

    /// Returns the number of the incarnation that runs, or of the next one.
    fn incarnation(&self) -> u64;

    /// Keeps the queue for the next incarnation. The present one gets no more letters.
    fn end_incarnation(&self);

    /// Refuses all further letters. The waiting ones are still handled if the actor runs.
    fn close(&self);

    /// Drops the waiting letters. Their callers get no answer.
    fn drop_letters(&self);

    #[cfg(feature = "testing")]
    fn inject(&self, fault: crate::testing::Fault) -> Result<(), AskError>;
}

impl<M: Send + 'static> Mailbox<M> {
    pub(crate) fn new(vitals: Arc<Vitals>) -> Arc<Self> {
        let queue = Queue { letters: VecDeque::new(), actor: None, awake: false, closed: false, looks: (0, 0) };
        Arc::new(Self { queue: Mutex::new(queue), incarnation: AtomicU64::new(1), letters: Letters::default(), vitals })
    }

    /// Sends a message without waiting.
    pub(crate) fn tell(&self, message: M) -> Result<(), AskError> {
        self.post(None, Letter::Work(message))
    }

    /// Sends a request and waits for its answer until the deadline.
    pub(crate) async fn ask<R>(&self, deadline: Duration, question: impl FnOnce(Reply<R>) -> M) -> Result<R, AskError> {
        let (reply, answer) = oneshot::channel();
        self.tell(question(reply))?;
        wait(deadline, answer).await
    }

    /// Queues a letter, from one incarnation to itself or from anyone to whichever incarnation runs next.
    fn post(&self, from: Option<u64>, letter: Letter<M>) -> Result<(), AskError> {
        let mut queue = self.lock();
        if queue.closed || from.is_some_and(|from| !self.is_current(from)) {
            return Err(AskError::NotRunning);
        }
        self.letters.sending();
        queue.letters.push_back((from, letter));
        queue.wake();
        Ok(())
    }

    /// Takes the next letter for this incarnation. `None` if there is none, or if the incarnation was replaced.
    fn take(&self, incarnation: u64) -> Option<Letter<M>> {
        let mut queue = self.lock();
        if !self.is_current(incarnation) {
            return None;
        }
        let Some((_, letter)) = queue.letters.pop_front() else {
            queue.awake = false;
            if queue.letters.capacity() > KEPT_CAPACITY {
                queue.letters = VecDeque::new();
            }
            return None;
        };
        self.letters.taken();
        Some(letter)
    }

    /// Notes that this incarnation is ready for letters.
    fn started(&self, incarnation: u64, actor: ActorRef<Wake>) {
        let mut queue = self.lock();
        if self.is_current(incarnation) {
            queue.actor = Some(actor);
            queue.awake = false;
            if !queue.letters.is_empty() {
                queue.wake();
            }
        }
    }

    fn is_current(&self, incarnation: u64) -> bool {
        self.incarnation() == incarnation
    }

    fn lock(&self) -> MutexGuard<'_, Queue<M>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<M> Queue<M> {
    /// Tells the incarnation that there are letters, unless it knows.
    fn wake(&mut self) {
        if !self.awake
            && let Some(actor) = &self.actor
        {
            // An actor that has just ended takes no message. The next incarnation finds the letters.
            self.awake = actor.send_message(Wake).is_ok();
        }
    }
}

impl<M: Send + 'static> AnyMailbox for Mailbox<M> {
    fn vitals(&self) -> &Arc<Vitals> {
        &self.vitals
    }

    fn report(&self, clock: &dyn Clock) -> ActorHealth {
        self.vitals.report(clock, self.letters.look(clock.monotonic()))
    }

    fn ping(&self, deadline: Duration) -> Pin<Box<dyn Future<Output = Result<(), AskError>> + Send + '_>> {
        Box::pin(async move {
            let (reply, answer) = oneshot::channel();
            self.post(None, Letter::Ping(reply))?;
            wait(deadline, answer).await
        })
    }

    fn find_frozen(&self) -> Option<u64> {
        let handled = self.vitals.handled();
        let mut queue = self.lock();
        let waits = queue.actor.is_some() && !queue.letters.is_empty();
        queue.looks = match queue.looks {
            (before, looks) if waits && before == handled => (handled, looks.saturating_add(1)),
            _ => (handled, 0),
        };
        (queue.looks.1 >= FROZEN_LOOKS).then(|| self.incarnation())
    }

    fn incarnation(&self) -> u64 {
        self.incarnation.load(Ordering::Acquire)
    }

    fn end_incarnation(&self) {
        let mut queue = self.lock();
        self.incarnation.fetch_add(1, Ordering::Release);
        (queue.actor, queue.awake, queue.looks) = (None, false, (0, 0));
        queue.letters.retain(|(from, _)| {
            if from.is_some() {
                self.letters.taken();
            }
            from.is_none()
        });
    }

    fn close(&self) {
        self.lock().closed = true;
    }

    fn drop_letters(&self) {
        for _ in std::mem::take(&mut self.lock().letters) {
            self.letters.taken();
        }
    }

    #[cfg(feature = "testing")]
    fn inject(&self, fault: crate::testing::Fault) -> Result<(), AskError> {
        self.post(None, Letter::Fault(fault))
    }
}

/// The mailbox of an actor as one of its incarnations uses it. A message is dropped if that incarnation was replaced.
pub(crate) struct OwnMailbox<M: Send + 'static> {
    mailbox: Arc<Mailbox<M>>,
    incarnation: u64,
}

impl<M: Send + 'static> Clone for OwnMailbox<M> {
    fn clone(&self) -> Self {
        Self { mailbox: Arc::clone(&self.mailbox), incarnation: self.incarnation }
    }
}

impl<M: Send + 'static> OwnMailbox<M> {
    /// Sends a message without waiting.
    pub(crate) fn tell(&self, message: M) -> Result<(), AskError> {
        self.mailbox.post(Some(self.incarnation), Letter::Work(message))
    }

    pub(crate) fn vitals(&self) -> &Arc<Vitals> {
        &self.mailbox.vitals
    }
}

async fn wait<R>(deadline: Duration, answer: oneshot::Receiver<R>) -> Result<R, AskError> {
    match tokio::time::timeout(deadline, answer).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(_)) => Err(AskError::Lost),
        Err(_) => Err(AskError::TimedOut),
    }
}

/// Runs one incarnation of a [`Process`] as a ractor actor and maintains its vital signs.
pub(crate) struct Host<P: Process> {
    process: Arc<P>,
    mailbox: Arc<Mailbox<P::Message>>,
    clock: Arc<dyn Clock>,
}

impl<P: Process> Host<P> {
    pub(crate) fn new(process: Arc<P>, mailbox: Arc<Mailbox<P::Message>>, clock: Arc<dyn Clock>) -> Self {
        Self { process, mailbox, clock }
    }
}

/// The state of an incarnation, with its number.
pub(crate) struct Hosted<S> {
    state: S,
    incarnation: u64,
}

impl<P: Process> Host<P> {
    /// Handles a letter, unless the incarnation was replaced. Returns whether there was one.
    async fn handle_next(&self, hosted: &mut Hosted<P::State>) -> Result<bool, String> {
        let Some(letter) = self.mailbox.take(hosted.incarnation) else { return Ok(false) };
        let vitals = &self.mailbox.vitals;
        let began = vitals.begins(&*self.clock);
        match letter {
            Letter::Work(message) => self.process.handle(&mut hosted.state, message).await?,
            Letter::Ping(reply) => drop(reply.send(())),
            #[cfg(feature = "testing")]
            Letter::Fault(fault) => fault.happen().await?,
        }
        if self.mailbox.is_current(hosted.incarnation) {
            vitals.progressed(began, &*self.clock);
        }
        Ok(true)
    }
}

impl<P: Process> Actor for Host<P> {
    type Msg = Wake;
    type State = Hosted<P::State>;
    type Arguments = ();

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        (): Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let incarnation = self.mailbox.incarnation();
        let state = self.process.start(&OwnMailbox { mailbox: Arc::clone(&self.mailbox), incarnation }).await?;
        self.mailbox.vitals.started(&*self.clock);
        self.mailbox.started(incarnation, myself);
        Ok(Hosted { state, incarnation })
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        Wake: Self::Msg,
        hosted: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        for _ in 0..BATCH {
            if !self.handle_next(hosted).await? {
                return Ok(());
            }
        }
        // While the actor is drained this fails, and `post_stop` handles the rest.
        let _ = myself.send_message(Wake);
        Ok(())
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<Self::Msg>,
        hosted: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        while self.handle_next(hosted).await? {}
        self.process.stop(&mut hosted.state).await;
        Ok(())
    }
}

/// Sends a message to an actor periodically, until its incarnation ends.
///
/// The task ends when the returned guard is dropped. The actor keeps the guard in its state, so a restarted actor has its own timer.
pub(crate) fn every<M: Send + 'static>(
    period: Duration,
    mailbox: &OwnMailbox<M>,
    message: impl Fn() -> M + Send + 'static,
) -> Timer {
    let mailbox = mailbox.clone();
    Timer(tokio::spawn(async move {
        let mut ticks = tokio::time::interval(period);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        ticks.tick().await;
        loop {
            ticks.tick().await;
            // While the actor is down, nobody needs the message; its next incarnation has its own timer.
            let _ = mailbox.tell(message());
        }
    }))
}

/// A running timer, which ends when it is dropped.
pub(crate) struct Timer(tokio::task::JoinHandle<()>);

impl Timer {
    /// Wraps the task of a timer.
    pub(crate) fn of(task: tokio::task::JoinHandle<()>) -> Self {
        Self(task)
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(all(test, feature = "testing"))]
mod tests;
