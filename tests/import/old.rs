//! A database as the auth service made it, and its hashes, computed apart from the program.

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};

use aws_lc_rs::pbkdf2;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rusqlite::Connection;
use rusqlite::types::Value;
use tempfile::TempDir;

/// The table as `SQLAlchemy` creates it from the model of the service.
const TABLE: &str = "CREATE TABLE users (
    id INTEGER NOT NULL, nickname VARCHAR, email VARCHAR NOT NULL, password VARCHAR NOT NULL, role VARCHAR,
    customer_account VARCHAR, passphrase VARCHAR, token VARCHAR, iddle_time DATETIME, secret VARCHAR(24), lock BOOLEAN,
    PRIMARY KEY (id))";

/// One row. The defaults are those of the table.
#[derive(Clone)]
pub(crate) struct Row {
    pub(crate) id: Value,
    pub(crate) nickname: Value,
    pub(crate) email: Value,
    pub(crate) password: Value,
    pub(crate) role: Value,
    pub(crate) plan: Value,
    pub(crate) passphrase: Value,
    pub(crate) lock: Value,
}

pub(crate) fn text(text: &str) -> Value {
    Value::Text(text.to_owned())
}

impl Row {
    /// A user with this number, whose password is `password {id}`.
    pub(crate) fn new(id: i64) -> Self {
        Self {
            id: Value::Integer(id),
            nickname: text(&format!("person {id}")),
            email: text(&format!("Person{id}@example.com")),
            password: text(&hash(&password(id), 10)),
            role: text("user"),
            plan: text("none"),
            passphrase: text("none"),
            lock: Value::Integer(0),
        }
    }
}

pub(crate) fn password(id: i64) -> String {
    format!("the password of person {id}")
}

/// Hashes a password as the service did, with these passes instead of 600,000.
pub(crate) fn hash(password: &str, passes: u32) -> String {
    let salt = b"sixteen bytes ..";
    let mut key = [0; 32];
    pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, NonZeroU32::new(passes).unwrap(), salt, password.as_bytes(), &mut key);
    format!("pbkdf2-sha256${passes}${}${}", STANDARD.encode(salt), STANDARD.encode(key))
}

/// A database in a directory of its own.
pub(crate) struct OldDatabase {
    directory: TempDir,
    pub(crate) file: PathBuf,
}

impl OldDatabase {
    pub(crate) fn with(rows: &[Row]) -> Self {
        Self::with_table(TABLE, rows)
    }

    pub(crate) fn with_table(table: &str, rows: &[Row]) -> Self {
        let directory = TempDir::new().unwrap();
        let file = directory.path().join("sql app?.db");
        let database = Self { directory, file };
        let mut connection = Connection::open(&database.file).unwrap();
        connection.execute_batch(table).unwrap();
        let transaction = connection.transaction().unwrap();
        for row in rows {
            insert(&transaction, row);
        }
        transaction.commit().unwrap();
        database
    }

    pub(crate) fn add(&self, row: &Row) {
        insert(&Connection::open(&self.file).unwrap(), row);
    }

    pub(crate) fn execute(&self, sql: &str) {
        Connection::open(&self.file).unwrap().execute_batch(sql).unwrap();
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }
}

fn insert(connection: &Connection, row: &Row) {
    let Row { id, nickname, email, password, role, plan, passphrase, lock } = row.clone();
    let columns = "id, nickname, email, password, role, customer_account, passphrase, lock";
    connection
        .execute(
            &format!("INSERT INTO users ({columns}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"),
            [id, nickname, email, password, role, plan, passphrase, lock],
        )
        .unwrap();
}
