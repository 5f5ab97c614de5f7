//! The frozen form of counters of failed attempts.

use crate::domain::failures::StoredFailures;
use crate::domain::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Record, account_id};

#[derive(Serialize, Deserialize)]
pub(crate) struct FailuresV1 {
    count: u32,
    last_at: i64,
    account: Option<u64>,
}

impl Record for StoredFailures {
    const KIND: &'static str = "failures";
    type Frozen = FailuresV1;

    fn freeze(&self) -> FailuresV1 {
        FailuresV1 {
            count: self.count,
            last_at: self.last_at.as_millis(),
            account: self.account.map(crate::AccountId::get),
        }
    }

    fn thaw(frozen: FailuresV1) -> Result<Self, &'static str> {
        Ok(Self {
            count: frozen.count,
            last_at: Timestamp::from_millis(frozen.last_at),
            account: frozen.account.map(account_id).transpose()?,
        })
    }
}
