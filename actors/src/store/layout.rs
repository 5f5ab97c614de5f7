//! The layout of the rows: which key each record has.
//!
//! Keys are encoded by hand: one byte for the kind of the record, then big-endian numbers.
//! Records of one kind therefore lie together and are sorted by their numbers.
//! Keys never go through the value codec, because the bytes of a key must never change.
//!
//! | kind | rest of the key                          | value                                         |
//! | ---- | ---------------------------------------- | --------------------------------------------- |
//! | `01` | one byte, see below                      | a counter; for `01 00` the layout version     |
//! | `10` | account id, 8 bytes                      | the account                                   |
//! | `11` | e-mail key, UTF-8                        | id of the account that has this address       |
//! | `12` | nickname key, UTF-8                      | id of the account that has this nickname      |
//! | `13` | account id, 8 bytes                      | nothing: it was imported, and deleted since   |
//! | `14` | account id, 8 bytes                      | the first number that an import took, up to it |
//! | `15` | form of a password hash, UTF-8           | how many accounts have a hash of that form    |
//! | `20` | account id, 8 bytes; session id, 16      | the session, as it was opened                 |
//! | `21` | account id, 8 bytes; session id, 16      | when that session was last used               |
//! | `22` | account id, 8 bytes                      | the last activity of its ended sessions       |
//! | `23` | account id, 8 bytes; IP address, 4 or 16 | when it was last logged in to from there      |
//! | `24` | account id, 8 bytes; session id, 16      | the refresh tokens of that session, as hashes |
//! | `30` | audit sequence number, 8 bytes           | the audit record, with the hash of the last   |
//! | `31` | account id, 8 bytes; audit number, 8     | nothing: an audit record about the account    |
//! | `40` | hash of a one-time token, 32 bytes       | the token                                     |
//! | `41` | account id, 8 bytes; purpose, 1          | hash of the token that the account has for it |
//! | `42` | account id, 8 bytes; revision, 8         | hash of the token that undoes what was since  |
//! | `43` | e-mail key, UTF-8; 0; account id, 8      | until when the account can go back to it      |
//! | `44` | hash of a one-time token, 32 bytes       | when it was used                              |
//! | `45` | account id, 8 bytes; purpose, 1          | hash of the token that was used last for it   |
//! | `50` | mail id, 8 bytes                         | the mail                                      |
//! | `51` | next attempt, 8 bytes; mail id, 8        | id of the queued mail that is due then        |
//! | `52` | account id, 8 bytes; mail id, 8          | id of a mail that goes away with the account  |
//! | `53` | kind of mail and scope; see below         | how many of these mails wait                  |
//! | `54` | day, 8 bytes; kind of mail and scope     | how many of these mails were queued that day  |
//! | `55` | day, 8 bytes; kind of mail and scope     | 1 once one of them was withheld that day      |
//! | `56` | nothing                                  | how many mails were given up                  |
//! | `60` | kind and scope, 1 byte each; see below   | a counter of failed attempts                  |
//! | `70` | service token id, 8 bytes                | the service token                             |
//! | `71` | service token id, 8 bytes                | when that token was last used                 |
//! | `72` | revocation number, 8 bytes               | what was revoked                              |
//! | `80` | number of a lease, 1 byte                | who holds it, and until when                  |
//!
//! The scope of a counter is `01` an account (16 bytes of the hash of its address follow), `02` an IP address (4 or 16 bytes
//! follow) or `03` both, in this order.
//!
//! A count of mails is by the number of their kind, `01` for notices to an unverified address and `00` for other mails, and
//! a scope: `01` an account (8 bytes follow), `02` the address they go to (16 bytes of the hash), `03` a client (4 or 16 bytes).
//!
//! A day is counted from 1970 in UTC and a next attempt in milliseconds, each with its sign bit flipped, so that times before
//! 1970 come first. An audit number in `31` has its bits flipped, so that the newest record comes first.
//!
//! Counters: `00` layout version (four bytes big-endian, outside the codec, so that every version can read it), `01` the
//! last account id given, `02` the last audit sequence number given, `03` active administrators, `04` accounts, `05`
//! whether there ever was an administrator or an import, `06` the probe, `07` the last mail id given. No counters: `08` where the audit
//! log ends, `09` where its kept part begins, `12` how much of it refusals take. Counters again: `0A` the last service token id given, `0B` the last revocation
//! number given, `0C` the last revocation number removed, `0D` the longest time that access tokens were ever good for, in
//! milliseconds; `10` how many commits there were, which older versions do not count.

