//! Sessions.

use std::time::Duration;

use super::reader::{Reader, documented};
use super::table;

/// The lifetimes of sessions, and how the live ones are kept.
#[derive(Debug, Clone)]
pub struct SessionSettings {
    /// How long a session may be idle before it expires, 1 minute to 365 days.
    pub idle_timeout: Duration,
    /// The same for a remembered session, 1 to 365 days.
    pub remembered_idle_timeout: Duration,
    /// How long after its login a session expires, used or not, 1 to 365 days.
    pub lifetime: Duration,
    /// How long a refresh token is still accepted after it was exchanged, 0 to 300 seconds.
    pub refresh_grace: Duration,
    /// How many sessions an account may have, 1 to 1,000.
    pub max_per_account: usize,
    /// How many actors share the live sessions, 1 to 64.
    pub shards: usize,
    /// How long after a login sensitive changes need no password, 1 minute to 1 day.
    pub reauth_window: Duration,
    /// The same for an administrator's changes to other accounts, service tokens and signing keys, 1 minute to 1 day.
    pub admin_reauth_window: Duration,
}

impl SessionSettings {
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let idle_timeout = reader.minutes(&table::IDDLE_MINUTES);
        let remembered_idle_timeout = days(reader.integer(&table::REMEMBER_DAYS));
        let lifetime = days(reader.integer(&table::SESSION_MAX_DAYS));
        let refresh_grace = reader.seconds(&table::REFRESH_GRACE_SECONDS);
        let max_per_account = reader.integer(&table::MAX_SESSIONS_PER_USER);
        let shards = reader.integer(&table::SESSION_SHARDS);
        let reauth_window = reader.minutes(&table::REAUTH_MINUTES);
        let admin_reauth_window = reader.minutes(&table::ADMIN_REAUTH_MINUTES);
        Some(Self {
            idle_timeout: idle_timeout?,
            remembered_idle_timeout: remembered_idle_timeout?,
            lifetime: lifetime?,
            refresh_grace: refresh_grace?,
            max_per_account: max_per_account?,
            shards: shards?,
            reauth_window: reauth_window?,
            admin_reauth_window: admin_reauth_window?,
        })
    }
}

fn days(days: Option<u64>) -> Option<Duration> {
    days.map(|days| Duration::from_hours(24 * days))
}

impl Default for SessionSettings {
    /// The documented defaults.
    fn default() -> Self {
        documented(Self::read)
    }
}
