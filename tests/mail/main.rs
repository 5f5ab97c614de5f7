//! Mails to an SMTP server that answers, refuses, stalls, drops connections and encrypts: which mails count as
//! delivered, which are tried again and which are given up.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a helper of a test may panic like the test itself")]

#[path = "../support_smtp/mod.rs"]
mod smtp_sink;

use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use doorward::mail;
use doorward::settings::{Settings, Sources};
use doorward_actors::ports::{MailTransport, SendError};
use doorward_actors::{Email, Locale, MailKind, MailValues, OutgoingMail, Secret, Timestamp};
use smtp_sink::{Act, Certificates, Encryption, Script, Sink, Step};
use tempfile::TempDir;

const TOKEN: &str = "tHe-t0ken-0f-the-link";
const PASSWORD: &str = "kanarienvogel";
/// The time limit of a send in these tests. Each stall costs a test that much time.
const SEND_TIMEOUT: Duration = Duration::from_millis(700);

fn transport(url: &str, ca: Option<&Certificates>) -> Arc<dyn MailTransport> {
    let dir = TempDir::new().unwrap();
    let ca_file = dir.path().join("ca.pem");
    let mut environment = vec![("SMTP_URL", url.to_owned()), ("PUBLIC_URL", "https://auth.example.com".to_owned())];
    if let Some(ca) = ca {
        fs::write(&ca_file, &ca.authority_pem).unwrap();
        environment.push(("SMTP_CA_FILE", ca_file.to_str().unwrap().to_owned()));
    }
    let mut settings = Settings::load(&Sources::default().environment(environment)).unwrap().settings;
    settings.mail.send_timeout = SEND_TIMEOUT;
    mail::transport(&settings).unwrap()
}

fn outgoing(to: &str) -> OutgoingMail {
    OutgoingMail {
        to: Email::parse(to).unwrap(),
        kind: MailKind::VerifyAddress,
        locale: Locale::De,
        values: MailValues {
            nickname: "Ann".to_owned(),
            token: Some(Secret::new(TOKEN.to_owned())),
            valid_for: Some(Duration::from_hours(24)),
            ..MailValues::default()
        },
        message_key: "key-1".to_owned(),
        written_at: Timestamp::from_millis(1_795_470_310_123),
    }
}

async fn send(transport: &Arc<dyn MailTransport>) -> Result<(), SendError> {
    let outcome = transport.send(&outgoing("ann@example.org")).await;
    if let Err(SendError::Transient(text) | SendError::Permanent(text)) = &outcome {
        assert!(!text.contains(TOKEN) && !text.contains(PASSWORD) && !text.contains(char::is_control), "{text}");
    }
    outcome
}

#[track_caller]
fn transient(outcome: Result<(), SendError>) -> String {
    match outcome {
        Err(SendError::Transient(text)) => text,
        other => panic!("to be tried again, and not {other:?}"),
    }
}

#[track_caller]
fn permanent(outcome: Result<(), SendError>) -> String {
    match outcome {
        Err(SendError::Permanent(text)) => text,
        other => panic!("to be given up, and not {other:?}"),
    }
}

fn says(text: &str) -> Act {
    Act::Answer(text.to_owned())
}

#[tokio::test]
async fn a_mail_is_handed_over_with_its_envelope_and_headers() {
    let sink = Sink::start(Script::default()).await;
    let transport = transport(&sink.url("smtp"), None);
    send(&transport).await.unwrap();
    transport.send(&outgoing("ann@müller.de")).await.unwrap();
    let taken = sink.taken();
    assert_eq!(taken[0].from, "FROM:<doorward@localhost>");
    assert_eq!(taken[0].to, ["TO:<ann@example.org>"]);
    assert_eq!(taken[1].to, ["TO:<ann@xn--mller-kva.de>"]);
    for header in [
        "Message-ID: <key-1@auth.example.com>\r\n",
        "Date: Mon, 23 Nov 2026 21:45:10 +0000\r\n",
        "Auto-Submitted: auto-generated\r\n",
        "Content-Language: de\r\n",
        "Content-Type: multipart/alternative;",
    ] {
        assert!(taken[0].data.contains(header), "{header} in\n{}", taken[0].data);
    }
    assert_eq!(sink.lines()[0], "EHLO auth.example.com");
    assert!(!sink.lines().iter().any(|line| line.starts_with("AUTH")));
}

