//! The common parts of all actors: a mailbox that survives restarts, vital signs, and a host that maintains both.
//!
//! An actor implements [`Process`]. Its handle holds a [`Mailbox`], which looks up the running incarnation in each call.
//! During a restart, calls therefore fail with [`AskError::NotRunning`]; afterwards they work again.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use ractor::{Actor, ActorProcessingErr, ActorRef};
use tokio::sync::oneshot;

use crate::ask::AskError;
use crate::health::{ActorHealth, Letters, Vitals};
use crate::ports::Clock;

/// The channel for an answer. Dropping it tells the caller that there will be no answer.
pub(crate) type Reply<T> = oneshot::Sender<T>;

/// A kind of actor: how it starts, handles a message, and cleans up when it stops.
///
/// `Err` from [`Process::handle`] is a crash, like a panic: the supervisor restarts the actor, and its queue is lost.
/// A refusal for the caller is sent in the reply instead.
pub(crate) trait Process: Send + Sync + 'static {
    type Message: Send + 'static;
    type State: Send + 'static;

    fn start(&self, mailbox: &Arc<Mailbox<Self::Message>>) -> impl Future<Output = Result<Self::State, String>> + Send;

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
pub(crate) enum Letter<M> {
    Work(M),
    /// Answered by the host itself, which shows that the actor processes its mailbox.
    Ping(Reply<()>),
    /// Makes the actor fail, in tests of supervision.
    #[cfg(feature = "testing")]
    Fault(crate::testing::Fault),
}

/// The address of an actor, valid as long as the system runs.
pub(crate) struct Mailbox<M: Send + 'static> {
    /// The running incarnation; `None` before the first start, during a restart and after the stop.
    current: ArcSwapOption<Address<M>>,
    vitals: Arc<Vitals>,
}

/// One incarnation of an actor and the count of its letters.
/// Each incarnation starts counting at zero, because a crash loses the queue.
struct Address<M: Send + 'static> {
    actor: ActorRef<Letter<M>>,
    letters: Arc<Letters>,
}

impl<M: Send + 'static> Mailbox<M> {
    pub(crate) fn new(vitals: Arc<Vitals>) -> Arc<Self> {
        Arc::new(Self { current: ArcSwapOption::empty(), vitals })
    }

    pub(crate) fn vitals(&self) -> &Arc<Vitals> {
        &self.vitals
    }

    /// Looks at the actor, without asking it anything, and returns what it reports.
    pub(crate) fn report(&self, clock: &dyn Clock) -> ActorHealth {
        let letters = self.current.load().as_ref().map(|address| Arc::clone(&address.letters));
        let waiting = letters.map_or_else(Default::default, |letters| letters.look(clock.monotonic()));
        self.vitals.report(clock, waiting)
    }

    /// Sends a message without waiting.
    pub(crate) fn tell(&self, message: M) -> Result<(), AskError> {
        self.post(Letter::Work(message))
    }

    /// Sends a request and waits for its answer until the deadline.
    pub(crate) async fn ask<R>(&self, deadline: Duration, question: impl FnOnce(Reply<R>) -> M) -> Result<R, AskError> {
        let (reply, answer) = oneshot::channel();
        self.tell(question(reply))?;
        wait(deadline, answer).await
    }

    /// Checks that the actor takes a letter from its queue within the deadline.
    pub(crate) async fn ping(&self, deadline: Duration) -> Result<(), AskError> {
        let (reply, answer) = oneshot::channel();
        self.post(Letter::Ping(reply))?;
        wait(deadline, answer).await
    }

    #[cfg(feature = "testing")]
    pub(crate) fn inject(&self, fault: crate::testing::Fault) -> Result<(), AskError> {
        self.post(Letter::Fault(fault))
    }

    fn post(&self, letter: Letter<M>) -> Result<(), AskError> {
        let current = self.current.load();
        let address = current.as_ref().ok_or(AskError::NotRunning)?;
        address.letters.sending();
        address.actor.send_message(letter).map_err(|_| {
            address.letters.not_sent();
            AskError::NotRunning
        })
    }

    /// Notes that no incarnation is running any more.
    pub(crate) fn clear(&self) {
        self.current.store(None);
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

/// The state of an incarnation and the count of its letters.
pub(crate) struct Hosted<S> {
    state: S,
    letters: Arc<Letters>,
}

impl<P: Process> Actor for Host<P> {
    type Msg = Letter<P::Message>;
    type State = Hosted<P::State>;
    type Arguments = ();

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        (): Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let state = self.process.start(&self.mailbox).await?;
        let letters = Arc::new(Letters::default());
        self.mailbox.vitals.started(&*self.clock);
        self.mailbox.current.store(Some(Arc::new(Address { actor: myself, letters: Arc::clone(&letters) })));
        Ok(Hosted { state, letters })
    }

    async fn handle(
        &self,
        _myself: ActorRef<Self::Msg>,
        letter: Self::Msg,
        hosted: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        hosted.letters.taken();
        let began = self.mailbox.vitals.begins(&*self.clock);
        match letter {
            Letter::Work(message) => self.process.handle(&mut hosted.state, message).await?,
            Letter::Ping(reply) => drop(reply.send(())),
            #[cfg(feature = "testing")]
            Letter::Fault(fault) => fault.happen().await?,
        }
        self.mailbox.vitals.progressed(began, &*self.clock);
        Ok(())
    }

    async fn post_stop(
        &self,
        _myself: ActorRef<Self::Msg>,
        hosted: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        self.process.stop(&mut hosted.state).await;
        Ok(())
    }
}

/// Sends a message to an actor periodically, until its incarnation ends.
///
/// The task ends when the returned guard is dropped. The actor keeps the guard in its state, so a restarted actor has its own timer.
pub(crate) fn every<M: Send + 'static>(
    period: Duration,
    mailbox: &Arc<Mailbox<M>>,
    message: impl Fn() -> M + Send + 'static,
) -> Timer {
    let mailbox = Arc::clone(mailbox);
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
