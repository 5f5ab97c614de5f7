//! The expected bytes of each kind of record. If one of these tests fails, existing data directories would become unreadable:
//! add a version instead of changing an old one.

use crate::domain::account::{Account, AccountId, AccountOrigin, CredentialHash, CustomerAccount, ReservedEmail, Role};
use crate::domain::audit::{
    AuditActorKind, AuditCheckpoint, AuditDetails, AuditEvent, AuditField, AuditHash, AuditHead, AuditRecord,
    AuditRefusal, AuditStart, ServiceName,
};
use crate::domain::email::Email;
use crate::domain::failures::Failures;
use crate::domain::hash_form::HashCount;
use crate::domain::mail::{Locale, MailKind};
use crate::domain::nickname::Nickname;
use crate::domain::one_time::{NewToken, TokenHash, TokenPurpose, TokenSeed};
use crate::domain::outbox::{MailId, MailState, NewMail, QueuedMail};
use crate::domain::refresh::{RefreshFamily, RefreshHash};
use crate::domain::revocation::{Revocation, Revoked};
use crate::domain::secret::SecretDigest;
use crate::domain::service_token::{ReplacedSecret, ServiceScopes, ServiceToken, ServiceTokenId};
use crate::domain::session::{Origin, Session, SessionId, SessionLabel};
use crate::domain::time::Timestamp;
use std::fmt::Debug;
use std::time::Duration;

use crate::store::{StoredToken, UsedToken};

use super::{Chained, LogEnd, MAX_VALUE_BYTES, Record, RecordError, Refusals, chain, decode, encode};

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

fn unhex(digits: &str) -> Vec<u8> {
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

fn check<R: Record + PartialEq + Debug>(record: &R, golden: &str) {
    let bytes = encode(record).unwrap();
    assert_eq!(hex(&bytes), golden, "{}", R::KIND);
    assert_eq!(&decode::<R>(&bytes).unwrap(), record);

    let unreadable = |bytes: &[u8]| matches!(decode::<R>(bytes), Err(RecordError::Unreadable { .. }));
    for cut in 0..bytes.len() {
        assert!(unreadable(&bytes[..cut]), "{} cut to {cut} bytes", R::KIND);
    }
    assert!(unreadable(&[bytes.as_slice(), &[0]].concat()), "{} with a byte after it", R::KIND);
    for version in [0, R::VERSION + 1, 255] {
        let mut other = bytes.clone();
        other[0] = version;
        assert!(unreadable(&other), "{} of version {version}", R::KIND);
    }
}

fn id(number: u64) -> AccountId {
    AccountId::new(number).unwrap()
}

fn account() -> Account {
    Account {
        id: id(7),
        email: Email::parse("Ann@example.com").unwrap(),
        nickname: Nickname::parse("Änn").unwrap(),
        password_hash: Some(CredentialHash::from_phc("$a".to_owned())),
        password_revision: 3,
        passphrase_hash: Some(CredentialHash::from_phc("$b".to_owned())),
        passphrase_revision: 4,
        customer_account: CustomerAccount::none(),
        role: Role::Admin,
        origin: AccountOrigin::Admin,
        locked: false,
        email_verified: true,
        pending_email: Some(Email::parse("b@example.com").unwrap()),
        reserved_email: Some(ReservedEmail {
            email: Email::parse("c@example.com").unwrap(),
            verified: true,
            until: Timestamp::from_millis(2),
        }),
        locale: Locale::Ro,
        password_compromised: true,
        created_at: Timestamp::from_millis(1_735_689_600_000),
        session_epoch: 2,
        revision: 300,
    }
}

/// A record whose second and third version each appended a field.
#[derive(Debug, PartialEq)]
struct Grown(u64, Option<String>, bool);

impl Record for Grown {
    const KIND: &'static str = "grown";
    const VERSION: u8 = 3;
    const APPENDED_SINCE: u8 = 1;
    type Frozen = (u64, Option<String>, bool);

    fn freeze(&self) -> Self::Frozen {
        (self.0, self.1.clone(), self.2)
    }

    fn thaw(frozen: Self::Frozen) -> Result<Self, &'static str> {
        Ok(Self(frozen.0, frozen.1, frozen.2))
    }
}

