//! An SMTP server for tests. At each step of the dialogue it acts as its script says, and it records what clients send.
//!
//! Include it with `#[path = "…/support_smtp/mod.rs"] mod smtp_sink;`. A test may change the script while the server
//! runs.
#![expect(clippy::unwrap_used, reason = "a helper of a test may panic like the test itself")]

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWrite, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};

/// A step of the dialogue at which the server answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    /// The greeting after a client connects.
    Greeting,
    /// `EHLO`.
    Ehlo,
    /// `STARTTLS`.
    StartTls,
    /// `AUTH`.
    Auth,
    /// `MAIL FROM`.
    Mail,
    /// `RCPT TO`.
    Rcpt,
    /// `DATA`.
    Data,
    /// The line with a single dot that ends a mail.
    Body,
}

/// An action of the server at a step, instead of the usual answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Act {
    /// Sends this answer. The server adds the line end.
    Answer(String),
    /// Sends these bytes unchanged.
    Bytes(Vec<u8>),
    /// Sends these bytes unchanged and closes the connection. At [`Step::Body`] the server keeps the mail if the bytes
    /// begin with `2`.
    Last(Vec<u8>),
    /// Sends the usual answer and this text in one write. At [`Step::StartTls`] this happens before TLS begins.
    Inject(String),
    /// Sends nothing more and keeps the connection open.
    Stall,
    /// Closes the connection. At [`Step::Body`] the server still keeps the mail: only the answer is lost.
    Drop,
}

/// How connections are encrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Encryption {
    /// No encryption.
    #[default]
    None,
    /// Encryption after `STARTTLS`, which the server offers.
    StartTls,
    /// Encryption from the first byte.
    Implicit,
}

/// The behaviour of the server.
#[derive(Debug, Clone, Default)]
pub(crate) struct Script {
    /// How connections are encrypted.
    pub(crate) encryption: Encryption,
    /// The login that the server requires: mechanism (`PLAIN` or `LOGIN`, the only one that it offers), user and
    /// password.
    pub(crate) login: Option<(&'static str, &'static str, &'static str)>,
    /// The challenges of `AUTH LOGIN` and `AUTH PLAIN`, one for each answer. Empty: the usual challenges.
    pub(crate) questions: Vec<&'static str>,
    /// The answer to `EHLO` instead of the usual one, without the line end.
    pub(crate) capabilities: Option<&'static str>,
    /// Whether the server offers `SMTPUTF8`.
    pub(crate) smtputf8: bool,
    /// The steps at which the server does not answer as usual.
    pub(crate) acts: BTreeMap<Step, Act>,
}

impl Script {
    /// Accepts everything, except that it acts differently at this step.
    pub(crate) fn but(step: Step, act: Act) -> Self {
        Self { acts: BTreeMap::from([(step, act)]), ..Self::default() }
    }
}

/// A mail that the server accepted.
#[derive(Debug, Clone)]
pub(crate) struct Taken {
    /// The argument of `MAIL`.
    pub(crate) from: String,
    /// The arguments of `RCPT`.
    pub(crate) to: Vec<String>,
    /// The mail, without dot-stuffing (RFC 5321).
    pub(crate) data: String,
    /// Whether the mail arrived over TLS.
    pub(crate) encrypted: bool,
}

/// A mail that arrived complete, whatever the server answered.
#[derive(Debug, Clone)]
pub(crate) struct Received {
    /// The mail.
    pub(crate) mail: Taken,
    /// Whether the server sent a complete answer to it.
    pub(crate) answered: bool,
}

/// A certificate authority and a certificate that it signed for one name.
pub(crate) struct Certificates {
    /// The certificate of the authority in PEM, for `SMTP_CA_FILE`.
    pub(crate) authority_pem: String,
    config: Arc<ServerConfig>,
}

impl Certificates {
    /// Creates a new authority and a certificate for this name or address.
    pub(crate) fn for_name(name: &str) -> Self {
        let mut authority = CertificateParams::new(Vec::new()).unwrap();
        authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let leaf = CertificateParams::new(vec![name.to_owned()]).unwrap().signed_by(&key, &authority).unwrap();
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(tokio_rustls::rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![leaf.der().clone()], key)
            .unwrap();
        Self { authority_pem: authority.pem(), config: Arc::new(config) }
    }
}

struct Shared {
    script: Mutex<Script>,
    taken: Mutex<Vec<Taken>>,
    received: Mutex<Vec<Received>>,
    lines: Mutex<Vec<String>>,
    tls: Option<TlsAcceptor>,
}

/// The server. It stops when this value is dropped.
pub(crate) struct Sink {
    /// The address that it listens on.
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    accepting: JoinHandle<()>,
}

impl Drop for Sink {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Sink {
    /// Starts a server without TLS.
    pub(crate) async fn start(script: Script) -> Self {
        Self::start_with(script, None).await
    }