use crate::domain::account::AccountId;
use crate::domain::email::EmailKey;
use crate::domain::failures::{FailureKey, FailureScope, ProtectedResource, SubjectKey};
use crate::domain::hash_form::HashForm;
use crate::domain::lease::Lease;
use crate::domain::nickname::NicknameKey;
use crate::domain::one_time::{TokenHash, TokenPurpose};
use crate::domain::outbox::{MailCount, MailId, MailScope};
use crate::domain::service_token::ServiceTokenId;
use crate::domain::session::SessionId;
use crate::domain::time::Timestamp;
use std::net::IpAddr;

use super::codec;

const ACCOUNT: u8 = 0x10;
const EMAIL: u8 = 0x11;
const NICKNAME: u8 = 0x12;
const IMPORT_DELETED: u8 = 0x13;
const IMPORT_NUMBERS: u8 = 0x14;
const HASH_COUNT: u8 = 0x15;
const SESSION: u8 = 0x20;
const TOUCH: u8 = 0x21;
const ACTIVITY: u8 = 0x22;
const KNOWN: u8 = 0x23;
const REFRESH: u8 = 0x24;
const AUDIT: u8 = 0x30;
const AUDIT_OF: u8 = 0x31;
const TOKEN: u8 = 0x40;
const TOKEN_OF: u8 = 0x41;
const UNDO_OF: u8 = 0x42;
const RESERVED: u8 = 0x43;
const USED_TOKEN: u8 = 0x44;
const USED_TOKEN_OF: u8 = 0x45;
const MAIL: u8 = 0x50;
const DUE: u8 = 0x51;
const MAIL_OF: u8 = 0x52;
const WAITING_MAILS: u8 = 0x53;
const MAILS_OF_DAY: u8 = 0x54;
const WITHHELD_OF_DAY: u8 = 0x55;
const FAILURES: u8 = 0x60;
const SERVICE_TOKEN: u8 = 0x70;
const SERVICE_TOKEN_USE: u8 = 0x71;
const REVOCATION: u8 = 0x72;
const LEASE: u8 = 0x80;

/// The version of the layout of all rows.
pub const FORMAT_VERSION: &[u8] = &[0x01, 0x00];
/// The last account id that was assigned; an id is never assigned twice.
pub(crate) const LAST_ACCOUNT_ID: &[u8] = &[0x01, 0x01];
/// The last audit sequence number that was assigned.
pub(crate) const LAST_AUDIT_SEQUENCE: &[u8] = &[0x01, 0x02];
/// The number of unlocked administrators.
pub(crate) const ACTIVE_ADMINS: &[u8] = &[0x01, 0x03];
/// The number of accounts.
pub(crate) const ACCOUNTS: &[u8] = &[0x01, 0x04];
/// 1 once an administrator has existed or accounts were imported: from then on, nobody becomes one by registering first.
pub const HAD_ADMIN: &[u8] = &[0x01, 0x05];
/// A number that every health probe increments.
pub(crate) const PROBE: &[u8] = &[0x01, 0x06];
/// The last mail id that was assigned; an id is never assigned twice.
pub(crate) const LAST_MAIL_ID: &[u8] = &[0x01, 0x07];

