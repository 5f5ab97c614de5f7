//! The outbox: mails are records of the store until somebody else has taken responsibility for them.
//!
//! A mail is queued in the same commit as what it tells of, so none is lost by a crash and nobody waits for a mail server.
//! It is removed only after the transport took it (or by an administrator, or with its account); should the process end between the two, it is sent again, with the
//! same `Message-ID`.

mod turns;

use std::collections::HashMap;
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
use crate::ports::{Clock, Entropy, MailTransport, SendError};
#[cfg(feature = "testing")]
use crate::process::Reply;
use crate::process::{Mailbox, Process, Timer, every};
use crate::session::Principal;
use crate::store::{Store, StoreFailure};
use crate::user::IssuedLinks;
use turns::{Client, Turns};

/// How often due mails are looked for when nothing else reminds the actor of them.
const LOOK_PERIOD: Duration = Duration::from_secs(2);
/// How long past the transport's own limit an attempt may take before it counts as failed.
const GRACE: Duration = Duration::from_secs(5);
/// How many new mails are read at a time.
const READ_AT_ONCE: usize = 512;
/// How often what is no longer kept is removed.
const PRUNE_PERIOD: Duration = Duration::from_hours(1);
/// How many counts of earlier days are removed in one commit, so that nobody waits for long behind it.
const PRUNE_AT_ONCE: usize = 512;
/// What is noted of a mail whose link was used up, replaced or revoked, or ended, before it was sent.
const POINTLESS: &str = "its link is no longer good";

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
    store: Store,
    transport: Arc<dyn MailTransport>,
    clock: Arc<dyn Clock>,
}

pub(crate) enum Message {
    /// A mail was queued.
    Look,
    /// A mail may have become due again. Sent by a timer, and by an administrator's retry.
    LookAgain,
    /// An attempt ended; sent by its own task.
    Done(MailId),
    /// Answered when no attempt is under way and nothing more is due.
    #[cfg(feature = "testing")]
    Settle(Reply<()>),
}

