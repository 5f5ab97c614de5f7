//! The places for services that wait for revocations.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use doorward_actors::ServiceTokenId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::http::error::ApiError;

/// How many may wait at once, by stream or by a long poll. Each holds some 60 KB while it reads, and a connection.
const PLACES: usize = 256;
/// How many may wait with the same token. A service that opens too many must not keep the others from receiving revocations.
const PLACES_PER_TOKEN: usize = 64;
/// How many read the log at once. After a mass logout all of them have much to read. What they read is in memory, so more
/// at once would only compete for the processor.
const TURNS: usize = 4;
/// When to retry if there is no place.
const RETRY_AFTER: Duration = Duration::from_mins(1);

/// The waiting and the reading services.
#[derive(Debug, Clone)]
pub(in crate::http) struct Feeds {
    /// How many wait, by service token.
    taken: Arc<Mutex<HashMap<ServiceTokenId, usize>>>,
    turns: Arc<Semaphore>,
}

impl Default for Feeds {
    fn default() -> Self {
        Self { taken: Arc::default(), turns: Arc::new(Semaphore::new(TURNS)) }
    }
}

/// A place. Dropping it gives the place back.
#[derive(Debug)]
pub(in crate::http) struct FeedPlace {
    feeds: Feeds,
    service: ServiceTokenId,
}

impl Feeds {
    /// Takes a place for the service with this token.
    pub(in crate::http) fn take(&self, service: ServiceTokenId) -> Result<FeedPlace, ApiError> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let own = taken.get(&service).copied().unwrap_or_default();
        if own >= PLACES_PER_TOKEN || taken.values().sum::<usize>() >= PLACES {
            return Err(ApiError::Unavailable(RETRY_AFTER));
        }
        taken.insert(service, own + 1);
        Ok(FeedPlace { feeds: self.clone(), service })
    }

    /// Returns how many services wait.
    pub(in crate::http) fn waiting(&self) -> usize {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner).values().sum()
    }

    /// Waits for a turn to read the log, first come, first served. The result is always `Some`, because the semaphore is never closed.
    pub(in crate::http) async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.turns).acquire_owned().await.ok()
    }
}

impl Drop for FeedPlace {
    fn drop(&mut self) {
        let mut taken = self.feeds.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = taken.get_mut(&self.service) {
            *own -= 1;
            if *own == 0 {
                taken.remove(&self.service);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn so_many_read_at_once_and_the_next_when_one_is_done() {
        let feeds = Feeds::default();
        let mut reading = Vec::new();
        for _ in 0..TURNS {
            reading.push(feeds.turn().await.unwrap());
        }
        let mut next = std::pin::pin!(feeds.turn());
        assert!(futures_util::poll!(&mut next).is_pending());
        reading.pop();
        assert!(next.await.is_some());
    }

    #[test]
    fn one_token_takes_a_part_of_the_places_and_all_together_no_more_than_there_are() {
        let feeds = Feeds::default();
        let take = |token: u64| feeds.take(ServiceTokenId::new(token));
        let mut places = Vec::new();
        for token in 1..=4 {
            for _ in 0..PLACES_PER_TOKEN {
                places.push(take(token).unwrap());
            }
            assert!(take(token).is_err(), "{token}");
        }
        assert!(take(5).is_err(), "all are taken");
        places.pop();
        let place = take(5).unwrap();
        assert!(take(4).is_err());
        places.clear();
        drop(place);
        assert!(feeds.taken.lock().unwrap().is_empty());
    }
}
