//! The space that the request bodies of one class share: those that still arrive, and those of requests inside.
//!
//! A request that waits for its own body has no place in its class, so that slow senders keep nobody out (R06). Therefore the
//! arriving bodies have a bound of their own. When it is reached, the body that has been arriving for longest is dropped:
//! a body that arrives fast always finds space, and many slow ones take no more than this bound.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;

use crate::http::error::ApiError;

/// The largest request body, in bytes. The largest valid one, a registration at every limit, has under 5 KiB.
pub(in crate::http) const MAX_BODY_BYTES: usize = 64 * 1024;

/// The space for the bodies of one class.
#[derive(Debug)]
pub(in crate::http) struct Bodies {
    /// The most that they may take, in bytes.
    most: usize,
    held: Mutex<Held>,
}

#[derive(Debug, Default)]
struct Held {
    /// What all of them take, in bytes.
    bytes: usize,
    /// The number of the next body.
    next: u64,
    /// The bodies that still arrive, the oldest first.
    arriving: BTreeMap<u64, Arriving>,
}

#[derive(Debug)]
struct Arriving {
    bytes: usize,
    /// Notified when the body must give way.
    gives_way: Arc<Notify>,
}

impl Bodies {
    pub(in crate::http) fn new(most: usize) -> Self {
        Self { most, held: Mutex::default() }
    }

    /// Registers a body that begins to arrive.
    pub(in crate::http) fn begin(self: &Arc<Self>) -> BodyRoom {
        let gives_way = Arc::new(Notify::new());
        let mut held = self.lock();
        let number = held.next;
        held.next += 1;
        held.arriving.insert(number, Arriving { bytes: 0, gives_way: Arc::clone(&gives_way) });
        drop(held);
        BodyRoom { bodies: Arc::clone(self), number, gives_way, arrived: None }
    }

    fn lock(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Held {
    /// Removes a body that still arrives, and frees its space.
    fn leave(&mut self, number: u64) -> Option<Arriving> {
        let arriving = self.arriving.remove(&number)?;
        self.bytes -= arriving.bytes;
        Some(arriving)
    }
}

/// The space of one body. Dropping it gives the space back.
#[derive(Debug)]
pub(in crate::http) struct BodyRoom {
    bodies: Arc<Bodies>,
    number: u64,
    gives_way: Arc<Notify>,
    /// What the body takes, in bytes, once it has arrived.
    arrived: Option<usize>,
}

impl BodyRoom {
    /// Takes this many more bytes. Fails if the body has given way, or must because it has been arriving for longest.
    pub(in crate::http) fn grow(&mut self, bytes: usize) -> Result<(), ApiError> {
        let mut held = self.bodies.lock();
        while held.bytes + bytes > self.bodies.most {
            let Some(oldest) = held.arriving.first_key_value().map(|(number, _)| *number) else { break };
            // Its reader drops the body when it is notified.
            if let Some(arriving) = held.leave(oldest) {
                arriving.gives_way.notify_one();
            }
        }
        match held.arriving.get_mut(&self.number) {
            Some(arriving) => arriving.bytes += bytes,
            None => return Err(Self::no_room()),
        }
        held.bytes += bytes;
        Ok(())
    }

    /// Resolves when the body must give way.
    pub(in crate::http) fn gives_way(&self) -> impl Future<Output = ApiError> + use<> {
        let gives_way = Arc::clone(&self.gives_way);
        async move {
            gives_way.notified().await;
            Self::no_room()
        }
    }

    /// Marks the body as complete. It no longer gives way to others.
    pub(in crate::http) fn arrived(&mut self) -> Result<(), ApiError> {
        let arriving = self.bodies.lock().arriving.remove(&self.number);
        self.arrived = Some(arriving.ok_or_else(Self::no_room)?.bytes);
        Ok(())
    }

    fn no_room() -> ApiError {
        ApiError::Unavailable(Duration::from_secs(1))
    }
}

impl Drop for BodyRoom {
    fn drop(&mut self) {
        let mut held = self.bodies.lock();
        match self.arrived {
            Some(bytes) => held.bytes -= bytes,
            None => drop(held.leave(self.number)),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn d15_r06_the_body_that_arrives_for_longest_gives_way_to_new_ones() {
        let bodies = Arc::new(Bodies::new(100));
        let mut slow: Vec<_> = (0..10).map(|_| bodies.begin()).collect();
        for body in &mut slow {
            body.grow(10).unwrap();
        }
        let mut quick = bodies.begin();
        quick.grow(15).unwrap();
        assert_eq!(bodies.lock().bytes, 95);
        let told: Vec<_> = slow.iter().map(|body| body.gives_way().now_or_never().is_some()).collect();
        assert_eq!(told, [true, true, false, false, false, false, false, false, false, false]);
        assert!(slow[0].grow(1).is_err() && slow[1].arrived().is_err());
        // The oldest remaining body does not push out a newer one.
        assert!(slow[2].grow(6).is_err());
        assert_eq!(bodies.lock().bytes, 85);
        quick.arrived().unwrap();
        drop(slow);
        assert_eq!(bodies.lock().bytes, 15);
        drop(quick);
        assert_eq!(bodies.lock().bytes, 0);
    }

    #[test]
    fn d15_r08_what_is_inside_gives_way_to_nobody() {
        let bodies = Arc::new(Bodies::new(100));
        let inside: Vec<_> = (0..10)
            .map(|_| {
                let mut body = bodies.begin();
                body.grow(10).unwrap();
                body.arrived().unwrap();
                body
            })
            .collect();
        assert!(bodies.begin().grow(1).is_err());
        drop(inside);
        assert!(bodies.begin().grow(1).is_ok());
        assert_eq!(bodies.lock().bytes, 0);
    }
}
