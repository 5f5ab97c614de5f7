//! An import through the server that has the data directory open.

use std::process::Stdio;

use reqwest::StatusCode;
use serde_json::json;

use crate::old::{OldDatabase, Row, hash, password, text};
use crate::program::{Data, Server};

/// Rows with something to report of each kind, and passphrases to hash.
fn rows() -> Vec<Row> {
    let mut rows: Vec<Row> = (1..=300).map(Row::new).collect();
    for row in rows.iter_mut().step_by(50) {
        row.passphrase = text(&format!("My First {:?} CAR", row.id));
    }
    rows[0].role = text("admin");
    rows[1].role = text("moderator");
    rows[2].email = text("no address");
    rows[3].nickname = text("person 5");
    rows[4].password = text("!");
    rows[5].password = text(&hash(&password(6), 2_000_000));
    rows[6].email = text("PERSON8@example.com");
    rows[8].lock = rusqlite::types::Value::Integer(1);
    rows
}

async fn logs_in(server: &Server, id: i64) -> StatusCode {
    server.login(&format!("person{id}@example.com"), &password(id)).await.0
}

/// Returns the last line of what a command says on standard error.
fn summary(err: &str) -> &str {
    err.lines().rfind(|line| line.contains(" accounts ")).unwrap()
}

#[test]
fn an_import_through_a_running_server_is_the_same_as_without_one() {
    let database = OldDatabase::with(&rows());
    let (alone, data) = (Data::new(), Data::new());
    let expected = alone.import(&database.file, &[]);
    let dry_alone = alone.import(&database.file, &["--dry-run"]);
    let server = data.serve(&[]);
    let runtime = tokio::runtime::Runtime::new().unwrap();

    let dry = data.import(&database.file, &["--dry-run"]);
    assert_eq!((dry.code, &dry.out), (expected.code, &expected.out), "{}", dry.err);
    assert!(summary(&dry.err).contains("would be imported (dry run)"), "{}", dry.err);
    assert_eq!(runtime.block_on(logs_in(&server, 1)), StatusCode::UNAUTHORIZED, "a dry run wrote nothing");

    let run = data.import(&database.file, &[]);
    assert_eq!((run.code, &run.out), (expected.code, &expected.out), "{}", run.err);
    assert_eq!(summary(&run.err), summary(&expected.err));
    runtime.block_on(async {
        assert_eq!(logs_in(&server, 1).await, StatusCode::OK, "at once");
        assert_eq!(logs_in(&server, 9).await, StatusCode::UNAUTHORIZED, "locked");
        let body = json!({"email": "person51@example.com", "passphrase": "my first integer(51) car",
            "new_password": "Another sturdy password 7!"});
        assert_eq!(server.post("/recovery", &body).await.0, StatusCode::OK);
        let body = json!({"email": "new@example.com", "nickname": "new", "password": "Another sturdy password 7!",
            "passphrase": "a b c"});
        assert_eq!(server.post("/register", &body).await.1["id"], 301);
    });
    let again = data.import(&database.file, &[]);
    assert_eq!(again.out, dry_alone.out, "a second import leaves all alone");
    assert!(summary(&again.err).contains(" 0 accounts imported, "), "{}", again.err);
    server.stop();
    for id in [2, 4, 5, 7, 300] {
        let (here, there) = (data.account(id).unwrap(), alone.account(id).unwrap());
        assert_eq!((&here.nickname, &here.role, &here.origin), (&there.nickname, &there.role, &there.origin), "{id}");
        assert_eq!((&here.password_hash, &here.customer_account), (&there.password_hash, &there.customer_account));
    }
}

#[test]
fn a_number_that_is_taken_refuses_an_import_through_a_server_before_anything_is_written() {
    let data = Data::new();
    let server = data.serve(&[]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let body = json!({"email": "ann@example.com", "nickname": "ann", "password": "Another sturdy password 7!",
        "passphrase": "a b c"});
    assert_eq!(runtime.block_on(server.post("/register", &body)).0, StatusCode::CREATED);
    let rows: Vec<_> = (1..=3).rev().map(Row::new).collect();
    let run = data.import(&OldDatabase::with(&rows).file, &[]);
    assert!(run.code == Some(1) && run.err.contains("account number 1 is taken"), "{run:?}");
    assert!(run.err.contains("nothing was imported"), "{run:?}");
    assert_eq!(runtime.block_on(logs_in(&server, 3)), StatusCode::UNAUTHORIZED);
    std::fs::remove_file(data.path().join("control/socket")).unwrap();
    let run = data.import(&OldDatabase::with(&rows[..1]).file, &[]);
    assert!(run.code == Some(1) && run.err.contains("control socket"), "{run:?}");
    server.stop();
}

#[test]
fn requests_are_answered_while_accounts_are_imported() {
    let first = OldDatabase::with(&[Row::new(1)]);
    let many: Vec<Row> = (1..=5000).map(Row::new).collect();
    let many = OldDatabase::with(&many);
    let data = Data::new();
    let server = data.serve(&[]);
    assert_eq!(data.import(&first.file, &[]).code, Some(0));
    let mut import = data.command(&["import", "--from-auth-service", many.file.to_str().unwrap()]);
    let mut import = import.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut logins = 0;
    let ended = loop {
        assert_eq!(runtime.block_on(logs_in(&server, 1)), StatusCode::OK);
        logins += 1;
        if let Some(ended) = import.try_wait().unwrap() {
            break ended;
        }
    };
    assert!(ended.success() && logins > 1, "{ended}, {logins}");
    assert_eq!(runtime.block_on(logs_in(&server, 5000)), StatusCode::OK);
    server.stop();
}