impl MailerHandle {
    pub(crate) fn new(
        mailbox: Arc<Mailbox<Message>>,
        store: Store,
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
        let _ = self.mailbox.tell(Message::LookAgain);
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
    pub(crate) store: Store,
    pub(crate) transport: Arc<dyn MailTransport>,
    pub(crate) key: Arc<OneTimeKey>,
    /// That of the signing secret before: a mail that was queued under it has a token of it.
    pub(crate) previous_key: Option<OneTimeKey>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    /// When the links end by the clock that never jumps.
    pub(crate) links: Arc<IssuedLinks>,
    /// The attempts under way. They outlive a crash of the actor; its next incarnation waits for them, so that no mail is
    /// under way twice.
    pub(crate) attempts: TaskTracker,
}

pub(crate) struct State {
    /// The mails under way, each with the client whose turn it is.
    under_way: HashMap<MailId, Client>,
    /// The mails that are due, of which those that are gone or put off by now are passed over.
    turns: Turns,
    /// The newest mail that was read.
    seen: Option<MailId>,
    /// When what is no longer kept was last removed, on the monotonic clock.
    pruned: Option<Duration>,
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
            under_way: HashMap::new(),
            turns: Turns::default(),
            seen: None,
            pruned: None,
            #[cfg(feature = "testing")]
            waiting: Vec::new(),
            mailbox: Arc::clone(mailbox),
            _timer: every(LOOK_PERIOD, mailbox, || Message::LookAgain),
        })
    }

    async fn handle(&self, state: &mut State, message: Message) -> Result<(), String> {
        match message {
            Message::Look => self.read_new(state).await,
            Message::LookAgain => {
                self.prune(state).await;
                self.read_due(state).await;
            }
            Message::Done(id) => {
                state.under_way.remove(&id);
            }
            #[cfg(feature = "testing")]
            Message::Settle(reply) => state.waiting.push(reply),
        }
        self.begin_what_is_due(state).await;
        #[cfg(feature = "testing")]
        if state.under_way.is_empty() && !state.waiting.is_empty() {
            // What was put off may be due by now.
            self.read_due(state).await;
            self.begin_what_is_due(state).await;
            if state.under_way.is_empty() {
                for reply in state.waiting.drain(..) {
                    let _ = reply.send(());
                }
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
    /// Reads the mails that were queued since the last time. There are few, however many wait.
    async fn read_new(&self, state: &mut State) {
        let now = self.clock.now();
        loop {
            let new = match self.store.mails(state.seen, READ_AT_ONCE).await {
                Ok(new) => new,
                Err(failure) => return unreadable(&failure),
            };
            state.seen = new.last().map(|mail| mail.id).or(state.seen);
            let due = |mail: &&QueuedMail| mail.is_due(now) && !state.under_way.contains_key(&mail.id);
            new.iter().filter(due).for_each(|mail| state.turns.add(mail));
            if new.len() < READ_AT_ONCE {
                return;
            }
        }
    }

    /// Reads every mail that is due: those that were put off, and any that was missed.
    async fn read_due(&self, state: &mut State) {
        self.read_new(state).await;
        // Those that wait for their turn or are under way are still due, as nothing is noted before an attempt ends.
        let known = state.turns.len() + state.under_way.len();
        match self.store.due_mails(self.clock.now(), known + READ_AT_ONCE).await {
            Ok(due) => {
                let new = due.iter().filter(|mail| !state.under_way.contains_key(&mail.id));
                new.for_each(|mail| state.turns.add(mail));
            }
            Err(failure) => unreadable(&failure),
        }
    }

    async fn begin_what_is_due(&self, state: &mut State) {
        // One client has at most half of the places, rounded up, so that a server that is slow with its mails holds up no others.
        let most_of_one = self.settings.concurrency.div_ceil(2);
        while state.under_way.len() < self.settings.concurrency {
            let under_way = &state.under_way;
            let may = |client: &Client| under_way.values().filter(|other| *other == client).count() < most_of_one;
            let Some((id, client)) = state.turns.next(may) else { return };
            match self.store.mails(MailId::new(id.get() - 1), 1).await {
                Ok(mails) => {
                    let now = self.clock.now();
                    if let Some(queued) = mails.first().filter(|mail| mail.id == id && mail.is_due(now)) {
                        state.under_way.insert(id, client);
                        self.begin(state, queued).await;
                    }
                }
                Err(failure) => return unreadable(&failure),
            }
        }
    }

    /// Whether there is nothing left to tell: a link that is no longer good, in a mail that is nothing without it.
    async fn is_pointless(&self, queued: &QueuedMail) -> bool {
        if queued.mail.is_pointless(self.clock.now()) {
            return true;
        }
        match queued.mail.token.filter(|_| queued.mail.kind.is_only_a_link()) {
            Some(token) => matches!(self.store.one_time_token(&token).await, Ok(None)),
            None => false,
        }
    }

    /// Sends one mail in a task of its own and notes what came of it.
    async fn begin(&self, state: &State, queued: &QueuedMail) {
        let (store, transport, clock) = (self.store.clone(), Arc::clone(&self.transport), Arc::clone(&self.clock));
        let (mailbox, links) = (Arc::clone(&state.mailbox), Arc::clone(&self.links));
        let link = queued.mail.token.zip(queued.mail.valid_for);
        let is_pointless = self.is_pointless(queued).await;
        let mail = self.outgoing(queued).await;
        let mut spread = [0; 4];
        self.entropy.fill(&mut spread);
        let (settings, spread) = (self.settings, u32::from_be_bytes(spread));
        let (id, attempt) = (queued.id, queued.attempts.saturating_add(1));
        self.attempts.spawn(async move {
            let sent = if is_pointless {
                Err(SendError::Permanent(POINTLESS.to_owned()))
            } else {
                match tokio::time::timeout(settings.send_timeout + GRACE, transport.send(&mail)).await {
                    Ok(sent) => sent,
                    Err(_) => Err(SendError::Transient("the attempt took too long".to_owned())),
                }
            };
            let at = clock.now();
            let outcome = match sent {
                Ok(()) => {
                    if let Some((token, ttl)) = link {
                        links.note(token, clock.monotonic().saturating_add(ttl));
                    }
                    MailOutcome::Sent { at }
                }
                Err(SendError::Transient(error)) if attempt < settings.max_attempts => {
                    MailOutcome::Retry { at: at.plus(pause_after(attempt, spread)), error: tidy_error(&error) }
                }
                Err(SendError::Transient(error) | SendError::Permanent(error)) => {
                    MailOutcome::Dead { at, error: tidy_error(&error) }
                }
            };
            match &outcome {
                MailOutcome::Sent { .. } => {
                    tracing::debug!(mail = id.get(), template = mail.kind.as_str(), "a mail was sent");
                }
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

    /// Removes given-up mails and counts that are no longer kept, once in a while.
    async fn prune(&self, state: &mut State) {
        let now = self.clock.monotonic();
        if state.pruned.is_some_and(|pruned| now.saturating_sub(pruned) < PRUNE_PERIOD) {
            return;
        }
        state.pruned = Some(now);
        loop {
            match self.store.prune_mails(self.clock.now(), PRUNE_AT_ONCE).await {
                Ok(PRUNE_AT_ONCE) => {}
                Ok(_) => return,
                Err(failure) => {
                    tracing::error!(%failure, "what is no longer kept of the outbox cannot be removed");
                    return;
                }
            }
        }
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

fn unreadable(failure: &StoreFailure) {
    tracing::error!(%failure, "the outbox cannot be read");
}