    /// Starts a server, with certificates if its script encrypts.
    pub(crate) async fn start_with(script: Script, certificates: Option<&Certificates>) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            script: Mutex::new(script),
            taken: Mutex::default(),
            received: Mutex::default(),
            lines: Mutex::default(),
            tls: certificates.map(|certificates| TlsAcceptor::from(Arc::clone(&certificates.config))),
        });
        let serving = Arc::clone(&shared);
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&serving);
                // A client that disconnects is not a failure of the server.
                tokio::spawn(async move { drop(connection(stream, &shared).await) });
            }
        });
        Self { address, shared, accepting }
    }

    /// Returns an `SMTP_URL` without a login.
    pub(crate) fn url(&self, scheme: &str) -> String {
        format!("{scheme}://{}", self.address)
    }

    /// Replaces the script, from the next step on.
    pub(crate) fn follow(&self, script: Script) {
        *lock(&self.shared.script) = script;
    }

    /// Returns the mails that the server accepted.
    pub(crate) fn taken(&self) -> Vec<Taken> {
        lock(&self.shared.taken).clone()
    }

    /// Returns the mails that arrived complete, including those that the server did not accept.
    pub(crate) fn received(&self) -> Vec<Received> {
        lock(&self.shared.received).clone()
    }

    /// Returns every line that clients sent outside of mails. Lines that arrived over TLS begin with `TLS `.
    pub(crate) fn lines(&self) -> Vec<String> {
        lock(&self.shared.lines).clone()
    }
}

impl Shared {
    fn script(&self) -> Script {
        lock(&self.script).clone()
    }
}

/// How a conversation ended.
enum End {
    Over,
    StartTls,
}

async fn connection(stream: TcpStream, shared: &Shared) -> io::Result<()> {
    let acceptor = || shared.tls.clone().ok_or(io::ErrorKind::Unsupported);
    if shared.script().encryption == Encryption::Implicit {
        let mut stream = BufReader::new(acceptor()?.accept(stream).await?);
        converse(&mut stream, shared, true, true).await?;
        return Ok(());
    }
    let mut plain = BufReader::new(stream);
    if let End::StartTls = converse(&mut plain, shared, false, true).await? {
        let mut stream = BufReader::new(acceptor()?.accept(plain.into_inner()).await?);
        converse(&mut stream, shared, true, false).await?;
    }
    Ok(())
}

/// Answers as the script says, or else as usual. Returns `false` if the caller must close the connection.
async fn answer<S: AsyncWrite + Unpin>(stream: &mut S, shared: &Shared, step: Step, usual: &str) -> io::Result<bool> {
    let (bytes, goes_on) = match shared.script().acts.get(&step) {
        None => (format!("{usual}\r\n").into_bytes(), true),
        Some(Act::Answer(text)) => (format!("{text}\r\n").into_bytes(), true),
        Some(Act::Bytes(bytes)) => (bytes.clone(), true),
        Some(Act::Last(bytes)) => (bytes.clone(), false),
        Some(Act::Inject(text)) => (format!("{usual}\r\n{text}\r\n").into_bytes(), true),
        Some(Act::Stall) => std::future::pending().await,
        Some(Act::Drop) => return Ok(false),
    };
    stream.write_all(&bytes).await?;
    stream.flush().await?;
    Ok(goes_on)
}

async fn converse<S>(stream: &mut BufReader<S>, shared: &Shared, encrypted: bool, greet: bool) -> io::Result<End>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if greet && !answer(stream, shared, Step::Greeting, "220 sink.example ESMTP").await? {
        return Ok(End::Over);
    }
    let (mut from, mut to, mut logged_in) = (String::new(), Vec::new(), false);
    loop {
        let Some(line) = line(stream).await? else { return Ok(End::Over) };
        lock(&shared.lines).push(if encrypted { format!("TLS {line}") } else { line.clone() });
        let script = shared.script();
        let (verb, argument) = line.split_once(' ').unwrap_or((&line, ""));
        let goes_on = match verb.to_ascii_uppercase().as_str() {
            "EHLO" => answer(stream, shared, Step::Ehlo, &capabilities(&script, encrypted)).await?,
            "HELO" => {
                stream.write_all(b"250 sink.example\r\n").await?;
                true
            }
            "STARTTLS" if script.encryption == Encryption::StartTls && !encrypted => {
                let usual = "220 go ahead";
                let goes_on = answer(stream, shared, Step::StartTls, usual).await?;
                if goes_on && matches!(script.acts.get(&Step::StartTls), None | Some(Act::Inject(_))) {
                    return Ok(End::StartTls);
                }
                goes_on
            }
            "AUTH" => {
                logged_in = credentials(stream, argument, &script.questions).await?
                    == script.login.map(|(_, user, password)| (user.into(), password.into()));
                let usual = if logged_in { "235 welcome" } else { "535 5.7.8 wrong" };
                answer(stream, shared, Step::Auth, usual).await?
            }
            "MAIL" => {
                argument.clone_into(&mut from);
                to.clear();
                let usual = if script.login.is_some() && !logged_in { "530 5.7.0 log in first" } else { "250 ok" };
                answer(stream, shared, Step::Mail, usual).await?
            }
            "RCPT" => {
                to.push(argument.to_owned());
                answer(stream, shared, Step::Rcpt, "250 ok").await?
            }
            "DATA" => {
                let goes_on = answer(stream, shared, Step::Data, "354 go on").await?;
                if goes_on && !script.acts.contains_key(&Step::Data) {
                    let data = body(stream).await?;
                    let act = shared.script().acts.get(&Step::Body).cloned();
                    let mail = Taken { from: from.clone(), to: to.clone(), data, encrypted };
                    let positive = |bytes: &Vec<u8>| bytes.starts_with(b"2");
                    if matches!(&act, None | Some(Act::Drop))
                        || matches!(&act, Some(Act::Bytes(bytes) | Act::Last(bytes)) if positive(bytes))
                    {
                        lock(&shared.taken).push(mail.clone());
                    }
                    let place = {
                        let mut received = lock(&shared.received);
                        received.push(Received { mail, answered: false });
                        received.len() - 1
                    };
                    let answered = answer(stream, shared, Step::Body, "250 2.0.0 taken").await?;
                    lock(&shared.received)[place].answered = answered;
                    answered
                } else {
                    goes_on
                }
            }
            "NOOP" | "RSET" => answer(stream, shared, Step::Ehlo, "250 ok").await?,
            "QUIT" => {
                stream.write_all(b"221 bye\r\n").await?;
                stream.flush().await?;
                false
            }
            _ => {
                stream.write_all(b"502 what?\r\n").await?;
                true
            }
        };
        if !goes_on {
            return Ok(End::Over);
        }
    }
}

