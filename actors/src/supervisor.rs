//! The supervisor: it restarts actors with a back-off, and ends the process with a reason if restarts do not help.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use ractor::{Actor, ActorCell, ActorId, ActorProcessingErr, ActorRef, ActorStatus, SupervisionEvent};
use tokio::sync::watch;

use crate::health::{ActorHealth, ActorState, Letters, SUPERVISOR, Vitals};
use crate::ports::Clock;
use crate::process::{AnyMailbox, Host, Mailbox, Process};

/// The number of restarts of one actor within [`BUDGET_WINDOW`] that are tolerated.
/// With one more, restarting does not help, and the process exits so that its own supervisor (or a person) notices.
const RESTART_BUDGET: usize = 10;
/// See [`RESTART_BUDGET`].
const BUDGET_WINDOW: Duration = Duration::from_mins(1);
/// The pause before the first restart; it doubles with each further failure within the window.
const FIRST_BACK_OFF: Duration = Duration::from_millis(20);
/// The maximum pause. All ten pauses of a budget add up to 0.02 + 0.04 + … + 2 + 2 + 2 ≈ 8.5 s.
/// So an actor that fails at every start ends the process after about that time.
const MAX_BACK_OFF: Duration = Duration::from_secs(2);
/// The maximum number of ended actors of which the cause is remembered until their start is reported.
const MAX_ENDED: usize = 32;

type StartFuture = Pin<Box<dyn Future<Output = Result<ActorCell, String>> + Send>>;

/// How one child is started and identified. It lives as long as the supervisor.
pub(crate) struct ChildSpec {
    mailbox: Arc<dyn AnyMailbox>,
    start: Box<dyn Fn(ActorCell) -> StartFuture + Send + Sync>,
}

impl ChildSpec {
    pub(crate) fn new<P: Process>(process: Arc<P>, mailbox: Arc<Mailbox<P::Message>>, clock: Arc<dyn Clock>) -> Self {
        Self {
            mailbox: Arc::clone(&mailbox) as _,
            start: Box::new(move |supervisor| {
                let host = Host::new(Arc::clone(&process), Arc::clone(&mailbox), Arc::clone(&clock));
                // Without a name, because ractor's names are global to the process, but ours belong to one system.
                Box::pin(async move {
                    match supervisor.spawn_linked(None, host, ()).await {
                        Ok((actor, _)) => Ok(actor.get_cell()),
                        Err(error) => Err(error.to_string()),
                    }
                })
            }),
        }
    }

    fn vitals(&self) -> &Vitals {
        self.mailbox.vitals()
    }
}

/// A child and its recent failures.
struct Child {
    spec: ChildSpec,
    cell: Option<ActorCell>,
    /// The times of its failures within the window, on the monotonic clock; at most one more than the budget.
    failures: VecDeque<Duration>,
}

/// Supervises every actor of one system, one for one.
pub(crate) struct Supervisor {
    clock: Arc<dyn Clock>,
    /// Set once, with the reason, when a child cannot be kept running.
    gave_up: watch::Sender<Option<String>>,
    vitals: Arc<Vitals>,
    letters: Arc<Letters>,
}

pub(crate) enum SupervisorMessage {
    /// The pause has ended: start this child again.
    Restart(usize),
    /// The outcome of a start, which runs outside the mailbox because a child may wait for a commit before it is ready.
    Started(usize, Result<ActorCell, String>),
    /// Replaces this incarnation of a child, which is frozen.
    Replace(usize, u64),
    /// Drains every child in the given order, including its queue, and waits for it. Nothing is restarted afterwards.
    Drain(tokio::sync::oneshot::Sender<()>),
}

/// What is counted of the supervisor, and where its messages are sent.
pub(crate) struct WatchedSupervisor {
    vitals: Arc<Vitals>,
    letters: Arc<Letters>,
}

impl WatchedSupervisor {
    pub(crate) fn new() -> Self {
        Self { vitals: Vitals::below(SUPERVISOR, None), letters: Arc::default() }
    }

    /// Looks at the supervisor, without asking it anything.
    pub(crate) fn report(&self, clock: &dyn Clock) -> ActorHealth {
        self.vitals.report(clock, self.letters.look(clock.monotonic()))
    }

