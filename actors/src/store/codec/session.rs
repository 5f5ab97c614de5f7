//! The frozen forms of sessions and their refresh tokens. No token is ever stored, only its hash.

use crate::domain::refresh::{RefreshFamily, RefreshHash};
use crate::domain::session::{Session, SessionId, SessionLabel};
use crate::domain::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::{AddressV1, Record, V1, account_id, open, open_appended};

const V2: u8 = 2;
const V3: u8 = 3;

/// The first version lacks the label, and whether the session is remembered.
#[derive(Serialize, Deserialize)]
struct SessionV2 {
    id: [u8; 16],
    account: u64,
    epoch: u64,
    created_at: i64,
    expires_at: i64,
    last_active_at: i64,
    address: Option<AddressV1>,
    user_agent: Option<String>,
    label: Option<String>,
    remembered: bool,
}

/// Adds when the owner last proved their identity, and when they were last notified of an unknown network.
#[derive(Serialize, Deserialize)]
pub(crate) struct SessionV3 {
    id: [u8; 16],
    account: u64,
    epoch: u64,
    created_at: i64,
    authenticated_at: Option<i64>,
    expires_at: i64,
    last_active_at: i64,
    address: Option<AddressV1>,
    user_agent: Option<String>,
    notified_at: Option<i64>,
    label: Option<String>,
    remembered: bool,
}

impl From<SessionV2> for SessionV3 {
    /// The login was the last proof of identity, and no notification of a refresh was sent.
    fn from(v2: SessionV2) -> Self {
        Self {
            id: v2.id,
            account: v2.account,
            epoch: v2.epoch,
            created_at: v2.created_at,
            authenticated_at: Some(v2.created_at),
            expires_at: v2.expires_at,
            last_active_at: v2.last_active_at,
            address: v2.address,
            user_agent: v2.user_agent,
            notified_at: None,
            label: v2.label,
            remembered: v2.remembered,
        }
    }
}

impl Record for Session {
    const KIND: &'static str = "session";
    const VERSION: u8 = V3;
    type Frozen = SessionV3;

    fn freeze(&self) -> SessionV3 {
        SessionV3 {
            id: *self.id.as_bytes(),
            account: self.account.get(),
            epoch: self.epoch,
            created_at: self.created_at.as_millis(),
            authenticated_at: self.authenticated_at.map(Timestamp::as_millis),
            expires_at: self.expires_at.as_millis(),
            last_active_at: self.last_active_at.as_millis(),
            address: self.address.map(AddressV1::from),
            user_agent: self.user_agent.clone(),
            notified_at: self.notified_at.map(Timestamp::as_millis),
            label: self.label.as_ref().map(|label| label.as_str().to_owned()),
            remembered: self.remembered,
        }
    }

    fn thaw(frozen: SessionV3) -> Result<Self, &'static str> {
        let label = |stored: String| SessionLabel::parse(&stored).map_err(|_| "its label is not one");
        Ok(Self {
            id: SessionId::from_bytes(frozen.id),
            account: account_id(frozen.account)?,
            epoch: frozen.epoch,
            created_at: Timestamp::from_millis(frozen.created_at),
            authenticated_at: frozen.authenticated_at.map(Timestamp::from_millis),
            expires_at: Timestamp::from_millis(frozen.expires_at),
            last_active_at: Timestamp::from_millis(frozen.last_active_at),
            address: frozen.address.map(Into::into),
            user_agent: frozen.user_agent,
            notified_at: frozen.notified_at.map(Timestamp::from_millis),
            label: frozen.label.map(label).transpose()?,
            remembered: frozen.remembered,
        })
    }

    fn upgrade(version: u8, body: &[u8]) -> Result<SessionV3, &'static str> {
        match version {
            V1 => Ok(open_appended::<SessionV2>(body, 2)?.into()),
            V2 => Ok(open::<SessionV2>(body)?.into()),
            _ => Err("unknown version byte"),
        }
    }
}

#[derive(Serialize, Deserialize)]
pub(crate) struct RefreshFamilyV1 {
    seed: [u8; 32],
    generation: u32,
    current: [u8; 32],
    replaced_at: Vec<i64>,
}

impl Record for RefreshFamily {
    const KIND: &'static str = "refresh tokens";
    type Frozen = RefreshFamilyV1;

    fn freeze(&self) -> RefreshFamilyV1 {
        RefreshFamilyV1 {
            seed: self.seed,
            generation: self.generation,
            current: *self.current.as_bytes(),
            replaced_at: self.replaced_at.iter().map(|at| at.as_millis()).collect(),
        }
    }

    fn thaw(frozen: RefreshFamilyV1) -> Result<Self, &'static str> {
        Ok(Self {
            seed: frozen.seed,
            generation: frozen.generation,
            current: RefreshHash::from_bytes(frozen.current),
            replaced_at: frozen.replaced_at.into_iter().map(Timestamp::from_millis).collect(),
        })
    }
}
