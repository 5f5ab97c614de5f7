//! The database of the auth service that Doorward replaces: one `SQLite` file with the table `users`.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use doorward_actors::{
    AccountId, AccountToImport, CredentialHash, CustomerAccount, Email, ForeignHashError, ImportedAccount, Nickname,
    Passphrase, ProfileChange, Role, Timestamp,
};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, Row};

use super::report::{Note, Reason, Subject};
use super::{Defaults, Item, NUMBER_LIMIT, cleaned_nickname};

/// The columns that every version of the service has.
const COLUMNS: [&str; 8] = ["id", "nickname", "email", "password", "role", "customer_account", "passphrase", "lock"];
/// The columns that some versions have.
const OPTIONAL: [&str; 2] = ["email_verified", "created_at"];
/// The characters of a path that stand for themselves in the URI of an `SQLite` file.
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'.').remove(b'-').remove(b'_');
/// The default of the column `passphrase`, which is nobody's passphrase (S85).
const NO_PASSPHRASE: &str = "none";

/// Why the file cannot be imported. Nothing was written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AuthServiceError {
    /// The file cannot be opened.
    #[error("{file}: {source}")]
    File {
        /// Its path.
        file: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// `SQLite` cannot read it.
    #[error("{file} is not an SQLite database, or it is damaged: {source}")]
    Sqlite {
        /// Its path.
        file: PathBuf,
        /// What happened.
        source: rusqlite::Error,
    },
    /// It is damaged.
    #[error("{file} is damaged: {what}")]
    Damaged {
        /// Its path.
        file: PathBuf,
        /// What `SQLite` found.
        what: String,
    },
    /// The service did not stop cleanly, or still runs.
    #[error(
        "{file} has changes that are not in it yet, in {beside}: stop the old service, then run sqlite3 {file} 'PRAGMA user_version'"
    )]
    Unfinished {
        /// Its path.
        file: PathBuf,
        /// The file with the changes.
        beside: PathBuf,
    },
    /// There is no such table.
    #[error("{file} has no table users")]
    NoTable {
        /// Its path.
        file: PathBuf,
    },
    /// There is no such column.
    #[error("the table users of {file} lacks the column {column}")]
    NoColumn {
        /// Its path.
        file: PathBuf,
        /// The column.
        column: &'static str,
    },
}

/// An open database of the auth service.
pub(crate) struct AuthService {
    file: PathBuf,
    connection: Connection,
    /// Which of the optional columns there are.
    optional: BTreeSet<&'static str>,
}

