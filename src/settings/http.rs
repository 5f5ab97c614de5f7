//! The listener.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::origins::Origins;
use super::reader::{Reader, documented};
use super::table;
use doorward_actors::Networks;

/// The settings of the listener: address, timeouts, limits, TLS and CORS.
#[derive(Debug, Clone)]
pub struct HttpSettings {
    /// The address to listen on.
    pub host: IpAddr,
    /// The TCP port; 0 selects any free port.
    pub port: u16,
    /// How many connections may be open at once, 1 to 1,000,000.
    pub max_connections: usize,
    /// How many connections one client address may have open at once, 1 to 1,000,000.
    pub max_connections_per_address: usize,
    /// How long a client may take to send the head of a request, 1 to 300 seconds.
    pub header_timeout: Duration,
    /// How long a request may take from its head to its answer, 1 to 3,600 seconds.
    pub request_timeout: Duration,
    /// How long an orderly stop may take, 1 to 600 seconds.
    pub shutdown_timeout: Duration,
    /// The proxies that are trusted to report the client's address.
    pub trusted_proxies: Networks,
    /// How many leading bits of an IPv6 address identify one client, 32 to 128.
    pub ipv6_prefix: u8,
    /// The certificate and its key; `None` for plain HTTP.
    pub tls: Option<TlsFiles>,
    /// The origins whose pages may read responses in browsers (CORS).
    pub cors_origins: Origins,
    /// Whether the documentation is served.
    pub docs: bool,
    /// The loopback address on which metrics are served without a token; port 0 selects any free port.
    pub metrics: Option<SocketAddr>,
}

/// The files of the certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// A PEM file with the certificate of the server first, followed by the intermediate certificates.
    pub cert: PathBuf,
    /// A PEM file with the private key.
    pub key: PathBuf,
}

impl HttpSettings {
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let host = reader.address(&table::HOST);
        let port = reader.integer(&table::PORT);
        let max_connections = reader.integer(&table::MAX_CONNECTIONS);
        let max_connections_per_address = reader.integer(&table::MAX_CONNECTIONS_PER_ADDRESS);
        let header_timeout = reader.seconds(&table::HEADER_TIMEOUT_SECONDS);
        let request_timeout = reader.seconds(&table::REQUEST_TIMEOUT_SECONDS);
        let shutdown_timeout = reader.seconds(&table::SHUTDOWN_TIMEOUT_SECONDS);
        let trusted_proxies = reader.networks(&table::TRUSTED_PROXIES);
        let ipv6_prefix = reader.integer(&table::IPV6_PREFIX);
        let tls = TlsFiles::read(reader);
        let cors_origins = reader.origins(&table::CORS_ORIGINS);
        let docs = reader.parse(&table::DOCS, on_or_off);
        let loopback = |text: &str| text.parse().ok().filter(|address: &SocketAddr| address.ip().is_loopback());
        let metrics = reader.optional(&table::METRICS_ADDR, loopback);
        Some(Self {
            host: host?,
            port: port?,
            max_connections: max_connections?,
            max_connections_per_address: max_connections_per_address?,
            header_timeout: header_timeout?,
            request_timeout: request_timeout?,
            shutdown_timeout: shutdown_timeout?,
            trusted_proxies: trusted_proxies?,
            ipv6_prefix: ipv6_prefix?,
            tls: tls?,
            cors_origins: cors_origins?,
            docs: docs?,
            metrics: metrics?,
        })
    }
}

fn on_or_off(text: &str) -> Option<bool> {
    match text {
        "on" => Some(true),
        "off" => Some(false),
        _ => None,
    }
}

impl TlsFiles {
    /// Requires both files or neither. With only one of them the server would silently be unencrypted.
    #[expect(clippy::option_option, reason = "the outer one says whether the reading went well, as everywhere here")]
    fn read(reader: &mut Reader) -> Option<Option<Self>> {
        let (cert, key) = (reader.optional_path(&table::TLS_CERT), reader.optional_path(&table::TLS_KEY));
        match (cert?, key?) {
            (Some(cert), Some(key)) => Some(Some(Self { cert, key })),
            (None, None) => Some(None),
            (Some(_), None) => {
                reader.refuse(&table::TLS_CERT, "needs TLS_KEY beside it".to_owned());
                None
            }
            (None, Some(_)) => {
                reader.refuse(&table::TLS_KEY, "needs TLS_CERT beside it".to_owned());
                None
            }
        }
    }
}

impl Default for HttpSettings {
    /// The documented defaults.
    fn default() -> Self {
        documented(Self::read)
    }
}
