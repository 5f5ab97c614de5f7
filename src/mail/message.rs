//! Composes a mail as a complete message (RFC 5322, RFC 2045).

use std::time::{Duration, UNIX_EPOCH};

use doorward_actors::ports::SendError;
use doorward_actors::{Email, Locale, MailKind, OutgoingMail, Timestamp, TokenPurpose};
use lettre::Address;
use lettre::address::Envelope;
use lettre::message::header::{ContentTransferEncoding, HeaderName, HeaderValue};
use lettre::message::{Mailbox, Message, MultiPart, SinglePart, header::ContentType};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::plain;
use super::templates::{Failure, TEST, Templates, Words, Written};
use crate::settings::{MailSettings, PublicUrl};

/// The maximum length of the part of `Message-ID` before the `@`, in characters. The MIME boundary is made of it and must stay under 70.
const MAX_KEY: usize = 60;
/// The maximum length of a value in a mail, in characters. Addresses and nicknames are shorter, but a user agent has any length.
const MAX_VALUE: usize = 254;
/// The characters to escape in the query of a link: all but the unreserved ones (RFC 3986, section 2.3).
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A composed mail, ready for delivery.
pub(super) struct Composed {
    pub(super) envelope: Envelope,
    pub(super) bytes: Vec<u8>,
    /// This field and the following ones are for the log, up to `written_at`. None of them holds a token.
    pub(super) subject: String,
    pub(super) name: &'static str,
    pub(super) key: String,
    pub(super) written_at: Timestamp,
    /// The token in the mail. If a response of the server contains it, only the code of that response is reported.
    pub(super) token: Option<doorward_actors::Secret>,
}

/// Composes mails.
pub(super) struct Composer {
    templates: Templates,
    from: Mailbox,
    public_url: PublicUrl,
}

impl Composer {
    pub(super) fn new(templates: Templates, settings: &MailSettings) -> Self {
        Self { templates, from: settings.from.clone(), public_url: settings.public_url.clone() }
    }

    /// Returns the same with other templates.
    pub(super) fn with(&self, templates: Templates) -> Self {
        Self { templates, from: self.from.clone(), public_url: self.public_url.clone() }
    }

    /// Returns the domain of `Message-ID`. This host also introduces itself by it to a mail server.
    pub(super) fn domain(&self) -> &str {
        self.public_url.domain().unwrap_or_else(|| self.from.email.domain())
    }

    /// Composes a mail for an account.
    pub(super) fn compose(&self, mail: &OutgoingMail) -> Result<Composed, SendError> {
        let words = self.words(mail)?;
        let name = mail.kind.as_str();
        let mut composed =
            self.put_together(name, mail.locale, &mail.to, &words, &mail.message_key, mail.written_at)?;
        composed.token.clone_from(&mail.values.token);
        Ok(composed)
    }

    /// Composes the mail of `doorward mail test`.
    pub(super) fn compose_test(&self, to: &Email, locale: Locale, at: Timestamp) -> Result<Composed, SendError> {
        let words =
            Words { to: clean(to.as_str()), public_url: self.public_url.as_str().to_owned(), ..Words::default() };
        self.put_together(TEST, locale, to, &words, &at.as_millis().to_string(), at)
    }

    fn words(&self, mail: &OutgoingMail) -> Result<Words, SendError> {
        let OutgoingMail { to, kind, locale, values, .. } = mail;
        let link = match (path_of(*kind), &values.token) {
            (None, _) => None,
            (Some(path), Some(token)) => {
                let token = utf8_percent_encode(token.expose(), ESCAPED);
                Some(format!("{}{path}?token={token}", self.public_url.as_str()))
            }
            // This mail may go to the address to which the account moved. That address cannot undo the move, so it gets no link.
            (Some(_), None) if TokenPurpose::of_mail(*kind) == Some(TokenPurpose::Undo) => None,
            (Some(_), None) => return Err(SendError::Permanent("the mail has no token for its link".to_owned())),
        };
        Ok(Words {
            nickname: plain::name(&values.nickname),
            to: clean(&plain::address(to.as_str())),
            new_address: values
                .new_address
                .as_ref()
                .map(|new| clean(&plain::address(new.as_str())))
                .unwrap_or_default(),
            link,
            valid_for: values.valid_for,
            at: values.at.map(spoken).unwrap_or_default(),
            client_address: values.client_address.map(|address| address.to_canonical().to_string()).unwrap_or_default(),
            user_agent: values.user_agent.as_deref().map(|agent| plain::program(agent, *locale)).unwrap_or_default(),
            public_url: self.public_url.as_str().to_owned(),
        })
    }

