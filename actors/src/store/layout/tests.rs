//! Tests that the bytes of keys never change.

use crate::domain::email::Email;
use crate::domain::hash_form::HashForm;
use crate::domain::mail::MailKind;
use crate::domain::nickname::Nickname;

use super::*;

#[test]
fn keys_keep_their_bytes() {
    let id = AccountId::new(0x0102_0304_0506_0708).unwrap();
    let sid = SessionId::from_bytes([0xAB; 16]);
    assert_eq!(account(id), [0x10, 1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(activity(id), [0x22, 1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(audit(258), [0x30, 0, 0, 0, 0, 0, 0, 1, 2]);
    assert_eq!(email(Email::parse("Ann@Example.com").unwrap().key()), b"\x11ann@example.com");
    assert_eq!(nickname(Nickname::parse("Ann").unwrap().key()), b"\x12ann");
    let mut expected = vec![0x20, 1, 2, 3, 4, 5, 6, 7, 8];
    assert_eq!(sessions_of(id).as_slice(), expected);
    expected.extend([0xAB; 16]);
    assert_eq!(session(id, sid).as_slice(), expected);
    assert_eq!((account_of_session(&expected), id_of_session(&expected)), (Some(id), Some(sid)));
    assert_eq!(id_of_session(&expected[..24]), None);
    expected[0] = 0x21;
    assert_eq!(touch(id, sid).as_slice(), expected);
}

#[test]
fn keys_of_tokens_mails_and_known_addresses_keep_their_bytes() {
    let id = AccountId::new(0x0102_0304_0506_0708).unwrap();
    let mail_id = MailId::new(258).unwrap();
    let numbered = |kind: u8, rest: &[u8]| [&[kind, 1, 2, 3, 4, 5, 6, 7, 8], rest].concat();
    assert_eq!(all_known(id), *numbered(0x23, &[]));
    assert_eq!(known(id, [192, 0, 2, 1].into()), numbered(0x23, &[192, 0, 2, 1]));
    assert_eq!(known(id, [9_u8; 16].into()), numbered(0x23, &[9; 16]));
    assert_eq!(token(&TokenHash::from_bytes([7; 32])), *[&[0x40][..], &[7; 32]].concat());
    assert_eq!(tokens_of(id), *numbered(0x41, &[]));
    for (purpose, number) in TokenPurpose::ALL.into_iter().zip(1..) {
        assert_eq!(token_of(id, purpose), *numbered(0x41, &[number]));
    }
    assert_eq!(undo_of(id, 3), *numbered(0x42, &[0, 0, 0, 0, 0, 0, 0, 3]));
    assert_eq!(undos_of(id), *numbered(0x42, &[]));
    assert_eq!(used_token(&TokenHash::from_bytes([7; 32])), *[&[0x44][..], &[7; 32]].concat());
    assert_eq!(used_tokens_of(id), *numbered(0x45, &[]));
    assert_eq!(used_token_of(id, TokenPurpose::Undo), *numbered(0x45, &[5]));
    let email = Email::parse("a@b.de").unwrap();
    assert_eq!(reserved(email.key(), id), *[&b"\x43a@b.de\0"[..], &id.get().to_be_bytes()].concat());
    assert_eq!(all_reserved(email.key()), b"\x43a@b.de\0");
    assert_eq!(mail(mail_id), [0x50, 0, 0, 0, 0, 0, 0, 1, 2]);
    let at = Timestamp::from_millis(0x0304);
    assert_eq!(due(at, mail_id), [0x51, 0x80, 0, 0, 0, 0, 0, 3, 4, 0, 0, 0, 0, 0, 0, 1, 2]);
    assert_eq!(mails_of(id), *numbered(0x52, &[]));
    assert_eq!(mail_of(id, mail_id), *numbered(0x52, &[0, 0, 0, 0, 0, 0, 1, 2]));
}

#[test]
fn keys_of_counts_of_mails_keep_their_bytes() {
    let count = |scope| MailCount { kind: MailKind::ResetPassword, unverified: false, scope };
    let account = MailScope::Account(AccountId::new(0x0102_0304_0506_0708).unwrap());
    let address = MailScope::Target(SubjectKey::from_bytes([0xCD; 16]));
    let client = MailScope::Client([192, 0, 2, 1].into());
    assert_eq!(waiting_mails(&count(account)), [0x53, 2, 0, 1, 1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(waiting_mails(&count(address)), *[&[0x53, 2, 0, 2][..], &[0xCD; 16]].concat());
    let client = MailCount { unverified: true, ..count(client) };
    assert_eq!(mails_of_day(2, &client), [0x54, 0x80, 0, 0, 0, 0, 0, 0, 2, 2, 1, 3, 192, 0, 2, 1]);
    assert_eq!(withheld_of_day(-1, &client)[..9], [0x55, 0x7F, 255, 255, 255, 255, 255, 255, 255]);
    let [(first, end), _] = mail_days_before(2);
    let is_before = |day| (&first[..]..&end[..]).contains(&&mails_of_day(day, &client)[..]);
    assert_eq!([-9, 1, 2, 3].map(is_before), [true, true, false, false]);
}

#[test]
fn keys_of_service_tokens_and_revocations_keep_their_bytes() {
    let id = ServiceTokenId::new(258);
    assert_eq!(service_token(id), [0x70, 0, 0, 0, 0, 0, 0, 1, 2]);
    assert_eq!(service_token_use(id), [0x71, 0, 0, 0, 0, 0, 0, 1, 2]);
    assert_eq!(revocation(258), [0x72, 0, 0, 0, 0, 0, 0, 1, 2]);
    assert_eq!(number_of_revocation(&revocation(258)), Some(258));
    assert_eq!(number_of_revocation(&service_token(id)), None);
}

#[test]
fn keys_of_failures_keep_their_bytes_and_read_back() {
    let subject = SubjectKey::from_bytes([0xCD; 16]);
    let (v4, v6): (IpAddr, IpAddr) = ([192, 0, 2, 1].into(), [9_u8; 16].into());
    let bytes = |rest: &[&[u8]]| [&[0x60, 1][..], &rest.concat()].concat();
    for (scope, expected) in [
        (FailureScope::Account(subject), bytes(&[&[1], &[0xCD; 16]])),
        (FailureScope::Address(v4), bytes(&[&[2], &[192, 0, 2, 1]])),
        (FailureScope::Address(v6), bytes(&[&[2], &[9; 16]])),
        (FailureScope::Known(subject, v4), bytes(&[&[3], &[0xCD; 16], &[192, 0, 2, 1]])),
        (FailureScope::Known(subject, v6), bytes(&[&[3], &[0xCD; 16], &[9; 16]])),
    ] {
        let key = FailureKey { kind: ProtectedResource::Login, scope };
        assert_eq!(failures(&key), expected);
        assert_eq!(failures_of(&expected), Some(key));
    }
    for other in [&[][..], &[0x60], &[0x60, 1, 1, 7], &[0x60, 99, 2, 1, 2, 3, 4], &[0x61, 1, 2, 1, 2, 3, 4]] {
        assert_eq!(failures_of(other), None, "{other:?}");
    }
}

#[test]
fn entries_of_audit_records_have_the_newest_first() {
    let id = AccountId::new(0x0102_0304_0506_0708).unwrap();
    let entry = audit_of(id, 258);
    assert_eq!(entry, [0x31, 1, 2, 3, 4, 5, 6, 7, 8, 255, 255, 255, 255, 255, 255, 254, 253]);
    assert_eq!(sequence_of_audit_of(&entry), Some(258));
    assert_eq!(sequence_of_audit_of(&audit(258)), None);
    assert_eq!(sequence_of_audit(&audit(258)), Some(258));
    assert_eq!(sequence_of_audit(&entry), None);
    assert!(audit_of(id, 2) < audit_of(id, 1));
    let (from, to) = audit_of_before(id, Some(258));
    let within = |sequence| (from..=to).contains(&audit_of(id, sequence));
    assert!(within(257) && within(1) && !within(258) && !within(259));
    let (from, to) = audit_of_before(id, None);
    assert!((from..=to).contains(&audit_of(id, u64::MAX)));
}

#[test]
fn due_keys_are_in_the_order_of_their_times() {
    let one = MailId::new(1).unwrap();
    let keys = [i64::MIN, -2, -1, 0, 1, 256, i64::MAX].map(|at| due(Timestamp::from_millis(at), one));
    assert!(keys.is_sorted());
    let (first, last) = due_until(Timestamp::from_millis(-1));
    assert_eq!(keys.iter().filter(|key| (first..=last).contains(*key)).count(), 3);
}

#[test]
fn a_session_key_names_its_account_and_nothing_else_does() {
    let id = AccountId::new(7).unwrap();
    let sid = SessionId::from_bytes([1; 16]);
    assert_eq!(account_of_session(&session(id, sid)), Some(id));
    assert_eq!(account_of_session(&touch(id, sid)), None);
    assert_eq!(account_of_session(&sessions_of(id)), None);
    assert_eq!(account_of_session(&[]), None);
}

#[test]
fn every_key_is_parsed_and_no_shorter_or_longer_one_of_a_fixed_length() {
    let (account, session) = (AccountId::new(7).unwrap(), SessionId::from_bytes([1; 16]));
    let (mail, hash) = (MailId::new(9).unwrap(), TokenHash::from_bytes([3; 32]));
    let at = Timestamp::from_millis(5);
    let fixed: Vec<(Vec<u8>, Parsed)> = vec![
        (COMMITS.to_vec(), Parsed::Single(0x10)),
        (super::account(account).to_vec(), Parsed::Account(account)),
        (import_deleted(account).to_vec(), Parsed::ImportDeleted(account)),
        (import_numbers(account).to_vec(), Parsed::ImportNumbers(account)),
        (super::session(account, session).to_vec(), Parsed::Session(account, session)),
        (touch(account, session).to_vec(), Parsed::Touch(account, session)),
        (refresh(account, session).to_vec(), Parsed::Refresh(account, session)),
        (activity(account).to_vec(), Parsed::Activity(account)),
        (known(account, [192, 0, 2, 1].into()), Parsed::Known(account)),
        (audit(4).to_vec(), Parsed::Audit(4)),
        (audit_of(account, 4).to_vec(), Parsed::AuditOf(account, 4)),
        (token(&hash).to_vec(), Parsed::Token(hash)),
        (token_of(account, TokenPurpose::VerifyAddress).to_vec(), Parsed::TokenOf(account)),
        (undo_of(account, 8).to_vec(), Parsed::TokenOf(account)),
        (used_token(&hash).to_vec(), Parsed::UsedToken(hash)),
        (used_token_of(account, TokenPurpose::VerifyAddress).to_vec(), Parsed::UsedTokenOf(account)),
        (super::mail(mail).to_vec(), Parsed::Mail(mail)),
        (due(at, mail).to_vec(), Parsed::Due(mail)),
        (mail_of(account, mail).to_vec(), Parsed::MailOf(account, mail)),
        (GIVEN_UP.to_vec(), Parsed::MailCount),
        (service_token(ServiceTokenId::new(2)).to_vec(), Parsed::ServiceToken(2)),
        (service_token_use(ServiceTokenId::new(2)).to_vec(), Parsed::ServiceTokenUse(2)),
        (revocation(6).to_vec(), Parsed::Revocation(6)),
        (lease(Lease::PruneAudit).to_vec(), Parsed::Lease),
    ];
    for (key, parsed) in fixed {
        assert_eq!(parse(&key).as_ref(), Some(&parsed));
        assert_ne!(parse(&key[..key.len() - 1]).as_ref(), Some(&parsed));
        assert_eq!(parse(&[&key[..], &[0]].concat()), None, "{parsed:?}");
    }
    let address = Email::parse("ann@example.com").unwrap();
    assert_eq!(parse(&reserved(address.key(), account)), Some(Parsed::Reserved(account)));
    assert_eq!(parse(&email(address.key())), Some(Parsed::Email));
    let form = HashForm::from_stored("$2b$10".to_owned()).unwrap();
    assert_eq!(parse(&hash_count(&form)), Some(Parsed::HashCount(form)));
    assert_eq!(parse(&super::account(account)[..1]), None);
    assert_eq!(parse(&[0x7F, 1]), None);
    assert_eq!(parse(&[]), None);
}
