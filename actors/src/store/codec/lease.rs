//! The frozen form of leases.

use crate::domain::lease::LeaseClaim;
use crate::domain::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::Record;

#[derive(Serialize, Deserialize)]
pub(crate) struct LeaseV1 {
    holder: [u8; 16],
    until: i64,
}

impl Record for LeaseClaim {
    const KIND: &'static str = "lease";
    type Frozen = LeaseV1;

    fn freeze(&self) -> LeaseV1 {
        LeaseV1 { holder: self.holder, until: self.until.as_millis() }
    }

    fn thaw(frozen: LeaseV1) -> Result<Self, &'static str> {
        Ok(Self { holder: frozen.holder, until: Timestamp::from_millis(frozen.until) })
    }
}
