//! Mail: the transport, the sender and the base of links.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use doorward_actors::{Locale, Secret};
use lettre::Address;
use lettre::message::Mailbox;
use percent_encoding::percent_decode_str;
use url::{Host, Url};

use super::reader::{Reader, documented};
use super::table;

/// The maximum length of `MAIL_FROM`, in bytes.
const MAX_MAILBOX: usize = 320;

/// How mails are composed, delivered and retried.
#[derive(Debug, Clone)]
pub struct MailSettings {
    /// The mail server. `None`: mails are written to files in the data directory.
    pub smtp: Option<SmtpSettings>,
    /// A PEM file of certificates that are trusted as roots in addition to the public ones.
    pub smtp_ca_file: Option<PathBuf>,
    /// The value of the `From` header.
    pub from: Mailbox,
    /// The prefix of every link (S28).
    pub public_url: PublicUrl,
    /// Whether an address that the mail server is known not to accept is refused. Otherwise the response contains a warning.
    pub refuse_unreachable: bool,
    /// The language of mails to people whose language is not known.
    pub locale: Locale,
    /// A directory whose templates replace the built-in ones.
    pub templates_dir: Option<PathBuf>,
    /// How long the delivery of one mail may take, 1 to 600 seconds.
    pub send_timeout: Duration,
    /// How many times a mail is tried before it is given up, 1 to 100.
    pub max_attempts: u32,
    /// How many mails may be sent at once, 1 to 64.
    pub concurrency: usize,
}

/// The address of an SMTP server and how to connect to it.
#[derive(Debug, Clone)]
pub struct SmtpSettings {
    /// Whether and how the connection is encrypted.
    pub security: SmtpSecurity,
    /// A host name, or an IP address without brackets.
    pub host: String,
    /// The TCP port.
    pub port: u16,
    /// The login, if the server needs one.
    pub login: Option<SmtpLogin>,
}

/// The encryption of an SMTP connection. There is no "if possible": an attacker who can strip the encryption would decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SmtpSecurity {
    /// `smtp://`: none.
    None,
    /// `smtp+starttls://`: the connection is upgraded before a login or a mail is sent, or it is closed (RFC 3207).
    StartTls,
    /// `smtps://`: TLS from the first byte (RFC 8314).
    Tls,
}

/// The login of an SMTP server.
#[derive(Clone)]
pub struct SmtpLogin {
    /// The name.
    pub user: String,
    /// The password.
    pub password: Secret,
}

impl fmt::Debug for SmtpLogin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The user name of a mail service is often its API key.
        f.write_str("SmtpLogin(***)")
    }
}

/// The public address of this service: `http` or `https`, a host, optionally a port and a path, and no slash at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicUrl {
    base: String,
    host: Host<String>,
}

impl PublicUrl {
    /// Parses an absolute URL without user, query or fragment.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let url = plain_url(text)?;
        let web = matches!(url.scheme(), "http" | "https");
        let bare = url.query().is_none() && url.username().is_empty() && url.password().is_none();
        let host = url.host()?.to_owned();
        (web && bare).then(|| Self { base: url.as_str().trim_end_matches('/').to_owned(), host })
    }

    /// Returns the URL, without a slash at its end.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.base
    }

    /// Returns whether the host means the client's own machine for everyone.
    fn is_of_this_machine(&self) -> bool {
        match &self.host {
            Host::Domain(name) => is_local_name(name),
            Host::Ipv4(address) => address.is_loopback() || address.is_unspecified(),
            Host::Ipv6(address) => {
                let address = address.to_canonical();
                address.is_loopback() || address.is_unspecified()
            }
        }
    }

    /// Returns the host if it is a name that means the same everywhere: not an IP address and not `localhost`.
    #[must_use]
    pub fn domain(&self) -> Option<&str> {
        match &self.host {
            Host::Domain(name) if name.contains('.') => Some(name),
            _ => None,
        }
    }
}

