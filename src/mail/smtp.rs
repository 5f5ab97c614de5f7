//! Sends mails to an SMTP server.
//!
//! Each mail has a connection of its own. An authentication service sends few mails, and a kept connection must be tested before each
//! use and can still end between the test and the mail.
//!
//! The SMTP client is our own, for two reasons. Only the three digits of a reply may decide, whatever text surrounds them. And the caller
//! must know at which step a server refused: a problem of the server or the settings will be repaired, a problem of the mail will not
//! (docs/adr/050-our-own-smtp-conversation.md).

mod capabilities;
mod conversation;
mod reply;
mod tls;

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use doorward_actors::ports::SendError;
use doorward_actors::{Email, Secret};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::message::Composed;
use crate::settings::{SmtpLogin, SmtpSecurity, SmtpSettings};
use capabilities::Capabilities;
use conversation::{Broken, Conversation, Stream};
use reply::{Kind, Reply};
use tls::Tls;

pub use tls::TlsSetupError;

/// How long `QUIT` may take. It no longer changes the result.
const QUIT_TIMEOUT: Duration = Duration::from_secs(2);
/// The maximum length of a server's response in a message, in characters.
const MAX_ANSWER: usize = 160;
/// The maximum length of a word of a server's response in a message, in characters: shorter than any token.
const MAX_WORD: usize = 20;
/// The name by which this host introduces itself if it has no public name (RFC 5321, section 4.1.4).
const ADDRESS_LITERAL: &str = "[127.0.0.1]";

/// An SMTP server.
pub(super) struct Smtp {
    server: SmtpSettings,
    tls: Option<Tls>,
    hello: String,
    send_timeout: Duration,
    /// Whether the server lacked `SMTPUTF8` at the last connection. This may have changed since.
    ascii_only: AtomicBool,
}

impl Smtp {
    pub(super) fn new(
        server: SmtpSettings,
        ca_file: Option<&Path>,
        domain: &str,
        send_timeout: Duration,
    ) -> Result<Self, TlsSetupError> {
        let encrypted = server.security != SmtpSecurity::None;
        let tls = if encrypted { Some(Tls::new(&server.host, ca_file)?) } else { None };
        if !encrypted && server.login.is_some() {
            tracing::warn!("SMTP_URL begins with smtp://: the password for the mail server travels unencrypted");
        }
        // A name without a dot is not a public name.
        let hello = if domain.contains('.') { domain } else { ADDRESS_LITERAL };
        Ok(Self { server, tls, hello: hello.to_owned(), send_timeout, ascii_only: AtomicBool::new(false) })
    }

    /// Returns the address of the server, for people.
    pub(super) fn place(&self) -> String {
        let SmtpSettings { host, port, .. } = &self.server;
        format!("{host}, port {port}")
    }

    /// Connects in the same way as for a mail, to learn the capabilities of the server.
    pub(super) async fn probe(&self) {
        if let Ok(Ok((mut conversation, _))) = timeout(self.send_timeout, self.connect()).await {
            let _ = timeout(QUIT_TIMEOUT.min(self.send_timeout), conversation.quit()).await;
        }
    }

    /// Returns whether the server accepts mails to this address, as far as the last connection showed.
    pub(super) fn reaches(&self, to: &Email) -> bool {
        to.has_ascii_local_part() || !self.ascii_only.load(Ordering::Relaxed)
    }

    /// Delivers a mail. Ends within the send timeout, whatever the server does.
    pub(super) async fn deliver(&self, composed: &Composed) -> Result<(), SendError> {
        let Ok(outcome) = timeout(self.send_timeout, self.exchange(composed)).await else {
            let seconds = self.send_timeout.as_secs_f32();
            return Err(SendError::Transient(format!("the mail server did not finish within {seconds} seconds")));
        };
        let mut conversation = outcome?;
        let _ = timeout(QUIT_TIMEOUT.min(self.send_timeout), conversation.quit()).await;
        Ok(())
    }