impl AuthService {
    /// Opens the file read-only, without locks and without files beside it, and checks that it is whole and has what it needs.
    pub(crate) fn open(file: &Path) -> Result<Self, AuthServiceError> {
        let at = |source| AuthServiceError::File { file: file.to_owned(), source };
        let absolute = file.canonicalize().map_err(at)?;
        if !absolute.is_file() {
            return Err(at(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file")));
        }
        // A read-only look at the main file alone would miss what these have.
        for ending in ["-wal", "-journal"] {
            let mut beside = absolute.clone().into_os_string();
            beside.push(ending);
            let beside = PathBuf::from(beside);
            if beside.metadata().is_ok_and(|found| found.len() > 0) {
                return Err(AuthServiceError::Unfinished { file: file.to_owned(), beside });
            }
        }
        let bytes = absolute.as_os_str().as_encoded_bytes();
        let path: String = percent_encoding::percent_encode(bytes, PATH).collect();
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let sqlite = |source| AuthServiceError::Sqlite { file: file.to_owned(), source };
        let connection =
            Connection::open_with_flags(format!("file:{path}?mode=ro&immutable=1"), flags).map_err(sqlite)?;
        let mut opened = Self { file: file.to_owned(), connection, optional: BTreeSet::new() };
        opened.check()?;
        Ok(opened)
    }

    fn check(&mut self) -> Result<(), AuthServiceError> {
        let sqlite = |source| AuthServiceError::Sqlite { file: self.file.clone(), source };
        self.connection.pragma_update(None, "trusted_schema", false).map_err(sqlite)?;
        let found: String = self.connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(sqlite)?;
        if found != "ok" {
            return Err(AuthServiceError::Damaged { file: self.file.clone(), what: found });
        }
        let tables = "SELECT count(*) FROM sqlite_schema WHERE type = 'table' AND name = 'users'";
        let tables: i64 = self.connection.query_row(tables, [], |row| row.get(0)).map_err(sqlite)?;
        if tables == 0 {
            return Err(AuthServiceError::NoTable { file: self.file.clone() });
        }
        let mut columns =
            self.connection.prepare("SELECT lower(name) FROM pragma_table_info('users')").map_err(sqlite)?;
        let columns: Result<BTreeSet<String>, _> = columns.query_map([], |row| row.get(0)).map_err(sqlite)?.collect();
        let columns = columns.map_err(sqlite)?;
        if let Some(column) = COLUMNS.into_iter().find(|column| !columns.contains(*column)) {
            return Err(AuthServiceError::NoColumn { file: self.file.clone(), column });
        }
        self.optional = OPTIONAL.into_iter().filter(|column| columns.contains(*column)).collect();
        Ok(())
    }

    /// Reads every account, by number, and hands it over. Stops when `each` returns false.
    pub(crate) fn read(&self, defaults: Defaults, mut each: impl FnMut(Item) -> bool) -> Result<(), AuthServiceError> {
        let sqlite = |source| AuthServiceError::Sqlite { file: self.file.clone(), source };
        let optional = |column: &'static str| if self.optional.contains(column) { column } else { "NULL" };
        let select = format!(
            "SELECT {}, {}, {} FROM users ORDER BY id",
            COLUMNS.join(", "),
            optional("email_verified"),
            optional("created_at"),
        );
        let mut statement = self.connection.prepare(&select).map_err(sqlite)?;
        let mut rows = statement.query([]).map_err(sqlite)?;
        let mut before = None;
        while let Some(row) = rows.next().map_err(sqlite)? {
            let number = number(row).map_err(sqlite)?;
            let item = match number {
                Some(id) if before == Some(id) => {
                    let subject = Subject::new(Some(id), text(row, 2).map_err(sqlite)?.as_deref());
                    Item::Skipped(subject, Note::new(Reason::NumberRepeated, "an earlier row has this number"))
                }
                _ => account(row, number, defaults).map_err(sqlite)?,
            };
            before = number.or(before);
            if !each(item) {
                break;
            }
        }
        Ok(())
    }
}

/// Returns the number of an account, if it is one that can be kept.
fn number(row: &Row<'_>) -> rusqlite::Result<Option<AccountId>> {
    let ValueRef::Integer(id) = row.get_ref(0)? else { return Ok(None) };
    Ok(u64::try_from(id).ok().filter(|id| *id <= NUMBER_LIMIT).and_then(AccountId::new))
}

/// Returns a text; `None` for null and for what is not text.
fn text(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<String>> {
    Ok(match row.get_ref(column)? {
        ValueRef::Text(bytes) => std::str::from_utf8(bytes).ok().map(str::to_owned),
        // SQLite keeps a number in a column without a type as a number.
        ValueRef::Integer(number) => Some(number.to_string()),
        _ => None,
    })
}

/// Turns a row into an account, with notes about what it could not keep.
fn account(row: &Row<'_>, number: Option<AccountId>, defaults: Defaults) -> rusqlite::Result<Item> {
    let address = text(row, 2)?;
    let subject = Subject::new(number, address.as_deref());
    let Some(id) = number else {
        let detail = "its number is not a whole number from 1 to 9007199254740991";
        return Ok(Item::Skipped(subject, Note::new(Reason::NumberInvalid, detail)));
    };
    let email = match address.as_deref().map(Email::parse) {
        Some(Ok(email)) => email,
        Some(Err(error)) => return Ok(Item::Skipped(subject, Note::new(Reason::EmailInvalid, error.to_string()))),
        None => return Ok(Item::Skipped(subject, Note::new(Reason::EmailInvalid, "it has no address"))),
    };
    let mut notes = Vec::new();
    let mut note = |reason, detail: &str| notes.push(Note::new(reason, detail));
    let nickname = nickname(text(row, 1)?.as_deref(), id, &mut note);
    let password_hash = password(text(row, 3)?.as_deref(), &mut note);
    let role = match text(row, 4)?.as_deref() {
        Some("user") => Role::User,
        Some("admin") => Role::Admin,
        _ => {
            note(Reason::RoleUnknown, "its role is neither user nor admin, and became user");
            Role::User
        }
    };
    let plan = text(row, 5)?.unwrap_or_default();
    let customer_account = match CustomerAccount::parse(&plan) {
        Ok(plan) => plan,
        Err(_) if plan.trim().is_empty() => CustomerAccount::none(),
        Err(error) => {
            note(Reason::PlanInvalid, &error.to_string());
            CustomerAccount::none()
        }
    };
    let passphrase = passphrase(row, &mut note)?;
    let locked = flag(row, 7)?.unwrap_or_else(|| {
        note(Reason::LockUnclear, "it is not clear whether it is locked, and so it is");
        true
    });
    let email_verified = defaults.verified || flag(row, 8)?.unwrap_or(false);
    let created_at = created_at(row, defaults.now, &mut note)?;
    let account = ImportedAccount {
        id: Some(id),
        email,
        nickname,
        password_hash,
        passphrase_hash: None,
        role,
        locked,
        email_verified,
        profile: ProfileChange { customer_account: Some(customer_account), locale: Some(defaults.locale) },
        created_at,
    };
    Ok(Item::Account { subject, account: Box::new(AccountToImport { account, passphrase }), notes })
}

/// Returns the name of an account. One without a usable name is called by its number.
fn nickname(typed: Option<&str>, id: AccountId, note: &mut impl FnMut(Reason, &str)) -> Nickname {
    match typed.map(Nickname::parse) {
        Some(Ok(nickname)) => return nickname,
        Some(Err(error)) if typed.is_some_and(|typed| !typed.trim().is_empty()) => {
            note(Reason::NicknameInvalid, &format!("{error}, so it was changed"));
        }
        _ => note(Reason::NicknameMissing, "it has no nickname and is called by its number"),
    }
    cleaned_nickname(typed.unwrap_or_default(), Nickname::numbered(Some(id.get())))
}

fn password(stored: Option<&str>, note: &mut impl FnMut(Reason, &str)) -> Option<CredentialHash> {
    let Some(stored) = stored.filter(|stored| !stored.is_empty()) else {
        note(Reason::PasswordMissing, "it has no password; its owner can recover the account");
        return None;
    };
    match CredentialHash::from_auth_service(stored) {
        Ok(hash) => Some(hash),
        Err(error) => {
            let reason = match error {
                ForeignHashError::TooCostly => Reason::PasswordTooCostly,
                _ => Reason::PasswordUnknown,
            };
            note(reason, &format!("{error}, so it has no password; its owner can recover the account"));
            None
        }
    }
}

/// Returns the passphrase. Null, an empty text and the default of the column mean that there is none.
fn passphrase(row: &Row<'_>, note: &mut impl FnMut(Reason, &str)) -> rusqlite::Result<Option<Passphrase>> {
    if row.get_ref(6)? == ValueRef::Null {
        return Ok(None);
    }
    let stored = text(row, 6)?;
    Ok(match stored.as_deref().map(str::trim) {
        Some(typed) if typed.is_empty() || typed.eq_ignore_ascii_case(NO_PASSPHRASE) => None,
        Some(typed) => match Passphrase::parse(typed) {
            Ok(passphrase) => Some(passphrase),
            Err(error) => {
                note(Reason::PassphraseInvalid, &error.to_string());
                None
            }
        },
        None => {
            note(Reason::PassphraseInvalid, "its passphrase is not text");
            None
        }
    })
}

/// Returns a flag; `None` if it is neither. Null is false.
fn flag(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<bool>> {
    Ok(match row.get_ref(column)? {
        ValueRef::Null | ValueRef::Integer(0) => Some(false),
        ValueRef::Integer(1) => Some(true),
        ValueRef::Text(text) if text.eq_ignore_ascii_case(b"true") => Some(true),
        ValueRef::Text(text) if text.eq_ignore_ascii_case(b"false") => Some(false),
        _ => None,
    })
}

/// Returns when an account was created. `SQLAlchemy` writes `2025-05-02 10:00:00.000000`, in UTC.
fn created_at(row: &Row<'_>, now: Timestamp, note: &mut impl FnMut(Reason, &str)) -> rusqlite::Result<Timestamp> {
    if row.get_ref(9)? == ValueRef::Null {
        return Ok(now);
    }
    let stored = text(row, 9)?.unwrap_or_default();
    let in_utc = format!("{}Z", stored.trim().replacen(' ', "T", 1));
    let parsed = Timestamp::parse_rfc3339(&in_utc).or_else(|| Timestamp::parse_rfc3339(stored.trim()));
    Ok(parsed.unwrap_or_else(|| {
        note(Reason::CreationUnclear, "created_at is not a time, so it counts as created now");
        now
    }))
}
