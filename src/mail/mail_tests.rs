//! Tests of every mail in every language, of hostile values, of replaced templates, and of the spool.

use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use doorward_actors::{MailKind, MailValues, Secret};
use lettre::message::Mailbox;
use tempfile::TempDir;

use super::templates::{TEST, Words};
use super::*;
use crate::settings::{PublicUrl, Sources};

const TOKEN: &str = "s4mple-T0ken_of-the.mail~x";
/// 2026-11-23 21:45:10 UTC.
const AT: Timestamp = Timestamp::from_millis(1_795_470_310_123);

fn settings(dir: &TempDir) -> Settings {
    let mut settings = Settings::load(&Sources::default()).unwrap().settings;
    settings.storage.data_dir = dir.path().to_owned();
    settings.mail.from = "Doorward <auth@example.com>".parse::<Mailbox>().unwrap();
    settings.mail.public_url = PublicUrl::parse("https://auth.example.com/base").unwrap();
    settings
}

fn composer(dir: &TempDir) -> Composer {
    Arc::into_inner(Transport::new(&settings(dir)).unwrap().composer.into_inner()).unwrap()
}

fn mail(kind: MailKind, locale: Locale) -> OutgoingMail {
    OutgoingMail {
        to: Email::parse("ann@example.org").unwrap(),
        kind,
        locale,
        values: MailValues {
            nickname: "Ann".to_owned(),
            token: kind.has_link().then(|| Secret::new(TOKEN.to_owned())),
            valid_for: kind.has_link().then(|| Duration::from_hours(24)),
            new_address: Some(Email::parse("ann.lee@example.net").unwrap()),
            at: Some(AT),
            client_address: Some("192.0.2.7".parse().unwrap()),
            user_agent: Some("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0".to_owned()),
        },
        message_key: "0123456789abcdef".to_owned(),
        written_at: AT,
    }
}

/// Decodes quoted-printable (RFC 2045, section 6.7).
fn decoded(quoted: &str) -> String {
    let text = quoted.replace("=\r\n", "");
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        if first == b'=' {
            let digits = std::str::from_utf8(&after[..2]).unwrap();
            bytes.push(u8::from_str_radix(digits, 16).unwrap());
            rest = &after[2..];
        } else {
            bytes.push(first);
            rest = after;
        }
    }
    String::from_utf8(bytes).unwrap().replace("\r\n", "\n")
}

/// The headers, the text part and the HTML part, as a mail program would show them.
struct Read {
    headers: String,
    text: String,
    html: String,
}

fn read(ready: &Composed) -> Read {
    let whole = std::str::from_utf8(&ready.bytes).unwrap();
    assert!(whole.is_ascii() && whole.lines().all(|line| line.len() <= 998), "it must pass every server");
    let (headers, body) = whole.split_once("\r\n\r\n").unwrap();
    let boundary = format!("--=_{}", ready.key);
    let parts: Vec<_> =
        body.split(&boundary).map(|part| part.split_once("\r\n\r\n").map_or("", |(_, text)| text)).collect();
    assert_eq!(parts.len(), 4, "two parts, with something before and after");
    Read { headers: headers.replace("\r\n", "\n"), text: decoded(parts[1]), html: decoded(parts[2]) }
}

/// Returns an HTML part without its styles, which are checked once and not in every snapshot.
fn without_styles(html: &str) -> String {
    let (head, rest) = html.split_once("<style>").unwrap();
    let (_, body) = rest.split_once("</style>\n").unwrap();
    let mut plain = head.to_owned();
    for (i, piece) in body.split(" style=\"").enumerate() {
        plain.push_str(if i == 0 { piece } else { piece.split_once('"').unwrap().1 });
    }
    plain
}

#[test]
fn every_mail_reads_as_approved_in_every_language() {
    let dir = TempDir::new().unwrap();
    let composer = composer(&dir);
    for locale in Locale::ALL {
        let mut ready: Vec<_> =
            MailKind::ALL.iter().map(|kind| composer.compose(&mail(*kind, locale)).unwrap()).collect();
        ready.push(composer.compose_test(&Email::parse("ann@example.org").unwrap(), locale, AT).unwrap());
        for ready in ready {
            let Read { headers, text, html } = read(&ready);
            let mut snapshot = String::new();
            write!(snapshot, "{}\n\n{headers}\n\n{text}\n\n{}", ready.subject, without_styles(&html)).unwrap();
            insta::assert_snapshot!(format!("{}_{}", locale.as_str(), ready.name), snapshot);
        }
    }
}

