//! Bounds how many HTTP/2 requests may be open at once, on all connections together.
//!
//! An HTTP/1 connection has one request at a time, so `MAX_CONNECTIONS` bounds them. An HTTP/2 connection has many. All
//! HTTP/2 requests together may be as many as all connections, and those of one client as many as its connections (R06).

use std::net::IpAddr;
use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::http::edge::connections::{ConnectionCounts, Counted};

/// The places of all requests.
#[derive(Debug, Clone)]
pub(in crate::http) struct RequestPlaces {
    all: Arc<Semaphore>,
    /// `None` for requests of a trusted proxy, which stands for many clients.
    by_client: Option<ConnectionCounts>,
}

/// The place of one request, until its answer is sent.
#[derive(Debug)]
pub(in crate::http) struct RequestPlace {
    _one: OwnedSemaphorePermit,
    _counted: Option<Counted>,
}

impl RequestPlaces {
    /// Creates `all` places, of which each client may take as many as `by_client` allows.
    pub(in crate::http) fn new(all: usize, by_client: ConnectionCounts) -> Self {
        Self { all: Arc::new(Semaphore::new(all)), by_client: Some(by_client) }
    }

    /// Returns the same places, to be taken by a trusted proxy or by a client.
    pub(in crate::http) fn of_proxy(&self, is_proxy: bool) -> Self {
        Self { all: Arc::clone(&self.all), by_client: self.by_client.clone().filter(|_| !is_proxy) }
    }

    /// Takes a place. `None` if there is none.
    pub(in crate::http) fn enter(&self, peer: IpAddr) -> Option<RequestPlace> {
        let counted = match &self.by_client {
            None => None,
            Some(counts) => Some(counts.enter(peer)?),
        };
        let one = Arc::clone(&self.all).try_acquire_owned().ok()?;
        Some(RequestPlace { _one: one, _counted: counted })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r06_requests_have_places_for_all_and_for_each_client() {
        let places = RequestPlaces::new(3, ConnectionCounts::new(2, 64));
        let enter = |peer: &str, is_proxy| places.of_proxy(is_proxy).enter(peer.parse().unwrap());
        let (one, two) = (enter("192.0.2.1", false), enter("192.0.2.1", false));
        assert!(one.is_some() && two.is_some());
        assert!(enter("192.0.2.1", false).is_none(), "the client has what it may have");
        let third = enter("192.0.2.1", true);
        assert!(third.is_some(), "a proxy is no client");
        assert!(enter("192.0.2.2", false).is_none(), "there is no place for anybody");
        drop(one);
        let again = enter("192.0.2.2", false);
        assert!(again.is_some(), "and who found none was not counted");
        drop((two, third, again));
        assert_eq!(places.all.available_permits(), 3);
    }
}