    async fn exchange(&self, composed: &Composed) -> Result<Conversation, SendError> {
        let (mut conversation, capabilities) = self.connect().await?;
        let envelope = &composed.envelope;
        let from = envelope.from().map(ToString::to_string).unwrap_or_default();
        let recipients: Vec<String> = envelope.to().iter().map(ToString::to_string).collect();
        let international = !(from.is_ascii() && recipients.iter().all(|to| to.is_ascii()));
        if international && !capabilities.smtputf8 {
            return Err(SendError::Permanent("the mail server takes no addresses outside ASCII (SMTPUTF8)".to_owned()));
        }
        let token = composed.token.as_ref();
        let failed = |broken: Broken| lost("the connection to the mail server failed", &broken);
        let mut begin = format!("MAIL FROM:<{from}>");
        if international {
            begin.push_str(" SMTPUTF8");
        }
        if capabilities.eight_bit && !composed.bytes.is_ascii() {
            begin.push_str(" BODY=8BITMIME");
        }
        let mut commands = vec![begin];
        commands.extend(recipients.iter().map(|to| format!("RCPT TO:<{to}>")));
        for command in commands {
            let reply = conversation.command(&command).await.map_err(failed)?;
            verdict(&reply, Kind::Completed, token)?;
        }
        let reply = conversation.command("DATA").await.map_err(failed)?;
        verdict(&reply, Kind::Intermediate, token)?;
        let reply = conversation.mail(&composed.bytes).await.map_err(failed)?;
        verdict(&reply, Kind::Completed, token)?;
        Ok(conversation)
    }

    /// Opens a connection that is encrypted and logged in according to the settings.
    /// All errors here are transient, because the mail causes none of them.
    async fn connect(&self) -> Result<(Conversation, Capabilities), SendError> {
        let SmtpSettings { security, host, port, login } = &self.server;
        let unreachable = |error: Broken| lost("no connection to the mail server", &error);
        let connecting = TcpStream::connect((host.as_str(), *port));
        let mut stream: Box<dyn Stream> = Box::new(connecting.await.map_err(|error| unreachable(error.into()))?);
        let first_byte = self.tls.as_ref().filter(|_| *security == SmtpSecurity::Tls);
        if let Some(tls) = first_byte {
            stream = tls.connect(stream).await.map_err(|error| unreachable(error.into()))?;
        }
        let mut encrypted = first_byte.is_some();
        let mut conversation = Conversation::new(stream);
        welcomed(&conversation.reply().await.map_err(unreachable)?)?;
        let mut capabilities = self.introduce(&mut conversation).await?;
        if *security == SmtpSecurity::StartTls {
            if !capabilities.starttls {
                return Err(SendError::Transient("the mail server does not offer STARTTLS".to_owned()));
            }
            if let Some(tls) = &self.tls {
                let failed = |error: Broken| lost("the connection to the mail server cannot be encrypted", &error);
                let reply = conversation.command("STARTTLS").await.map_err(failed)?;
                if reply.kind() != Kind::Completed {
                    let why = answer(&reply, None);
                    let text = format!("the connection to the mail server cannot be encrypted: {why}");
                    return Err(SendError::Transient(text));
                }
                let plain = conversation.into_stream().map_err(failed)?;
                let stream = tls.connect(plain).await.map_err(|error| failed(error.into()))?;
                encrypted = true;
                conversation = Conversation::new(stream);
                // Discard what the server said before TLS (RFC 3207, section 4.2).
                capabilities = self.introduce(&mut conversation).await?;
            }
        }
        // The branches above must have encrypted the connection. This check keeps a mistake in them from sending a password in plain text.
        if *security != SmtpSecurity::None && !encrypted {
            return Err(SendError::Transient("the connection to the mail server is not encrypted".to_owned()));
        }
        if let Some(login) = login {
            log_in(&mut conversation, capabilities, login).await?;
        }
        self.ascii_only.store(!capabilities.smtputf8, Ordering::Relaxed);
        Ok((conversation, capabilities))
    }

