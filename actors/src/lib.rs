//! The domain and the supervised processes of Doorward.
//!
//! This crate knows accounts, sessions, credentials and the actors that own them. It knows nothing of HTTP, of the
//! database, of settings files or of mail servers: those reach it through the traits of [`ports`], which the binary
//! implements.

mod domain;
pub mod ports;
#[cfg(feature = "testing")]
pub mod testing;

pub use domain::account::{
    Account, AccountChange, AccountId, CredentialHash, CustomerAccount, CustomerAccountError, NewAccount, NewRole, Role,
};
pub use domain::audit::{AuditActorKind, AuditEvent, AuditRecord, AuditRefusal};
pub use domain::email::{Email, EmailError, EmailKey};
pub use domain::nickname::{Nickname, NicknameError, NicknameKey};
pub use domain::passphrase::{Passphrase, PassphraseError};
pub use domain::password::{Password, PasswordPolicy, PasswordTooLong, WeakPassword};
pub use domain::secret::{Secret, SecretDigest};
pub use domain::session::{Origin, Session, SessionId, SessionPolicy};
pub use domain::time::{Timestamp, describe_idle};