#[test]
fn an_appended_field_has_its_default_in_older_records() {
    let grown = Grown(5, Some("x".to_owned()), true);
    assert_eq!(encode(&grown).unwrap(), unhex("030501017801"));
    for (golden, expected) in [
        ("0305010178 01", Grown(5, Some("x".to_owned()), true)),
        ("0205010178", Grown(5, Some("x".to_owned()), false)),
        ("0205 00", Grown(5, None, false)),
        ("0105", Grown(5, None, false)),
    ] {
        let bytes = unhex(&golden.replace(' ', ""));
        assert_eq!(decode::<Grown>(&bytes).unwrap(), expected, "{golden}");
        for cut in 0..bytes.len() {
            assert!(decode::<Grown>(&bytes[..cut]).is_err(), "{golden} cut to {cut} bytes");
        }
        assert!(decode::<Grown>(&[bytes.as_slice(), &[0]].concat()).is_err(), "{golden} with a byte after it");
    }
    for unknown in ["0005", "0405010178 01 00"] {
        assert!(decode::<Grown>(&unhex(&unknown.replace(' ', ""))).is_err(), "{unknown}");
    }
}

#[test]
fn small_records_keep_their_bytes() {
    check(&5_u64, "0105");
    check(&u64::MAX, "01fdffffffffffffffff");
    check(&id(300), "01fb2c01");
    check(&Timestamp::from_millis(1_735_689_600_000), "01fd00f8523e28030000");
    check(&Timestamp::from_millis(-1), "0101");
}

/// The first fields of every version of accounts before the fourth.
const ACCOUNT: &str =
    "070f416e6e406578616d706c652e636f6d04c3846e6e022461022462046e6f6e65010001fd00f8523e2803000002fb2c01";

#[test]
fn an_account_keeps_its_bytes() {
    let names = "070f416e6e406578616d706c652e636f6d04c3846e6e";
    let golden = [
        "04",
        names,
        "01022461",
        "03",
        "01022462",
        "04",
        "046e6f6e65",
        "01010001",
        "fd00f8523e28030000",
        "02",
        "fb2c01",
        "010d62406578616d706c652e636f6d",
        "010d63406578616d706c652e636f6d0104",
        "0501",
        "00",
    ];
    let written = [&["05"], &golden[1..]].concat().concat();
    check(&account(), &written);
    // The fourth version has no last field.
    assert_eq!(decode::<Account>(&unhex(&golden[..golden.len() - 1].concat())).unwrap(), account());
    let bare = Account {
        password_hash: None,
        passphrase_hash: None,
        origin: AccountOrigin::Owner,
        pending_email: None,
        reserved_email: None,
        locale: Locale::En,
        password_compromised: false,
        ..account()
    };
    let golden =
        ["05", names, "0003", "0004", "046e6f6e65", "01000001", "fd00f8523e28030000", "02", "fb2c01", "000001", "0000"];
    check(&bare, &golden.concat());
    let imported = Account { origin: AccountOrigin::Import, ..bare };
    let golden =
        ["05", names, "0003", "0004", "046e6f6e65", "01000001", "fd00f8523e28030000", "02", "fb2c01", "000001", "0001"];
    check(&imported, &golden.concat());
    check(&HashCount { now: 3, ever: 300 }, "0103fb2c01");
}

#[test]
fn accounts_of_older_versions_are_still_read() {
    let third = Account {
        password_revision: 0,
        passphrase_revision: 0,
        origin: AccountOrigin::Owner,
        reserved_email: None,
        ..account()
    };
    let unmarked = Account { password_compromised: false, ..third.clone() };
    for (golden, expected) in [
        (format!("03{ACCOUNT}010d62406578616d706c652e636f6d0501"), third),
        (format!("01{ACCOUNT}"), Account { pending_email: None, locale: Locale::En, ..unmarked.clone() }),
        (format!("02{ACCOUNT}010d62406578616d706c652e636f6d05"), unmarked.clone()),
        (format!("02{ACCOUNT}0001"), Account { pending_email: None, locale: Locale::En, ..unmarked }),
    ] {
        let bytes: Vec<u8> =
            (0..golden.len()).step_by(2).map(|at| u8::from_str_radix(&golden[at..at + 2], 16).unwrap()).collect();
        assert_eq!(decode::<Account>(&bytes).unwrap(), expected);
        for cut in 0..bytes.len() {
            assert!(decode::<Account>(&bytes[..cut]).is_err(), "{golden} cut to {cut} bytes");
        }
        assert!(decode::<Account>(&[bytes.as_slice(), &[0]].concat()).is_err(), "{golden} with a byte after it");
    }
}

