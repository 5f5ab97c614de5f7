//! How many requests of each kind may be inside at once: the bound before the actors' unbounded mailboxes (R08, R10).

use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};

use super::error::ApiError;
use super::routes::Class;

/// Waiting for a hash takes about 23 ms a request and thread; 256 waiting on two threads is about three seconds of
/// work, and the hasher's own queue refuses what would wait longer. With 64 KiB of body each they hold 16 MiB at
/// worst.
const CREDENTIAL: usize = 256;
/// Owners looking after their own accounts: each holds at most 64 KiB of body, so 32 MiB at worst.
const ACCOUNT: usize = 512;
/// Administrators: a full page of a list is about 1,000 × 300 bytes, held twice while it is written, so 40 MiB at
/// worst.
const ADMIN: usize = 64;
/// Token checks hold no body and about 4 KiB each; this many in one mailbox at 100,000/s are answered within 0.05 s.
const VERIFY: usize = 4096;
/// Probes: a handful of monitors; more than this at once is no monitor.
const OPERATOR: usize = 64;

/// The doors of the five classes.
#[derive(Debug)]
pub(crate) struct Admission {
    credential: Semaphore,
    account: Semaphore,
    admin: Semaphore,
    verify: Semaphore,
    operator: Semaphore,
}

impl Default for Admission {
    fn default() -> Self {
        Self {
            credential: Semaphore::new(CREDENTIAL),
            account: Semaphore::new(ACCOUNT),
            admin: Semaphore::new(ADMIN),
            verify: Semaphore::new(VERIFY),
            operator: Semaphore::new(OPERATOR),
        }
    }
}

impl Admission {
    /// Lets a request in, or refuses it at once: a queue here would only hide the overload. The permit ends with the
    /// request. Classes answered from memory need none.
    pub(super) fn enter(&self, class: Class) -> Result<Option<SemaphorePermit<'_>>, ApiError> {
        let door = match class {
            Class::Credential => &self.credential,
            Class::Account => &self.account,
            Class::Admin => &self.admin,
            Class::Verify => &self.verify,
            Class::Operator => &self.operator,
            Class::Static => return Ok(None),
        };
        door.try_acquire().map(Some).map_err(|_| ApiError::Unavailable(Duration::from_secs(1)))
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
}
