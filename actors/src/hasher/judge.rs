//! The checks of new passwords. They run on the hashing threads, because they take milliseconds and may read from the disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;

use crate::domain::password::{Appraisal, OwnNames, Password, PasswordPolicy, WeakPassword};
use crate::domain::secret::Secret;
use crate::ports::{BreachedListFailure, BreachedPasswords};

/// A password that a client wants to set.
#[derive(Clone)]
pub(crate) struct Candidate {
    pub(crate) password: Password,
    /// The names of its owner.
    pub(crate) names: OwnNames,
}

/// A report on how good a password would be, for its future owner.
#[derive(Debug, Clone)]
pub struct PasswordReport {
    /// Why it would be refused; `None` if it would be accepted.
    pub weakness: Option<WeakPassword>,
    /// How hard it is to guess: 0 (found at once) to 4.
    pub score: u8,
    /// The problem with it, in a sentence.
    pub warning: Option<String>,
    /// Possible improvements, in sentences.
    pub suggestions: Vec<String>,
    /// Whether it is on the operator's list of breached passwords; `None` if there is no list.
    pub breached: Option<bool>,
}

/// Why a new password is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rejected {
    Weak(WeakPassword),
    /// The list of breached passwords cannot be read, so the password cannot be checked.
    Unknown,
}

/// The rules for new passwords, and the list of breached ones.
pub(super) struct Judge {
    policy: PasswordPolicy,
    /// A reload replaces it.
    breached: ArcSwap<Option<Arc<dyn BreachedPasswords>>>,
    /// Whether the last look-up could read the list.
    readable: AtomicBool,
}

impl Judge {
    pub(super) fn new(policy: PasswordPolicy, breached: Option<Arc<dyn BreachedPasswords>>) -> Self {
        Self { policy, breached: ArcSwap::from_pointee(breached), readable: AtomicBool::new(true) }
    }

    /// Replaces the list. The new one was just opened.
    pub(super) fn replace_list(&self, breached: Option<Arc<dyn BreachedPasswords>>) {
        self.breached.store(Arc::new(breached));
        self.readable.store(true, Ordering::Relaxed);
    }

    /// Accepts a new password if it is good enough.
    /// If the list cannot be read, the password is refused; otherwise the list could be switched off without anybody noticing.
    pub(super) fn admit(&self, candidate: &Candidate) -> Result<(), Rejected> {
        self.policy.check(&candidate.password, &candidate.names).map_err(Rejected::Weak)?;
        match self.look_up(candidate.password.secret()) {
            Ok(Some(true)) => Err(Rejected::Weak(WeakPassword::Breached)),
            Ok(_) => Ok(()),
            Err(_) => Err(Rejected::Unknown),
        }
    }

    /// Returns the full report on a password.
    pub(super) fn report(&self, candidate: &Candidate) -> Result<PasswordReport, Rejected> {
        let Appraisal { score, weakness, warning, suggestions } =
            self.policy.appraise(&candidate.password, &candidate.names);
        let breached = self.look_up(candidate.password.secret()).map_err(|_| Rejected::Unknown)?;
        let weakness = weakness.or((breached == Some(true)).then_some(WeakPassword::Breached));
        Ok(PasswordReport { weakness, score, warning, suggestions, breached })
    }

    /// Returns whether a password in use is on the list. Returns false if the list cannot be read: a login must not depend on it.
    pub(super) fn is_breached(&self, password: &Secret) -> bool {
        self.look_up(password).is_ok_and(|found| found == Some(true))
    }

    /// Returns whether the last look-up could read the list; `None` if there is no list.
    pub(super) fn list_is_readable(&self) -> Option<bool> {
        self.breached.load().as_ref().as_ref().map(|_| self.readable.load(Ordering::Relaxed))
    }

    fn look_up(&self, password: &Secret) -> Result<Option<bool>, BreachedListFailure> {
        let breached = self.breached.load();
        let Some(list) = &**breached else { return Ok(None) };
        let found = list.contains(password);
        // Logged once, not for every login.
        match (&found, self.readable.swap(found.is_ok(), Ordering::Relaxed)) {
            (Err(failure), true) => {
                tracing::error!(%failure, "no new password is accepted until the list of breached passwords can be read");
            }
            (Ok(_), false) => tracing::info!("the list of breached passwords can be read again"),
            _ => {}
        }
        found.map(Some)
    }
}
