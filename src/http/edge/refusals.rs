//! Limits the request log for answers that a client can cause in any number: refusals, and answers from memory.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use doorward_actors::{AccountId, ClientNetworks};
use hyper::StatusCode;

use crate::http::routes::Class;

/// How long the lines of one kind are counted together.
const WINDOW: Duration = Duration::from_mins(1);
/// How many answers of one kind get a line each in that time.
const SINGLE: u64 = 10;
/// How many answers of all kinds together get a line each. So the log grows by at most 200 KB a minute, however many
/// addresses there are. It also bounds how many kinds are counted separately.
const MOST: u64 = 600;

/// Two answers with the same values are of one kind.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Kind {
    /// The client, as the rate limits know it.
    network: IpAddr,
    account: Option<AccountId>,
    status: StatusCode,
}

/// The answers since the last summary.
#[derive(Debug, Default)]
struct Window {
    kinds: HashMap<Kind, Lines>,
    /// How many lines of all kinds were written.
    written: u64,
    /// How many lines were left out because their kinds are not counted separately.
    others: u64,
}

/// The lines of one kind.
#[derive(Debug, Default)]
struct Lines {
    written: u64,
    left_out: u64,
}

/// Decides which answers get a line, and logs how many did not. Its memory is bounded by [`MOST`].
#[derive(Debug, Clone, Default)]
pub(in crate::http) struct Refusals {
    networks: ClientNetworks,
    window: Arc<Mutex<Window>>,
}

impl Refusals {
    /// `ipv6_prefix` is how many leading bits of an IPv6 address identify one client (`IPV6_PREFIX`).
    pub(in crate::http) fn new(ipv6_prefix: u8) -> Self {
        Self { networks: ClientNetworks { ipv6_prefix, ..ClientNetworks::default() }, window: Arc::default() }
    }

    /// Whether an answer gets a line of its own. Errors of the server, except 503, do, and so do successes that the rate
    /// limits bound.
    pub(in crate::http) fn takes(
        &self,
        class: Class,
        status: StatusCode,
        address: IpAddr,
        account: Option<AccountId>,
    ) -> bool {
        let from_memory = class == Class::Static && !status.is_server_error();
        if !from_memory && !status.is_client_error() && status != StatusCode::SERVICE_UNAVAILABLE {
            return true;
        }
        let kind = Kind { network: self.networks.of(address), account, status };
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let room = window.written < MOST;
        if !room && !window.kinds.contains_key(&kind) {
            window.others += 1;
            return false;
        }
        let lines = window.kinds.entry(kind).or_default();
        let takes = room && lines.written < SINGLE;
        lines.written += u64::from(takes);
        lines.left_out += u64::from(!takes);
        window.written += u64::from(takes);
        takes
    }

    /// Logs every minute how many lines were left out. Never returns.
    pub(in crate::http) async fn keep_count(self) {
        loop {
            tokio::time::sleep(WINDOW).await;
            self.count();
        }
    }

    /// Logs how many lines were left out, and starts a new count.
    pub(in crate::http) fn count(&self) {
        let Window { kinds, others, .. } =
            std::mem::take(&mut *self.window.lock().unwrap_or_else(PoisonError::into_inner));
        for (kind, Lines { left_out, .. }) in kinds.into_iter().filter(|(_, lines)| lines.left_out > 0) {
            let (address, account, status) = (kind.network, kind.account.map(AccountId::get), kind.status.as_u16());
            tracing::info!(%address, account, status, left_out, "further answers of this kind were counted, not logged one by one");
        }
        if others > 0 {
            tracing::info!(left_out = others, "answers to other clients were counted, not logged one by one");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    fn taken(refusals: &Refusals, times: u32, class: Class, status: StatusCode, address: &str) -> usize {
        let address = address.parse().unwrap();
        (0..times).filter(|_| refusals.takes(class, status, address, None)).count()
    }

    #[test]
    fn b05_refusals_and_answers_from_memory_are_sampled_for_each_client() {
        let refusals = Refusals::new(56);
        for (class, status) in [
            (Class::Static, StatusCode::NOT_FOUND),
            (Class::Account, StatusCode::UNAUTHORIZED),
            (Class::Static, StatusCode::METHOD_NOT_ALLOWED),
            (Class::Login, StatusCode::TOO_MANY_REQUESTS),
            (Class::Credential, StatusCode::SERVICE_UNAVAILABLE),
            (Class::Static, StatusCode::OK),
            (Class::Static, StatusCode::NO_CONTENT),
        ] {
            assert_eq!(taken(&refusals, 1000, class, status, "2001:db8:0:ff00::1"), 10, "{status}");
            assert_eq!(taken(&refusals, 1, class, status, "2001:db8:0:ffff::2"), 0, "{status}: the same client");
        }
        assert_eq!(taken(&refusals, 1, Class::Static, StatusCode::NOT_FOUND, "192.0.2.1"), 1, "another client");
        for (class, status) in [
            (Class::Account, StatusCode::OK),
            (Class::Login, StatusCode::INTERNAL_SERVER_ERROR),
            (Class::Static, StatusCode::INTERNAL_SERVER_ERROR),
        ] {
            assert_eq!(taken(&refusals, 1000, class, status, "192.0.2.1"), 1000, "{status}");
        }
        refusals.count();
        assert_eq!(taken(&refusals, 1000, Class::Static, StatusCode::NOT_FOUND, "192.0.2.1"), 10, "a new minute");
    }

    #[test]
    fn b05_many_addresses_make_neither_the_log_nor_the_memory_grow() {
        let refusals = Refusals::new(64);
        let takes = |n: u32| refusals.takes(Class::Static, StatusCode::NOT_FOUND, Ipv4Addr::from_bits(n).into(), None);
        assert_eq!((0..100_000).filter(|n| takes(*n)).count(), 600);
        let window = refusals.window.lock().unwrap();
        assert_eq!((window.kinds.len(), window.others), (600, 99_400));
    }
}
