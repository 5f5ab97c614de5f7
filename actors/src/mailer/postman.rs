//! One attempt to send a mail: the postman claims it, builds it, hands it to the transport and stores the outcome.

use std::sync::Arc;
use std::time::Duration;

use super::{MailerSettings, Troubles};
use crate::domain::mail::{MailValues, OutgoingMail};
use crate::domain::one_time::{OneTimeKey, TokenHash, TokenPurpose, TokenSeed};
use crate::domain::outbox::{MailId, MailOutcome, QueuedMail, pause_after, tidy_error};
use crate::domain::secret::Secret;
use crate::domain::time::Timestamp;
use crate::ports::{Clock, Entropy, MailTransport, SendError};
use crate::store::{Store, StoreFailure};
use crate::user::IssuedLinks;

/// How long an attempt may take beyond the transport's own time-out before it counts as failed.
const GRACE: Duration = Duration::from_secs(5);
/// How long after the time-out and [`GRACE`] the outcome must be stored, with room for a slow commit and for clocks that differ.
/// Then the claim ends, and another process may send the mail with the same `Message-ID`.
const SETTLED_WITHIN: Duration = Duration::from_secs(15);
/// The recorded reason for a mail whose link was used, replaced, revoked or expired before it was sent.
const POINTLESS: &str = "its link is no longer good";

/// Makes attempts to send mails.
pub(crate) struct Postman {
    pub(crate) settings: MailerSettings,
    pub(crate) store: Store,
    pub(crate) transport: Arc<dyn MailTransport>,
    pub(crate) key: Arc<OneTimeKey>,
    /// The key of the previous signing secret. The token of a mail that was queued under that secret is derived from it.
    pub(crate) previous_key: Option<OneTimeKey>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) troubles: Arc<Troubles>,
    /// When the links expire, on the monotonic clock.
    pub(crate) links: Arc<IssuedLinks>,
}

/// A mail that the transport has finished with.
pub(super) struct Tried {
    id: MailId,
    claimed_until: Timestamp,
    outcome: MailOutcome,
}

impl Postman {
    /// Claims a mail and tries to send it. Returns `None` if the mail is gone, not due, or claimed by another process.
    pub(super) async fn attempt(&self, id: MailId) -> Result<Option<Tried>, StoreFailure> {
        let Some(queued) = self.claim(id).await? else { return Ok(None) };
        let sent = if self.is_pointless(&queued).await {
            Err(SendError::Permanent(POINTLESS.to_owned()))
        } else {
            let mail = self.outgoing(&queued).await;
            match tokio::time::timeout(self.settings.send_timeout + GRACE, self.transport.send(&mail)).await {
                Ok(sent) => sent,
                Err(_) => Err(SendError::Transient("the attempt took too long".to_owned())),
            }
        };
        Ok(Some(Tried { id, claimed_until: queued.next_attempt_at, outcome: self.outcome(&queued, sent) }))
    }

    /// Claims a due mail, so that no other process sends it before its next attempt is due.
    /// If no other process shares the store, it stays due: after a kill, the next process then need not wait.
    async fn claim(&self, id: MailId) -> Result<Option<QueuedMail>, StoreFailure> {
        let now = self.clock.now();
        let until = self.store.is_shared().then(|| now.plus(self.settings.send_timeout + GRACE + SETTLED_WITHIN));
        self.store.claim_mail(id, now, until).await
    }

    /// Stores the outcome of an attempt.
    pub(super) async fn note(&self, Tried { id, claimed_until, outcome }: Tried) -> Result<(), StoreFailure> {
        self.store.settle_mail(id, claimed_until, outcome).await
    }

    fn outcome(&self, queued: &QueuedMail, sent: Result<(), SendError>) -> MailOutcome {
        let (at, attempt) = (self.clock.now(), queued.attempts.saturating_add(1));
        let (mail, template) = (queued.id.get(), queued.mail.kind.as_str());
        if let Err(SendError::Transient(error) | SendError::Permanent(error)) = &sent
            && error != POINTLESS
        {
            self.troubles.note(at, error);
        }
        match sent {
            Ok(()) => {
                if let Some((token, ttl)) = queued.mail.token.zip(queued.mail.valid_for) {
                    self.links.note(token, self.clock.monotonic().saturating_add(ttl));
                }
                tracing::debug!(mail, template, "a mail was sent");
                MailOutcome::Sent { at }
            }
            Err(SendError::Transient(error)) if attempt < self.settings.max_attempts => {
                let error = tidy_error(&error);
                tracing::warn!(mail, template, attempt, %error, "a mail could not be sent yet");
                let mut spread = [0; 4];
                self.entropy.fill(&mut spread);
                MailOutcome::Retry { at: at.plus(pause_after(attempt, u32::from_be_bytes(spread))), error }
            }
            Err(SendError::Transient(error) | SendError::Permanent(error)) => {
                let error = tidy_error(&error);
                tracing::error!(mail, template, attempt, %error, "a mail was given up");
                MailOutcome::Dead { at, error }
            }
        }
    }

    /// Returns whether the mail is pointless: its link is no longer valid, and the mail has no use without it.
    async fn is_pointless(&self, queued: &QueuedMail) -> bool {
        if queued.mail.is_pointless(self.clock.now()) {
            return true;
        }
        match queued.mail.token.filter(|_| queued.mail.kind.is_only_a_link()) {
            Some(token) => matches!(self.store.one_time_token(&token).await, Ok(None)),
            None => false,
        }
    }

    /// Builds the mail with the token of its link.
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

    /// Returns the token of a seed. It is derived from the previous secret if the store knows the token under that one:
    /// then the secret changed while the mail waited.
    async fn token(&self, purpose: TokenPurpose, seed: &TokenSeed) -> Secret {
        let token = self.key.token(purpose, seed);
        let Some(previous) = &self.previous_key else { return token };
        let older = previous.token(purpose, seed);
        match self.store.one_time_token(&TokenHash::of_issued(&older)).await {
            Ok(Some(_)) => older,
            Ok(None) => token,
            Err(failure) => {
                tracing::error!(%failure, "the secret that a queued link was derived from cannot be determined");
                token
            }
        }
    }
}
