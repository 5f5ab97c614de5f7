//! Service tokens: made, rotated, revoked, used.

use doorward_actors::ports::{Acting, ChangeServiceTokenRefusal, CreateServiceTokenRefusal, MAX_SERVICE_TOKENS};
use doorward_actors::{
    AuditRecord, NewServiceToken, ReplacedSecret, ServiceToken, ServiceTokenId, ServiceTokenRotation, Timestamp,
};

use super::super::codec;
use super::super::keys;
use super::super::staging::{Abort, Staging};
use super::audit::append;
use super::next;
use super::sessions::may_act;

pub(in crate::store) fn create_service_token(
    staging: &mut Staging<'_>,
    new: NewServiceToken,
    audit: &AuditRecord,
) -> Result<ServiceToken, Abort<CreateServiceTokenRefusal>> {
    if !may_act(staging, new.acting)? {
        return Err(Abort::Refused(CreateServiceTokenRefusal::Revoked));
    }
    let present = staging.scan(keys::ALL_SERVICE_TOKENS)?;
    for (_, value) in &present {
        if codec::decode::<ServiceToken>(value)?.name == new.name {
            return Err(Abort::Refused(CreateServiceTokenRefusal::NameTaken));
        }
    }
    if present.len() >= MAX_SERVICE_TOKENS {
        return Err(Abort::Refused(CreateServiceTokenRefusal::TooMany));
    }
    let token = ServiceToken {
        id: ServiceTokenId::new(next(staging, keys::LAST_SERVICE_TOKEN_ID)?),
        name: new.name,
        scopes: new.scopes,
        digest: new.digest,
        replaced: None,
        created_at: new.created_at,
        expires_at: new.expires_at,
        last_used_at: None,
    };
    staging.put(&keys::service_token(token.id), &token)?;
    append(staging, audit)?;
    Ok(token)
}

pub(in crate::store) fn rotate_service_token(
    staging: &mut Staging<'_>,
    id: ServiceTokenId,
    rotation: ServiceTokenRotation,
    audit: &AuditRecord,
) -> Result<ServiceToken, Abort<ChangeServiceTokenRefusal>> {
    if !may_act(staging, rotation.acting)? {
        return Err(Abort::Refused(ChangeServiceTokenRefusal::Revoked));
    }
    let key = keys::service_token(id);
    let Some(before) = staging.get::<ServiceToken>(&key)? else {
        return Err(Abort::Refused(ChangeServiceTokenRefusal::Unknown));
    };
    let replaced = Some(ReplacedSecret { digest: before.digest, until: rotation.until });
    let after = ServiceToken { digest: rotation.digest, replaced, ..before };
    staging.put(&key, &after)?;
    append(staging, audit)?;
    Ok(ServiceToken { last_used_at: staging.get(&keys::service_token_use(id))?, ..after })
}

pub(in crate::store) fn delete_service_token(
    staging: &mut Staging<'_>,
    id: ServiceTokenId,
    acting: Option<Acting>,
    audit: &AuditRecord,
) -> Result<(), Abort<ChangeServiceTokenRefusal>> {
    if !may_act(staging, acting)? {
        return Err(Abort::Refused(ChangeServiceTokenRefusal::Revoked));
    }
    let key = keys::service_token(id);
    if !staging.has(&key)? {
        return Err(Abort::Refused(ChangeServiceTokenRefusal::Unknown));
    }
    staging.remove(&key);
    staging.remove(&keys::service_token_use(id));
    Ok(append(staging, audit)?)
}

pub(in crate::store) fn touch_service_tokens<R>(
    staging: &mut Staging<'_>,
    used: &[(ServiceTokenId, Timestamp)],
) -> Result<(), Abort<R>> {
    for (id, at) in used {
        let key = keys::service_token_use(*id);
        let is_known = *id == ServiceTokenId::BUILT_IN || staging.has(&keys::service_token(*id))?;
        if is_known && staging.get::<Timestamp>(&key)?.is_none_or(|known| known < *at) {
            staging.put(&key, at)?;
        }
    }
    Ok(())
}