impl SmtpSettings {
    fn parse(text: &str) -> Option<Self> {
        let url = plain_url(text)?;
        let (security, default_port) = match url.scheme() {
            "smtp" => (SmtpSecurity::None, 25),
            "smtp+starttls" => (SmtpSecurity::StartTls, 587),
            "smtps" => (SmtpSecurity::Tls, 465),
            _ => return None,
        };
        let host = match url.host()? {
            Host::Domain(name) if is_host_name(name) => name.to_ascii_lowercase(),
            Host::Domain(_) => return None,
            Host::Ipv4(address) => address.to_string(),
            Host::Ipv6(address) => address.to_string(),
        };
        let port = url.port().unwrap_or(default_port);
        let decoded = |part: &str| -> Option<String> {
            let text = percent_decode_str(part).decode_utf8().ok()?;
            (!text.is_empty() && !text.chars().any(char::is_control)).then(|| text.into_owned())
        };
        let login = match (url.username(), url.password()) {
            ("", None) => None,
            (user, password) => Some(SmtpLogin { user: decoded(user)?, password: Secret::new(decoded(password?)?) }),
        };
        let bare = matches!(url.path(), "" | "/") && url.query().is_none() && port != 0;
        bare.then_some(Self { security, host, port, login })
    }
}

/// Parses a URL with two slashes and without a fragment. Refuses white space, which the URL parser would silently drop.
fn plain_url(text: &str) -> Option<Url> {
    if !text.contains("://") || text.chars().any(|c| c.is_control() || c.is_whitespace() || c == '\\') {
        return None;
    }
    Url::parse(text).ok().filter(|url| url.fragment().is_none())
}

/// Returns whether a name is a valid host name. The URL parser accepts almost any host if it does not know the scheme.
fn is_host_name(name: &str) -> bool {
    let fits = |label: &str| {
        let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        (1..=63).contains(&label.len()) && label.bytes().all(inner) && !label.starts_with('-') && !label.ends_with('-')
    };
    name.len() <= 253 && name.trim_end_matches('.').split('.').all(fits)
}

/// Parses a mailbox that fits on one line. Converts its domain to ASCII, which every server accepts.
fn mailbox(text: &str) -> Option<Mailbox> {
    if text.len() > MAX_MAILBOX || text.chars().any(char::is_control) {
        return None;
    }
    let Mailbox { name, email } = text.parse().ok()?;
    let Ok(Host::Domain(domain)) = Host::parse(email.domain()) else { return None };
    Some(Mailbox::new(name, Address::new(email.user(), domain).ok()?))
}

impl MailSettings {
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let smtp = reader.optional(&table::SMTP_URL, SmtpSettings::parse);
        let smtp_ca_file = reader.optional_path(&table::SMTP_CA_FILE);
        let from = reader.parse(&table::MAIL_FROM, mailbox);
        let public_url = reader.parse(&table::PUBLIC_URL, PublicUrl::parse);
        let refuse = |text: &str| match text {
            "warn" => Some(false),
            "refuse" => Some(true),
            _ => None,
        };
        let refuse_unreachable = reader.parse(&table::UNREACHABLE_ADDRESSES, refuse);
        let exactly = |text: &str| Locale::ALL.into_iter().find(|locale| locale.as_str() == text);
        let locale = reader.parse(&table::MAIL_LOCALE, exactly);
        let templates_dir = reader.optional_path(&table::MAIL_TEMPLATES_DIR);
        let send_timeout = reader.seconds(&table::MAIL_SEND_TIMEOUT_SECONDS);
        let max_attempts = reader.integer(&table::MAIL_MAX_ATTEMPTS);
        let concurrency = reader.integer(&table::MAIL_CONCURRENCY);
        Some(Self {
            smtp: smtp?,
            smtp_ca_file: smtp_ca_file?,
            from: from?,
            public_url: public_url?,
            refuse_unreachable: refuse_unreachable?,
            locale: locale?,
            templates_dir: templates_dir?,
            send_timeout: send_timeout?,
            max_attempts: max_attempts?,
            concurrency: concurrency?,
        })
    }

    /// Warns of settings that make mails from a mail server useless for their recipients.
    pub(super) fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.smtp.is_none() {
            return warnings;
        }
        if self.public_url.is_of_this_machine() {
            let host = &self.public_url.host;
            warnings.push(format!(
                "SMTP_URL is set and PUBLIC_URL leads to {host}: the links in mails lead people to their own machine; set \
                 PUBLIC_URL to the address under which they reach this service"
            ));
        }
        let sender = self.from.email.domain();
        if is_local_name(sender) {
            warnings.push(format!(
                "SMTP_URL is set and MAIL_FROM ends in {sender}: other mail servers refuse such a sender; set MAIL_FROM to an \
                 address of a domain of yours"
            ));
        }
        warnings
    }
}

