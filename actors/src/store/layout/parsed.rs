//! Keys, read back: what each row is, for those who look at all of them.

use super::{
    ACCOUNT, ACTIVITY, AUDIT, AUDIT_OF, DUE, EMAIL, FAILURES, HASH_COUNT, IMPORT_DELETED, IMPORT_NUMBERS, KNOWN, LEASE,
    MAIL, MAIL_OF, MAILS_OF_DAY, NICKNAME, REFRESH, RESERVED, REVOCATION, SERVICE_TOKEN, SERVICE_TOKEN_USE, SESSION,
    TOKEN, TOKEN_OF, TOUCH, UNDO_OF, USED_TOKEN, USED_TOKEN_OF, WAITING_MAILS, WITHHELD_OF_DAY,
};
use super::{GIVEN_UP, failures_of, form_of_hash_count};
use crate::domain::account::AccountId;
use crate::domain::hash_form::HashForm;
use crate::domain::lease::Lease;
use crate::domain::one_time::TokenHash;
use crate::domain::outbox::MailId;
use crate::domain::session::SessionId;

/// The first byte of the keys of counters.
const COUNTER: u8 = 0x01;

/// What a key is the key of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// A counter, or another single row, by its number.
    Single(u8),
    Account(AccountId),
    Email,
    Nickname,
    ImportDeleted(AccountId),
    /// The numbers that an import took, by the last of them.
    ImportNumbers(AccountId),
    HashCount(HashForm),
    Session(AccountId, SessionId),
    Touch(AccountId, SessionId),
    Activity(AccountId),
    Known(AccountId),
    Refresh(AccountId, SessionId),
    Audit(u64),
    AuditOf(AccountId, u64),
    Token(TokenHash),
    /// The token of an account for a purpose, or one that undoes a change.
    TokenOf(AccountId),
    Reserved(AccountId),
    UsedToken(TokenHash),
    UsedTokenOf(AccountId),
    Mail(MailId),
    Due(MailId),
    MailOf(AccountId, MailId),
    /// A count of mails.
    MailCount,
    Failures,
    ServiceToken(u64),
    ServiceTokenUse(u64),
    Revocation(u64),
    Lease,
}

/// Returns what a key is the key of; `None` if this layout has no such key.
pub(crate) fn parse(key: &[u8]) -> Option<Parsed> {
    let (&kind, rest) = key.split_first()?;
    Some(match kind {
        COUNTER => Parsed::Single(only(rest)?),
        ACCOUNT => Parsed::Account(account(rest)?),
        EMAIL => Parsed::Email,
        NICKNAME => Parsed::Nickname,
        IMPORT_DELETED => Parsed::ImportDeleted(account(rest)?),
        IMPORT_NUMBERS => Parsed::ImportNumbers(account(rest)?),
        HASH_COUNT => Parsed::HashCount(form_of_hash_count(key)?),
        SESSION => of_session(rest).map(|(account, session)| Parsed::Session(account, session))?,
        TOUCH => of_session(rest).map(|(account, session)| Parsed::Touch(account, session))?,
        REFRESH => of_session(rest).map(|(account, session)| Parsed::Refresh(account, session))?,
        ACTIVITY => Parsed::Activity(account(rest)?),
        KNOWN => {
            let (account, address) = after_account(rest)?;
            matches!(address.len(), 4 | 16).then_some(Parsed::Known(account))?
        }
        AUDIT => Parsed::Audit(number(rest)?),
        AUDIT_OF => {
            let (account, flipped) = after_account(rest)?;
            Parsed::AuditOf(account, !number(flipped)?)
        }
        TOKEN => Parsed::Token(TokenHash::from_bytes(rest.try_into().ok()?)),
        TOKEN_OF => Parsed::TokenOf(after_account(rest).filter(|(_, purpose)| purpose.len() == 1)?.0),
        UNDO_OF => Parsed::TokenOf(after_account(rest).filter(|(_, revision)| revision.len() == 8)?.0),
        RESERVED => {
            let (email, id) = rest.split_last_chunk::<8>()?;
            (email.last() == Some(&0)).then_some(Parsed::Reserved(account(id)?))?
        }
        USED_TOKEN => Parsed::UsedToken(TokenHash::from_bytes(rest.try_into().ok()?)),
        USED_TOKEN_OF => Parsed::UsedTokenOf(after_account(rest).filter(|(_, purpose)| purpose.len() == 1)?.0),
        MAIL => Parsed::Mail(MailId::new(number(rest)?)?),
        DUE => Parsed::Due(MailId::new(number(rest.get(8..)?)?)?),
        MAIL_OF => {
            let (account, mail) = after_account(rest)?;
            Parsed::MailOf(account, MailId::new(number(mail)?)?)
        }
        WAITING_MAILS | MAILS_OF_DAY | WITHHELD_OF_DAY => Parsed::MailCount,
        _ if key == GIVEN_UP => Parsed::MailCount,
        FAILURES => failures_of(key).map(|_| Parsed::Failures)?,
        SERVICE_TOKEN => Parsed::ServiceToken(number(rest)?),
        SERVICE_TOKEN_USE => Parsed::ServiceTokenUse(number(rest)?),
        REVOCATION => Parsed::Revocation(number(rest)?),
        LEASE => {
            let lease = only(rest)?;
            Lease::ALL.iter().any(|known| known.number() == lease).then_some(Parsed::Lease)?
        }
        _ => return None,
    })
}

fn only(rest: &[u8]) -> Option<u8> {
    rest.split_first().filter(|(_, more)| more.is_empty()).map(|(byte, _)| *byte)
}

fn number(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}

fn account(bytes: &[u8]) -> Option<AccountId> {
    AccountId::new(number(bytes)?)
}

fn after_account(bytes: &[u8]) -> Option<(AccountId, &[u8])> {
    let (id, rest) = bytes.split_first_chunk::<8>()?;
    Some((account(id)?, rest))
}

fn of_session(bytes: &[u8]) -> Option<(AccountId, SessionId)> {
    let (account, session) = after_account(bytes)?;
    Some((account, SessionId::from_bytes(session.try_into().ok()?)))
}