fn mail() -> QueuedMail {
    QueuedMail {
        id: MailId::new(300).unwrap(),
        account: Some(id(7)),
        mail: NewMail {
            to: Email::parse("a@example.com").unwrap(),
            kind: MailKind::ConfirmNewAddress,
            locale: Locale::De,
            nickname: "Änn".to_owned(),
            seed: Some(TokenSeed::from_bytes([0xAB; 32])),
            token: None,
            valid_for: Some(Duration::from_secs(2)),
            new_address: Some(Email::parse("b@example.com").unwrap()),
            client_address: Some([192, 0, 2, 1].into()),
            network: None,
            user_agent: Some("ua".to_owned()),
            written_at: Timestamp::from_millis(1),
            message_key: [0xCD; 16],
        },
        state: MailState::Dead,
        attempts: 3,
        next_attempt_at: Timestamp::from_millis(2),
        last_error: Some("no".to_owned()),
    }
}

#[test]
fn a_mail_keeps_its_bytes() {
    let golden = [
        "01",
        "fb2c01",
        "0107",
        "0d61406578616d706c652e636f6d",
        "03",
        "02",
        "04c3846e6e",
        &format!("01{}", "ab".repeat(32)),
        "01fbd007",
        "010d62406578616d706c652e636f6d",
        "0100c0000201",
        "01027561",
        "02",
        &"cd".repeat(16),
        "02",
        "03",
        "04",
        "01026e6f",
    ];
    check(&mail(), &golden.concat());
    let bare = QueuedMail {
        account: None,
        mail: NewMail {
            seed: None,
            valid_for: None,
            new_address: None,
            client_address: None,
            user_agent: None,
            ..mail().mail
        },
        state: MailState::Queued,
        last_error: None,
        ..mail()
    };
    let golden = format!("01fb2c01000d61406578616d706c652e636f6d030204c3846e6e000000000002{}01030400", "cd".repeat(16));
    check(&bare, &golden);
    check(&bare.id, "01fb2c01");
    let token = Some(TokenHash::from_bytes([0xEF; 32]));
    let counted = NewMail { token, network: Some([192, 0, 2, 9].into()), ..bare.mail.clone() };
    let second = format!("02{}01{}0100c0000209", &golden[2..], "ef".repeat(32));
    check(&QueuedMail { mail: counted, ..bare.clone() }, &second);
    let only = NewMail { token, ..bare.mail.clone() };
    check(&QueuedMail { mail: only, ..bare }, &format!("02{}01{}00", &golden[2..], "ef".repeat(32)));
    assert!(decode::<MailId>(&[1, 0]).is_err(), "mail number zero");
}

#[test]
fn what_is_stored_as_a_number_keeps_it() {
    let of_kind = |kind| {
        let bytes = encode(&QueuedMail { mail: NewMail { kind, ..mail().mail }, ..mail() }).unwrap();
        (bytes[20], decode::<QueuedMail>(&bytes).unwrap().mail.kind)
    };
    for (kind, number) in MailKind::ALL.into_iter().zip(1..) {
        assert_eq!(of_kind(kind), (number, kind));
    }
    let of_locale = |locale| {
        let bytes = encode(&QueuedMail { mail: NewMail { locale, ..mail().mail }, ..mail() }).unwrap();
        (bytes[21], decode::<QueuedMail>(&bytes).unwrap().mail.locale)
    };
    for (locale, number) in [Locale::En, Locale::De, Locale::Fr, Locale::Es, Locale::Ro].into_iter().zip(1..) {
        assert_eq!(of_locale(locale), (number, locale));
    }
    let mut unknown = encode(&mail()).unwrap();
    for at in [20, 21] {
        let known = std::mem::replace(&mut unknown[at], 200);
        assert!(decode::<QueuedMail>(&unknown).is_err(), "byte {at}");
        unknown[at] = known;
    }
    assert!(decode::<QueuedMail>(&unknown).is_ok());
}

#[test]
fn the_largest_mail_fits() {
    let long = Email::parse(&format!("{}@{}.com", "a".repeat(64), vec!["b".repeat(60); 3].join("."))).unwrap();
    let largest = QueuedMail {
        mail: NewMail {
            to: long.clone(),
            nickname: "\u{10348}".repeat(64),
            new_address: Some(long),
            client_address: Some([255; 16].into()),
            user_agent: Some("x".repeat(256)),
            ..mail().mail
        },
        last_error: Some("x".repeat(300)),
        ..mail()
    };
    assert!(encode(&largest).unwrap().len() < MAX_VALUE_BYTES / 2);
}