#[test]
fn the_frame_of_html_parts_is_as_approved() {
    let dir = TempDir::new().unwrap();
    let ready = composer(&dir).compose(&mail(MailKind::VerifyAddress, Locale::En)).unwrap();
    let html = read(&ready).html;
    for remote in ["src=", "@import", "<link", "url(", "<script"] {
        assert!(!html.contains(remote), "nothing is fetched from anywhere: {remote}");
    }
    insta::assert_snapshot!("frame", html);
}

#[test]
fn s28_links_are_built_from_the_public_url_alone() {
    let dir = TempDir::new().unwrap();
    let composer = composer(&dir);
    for (kind, path) in [
        (MailKind::VerifyAddress, "/email/verify"),
        (MailKind::ResetPassword, "/recovery/confirm"),
        (MailKind::ConfirmNewAddress, "/email/verify"),
        (MailKind::AddressChangePending, "/email/cancel"),
        (MailKind::AddressChanged, "/email/cancel"),
        (MailKind::PasswordChanged, "/email/cancel"),
        (MailKind::PassphraseChanged, "/email/cancel"),
        (MailKind::RecoveryUsed, "/email/cancel"),
    ] {
        let text = read(&composer.compose(&mail(kind, Locale::De)).unwrap()).text;
        assert!(text.contains(&format!("\nhttps://auth.example.com/base{path}?token={TOKEN}\n")), "{text}");
        let mut odd = mail(kind, Locale::De);
        odd.values.token = Some(Secret::new("a&b=c d#e/ü\r\n".to_owned()));
        let text = read(&composer.compose(&odd).unwrap()).text;
        assert!(text.contains(&format!("{path}?token=a%26b%3Dc%20d%23e%2F%C3%BC%0D%0A\n")), "{text}");
        odd.values.token = None;
        let without = composer.compose(&odd);
        if path == "/email/cancel" {
            let text = read(&without.unwrap()).text;
            assert!(!text.contains("/email/cancel") && !text.contains("Link"), "{text}");
        } else {
            assert!(matches!(without, Err(SendError::Permanent(_))));
        }
    }
}

#[test]
fn s36_no_value_becomes_markup() {
    let dir = TempDir::new().unwrap();
    let composer = composer(&dir);
    for kind in MailKind::ALL {
        let mut odd = mail(kind, Locale::En);
        odd.values.nickname = "<b>\"&'</b>".to_owned();
        odd.values.user_agent = Some("<script>alert(1)</script>{{ public_url }}{% block x %}".to_owned());
        odd.values.new_address = Some(Email::parse("o'lee&co@example.net").unwrap());
        let Read { text, html, .. } = read(&composer.compose(&odd).unwrap());
        assert!(!html.contains("<b>") && !html.contains("<script") && html.contains("b &#x27; b"), "{html}");
        for part in [text, html] {
            assert!(!part.contains("alert") && !part.contains("public_url"), "{part}");
        }
    }
}

#[test]
fn c11_no_mail_shows_what_a_stranger_wrote() {
    let dir = TempDir::new().unwrap();
    let composer = composer(&dir);
    for kind in MailKind::ALL {
        for locale in Locale::ALL {
            let mut odd = mail(kind, locale);
            odd.to = Email::parse("ann//evil.example@example.org").unwrap();
            odd.values.nickname = format!("Visit https://evil.example/{} now", "x".repeat(64));
            odd.values.user_agent = Some("Call +1 555 0100 or see https://evil.example".to_owned());
            odd.values.new_address = Some(Email::parse("see//evil.example@example.net").unwrap());
            let ready = composer.compose(&odd).unwrap();
            let Read { text, html, .. } = read(&ready);
            for part in [ready.subject, text, html] {
                for never in ["evil.example", "evil&", "555"] {
                    assert!(!part.contains(never), "{never}: {part}");
                }
                assert!(!part.contains(&"x".repeat(33)), "{part}");
            }
        }
    }
}

