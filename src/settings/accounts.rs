//! Registration, verification and recovery.

use std::time::Duration;

use doorward_actors::RecoveryMode;

use super::reader::{Reader, documented};
use super::table;

/// What people who register may do and choose.
#[derive(Debug, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own, and none excludes another")]
pub struct AccountSettings {
    /// Whether the first account that is ever registered in a data directory becomes an administrator.
    pub first_user_is_admin: bool,
    /// Whether people may choose their own `customer_account`.
    pub customer_account_self_service: bool,
    /// Whether people can log in only after their address is verified.
    pub require_email_verification: bool,
    /// If verification is required: how long an account may stay unverified, 1 to 365 days.
    pub unverified_ttl: Duration,
    /// Whether a registration gets the same response for a free and a taken address.
    pub enumeration_safe_registration: bool,
    /// How a forgotten password is replaced.
    pub recovery_mode: RecoveryMode,
    /// How long a link to verify an address is valid, 1 to 720 hours.
    pub verification_ttl: Duration,
    /// How long a link to choose a new password is valid, 5 minutes to a day.
    pub recovery_ttl: Duration,
    /// How long a link to confirm a new address is valid, 1 to 720 hours.
    pub address_change_ttl: Duration,
    /// How long a link that undoes a change of address, password or passphrase is valid, 1 to 720 hours.
    pub undo_ttl: Duration,
}

impl AccountSettings {
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let first_user_is_admin = reader.flag(&table::FIRST_USER_IS_ADMIN);
        let customer_account_self_service = reader.flag(&table::CUSTOMER_ACCOUNT_SELF_SERVICE);
        let require_email_verification = reader.flag(&table::REQUIRE_EMAIL_VERIFICATION);
        let unverified_ttl =
            reader.integer(&table::UNVERIFIED_TTL_DAYS).map(|days: u64| Duration::from_hours(24 * days));
        let enumeration_safe_registration = reader.flag(&table::ENUMERATION_SAFE_REGISTRATION);
        let recovery_mode = reader.parse(&table::RECOVERY_MODE, recovery_mode);
        let verification_ttl = reader.integer(&table::VERIFICATION_TTL_HOURS).map(Duration::from_hours);
        let recovery_ttl = reader.minutes(&table::RECOVERY_TTL_MINUTES);
        let address_change_ttl = reader.integer(&table::ADDRESS_CHANGE_TTL_HOURS).map(Duration::from_hours);
        let undo_ttl = reader.integer(&table::ADDRESS_CHANGE_UNDO_HOURS).map(Duration::from_hours);
        Some(Self {
            first_user_is_admin: first_user_is_admin?,
            customer_account_self_service: customer_account_self_service?,
            require_email_verification: require_email_verification?,
            unverified_ttl: unverified_ttl?,
            enumeration_safe_registration: enumeration_safe_registration?,
            recovery_mode: recovery_mode?,
            verification_ttl: verification_ttl?,
            recovery_ttl: recovery_ttl?,
            address_change_ttl: address_change_ttl?,
            undo_ttl: undo_ttl?,
        })
    }
}

fn recovery_mode(name: &str) -> Option<RecoveryMode> {
    match name {
        "passphrase" => Some(RecoveryMode::Passphrase),
        "email" => Some(RecoveryMode::Email),
        "either" => Some(RecoveryMode::Either),
        "email_and_passphrase" => Some(RecoveryMode::EmailAndPassphrase),
        _ => None,
    }
}

impl Default for AccountSettings {
    /// The documented defaults.
    fn default() -> Self {
        documented(Self::read)
    }
}