#[test]
fn a_token_keeps_its_bytes() {
    let email = |typed| Email::parse(typed).unwrap().key().clone();
    let stored = StoredToken {
        account: id(7),
        revision: 300,
        token: NewToken {
            hash: TokenHash::from_bytes([0xAB; 32]),
            purpose: TokenPurpose::ResetPassword,
            address: email("A@example.com"),
            issued_at: Timestamp::from_millis(1),
            expires_at: Timestamp::from_millis(2),
        },
    };
    let hash = "ab".repeat(32);
    check(&stored, &format!("0207fb2c01{hash}020d61406578616d706c652e636f6d0204"));
    let of_first = unhex(&format!("0107{hash}020d61406578616d706c652e636f6d0204"));
    assert_eq!(decode::<StoredToken>(&of_first).unwrap(), StoredToken { revision: 1, ..stored.clone() });
    check(&stored.token.hash, &format!("01{hash}"));
    // In lower case, the local part of its key is too long for an address, so the key cannot be parsed as one.
    let longer = NewToken { address: email(&format!("{}@example.com", "İ".repeat(30))), ..stored.token.clone() };
    let longer = StoredToken { token: longer, ..stored };
    assert_eq!(decode::<StoredToken>(&encode(&longer).unwrap()).unwrap(), longer);
}

#[test]
fn a_used_token_keeps_its_bytes() {
    let used = UsedToken {
        hash: TokenHash::from_bytes([0xAB; 32]),
        account: id(7),
        revision: 300,
        purpose: TokenPurpose::Undo,
        at: Timestamp::from_millis(2),
    };
    check(&used, &format!("01{}07fb2c010504", "ab".repeat(32)));
}

#[test]
fn a_session_keeps_its_bytes() {
    let full = Session {
        id: SessionId::from_bytes([0xAB; 16]),
        account: id(7),
        epoch: 1,
        created_at: Timestamp::from_millis(1),
        authenticated_at: Some(Timestamp::from_millis(4)),
        expires_at: Timestamp::from_millis(2),
        last_active_at: Timestamp::from_millis(3),
        address: Some([192, 0, 2, 1].into()),
        user_agent: Some("ua".to_owned()),
        notified_at: Some(Timestamp::from_millis(5)),
        label: Some(SessionLabel::parse("Büro").unwrap()),
        remembered: true,
    };
    let name = "ab".repeat(16);
    let (v4, agent, label) = ("0100c0000201", "01027561", "010542c3bc726f");
    check(&full, &format!("03{name}07010201080406{v4}{agent}010a{label}01"));
    let v6 = Session { address: Some("2001:db8::1".parse().unwrap()), user_agent: None, ..full.clone() };
    check(&v6, &format!("03{name}07010201080406010120010db800000000000000000000000100010a{label}01"));
    let bare = Session { address: None, authenticated_at: None, notified_at: None, label: None, ..v6 };
    check(&bare, &format!("03{name}07010200040600000000{}", "01"));

    let second = Session { authenticated_at: Some(full.created_at), notified_at: None, ..full };
    let first = Session { label: None, remembered: false, ..second.clone() };
    let fields = format!("{name}0701020406{v4}{agent}");
    for (golden, expected) in [(format!("01{fields}"), first), (format!("02{fields}{label}01"), second)] {
        let bytes = unhex(&golden);
        assert_eq!(decode::<Session>(&bytes).unwrap(), expected, "{golden}");
        for cut in 0..bytes.len() {
            assert!(decode::<Session>(&bytes[..cut]).is_err(), "{golden} cut to {cut} bytes");
        }
        assert!(decode::<Session>(&[bytes.as_slice(), &[0]].concat()).is_err(), "{golden} with a byte after it");
    }
    assert!(decode::<Session>(&unhex(&format!("02{fields}01022020{}", "00"))).is_err(), "a label that is none");
}

#[test]
fn a_family_of_refresh_tokens_keeps_its_bytes() {
    let replaced_at = vec![Timestamp::from_millis(2), Timestamp::from_millis(1)];
    let family =
        RefreshFamily { seed: [0xAB; 32], generation: 300, current: RefreshHash::from_bytes([0xCD; 32]), replaced_at };
    let (seed, current) = ("ab".repeat(32), "cd".repeat(32));
    check(&family, &format!("01{seed}fb2c01{current}020402"));
    check(&RefreshFamily { generation: 0, replaced_at: Vec::new(), ..family }, &format!("01{seed}00{current}00"));
}