/// The end of the audit log and its size.
pub(crate) const AUDIT_END: &[u8] = &[0x01, 0x08];
/// The first record of the audit log that is kept.
pub(crate) const AUDIT_CHECKPOINT: &[u8] = &[0x01, 0x09];
/// The space that refusals take in the audit log.
pub(crate) const AUDIT_REFUSALS: &[u8] = &[0x01, 0x12];
/// The last service token id that was assigned; an id is never assigned twice.
pub(crate) const LAST_SERVICE_TOKEN_ID: &[u8] = &[0x01, 0x0A];
/// The last revocation number that was assigned.
pub(crate) const LAST_REVOCATION: &[u8] = &[0x01, 0x0B];
/// The last revocation number whose record was removed.
pub(crate) const REVOCATIONS_GONE: &[u8] = &[0x01, 0x0C];
/// The longest lifetime that access tokens ever had, in milliseconds.
pub(crate) const LONGEST_TOKEN_LIFETIME: &[u8] = &[0x01, 0x0D];

/// The number of commits, including the one of each start.
/// Engines that keep a witness compare it.
pub const COMMITS: &[u8] = &[0x01, 0x10];

/// The key prefix of all service tokens.
pub(crate) const ALL_SERVICE_TOKENS: &[u8] = &[SERVICE_TOKEN];
/// The length of the key of an audit record, in bytes.
pub(crate) const AUDIT_BYTES: usize = 9;
/// The length of the key of an entry in the audit index of an account, in bytes.
pub(crate) const AUDIT_OF_BYTES: usize = 17;

/// The key prefix of all audit records.
pub(crate) const ALL_AUDIT: &[u8] = &[AUDIT];
/// The key prefix of all accounts.
pub const ALL_ACCOUNTS: &[u8] = &[ACCOUNT];
/// The end (exclusive) of the keys of all accounts.
pub(crate) const ACCOUNTS_END: &[u8] = &[ACCOUNT + 1];
/// The key prefix of all sessions.
pub(crate) const ALL_SESSIONS: &[u8] = &[SESSION];

/// Returns the key of an account.
pub(crate) fn account(id: AccountId) -> [u8; 9] {
    numbered(ACCOUNT, id.get())
}

/// Returns the key that maps an address to the id of its account.
pub(crate) fn email(key: &EmailKey) -> Vec<u8> {
    named(EMAIL, key.as_str())
}

/// Returns the key that maps a nickname to the id of its account.
pub(crate) fn nickname(key: &NicknameKey) -> Vec<u8> {
    named(NICKNAME, key.as_str())
}

/// Returns the key that notes that an imported account was deleted.
pub(crate) fn import_deleted(id: AccountId) -> [u8; 9] {
    numbered(IMPORT_DELETED, id.get())
}

/// Returns the key of the numbers that an import took, by the last of them.
pub(crate) fn import_numbers(last: AccountId) -> [u8; 9] {
    numbered(IMPORT_NUMBERS, last.get())
}

/// Returns the end (exclusive) of the keys of the numbers that imports took.
pub(crate) const IMPORT_NUMBERS_END: &[u8] = &[IMPORT_NUMBERS + 1];

/// The key prefix of all counts of foreign password hashes.
pub(crate) const ALL_HASH_COUNTS: &[u8] = &[HASH_COUNT];

/// Returns the key of the count of password hashes of a form.
pub(crate) fn hash_count(form: &HashForm) -> Vec<u8> {
    named(HASH_COUNT, form.as_str())
}

/// Returns the form in the key of a count; `None` if it is not such a key.
pub(crate) fn form_of_hash_count(key: &[u8]) -> Option<HashForm> {
    let (&kind, form) = key.split_first()?;
    let form = std::str::from_utf8(form).ok().filter(|_| kind == HASH_COUNT)?;
    HashForm::from_stored(form.to_owned())
}

/// Returns the key of a session.
pub(crate) fn session(account: AccountId, session: SessionId) -> [u8; 25] {
    of_session(SESSION, account, session)
}

