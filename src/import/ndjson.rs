//! Accounts as lines of JSON: the form that `doorward export` writes and that exports of other systems are brought into.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};

use doorward_actors::{
    Account, AccountId, AccountToImport, CredentialHash, CustomerAccount, Email, EmailKey, ForeignHashError,
    ImportedAccount, Locale, Nickname, ProfileChange, Role, Timestamp,
};
use serde::{Deserialize, Serialize};

use super::report::{Note, Reason, Subject};
use super::{Defaults, Item, NUMBER_LIMIT, cleaned_nickname};

/// The maximum length of a line, in bytes. An account with the longest values has about 3,000.
const MAX_LINE_BYTES: u64 = 64 * 1024;

/// Why the file cannot be imported. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NdjsonError {
    /// The file cannot be opened or read.
    #[error("{}: {source}", .file.display())]
    File {
        /// Its path.
        file: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// A line is no account.
    #[error("{}, line {line}: {why}", .file.display())]
    Line {
        /// The path of the file.
        file: PathBuf,
        /// The number of the line, from 1.
        line: u64,
        /// What is wrong with it. Never a value of the line, which may be a hash.
        why: String,
    },
}

/// One account on a line. Every field but the address may be missing.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct AccountLine {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    id: Option<u64>,
    email: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    nickname: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    password_hash: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    passphrase_hash: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    role: Option<String>,
    #[serde(default)]
    lock: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    customer_account: Option<String>,
    #[serde(default)]
    email_verified: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    locale: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    created_at: Option<String>,
}

impl AccountLine {
    /// Describes an account, with its hashes if they are wanted.
    pub(crate) fn of(account: &Account, with_hashes: bool) -> Self {
        let hash =
            |hash: &Option<CredentialHash>| hash.as_ref().filter(|_| with_hashes).map(|hash| hash.as_phc().to_owned());
        Self {
            id: Some(account.id.get()),
            email: account.email.as_str().to_owned(),
            nickname: Some(account.nickname.as_str().to_owned()),
            password_hash: hash(&account.password_hash),
            passphrase_hash: hash(&account.passphrase_hash),
            role: Some(account.role.as_str().to_owned()),
            lock: account.locked,
            customer_account: Some(account.customer_account.as_str().to_owned()),
            email_verified: account.email_verified,
            locale: Some(account.locale.as_str().to_owned()),
            created_at: Some(account.created_at.to_rfc3339()),
        }
    }
}

impl AccountLine {
    /// Describes an account to import, with its hashes.
    pub(super) fn of_import(account: &ImportedAccount) -> Self {
        let hash = |hash: &Option<CredentialHash>| hash.as_ref().map(|hash| hash.as_phc().to_owned());
        Self {
            id: account.id.map(AccountId::get),
            email: account.email.as_str().to_owned(),
            nickname: Some(account.nickname.as_str().to_owned()),
            password_hash: hash(&account.password_hash),
            passphrase_hash: hash(&account.passphrase_hash),
            role: Some(account.role.as_str().to_owned()),
            lock: account.locked,
            customer_account: account.profile.customer_account.as_ref().map(|plan| plan.as_str().to_owned()),
            email_verified: account.email_verified,
            locale: account.profile.locale.map(|locale| locale.as_str().to_owned()),
            created_at: Some(account.created_at.to_rfc3339()),
        }
    }

    /// Takes the hash of the passphrase away.
    pub(super) fn take_passphrase_hash(&mut self) -> Option<String> {
        self.passphrase_hash.take()
    }
}

/// Turns a line that was written for an account into that account; `None` if any part of it is lost.
pub(super) fn to_import(line: AccountLine, now: Timestamp) -> Option<ImportedAccount> {
    let has_password = line.password_hash.is_some();
    let defaults = Defaults { verified: false, locale: Locale::default(), now };
    match account(line, defaults, &mut Seen::default()) {
        // Without a password, the only note says so.
        Item::Account { account, notes, .. } if notes.len() == usize::from(!has_password) => Some(account.account),
        _ => None,
    }
}

/// What earlier lines had.
#[derive(Default)]
struct Seen {
    numbers: HashSet<u64>,
    addresses: HashSet<EmailKey>,
}

/// Reads every account and hands it over. Stops when `each` returns false.
///
/// A line that is no account refuses the whole file: it shows that the file was made in a wrong way.
pub(super) fn read(file: &Path, defaults: Defaults, mut each: impl FnMut(Item) -> bool) -> Result<(), NdjsonError> {
    let at = |source| NdjsonError::File { file: file.to_owned(), source };
    let mut reader = BufReader::new(File::open(file).map_err(at)?);
    let (mut seen, mut number, mut bytes) = (Seen::default(), 0, Vec::new());
    loop {
        bytes.clear();
        number += 1;
        let read = (&mut reader).take(MAX_LINE_BYTES + 1).read_until(b'\n', &mut bytes).map_err(at)?;
        if read == 0 {
            return Ok(());
        }
        let wrong = |why: String| NdjsonError::Line { file: file.to_owned(), line: number, why };
        if bytes.len() as u64 > MAX_LINE_BYTES {
            return Err(wrong(format!("it is longer than {MAX_LINE_BYTES} bytes")));
        }
        if bytes.iter().all(u8::is_ascii_whitespace) {
            continue;
        }
        let line: AccountLine = serde_json::from_slice(&bytes).map_err(|error| wrong(describe(&error)))?;
        let mut item = account(line, defaults, &mut seen);
        let (Item::Account { subject, .. } | Item::Skipped(subject, _)) = &mut item;
        subject.line = Some(number);
        if !each(item) {
            return Ok(());
        }
    }
}

