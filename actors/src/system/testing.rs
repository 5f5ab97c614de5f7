//! What tests do with a system that timers and faults do otherwise.

use std::time::Duration;

use super::health::READY_DEADLINE;
use super::{Handles, Message};
use crate::health::ActorHealth;

/// How long a backup of a test may take.
const BACKUP_DEADLINE: Duration = Duration::from_mins(1);

impl Handles {
    /// Makes the actor of this name fail in this way; `hasher` stands for a hashing thread.
    ///
    /// # Errors
    /// There is no such actor, or it is not running.
    pub async fn inject(&self, name: &str, fault: crate::testing::Fault) -> Result<(), String> {
        if name == "hasher" {
            self.hasher.inject_panic().await;
            return Ok(());
        }
        let sources = &self.health.inner.sources;
        let watched = sources.watched.iter().find(|watched| watched.report(&*sources.clock).name == name);
        let watched = watched.ok_or_else(|| format!("no actor {name}"))?;
        watched.inject(fault).map_err(|error| error.to_string())
    }

    /// Returns the current vital signs of every actor but the supervisor, without asking any of them.
    #[must_use]
    pub fn vitals(&self) -> Vec<ActorHealth> {
        let sources = &self.health.inner.sources;
        sources.watched.iter().map(|watched| watched.report(&*sources.clock)).collect()
    }

    /// Has frozen actors replaced, as if this many seconds had passed without progress. Otherwise a timer looks once a second.
    pub fn look_for_frozen(&self, seconds: usize) {
        for _ in 0..seconds {
            self.health.replace_frozen(&self.supervisor);
        }
    }

    /// Waits for the work that flows do after their answer, sends what is due in the outbox, and returns when nothing is due or
    /// under way.
    ///
    /// # Errors
    /// The mailer is not running.
    pub async fn tend_mail(&self) -> Result<(), String> {
        self.background.close();
        self.background.wait().await;
        self.background.reopen();
        self.mailer.settle().await.map_err(|error| error.to_string())
    }

    /// Makes a scheduled backup if one is due. Otherwise a timer does it.
    ///
    /// # Errors
    /// There is no schedule, or its actor is not running.
    pub async fn tend_backups(&self) -> Result<(), String> {
        let backups = self.health.inner.sources.backups.as_ref().ok_or("there is no schedule")?;
        let asked = backups.mailbox.ask(BACKUP_DEADLINE, |reply| crate::backups::Message::Look(Some(reply)));
        asked.await.map_err(|error| error.to_string())
    }

    /// Removes limiter state that no longer has an effect. Otherwise a timer does it.
    ///
    /// # Errors
    /// The rate limiter is not running.
    pub async fn tend_limits(&self) -> Result<(), String> {
        let asked = self.limiter.ask(READY_DEADLINE, |reply| Message::Prune(Some(reply)));
        asked.await.map_err(|error| error.to_string())
    }

    /// Removes accounts that were not verified in time. Otherwise a timer does it.
    ///
    /// # Errors
    /// The user actor is not running.
    pub async fn tend_accounts(&self) -> Result<(), String> {
        self.users.remove_unverified().await.map_err(|error| error.to_string())?;
        self.background.close();
        self.background.wait().await;
        self.background.reopen();
        Ok(())
    }

    /// Removes audit records that are too old or too many. Otherwise a timer does it.
    ///
    /// # Errors
    /// The audit actor is not running.
    pub async fn tend_audit(&self) -> Result<(), String> {
        self.audit.tend().await.map_err(|error| error.to_string())
    }

    /// Loads changed keys, creates a due one and removes old ones. Otherwise a timer does it.
    ///
    /// # Errors
    /// The actor of the keys is not running.
    pub async fn tend_keys(&self) -> Result<(), String> {
        self.keys.tend().await.map_err(|error| error.to_string())
    }

    /// Writes uses of service tokens and removes old revocations. Otherwise timers do it.
    ///
    /// # Errors
    /// The actor of the service tokens is not running.
    pub async fn tend_services(&self) -> Result<(), String> {
        self.services.tend().await.map_err(|error| error.to_string())
    }

    /// Ends expired sessions and writes pending uses. Otherwise timers do it.
    ///
    /// # Errors
    /// A shard is not running.
    pub async fn tend_sessions(&self) -> Result<(), String> {
        self.sessions.tend().await.map_err(|error| error.to_string())
    }
}
