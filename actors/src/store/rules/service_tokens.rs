//! The rules for service tokens: create, rotate, revoke, note a use.

use super::super::codec;
use super::super::layout;
use super::super::requests::{ChangeServiceTokenRefusal, CreateServiceTokenRefusal, MAX_SERVICE_TOKENS};
use super::super::transaction::{Abort, Transaction};
use super::audit::append;
use super::next;
use super::sessions::may_act;
use crate::domain::audit::AuditRecord;
use crate::domain::service_token::{
    NewServiceToken, ReplacedSecret, ServiceToken, ServiceTokenId, ServiceTokenRotation,
};
use crate::domain::session::Acting;
use crate::domain::time::Timestamp;

pub(crate) fn create_service_token(
    tx: &mut Transaction<'_>,
    new: NewServiceToken,
    audit: &AuditRecord,
) -> Result<ServiceToken, Abort<CreateServiceTokenRefusal>> {
    if !may_act(tx, new.acting)? {
        return Err(Abort::Refused(CreateServiceTokenRefusal::Revoked));
    }
    let present = tx.scan(layout::ALL_SERVICE_TOKENS)?;
    for (_, value) in &present {
        if codec::decode::<ServiceToken>(value)?.name == new.name {
            return Err(Abort::Refused(CreateServiceTokenRefusal::NameTaken));
        }
    }
    if present.len() >= MAX_SERVICE_TOKENS {
        return Err(Abort::Refused(CreateServiceTokenRefusal::TooMany));
    }
    let token = ServiceToken {
        id: ServiceTokenId::new(next(tx, layout::LAST_SERVICE_TOKEN_ID)?),
        name: new.name,
        scopes: new.scopes,
        digest: new.digest,
        replaced: None,
        created_at: new.created_at,
        expires_at: new.expires_at,
        last_used_at: None,
    };
    tx.put(&layout::service_token(token.id), &token)?;
    append(tx, audit)?;
    Ok(token)
}

pub(crate) fn rotate_service_token(
    tx: &mut Transaction<'_>,
    id: ServiceTokenId,
    rotation: ServiceTokenRotation,
    audit: &AuditRecord,
) -> Result<ServiceToken, Abort<ChangeServiceTokenRefusal>> {
    if !may_act(tx, rotation.acting)? {
        return Err(Abort::Refused(ChangeServiceTokenRefusal::Revoked));
    }
    let key = layout::service_token(id);
    let Some(before) = tx.get::<ServiceToken>(&key)? else {
        return Err(Abort::Refused(ChangeServiceTokenRefusal::Unknown));
    };
    let replaced = Some(ReplacedSecret { digest: before.digest, until: rotation.until });
    let after = ServiceToken { digest: rotation.digest, replaced, ..before };
    tx.put(&key, &after)?;
    append(tx, audit)?;
    Ok(ServiceToken { last_used_at: tx.get(&layout::service_token_use(id))?, ..after })
}

pub(crate) fn delete_service_token(
    tx: &mut Transaction<'_>,
    id: ServiceTokenId,
    acting: Option<Acting>,
    audit: &AuditRecord,
) -> Result<(), Abort<ChangeServiceTokenRefusal>> {
    if !may_act(tx, acting)? {
        return Err(Abort::Refused(ChangeServiceTokenRefusal::Revoked));
    }
    let key = layout::service_token(id);
    if !tx.has(&key)? {
        return Err(Abort::Refused(ChangeServiceTokenRefusal::Unknown));
    }
    tx.remove(&key);
    tx.remove(&layout::service_token_use(id));
    Ok(append(tx, audit)?)
}

pub(crate) fn touch_service_tokens<R>(
    tx: &mut Transaction<'_>,
    used: &[(ServiceTokenId, Timestamp)],
) -> Result<(), Abort<R>> {
    for (id, at) in used {
        let key = layout::service_token_use(*id);
        let is_known = *id == ServiceTokenId::BUILT_IN || tx.has(&layout::service_token(*id))?;
        if is_known && tx.get::<Timestamp>(&key)?.is_none_or(|known| known < *at) {
            tx.put(&key, at)?;
        }
    }
    Ok(())
}