#[test]
fn s35_line_breaks_and_control_characters_never_reach_a_header_or_a_line_of_their_own() {
    let dir = TempDir::new().unwrap();
    let replaced = TempDir::new().unwrap();
    fs::create_dir(replaced.path().join("en")).unwrap();
    let template = "{% block subject %}{{ nickname }}\n{{ user_agent }}{% endblock %}{% block lead %}{{ nickname }}\
                    {% endblock %}{% block closing %}{% endblock %}";
    fs::write(replaced.path().join("en/new_sign_in.jinja"), template).unwrap();
    let mut settings = settings(&dir);
    settings.mail.templates_dir = Some(replaced.path().to_owned());
    let composer = Transport::new(&settings).unwrap().composer.into_inner();
    for breaking in
        ["\r\nBcc: x@example.com", "\nBcc: x@example.com", "\r", "\0", "\u{85}", "\u{2028}", "\u{202e}", "\x1b[2J"]
    {
        let mut odd = mail(MailKind::NewSignIn, Locale::En);
        odd.values.nickname = format!("Ann{breaking}");
        odd.values.user_agent = Some(format!("agent{breaking}"));
        odd.message_key = format!("key{breaking}");
        let ready = composer.compose(&odd).unwrap();
        let Read { headers, text, .. } = read(&ready);
        assert!(!headers.to_ascii_lowercase().contains("\nbcc:"), "{headers}");
        assert_eq!(headers.matches("\nSubject: ").count(), 1);
        assert!(!text.contains("\nBcc:") && !text.contains(['\r', '\0', '\u{85}', '\u{2028}', '\u{202e}', '\x1b']));
        assert!(!ready.subject.contains(char::is_control), "{:?}", ready.subject);
    }
}

#[test]
fn a_long_value_is_cut_and_an_international_address_is_expressed() {
    let dir = TempDir::new().unwrap();
    let composer = composer(&dir);
    let mut odd = mail(MailKind::AddressInUse, Locale::Ro);
    odd.values.user_agent = Some("x".repeat(100_000));
    odd.to = Email::parse("ann@müller.de").unwrap();
    let ready = composer.compose(&odd).unwrap();
    assert!(ready.bytes.len() < 10_000);
    assert_eq!(ready.envelope.to()[0].to_string(), "ann@xn--mller-kva.de");
    assert!(read(&ready).text.contains("ann@müller.de"), "people read it as they write it");
}

#[test]
fn the_number_of_hours_is_right_in_romanian() {
    let dir = TempDir::new().unwrap();
    let composer = composer(&dir);
    for (minutes, said) in [
        (1, "1 minut"),
        (15, "15 minute"),
        (30, "30 de minute"),
        (60, "1 oră"),
        (120, "2 ore"),
        (1440, "24 de ore"),
        (7 * 1440, "7 zile"),
    ] {
        let mut mail = mail(MailKind::ResetPassword, Locale::Ro);
        mail.values.valid_for = Some(Duration::from_mins(minutes));
        let text = read(&composer.compose(&mail).unwrap()).text.replace('\n', " ");
        assert!(text.contains(&format!("Linkul este valabil {said} ")), "{text}");
    }
}

// Templates of an operator.

