//! Whether a new password is good enough. Runs on the hashing threads: it computes for milliseconds and may read from the disk.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::domain::password::{Appraisal, OwnNames, Password, PasswordPolicy, WeakPassword};
use crate::domain::secret::Secret;
use crate::ports::{BreachedListFailure, BreachedPasswords};

/// A password that somebody wants to have.
#[derive(Clone)]
pub(crate) struct Candidate {
    pub(crate) password: Password,
    /// Who that is.
    pub(crate) names: OwnNames,
}

/// How good a password would be, for whoever is about to choose it.
#[derive(Debug, Clone)]
pub struct PasswordReport {
    /// Why it would be refused; `None` if it would be taken.
    pub weakness: Option<WeakPassword>,
    /// How soon it would be found: 0 (at once) to 4.
    pub score: u8,
    /// What is wrong with it, in a sentence.
    pub warning: Option<String>,
    /// What would make it better, in sentences.
    pub suggestions: Vec<String>,
    /// Whether it is on the operator's list of breached passwords; `None` where there is no list.
    pub breached: Option<bool>,
}

/// Why a new password is not hashed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rejected {
    Weak(WeakPassword),
    /// The list of breached passwords cannot be read, so that nobody knows.
    Unknown,
}

/// The rules for new passwords, and the list of breached ones.
pub(super) struct Judge {
    policy: PasswordPolicy,
    breached: Option<Arc<dyn BreachedPasswords>>,
    /// Whether the list could be read when it was last asked.
    readable: AtomicBool,
}

impl Judge {
    pub(super) fn new(policy: PasswordPolicy, breached: Option<Arc<dyn BreachedPasswords>>) -> Self {
        Self { policy, breached, readable: AtomicBool::new(true) }
    }

    /// Whether a new password is good enough. A list that cannot be read refuses it: to let it pass would be to switch the list
    /// off without anybody noticing.
    pub(super) fn admit(&self, candidate: &Candidate) -> Result<(), Rejected> {
        self.policy.check(&candidate.password, &candidate.names).map_err(Rejected::Weak)?;
        match self.look_up(candidate.password.secret()) {
            Ok(Some(true)) => Err(Rejected::Weak(WeakPassword::Breached)),
            Ok(_) => Ok(()),
            Err(_) => Err(Rejected::Unknown),
        }
    }

    /// Everything there is to say about a password.
    pub(super) fn report(&self, candidate: &Candidate) -> Result<PasswordReport, Rejected> {
        let Appraisal { score, weakness, warning, suggestions } =
            self.policy.appraise(&candidate.password, &candidate.names);
        let breached = self.look_up(candidate.password.secret()).map_err(|_| Rejected::Unknown)?;
        let weakness = weakness.or((breached == Some(true)).then_some(WeakPassword::Breached));
        Ok(PasswordReport { weakness, score, warning, suggestions, breached })
    }

    /// Whether a password that is in use is on the list. One that cannot be read says no: a login must not depend on it.
    pub(super) fn is_breached(&self, password: &Secret) -> bool {
        self.look_up(password).is_ok_and(|found| found == Some(true))
    }

    /// Whether the list could be read when it was last asked; `None` where there is none.
    pub(super) fn list_is_readable(&self) -> Option<bool> {
        self.breached.as_ref().map(|_| self.readable.load(Ordering::Relaxed))
    }

    fn look_up(&self, password: &Secret) -> Result<Option<bool>, BreachedListFailure> {
        let Some(list) = &self.breached else { return Ok(None) };
        let found = list.contains(password);
        // Said once, not for every login.
        match (&found, self.readable.swap(found.is_ok(), Ordering::Relaxed)) {
            (Err(failure), true) => tracing::error!(%failure, "no new password is taken until the list can be read"),
            (Ok(_), false) => tracing::info!("the list of breached passwords can be read again"),
            _ => {}
        }
        found.map(Some)
    }
}
