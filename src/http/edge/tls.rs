//! TLS on our own port: the certificate, the protocols, and new certificates without a restart.

use std::fmt;
use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use aws_lc_rs::digest::{Context, SHA256, SHA256_OUTPUT_LEN};
use doorward_actors::Secret;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs as provider};
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::server::{ClientHello, ParsedCertificate, ResolvesServerCert};
use tokio_rustls::rustls::sign::CertifiedKey;
use tokio_rustls::rustls::version::{TLS12, TLS13};
use tokio_rustls::rustls::{self, ServerConfig};

use crate::settings::TlsFiles;

/// The name of HTTP/2 in ALPN (RFC 9113 §3.1).
pub(in crate::http) const H2: &[u8] = b"h2";
/// The name of HTTP/1.1 in ALPN (RFC 7301 §6).
const HTTP_1_1: &[u8] = b"http/1.1";
/// How often the files are read. They are small, and a certificate is renewed weeks before it expires.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// The most bytes of either file. A chain of a dozen large certificates has under 64 KiB.
const MAX_FILE_BYTES: u64 = 1024 * 1024;

/// Why a certificate cannot be used. Each error names the setting.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("{setting}: {path} cannot be read: {source}")]
    Unreadable {
        /// The name of the setting.
        setting: &'static str,
        /// The path of the file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The file has no certificate, or an invalid one.
    #[error("TLS_CERT: {0} must hold PEM certificates that can be read, the certificate of the server first")]
    Certificate(PathBuf),
    /// The file has no key, or one that cannot be used.
    #[error("TLS_KEY: {0} must hold a usable PEM private key that is not encrypted")]
    Key(PathBuf),
    /// The key does not belong to the certificate.
    #[error("TLS_KEY: the key in {0} is not that of TLS_CERT")]
    Mismatch(PathBuf),
    /// The TLS library refused.
    #[error("TLS_CERT: {0}")]
    Library(#[from] rustls::Error),
}

/// The certificate in use and the acceptor that uses it.
#[derive(Clone)]
pub(crate) struct Tls {
    acceptor: TlsAcceptor,
    files: Arc<Files>,
}

impl Tls {
    /// Reads the files.
    ///
    /// # Errors
    /// The files cannot be used.
    pub(crate) fn load(files: &TlsFiles) -> Result<Self, TlsError> {
        let files = Arc::new(Files::load(files.clone())?);
        let resolver = Arc::new(Resolver(Arc::clone(&files)));
        let mut config = ServerConfig::builder_with_provider(files.provider.clone())
            .with_protocol_versions(&[&TLS13, &TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(resolver);
        config.alpn_protocols = vec![H2.to_vec(), HTTP_1_1.to_vec()];
        Ok(Self { acceptor: TlsAcceptor::from(Arc::new(config)), files })
    }

    pub(in crate::http) fn acceptor(&self) -> TlsAcceptor {
        self.acceptor.clone()
    }

    /// Reloads the files when they change. Never returns.
    pub(in crate::http) async fn keep_fresh(self) {
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            self.look().await;
        }
    }

    /// Reloads the files now if they have changed, and logs it. If the new ones cannot be used, the old ones stay in use.
    pub(crate) async fn look(&self) {
        let files = Arc::clone(&self.files);
        match tokio::task::spawn_blocking(move || files.look()).await {
            Ok(Ok(Look::Unchanged)) => {}
            Ok(Ok(Look::Replaced)) => tracing::info!("a new certificate is in use"),
            Ok(Err(error)) => tracing::error!(%error, "a new certificate is refused, the old one stays in use"),
            Err(error) => tracing::error!(%error, "the check for a new certificate failed"),
        }
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("files", &self.files.paths).finish_non_exhaustive()
    }
}

/// The result of reading the files again.
#[derive(Debug, PartialEq, Eq)]
enum Look {
    Unchanged,
    Replaced,
}

/// The files, and what was last read from them.
struct Files {
    paths: TlsFiles,
    provider: Arc<CryptoProvider>,
    current: ArcSwap<CertifiedKey>,
    /// The digest of what was read last, valid or not, so that an invalid pair is reported once. `None`: the files were unreadable.
    seen: Mutex<Option<[u8; SHA256_OUTPUT_LEN]>>,
}

impl Files {
    fn load(paths: TlsFiles) -> Result<Self, TlsError> {
        let provider = Arc::new(provider::default_provider());
        let contents = Contents::read(&paths)?;
        let current = ArcSwap::from_pointee(contents.certified_key(&paths, &provider)?);
        Ok(Self { paths, provider, current, seen: Mutex::new(Some(contents.digest())) })
    }

    /// Reads the files and uses their contents if they have changed and are valid. File times are ignored, because secrets
    /// that are mounted into containers change behind a link.
    fn look(&self) -> Result<Look, TlsError> {
        let contents = Contents::read(&self.paths);
        let digest = contents.as_ref().ok().map(Contents::digest);
        let before = std::mem::replace(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner), digest);
        if before == digest {
            return Ok(Look::Unchanged);
        }
        self.current.store(Arc::new(contents?.certified_key(&self.paths, &self.provider)?));
        Ok(Look::Replaced)
    }
}

/// The contents of both files.
struct Contents {
    cert: Vec<u8>,
    key: Secret,
}

impl Contents {
    fn read(paths: &TlsFiles) -> Result<Self, TlsError> {
        let unreadable = |setting, path: &Path| {
            let path = path.to_owned();
            move |source| TlsError::Unreadable { setting, path, source }
        };
        let mut cert = Vec::new();
        let opened = File::open(&paths.cert).and_then(|file| file.take(MAX_FILE_BYTES).read_to_end(&mut cert));
        opened.map_err(unreadable("TLS_CERT", &paths.cert))?;
        let mut key = String::new();
        let opened = File::open(&paths.key).and_then(|file| file.take(MAX_FILE_BYTES).read_to_string(&mut key));
        opened.map_err(unreadable("TLS_KEY", &paths.key))?;
        Ok(Self { cert, key: Secret::new(key) })
    }

    fn digest(&self) -> [u8; SHA256_OUTPUT_LEN] {
        let mut context = Context::new(&SHA256);
        context.update(&(self.cert.len() as u64).to_be_bytes());
        context.update(&self.cert);
        context.update(self.key.expose().as_bytes());
        let mut digest = [0; SHA256_OUTPUT_LEN];
        digest.copy_from_slice(context.finish().as_ref());
        digest
    }

    fn certified_key(&self, paths: &TlsFiles, provider: &CryptoProvider) -> Result<CertifiedKey, TlsError> {
        let no_certificate = || TlsError::Certificate(paths.cert.clone());
        let chain: Vec<CertificateDer<'static>> =
            CertificateDer::pem_slice_iter(&self.cert).collect::<Result<_, _>>().map_err(|_| no_certificate())?;
        if chain.is_empty() || chain.iter().any(|certificate| ParsedCertificate::try_from(certificate).is_err()) {
            return Err(no_certificate());
        }
        let no_key = || TlsError::Key(paths.key.clone());
        let key = PrivateKeyDer::from_pem_slice(self.key.expose().as_bytes()).map_err(|_| no_key())?;
        CertifiedKey::from_der(chain, key, provider).map_err(|error| match error {
            rustls::Error::InconsistentKeys(_) => TlsError::Mismatch(paths.key.clone()),
            _ => no_key(),
        })
    }
}

/// Presents the current certificate, whatever server name the client asks for.
struct Resolver(Arc<Files>);

impl ResolvesServerCert for Resolver {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.current.load_full())
    }
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolver")
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rcgen::{CertifiedKey as Generated, generate_simple_self_signed};
    use tempfile::TempDir;

    use super::*;

    struct Directory(TempDir);

    impl Directory {
        fn new() -> Self {
            Self(TempDir::new().unwrap())
        }

        fn paths(&self) -> TlsFiles {
            TlsFiles { cert: self.0.path().join("cert.pem"), key: self.0.path().join("key.pem") }
        }

        fn write(&self, cert: &str, key: &str) {
            fs::write(self.paths().cert, cert).unwrap();
            fs::write(self.paths().key, key).unwrap();
        }
    }

    fn pair() -> (String, String) {
        let Generated { cert, signing_key } = generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        (cert.pem(), signing_key.serialize_pem())
    }

    #[test]
    fn r13_a_pair_that_cannot_be_used_names_the_setting() {
        let directory = Directory::new();
        let refused = || Files::load(directory.paths()).map(|_| ()).unwrap_err().to_string();
        assert!(refused().starts_with("TLS_CERT: ") && refused().contains("cannot be read"), "{}", refused());
        let ((cert, key), (other, _)) = (pair(), pair());
        fs::write(directory.paths().cert, &cert).unwrap();
        assert!(refused().starts_with("TLS_KEY: ") && refused().contains("cannot be read"), "{}", refused());
        let cut = cert.lines().filter(|line| line.len() != 64).collect::<Vec<_>>().join("\n");
        for bad in ["", "nonsense", key.as_str(), cut.as_str(), &format!("{cert}{cut}")] {
            directory.write(bad, &key);
            assert!(refused().starts_with("TLS_CERT: "), "{bad}: {}", refused());
        }
        for bad in ["", "nonsense", cert.as_str(), "\u{0}"] {
            directory.write(&cert, bad);
            assert!(refused().starts_with("TLS_KEY: "), "{bad}: {}", refused());
        }
        directory.write(&other, &key);
        assert!(refused().contains("not that of TLS_CERT"), "{}", refused());
        directory.write(&cert, &key);
        assert!(Files::load(directory.paths()).is_ok());
        directory.write(&format!("{cert}{other}"), &format!("{cert}{key}"));
        assert!(Files::load(directory.paths()).is_ok(), "a chain, and a key among other things");
    }

    #[test]
    fn a_new_pair_is_taken_up_and_a_broken_one_is_refused_once() {
        let directory = Directory::new();
        let ((first, first_key), (second, second_key)) = (pair(), pair());
        directory.write(&first, &first_key);
        let files = Files::load(directory.paths()).unwrap();
        let shown = || files.current.load().cert[0].clone();
        let before = shown();
        assert_eq!(files.look().unwrap(), Look::Unchanged);

        // One file is replaced before the other.
        directory.write(&second, &first_key);
        assert!(matches!(files.look(), Err(TlsError::Mismatch(_))));
        assert_eq!(files.look().unwrap(), Look::Unchanged, "said once");
        assert_eq!(shown(), before);

        directory.write(&second, &second_key);
        assert_eq!(files.look().unwrap(), Look::Replaced);
        let after = shown();
        assert_ne!(after, before);

        fs::remove_file(directory.paths().key).unwrap();
        assert!(matches!(files.look(), Err(TlsError::Unreadable { setting: "TLS_KEY", .. })));
        assert_eq!(files.look().unwrap(), Look::Unchanged, "said once");
        assert_eq!(shown(), after);
        directory.write(&first, &first_key);
        assert_eq!(files.look().unwrap(), Look::Replaced);
        assert_eq!(shown(), before);
    }
}