/// Creates a directory of templates and loads it.
fn load(files: &[(&str, &str)]) -> Result<Templates, String> {
    let dir = TempDir::new().unwrap();
    for (name, text) in files {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    Templates::load(Some(dir.path())).map_err(|error| error.to_string().replace(dir.path().to_str().unwrap(), "DIR"))
}

const OWN: &str = "{% block subject %}Hey {{ nickname }}{% endblock %}\n{% block lead %}One.\n\nTwo.{% endblock %}\n\
                   {% block action %}Go{% endblock %}\n{% block closing %}Bye from {{ public_url }}.{% endblock %}\n";

#[test]
fn a_template_of_the_same_name_replaces_the_built_in_one() {
    let templates = load(&[
        ("de/verify_address.jinja", OWN),
        ("frame.txt", "[{{ subject }}|{{ lead|join('/') }}|{{ closing|join }}]"),
        (".hidden", "{{"),
    ])
    .unwrap();
    let words = Words { nickname: "Ann".into(), public_url: "https://x.example".into(), ..Words::default() };
    let written = templates.write("verify_address", Locale::De, &words).unwrap();
    assert_eq!((&*written.subject, &*written.text), ("Hey Ann", "[Hey Ann|One./Two.|Bye from https://x.example.]"));
    let written = templates.write(TEST, Locale::En, &words).unwrap();
    assert!(written.text.starts_with("[Test mail from Doorward|This is a test"), "{}", written.text);
}

#[test]
fn r13_a_wrong_template_stops_the_start_and_is_named() {
    let with = |text: &str| OWN.replace("Bye", text);
    for (name, text, said) in [
        (
            "de/verify_address.jinja",
            with("{{ oops }}"),
            "DIR/de/verify_address.jinja, line 6: there is no variable oops",
        ),
        (
            "de/verify_address.jinja",
            with("{% if nickname == 'x' %}{{ token }}{% endif %}"),
            "line 6: there is no variable token",
        ),
        ("de/verify_address.jinja", with("{{ nickname"), "DIR/de/verify_address.jinja, line 6: syntax error"),
        (
            "de/verify_address.jinja",
            with("{{ nickname|no_filter }}"),
            "DIR/de/verify_address.jinja, line 6: unknown filter",
        ),
        (
            "de/verify_address.jinja",
            with("{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}"),
            "DIR/de/verify_address.jinja, line 6: engine ran out of fuel",
        ),
        ("de/verify_address.jinja", OWN.replace("block lead", "block laed"), "DIR/de/verify_address.jinja, line 1: "),
        ("de/verify_address.jinja", OWN.replace("Hey {{ nickname }}", ""), "line 1: the block subject is empty"),
        (
            "de/common.jinja",
            "{{ valid_for }}".to_owned(),
            "DIR/de/common.jinja, line 1: there is no variable valid_for",
        ),
        ("frame.html", "<p>\n{{ nickname }}".to_owned(), "DIR/frame.html, line 2: there is no variable nickname"),
        ("de/verify_adress.jinja", OWN.to_owned(), "DIR/de/verify_adress.jinja: there is no template of this name"),
        ("verify_address.jinja", OWN.to_owned(), "DIR/verify_address.jinja: there is no template of this name"),
        ("it/verify_address.jinja", OWN.to_owned(), "DIR/it: there is no template of this name"),
        ("de/more/test.jinja", OWN.to_owned(), "DIR/de/more: there is no template of this name"),
    ] {
        match load(&[(name, &text)]) {
            Ok(_) => panic!("{name} was taken: {text}"),
            Err(message) => assert!(message.contains(said), "{message}\nand not\n{said}"),
        }
    }
    let error = Templates::load(Some(Path::new("/nonexistent/templates"))).err().unwrap().to_string();
    assert!(error.starts_with("/nonexistent/templates: "), "{error}");
}

// The spool.

#[tokio::test]
async fn a_mail_without_a_server_is_one_file_for_its_owner_alone() {
    let dir = TempDir::new().unwrap();
    let transport = transport(&settings(&dir)).unwrap();
    let mail = mail(MailKind::VerifyAddress, Locale::En);
    transport.send(&mail).await.unwrap();
    // A second attempt at the same mail.
    transport.send(&mail).await.unwrap();
    let spool = dir.path().join("mail");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&spool), 0o700);
    let files: Vec<_> = fs::read_dir(&spool).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "no unfinished one is left: {files:?}");
    assert_eq!(files[0].file_name().unwrap(), "20261123T214510.123Z-verify_address-0123456789abcdef.eml");
    assert_eq!(mode(&files[0]), 0o600);
    assert_eq!(fs::read(&files[0]).unwrap(), composer(&dir).compose(&mail).unwrap().bytes);
}

#[tokio::test]
async fn a_mail_that_cannot_be_written_is_tried_again_and_leaves_nothing() {
    let dir = TempDir::new().unwrap();
    let transport = transport(&settings(&dir)).unwrap();
    let spool = dir.path().join("mail");
    let mail = mail(MailKind::NewSignIn, Locale::En);
    // A directory has the name of the file. So the file can be written, but cannot be renamed to it.
    fs::create_dir(spool.join("20261123T214510.123Z-new_sign_in-0123456789abcdef.eml")).unwrap();
    assert!(matches!(transport.send(&mail).await, Err(SendError::Transient(_))));
    assert_eq!(fs::read_dir(&spool).unwrap().count(), 1);
    fs::remove_dir_all(&spool).unwrap();
    assert!(matches!(transport.send(&mail).await, Err(SendError::Transient(_))));
}

#[test]
fn a_spool_that_cannot_be_made_is_said_at_the_start() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("mail"), "").unwrap();
    let error = transport(&settings(&dir)).err().unwrap().to_string();
    assert!(error.contains("/mail for mails cannot be used"), "{error}");
}
