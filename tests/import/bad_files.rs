//! Files that cannot be imported: each is named, the exit code says so, and nothing is half done.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

use crate::old::{OldDatabase, Row};
use crate::program::{Data, Run};

/// Checks that an import was refused as a whole.
#[track_caller]
fn refused(data: &Data, run: &Run, file: &Path, why: &str) {
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(run.err.contains(why), "{run:?}");
    assert!(run.err.contains(file.to_str().unwrap()) || why.contains("number"), "{run:?}");
    assert_eq!(run.out, "");
    assert!(!data.path().exists(), "a refused import created a data directory");
}

#[test]
fn a_file_that_is_no_database_of_the_service_is_refused() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("old.db");
    let data = Data::new();
    refused(&data, &data.import(&file, &[]), &file, "No such file");
    refused(&data, &data.import(directory.path(), &[]), directory.path(), "it is not a file");
    for (content, why) in [(&b"These are not the rows."[..], "is not an SQLite database"), (b"", "has no table users")]
    {
        fs::write(&file, content).unwrap();
        refused(&data, &data.import(&file, &[]), &file, why);
    }
    for (table, why) in [
        ("CREATE TABLE people (id INTEGER PRIMARY KEY)", "has no table users"),
        ("CREATE VIEW users AS SELECT 1 AS id", "has no table users"),
        (
            "CREATE TABLE users (id INTEGER, nickname, email, password, role, customer_account, passphrase)",
            "lacks the column lock",
        ),
    ] {
        let database = OldDatabase::with_table(table, &[]);
        refused(&data, &data.import(&database.file, &[]), &database.file, why);
    }
}

#[test]
fn a_cut_or_damaged_database_is_refused_before_anything_is_written() {
    let database = OldDatabase::with(&(1..=300).map(Row::new).collect::<Vec<_>>());
    let whole = fs::read(&database.file).unwrap();
    assert!(whole.len() > 20_000);
    let data = Data::new();
    for cut in [100, 4096, whole.len() / 2, whole.len() - 4096] {
        fs::write(&database.file, &whole[..cut]).unwrap();
        let run = data.import(&database.file, &[]);
        refused(&data, &run, &database.file, "damaged");
    }
    let mut damaged = whole;
    let middle = damaged.len() / 2 / 4096 * 4096;
    damaged[middle..middle + 64].fill(0xA5);
    fs::write(&database.file, &damaged).unwrap();
    refused(&data, &data.import(&database.file, &[]), &database.file, "damaged");
}

#[test]
fn a_database_with_changes_beside_it_is_refused() {
    let database = OldDatabase::with(&[Row::new(1)]);
    let data = Data::new();
    for ending in ["-wal", "-journal"] {
        let beside = format!("{}{ending}", database.file.display());
        fs::write(&beside, "changes").unwrap();
        refused(&data, &data.import(&database.file, &[]), &database.file, "stop the old service");
        fs::remove_file(&beside).unwrap();
    }
    assert_eq!(data.import(&database.file, &[]).code, Some(0));
}

#[test]
fn a_taken_number_refuses_the_whole_import() {
    let data = Data::new();
    let mut create = data.command(&["admin", "create", "--email", "boss@example.com", "--nickname", "boss"]);
    create.env("DOORWARD_ADMIN_PASSWORD", "Quiet lamp 7 under blue stairs").env("DOORWARD_ADMIN_PASSPHRASE", "a b c");
    let created = create.output().unwrap();
    assert!(created.status.success(), "{created:?}");
    let database = OldDatabase::with(&[Row::new(3), Row::new(2), Row::new(1)]);
    let run = data.import(&database.file, &[]);
    assert_eq!(run.code, Some(1), "{run:?}");
    assert!(
        run.err.contains("the account number 1 is taken here") && run.err.contains("nothing was imported"),
        "{run:?}"
    );
    assert!([2, 3].into_iter().all(|id| data.account(id).is_none()));
    database.execute("DELETE FROM users WHERE id = 1");
    assert_eq!(data.import(&database.file, &[]).code, Some(0));
    assert!(data.account(3).is_some());
}