/// Returns the first key after those of all sessions.
pub(crate) fn after_sessions() -> [u8; 1] {
    [SESSION + 1]
}

/// Returns the key prefix of all sessions of an account.
pub(crate) fn sessions_of(account: AccountId) -> [u8; 9] {
    numbered(SESSION, account.get())
}

/// Returns the key of the last use of a session.
pub(crate) fn touch(account: AccountId, session: SessionId) -> [u8; 25] {
    of_session(TOUCH, account, session)
}

/// Returns the key of the refresh tokens of a session.
pub(crate) fn refresh(account: AccountId, session: SessionId) -> [u8; 25] {
    of_session(REFRESH, account, session)
}

/// Returns the key of the last activity of the ended sessions of an account.
pub(crate) fn activity(account: AccountId) -> [u8; 9] {
    numbered(ACTIVITY, account.get())
}

/// Returns the key of an audit record.
pub(crate) fn audit(sequence: u64) -> [u8; AUDIT_BYTES] {
    numbered(AUDIT, sequence)
}

/// Returns the sequence number in the key of an audit record; `None` if it is not such a key.
pub(crate) fn sequence_of_audit(key: &[u8]) -> Option<u64> {
    let (&kind, rest) = key.split_first()?;
    (kind == AUDIT).then_some(u64::from_be_bytes(rest.try_into().ok()?))
}

/// Returns the key of the index entry of an audit record about an account.
pub(crate) fn audit_of(subject: AccountId, sequence: u64) -> [u8; AUDIT_OF_BYTES] {
    let mut key = [AUDIT_OF; AUDIT_OF_BYTES];
    key[1..9].copy_from_slice(&subject.get().to_be_bytes());
    key[9..].copy_from_slice(&(!sequence).to_be_bytes());
    key
}

/// Returns the first and the last key (both inclusive) of the index entries of an account before a sequence number, newest first.
/// `None` includes all entries.
pub(crate) fn audit_of_before(subject: AccountId, sequence: Option<u64>) -> ([u8; 17], [u8; 17]) {
    (audit_of(subject, sequence.map_or(u64::MAX, |sequence| sequence.saturating_sub(1))), audit_of(subject, 0))
}

/// Returns the sequence number in the key of an index entry; `None` if it is not such a key.
pub(crate) fn sequence_of_audit_of(key: &[u8]) -> Option<u64> {
    let (&kind, rest) = key.split_first()?;
    let sequence = rest.get(8..)?.try_into().ok()?;
    (kind == AUDIT_OF).then_some(!u64::from_be_bytes(sequence))
}

/// Returns the key of the last login to an account from an address.
pub(crate) fn known(account: AccountId, from: IpAddr) -> Vec<u8> {
    let mut key = numbered(KNOWN, account.get()).to_vec();
    match from {
        IpAddr::V4(v4) => key.extend(v4.octets()),
        IpAddr::V6(v6) => key.extend(v6.octets()),
    }
    key
}

/// Returns the key prefix of all addresses from which the owner of an account has logged in.
pub(crate) fn all_known(account: AccountId) -> [u8; 9] {
    numbered(KNOWN, account.get())
}

/// Returns the address in the key of the last login from it; `None` if it is not such a key.
pub(crate) fn address_of_known(key: &[u8]) -> Option<IpAddr> {
    let (&kind, rest) = key.split_first()?;
    let address = rest.get(8..).filter(|_| kind == KNOWN)?;
    let v6 = || <[u8; 16]>::try_from(address).map(IpAddr::from);
    <[u8; 4]>::try_from(address).map(IpAddr::from).or_else(|_| v6()).ok()
}

/// Returns the key of a one-time token.
pub(crate) fn token(hash: &TokenHash) -> [u8; 33] {
    let mut key = [TOKEN; 33];
    key[1..].copy_from_slice(hash.as_bytes());
    key
}