fn audit_record() -> AuditRecord {
    AuditRecord {
        actor: AuditActorKind::Account(id(7)),
        subject: Some(id(8)),
        session: Some(SessionId::from_bytes([0xAB; 16])),
        origin: Origin::new(Some([192, 0, 2, 1].into()), Some("ua"), Some("r1".to_owned())),
        refusal: Some(AuditRefusal::WrongPassword),
        ..AuditRecord::new(AuditEvent::Login, Timestamp::from_millis(1))
    }
}

fn chained(record: AuditRecord) -> Chained {
    Chained { previous: AuditHash::from_bytes([0xCD; 32]), record }
}

/// The bytes after the version byte and, in the second version, after the hash.
fn full_audit_golden() -> String {
    let name = "ab".repeat(16);
    format!("02050107{}01{name}{}{}{}0102", "0108", "0100c0000201", "01027561", "01027231")
}

#[test]
fn an_audit_record_keeps_its_bytes() {
    let previous = "cd".repeat(32);
    check(&chained(audit_record()), &format!("02{previous}{}", full_audit_golden()));
    for (actor, golden) in [
        (AuditActorKind::Anonymous, "00"),
        (AuditActorKind::Admin(id(9)), "0209"),
        (AuditActorKind::System, "03"),
        (AuditActorKind::Service(ServiceName::parse("bill").unwrap()), "040462696c6c"),
    ] {
        let bare = AuditRecord {
            actor,
            subject: None,
            session: None,
            origin: Origin::default(),
            refusal: None,
            ..audit_record()
        };
        check(&chained(bare), &format!("02{previous}0205{golden}000000000000"));
    }
}

#[test]
fn an_audit_record_with_details_keeps_its_bytes() {
    let previous = "cd".repeat(32);
    let fields = vec![AuditField::Password, AuditField::Lock];
    let start = AuditStart { first: 300, before: AuditHash::from_bytes([0xEF; 32]) };
    for (details, golden) in [
        (AuditDetails::Changed(fields), "0100020409".to_owned()),
        (AuditDetails::Pruned(start), format!("0101fb2c01{}", "ef".repeat(32))),
    ] {
        let record = AuditRecord { details: Some(details), ..audit_record() };
        check(&chained(record), &format!("03{previous}{}{golden}", full_audit_golden()));
    }
    let counted = AuditRecord { details: Some(AuditDetails::Counted(300)), ..audit_record() };
    check(&chained(counted), &format!("04{previous}{}0102fb2c01", full_audit_golden()));
}

#[test]
fn a_counter_of_failures_keeps_its_bytes() {
    let full = Failures {
        count: 300,
        last_at: Some(Timestamp::from_millis(1)),
        forgotten_from: Timestamp::from_millis(-1),
        under_way: 2,
        under_way_until: Timestamp::from_millis(3),
        account: Some(id(7)),
    };
    check(&full, "02fb2c0101020102060107");
    check(&Failures { count: 1, last_at: None, account: None, ..full }, "02010001020600");
    let first = Failures { forgotten_from: Timestamp::from_millis(1), under_way: 0, ..full };
    let first = Failures { under_way_until: Timestamp::from_millis(1), ..first };
    assert_eq!(decode::<Failures>(&unhex("01fb2c01020107")).unwrap(), first, "the first version");
}

#[test]
fn an_audit_record_of_the_first_version_is_chained_as_it_is() {
    let bytes = unhex(&format!("01{}", full_audit_golden()));
    let previous = AuditHash::from_bytes([0xCD; 32]);
    assert_eq!(chain(&bytes, previous).unwrap(), chained(audit_record()));
    for cut in 0..bytes.len() {
        assert!(chain(&bytes[..cut], previous).is_err(), "cut to {cut} bytes");
    }
    assert!(chain(&[bytes.as_slice(), &[0]].concat(), previous).is_err(), "with a byte after it");
    assert!(chain(&encode(&chained(audit_record())).unwrap(), previous).is_err(), "chained already");
    assert!(decode::<Chained>(&bytes).is_err(), "not chained yet");
    assert!(chain(&[1, 2, 5, 4, 1, 65, 0, 0, 0, 0, 0, 0], previous).is_err(), "an actor of the second version");
}