    /// Sends it a message. Returns whether it runs.
    pub(crate) fn tell(&self, supervisor: &ActorRef<SupervisorMessage>, message: SupervisorMessage) -> bool {
        Supervisor::tell(supervisor, &self.letters, message)
    }
}

pub(crate) struct SupervisorState {
    children: Vec<Child>,
    /// Why actors ended that are no child: they were replaced, or they ended before their start was reported.
    ended: VecDeque<(ActorId, String)>,
    draining: bool,
}

impl Supervisor {
    pub(crate) fn new(
        clock: Arc<dyn Clock>,
        gave_up: watch::Sender<Option<String>>,
        watched: &WatchedSupervisor,
    ) -> Self {
        let WatchedSupervisor { vitals, letters } = watched;
        Self { clock, gave_up, vitals: Arc::clone(vitals), letters: Arc::clone(letters) }
    }

    /// Sends a message to the supervisor itself.
    fn tell(myself: &ActorRef<SupervisorMessage>, letters: &Letters, message: SupervisorMessage) -> bool {
        letters.sending();
        let sent = myself.send_message(message).is_ok();
        if !sent {
            letters.not_sent();
        }
        sent
    }

    /// Notes a failure and either restarts the child after a pause or gives up.
    fn child_failed(&self, myself: &ActorRef<SupervisorMessage>, index: usize, child: &mut Child, cause: &str) {
        let vitals = child.spec.vitals();
        child.cell = None;
        child.spec.mailbox.end_incarnation();
        vitals.crashed(cause.to_owned());
        let now = self.clock.monotonic();
        child.failures.push_back(now);
        child.failures.retain(|at| now.saturating_sub(*at) <= BUDGET_WINDOW);
        if child.failures.len() > RESTART_BUDGET {
            vitals.set_state(ActorState::Stopped);
            child.spec.mailbox.close();
            child.spec.mailbox.drop_letters();
            let reason = format!("actor {} failed {} times in a row: {cause}", vitals.name(), child.failures.len());
            tracing::error!(actor = vitals.name(), %cause, "an actor cannot be kept alive");
            self.gave_up.send_if_modified(|reported| {
                let first = reported.is_none();
                reported.get_or_insert(reason);
                first
            });
            return;
        }
        vitals.set_state(ActorState::Restarting);
        let pause = back_off(child.failures.len());
        tracing::warn!(actor = vitals.name(), %cause, pause_ms = pause.as_secs_f64() * 1000.0, "an actor failed and is restarted");
        let (myself, letters) = (myself.clone(), Arc::clone(&self.letters));
        tokio::spawn(async move {
            tokio::time::sleep(pause).await;
            Self::tell(&myself, &letters, SupervisorMessage::Restart(index));
        });
    }

    /// Adopts a restarted child. If it has already failed, its failure event came too early to be assigned and is handled here.
    fn child_started(
        &self,
        myself: &ActorRef<SupervisorMessage>,
        index: usize,
        SupervisorState { children, ended, .. }: &mut SupervisorState,
        outcome: Result<ActorCell, String>,
    ) {
        let Some(child) = children.get_mut(index) else { return };
        match outcome {
            Ok(cell) if cell.get_status() < ActorStatus::Stopping => child.cell = Some(cell),
            Ok(cell) => {
                let cause = ended.iter().find(|(id, _)| *id == cell.get_id()).map(|(_, cause)| cause.as_str());
                self.child_failed(myself, index, child, cause.unwrap_or("it ended as soon as it had started"));
            }
            Err(cause) => self.child_failed(myself, index, child, &format!("it did not start: {cause}")),
        }
    }
}

/// Returns the pause before the n-th restart within the window.
fn back_off(failures: usize) -> Duration {
    let doublings = u32::try_from(failures.saturating_sub(1)).unwrap_or(u32::MAX).min(16);
    FIRST_BACK_OFF.saturating_mul(1 << doublings).min(MAX_BACK_OFF)
}

impl Actor for Supervisor {
    type Msg = SupervisorMessage;
    type State = SupervisorState;
    type Arguments = Vec<ChildSpec>;