    fn put_together(
        &self,
        name: &'static str,
        locale: Locale,
        to: &Email,
        words: &Words,
        key: &str,
        written_at: Timestamp,
    ) -> Result<Composed, SendError> {
        let Written { subject, text, html } = self.templates.write(name, locale, words).map_err(|failure| {
            // The reason may contain a value, so it is not reported. The check at the start reports mistakes in the template itself.
            let Failure { template, line, .. } = failure;
            SendError::Transient(format!("the template {template} failed in line {line}"))
        })?;
        let to = recipient(to)?;
        let key = plain_key(key);
        let message = Message::builder()
            .from(self.from.clone())
            .to(Mailbox::new(None, to.clone()))
            .subject(subject.clone())
            .date(UNIX_EPOCH + Duration::from_secs(u64::try_from(written_at.as_seconds()).unwrap_or(0)))
            .message_id(Some(format!("<{key}@{}>", self.domain())))
            .raw_header(header("Auto-Submitted", "auto-generated"))
            .raw_header(header("Content-Language", locale.as_str()))
            .multipart(
                MultiPart::alternative()
                    // Neither quoted-printable nor base64 contains `=_`, so no part contains the boundary.
                    .boundary(format!("=_{key}"))
                    .singlepart(part(ContentType::TEXT_PLAIN, text))
                    .singlepart(part(ContentType::TEXT_HTML, html)),
            )
            .map_err(|error| SendError::Permanent(format!("the mail cannot be expressed: {error}")))?;
        let envelope = Envelope::new(Some(self.from.email.clone()), vec![to])
            .map_err(|error| SendError::Permanent(format!("the mail cannot be addressed: {error}")))?;
        Ok(Composed { envelope, bytes: message.formatted(), subject, name, key, written_at, token: None })
    }
}

/// Returns the path of the page behind a mail's link, below `PUBLIC_URL`.
fn path_of(kind: MailKind) -> Option<&'static str> {
    match kind {
        MailKind::VerifyAddress | MailKind::ConfirmNewAddress => Some("/email/verify"),
        MailKind::ResetPassword => Some("/recovery/confirm"),
        MailKind::AddressChangePending
        | MailKind::AddressChanged
        | MailKind::PasswordChanged
        | MailKind::PassphraseChanged
        | MailKind::RecoveryUsed => Some("/email/cancel"),
        _ => None,
    }
}

/// Builds a part. It is always quoted-printable, so that no line is too long and the message is ASCII.
fn part(kind: ContentType, body: String) -> SinglePart {
    SinglePart::builder().header(kind).header(ContentTransferEncoding::QuotedPrintable).body(body)
}

fn header(name: &'static str, value: &str) -> HeaderValue {
    HeaderValue::new(HeaderName::new_from_ascii_str(name), value.to_owned())
}

/// Returns the address with its domain in ASCII, which every server accepts.
fn recipient(to: &Email) -> Result<Address, SendError> {
    let inexpressible = || SendError::Permanent("the address of the recipient cannot be expressed in SMTP".to_owned());
    let (local, _) = to.as_str().rsplit_once('@').ok_or_else(inexpressible)?;
    let (_, domain) = to.key().as_str().rsplit_once('@').ok_or_else(inexpressible)?;
    Address::new(local, domain).map_err(|_| inexpressible())
}

/// Returns a value without characters that could pass for structure: control characters, all line breaks of Unicode, and characters that
/// change the direction of writing. Replaces each by a space.
fn clean(value: &str) -> String {
    let disguise = |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut cleaned: String =
        value.chars().take(MAX_VALUE).map(|c| if c.is_control() || disguise(c) { ' ' } else { c }).collect();
    cleaned.truncate(cleaned.trim_end().len());
    cleaned
}

/// Formats a time for people: `2026-11-23 21:45:10 UTC`.
fn spoken(at: Timestamp) -> String {
    let text = at.to_rfc3339();
    let seconds = text.split('.').next().unwrap_or_default();
    format!("{} UTC", seconds.replacen('T', " ", 1))
}

/// Returns a key that is valid in `Message-ID`, in a MIME boundary and in a file name.
fn plain_key(key: &str) -> String {
    let plain = |c: char| if c.is_ascii_alphanumeric() || c == '-' || c == '_' { c } else { '-' };
    key.chars().take(MAX_KEY).map(plain).collect()
}
