//! The frozen forms of counters of failed attempts.

use crate::domain::failures::Failures;
use crate::domain::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Record, V1, account_id, open};

#[derive(Serialize, Deserialize)]
pub(crate) struct FailuresV1 {
    count: u32,
    last_at: i64,
    account: Option<u64>,
}

/// The second version: when forgetting began, and the attempts under way.
#[derive(Serialize, Deserialize)]
pub(crate) struct FailuresV2 {
    count: u32,
    last_at: Option<i64>,
    forgotten_from: i64,
    under_way: u32,
    under_way_until: i64,
    account: Option<u64>,
}

impl Record for Failures {
    const KIND: &'static str = "failures";
    const VERSION: u8 = 2;
    type Frozen = FailuresV2;

    fn freeze(&self) -> FailuresV2 {
        FailuresV2 {
            count: self.count,
            last_at: self.last_at.map(Timestamp::as_millis),
            forgotten_from: self.forgotten_from.as_millis(),
            under_way: self.under_way,
            under_way_until: self.under_way_until.as_millis(),
            account: self.account.map(crate::AccountId::get),
        }
    }

    fn upgrade(version: u8, body: &[u8]) -> Result<FailuresV2, &'static str> {
        match version {
            V1 => {
                let FailuresV1 { count, last_at, account } = open(body)?;
                let (forgotten_from, under_way_until) = (last_at, last_at);
                Ok(FailuresV2 { count, last_at: Some(last_at), forgotten_from, under_way: 0, under_way_until, account })
            }
            _ => Err("unknown version byte"),
        }
    }

    fn thaw(frozen: FailuresV2) -> Result<Self, &'static str> {
        Ok(Self {
            count: frozen.count,
            last_at: frozen.last_at.map(Timestamp::from_millis),
            forgotten_from: Timestamp::from_millis(frozen.forgotten_from),
            under_way: frozen.under_way,
            under_way_until: Timestamp::from_millis(frozen.under_way_until),
            account: frozen.account.map(account_id).transpose()?,
        })
    }
}