#[test]
fn the_ends_of_the_audit_log_keep_their_bytes() {
    let hash = AuditHash::from_bytes([0xCD; 32]);
    let end = LogEnd { head: AuditHead { sequence: 300, hash }, bytes: 5 };
    check(&end, &format!("01fb2c01{}05", "cd".repeat(32)));
    check(&Refusals { bytes: 300, from: 5, upto: 300 }, "01fb2c0105fb2c01");
    let checkpoint = AuditCheckpoint { first: 300, before: hash, at: Some(Timestamp::from_millis(1)) };
    check(&checkpoint, &format!("01fb2c01{}0102", "cd".repeat(32)));
    check(&AuditCheckpoint::GENESIS, &format!("0101{}00", "00".repeat(32)));
    assert!(decode::<AuditCheckpoint>(&unhex(&format!("0100{}00", "00".repeat(32)))).is_err(), "audit number zero");
}

#[test]
fn a_record_that_breaks_a_rule_of_the_domain_is_not_read() {
    let bytes = encode(&account()).unwrap();
    let with = |from: &str, to: &str| {
        let at = bytes.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
        let mut bytes = bytes.clone();
        bytes[at..at + from.len()].copy_from_slice(to.as_bytes());
        decode::<Account>(&bytes)
    };
    assert!(with("Ann@example", "Ann_example").is_err(), "no address");
    assert!(with("Ann@example", "Ann@Example").is_err(), "not the normal form");
    assert!(with("nn\u{1}\u{2}$a", "\n\n\u{1}\u{2}$a").is_err(), "no nickname");
    assert!(with("none", "n\0ne").is_err(), "no customer account");
    assert!(with("Ann@example", "Bob@example").is_ok());
    assert!(decode::<AccountId>(&[1, 0]).is_err(), "account number zero");
    let unknown = |event: &str| unhex(&format!("02{}02{event}00000000000000", "00".repeat(32)));
    assert!(decode::<Chained>(&unknown("05")).is_ok());
    assert!(decode::<Chained>(&unknown("c8")).is_err(), "an event that does not exist");
}

#[test]
fn a_record_too_large_to_read_is_not_written() {
    let with_hash = |bytes| Account { password_hash: Some(CredentialHash::from_phc("x".repeat(bytes))), ..account() };
    assert!(encode(&with_hash(3900)).unwrap().len() <= MAX_VALUE_BYTES);
    let error = encode(&with_hash(4096)).unwrap_err();
    assert!(matches!(error, RecordError::Unstorable { .. }), "{error}");
}

#[test]
fn service_tokens_and_revocations_keep_their_bytes() {
    let token = ServiceToken {
        id: ServiceTokenId::new(300),
        name: ServiceName::parse("billing").unwrap(),
        scopes: ServiceScopes::BUILT_IN,
        digest: SecretDigest::from_bytes([0xAB; 32]),
        replaced: Some(ReplacedSecret {
            digest: SecretDigest::from_bytes([0xCD; 32]),
            until: Timestamp::from_millis(-1),
        }),
        created_at: Timestamp::from_millis(1_735_689_600_000),
        expires_at: Some(Timestamp::from_millis(1)),
        last_used_at: None,
    };
    let (ab, cd) = ("ab".repeat(32), "cd".repeat(32));
    check(&token, &format!("01fb2c010762696c6c696e6723{ab}01{cd}01fd00f8523e280300000102"));
    let bare = ServiceToken { replaced: None, expires_at: None, ..token };
    check(&bare, &format!("01fb2c010762696c6c696e6723{ab}00fd00f8523e2803000000"));

    let revocation = |what| Revocation { at: Timestamp::from_millis(-1), account: Some(id(300)), what };
    let session = revocation(Revoked::Session(SessionId::from_bytes([7; 16])));
    check(&session, &format!("0101fb2c0100{}", "07".repeat(16)));
    for (what, number) in [
        (Revoked::AccountLocked, "01"),
        (Revoked::AccountDeleted, "02"),
        (Revoked::Role(Role::User), "03"),
        (Revoked::Role(Role::Admin), "04"),
    ] {
        check(&revocation(what), &format!("0101fb2c01{number}"));
    }
    let everybodys = Revocation { account: None, ..revocation(Revoked::KeysReplaced) };
    check(&everybodys, "01010005");
}
