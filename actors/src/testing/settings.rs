//! The settings of a system of actors in tests that need no special ones.

use std::num::NonZeroU32;
use std::time::Duration;

use crate::{
    AccountRules, AuditSettings, ClientNetworks, HashBackendChoice, HashCost, HasherSettings, Locale, MailerSettings,
    PasswordPolicy, RateLimits, RateQuota, RecoveryMode, Secret, SessionPolicy, SigningAlgorithm, SystemSettings,
    TokenSettings,
};

/// Returns settings with very high limits and very cheap hashes.
#[must_use]
pub fn system_settings() -> SystemSettings {
    let quota = RateQuota { permits: NonZeroU32::MIN.saturating_add(9_999), per: Duration::from_mins(10) };
    SystemSettings {
        tokens: TokenSettings {
            algorithm: SigningAlgorithm::Hs256,
            secret: Secret::new("k".repeat(32)),
            previous_secret: None,
            lifetime: Duration::from_mins(30),
            rotation: None,
            issuer: "doorward".to_owned(),
            audience: "doorward".to_owned(),
        },
        sessions: SessionPolicy {
            idle_timeout: Duration::from_mins(30),
            remembered_idle_timeout: Duration::from_hours(24),
            lifetime: Duration::from_hours(48),
            access_lifetime: Duration::from_mins(30),
            refresh_grace: Duration::from_secs(10),
            max_per_account: 10,
        },
        session_shards: 2,
        accounts: AccountRules {
            first_user_is_admin: true,
            customer_account_self_service: false,
            reauth_window: Duration::from_mins(5),
            admin_reauth_window: Duration::from_mins(15),
            require_email_verification: false,
            unverified_ttl: Duration::from_hours(168),
            recovery_mode: RecoveryMode::Either,
            enumeration_safe_registration: false,
            verification_ttl: Duration::from_hours(24),
            recovery_ttl: Duration::from_mins(30),
            address_change_ttl: Duration::from_hours(24),
            undo_ttl: Duration::from_hours(72),
            default_locale: Locale::En,
        },
        hasher: HasherSettings {
            threads: 1,
            cost: HashCost { memory_kib: 64, iterations: 1 },
            queue: 64,
            deadline: Duration::from_secs(10),
            backend: HashBackendChoice::Portable,
        },
        passwords: PasswordPolicy { min_score: 2 },
        limits: RateLimits {
            public: quota,
            private: quota,
            account_failures: 5,
            address_failures: 50,
            networks: ClientNetworks::default(),
        },
        mailer: MailerSettings { concurrency: 2, send_timeout: Duration::from_secs(30), max_attempts: 3 },
        audit: AuditSettings { retention: Duration::from_hours(24), max_bytes: u64::MAX },
        clock_skew: Duration::ZERO,
        min_free_disk: 256 * 1024 * 1024,
    }
}
