//! The outbox: mails are records of the store until somebody else has taken responsibility for them.
//!
//! A mail is queued in the same commit as what it tells of, so none is lost by a crash and nobody waits for a mail server.
//! It is removed only after the transport took it (or by an administrator, or with its account); should the process end between the two, it is sent again, with the
//! same `Message-ID`.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::TaskTracker;

use crate::ask::Unavailable;
use crate::domain::audit::{AuditEvent, AuditRecord};
use crate::domain::email::Email;
use crate::domain::mail::{MailValues, OutgoingMail};
use crate::domain::one_time::{OneTimeKey, TokenHash, TokenPurpose, TokenSeed};
use crate::domain::outbox::{MailId, MailOutcome, QueuedMail, pause_after, tidy_error};
use crate::domain::secret::Secret;
use crate::domain::session::Origin;
use crate::ports::{Clock, Entropy, MailTransport, SendError, Store};
#[cfg(feature = "testing")]
use crate::process::Reply;
use crate::process::{Mailbox, Process, Timer, every};
use crate::session::Principal;

/// How often due mails are looked for when nothing else reminds the actor of them.
const LOOK_PERIOD: Duration = Duration::from_secs(2);
/// How long past the transport's own limit an attempt may take before it counts as failed.
const GRACE: Duration = Duration::from_secs(5);

/// How mails are sent.
#[derive(Debug, Clone, Copy)]
pub struct MailerSettings {
    /// How many are under way at once.
    pub concurrency: usize,
    /// How long one attempt may take.
    pub send_timeout: Duration,
    /// How many attempts a mail gets.
    pub max_attempts: u32,
}

/// The way to the outbox.
#[derive(Clone)]
pub struct MailerHandle {
    mailbox: Arc<Mailbox<Message>>,
    store: Arc<dyn Store>,
    transport: Arc<dyn MailTransport>,
    clock: Arc<dyn Clock>,
}

pub(crate) enum Message {
    /// There may be something due. Sent by a timer and by whoever has queued a mail.
    Look,
    /// An attempt is over; sent by its own task.
    Done(MailId),
    /// Answered when no attempt is under way and nothing more is due.
    #[cfg(feature = "testing")]
    Settle(Reply<()>),
}

impl MailerHandle {
    pub(crate) fn new(
        mailbox: Arc<Mailbox<Message>>,
        store: Arc<dyn Store>,
        transport: Arc<dyn MailTransport>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { mailbox, store, transport, clock }
    }

    /// Whether mails to this address can be sent, as far as is known. False for an address outside ASCII once the mail
    /// server was seen to take none (`SMTPUTF8`, RFC 6531).
    #[must_use]
    pub fn reaches(&self, to: &Email) -> bool {
        self.transport.reaches(to)
    }

    /// Says that a mail was queued. Should the actor be down just now, it looks by itself when it is back.
    pub(crate) fn wake(&self) {
        let _ = self.mailbox.tell(Message::Look);
    }

    /// Mails that are not delivered yet, with numbers after this one.
    pub async fn list(&self, after: Option<MailId>, limit: usize) -> Result<Vec<QueuedMail>, Unavailable> {
        Ok(self.store.mails(after, limit).await?)
    }

    /// Queues a mail anew, as if it had not been tried; false if there is no such mail.
    pub async fn retry(&self, admin: &Principal, id: MailId, origin: Origin) -> Result<bool, Unavailable> {
        let record = self.record(AuditEvent::MailRetried, admin, origin);
        let found = self.store.retry_mail(id, self.clock.now(), record).await?;
        self.wake();
        Ok(found)
    }

    /// Deletes a mail; false if there is no such mail. One that is being sent just now may still arrive.
    pub async fn delete(&self, admin: &Principal, id: MailId, origin: Origin) -> Result<bool, Unavailable> {
        let record = self.record(AuditEvent::MailDeleted, admin, origin);
        Ok(self.store.delete_mail(id, record).await?)
    }

    /// Looks for due mails and waits until nothing is due or under way.
    #[cfg(feature = "testing")]
    pub(crate) async fn settle(&self) -> Result<(), crate::ask::AskError> {
        self.mailbox.ask(Duration::from_mins(1), Message::Settle).await
    }

    fn record(&self, event: AuditEvent, admin: &Principal, origin: Origin) -> AuditRecord {
        admin.record_as_admin(event, self.clock.now(), origin)
    }
}

/// Takes due mails out of the store and hands them to the transport, a few at a time.
pub(crate) struct MailerActor {
    pub(crate) settings: MailerSettings,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) transport: Arc<dyn MailTransport>,
    pub(crate) key: Arc<OneTimeKey>,
    /// That of the signing secret before: a mail that was queued under it has a token of it.
    pub(crate) previous_key: Option<OneTimeKey>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    /// The attempts under way. They outlive a crash of the actor; its next incarnation waits for them, so that no mail is
    /// under way twice.
    pub(crate) attempts: TaskTracker,
}

pub(crate) struct State {
    under_way: HashSet<MailId>,
    /// Who asked to be told when nothing is due or under way.
    #[cfg(feature = "testing")]
    waiting: Vec<Reply<()>>,
    mailbox: Arc<Mailbox<Message>>,
    _timer: Timer,
}

impl Process for MailerActor {
    type Message = Message;
    type State = State;

