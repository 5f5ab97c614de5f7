//! The flows of accounts, each from its request to its answer.
//!
//! A flow decides on an account that it read, and commits with the revision of that account.
//! If the account changed in the meantime (for example its password), the store refuses the commit and the flow decides again.

mod credentials;
mod email;
mod letters;
mod links;
mod manage;
mod refresh;

use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::TaskTracker;

use super::AccountRules;
use crate::auditor::AuditHandle;
use crate::domain::account::{Account, AccountChange, AccountId};
use crate::domain::audit::{AuditActorKind, AuditDetails, AuditEvent, AuditRecord, AuditRefusal};
use crate::domain::email::EmailKey;
use crate::domain::failures::ProtectedResource;
use crate::domain::hash_form::HashFormKey;
use crate::domain::one_time::OneTimeKey;
use crate::domain::refresh::RefreshKeys;
use crate::domain::session::{Origin, SessionId};
use crate::hasher::{Against, HasherHandle};
use crate::leases::Leases;
use crate::mailer::MailerHandle;
use crate::ports::{Clock, Entropy};
use crate::rate_limiter::{Attempt, Limited, RateLimiterHandle, Target};
use crate::session::SessionHandle;
use crate::store::{Store, StoreFailure};

pub(crate) use credentials::not_created;
pub(crate) use email::{address_of, asks_for_passphrase, is_recent};
pub(crate) use letters::{Addressee, Writer};
pub(crate) use links::IssuedLinks;

/// How many times a flow decides while its account keeps changing, before it asks the client to try again.
const MAX_ATTEMPTS: usize = 3;

/// The minimum delay after an answer before work begins that the answer must not reveal.
/// A random part of up to [`CHANCE_MILLIS`] is added.
const AFTER_ANSWER: Duration = Duration::from_millis(5);
/// The range of the random part of the delay, in milliseconds.
const CHANCE_MILLIS: u8 = 32;

/// The dependencies of the flows.
pub(crate) struct Flows {
    pub(crate) rules: AccountRules,
    pub(crate) store: Store,
    pub(crate) hasher: HasherHandle,
    pub(crate) sessions: SessionHandle,
    pub(crate) audit: AuditHandle,
    pub(crate) limits: RateLimiterHandle,
    pub(crate) mailer: MailerHandle,
    pub(crate) key: Arc<OneTimeKey>,
    pub(crate) refresh_keys: RefreshKeys,
    pub(crate) hash_forms: HashFormKey,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) links: Arc<IssuedLinks>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) leases: Leases,
    /// By how much the clocks of the nodes on one store may differ.
    pub(crate) clock_skew: Duration,
    /// Work that goes on after its answer.
    pub(crate) background: TaskTracker,
}

impl Flows {
    /// Returns what a presented password is compared with. For an unknown address, or an account without a password, that is a hash of
    /// the form that the address would have (S11). The forms are read for every login, so that this read reveals nothing either.
    async fn password_of(&self, email: &EmailKey, account: Option<&Account>) -> Result<Against, StoreFailure> {
        let forms = self.store.hash_forms().await?;
        Ok(match account.and_then(|account| account.password_hash.clone()) {
            Some(hash) => Against::Hash(hash),
            None => Against::Nobodys(forms.for_unknown(&self.hash_forms, email).cloned()),
        })
    }

    /// Does some work after the answer, with a random delay.
    /// Work that began at once would compete with the answer for the processor, and the time of the answer would reveal whether there
    /// is anything to do (S11).
    fn after_answer(&self, work: impl Future<Output = ()> + Send + 'static) {
        let mut chance = [0];
        self.entropy.fill(&mut chance);
        let pause = AFTER_ANSWER + Duration::from_millis(u64::from(chance[0] % CHANCE_MILLIS));
        self.background.spawn(async move {
            tokio::time::sleep(pause).await;
            work.await;
        });
    }

    /// Admits an attempt at an account, existing or not, before anything is computed for it (S15).
    /// Records a refused attempt in the audit log.
    async fn attempt(
        &self,
        kind: ProtectedResource,
        email: &EmailKey,
        account: Option<&Account>,
        context: &AuditContext,
    ) -> Result<Result<Attempt, Limited>, StoreFailure> {
        let client = context.origin.address;
        let known = match (account, client) {
            (Some(account), Some(client)) => {
                self.store.knows_address(account.id, self.limits.network_of(client)).await?
            }
            _ => false,
        };
        let target = Target { email, account: account.map(|account| account.id), known };
        let attempt = self.limits.attempt(kind, Some(target), client).await?;
        Ok(attempt.map_err(|limited| context.refuse(self, AuditRefusal::TooManyAttempts, limited)))
    }
}

/// The common part of all audit records of one flow.
#[derive(Clone)]
struct AuditContext {
    event: AuditEvent,
    actor: AuditActorKind,
    subject: Option<AccountId>,
    session: Option<SessionId>,
    origin: Origin,
}

impl AuditContext {
    fn new(event: AuditEvent, actor: AuditActorKind, origin: Origin) -> Self {
        Self { event, actor, subject: None, session: None, origin }
    }

    fn about(mut self, subject: AccountId) -> Self {
        self.subject = Some(subject);
        self
    }

    fn within(mut self, session: SessionId) -> Self {
        self.session = Some(session);
        self
    }

    fn told(&self, flows: &Flows, refusal: Option<AuditRefusal>) -> AuditRecord {
        AuditRecord {
            actor: self.actor.clone(),
            subject: self.subject,
            session: self.session,
            origin: self.origin.clone(),
            refusal,
            ..AuditRecord::new(self.event, flows.clock.now())
        }
    }

    /// Returns the record that goes into the commit of the change itself.
    fn done(&self, flows: &Flows) -> AuditRecord {
        self.told(flows, None)
    }

    /// Returns the same record for a change to this account, with the changed fields.
    fn changed(&self, flows: &Flows, change: &AccountChange, account: &Account) -> AuditRecord {
        let fields = change.fields(account);
        let details = (!fields.is_empty()).then_some(AuditDetails::Changed(fields));
        AuditRecord { details, ..self.done(flows) }
    }

    /// Records a refusal in the audit log and returns the given answer.
    fn refuse<E>(&self, flows: &Flows, refusal: AuditRefusal, answer: E) -> E {
        flows.audit.refused(self.told(flows, Some(refusal)));
        answer
    }
}
