//! Bounds how many requests of each class may be inside at once and how much memory their bodies may take. This bound stands
//! before the actors' unbounded mailboxes (R08, R10).

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::http::edge::bodies::MAX_BODY_BYTES;
use crate::http::edge::bodies::{Bodies, BodyRoom};
use crate::http::error::ApiError;
use crate::http::routes::Class;

/// A hash takes about 23 ms of one thread. 256 requests on two threads are about three seconds of work, and the hasher's own
/// queue refuses what would wait longer. The bodies inside and those that still arrive may take 64 KiB for each place
/// together, so 16 MiB at worst.
const LOGIN: usize = 256;
/// As many registrations and recoveries, in places of their own, so that a flood of them does not keep logins out.
const CREDENTIAL: usize = 256;
/// Requests of owners about their own accounts: their bodies take 32 MiB at worst.
const ACCOUNT: usize = 512;
/// Requests of owners about the events of their accounts, and their exports. A full page is about 1,000 × 600 bytes, held twice
/// while it is written, so 40 MiB at worst. The bodies of exports take 2 MiB.
const EVENTS: usize = 32;
/// Requests of administrators. A full page of a list is about 1,000 × 300 bytes, held twice while it is written, so 40 MiB
/// at worst. Their bodies take 4 MiB.
const ADMIN: usize = 64;
/// Token checks have no body and take about 4 KiB each. At 100,000/s, this many in one mailbox are answered within 0.05 s.
const VERIFY: usize = 4096;
/// Requests of services about tokens: their bodies take 32 MiB at worst.
const SERVICE: usize = 512;
/// Probes. A handful of monitors need no more than this at once.
const OPERATOR: usize = 64;

/// The bounds of all classes.
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

/// The bounds of one class: its places and the space for its bodies.
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
    /// Admits a request or refuses it at once, because a queue here would only hide the overload. The place ends with the
    /// request. Classes that are answered from memory need none.
    pub(in crate::http) fn enter(&self, class: Class) -> Result<Option<Place>, ApiError> {
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

/// A place in a class. Dropping it gives the place back.
#[derive(Debug)]
pub(in crate::http) struct Place {
    door: Arc<Door>,
    /// `None` while the request waits for its own body.
    permit: Option<OwnedSemaphorePermit>,
    /// The space that its body takes, once it has arrived.
    body: Option<BodyRoom>,
}

impl Place {
    /// Gives the place up while the body arrives: a peer that sends slowly must not keep others out (R06). The body uses the
    /// space that the class has for bodies.
    pub(in crate::http) fn step_aside(&mut self) -> BodyRoom {
        self.permit = None;
        self.door.bodies.begin()
    }

    /// Takes a place again, with the body that has arrived. Fails if all are taken.
    pub(in crate::http) fn step_back(&mut self, body: Option<BodyRoom>) -> Result<(), ApiError> {
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
