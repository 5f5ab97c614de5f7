//! Mails to an SMTP server.
//!
//! Each mail has a connection of its own: an authentication service sends few, and a connection that is kept must be
//! tested before each use and can still end between the test and the mail. It also says at which step a server refused,
//! which decides whether a mail is tried again: what is wrong with the server or the settings is repaired one day, what is
//! wrong with the mail is not.

use std::error::Error as _;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use doorward_actors::Secret;
use doorward_actors::ports::SendError;
use futures_util::FutureExt as _;
use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, Mechanism};
use lettre::transport::smtp::client::{AsyncSmtpConnection, Certificate, TlsParameters};
use lettre::transport::smtp::extension::ClientId;
use lettre::transport::smtp::response::Severity;
use tokio::time::timeout;

use super::message::Composed;
use crate::settings::{SmtpLogin, SmtpSecurity, SmtpSettings};

/// How long the farewell may take, which changes nothing any more.
const QUIT_TIMEOUT: Duration = Duration::from_secs(2);
/// The longest part of a server's answer that is repeated, in characters.
const MAX_ANSWER: usize = 160;
/// The longest word of a server's answer that is repeated, in characters: shorter than any token.
const MAX_WORD: usize = 20;

/// The certificates for the mail server cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsSetupError {
    /// The file cannot be read.
    #[error("SMTP_CA_FILE {}: {source}", path.display())]
    Unreadable {
        /// Which file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The file holds no certificate, or one that is none.
    #[error("SMTP_CA_FILE {}: it holds no usable certificate in PEM", .0.display())]
    NoCertificate(PathBuf),
    /// TLS cannot be set up at all.
    #[error("TLS cannot be set up: {0}")]
    Other(Error),
}

/// An SMTP server.
pub(super) struct Smtp {
    server: SmtpSettings,
    tls: Option<TlsParameters>,
    hello: ClientId,
    send_timeout: Duration,
}

impl Smtp {
    pub(super) fn new(
        server: SmtpSettings,
        ca_file: Option<&Path>,
        domain: &str,
        send_timeout: Duration,
    ) -> Result<Self, TlsSetupError> {
        let encrypted = server.security != SmtpSecurity::None;
        let tls = if encrypted { Some(tls_of(&server.host, ca_file)?) } else { None };
        if !encrypted && server.login.is_some() {
            tracing::warn!("SMTP_URL begins with smtp://: the password for the mail server travels unencrypted");
        }
        // A name without a dot is no name to the world (RFC 5321, section 4.1.4); then it is an address literal.
        let hello = if domain.contains('.') { ClientId::Domain(domain.to_owned()) } else { ClientId::default() };
        Ok(Self { server, tls, hello, send_timeout })
    }

    /// Where mails go, for people.
    pub(super) fn place(&self) -> String {
        let SmtpSettings { host, port, .. } = &self.server;
        format!("{host}, port {port}")
    }

    /// Hands a mail over. Ends within the time for it, whatever the server does.
    pub(super) async fn deliver(&self, composed: &Composed) -> Result<(), SendError> {
        let Ok(outcome) = timeout(self.send_timeout, self.exchange(composed)).await else {
            let seconds = self.send_timeout.as_secs_f32();
            return Err(SendError::Transient(format!("the mail server did not finish within {seconds} seconds")));
        };
        let mut connection = outcome?;
        let _ = timeout(QUIT_TIMEOUT.min(self.send_timeout), connection.quit()).await;
        Ok(())
    }

    async fn exchange(&self, composed: &Composed) -> Result<AsyncSmtpConnection, SendError> {
        let mut connection = self.connect().await?;
        let taken = connection.send(&composed.envelope, &composed.bytes).await.map_err(|error| {
            let token = composed.token.as_ref();
            match error.status() {
                // About the login, not about the mail (RFC 4954, section 6): it goes as soon as that is repaired.
                Some(code) if matches!(u16::from(code), 530 | 534 | 535 | 538) => {
                    SendError::Transient(format!("the mail server wants another login: {}", code_of(&error)))
                }
                Some(_) if error.is_permanent() => {
                    SendError::Permanent(format!("the mail server refused the mail: {}", answer(&error, token)))
                }
                Some(_) => SendError::Transient(format!("the mail server put the mail off: {}", answer(&error, token))),
                // The only one that lettre finds before it says anything: an address that this server cannot take.
                None if error.is_client() => {
                    SendError::Permanent("the mail server takes no addresses outside ASCII (SMTPUTF8)".to_owned())
                }
                None => SendError::Transient(format!("the connection to the mail server failed: {}", cause(&error))),
            }
        })?;
        // Only a completed one; lettre also takes the invitation to send the mail for an answer to the mail.
        if taken.code().severity != Severity::PositiveCompletion {
            return Err(out_of_step());
        }
        Ok(connection)
    }

