use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use tracing::{Instrument as _, Span};

use super::flows::Flows;
use super::message::{Message, Request};
use crate::domain::session::Origin;
use crate::health::Vitals;
use crate::process::{Mailbox, Process, Reply, Timer, every};

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

    /// Runs a flow and replies with its outcome, unless the caller gave up before the flow began.
    /// A flow that panics counts as a failure of the actor, and its caller gets no answer but an error.
    async fn run<R: Send + 'static>(
        &self,
        vitals: &Arc<Vitals>,
        span: Span,
        reply: Reply<R>,
        flow: impl Future<Output = R> + Send + 'static,
    ) {
        // The semaphore is never closed.
        let Ok(place) = Arc::clone(&self.places).acquire_owned().await else { return };
        if reply.is_closed() {
            return;
        }
        let vitals = Arc::clone(vitals);
        let task = async move {
            if let Ok(outcome) = AssertUnwindSafe(flow).catch_unwind().await {
                // The caller may have given up in the meantime; the effects of the flow stay.
                let _ = reply.send(outcome);
            } else {
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

    async fn start(&self, mailbox: &Arc<Mailbox<Message>>) -> Result<Self::State, String> {
        let remove = || Message { origin: Origin::default(), span: Span::none(), request: Request::RemoveUnverified };
        let removal = self.flows.rules.require_email_verification.then(|| every(REMOVAL_PERIOD, mailbox, remove));
        Ok(State { vitals: Arc::clone(mailbox.vitals()), _removal: removal })
    }

    async fn handle(&self, state: &mut Self::State, Message { origin, span, request }: Message) -> Result<(), String> {
        let vitals = &state.vitals;
        let flows = Arc::clone(&self.flows);
        match request {
            Request::Register { registration, by, reply } => {
                let flow = async move { flows.register(registration, by, origin).await };
                self.run(vitals, span, reply, flow).await;
            }
            Request::Login { attempt, reply } => {
                self.run(vitals, span, reply, async move { flows.login(attempt, origin).await }).await;
            }
            Request::Refresh { token, reply } => {
                self.run(vitals, span, reply, async move { flows.refresh(token, origin).await }).await;
            }
            Request::HolderOfRefresh { token, reply } => {
                self.run(vitals, span, reply, async move { flows.holder_of_refresh(token, origin).await }).await;
            }
            Request::OwnerOfRefresh { token, reply } => {
                self.run(vitals, span, reply, async move { flows.owner_of_refresh(token).await }).await;
            }
            Request::LookAtRefresh { token, reply } => {
                self.run(vitals, span, reply, async move { flows.look_at_refresh(token).await }).await;
            }
            Request::Recover { attempt, reply } => {
                self.run(vitals, span, reply, async move { flows.recover(attempt, origin).await }).await;
            }
            Request::ResendVerification { email, reply } => {
                self.run(vitals, span, reply, async move { flows.resend_verification(email, origin) }).await;
            }
            Request::MailReset { email, reply } => {
                self.run(vitals, span, reply, async move { flows.request_recovery(email, origin) }).await;
            }
            Request::RecoverByMail { recovery, reply } => {
                let flow = async move { flows.recover_by_mail(recovery, origin).await };
                self.run(vitals, span, reply, flow).await;
            }
            Request::RepeatRecovery { token, password, reply } => {
                let flow = async move { flows.repeats_recovery(token, password, origin).await };
                self.run(vitals, span, reply, flow).await;
            }
            Request::ConfirmEmail { token, reply } => {
                self.run(vitals, span, reply, async move { flows.confirm_email(token, origin).await }).await;
            }
            Request::Undo { token, reply } => {
                self.run(vitals, span, reply, async move { flows.undo(token, origin).await }).await;
            }
            Request::RemoveUnverified => {
                self.flows.background.spawn(async move { flows.remove_unverified().await });
            }
            Request::UpdateOwn { principal, change, current_password, reply } => {
                let flow = async move { flows.update_own(&principal, change, current_password, origin).await };
                self.run(vitals, span, reply, flow).await;
            }
            Request::DeleteOwn { principal, current_password, reply } => {
                let flow = async move { flows.delete_own(&principal, current_password, origin).await };
                self.run(vitals, span, reply, flow).await;
            }
            Request::Prove { admin, event, current_password, reply } => {
                let flow = async move { flows.prove(admin, event, current_password, origin).await };
                self.run(vitals, span, reply, flow).await;
            }
            Request::UpdateByAdmin { admin, id, change, current_password, reply } => {
                let flow = async move { flows.update_by_admin(&admin, id, change, current_password, origin).await };
                self.run(vitals, span, reply, flow).await;
            }
            Request::DeleteByAdmin { admin, id, current_password, reply } => {
                let flow = async move { flows.delete_by_admin(&admin, id, current_password, origin).await };
                self.run(vitals, span, reply, flow).await;
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
