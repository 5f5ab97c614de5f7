//! Registration.

use super::keys;
use super::reader::{Reader, documented};

/// What people who register may become and choose.
#[derive(Debug, Clone)]
pub struct AccountSettings {
    /// The first account ever registered in a data directory becomes an administrator.
    pub first_user_is_admin: bool,
    /// People may choose their own `customer_account`.
    pub customer_account_self_service: bool,
}

impl AccountSettings {
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let first_user_is_admin = reader.flag(&keys::FIRST_USER_IS_ADMIN);
        let customer_account_self_service = reader.flag(&keys::CUSTOMER_ACCOUNT_SELF_SERVICE);
        Some(Self {
            first_user_is_admin: first_user_is_admin?,
            customer_account_self_service: customer_account_self_service?,
        })
    }
}

impl Default for AccountSettings {
    /// The documented defaults.
    fn default() -> Self {
        documented(Self::read)
    }
}