/// Returns whether a name means the machine on which it is used (RFC 6761, section 6.3).
fn is_local_name(name: &str) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    name == "localhost" || name.ends_with(".localhost") || name.ends_with(".localdomain")
}

impl Default for MailSettings {
    /// The documented defaults.
    fn default() -> Self {
        documented(Self::read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_read_from_its_url() {
        let of = |text: &str| SmtpSettings::parse(text).unwrap();
        let plain = of("smtp://mail.example.com");
        assert_eq!((plain.security, plain.host.as_str(), plain.port), (SmtpSecurity::None, "mail.example.com", 25));
        assert!(plain.login.is_none());
        assert_eq!(of("smtp+starttls://mail.example.com/").port, 587);
        assert_eq!(of("smtps://MAIL.example.com").port, 465);
        assert_eq!(of("smtps://MAIL.example.com").host, "mail.example.com");
        assert_eq!(of("smtp://127.0.0.1:2525").port, 2525);
        assert_eq!(of("smtp://[::1]:2525").host, "::1");
        let login = of("smtps://ann%40example.com:p%3Aa%2Fs%C3%A9%25@mail.example.com").login.unwrap();
        assert_eq!(login.user, "ann@example.com");
        assert_eq!(login.password.expose(), "p:a/sé%");
        assert_eq!(format!("{login:?}"), "SmtpLogin(***)");
    }

    #[test]
    fn what_is_no_server_is_refused() {
        for bad in [
            "",
            "mail.example.com",
            "smtp:mail.example.com",
            "smtp://",
            "smtp:///",
            "http://mail.example.com",
            "smtp+tls://mail.example.com",
            "smtp://mail.example.com#x",
            "smtp://mail.example.com?tls=required",
            "smtp://mail.example.com/path",
            "smtp://mail.example.com:0",
            "smtp://mail.example.com:99999",
            "smtp://user@mail.example.com",
            "smtp://user:@mail.example.com",
            "smtp://:password@mail.example.com",
            "smtp://us%0Aer:password@mail.example.com",
            "smtp://us%ffer:password@mail.example.com",
            "smtp://mail example.com",
            "smtp://mail.exa%20mple.com",
            "smtp://-mail.example.com",
            "smtp://mail..example.com",
            "smtp://mail.example.com\r\n",
        ] {
            assert!(SmtpSettings::parse(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn s28_the_base_of_links_is_absolute_and_bare() {
        let of = |text: &str| PublicUrl::parse(text).unwrap();
        assert_eq!(of("http://127.0.0.1:8000").as_str(), "http://127.0.0.1:8000");
        assert_eq!(of("https://auth.example.com/").as_str(), "https://auth.example.com");
        assert_eq!(of("https://example.com/auth//").as_str(), "https://example.com/auth");
        assert_eq!(of("https://Müller.de").as_str(), "https://xn--mller-kva.de");
        assert_eq!(of("https://auth.example.com").domain(), Some("auth.example.com"));
        for none in ["http://127.0.0.1", "http://[::1]:8000", "http://localhost:8000"] {
            assert_eq!(of(none).domain(), None);
        }
        for bad in [
            "",
            "auth.example.com",
            "//auth.example.com",
            "ftp://auth.example.com",
            "https://",
            "https://ann@auth.example.com",
            "https://ann:x@auth.example.com",
            "https://auth.example.com?x=1",
            "https://auth.example.com#x",
            "https://auth.example.com\n",
            " https://auth.example.com",
            "https:\\\\auth.example.com",
            "javascript:alert(1)",
        ] {
            assert_eq!(PublicUrl::parse(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn s35_a_mailbox_is_one_line() {
        assert_eq!(mailbox("Doorward <doorward@localhost>").unwrap().email.to_string(), "doorward@localhost");
        assert_eq!(mailbox("auth@example.com").unwrap().name, None);
        assert_eq!(mailbox("Müller <auth@müller.de>").unwrap().email.to_string(), "auth@xn--mller-kva.de");
        for bad in ["", "Doorward", "Doorward <>", "a@b\r\nBcc: c@d", "Door\nward <a@example.com>", "<a@b>, <c@d>"] {
            assert!(mailbox(bad).is_none(), "{bad:?}");
        }
    }
}