    async fn introduce(&self, conversation: &mut Conversation) -> Result<Capabilities, SendError> {
        let failed = |broken: Broken| lost("no connection to the mail server", &broken);
        let (reply, capabilities) = conversation.hello(&self.hello).await.map_err(failed)?;
        welcomed(&reply)?;
        Ok(capabilities)
    }
}

/// Logs in with the first mechanism that the server knows. Reports only the code of a reply, because its text may repeat the password.
async fn log_in(
    conversation: &mut Conversation,
    capabilities: Capabilities,
    login: &SmtpLogin,
) -> Result<(), SendError> {
    let SmtpLogin { user, password } = login;
    let encoded = |text: &str| Secret::new(BASE64.encode(text));
    let both = Secret::new(format!("\0{user}\0{}", password.expose()));
    let both = encoded(both.expose());
    // PLAIN sends its only word with the command, and once more if the server asks for it.
    let plain = (Secret::new(format!("AUTH PLAIN {}", both.expose())), vec![both]);
    let login = (Secret::new("AUTH LOGIN".to_owned()), vec![encoded(user), encoded(password.expose())]);
    let offered = [(capabilities.plain, plain), (capabilities.login, login)];
    let mut refused = None;
    for (_, (command, words)) in offered.into_iter().filter(|(offered, _)| *offered) {
        let failed = |broken: Broken| lost("the mail server did not accept the login", &broken);
        // Sends the words in order when the server asks, whatever name it gives them (RFC 4954, section 4).
        let mut reply = conversation.command(command.expose()).await.map_err(failed)?;
        for word in words {
            if reply.kind() == Kind::Intermediate {
                reply = conversation.command(word.expose()).await.map_err(failed)?;
            }
        }
        match (reply.kind(), reply.code) {
            (Kind::Completed, _) => return Ok(()),
            // The server does not know this mechanism after all.
            (Kind::Permanent, 500..=504) => refused = Some(reply.code),
            (_, code) => return Err(SendError::Transient(format!("the mail server did not accept the login: {code}"))),
        }
    }
    Err(SendError::Transient(match refused {
        Some(code) => format!("the mail server did not accept the login: {code}"),
        None => "the mail server offers no login by PLAIN or LOGIN".to_owned(),
    }))
}

/// Returns what a reply to a step of the delivery means for the mail.
fn verdict(reply: &Reply, wanted: Kind, token: Option<&Secret>) -> Result<(), SendError> {
    match (reply.kind(), reply.code) {
        (kind, _) if kind == wanted => Ok(()),
        // The reply is about the login, not about the mail (RFC 4954, section 6). The mail can be sent once the login is repaired.
        (_, code @ (530 | 534 | 535 | 538)) => {
            Err(SendError::Transient(format!("the mail server wants another login: {code}")))
        }
        (Kind::Permanent, _) => {
            Err(SendError::Permanent(format!("the mail server refused the mail: {}", answer(reply, token))))
        }
        (Kind::Transient, _) => {
            Err(SendError::Transient(format!("the mail server put the mail off: {}", answer(reply, token))))
        }
        (Kind::Completed | Kind::Intermediate, _) => {
            Err(lost("the connection to the mail server failed", &Broken::OutOfStep))
        }
    }
}

/// Checks a reply before the mail is begun. A refusal at this point is about the server or the settings, so it is transient.
fn welcomed(reply: &Reply) -> Result<(), SendError> {
    if reply.kind() == Kind::Completed {
        return Ok(());
    }
    Err(SendError::Transient(format!("no connection to the mail server: {}", answer(reply, None))))
}

/// Reports that the connection was lost.
fn lost(what: &str, broken: &Broken) -> SendError {
    let why = broken.to_string();
    let why: String = why.chars().filter(|c| !c.is_control()).take(MAX_ANSWER).collect();
    SendError::Transient(format!("{what}: {why}"))
}

/// Returns a server's response with its code, for the log. Replaces words that could be a link or a token, because spam filters often
/// repeat what they found.
fn answer(reply: &Reply, token: Option<&Secret>) -> String {
    let (code, text) = (reply.code.to_string(), reply.text());
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