/// Describes what is wrong with a line without its values.
fn describe(error: &serde_json::Error) -> String {
    match error.classify() {
        serde_json::error::Category::Data => {
            // The message names a field or a type, but may quote a value of the wrong type behind "invalid type: ".
            let text = error.to_string();
            match text.split_once("invalid type: ") {
                Some(_) => format!("a value has the wrong type, at column {}", error.column()),
                None => text,
            }
        }
        _ => format!("it is not a JSON object, at column {}", error.column()),
    }
}

/// Turns a line into an account, with notes about what it could not keep.
fn account(line: AccountLine, defaults: Defaults, seen: &mut Seen) -> Item {
    let id = line.id.filter(|id| *id <= NUMBER_LIMIT).and_then(AccountId::new);
    let subject = Subject::new(id, Some(&line.email));
    if line.id.is_some() && id.is_none() {
        let detail = "its number is not a whole number from 1 to 9007199254740991";
        return Item::Skipped(subject, Note::new(Reason::NumberInvalid, detail));
    }
    let email = match Email::parse(&line.email) {
        Ok(email) => email,
        Err(error) => return Item::Skipped(subject, Note::new(Reason::EmailInvalid, error.to_string())),
    };
    if id.is_some_and(|id| !seen.numbers.insert(id.get())) {
        return Item::Skipped(subject, Note::new(Reason::NumberRepeated, "an earlier line has this number"));
    }
    if !seen.addresses.insert(email.key().clone()) {
        let detail = "an earlier line has this address, maybe in other letter case";
        return Item::Skipped(subject, Note::new(Reason::EmailTaken, detail));
    }
    let mut notes = Vec::new();
    let mut note = |reason, detail: &str| notes.push(Note::new(reason, detail));
    let password_hash = password(line.password_hash.as_deref(), &mut note);
    let passphrase_hash = line.passphrase_hash.as_deref().and_then(|hash| {
        let read = CredentialHash::from_own(hash);
        read.map_err(|error| note(Reason::PassphraseInvalid, &format!("{error}; passphrases are argon2id"))).ok()
    });
    let role = match line.role.as_deref() {
        None | Some("user") => Role::User,
        Some("admin") => Role::Admin,
        Some(_) => {
            note(Reason::RoleUnknown, "its role is neither user nor admin, and became user");
            Role::User
        }
    };
    let customer_account =
        line.customer_account.map_or(Ok(CustomerAccount::none()), |plan| CustomerAccount::parse(&plan));
    let customer_account = customer_account.unwrap_or_else(|error| {
        note(Reason::PlanInvalid, &error.to_string());
        CustomerAccount::none()
    });
    let locale = line.locale.map_or(Some(defaults.locale), |locale| Locale::from_tag(&locale)).unwrap_or_else(|| {
        note(Reason::LocaleUnknown, "its language is none of those of mails");
        defaults.locale
    });
    let created_at =
        line.created_at.map_or(Some(defaults.now), |at| Timestamp::parse_rfc3339(&at)).unwrap_or_else(|| {
            note(Reason::CreationUnclear, "created_at is not a time, so it counts as created now");
            defaults.now
        });
    let nickname = nickname(line.nickname.as_deref(), id, &mut note);
    let account = ImportedAccount {
        id,
        email,
        nickname,
        password_hash,
        passphrase_hash,
        role,
        locked: line.lock,
        email_verified: line.email_verified || defaults.verified,
        profile: ProfileChange { customer_account: Some(customer_account), locale: Some(locale) },
        created_at,
    };
    Item::Account { subject, account: Box::new(AccountToImport { account, passphrase: None }), notes }
}

fn password(hash: Option<&str>, note: &mut impl FnMut(Reason, &str)) -> Option<CredentialHash> {
    let Some(hash) = hash else {
        note(Reason::PasswordMissing, "it has no password; its owner can recover the account");
        return None;
    };
    let read = CredentialHash::from_foreign(hash);
    read.map_err(|error| {
        let reason = match error {
            ForeignHashError::TooCostly => Reason::PasswordTooCostly,
            _ => Reason::PasswordUnknown,
        };
        note(reason, &format!("{error}, so it has no password; its owner can recover the account"));
    })
    .ok()
}

/// Returns the name of an account. One without a usable name is called by its number, or `user` if it has none; the rule adds its number.
fn nickname(typed: Option<&str>, id: Option<AccountId>, note: &mut impl FnMut(Reason, &str)) -> Nickname {
    match typed.map(Nickname::parse) {
        Some(Ok(nickname)) => return nickname,
        Some(Err(error)) => note(Reason::NicknameInvalid, &format!("{error}, so it was changed")),
        None => note(Reason::NicknameMissing, "it has no nickname and got one"),
    }
    cleaned_nickname(typed.unwrap_or_default(), Nickname::numbered(id.map(AccountId::get)))
}
