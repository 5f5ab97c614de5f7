//! How many requests of each kind may be inside at once, and how much their bodies may take: the bound before the actors'
//! unbounded mailboxes (R08, R10).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::bodies::{Bodies, BodyRoom};
use super::edge::MAX_BODY_BYTES;
use super::error::ApiError;
use super::routes::Class;

/// Waiting for a hash takes about 23 ms a request and thread; 256 waiting on two threads is about three seconds of
/// work, and the hasher's own queue refuses what would wait longer. Their bodies and those that still arrive hold 64 KiB for each
/// place, so 16 MiB at worst.
const LOGIN: usize = 256;
/// As many registrations and recoveries, at a door of their own, so that no flood of them keeps logins out.
const CREDENTIAL: usize = 256;
/// Owners looking after their own accounts: bodies hold 32 MiB at worst.
const ACCOUNT: usize = 512;
/// Owners looking at what happened to their accounts: a full page is about 1,000 × 600 bytes, held twice while it is written,
/// so 40 MiB at worst. They send no bodies.
const EVENTS: usize = 32;
/// Administrators: a full page of a list is about 1,000 × 300 bytes, held twice while it is written, so 40 MiB at
/// worst, and their bodies hold 4 MiB.
const ADMIN: usize = 64;
/// Token checks hold no body and about 4 KiB each; this many in one mailbox at 100,000/s are answered within 0.05 s.
const VERIFY: usize = 4096;
/// Services about tokens: bodies hold 32 MiB at worst.
const SERVICE: usize = 512;
/// Probes: a handful of monitors; more than this at once is no monitor.
const OPERATOR: usize = 64;

/// The doors of the classes.
#[derive(Debug)]
pub(crate) struct Admission {
    login: Arc<Door>,
    credential: Arc<Door>,
    account: Arc<Door>,
    events: Arc<Door>,
    admin: Arc<Door>,
    verify: Arc<Door>,
    service: Arc<Door>,
    operator: Arc<Door>,
}

/// What a class may hold.
#[derive(Debug)]
struct Door {
    places: Arc<Semaphore>,
    bodies: Arc<Bodies>,
}

impl Door {
    fn new(places: usize) -> Arc<Self> {
        let bodies = Arc::new(Bodies::new(places * MAX_BODY_BYTES));
        Arc::new(Self { places: Arc::new(Semaphore::new(places)), bodies })
    }
}

impl Default for Admission {
    fn default() -> Self {
        Self {
            login: Door::new(LOGIN),
            credential: Door::new(CREDENTIAL),
            account: Door::new(ACCOUNT),
            events: Door::new(EVENTS),
            admin: Door::new(ADMIN),
            verify: Door::new(VERIFY),
            service: Door::new(SERVICE),
            operator: Door::new(OPERATOR),
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
            Class::Docs | Class::Static => return Ok(None),
        };
        let mut place = Place { door: Arc::clone(door), permit: None, body: None };
        place.step_back(None)?;
        Ok(Some(place))
    }
}

/// A place inside a class, given up when this is dropped.
#[derive(Debug)]
pub(super) struct Place {
    door: Arc<Door>,
    /// `None` while its request waits for its own body.
    permit: Option<OwnedSemaphorePermit>,
    /// What its body takes, once it has arrived.
    body: Option<BodyRoom>,
}

impl Place {
    /// Gives the place up for a while: a peer that sends its body slowly must not keep others out (R06). The body arrives in the
    /// room that the class has for bodies.
    pub(super) fn step_aside(&mut self) -> BodyRoom {
        self.permit = None;
        self.door.bodies.begin()
    }

    /// Takes a place again, if there is one, with the body that has arrived.
    pub(super) fn step_back(&mut self, body: Option<BodyRoom>) -> Result<(), ApiError> {
        let permit = Arc::clone(&self.door.places).try_acquire_owned();
        self.permit = Some(permit.map_err(|_| ApiError::Unavailable(Duration::from_secs(1)))?);
        self.body = body;
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