/// Returns the key of the hash of the current token of an account for a purpose.
pub(crate) fn token_of(account: AccountId, purpose: TokenPurpose) -> [u8; 10] {
    let mut key = [purpose.number(); 10];
    key[..9].copy_from_slice(&tokens_of(account));
    key
}

/// Returns the key prefix of the token hashes of an account.
pub(crate) fn tokens_of(account: AccountId) -> [u8; 9] {
    numbered(TOKEN_OF, account.get())
}

/// Returns the key of the note that a one-time token was used.
pub(super) fn used_token(hash: &TokenHash) -> [u8; 33] {
    let mut key = [USED_TOKEN; 33];
    key[1..].copy_from_slice(hash.as_bytes());
    key
}

/// Returns the key of the hash of the token that an account used last for a purpose.
pub(super) fn used_token_of(account: AccountId, purpose: TokenPurpose) -> [u8; 10] {
    let mut key = [purpose.number(); 10];
    key[..9].copy_from_slice(&used_tokens_of(account));
    key
}

/// Returns the key prefix of the hashes of the used tokens of an account.
pub(super) fn used_tokens_of(account: AccountId) -> [u8; 9] {
    numbered(USED_TOKEN_OF, account.get())
}

/// Returns the key of the hash of the token that undoes the changes to an account since a revision.
pub(crate) fn undo_of(account: AccountId, revision: u64) -> [u8; 17] {
    let mut key = [UNDO_OF; 17];
    key[1..9].copy_from_slice(&account.get().to_be_bytes());
    key[9..].copy_from_slice(&revision.to_be_bytes());
    key
}

/// Returns the key prefix of the hashes of all undo tokens of an account.
pub(crate) fn undos_of(account: AccountId) -> [u8; 9] {
    numbered(UNDO_OF, account.get())
}

/// Returns the key of the time until which an account can go back to an address.
pub(crate) fn reserved(key: &EmailKey, account: AccountId) -> Vec<u8> {
    [&all_reserved(key)[..], &account.get().to_be_bytes()].concat()
}

/// Returns the key prefix of all accounts that can go back to an address.
/// The zero byte ends the address, because no address contains one.
pub(crate) fn all_reserved(key: &EmailKey) -> Vec<u8> {
    [named(RESERVED, key.as_str()).as_slice(), &[0]].concat()
}

/// Returns the key of a mail.
pub(crate) fn mail(id: MailId) -> [u8; 9] {
    numbered(MAIL, id.get())
}

/// Returns the bounds (both exclusive) of the keys of all mails after a mail.
pub(crate) fn mails_after(id: Option<MailId>) -> ([u8; 9], [u8; 1]) {
    (numbered(MAIL, id.map_or(0, MailId::get)), [MAIL + 1])
}

/// Returns the key of a queued mail in the order of attempts.
pub(crate) fn due(at: Timestamp, id: MailId) -> [u8; 17] {
    due_number(at, id.get())
}

/// Returns the first and the last key (both inclusive) of the mails that are due.
pub(crate) fn due_until(now: Timestamp) -> ([u8; 17], [u8; 17]) {
    (due_number(Timestamp::from_millis(i64::MIN), 0), due_number(now, u64::MAX))
}

fn due_number(at: Timestamp, mail: u64) -> [u8; 17] {
    let mut key = [DUE; 17];
    // The sign bit is flipped so that the keys sort in the order of the times.
    key[1..9].copy_from_slice(&(at.as_millis() ^ i64::MIN).to_be_bytes());
    key[9..].copy_from_slice(&mail.to_be_bytes());
    key
}

/// Returns the key of the entry of a mail of an account.
pub(crate) fn mail_of(account: AccountId, id: MailId) -> [u8; 17] {
    let mut key = [MAIL_OF; 17];
    key[1..9].copy_from_slice(&account.get().to_be_bytes());
    key[9..].copy_from_slice(&id.get().to_be_bytes());
    key
}

/// Returns the key prefix of the entries of all mails of an account.
pub(crate) fn mails_of(account: AccountId) -> [u8; 9] {
    numbered(MAIL_OF, account.get())
}

