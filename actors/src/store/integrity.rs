//! The integrity of all rows: what the rules keep true, checked over rows that were read from elsewhere, such as a backup.
//!
//! The rows come one by one, in the order of their keys. The memory does not grow with them, except for one bit for each account number
//! that is in use. See [`Integrity`] for what is checked.

use std::collections::BTreeMap;

use super::chain::verify::{AuditBreak, Walk};
use super::codec::{self, LogEnd, Record, RecordError, Refusals};
use super::layout::{self, Parsed};
use super::migrations;
use super::requests::{StoredToken, UsedToken};
use crate::domain::account::{Account, AccountId, Role};
use crate::domain::audit::{AuditCheckpoint, AuditHead};
use crate::domain::failures::Failures;
use crate::domain::hash_form::{HashCount, HashForm};
use crate::domain::lease::LeaseClaim;
use crate::domain::one_time::{TokenHash, TokenPurpose};
use crate::domain::outbox::{MailId, MailState, QueuedMail};
use crate::domain::refresh::RefreshFamily;
use crate::domain::revocation::Revocation;
use crate::domain::service_token::ServiceToken;
use crate::domain::session::Session;
use crate::domain::time::Timestamp;

mod relation;

use relation::Relation;

/// The first layout that was ever written to a backup.
const FIRST_LAYOUT: u32 = 6;

/// The highest value of a counter: the highest number that every JSON reader keeps exactly. No store gets there, and the next increments
/// of a counter that is higher could overflow.
const MAX_COUNTER: u64 = (1 << 53) - 1;