fn capabilities(script: &Script, encrypted: bool) -> String {
    if let Some(capabilities) = script.capabilities {
        return capabilities.to_owned();
    }
    let mut lines = vec!["sink.example".to_owned(), "8BITMIME".to_owned()];
    if script.encryption == Encryption::StartTls && !encrypted {
        lines.push("STARTTLS".to_owned());
    }
    if let Some((mechanism, ..)) = script.login {
        lines.push(format!("AUTH {mechanism}"));
    }
    if script.smtputf8 {
        lines.push("SMTPUTF8".to_owned());
    }
    let last = lines.len() - 1;
    let line = |(i, line): (usize, &String)| format!("250{}{line}", if i == last { ' ' } else { '-' });
    lines.iter().enumerate().map(line).collect::<Vec<_>>().join("\r\n")
}

async fn line<S: AsyncRead + Unpin>(stream: &mut BufReader<S>) -> io::Result<Option<String>> {
    let mut line = String::new();
    let read = stream.read_line(&mut line).await?;
    Ok((read > 0).then(|| line.trim_end().to_owned()))
}

/// Reads a mail up to the line with a single dot.
async fn body<S: AsyncRead + Unpin>(stream: &mut BufReader<S>) -> io::Result<String> {
    let mut body = String::new();
    loop {
        let mut line = String::new();
        if stream.read_line(&mut line).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if line == ".\r\n" {
            return Ok(body);
        }
        body.push_str(line.strip_prefix('.').unwrap_or(&line));
    }
}

/// Reads user and password of `AUTH PLAIN` (RFC 4616) or `AUTH LOGIN`.
async fn credentials<S>(
    stream: &mut BufReader<S>,
    argument: &str,
    questions: &[&str],
) -> io::Result<Option<(String, String)>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mechanism, initial) = argument.split_once(' ').unwrap_or((argument, ""));
    let plain = mechanism == "PLAIN";
    let usual: &[&str] = match (plain, initial) {
        (true, "") => &["334"],
        (true, _) => &[],
        (false, _) => &["334 VXNlcm5hbWU6", "334 UGFzc3dvcmQ6"],
    };
    let mut answers = vec![base64(initial)];
    for question in if questions.is_empty() { usual } else { questions } {
        stream.write_all(format!("{question}\r\n").as_bytes()).await?;
        stream.flush().await?;
        answers.push(base64(&line(stream).await?.unwrap_or_default()));
    }
    let answers = if plain {
        let text = answers.pop().unwrap_or_default();
        text.split('\0').skip(1).map(str::to_owned).collect()
    } else {
        answers.split_off(1)
    };
    let mut answers = answers.into_iter();
    Ok(answers.next().zip(answers.next()))
}

fn base64(text: &str) -> String {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => Some(u32::from(byte - b'A')),
        b'a'..=b'z' => Some(u32::from(byte - b'a') + 26),
        b'0'..=b'9' => Some(u32::from(byte - b'0') + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let (mut bits, mut held, mut bytes) = (0_u32, 0, Vec::new());
    for value in text.bytes().filter_map(digit) {
        bits = (bits << 6) | value;
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from((bits >> held) & 0xff).unwrap());
        }
    }
    String::from_utf8(bytes).unwrap()
}
