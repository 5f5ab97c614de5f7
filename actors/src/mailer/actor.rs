use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use tokio_util::task::TaskTracker;

use super::Postman;
use super::state::{Effect, Event, READ_AT_ONCE, State};
use crate::domain::outbox::MailId;
use crate::leases::{Lease, Leases};
#[cfg(feature = "testing")]
use crate::process::Reply;
use crate::process::{OwnMailbox, Process, Timer, every};
use crate::store::StoreFailure;

/// How often the actor looks for due mails without another reason.
const LOOK_PERIOD: Duration = Duration::from_secs(2);
/// How often expired mails and counts are removed.
const PRUNE_PERIOD: Duration = Duration::from_hours(1);
/// The maximum number of counts of earlier days that one commit removes, so that other writers do not wait long.
const PRUNE_AT_ONCE: usize = 512;

pub(crate) enum Message {
    /// A mail was queued.
    Queued,
    /// A mail may have become due again. Sent by a timer, and by an administrator's retry.
    Look,
    /// The transport has finished with a mail. Sent by the task of the attempt.
    Sent(MailId),
    /// The outcome of an attempt is stored. Sent by the same task.
    Noted(MailId),
    /// Is answered when no attempt is under way and no mail is due.
    #[cfg(feature = "testing")]
    Settle(Reply<()>),
}

/// Sends due mails, a few at a time.
pub(crate) struct MailerActor {
    pub(crate) postman: Arc<Postman>,
    /// The attempts under way. They outlive a crash of the actor, and its next incarnation waits for them.
    pub(crate) attempts: TaskTracker,
    pub(crate) leases: Leases,
}

/// The state that one incarnation owns.
pub(crate) struct Incarnation {
    state: State,
    /// When expired mails and counts were last removed, on the monotonic clock.
    pruned: Option<Duration>,
    /// The tests that wait until nothing is due or under way.
    #[cfg(feature = "testing")]
    waiting: Vec<Reply<()>>,
    mailbox: OwnMailbox<Message>,
    _timer: Timer,
}

impl Process for MailerActor {
    type Message = Message;
    type State = Incarnation;

    async fn start(&self, mailbox: &OwnMailbox<Message>) -> Result<Incarnation, String> {
        self.attempts.close();
        self.attempts.wait().await;
        self.attempts.reopen();
        // Neither a mail nor the end of the process waits for the probe.
        let transport = Arc::clone(&self.postman.transport);
        drop(tokio::spawn(async move { transport.probe().await }));
        Ok(Incarnation {
            state: State::new(self.postman.settings.concurrency),
            pruned: None,
            #[cfg(feature = "testing")]
            waiting: Vec::new(),
            mailbox: mailbox.clone(),
            _timer: every(LOOK_PERIOD, mailbox, || Message::Look),
        })
    }

    async fn handle(&self, own: &mut Incarnation, message: Message) -> Result<(), String> {
        match message {
            Message::Queued => self.happened(own, Event::Queued).await,
            Message::Look => {
                self.prune(own).await;
                self.happened(own, Event::Look).await;
            }
            Message::Sent(mail) => self.happened(own, Event::Sent(mail)).await,
            Message::Noted(mail) => self.happened(own, Event::Noted(mail)).await,
            #[cfg(feature = "testing")]
            Message::Settle(reply) => own.waiting.push(reply),
        }
        #[cfg(feature = "testing")]
        if own.state.is_idle() && !own.waiting.is_empty() {
            // A postponed mail may be due by now.
            self.happened(own, Event::Look).await;
            if own.state.is_idle() {
                for reply in own.waiting.drain(..) {
                    let _ = reply.send(());
                }
            }
        }
        Ok(())
    }

    async fn stop(&self, _: &mut Incarnation) {
        // The deadline of the stop cuts off an attempt that takes longer. The mail is sent again when its claim ends.
        self.attempts.close();
        self.attempts.wait().await;
    }
}

impl MailerActor {
    /// Passes an event to the state and carries out its effects.
    async fn happened(&self, own: &mut Incarnation, event: Event) {
        let mut events = vec![event];
        while let Some(event) = events.pop() {
            for effect in own.state.handle(event, self.postman.clock.now()) {
                let store = &self.postman.store;
                let read = match effect {
                    Effect::Begin(mail) => {
                        self.begin(own, mail);
                        continue;
                    }
                    Effect::ReadNew(after) => store.mails(after, READ_AT_ONCE).await.map(Event::New),
                    Effect::ReadDue(limit) => store.due_mails(self.postman.clock.now(), limit).await.map(Event::Due),
                };
                match read {
                    Ok(read) => events.push(read),
                    // The next look reads the mail again.
                    Err(failure) => unreadable(&failure),
                }
            }
        }
    }

    /// Makes an attempt in a task of its own. Its place becomes free for another mail as soon as the transport has finished.
    fn begin(&self, own: &Incarnation, mail: MailId) {
        let (postman, mailbox) = (Arc::clone(&self.postman), own.mailbox.clone());
        self.attempts.spawn(async move {
            // A panic must not keep the place of the mail for ever.
            let tried = AssertUnwindSafe(postman.attempt(mail)).catch_unwind().await;
            let _ = mailbox.tell(Message::Sent(mail));
            let noted = match tried {
                Ok(Ok(Some(tried))) => postman.note(tried).await.map_err(|failure| {
                    tracing::error!(%failure, mail = mail.get(), "the outcome of a mail could not be noted; it is not tried again before a restart");
                }),
                Ok(Ok(None)) => Ok(()),
                Ok(Err(failure)) => {
                    unreadable(&failure);
                    Ok(())
                }
                Err(_) => {
                    tracing::error!(mail = mail.get(), "an attempt to send a mail panicked; it is not tried again before a restart");
                    Err(())
                }
            };
            if noted.is_ok() {
                let _ = mailbox.tell(Message::Noted(mail));
            }
        });
    }

    /// Removes a group of expired given-up mails and counts, at most once per [`PRUNE_PERIOD`]. If there may be more, looks again at once,
    /// so that other messages have their turn in between.
    async fn prune(&self, own: &mut Incarnation) {
        let now = self.postman.clock.monotonic();
        if own.pruned.is_some_and(|pruned| now.saturating_sub(pruned) < PRUNE_PERIOD) {
            return;
        }
        if self.leases.hold(Lease::PruneMails).await {
            match self.postman.store.prune_mails(self.postman.clock.now(), PRUNE_AT_ONCE).await {
                Ok(PRUNE_AT_ONCE) => {
                    let _ = own.mailbox.tell(Message::Look);
                    return;
                }
                Ok(_) => {}
                Err(failure) => tracing::error!(%failure, "old mails and counts cannot be removed from the outbox"),
            }
        }
        own.pruned = Some(now);
    }
}

fn unreadable(failure: &StoreFailure) {
    tracing::error!(%failure, "the outbox cannot be read");
}