/// What the rows violate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// The row does not come after the one before it.
    #[error("its key does not come after the key of the row before it")]
    Unordered,
    /// The row is none of this layout.
    #[error("it is a row of no known kind")]
    UnknownKind,
    /// The record cannot be read.
    #[error(transparent)]
    Unreadable(#[from] RecordError),
    /// The record belongs under another key.
    #[error("the {0} record belongs under another key")]
    Misplaced(&'static str),
    /// The row belongs to an account that does not exist.
    #[error("it belongs to account {0}, which does not exist")]
    NoAccount(AccountId),
    /// The audit log is broken.
    #[error("the audit log is broken: {0}")]
    Audit(#[from] AuditBreak),
    /// The log of revocations has a gap.
    #[error("the log of revocations has a gap: revocation {expected} should follow, and {found} does")]
    Revocations {
        /// The number that should follow.
        expected: u64,
        /// The number that was found.
        found: u64,
    },
    /// An index does not fit what it is an index of.
    #[error("the index of {0} does not fit: an entry is missing, leads elsewhere, or leads to nothing")]
    Index(&'static str),
    /// A counter does not fit what it counts.
    #[error("the counter of {what} says {counter}, and there are {found}")]
    Count {
        /// What it counts.
        what: &'static str,
        /// The counter.
        counter: u64,
        /// The number found.
        found: u64,
    },
    /// The counter of the numbers that were given is below one that was given.
    #[error("the last {what} given is {counter}, and {found} is in use")]
    Given {
        /// What the numbers are given to.
        what: &'static str,
        /// The counter.
        counter: u64,
        /// The highest number in use.
        found: u64,
    },
    /// A counter is so high that it was never counted.
    #[error("the counter of {what} is {counter}, which is higher than any store counts")]
    TooHigh {
        /// What it counts.
        what: &'static str,
        /// The counter.
        counter: u64,
    },
    /// There is an administrator, and the rows say that there never was one.
    #[error("there are administrators, and the rows say that there never was one")]
    UnknownAdministrator,
    /// The rows have another layout than this version knows.
    #[error("the layout of the rows is {found}, and this version knows {FIRST_LAYOUT} to {known}", known = migrations::CURRENT)]
    Layout {
        /// The layout; 0 if the rows have none.
        found: u32,
    },
}

/// What rows contain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Contents {
    /// The number of rows.
    pub rows: u64,
    /// The version of their layout.
    pub layout: u32,
    /// The number of accounts.
    pub accounts: u64,
    /// The number of sessions, including expired ones.
    pub sessions: u64,
    /// Whether an administrator is missing: there was one, there are accounts, and none of them is an administrator who is not locked.
    /// The rules allow it: if the last account is an administrator's, it may be deleted, and others may register after it.
    pub lacks_administrator: bool,
    /// The number of commits that led to these rows: their place in the order of all commits.
    pub commits: u64,
    /// The newest record of the audit log.
    pub audit_head: AuditHead,
}

/// A check of all rows of a store.
///
/// - Every row is of a known kind, can be read, and comes after the one before it.
/// - Every address and nickname belongs to one account. All index rows lead to their records, and all records have their index rows.
/// - Rows of an account belong to an account that exists.
/// - The counters of accounts, active administrators and hashes of other systems are right, and no counter of given numbers is below a number in use.
/// - If there is an administrator, the rows say that there was one.
/// - The audit log is a chain that ends with its head, and the log of revocations has no gap.
///
/// Counts of mails and failed attempts are not compared with what they count.
#[derive(Debug)]
pub struct Integrity {
    salt: [u8; 32],
    last_key: Vec<u8>,
    rows: u64,
    layout: u32,
    counters: BTreeMap<u8, u64>,
    log_end: LogEnd,
    checkpoint: AuditCheckpoint,
    /// `None` before the first row after the counters.
    walk: Option<Walk>,
    /// The last revocation seen.
    revocation: Option<u64>,
    ids: Ids,
    accounts: u64,
    administrators: u64,
    active_administrators: u64,
    sessions: u64,
    /// How many accounts have a password hash of each foreign form, without those whose count was compared.
    forms: BTreeMap<HashForm, u64>,
    highest_mail: u64,
    highest_service_token: u64,
    relations: Relations,
}

#[derive(Debug, Default)]
struct Relations {
    emails: Relation,
    nicknames: Relation,
    reserved: Relation,
    tokens: Relation,
    used_tokens: Relation,
    due: Relation,
    mails: Relation,
    audit: Relation,
}

/// A set of account numbers, with a bit for each number of a range of 64 in which there is one.
#[derive(Debug, Default)]
struct Ids(BTreeMap<u64, u64>);

impl Ids {
    fn insert(&mut self, id: AccountId) {
        *self.0.entry(id.get() / 64).or_default() |= 1 << (id.get() % 64);
    }

    fn contains(&self, id: AccountId) -> bool {
        self.0.get(&(id.get() / 64)).is_some_and(|bits| bits >> (id.get() % 64) & 1 == 1)
    }

    fn highest(&self) -> u64 {
        self.0.last_key_value().map_or(0, |(range, bits)| range * 64 + u64::from(bits.ilog2()))
    }
}

impl Integrity {
    /// Begins a check. The salt is random, so that nobody can choose rows that deceive the check.
    #[must_use]
    pub fn new(salt: [u8; 32]) -> Self {
        Self {
            salt,
            last_key: Vec::new(),
            rows: 0,
            layout: 0,
            counters: BTreeMap::new(),
            log_end: LogEnd::GENESIS,
            checkpoint: AuditCheckpoint::GENESIS,
            walk: None,
            revocation: None,
            ids: Ids::default(),
            accounts: 0,
            administrators: 0,
            active_administrators: 0,
            sessions: 0,
            forms: BTreeMap::new(),
            highest_mail: 0,
            highest_service_token: 0,
            relations: Relations::default(),
        }
    }

    /// Checks the next row.
    pub fn row(&mut self, key: &[u8], value: &[u8]) -> Result<(), Violation> {
        if self.rows > 0 && key <= self.last_key.as_slice() {
            return Err(Violation::Unordered);
        }
        self.rows += 1;
        key.clone_into(&mut self.last_key);
        let parsed = layout::parse(key).ok_or(Violation::UnknownKind)?;
        if let Parsed::Single(number) = parsed {
            return self.single(number, value);
        }
        if self.layout == 0 {
            return Err(Violation::Layout { found: 0 });
        }
        self.of_account(&parsed, key, value)
    }

    /// Checks what concerns all rows together, after the last one.
    pub fn finish(mut self) -> Result<Contents, Violation> {
        if self.layout == 0 {
            return Err(Violation::Layout { found: 0 });
        }
        let walk = self.walk();
        walk.begins_rightly()?;
        let head = walk.last();
        let (log_end, counted) = (self.log_end, self.counter(layout::LAST_AUDIT_SEQUENCE));
        self.walk().end(&log_end, counted)?;
        let relations = &self.relations;
        for (relation, what) in [
            (&relations.emails, "addresses"),
            (&relations.nicknames, "nicknames"),
            (&relations.reserved, "addresses that accounts can go back to"),
            (&relations.tokens, "one-time tokens"),
            (&relations.used_tokens, "used one-time tokens"),
            (&relations.due, "mails by their next attempt"),
            (&relations.mails, "mails by account"),
            (&relations.audit, "audit records by account"),
        ] {
            if !relation.fits() {
                return Err(Violation::Index(what));
            }
        }
        self.counters()?;
        let (last, gone) = (self.counter(layout::LAST_REVOCATION), self.counter(layout::REVOCATIONS_GONE));
        let found = self.revocation.unwrap_or(gone);
        if found != last {
            return Err(Violation::Revocations { expected: last, found });
        }
        Ok(Contents {
            rows: self.rows,
            layout: self.layout,
            accounts: self.accounts,
            sessions: self.sessions,
            lacks_administrator: self.counter(layout::HAD_ADMIN) != 0
                && self.accounts > 0
                && self.active_administrators == 0,
            commits: self.counter(layout::COMMITS),
            audit_head: head,
        })
    }

    fn counters(&self) -> Result<(), Violation> {
        for (key, what, found) in [
            (layout::ACCOUNTS, "accounts", self.accounts),
            (layout::ACTIVE_ADMINS, "active administrators", self.active_administrators),
        ] {
            let counter = self.counter(key);
            if counter != found {
                return Err(Violation::Count { what, counter, found });
            }
        }
        for (key, what, found) in [
            (layout::LAST_ACCOUNT_ID, "account number", self.ids.highest()),
            (layout::LAST_MAIL_ID, "mail number", self.highest_mail),
            (layout::LAST_SERVICE_TOKEN_ID, "service token number", self.highest_service_token),
        ] {
            let counter = self.counter(key);
            if counter < found {
                return Err(Violation::Given { what, counter, found });
            }
        }
        if let Some(found) = self.forms.values().next() {
            return Err(Violation::Count { what: "hashes of another system", counter: 0, found: *found });
        }
        let had_admin = self.counter(layout::HAD_ADMIN) != 0;
        if self.administrators > 0 && !had_admin {
            return Err(Violation::UnknownAdministrator);
        }
        Ok(())
    }

    fn counter(&self, key: &[u8]) -> u64 {
        key.last().and_then(|number| self.counters.get(number)).copied().unwrap_or(0)
    }

    /// Returns the walk over the audit log. The row where it begins is known after the counters.
    fn walk(&mut self) -> &mut Walk {
        let checkpoint = self.checkpoint;
        self.walk.get_or_insert_with(|| Walk::new(&checkpoint, None))
    }

    fn single(&mut self, number: u8, value: &[u8]) -> Result<(), Violation> {
        match [0x01, number].as_slice() {
            layout::FORMAT_VERSION => {
                let found = value.try_into().map_or(0, u32::from_be_bytes);
                if !(FIRST_LAYOUT..=migrations::CURRENT).contains(&found) {
                    return Err(Violation::Layout { found });
                }
                self.layout = found;
            }
            layout::AUDIT_END => self.log_end = codec::decode(value)?,
            layout::AUDIT_CHECKPOINT => {
                self.checkpoint = codec::decode(value)?;
                if self.checkpoint.first == 0 {
                    return Err(Violation::Misplaced("audit checkpoint"));
                }
            }
            layout::AUDIT_REFUSALS => read::<Refusals>(value).map(drop)?,
            layout::LAST_ACCOUNT_ID
            | layout::LAST_AUDIT_SEQUENCE
            | layout::ACTIVE_ADMINS
            | layout::ACCOUNTS
            | layout::HAD_ADMIN
            | layout::PROBE
            | layout::LAST_MAIL_ID
            | layout::LAST_SERVICE_TOKEN_ID
            | layout::LAST_REVOCATION
            | layout::REVOCATIONS_GONE
            | layout::LONGEST_TOKEN_LIFETIME
            | layout::COMMITS => {
                let counter = codec::decode(value)?;
                bounded("a single row", counter)?;
                self.counters.insert(number, counter);
            }
            _ => return Err(Violation::UnknownKind),
        }
        Ok(())
    }

    /// Checks a row of an account: the account, its names, its sessions.
    fn of_account(&mut self, parsed: &Parsed, key: &[u8], value: &[u8]) -> Result<(), Violation> {
        let (salt, relations) = (&self.salt, &mut self.relations);
        match *parsed {
            Parsed::Account(id) => self.account(id, value)?,
            Parsed::Email => relations.emails.subtract(salt, &[key, &id_of(value)?]),
            Parsed::Nickname => relations.nicknames.subtract(salt, &[key, &id_of(value)?]),
            Parsed::ImportDeleted(_) => require(value.is_empty(), "deleted import")?,
            Parsed::ImportNumbers(last) => require(read::<AccountId>(value)? <= last, "numbers of an import")?,
            Parsed::HashCount(ref form) => {
                let count = read::<HashCount>(value)?;
                bounded("hashes of another system", count.ever)?;
                let (counter, found) = (count.now, self.forms.remove(form).unwrap_or(0));
                if counter != found {
                    return Err(Violation::Count { what: "hashes of another system", counter, found });
                }
            }
            Parsed::Session(account, id) => {
                let session = read::<Session>(value)?;
                require(session.account == account && session.id == id, "session")?;
                self.exists(account)?;
                self.sessions += 1;
            }
            Parsed::Touch(account, _) | Parsed::Activity(account) | Parsed::Known(account) => {
                read::<Timestamp>(value)?;
                self.exists(account)?;
            }
            Parsed::Refresh(account, _) => {
                read::<RefreshFamily>(value)?;
                self.exists(account)?;
            }
            Parsed::Reserved(account) => {
                let until = read::<Timestamp>(value)?;
                self.exists(account)?;
                let until = until.as_millis().to_be_bytes();
                self.relations.reserved.subtract(&self.salt, &[key, &until]);
            }
            _ => self.of_token(parsed, key, value)?,
        }
        Ok(())
    }

    fn account(&mut self, id: AccountId, value: &[u8]) -> Result<(), Violation> {
        let account = read::<Account>(value)?;
        require(account.id == id, "account")?;
        bounded("changes of an account", account.revision)?;
        bounded("ends of sessions of an account", account.session_epoch)?;
        let (salt, relations, number) = (&self.salt, &mut self.relations, id.get().to_be_bytes());
        relations.emails.add(salt, &[&layout::email(account.email.key()), &number]);
        relations.nicknames.add(salt, &[&layout::nickname(account.nickname.key()), &number]);
        if let Some(reserved) = &account.reserved_email {
            let until = reserved.until.as_millis().to_be_bytes();
            relations.reserved.add(salt, &[&layout::reserved(reserved.email.key(), id), &until]);
        }
        if let Some(form) = account.password_hash.as_ref().and_then(HashForm::of) {
            *self.forms.entry(form).or_default() += 1;
        }
        self.ids.insert(id);
        self.accounts += 1;
        self.administrators += u64::from(account.role == Role::Admin);
        self.active_administrators += u64::from(account.is_active_admin());
        Ok(())
    }

    /// Checks a row of the audit log or of a one-time token.
    fn of_token(&mut self, parsed: &Parsed, key: &[u8], value: &[u8]) -> Result<(), Violation> {
        let salt = self.salt;
        match *parsed {
            Parsed::Audit(sequence) => {
                if let Some(subject) = self.walk().link(sequence, value)? {
                    self.relations.audit.add(&salt, &[&layout::audit_of(subject, sequence)]);
                }
            }
            Parsed::AuditOf(_, sequence) => {
                require(value.is_empty(), "audit index")?;
                // The entry of a record that was damaged when it was removed stays.
                if sequence >= self.checkpoint.first {
                    self.relations.audit.subtract(&salt, &[key]);
                }
            }
            Parsed::Token(hash) => {
                let stored = read::<StoredToken>(value)?;
                require(stored.token.hash == hash, "one-time token")?;
                self.exists(stored.account)?;
                let index = match stored.token.purpose {
                    TokenPurpose::Undo => layout::undo_of(stored.account, stored.revision).to_vec(),
                    purpose => layout::token_of(stored.account, purpose).to_vec(),
                };
                self.relations.tokens.add(&salt, &[&index, hash.as_bytes()]);
            }
            Parsed::TokenOf(account) => {
                let hash = read::<TokenHash>(value)?;
                self.exists(account)?;
                self.relations.tokens.subtract(&salt, &[key, hash.as_bytes()]);
            }
            Parsed::UsedToken(hash) => {
                let used = read::<UsedToken>(value)?;
                require(used.hash == hash, "used token")?;
                self.exists(used.account)?;
                let index = layout::used_token_of(used.account, used.purpose);
                self.relations.used_tokens.add(&salt, &[&index, hash.as_bytes()]);
            }
            Parsed::UsedTokenOf(account) => {
                let hash = read::<TokenHash>(value)?;
                self.exists(account)?;
                self.relations.used_tokens.subtract(&salt, &[key, hash.as_bytes()]);
            }
            _ => self.of_mail(parsed, key, value)?,
        }
        Ok(())
    }

    /// Checks a row of a mail, a counter or a service.
    fn of_mail(&mut self, parsed: &Parsed, key: &[u8], value: &[u8]) -> Result<(), Violation> {
        let salt = &self.salt;
        match *parsed {
            Parsed::Mail(id) => {
                let mail = read::<QueuedMail>(value)?;
                require(mail.id == id, "mail")?;
                let number = id.get().to_be_bytes();
                if mail.state == MailState::Queued {
                    self.relations.due.add(salt, &[&layout::due(mail.next_attempt_at, id), &number]);
                }
                if let Some(account) = mail.account {
                    self.relations.mails.add(salt, &[&layout::mail_of(account, id), &number]);
                    self.exists(account)?;
                }
                self.highest_mail = self.highest_mail.max(id.get());
            }
            Parsed::Due(id) => {
                require(read::<MailId>(value)? == id, "mail index")?;
                self.relations.due.subtract(salt, &[key, &id.get().to_be_bytes()]);
            }
            Parsed::MailOf(account, id) => {
                require(read::<MailId>(value)? == id, "mail index")?;
                self.relations.mails.subtract(salt, &[key, &id.get().to_be_bytes()]);
                self.exists(account)?;
            }
            Parsed::MailCount => bounded("mails", read(value)?)?,
            Parsed::Failures => read::<Failures>(value).map(drop)?,
            Parsed::ServiceToken(number) => {
                require(read::<ServiceToken>(value)?.id.get() == number, "service token")?;
                self.highest_service_token = self.highest_service_token.max(number);
            }
            Parsed::ServiceTokenUse(_) => read::<Timestamp>(value).map(drop)?,
            Parsed::Revocation(found) => {
                read::<Revocation>(value)?;
                let expected = self.revocation.unwrap_or_else(|| self.counter(layout::REVOCATIONS_GONE)) + 1;
                if found != expected {
                    return Err(Violation::Revocations { expected, found });
                }
                self.revocation = Some(found);
            }
            Parsed::Lease => read::<LeaseClaim>(value).map(drop)?,
            _ => return Err(Violation::UnknownKind),
        }
        Ok(())
    }

    fn exists(&self, account: AccountId) -> Result<(), Violation> {
        if self.ids.contains(account) { Ok(()) } else { Err(Violation::NoAccount(account)) }
    }
}

fn read<R: Record>(value: &[u8]) -> Result<R, Violation> {
    Ok(codec::decode(value)?)
}

fn bounded(what: &'static str, counter: u64) -> Result<(), Violation> {
    if counter <= MAX_COUNTER { Ok(()) } else { Err(Violation::TooHigh { what, counter }) }
}

fn id_of(value: &[u8]) -> Result<[u8; 8], Violation> {
    Ok(read::<AccountId>(value)?.get().to_be_bytes())
}

fn require(holds: bool, kind: &'static str) -> Result<(), Violation> {
    if holds { Ok(()) } else { Err(Violation::Misplaced(kind)) }
}
