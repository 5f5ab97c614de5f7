//! `doorward health`: asks a running server whether it is ready, over HTTP/1.1, plain or encrypted.
//!
//! It does not check the certificate of the server. The certificate names the public host, but the request goes to the loopback
//! address. The request holds no secret, and only one bit of the response is used.
//! A check against `TLS_CERT` would report a healthy server as unhealthy if it correctly kept its old certificate because the new
//! file is broken. A restart would then make that server fail.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use hyper::Uri;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{self, CryptoProvider, WebPkiSupportedAlgorithms};
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{self, ClientConfig, DigitallySignedStruct, SignatureScheme};

use super::complain;
use crate::settings::HttpSettings;

/// The maximum time for the whole exchange. It is shorter than the five seconds that the Dockerfile allows the health check, so the
/// reason is printed before the container runtime stops the check.
const DEADLINE: Duration = Duration::from_secs(4);
/// The maximum length of the status line, in bytes.
const MAX_STATUS_LINE: u64 = 256;
/// The maximum length of a whole answer, in bytes. The report of 64 shards has some 30 KB.
const MAX_ANSWER: u64 = 1024 * 1024;

#[derive(Debug, thiserror::Error)]
pub(super) enum HealthError {
    #[error("the address to ask must look like http://host:port/path or https://host:port/path")]
    BadUrl,
    #[error("PORT is 0, so the port of the server is not known: use --url")]
    AnyPort,
    #[error("no answer in time")]
    TimedOut,
    #[error("no answer: {0}")]
    Io(#[from] io::Error),
    #[error("TLS failed: {0}")]
    Tls(#[from] rustls::Error),
    #[error("not ready: {0}")]
    NotReady(String),
    #[error("the server refuses to answer: {0}")]
    Refused(String),
}

/// Returns the URL of the readiness of a server with these settings, as seen from the same machine.
pub(super) fn url_of(http: &HttpSettings) -> String {
    format!("{}/health/ready", server_of(http))
}

/// Returns the URL of a server with these settings, as seen from the same machine, without a path.
pub(super) fn server_of(http: &HttpSettings) -> String {
    let host = match http.host {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        host => host,
    };
    let scheme = if http.tls.is_some() { "https" } else { "http" };
    format!("{scheme}://{}", SocketAddr::new(host, http.port))
}

/// Asks the server. Succeeds if the status is 200.
pub(super) fn ask(url: &str) -> ExitCode {
    let outcome = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(HealthError::from)
        .and_then(|runtime| runtime.block_on(ask_within(DEADLINE, url)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

async fn ask_within(deadline: Duration, url: &str) -> Result<(), HealthError> {
    timeout(deadline, exchange(url)).await.unwrap_or(Err(HealthError::TimedOut))
}

/// Asks the server with these headers, each a line with its end, and returns the body of its answer.
pub(super) async fn body(url: &str, headers: &str) -> Result<String, HealthError> {
    let answer = async {
        let mut text = String::new();
        connect(url, headers).await?.take(MAX_ANSWER).read_to_string(&mut text).await?;
        Ok(text)
    };
    let answer = timeout(DEADLINE, answer).await.unwrap_or(Err(HealthError::TimedOut))?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status_line = head.lines().next().unwrap_or_default();
    if is_ok(status_line) { Ok(body.to_owned()) } else { Err(HealthError::Refused(printable(status_line))) }
}

async fn exchange(url: &str) -> Result<(), HealthError> {
    let answer = connect(url, "").await?;
    let mut status_line = String::new();
    BufReader::new(answer.take(MAX_STATUS_LINE)).read_line(&mut status_line).await?;
    if is_ok(&status_line) { Ok(()) } else { Err(HealthError::NotReady(printable(&status_line))) }
}

fn is_ok(status_line: &str) -> bool {
    status_line.starts_with("HTTP/1.") && status_line.split(' ').nth(1) == Some("200")
}

fn printable(status_line: &str) -> String {
    status_line.trim_end().escape_debug().to_string()
}

/// Sends the request with these headers, each a line with its end. Returns the connection, from which the answer can be read.
async fn connect(url: &str, headers: &str) -> Result<Box<dyn AsyncRead + Send + Unpin>, HealthError> {
    // A URI contains no spaces and no line breaks, so nothing can be injected into the request below.
    let uri: Uri = url.parse().map_err(|_| HealthError::BadUrl)?;
    let (encrypted, usual_port) = match uri.scheme_str() {
        Some("http") => (false, 80),
        Some("https") => (true, 443),
        _ => return Err(HealthError::BadUrl),
    };
    let host = uri.host().ok_or(HealthError::BadUrl)?;
    let port = uri.port_u16().unwrap_or(usual_port);
    if port == 0 {
        return Err(HealthError::AnyPort);
    }
    let stream = TcpStream::connect(format!("{host}:{port}")).await?;
    let request = format!("GET {} HTTP/1.1\r\nHost: {host}:{port}\r\n{headers}Connection: close\r\n\r\n", uri.path());
    if !encrypted {
        return asked(stream, &request).await;
    }
    let name = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    let name = ServerName::try_from(name).map_err(|_| HealthError::BadUrl)?;
    asked(connector()?.connect(name, stream).await?, &request).await
}

/// Sends the request.
async fn asked(
    mut stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    request: &str,
) -> Result<Box<dyn AsyncRead + Send + Unpin>, HealthError> {
    stream.write_all(request.as_bytes()).await?;
    stream.flush().await?;
    Ok(Box::new(stream))
}

fn connector() -> Result<TlsConnector, rustls::Error> {
    let provider = Arc::new(crypto::aws_lc_rs::default_provider());
    let anyone = Arc::new(Anyone(provider.signature_verification_algorithms));
    let config = ClientConfig::builder_with_provider(provider as Arc<CryptoProvider>)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(anyone)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// Accepts any certificate. The server still has to prove that it has the private key.
#[derive(Debug)]
struct Anyone(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        crypto::verify_tls12_signature(message, certificate, signature, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        crypto::verify_tls13_signature(message, certificate, signature, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::TlsFiles;

    fn http(host: &str) -> HttpSettings {
        HttpSettings { host: host.parse().unwrap(), port: 8123, ..HttpSettings::default() }
    }

    #[test]
    fn a_server_on_every_interface_is_asked_on_the_loopback_one() {
        assert_eq!(url_of(&http("0.0.0.0")), "http://127.0.0.1:8123/health/ready");
        assert_eq!(url_of(&http("::")), "http://[::1]:8123/health/ready");
        assert_eq!(url_of(&http("192.0.2.7")), "http://192.0.2.7:8123/health/ready");
    }

    #[test]
    fn a_server_with_a_certificate_is_asked_over_tls() {
        let tls = TlsFiles { cert: "cert.pem".into(), key: "key.pem".into() };
        assert_eq!(url_of(&HttpSettings { tls: Some(tls), ..http("::") }), "https://[::1]:8123/health/ready");
    }

    #[tokio::test]
    async fn a_server_that_never_answers_is_given_up() {
        // The socket listens, so a connection succeeds, but no process accepts it.
        let silent = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let url = format!("http://{}/", silent.local_addr().unwrap());
        let outcome = ask_within(Duration::from_millis(20), &url).await;
        assert!(matches!(outcome, Err(HealthError::TimedOut)), "{outcome:?}");
    }
}