    async fn start(&self, mailbox: &Arc<Mailbox<Message>>) -> Result<State, String> {
        self.attempts.close();
        self.attempts.wait().await;
        self.attempts.reopen();
        // Nothing waits for it, neither a mail nor the end of the process.
        let transport = Arc::clone(&self.transport);
        drop(tokio::spawn(async move { transport.probe().await }));
        Ok(State {
            under_way: HashSet::new(),
            #[cfg(feature = "testing")]
            waiting: Vec::new(),
            mailbox: Arc::clone(mailbox),
            _timer: every(LOOK_PERIOD, mailbox, || Message::Look),
        })
    }

    async fn handle(&self, state: &mut State, message: Message) -> Result<(), String> {
        match message {
            Message::Look => {}
            Message::Done(id) => {
                state.under_way.remove(&id);
            }
            #[cfg(feature = "testing")]
            Message::Settle(reply) => state.waiting.push(reply),
        }
        self.begin_what_is_due(state).await;
        #[cfg(feature = "testing")]
        if state.under_way.is_empty() {
            for reply in state.waiting.drain(..) {
                let _ = reply.send(());
            }
        }
        Ok(())
    }

    async fn stop(&self, _: &mut State) {
        // What is not through by now is cut off at the deadline of the stop, and sent at the next start.
        self.attempts.close();
        self.attempts.wait().await;
    }
}

impl MailerActor {
    async fn begin_what_is_due(&self, state: &mut State) {
        let free = self.settings.concurrency.saturating_sub(state.under_way.len());
        if free == 0 {
            return;
        }
        // Those under way are still due, as nothing is noted before an attempt ends.
        let limit = free + state.under_way.len();
        let due = match self.store.due_mails(self.clock.now(), limit).await {
            Ok(due) => due,
            Err(failure) => {
                tracing::error!(%failure, "the outbox cannot be read");
                return;
            }
        };
        for queued in
            due.into_iter().filter(|queued| !state.under_way.contains(&queued.id)).take(free).collect::<Vec<_>>()
        {
            state.under_way.insert(queued.id);
            self.begin(state, &queued).await;
        }
    }

    /// Sends one mail in a task of its own and notes what came of it.
    async fn begin(&self, state: &State, queued: &QueuedMail) {
        let (store, transport, clock) = (Arc::clone(&self.store), Arc::clone(&self.transport), Arc::clone(&self.clock));
        let mailbox = Arc::clone(&state.mailbox);
        let mail = self.outgoing(queued).await;
        let mut spread = [0; 4];
        self.entropy.fill(&mut spread);
        let (settings, spread) = (self.settings, u32::from_be_bytes(spread));
        let (id, attempt) = (queued.id, queued.attempts.saturating_add(1));
        self.attempts.spawn(async move {
            let sent = match tokio::time::timeout(settings.send_timeout + GRACE, transport.send(&mail)).await {
                Ok(sent) => sent,
                Err(_) => Err(SendError::Transient("the attempt took too long".to_owned())),
            };
            let at = clock.now();
            let outcome = match sent {
                Ok(()) => MailOutcome::Sent,
                Err(SendError::Transient(error)) if attempt < settings.max_attempts => {
                    MailOutcome::Retry { at: at.plus(pause_after(attempt, spread)), error: tidy_error(&error) }
                }
                Err(SendError::Transient(error) | SendError::Permanent(error)) => {
                    MailOutcome::Dead { at, error: tidy_error(&error) }
                }
            };
            match &outcome {
                MailOutcome::Sent => tracing::debug!(mail = id.get(), template = mail.kind.as_str(), "a mail was sent"),
                MailOutcome::Retry { error, .. } => {
                    tracing::warn!(mail = id.get(), template = mail.kind.as_str(), attempt, %error, "a mail could not be sent yet");
                }
                MailOutcome::Dead { error, .. } => {
                    tracing::error!(mail = id.get(), template = mail.kind.as_str(), attempt, %error, "a mail was given up");
                }
            }
            if let Err(failure) = store.settle_mail(id, outcome).await {
                tracing::error!(%failure, mail = id.get(), "what came of a mail could not be noted");
            }
            let _ = mailbox.tell(Message::Done(id));
        });
    }

    /// The mail with the token of its link.
    async fn outgoing(&self, queued: &QueuedMail) -> OutgoingMail {
        let mail = &queued.mail;
        let token = match TokenPurpose::of_mail(mail.kind).zip(mail.seed) {
            Some((purpose, seed)) => Some(self.token(purpose, &seed).await),
            None => None,
        };
        OutgoingMail {
            to: mail.to.clone(),
            kind: mail.kind,
            locale: mail.locale,
            values: MailValues {
                nickname: mail.nickname.clone(),
                token,
                valid_for: mail.valid_for,
                new_address: mail.new_address.clone(),
                at: Some(mail.written_at),
                client_address: mail.client_address,
                user_agent: mail.user_agent.clone(),
            },
            message_key: format!("{:032x}", u128::from_be_bytes(mail.message_key)),
            written_at: mail.written_at,
        }
    }

    /// The token of a seed: that of the previous secret if the store knows it by that one, as the secret changed while its mail
    /// waited.
    async fn token(&self, purpose: TokenPurpose, seed: &TokenSeed) -> Secret {
        let token = self.key.token(purpose, seed);
        let Some(previous) = &self.previous_key else { return token };
        let older = previous.token(purpose, seed);
        match self.store.one_time_token(&TokenHash::of_issued(&older)).await {
            Ok(Some(_)) => older,
            Ok(None) => token,
            Err(failure) => {
                tracing::error!(%failure, "whose secret a waiting link was made with cannot be found out");
                token
            }
        }
    }
}