#[tokio::test]
async fn r04_a_refusal_of_the_mail_is_permanent_and_a_delay_is_not() {
    let sink = Sink::start(Script::default()).await;
    let transport = transport(&sink.url("smtp"), None);
    for step in [Step::Mail, Step::Rcpt, Step::Data, Step::Body] {
        sink.follow(Script::but(step, says("550 5.1.1 no such user")));
        assert_eq!(permanent(send(&transport).await), "the mail server refused the mail: 550 5.1.1 no such user");
        sink.follow(Script::but(step, says("451-4.7.1 greylisted\r\n451 4.7.1 come back")));
        let text = transient(send(&transport).await);
        assert!(text.starts_with("the mail server put the mail off: 451 4.7.1 greylisted"), "{step:?}: {text}");
    }
    assert!(sink.taken().is_empty());
}

#[tokio::test]
async fn r04_what_is_wrong_with_the_server_or_the_login_is_tried_again() {
    let sink = Sink::start(Script::default()).await;
    let transport = transport(&sink.url("smtp"), None);
    for step in [Step::Greeting, Step::Ehlo] {
        for answer in ["554 5.3.2 not today", "421 4.3.2 busy", "nonsense", "999 what"] {
            sink.follow(Script::but(step, says(answer)));
            transient(send(&transport).await);
        }
    }
    sink.follow(Script { login: Some(("PLAIN", "ann", PASSWORD)), ..Script::default() });
    assert_eq!(transient(send(&transport).await), "the mail server wants another login: 530");
    drop(sink);
    let text = transient(send(&transport).await);
    assert!(text.starts_with("no connection to the mail server: "), "{text}");
}

#[tokio::test]
async fn r04_a_drop_or_a_stall_at_any_step_is_tried_again_in_bounded_time() {
    let sink = Sink::start(Script::default()).await;
    let transport = transport(&sink.url("smtp"), None);
    for step in [Step::Greeting, Step::Ehlo, Step::Mail, Step::Rcpt, Step::Data, Step::Body] {
        sink.follow(Script::but(step, Act::Drop));
        transient(send(&transport).await);
        sink.follow(Script::but(step, Act::Stall));
        let began = Instant::now();
        let text = transient(send(&transport).await);
        assert!(began.elapsed() < 4 * SEND_TIMEOUT, "{step:?} took {:?}", began.elapsed());
        assert!(text.starts_with("the mail server did not finish within 0.7 seconds"), "{step:?}: {text}");
    }
    // Only this mail may arrive twice, because the answer to it was lost.
    assert_eq!(sink.taken().len(), 1);
    sink.follow(Script::default());
    send(&transport).await.unwrap();
    let taken = sink.taken();
    assert_eq!(taken.len(), 2);
    assert_eq!(taken[0].data, taken[1].data, "a duplicate can be recognised");
    let received = sink.received();
    assert_eq!(received.iter().map(|received| received.answered).collect::<Vec<_>>(), [false, false, true]);
    assert!(received.iter().all(|received| received.mail.data == taken[0].data));
}

#[tokio::test]
async fn an_answer_that_repeats_the_link_is_not_repeated() {
    let sink = Sink::start(Script::default()).await;
    let transport = transport(&sink.url("smtp"), None);
    sink.follow(Script::but(Step::Body, says(&format!("554 spam: {TOKEN}"))));
    assert_eq!(permanent(send(&transport).await), "the mail server refused the mail: 554");
    sink.follow(Script::but(Step::Body, says("554 5.7.1 bad link https://auth.example.com/email/verify?token=3Dabc")));
    assert_eq!(permanent(send(&transport).await), "the mail server refused the mail: 554 5.7.1 bad link …");
}

#[tokio::test]
async fn a_login_is_used_with_either_mechanism_and_never_told() {
    for mechanism in ["PLAIN", "LOGIN", "LOGIN PLAIN"] {
        let sink =
            Sink::start(Script { login: Some((mechanism, "ann@example.com", PASSWORD)), ..Script::default() }).await;
        let with = |password: &str| transport(&format!("smtp://ann%40example.com:{password}@{}", sink.address), None);
        send(&with(PASSWORD)).await.unwrap();
        let text = transient(send(&with("wrong")).await);
        assert_eq!(text, "the mail server did not accept the login: 535");
        sink.follow(Script::but(Step::Auth, says(&format!("535 {PASSWORD}"))));
        transient(send(&with(PASSWORD)).await);
        assert_eq!(sink.taken().len(), 1);
    }
}