    async fn pre_start(
        &self,
        myself: ActorRef<Self::Msg>,
        specs: Self::Arguments,
    ) -> Result<Self::State, ActorProcessingErr> {
        let mut children = Vec::new();
        for spec in specs {
            // At the first start there is no earlier incarnation: if a child cannot start, the system does not start.
            let cell = (spec.start)(myself.get_cell())
                .await
                .map_err(|cause| format!("actor {} did not start: {cause}", spec.vitals().name()))?;
            children.push(Child { spec, cell: Some(cell), failures: VecDeque::new() });
        }
        self.vitals.started(&*self.clock);
        Ok(SupervisorState { children, ended: VecDeque::new(), draining: false })
    }

    async fn handle(
        &self,
        myself: ActorRef<Self::Msg>,
        message: Self::Msg,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        self.letters.taken();
        let began = self.vitals.begins(&*self.clock);
        match message {
            SupervisorMessage::Restart(index) if !state.draining => {
                if let Some(child) = state.children.get(index) {
                    let start = (child.spec.start)(myself.get_cell());
                    let letters = Arc::clone(&self.letters);
                    tokio::spawn(async move {
                        let outcome = start.await;
                        Self::tell(&myself, &letters, SupervisorMessage::Started(index, outcome));
                    });
                }
            }
            SupervisorMessage::Started(index, outcome) if !state.draining => {
                self.child_started(&myself, index, state, outcome);
            }
            SupervisorMessage::Replace(index, incarnation) if !state.draining => {
                if let Some(child) = state.children.get_mut(index)
                    && child.spec.mailbox.incarnation() == incarnation
                    && let Some(frozen) = child.cell.take()
                {
                    // A handler that waits ends at once. One that blocks its thread ends when it next waits; until then it works on a
                    // state that nobody else sees.
                    frozen.kill();
                    self.child_failed(&myself, index, child, "it was frozen: it had messages and finished none");
                }
            }
            // Nothing is started any more; a start that is still running is stopped together with the supervisor.
            SupervisorMessage::Restart(_) | SupervisorMessage::Started(..) | SupervisorMessage::Replace(..) => {}
            SupervisorMessage::Drain(done) => {
                state.draining = true;
                for child in &mut state.children {
                    child.spec.mailbox.close();
                    if let Some(cell) = child.cell.take() {
                        // The caller enforces the deadline of the whole stop.
                        if let Err(error) = cell.drain_and_wait(None).await {
                            tracing::warn!(actor = child.spec.vitals().name(), %error, "an actor did not drain");
                        }
                    }
                    child.spec.mailbox.drop_letters();
                    child.spec.vitals().set_state(ActorState::Stopped);
                }
                self.vitals.set_state(ActorState::Stopped);
                let _ = done.send(());
            }
        }
        self.vitals.progressed(began, &*self.clock);
        Ok(())
    }

    async fn handle_supervisor_evt(
        &self,
        myself: ActorRef<Self::Msg>,
        event: SupervisionEvent,
        state: &mut Self::State,
    ) -> Result<(), ActorProcessingErr> {
        let (cell, cause) = match event {
            SupervisionEvent::ActorFailed(cell, cause) => (cell, cause.to_string()),
            SupervisionEvent::ActorTerminated(cell, _, reason) => {
                (cell, reason.unwrap_or_else(|| "it stopped by itself".to_owned()))
            }
            _ => return Ok(()),
        };
        if state.draining {
            return Ok(());
        }
        let ended = |child: &Child| child.cell.as_ref().is_some_and(|running| running.get_id() == cell.get_id());
        if let Some(index) = state.children.iter().position(ended) {
            self.child_failed(&myself, index, &mut state.children[index], &cause);
        } else {
            state.ended.truncate(MAX_ENDED - 1);
            state.ended.push_front((cell.get_id(), cause));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_back_off_doubles_up_to_its_limit() {
        assert_eq!(back_off(1), FIRST_BACK_OFF);
        assert_eq!(back_off(2), FIRST_BACK_OFF * 2);
        assert_eq!(back_off(7), FIRST_BACK_OFF * 64);
        assert_eq!(back_off(8), MAX_BACK_OFF);
        assert_eq!(back_off(usize::MAX), MAX_BACK_OFF);
    }
}
