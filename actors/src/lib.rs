//! The domain and the supervised processes of Doorward.
//!
//! This crate knows accounts, sessions, credentials and the actors that own them. It knows nothing of HTTP, of the
//! database, of settings files or of mail servers: those reach it through the traits of [`ports`] and [`store::Engine`], which
//! the binary implements.

mod ask;
mod auditor;
mod backups;
mod clock_check;
mod domain;
mod hasher;
mod health;
mod keys;
mod leases;
mod mailer;
pub mod ports;
mod process;
mod rate_limiter;
mod revocations;
mod services;
mod session;
pub mod store;
mod supervisor;
mod system;
#[cfg(feature = "testing")]
pub mod testing;
mod user;

pub use ask::{ActingError, Unavailable};
pub use auditor::{AuditHandle, AuditReader, AuditSettings};
pub use backups::{BackupHealth, BackupPlan};

pub use domain::account::{
    Account, AccountChange, AccountId, AccountOrigin, CredentialHash, CustomerAccount, CustomerAccountError,
    NewAccount, NewRole, ProfileChange, ReservedEmail, Role, Undoable,
};
pub use domain::audit::{
    AuditActorFilter, AuditActorKind, AuditCheckpoint, AuditDetails, AuditEvent, AuditField, AuditFilter, AuditHash,
    AuditHead, AuditOrder, AuditOutcome, AuditPage, AuditPruned, AuditPruning, AuditQuery, AuditRecord, AuditRefusal,
    AuditStart, AuditStatus, ServiceName,
};
pub use domain::email::{Email, EmailError, EmailKey};
pub use domain::failures::{
    FailureKey, FailureRule, FailureRules, FailureScope, Failures, MustWait, ProtectedResource, SubjectKey,
};
pub use domain::hash_form::{HashCount, HashForm, HashForms};
pub use domain::import::{ImportOutcome, ImportedAccount, MAX_HASH_FORMS, NumberStanding};
pub use domain::lease::{Lease, LeaseClaim};
pub use domain::mail::{Locale, MailKind, MailValues, OutgoingMail};
pub use domain::network::ClientNetworks;
pub use domain::networks::Networks;
pub use domain::nickname::{Nickname, NicknameError, NicknameKey};
pub use domain::one_time::{NewToken, TokenHash, TokenPurpose, TokenSeed};
pub use domain::outbox::{
    GivenUp, HANDOVER_WITHIN, MAX_GIVEN_UP, MailBound, MailCount, MailId, MailOutcome, MailScope, MailState, NewMail,
    QueuedMail, day_of, no_longer_kept,
};
pub use domain::passphrase::{Passphrase, PassphraseError};
pub use domain::password::{OwnNames, Password, PasswordPolicy, PasswordTooLong, WeakPassword};
pub use domain::refresh::{RefreshFamily, RefreshHash, RefreshProof, RefreshVerdict};
pub use domain::revocation::{CursorError, Revocation, RevocationSpan, Revoked};
pub use domain::secret::{Secret, SecretDigest};
pub use domain::service_token::{
    MAX_OVERLAP, NewServiceToken, ReplacedSecret, ServiceScope, ServiceScopes, ServiceToken, ServiceTokenId,
    ServiceTokenRotation,
};
pub use domain::session::{
    Acting, Origin, Session, SessionId, SessionLabel, SessionLabelError, SessionPolicy, WhichSessions,
};
pub use domain::time::{Timestamp, describe_idle};
pub use domain::token::{
    BadKey, KEY_SET_MAX_AGE, KeyEvent, KeyEventKind, KeyId, KeyRing, KeyState, PublishedKeys, RingKey, RotateRefusal,
    SigningAlgorithm, SigningKey, TokenId, TokenKeyError, TokenSettings,
};
pub use hasher::{
    CalibrationError, ForeignHashError, HashBackend, HashBackendChoice, HashCost, HashLane, HasherHandle,
    HasherSettings, HasherStartError, PasswordReport, pace_of,
};
pub use health::{
    ActorHealth, Check, DiskHealth, Distribution, EngineHealth, FeedHealth, HasherHealth, HealthReport, Histogram,
    LaneHealth, LimiterHealth, OutboxHealth, Problem, QuotaHealth, RequestTimes, Sizes, StoreHealth, Times,
};
pub use keys::{KeyHandle, KeyView, KeysError, RotateError};
pub use mailer::{MailerHandle, MailerSettings};
pub use rate_limiter::{
    LimitFilter, LimitKey, LimitView, LimitViews, Limited, RateLimiterHandle, RateLimits, RateQuota, Standing,
};
pub use revocations::{RevocationHandle, RevocationPage};
pub use services::{CreateTokenError, IssuedToken, RevokeTokenError, RotateTokenError, Service, ServiceHandle};
pub use session::{AuthenticateError, EndError, Inspected, Principal, SessionHandle};
pub use system::{ActorSystem, Handles, HealthHandle, Ports, StartError, SystemSettings};
pub use user::{
    AccountOverview, AccountRules, AccountToImport, AdminChange, ConfirmError, Confirmed, DeleteError, IMPORT_BATCH,
    ImportError, Importer, LoggedIn, LoginAttempt, LoginError, MailedRecovery, MailedRecoveryError, Operator,
    OperatorPorts, OperatorSettings, OwnChange, OwnChanged, ProofError, RecoverError, RecoveryAttempt, RecoveryMode,
    RefreshError, Refreshed, RegisterError, Registered, Registration, TokenPreview, UpdateError, UsedLink, UserHandle,
};
