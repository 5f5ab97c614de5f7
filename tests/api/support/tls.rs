use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;

use doorward::settings::TlsFiles;
use rcgen::generate_simple_self_signed;
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::aws_lc_rs::default_provider;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};

use super::raw::within;

/// A self-signed certificate for `localhost` and its key, both in PEM.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) cert: String,
    pub(crate) key: String,
}

impl Pair {
    pub(crate) fn new() -> Self {
        let made = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        Self { cert: made.cert.pem(), key: made.signing_key.serialize_pem() }
    }

    pub(crate) fn der(&self) -> CertificateDer<'static> {
        CertificateDer::from_pem_slice(self.cert.as_bytes()).unwrap()
    }
}

/// The certificate file and the key file of a server.
pub(crate) struct CertificateFiles(TempDir);

impl CertificateFiles {
    pub(crate) fn with(pair: &Pair) -> Self {
        let files = Self(TempDir::new().unwrap());
        files.write(pair);
        files
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn paths(&self) -> TlsFiles {
        TlsFiles { cert: self.file("cert.pem"), key: self.file("key.pem") }
    }

    pub(crate) fn write(&self, pair: &Pair) {
        fs::write(self.file("cert.pem"), &pair.cert).unwrap();
        fs::write(self.file("key.pem"), &pair.key).unwrap();
    }
}

/// A client that trusts only this certificate and offers these protocols.
pub(crate) struct TlsClient {
    pub(crate) trusted: Pair,
    pub(crate) protocols: &'static [&'static str],
    pub(crate) versions: Vec<&'static SupportedProtocolVersion>,
}

impl TlsClient {
    pub(crate) fn trusting(trusted: &Pair, protocols: &'static [&'static str]) -> Self {
        Self { trusted: trusted.clone(), protocols, versions: vec![&TLS12, &TLS13] }
    }

    pub(crate) async fn connect(&self, address: SocketAddr) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.trusted.der()).unwrap();
        let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&self.versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = self.protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let stream = TcpStream::connect(address).await?;
        let name = ServerName::try_from("localhost").unwrap();
        within(TlsConnector::from(Arc::new(config)).connect(name, stream)).await
    }
}