#[tokio::test]
async fn tls_is_verified_against_the_given_authority() {
    let certificates = Certificates::for_name("127.0.0.1");
    for (scheme, encryption) in [("smtps", Encryption::Implicit), ("smtp+starttls", Encryption::StartTls)] {
        let script = Script { encryption, login: Some(("PLAIN", "ann", PASSWORD)), ..Script::default() };
        let sink = Sink::start_with(script, Some(&certificates)).await;
        let url = format!("{scheme}://ann:{PASSWORD}@{}", sink.address);
        send(&transport(&url, Some(&certificates))).await.unwrap();
        assert!(sink.taken()[0].encrypted);
        let unencrypted = |line: &String| line.starts_with("AUTH") || line.starts_with("MAIL");
        assert!(!sink.lines().iter().any(unencrypted), "{:?}", sink.lines());

        // No known authority signed the certificate, or another one did.
        transient(send(&transport(&url, None)).await);
        transient(send(&transport(&url, Some(&Certificates::for_name("127.0.0.1")))).await);
        assert_eq!(sink.taken().len(), 1);

        let elsewhere = Certificates::for_name("mail.example.com");
        let script = Script { encryption, ..Script::default() };
        let sink = Sink::start_with(script, Some(&elsewhere)).await;
        let text = transient(send(&transport(&sink.url(scheme), Some(&elsewhere))).await);
        assert!(text.contains("certificate"), "{text}");
        assert!(sink.taken().is_empty());
    }
}

#[tokio::test]
async fn encryption_that_is_missing_or_stripped_is_never_done_without() {
    let certificates = Certificates::for_name("127.0.0.1");
    let login = Some(("PLAIN", "ann", PASSWORD));
    let refusing = |act| Script { encryption: Encryption::StartTls, login, ..Script::but(Step::StartTls, act) };
    for (script, scheme) in [
        (Script { login, ..Script::default() }, "smtp+starttls"),
        (refusing(says("454 4.7.0 not available")), "smtp+starttls"),
        (refusing(says("500 unknown command")), "smtp+starttls"),
        (refusing(says("220 go ahead, but without TLS")), "smtp+starttls"),
        (refusing(Act::Drop), "smtp+starttls"),
        (refusing(Act::Stall), "smtp+starttls"),
        (Script { login, ..Script::default() }, "smtps"),
    ] {
        let sink = Sink::start_with(script.clone(), Some(&certificates)).await;
        let url = format!("{scheme}://ann:{PASSWORD}@{}", sink.address);
        transient(send(&transport(&url, Some(&certificates))).await);
        assert!(sink.taken().is_empty());
        let told = |line: &String| line.starts_with("AUTH") || line.starts_with("MAIL");
        assert!(!sink.lines().iter().any(told), "{script:?}: {:?}", sink.lines());
    }
}

#[tokio::test]
async fn e16_r04_any_positive_reply_to_the_mail_counts_whatever_its_text() {
    let sink = Sink::start(Script::default()).await;
    let transport = transport(&sink.url("smtp"), None);
    let long = [b"250 ".as_slice(), &[b'x'; 3000], b"\r\n"].concat();
    let many = [b"250-2.0.0 ok\r\n".repeat(300), b"250 2.0.0 ok\r\n".to_vec()].concat();
    let replies: [&[u8]; 14] = [
        b"250\r\n",
        b"250 \r\n",
        b"250\n",
        b"250 taken\n",
        b"250-taken\n250 as 1234\n",
        b"250 angenommen, sch\xf6nen Tag\r\n",
        b"250-\xff\xfe\r\n250 \x80\r\n",
        b"251 will be forwarded\r\n",
        b"299 taken\r\n",
        b"200 taken\r\n",
        b"250taken\r\n",
        b"250-taken\r\nas 1234\r\n250 goodbye\r\n",
        &long,
        &many,
    ];
    for (i, reply) in replies.into_iter().enumerate() {
        sink.follow(Script::but(Step::Body, Act::Bytes(reply.to_vec())));
        assert_eq!(send(&transport).await, Ok(()), "{}", String::from_utf8_lossy(reply));
        assert_eq!(sink.taken().len(), i + 1);
    }
    // The server closes the connection in the middle of its answer, or announces that it will close it.
    for reply in [b"250 take".as_slice(), b"250-taken\r\n", b"250", b"250 ok\r\n421 closing\r\n"] {
        sink.follow(Script::but(Step::Body, Act::Last(reply.to_vec())));
        assert_eq!(send(&transport).await, Ok(()), "{}", String::from_utf8_lossy(reply));
    }
}

