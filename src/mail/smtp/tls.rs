//! TLS connections to a mail server, and the certificates that they accept.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::crypto::aws_lc_rs as provider;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

/// Why TLS for the mail server cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsSetupError {
    /// The file cannot be read.
    #[error("SMTP_CA_FILE {}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// The file contains no certificate, or an invalid one.
    #[error("SMTP_CA_FILE {}: it holds no usable certificate in PEM", .0.display())]
    NoCertificate(PathBuf),
    /// The TLS library refuses its configuration.
    #[error("TLS cannot be set up: {0}")]
    Library(#[from] rustls::Error),
    /// The name of the server is not valid in a certificate.
    #[error("SMTP_URL: {0} is not a name that a certificate can contain")]
    Name(String),
}

/// Encrypts connections to one server. The server's certificate must contain its name.
pub(super) struct Tls {
    connector: TlsConnector,
    name: ServerName<'static>,
}

impl Tls {
    /// Trusts the built-in public authorities and the certificates in `ca_file`.
    pub(super) fn new(host: &str, ca_file: Option<&Path>) -> Result<Self, TlsSetupError> {
        let mut roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        if let Some(path) = ca_file {
            let pem = fs::read(path).map_err(|source| TlsSetupError::Unreadable { path: path.to_owned(), source })?;
            let no_certificate = || TlsSetupError::NoCertificate(path.to_owned());
            let known = roots.len();
            for certificate in CertificateDer::pem_slice_iter(&pem) {
                let certificate = certificate.map_err(|_| no_certificate())?;
                roots.add(certificate).map_err(|_| no_certificate())?;
            }
            if roots.len() == known {
                return Err(no_certificate());
            }
        }
        let config = ClientConfig::builder_with_provider(Arc::new(provider::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let name = ServerName::try_from(host.to_owned()).map_err(|_| TlsSetupError::Name(host.to_owned()))?;
        Ok(Self { connector: TlsConnector::from(Arc::new(config)), name })
    }

    /// Does the TLS handshake and checks the certificate.
    pub(super) async fn connect(
        &self,
        stream: Box<dyn super::conversation::Stream>,
    ) -> io::Result<Box<dyn super::conversation::Stream>> {
        Ok(Box::new(self.connector.connect(self.name.clone(), stream).await?))
    }
}
