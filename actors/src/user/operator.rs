//! The operator's commands on a data directory that no server has open.
//!
//! Only the hashing threads run. A command has the settings of its shell, which may differ from those of the server.
//! With such settings, actors would end sessions, change keys and send mails.

use std::sync::Arc;
use std::time::Duration;

use super::flows::{Addressee, Writer, not_created};
use super::{RegisterError, Registration};
use crate::auditor::log_head;
use crate::domain::account::{Account, NewAccount, NewRole, Role};
use crate::domain::audit::{AuditEvent, AuditRecord, AuditRefusal};
use crate::domain::mail::{Locale, MailKind};
use crate::domain::one_time::{OneTimeKey, TokenPurpose};
use crate::domain::password::{OwnNames, PasswordPolicy};
use crate::domain::secret::Secret;
use crate::domain::session::Origin;
use crate::hasher::{Candidate, HasherHandle, HasherSettings, HasherStartError};
use crate::ports::{BreachedPasswords, Clock, Entropy};
use crate::store::{Effects, Store, StoreError};

/// The ports that an operator's command needs.
#[derive(Clone)]
pub struct OperatorPorts {
    /// Durable state.
    pub store: Store,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// The operator's list of breached passwords, if there is one.
    pub breached: Option<Arc<dyn BreachedPasswords>>,
}

/// The settings with which an operator creates accounts.
#[derive(Debug, Clone)]
pub struct OperatorSettings {
    /// Password hashing.
    pub hasher: HasherSettings,
    /// The requirements for a new password.
    pub passwords: PasswordPolicy,
    /// The language of an account for which none is given.
    pub default_locale: Locale,
    /// How long a link that verifies an address is valid.
    pub verification_ttl: Duration,
    /// The signing secret of the server, from which the links in mails are derived. If it is not given, no mail is queued.
    pub secret: Option<Secret>,
}

/// Creates accounts for the operator. The hashing threads end when it is dropped.
pub struct Operator {
    ports: OperatorPorts,
    hasher: HasherHandle,
    key: Option<OneTimeKey>,
    default_locale: Locale,
    verification_ttl: Duration,
}

impl Operator {
    /// Starts the hashing threads.
    ///
    /// # Errors
    /// The threads could not be started.
    pub fn start(ports: OperatorPorts, settings: OperatorSettings) -> Result<Self, HasherStartError> {
        let OperatorSettings { hasher, passwords, default_locale, verification_ttl, secret } = settings;
        let (clock, entropy) = (Arc::clone(&ports.clock), Arc::clone(&ports.entropy));
        let hasher = HasherHandle::start(hasher, passwords, ports.breached.clone(), clock, entropy)?;
        Ok(Self { ports, hasher, key: secret.as_ref().map(OneTimeKey::derive), default_locale, verification_ttl })
    }

    /// Creates an administrator. The server later sends the mail that verifies the address, if one could be queued.
    ///
    /// # Errors
    /// A rule refuses it, which is recorded in the audit log, or the store failed.
    pub async fn create_admin(&self, registration: Registration) -> Result<Account, RegisterError> {
        log_head(&self.ports.store).await;
        let created = self.create(registration).await;
        log_head(&self.ports.store).await;
        created
    }

    async fn create(&self, registration: Registration) -> Result<Account, RegisterError> {
        let Registration { email, nickname, password, passphrase, mut profile } = registration;
        let store = &self.ports.store;
        // Saves two hashes if the address is taken; the commit decides.
        if store.account_by_email(email.key()).await?.is_some() {
            return self.refuse(AuditRefusal::EmailTaken, RegisterError::EmailTaken).await;
        }
        let candidate = Candidate { password, names: OwnNames::new(&email, Some(&nickname)) };
        let (password_hash, passphrase_hash) =
            match self.hasher.hash_both(candidate, passphrase.secret().clone()).await? {
                Ok(hashes) => hashes,
                Err(weak) => return self.refuse(AuditRefusal::WeakPassword, RegisterError::Weak(weak)).await,
            };
        let locale = *profile.locale.get_or_insert(self.default_locale);
        let mut effects = Effects::from(self.record(None));
        if let Some(key) = &self.key {
            let writer = Writer { clock: &*self.ports.clock, entropy: &*self.ports.entropy };
            let addressee = Addressee { to: &email, nickname: nickname.as_str(), locale };
            let mail = writer.letter(MailKind::VerifyAddress, addressee, &Origin::default());
            let purpose = TokenPurpose::VerifyAddress;
            let (mail, token) = writer.linked(mail, key, purpose, email.key(), self.verification_ttl);
            effects.mails.push(mail);
            effects.tokens.push(token);
        }
        let account = NewAccount {
            email,
            nickname,
            password_hash,
            passphrase_hash,
            profile,
            created_at: self.ports.clock.now(),
            acting: None,
            role: NewRole::Exactly(Role::Admin),
            replaces_unverified: false,
        };
        match store.create_account(account, effects).await {
            Ok(account) => Ok(account),
            Err(StoreError::Failed(failure)) => Err(failure.into()),
            Err(StoreError::Refused(refusal)) => {
                let (reason, answer) = not_created(refusal);
                self.refuse(reason, answer).await
            }
        }
    }

    /// Records a refusal in the audit log and returns the error.
    async fn refuse(&self, refusal: AuditRefusal, answer: RegisterError) -> Result<Account, RegisterError> {
        self.ports.store.append_audit(vec![self.record(Some(refusal))]).await?;
        Err(answer)
    }

    fn record(&self, refusal: Option<AuditRefusal>) -> AuditRecord {
        AuditRecord { refusal, ..AuditRecord::new(AuditEvent::AccountCreated, self.ports.clock.now()) }
    }
}