    /// A connection that is encrypted and logged in as the settings say. Whatever fails here is no fault of the mail.
    async fn connect(&self) -> Result<AsyncSmtpConnection, SendError> {
        let SmtpSettings { security, host, port, login } = &self.server;
        let failed = |what: &str, error: &Error| {
            let why = if error.status().is_some() { answer(error, None) } else { cause(error) };
            SendError::Transient(format!("{what}: {why}"))
        };
        let from_first_byte = if *security == SmtpSecurity::Tls { self.tls.clone() } else { None };
        let server = (host.as_str(), *port);
        let connecting =
            AsyncSmtpConnection::connect_tokio1(server, Some(self.send_timeout), &self.hello, from_first_byte, None);
        let mut connection = connecting.await.map_err(|error| failed("no connection to the mail server", &error))?;
        if *security == SmtpSecurity::StartTls {
            if !connection.can_starttls() {
                return Err(SendError::Transient("the mail server does not offer STARTTLS".to_owned()));
            }
            if let Some(tls) = self.tls.clone() {
                let upgraded = connection.starttls(tls, &self.hello).await;
                upgraded.map_err(|error| failed("the connection to the mail server cannot be encrypted", &error))?;
                // What the server says before TLS counts for nothing (RFC 3207, section 4.2), but lettre keeps what it has
                // read ahead, so a stranger could slip answers in. All but the first of them wait here; the first alone
                // shifts every answer by one, so that the last one is no completion.
                if connection.read_response().now_or_never().is_some() {
                    return Err(out_of_step());
                }
            }
        }
        // What the branches above must have done; a mistake in them must not cost a password.
        if *security != SmtpSecurity::None && !connection.is_encrypted() {
            return Err(SendError::Transient("the connection to the mail server is not encrypted".to_owned()));
        }
        if let Some(SmtpLogin { user, password }) = login {
            let credentials = Credentials::new(user.clone(), password.expose().to_owned());
            let logged_in = connection.auth(&[Mechanism::Plain, Mechanism::Login], &credentials).await;
            // A server may repeat anything in its answer, so only its code is told.
            logged_in.map_err(|error| {
                let why = if error.status().is_some() { code_of(&error) } else { cause(&error) };
                SendError::Transient(format!("the mail server did not accept the login: {why}"))
            })?;
        }
        Ok(connection)
    }
}

/// The answers of the server do not belong to what it was asked.
fn out_of_step() -> SendError {
    SendError::Transient("the mail server answers more than it was asked".to_owned())
}

fn tls_of(host: &str, ca_file: Option<&Path>) -> Result<TlsParameters, TlsSetupError> {
    let mut builder = TlsParameters::builder(host.to_owned());
    if let Some(path) = ca_file {
        let pem = fs::read(path).map_err(|source| TlsSetupError::Unreadable { path: path.to_owned(), source })?;
        let no_certificate = || TlsSetupError::NoCertificate(path.to_owned());
        if !pem.windows(27).any(|window| window == b"-----BEGIN CERTIFICATE-----") {
            return Err(no_certificate());
        }
        builder = builder.add_root_certificate(Certificate::from_pem(&pem).map_err(|_| no_certificate())?);
        return builder.build_rustls().map_err(|_| no_certificate());
    }
    builder.build_rustls().map_err(TlsSetupError::Other)
}

/// The code of an answer.
fn code_of(error: &Error) -> String {
    error.status().map(|code| code.to_string()).unwrap_or_default()
}

/// The answer of a server, with its code and without whatever could be a link or a token: filters like to repeat what
/// they found.
fn answer(error: &Error, token: Option<&Secret>) -> String {
    let code = code_of(error);
    let text = error.source().map(ToString::to_string).unwrap_or_default();
    if token.is_some_and(|token| text.contains(token.expose())) {
        return code;
    }
    let harmless = |word: &&str| {
        let address = word.contains('@') && !word.contains(['/', '=']);
        address || (word.chars().count() <= MAX_WORD && !word.contains(['/', '=', '?']))
    };
    let words = text.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    let shown: Vec<&str> = words.map(|word| if harmless(&word) { word } else { "…" }).collect();
    let shown: String = shown.join(" ").chars().take(MAX_ANSWER).collect();
    if shown.is_empty() { code } else { format!("{code} {shown}") }
}

/// What went wrong below SMTP.
fn cause(error: &Error) -> String {
    // lettre repeats in each layer what the one below says.
    let mut deepest: &dyn std::error::Error = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    let text = deepest.to_string();
    text.chars().filter(|c| !c.is_control()).take(MAX_ANSWER).collect()
}