#[tokio::test]
async fn e16_r04_a_refusal_counts_whatever_its_text_and_code() {
    let sink = Sink::start(Script::default()).await;
    let transport = transport(&sink.url("smtp"), None);
    for step in [Step::Mail, Step::Rcpt, Step::Data, Step::Body] {
        for reply in [
            b"550 Empf\xe4nger unbekannt\r\n".as_slice(),
            b"571 5.7.1 never\r\n",
            b"550\r\n",
            b"599 \r\n",
            b"554-no\n554\n",
            b"250-well\r\n550 no\r\n",
        ] {
            sink.follow(Script::but(step, Act::Bytes(reply.to_vec())));
            permanent(send(&transport).await);
        }
        for reply in [b"451\r\n".as_slice(), b"421 sp\xe4ter\r\n", b"499 later\n", b"350 what?\r\n"] {
            if reply.starts_with(b"3") && step == Step::Data {
                continue;
            }
            sink.follow(Script::but(step, Act::Bytes(reply.to_vec())));
            transient(send(&transport).await);
        }
        // Without a valid code the answer decides nothing.
        for reply in [b"\r\n".as_slice(), b"ok\r\n", b"25\r\n", b"2500 ok\r\n", b"650 what\r\n"] {
            sink.follow(Script::but(step, Act::Bytes(reply.to_vec())));
            transient(send(&transport).await);
        }
    }
}

#[tokio::test]
async fn e16_every_step_takes_any_positive_code_and_any_line_end() {
    let sink = Sink::start(Script::default()).await;
    let transport = transport(&sink.url("smtp"), None);
    for (step, reply) in [
        (Step::Greeting, b"220\n".as_slice()),
        (Step::Greeting, b"220-sch\xf6n\n220 hallo\n"),
        (Step::Greeting, b"250 hello\r\n"),
        (Step::Ehlo, b"250\r\n"),
        (Step::Ehlo, b"250-sink\n250 8bitmime\n"),
        (Step::Mail, b"250\n"),
        (Step::Rcpt, b"252 we will see\r\n"),
        (Step::Rcpt, b"251\n"),
    ] {
        sink.follow(Script::but(step, Act::Bytes(reply.to_vec())));
        assert_eq!(send(&transport).await, Ok(()), "{step:?}: {}", String::from_utf8_lossy(reply));
    }
}

#[tokio::test]
async fn e16_a_server_that_refuses_ehlo_is_greeted_with_helo() {
    for refusal in ["500 what?", "502 not here", "550 \u{fffd}"] {
        let sink = Sink::start(Script::but(Step::Ehlo, says(refusal))).await;
        send(&transport(&sink.url("smtp"), None)).await.unwrap();
        assert_eq!(sink.lines()[1], "HELO auth.example.com");
        assert_eq!(sink.taken().len(), 1);
        // The server can neither encrypt nor log in, so the client sends nothing that needs either.
        for url in [sink.url("smtp+starttls"), format!("smtp://ann:{PASSWORD}@{}", sink.address)] {
            transient(send(&transport(&url, None)).await);
        }
        assert_eq!(sink.taken().len(), 1);
    }
}

#[tokio::test]
async fn e16_what_a_login_is_asked_is_answered_in_order() {
    for questions in [
        vec!["334 VXNlcm5hbWU6", "334 UGFzc3dvcmQ6"],
        vec!["334 Username:", "334 Password:"],
        vec!["334", "334"],
        vec!["334 VXNlciBOYW1lAA==", "334 UGFzc3dvcmQA"],
        vec!["334 \u{fffd}", "334-what\r\n334 else"],
        vec!["350 go on", "350 go on"],
    ] {
        let login = Some(("LOGIN", "ann@example.com", PASSWORD));
        let script = Script { login, questions: questions.clone(), ..Script::default() };
        let sink = Sink::start(script).await;
        let url = format!("smtp://ann%40example.com:{PASSWORD}@{}", sink.address);
        assert_eq!(send(&transport(&url, None)).await, Ok(()), "{questions:?}");
    }
    // This server asks although the command already carried the answer.
    let login = Some(("PLAIN", "ann@example.com", PASSWORD));
    let sink = Sink::start(Script { login, questions: vec!["334 go on"], ..Script::default() }).await;
    let url = format!("smtp://ann%40example.com:{PASSWORD}@{}", sink.address);
    send(&transport(&url, None)).await.unwrap();
    // This server asks more often than there are answers.
    sink.follow(Script { login, questions: vec!["334 more", "334 more", "334 more"], ..Script::default() });
    let text = transient(tokio::time::timeout(4 * SEND_TIMEOUT, send(&transport(&url, None))).await.unwrap());
    assert!(text.contains("login"), "{text}");
}

