use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, Span};

use super::flows::Flows;
use super::message::{Message, Run};
use crate::health::Vitals;
use crate::process::{OwnMailbox, Process, Timer, every};

/// The maximum number of flows that run at the same time; further ones wait in the mailbox.
/// A flow mostly waits for a hash, whose queue is bounded and far shorter, and takes a few KiB.
const MAX_FLOWS: usize = 1024;

/// How often unverified accounts that are too old are searched for.
const REMOVAL_PERIOD: Duration = Duration::from_mins(10);

/// The state of one incarnation of the actor.
pub(crate) struct State {
    vitals: Arc<Vitals>,
    /// Runs only if unverified accounts are removed.
    _removal: Option<Timer>,
}

/// Runs the flows of accounts, each in a task of its own, because a flow mostly waits for a hash or a commit.
/// The store enforces the rules that span accounts, so flows need no order among themselves.
pub(crate) struct UserActor {
    flows: Arc<Flows>,
    /// The running flows. They outlive a crash of the actor, so their callers still get an answer.
    running: TaskTracker,
    places: Arc<Semaphore>,
}

impl UserActor {
    pub(crate) fn new(flows: Flows) -> Self {
        Self { flows: Arc::new(flows), running: TaskTracker::new(), places: Arc::new(Semaphore::new(MAX_FLOWS)) }
    }

    /// Runs a flow in a task of its own. A flow that panics counts as a failure of the actor, and its caller gets no answer.
    async fn run(&self, vitals: &Arc<Vitals>, span: Span, run: Run) {
        // The semaphore is never closed.
        let Ok(place) = Arc::clone(&self.places).acquire_owned().await else { return };
        let Some(flow) = run(Arc::clone(&self.flows)) else { return };
        let vitals = Arc::clone(vitals);
        let task = async move {
            if AssertUnwindSafe(flow).catch_unwind().await.is_err() {
                tracing::error!("a flow of the user actor panicked");
                vitals.failed("a flow panicked".to_owned());
            }
            drop(place);
        };
        self.running.spawn(task.instrument(span));
    }
}

impl Process for UserActor {
    type Message = Message;
    type State = State;

    async fn start(&self, mailbox: &OwnMailbox<Message>) -> Result<Self::State, String> {
        let remove = || Message::RemoveUnverified;
        let removal = self.flows.rules.require_email_verification.then(|| every(REMOVAL_PERIOD, mailbox, remove));
        Ok(State { vitals: Arc::clone(mailbox.vitals()), _removal: removal })
    }

    async fn handle(&self, state: &mut Self::State, message: Message) -> Result<(), String> {
        match message {
            Message::Run { span, run } => self.run(&state.vitals, span, run).await,
            Message::RemoveUnverified => {
                let flows = Arc::clone(&self.flows);
                self.flows.background.spawn(async move { flows.remove_unverified().await });
            }
        }
        Ok(())
    }

    async fn stop(&self, _: &mut Self::State) {
        for tasks in [&self.running, &self.flows.background] {
            tasks.close();
            tasks.wait().await;
        }
    }
}
