//! The layout of the one tree: how each record finds its key.
//!
//! Keys are written by hand, big-endian, with one byte for the kind in front, so that records of one kind lie together
//! and in the order of their numbers. They never go through the value codec: a key must keep its bytes for ever.
//!
//! | kind | rest of the key                       | value                                        |
//! |------|---------------------------------------|----------------------------------------------|
//! | `01` | one byte, see below                   | a counter; for `01 00` the layout version    |
//! | `10` | account id, 8 bytes                   | the account                                  |
//! | `11` | e-mail key, UTF-8                     | id of the account that has this address      |
//! | `12` | nickname key, UTF-8                   | id of the account that has this nickname     |
//! | `20` | account id, 8 bytes; session id, 16   | the session, as it was opened                |
//! | `21` | account id, 8 bytes; session id, 16   | when that session was last used              |
//! | `22` | account id, 8 bytes                   | the last activity of its ended sessions      |
//! | `30` | audit sequence number, 8 bytes        | the audit record                             |
//!
//! Counters: `00` layout version (four bytes big-endian, outside the codec, so that every version can read it), `01` the
//! last account id given, `02` the last audit sequence number given, `03` active administrators, `04` accounts, `05`
//! whether there ever was an administrator, `06` the probe.

use doorward_actors::{AccountId, EmailKey, NicknameKey, SessionId};

const ACCOUNT: u8 = 0x10;
const EMAIL: u8 = 0x11;
const NICKNAME: u8 = 0x12;
const SESSION: u8 = 0x20;
const TOUCH: u8 = 0x21;
const ACTIVITY: u8 = 0x22;
const AUDIT: u8 = 0x30;

/// The version of the layout of the whole tree.
pub(super) const FORMAT_VERSION: &[u8] = &[0x01, 0x00];
/// The last account id that was given; ids are never given twice.
pub(super) const LAST_ACCOUNT_ID: &[u8] = &[0x01, 0x01];
/// The last audit sequence number that was given.
pub(super) const LAST_AUDIT_SEQUENCE: &[u8] = &[0x01, 0x02];
/// How many accounts are unlocked administrators.
pub(super) const ACTIVE_ADMINS: &[u8] = &[0x01, 0x03];
/// How many accounts there are.
pub(super) const ACCOUNTS: &[u8] = &[0x01, 0x04];
/// 1 once there was an administrator.
pub(super) const HAD_ADMIN: &[u8] = &[0x01, 0x05];
/// A number that every probe raises.
pub(super) const PROBE: &[u8] = &[0x01, 0x06];

/// The keys of all accounts begin with this.
pub(super) const ALL_ACCOUNTS: &[u8] = &[ACCOUNT];
/// The keys of all sessions begin with this.
pub(super) const ALL_SESSIONS: &[u8] = &[SESSION];

/// Where an account is.
pub(super) fn account(id: AccountId) -> [u8; 9] {
    numbered(ACCOUNT, id.get())
}

/// Where the id of the account with an address is.
pub(super) fn email(key: &EmailKey) -> Vec<u8> {
    named(EMAIL, key.as_str())
}

/// Where the id of the account with a nickname is.
pub(super) fn nickname(key: &NicknameKey) -> Vec<u8> {
    named(NICKNAME, key.as_str())
}

/// Where a session is.
pub(super) fn session(account: AccountId, session: SessionId) -> [u8; 25] {
    of_session(SESSION, account, session)
}

/// The keys of all sessions of an account begin with this.
pub(super) fn sessions_of(account: AccountId) -> [u8; 9] {
    numbered(SESSION, account.get())
}

/// Where the last use of a session is.
pub(super) fn touch(account: AccountId, session: SessionId) -> [u8; 25] {
    of_session(TOUCH, account, session)
}

/// Where the last activity of the ended sessions of an account is.
pub(super) fn activity(account: AccountId) -> [u8; 9] {
    numbered(ACTIVITY, account.get())
}

/// Where an audit record is.
pub(super) fn audit(sequence: u64) -> [u8; 9] {
    numbered(AUDIT, sequence)
}

/// Whose session a session key names; `None` if it is not a session key.
pub(super) fn account_of_session(key: &[u8]) -> Option<AccountId> {
    let (&kind, rest) = key.split_first()?;
    if kind != SESSION || rest.len() != 24 {
        return None;
    }
    AccountId::new(u64::from_be_bytes(*rest.first_chunk()?))
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

#[cfg(test)]
mod tests {
    use doorward_actors::{Email, Nickname};

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
        expected[0] = 0x21;
        assert_eq!(touch(id, sid).as_slice(), expected);
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
}