/// The key prefix of all mails.
pub(crate) const ALL_MAILS: &[u8] = &[MAIL];

/// The number of mails that were given up.
pub(crate) const GIVEN_UP: &[u8] = &[0x56];

/// Returns the key of the number of waiting mails of a count.
pub(crate) fn waiting_mails(count: &MailCount) -> Vec<u8> {
    [&[WAITING_MAILS][..], &counted(count)].concat()
}

/// Returns the key of the number of mails of a count that were queued on a day.
pub(crate) fn mails_of_day(day: i64, count: &MailCount) -> Vec<u8> {
    [&day_number(MAILS_OF_DAY, day)[..], &counted(count)].concat()
}

/// Returns the key that exists once a mail of a count was withheld on a day.
pub(crate) fn withheld_of_day(day: i64, count: &MailCount) -> Vec<u8> {
    [&day_number(WITHHELD_OF_DAY, day)[..], &counted(count)].concat()
}

/// Returns the key ranges, each from the first key up to but excluding the second, of the mail counts of earlier days.
pub(crate) fn mail_days_before(day: i64) -> [([u8; 9], [u8; 9]); 2] {
    [MAILS_OF_DAY, WITHHELD_OF_DAY].map(|kind| (day_number(kind, i64::MIN), day_number(kind, day)))
}

fn day_number(kind: u8, day: i64) -> [u8; 9] {
    let mut key = [kind; 9];
    // The sign bit is flipped so that the keys sort in the order of the days.
    key[1..].copy_from_slice(&(day ^ i64::MIN).to_be_bytes());
    key
}

fn counted(count: &MailCount) -> Vec<u8> {
    let mut key = vec![count.kind.number(), u8::from(count.unverified)];
    match count.scope {
        MailScope::Account(account) => {
            key.push(1);
            key.extend(account.get().to_be_bytes());
        }
        MailScope::Target(address) => {
            key.push(2);
            key.extend(address.as_bytes());
        }
        MailScope::Client(IpAddr::V4(v4)) => {
            key.push(3);
            key.extend(v4.octets());
        }
        MailScope::Client(IpAddr::V6(v6)) => {
            key.push(3);
            key.extend(v6.octets());
        }
    }
    key
}

/// The key prefix of all counters of failed attempts.
pub(crate) const ALL_FAILURES: &[u8] = &[FAILURES];

/// Returns the key of a counter of failed attempts.
pub(crate) fn failures(key: &FailureKey) -> Vec<u8> {
    let (scope, subject, address) = match &key.scope {
        FailureScope::Account(subject) => (1, Some(subject), None),
        FailureScope::Address(address) => (2, None, Some(address)),
        FailureScope::Known(subject, address) => (3, Some(subject), Some(address)),
    };
    let mut bytes = vec![FAILURES, key.kind.number(), scope];
    bytes.extend(subject.into_iter().flat_map(SubjectKey::as_bytes));
    match address {
        Some(IpAddr::V4(v4)) => bytes.extend(v4.octets()),
        Some(IpAddr::V6(v6)) => bytes.extend(v6.octets()),
        None => {}
    }
    bytes
}

/// Returns what a counter of failed attempts counts; `None` if the key is not one of a counter.
pub(crate) fn failures_of(key: &[u8]) -> Option<FailureKey> {
    let (&[kind, number, scope], rest) = key.split_first_chunk()?;
    if kind != FAILURES {
        return None;
    }
    let subject = || rest.first_chunk().map(|bytes| SubjectKey::from_bytes(*bytes));
    let scope = match scope {
        1 if rest.len() == 16 => FailureScope::Account(subject()?),
        2 => FailureScope::Address(address(rest)?),
        3 => FailureScope::Known(subject()?, address(rest.get(16..)?)?),
        _ => return None,
    };
    Some(FailureKey { kind: ProtectedResource::from_number(number)?, scope })
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    match bytes.len() {
        4 => bytes.first_chunk::<4>().map(|octets| (*octets).into()),
        16 => bytes.first_chunk::<16>().map(|octets| (*octets).into()),
        _ => None,
    }
}