#[tokio::test]
async fn e16_capabilities_count_in_any_case_and_in_the_old_form() {
    let certificates = Certificates::for_name("127.0.0.1");
    let login = Some(("LOGIN", "ann", PASSWORD));
    for (capabilities, encryption, scheme) in [
        ("250-sink\r\n250 AUTH=LOGIN", Encryption::None, "smtp"),
        ("250-sink\r\n250-auth=plain login\r\n250 size", Encryption::None, "smtp"),
        ("250-sink\r\n250 auth login", Encryption::None, "smtp"),
        ("250-sink\r\n250-StartTls\r\n250 Auth Login", Encryption::StartTls, "smtp+starttls"),
        ("250-sink\n250-starttls\n250 AUTH LOGIN", Encryption::StartTls, "smtp+starttls"),
    ] {
        let script = Script { encryption, login, capabilities: Some(capabilities), ..Script::default() };
        let sink = Sink::start_with(script, Some(&certificates)).await;
        let url = format!("{scheme}://ann:{PASSWORD}@{}", sink.address);
        assert_eq!(send(&transport(&url, Some(&certificates))).await, Ok(()), "{capabilities:?}");
        assert_eq!(sink.taken()[0].encrypted, encryption == Encryption::StartTls);
    }
    let sink = Sink::start(Script { capabilities: Some("250-sink\r\n250 smtputf8"), ..Script::default() }).await;
    transport(&sink.url("smtp"), None).send(&outgoing("jürgen@example.org")).await.unwrap();
    assert!(sink.taken()[0].from.contains(" SMTPUTF8"));
}

/// An attacker can insert text between the answer to `STARTTLS` and TLS. The client must not take it for an answer of
/// the server: with one answer too many, the next mail would count as accepted before the server has received it.
#[tokio::test]
async fn an_answer_that_was_slipped_in_before_tls_is_noticed() {
    let certificates = Certificates::for_name("127.0.0.1");
    for injected in ["250 hello", "250 hello\r\n250 ok", "250-hello\r\n250 ok\r\n250 ok\r\n250 ok"] {
        let act = Act::Inject(injected.to_owned());
        let script = Script { encryption: Encryption::StartTls, ..Script::but(Step::StartTls, act) };
        let sink = Sink::start_with(script, Some(&certificates)).await;
        let text = transient(send(&transport(&sink.url("smtp+starttls"), Some(&certificates))).await);
        assert!(text.contains("answers more than it was asked"), "{injected:?}: {text}");
    }
}

#[tokio::test]
async fn an_address_outside_ascii_needs_a_server_that_takes_it() {
    let sink = Sink::start(Script::default()).await;
    let transport = transport(&sink.url("smtp"), None);
    let mail = outgoing("jürgen@example.org");
    let text = permanent(transport.send(&mail).await);
    assert_eq!(text, "the mail server takes no addresses outside ASCII (SMTPUTF8)");
    sink.follow(Script { smtputf8: true, ..Script::default() });
    transport.send(&mail).await.unwrap();
    assert_eq!(sink.taken()[0].to, ["TO:<jürgen@example.org>"]);
    assert!(sink.taken()[0].from.contains(" SMTPUTF8"), "{}", sink.taken()[0].from);
}

#[tokio::test]
async fn e17_what_the_server_was_seen_to_lack_is_known_before_a_mail_fails() {
    let sink = Sink::start(Script::default()).await;
    let transport = transport(&sink.url("smtp"), None);
    let reaches = |address: &str| transport.reaches(&Email::parse(address).unwrap());
    assert!(reaches("jürgen@example.org"), "nothing is known yet");
    transport.probe().await;
    assert!(!reaches("jürgen@example.org") && reaches("ann@müller.de"));
    assert_eq!(sink.lines(), ["EHLO auth.example.com", "QUIT"]);
    sink.follow(Script { smtputf8: true, ..Script::default() });
    send(&transport).await.unwrap();
    assert!(reaches("jürgen@example.org"), "the server was seen to have it now");
    sink.follow(Script::but(Step::Greeting, Act::Stall));
    transport.probe().await;
    assert!(reaches("jürgen@example.org"), "a server that says nothing changes nothing");
}

#[test]
fn certificates_are_checked_at_the_start() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("ca.pem");
    let refused = |text: Option<&str>| {
        match text {
            Some(text) => fs::write(&file, text).unwrap(),
            None => drop(fs::remove_file(&file)),
        }
        let environment = [("SMTP_URL", "smtps://mail.example.com"), ("SMTP_CA_FILE", file.to_str().unwrap())];
        let settings = Settings::load(&Sources::default().environment(environment)).unwrap().settings;
        mail::transport(&settings).err().unwrap().to_string()
    };
    assert!(refused(None).contains("ca.pem: No such file"));
    for bad in ["", "no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        assert!(refused(Some(bad)).contains("ca.pem: it holds no usable certificate in PEM"), "{bad:?}");
    }
}
