//! Sessions.

use std::time::Duration;

use super::keys;
use super::reader::{Reader, documented};

/// How long sessions live and how they are kept.
#[derive(Debug, Clone)]
pub struct SessionSettings {
    /// A session idle for longer is over, 1 minute to 365 days.
    pub idle_timeout: Duration,
    /// How many sessions an account may have, 1 to 1,000.
    pub max_per_account: usize,
    /// How many actors share the live sessions, 1 to 64.
    pub shards: usize,
    /// How long after a login sensitive changes need no password, 1 minute to 1 day.
    pub reauth_window: Duration,
}

impl SessionSettings {
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let idle_timeout = reader.minutes(&keys::IDDLE_MINUTES);
        let max_per_account = reader.integer(&keys::MAX_SESSIONS_PER_USER);
        let shards = reader.integer(&keys::SESSION_SHARDS);
        let reauth_window = reader.minutes(&keys::REAUTH_MINUTES);
        Some(Self {
            idle_timeout: idle_timeout?,
            max_per_account: max_per_account?,
            shards: shards?,
            reauth_window: reauth_window?,
        })
    }
}

impl Default for SessionSettings {
    /// The documented defaults.
    fn default() -> Self {
        documented(Self::read)
    }
}
