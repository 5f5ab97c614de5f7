//! How many requests of each kind may be inside at once: the bound before the actors' unbounded mailboxes (R08, R10).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::error::ApiError;
use super::routes::Class;

/// Waiting for a hash takes about 23 ms a request and thread; 256 waiting on two threads is about three seconds of
/// work, and the hasher's own queue refuses what would wait longer. With 64 KiB of body each they hold 16 MiB at
/// worst.
const LOGIN: usize = 256;
/// As many registrations and recoveries, at a door of their own, so that no flood of them keeps logins out.
const CREDENTIAL: usize = 256;
/// Owners looking after their own accounts: each holds at most 64 KiB of body, so 32 MiB at worst.
const ACCOUNT: usize = 512;
/// Owners looking at what happened to their accounts: a full page is about 1,000 × 600 bytes, held twice while it is written,
/// so 40 MiB at worst.
const EVENTS: usize = 32;
/// Administrators: a full page of a list is about 1,000 × 300 bytes, held twice while it is written, so 40 MiB at
/// worst.
const ADMIN: usize = 64;
/// Token checks hold no body and about 4 KiB each; this many in one mailbox at 100,000/s are answered within 0.05 s.
const VERIFY: usize = 4096;
/// Services about tokens hold at most 64 KiB of body each, so 32 MiB at worst.
const SERVICE: usize = 512;
/// Probes: a handful of monitors; more than this at once is no monitor.
const OPERATOR: usize = 64;

/// The doors of the classes.
#[derive(Debug)]
pub(crate) struct Admission {
    login: Arc<Semaphore>,
    credential: Arc<Semaphore>,
    account: Arc<Semaphore>,
    events: Arc<Semaphore>,
    admin: Arc<Semaphore>,
    verify: Arc<Semaphore>,
    service: Arc<Semaphore>,
    operator: Arc<Semaphore>,
}

impl Default for Admission {
    fn default() -> Self {
        Self {
            login: Arc::new(Semaphore::new(LOGIN)),
            credential: Arc::new(Semaphore::new(CREDENTIAL)),
            account: Arc::new(Semaphore::new(ACCOUNT)),
            events: Arc::new(Semaphore::new(EVENTS)),
            admin: Arc::new(Semaphore::new(ADMIN)),
            verify: Arc::new(Semaphore::new(VERIFY)),
            service: Arc::new(Semaphore::new(SERVICE)),
            operator: Arc::new(Semaphore::new(OPERATOR)),
        }
    }
}

impl Admission {
    /// Lets a request in, or refuses it at once: a queue here would only hide the overload. The permit ends with the
    /// request. Classes answered from memory need none.
    pub(super) fn enter(&self, class: Class) -> Result<Option<Place>, ApiError> {
        let door = match class {
            Class::Login => &self.login,
            Class::Credential => &self.credential,
            Class::Account => &self.account,
            Class::Events => &self.events,
            Class::Admin => &self.admin,
            Class::Verify => &self.verify,
            Class::Service => &self.service,
            Class::Operator => &self.operator,
            Class::Static => return Ok(None),
        };
        let mut place = Place { door: Arc::clone(door), permit: None };
        place.step_back()?;
        Ok(Some(place))
    }
}

/// A place inside a class, given up when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    door: Arc<Semaphore>,
    /// `None` while its request waits for its own body.
    permit: Option<OwnedSemaphorePermit>,
}

impl Place {
    /// Gives the place up for a while: a peer that sends its body slowly must not keep others out (R06).
    pub(super) fn step_aside(&mut self) {
        self.permit = None;
    }

    /// Takes a place again, if there is one.
    pub(super) fn step_back(&mut self) -> Result<(), ApiError> {
        let permit = Arc::clone(&self.door).try_acquire_owned();
        self.permit = Some(permit.map_err(|_| ApiError::Unavailable(Duration::from_secs(1)))?);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r10_a_full_class_refuses_and_others_do_not_notice() {
        let admission = Admission::default();
        let held: Vec<_> = (0..ADMIN).map(|_| admission.enter(Class::Admin).unwrap()).collect();
        assert!(matches!(admission.enter(Class::Admin), Err(ApiError::Unavailable(_))));
        assert!(admission.enter(Class::Verify).is_ok());
        drop(held);
        assert!(admission.enter(Class::Admin).is_ok());
    }

    #[test]
    fn r08_registrations_fill_no_place_of_logins() {
        let admission = Admission::default();
        let _held: Vec<_> = (0..CREDENTIAL).map(|_| admission.enter(Class::Credential).unwrap()).collect();
        assert!(matches!(admission.enter(Class::Credential), Err(ApiError::Unavailable(_))));
        let _logins: Vec<_> = (0..LOGIN).map(|_| admission.enter(Class::Login).unwrap()).collect();
        assert!(matches!(admission.enter(Class::Login), Err(ApiError::Unavailable(_))));
    }
}
