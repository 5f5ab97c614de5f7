//! The frozen forms of service tokens and revocations. A secret itself is never stored, only its hash.

use crate::domain::account::{AccountId, Role};
use crate::domain::audit::ServiceName;
use crate::domain::revocation::{Revocation, Revoked};
use crate::domain::secret::SecretDigest;
use crate::domain::service_token::{ReplacedSecret, ServiceScopes, ServiceToken, ServiceTokenId};
use crate::domain::session::SessionId;
use crate::domain::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Record, account_id};

#[derive(Serialize, Deserialize)]
pub(crate) struct ServiceTokenV1 {
    id: u64,
    name: String,
    scopes: u16,
    digest: [u8; 32],
    replaced: Option<ReplacedV1>,
    created_at: i64,
    expires_at: Option<i64>,
}

#[derive(Serialize, Deserialize)]
struct ReplacedV1 {
    digest: [u8; 32],
    until: i64,
}

/// The last use is not included; it is a separate record.
impl Record for ServiceToken {
    const KIND: &'static str = "service token";
    type Frozen = ServiceTokenV1;

    fn freeze(&self) -> ServiceTokenV1 {
        ServiceTokenV1 {
            id: self.id.get(),
            name: self.name.as_str().to_owned(),
            scopes: self.scopes.bits(),
            digest: *self.digest.as_bytes(),
            replaced: self
                .replaced
                .map(|replaced| ReplacedV1 { digest: *replaced.digest.as_bytes(), until: replaced.until.as_millis() }),
            created_at: self.created_at.as_millis(),
            expires_at: self.expires_at.map(Timestamp::as_millis),
        }
    }

    fn thaw(frozen: ServiceTokenV1) -> Result<Self, &'static str> {
        Ok(Self {
            id: ServiceTokenId::new(frozen.id),
            name: ServiceName::parse(&frozen.name).ok_or("its service has no name")?,
            scopes: ServiceScopes::from_bits(frozen.scopes).ok_or("unknown scope")?,
            digest: SecretDigest::from_bytes(frozen.digest),
            replaced: frozen.replaced.map(|replaced| ReplacedSecret {
                digest: SecretDigest::from_bytes(replaced.digest),
                until: Timestamp::from_millis(replaced.until),
            }),
            created_at: Timestamp::from_millis(frozen.created_at),
            expires_at: frozen.expires_at.map(Timestamp::from_millis),
            last_used_at: None,
        })
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct RevocationV1 {
    at: i64,
    /// 0 if it concerns all accounts.
    account: u64,
    what: RevokedV1,
}

/// The kind of revocation. The variants are numbered in this order.
#[derive(Serialize, Deserialize)]
enum RevokedV1 {
    Session([u8; 16]),
    AccountLocked,
    AccountDeleted,
    RoleUser,
    RoleAdmin,
    KeysReplaced,
}

impl Record for Revocation {
    const KIND: &'static str = "revocation";
    type Frozen = RevocationV1;

    fn freeze(&self) -> RevocationV1 {
        let what = match self.what {
            Revoked::Session(id) => RevokedV1::Session(*id.as_bytes()),
            Revoked::AccountLocked => RevokedV1::AccountLocked,
            Revoked::AccountDeleted => RevokedV1::AccountDeleted,
            Revoked::Role(Role::User) => RevokedV1::RoleUser,
            Revoked::Role(Role::Admin) => RevokedV1::RoleAdmin,
            Revoked::KeysReplaced => RevokedV1::KeysReplaced,
        };
        RevocationV1 { at: self.at.as_millis(), account: self.account.map_or(0, AccountId::get), what }
    }

    fn thaw(frozen: RevocationV1) -> Result<Self, &'static str> {
        let what = match frozen.what {
            RevokedV1::Session(id) => Revoked::Session(SessionId::from_bytes(id)),
            RevokedV1::AccountLocked => Revoked::AccountLocked,
            RevokedV1::AccountDeleted => Revoked::AccountDeleted,
            RevokedV1::RoleUser => Revoked::Role(Role::User),
            RevokedV1::RoleAdmin => Revoked::Role(Role::Admin),
            RevokedV1::KeysReplaced => Revoked::KeysReplaced,
        };
        let account = match what {
            Revoked::KeysReplaced => None,
            _ => Some(account_id(frozen.account)?),
        };
        Ok(Self { at: Timestamp::from_millis(frozen.at), account, what })
    }
}
