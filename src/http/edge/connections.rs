//! Bounds the connections of one client, below the bound for all, so that one address cannot take all places.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ipnet::IpNet;

/// The open connections by client. Only clients with an open connection are kept, so it is never larger than
/// `MAX_CONNECTIONS`.
#[derive(Debug, Clone)]
pub(in crate::http) struct ConnectionCounts {
    counts: Arc<Mutex<HashMap<IpAddr, usize>>>,
    most: usize,
    ipv6_prefix: u8,
}

/// A connection that is counted until this is dropped.
#[derive(Debug)]
pub(in crate::http) struct Counted {
    counts: ConnectionCounts,
    client: IpAddr,
}

impl ConnectionCounts {
    /// Allows at most `most` for each IPv4 address and for each IPv6 network with this prefix length (0 to 128).
    pub(in crate::http) fn new(most: usize, ipv6_prefix: u8) -> Self {
        Self { counts: Arc::default(), most, ipv6_prefix }
    }

    /// Counts a connection. `None` if its client has as many as it may.
    pub(in crate::http) fn enter(&self, address: IpAddr) -> Option<Counted> {
        let client = self.client_of(address);
        let mut counts = self.lock();
        let count = counts.entry(client).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        drop(counts);
        Some(Counted { counts: self.clone(), client })
    }

    fn client_of(&self, address: IpAddr) -> IpAddr {
        match address.to_canonical() {
            v6 @ IpAddr::V6(_) => IpNet::new(v6, self.ipv6_prefix).map_or(v6, |network| network.network()),
            v4 => v4,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        if let Entry::Occupied(mut count) = self.counts.lock().entry(self.client) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn r06_a_client_has_so_many_places_and_gets_them_back() {
        let counts = ConnectionCounts::new(2, 64);
        let enter = |address: &str| counts.enter(address.parse().unwrap());
        let (one, two) = (enter("192.0.2.1"), enter("::ffff:192.0.2.1"));
        assert!(one.is_some() && two.is_some());
        assert!(enter("192.0.2.1").is_none());
        let other = enter("192.0.2.2");
        assert!(other.is_some());
        drop(one);
        assert!(enter("192.0.2.1").is_some());
        drop((two, other));
        assert!(counts.lock().is_empty(), "clients without connections are forgotten");
    }

    #[test]
    fn s17_an_ipv6_network_is_one_client() {
        let counts = ConnectionCounts::new(1, 56);
        let enter = |address: &str| counts.enter(address.parse().unwrap());
        let held = enter("2001:db8:0:ff00::1");
        assert!(held.is_some());
        assert!(enter("2001:db8:0:ffff::2").is_none());
        assert!(enter("2001:db8:1:ff00::1").is_some());
    }
}
