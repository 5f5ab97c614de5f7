//! The listener.

use std::net::IpAddr;
use std::time::Duration;

use super::keys;
use super::networks::Networks;
use super::reader::{Reader, documented};

/// Where and how patiently the server listens.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// The address to listen on.
    pub host: IpAddr,
    /// The TCP port; 0 takes any free one.
    pub port: u16,
    /// How many connections may be open at once, 1 to 1,000,000.
    pub max_connections: usize,
    /// How long the head of a request may take, 1 to 300 seconds.
    pub header_timeout: Duration,
    /// How long a request may take from its head to its answer, 1 to 3,600 seconds.
    pub request_timeout: Duration,
    /// How long an orderly stop may take, 1 to 600 seconds.
    pub shutdown_timeout: Duration,
    /// The proxies whose word about the client's address counts.
    pub trusted_proxies: Networks,
    /// How many leading bits of an IPv6 address name one client, 32 to 128.
    pub ipv6_prefix: u8,
}

impl HttpSettings {
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let host = reader.address(&keys::HOST);
        let port = reader.integer(&keys::PORT);
        let max_connections = reader.integer(&keys::MAX_CONNECTIONS);
        let header_timeout = reader.seconds(&keys::HEADER_TIMEOUT_SECONDS);
        let request_timeout = reader.seconds(&keys::REQUEST_TIMEOUT_SECONDS);
        let shutdown_timeout = reader.seconds(&keys::SHUTDOWN_TIMEOUT_SECONDS);
        let trusted_proxies = reader.networks(&keys::TRUSTED_PROXIES);
        let ipv6_prefix = reader.integer(&keys::IPV6_PREFIX);
        Some(Self {
            host: host?,
            port: port?,
            max_connections: max_connections?,
            header_timeout: header_timeout?,
            request_timeout: request_timeout?,
            shutdown_timeout: shutdown_timeout?,
            trusted_proxies: trusted_proxies?,
            ipv6_prefix: ipv6_prefix?,
        })
    }
}

impl Default for HttpSettings {
    /// The documented defaults.
    fn default() -> Self {
        documented(Self::read)
    }
}