/// Returns the key of a service token.
pub(crate) fn service_token(id: ServiceTokenId) -> [u8; 9] {
    numbered(SERVICE_TOKEN, id.get())
}

/// Returns the key of the last use of a service token.
pub(crate) fn service_token_use(id: ServiceTokenId) -> [u8; 9] {
    numbered(SERVICE_TOKEN_USE, id.get())
}

/// Returns the key of a revocation.
pub(crate) fn revocation(number: u64) -> [u8; 9] {
    numbered(REVOCATION, number)
}

/// Returns the key of a lease.
pub(crate) fn lease(lease: Lease) -> [u8; 2] {
    [LEASE, lease.number()]
}

/// Returns the number in the key of a revocation; `None` if it is not such a key.
pub(crate) fn number_of_revocation(key: &[u8]) -> Option<u64> {
    let (&kind, rest) = key.split_first()?;
    (kind == REVOCATION).then_some(u64::from_be_bytes(rest.try_into().ok()?))
}

/// Returns the account in the key of a session; `None` if it is not such a key.
pub(crate) fn account_of_session(key: &[u8]) -> Option<AccountId> {
    let (&kind, rest) = key.split_first()?;
    if kind != SESSION || rest.len() != 24 {
        return None;
    }
    AccountId::new(u64::from_be_bytes(*rest.first_chunk()?))
}

/// Returns the session id in the key of a session; `None` if it is not such a key.
pub(crate) fn id_of_session(key: &[u8]) -> Option<SessionId> {
    account_of_session(key)?;
    key.last_chunk().map(|id| SessionId::from_bytes(*id))
}

/// A change in a commit that a cache or a waiting task must learn of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Touched {
    /// A session changed, other than its last use.
    Session(AccountId, SessionId),
    /// The service tokens changed, other than their last use.
    ServiceTokens,
}

/// Returns what a changed row reports to the feed. `None` if no one needs to know.
pub(crate) fn touched(key: &[u8]) -> Option<Touched> {
    match *key.first()? {
        SESSION => Some(Touched::Session(account_of_session(key)?, id_of_session(key)?)),
        SERVICE_TOKEN => Some(Touched::ServiceTokens),
        _ => None,
    }
}

/// The new ends of the logs that have readers, after a commit.
#[derive(Debug, Default)]
pub(crate) struct Heads {
    /// The last sequence number of the audit log, if the commit changed it.
    pub(crate) audit: Option<u64>,
    /// The last number of the log of revocations, if the commit changed it.
    pub(crate) revocations: Option<u64>,
}

impl Heads {
    /// Notes a row that was written.
    /// A counter that cannot be decoded is ignored here; the readers of the log find it.
    pub(crate) fn note(&mut self, key: &[u8], value: Option<&[u8]>) {
        let head = match key {
            LAST_AUDIT_SEQUENCE => &mut self.audit,
            LAST_REVOCATION => &mut self.revocations,
            _ => return,
        };
        *head = value.and_then(|value| codec::decode(value).ok()).or(*head);
    }
}

fn numbered(kind: u8, number: u64) -> [u8; 9] {
    let mut key = [kind; 9];
    key[1..].copy_from_slice(&number.to_be_bytes());
    key
}

fn named(kind: u8, name: &str) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + name.len());
    key.push(kind);
    key.extend_from_slice(name.as_bytes());
    key
}

fn of_session(kind: u8, account: AccountId, session: SessionId) -> [u8; 25] {
    let mut key = [kind; 25];
    key[1..9].copy_from_slice(&account.get().to_be_bytes());
    key[9..].copy_from_slice(session.as_bytes());
    key
}

mod parsed;
pub(crate) use parsed::{Parsed, parse};

#[cfg(test)]
mod tests;
