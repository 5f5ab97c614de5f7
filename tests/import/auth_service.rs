//! An import from the auth service that Doorward replaces.

use doorward_actors::{AccountOrigin, AuditEvent, AuditFilter, AuditOrder, AuditQuery, HashForms, Role};
use reqwest::StatusCode;
use rusqlite::types::Value;
use serde_json::json;

use crate::old::{OldDatabase, Row, hash, password, text};
use crate::program::{Data, Server};

const NEW_PASSWORD: &str = "Another sturdy password 7!";

fn email(id: i64) -> String {
    format!("person{id}@example.com")
}

async fn id_of(server: &Server, id: i64, with: &str) -> Option<i64> {
    let (status, body) = server.login(&email(id), with).await;
    (status == StatusCode::OK).then(|| body["user"]["id"].as_i64().unwrap())
}

#[test]
fn s06_s85_a_thousand_accounts_log_in_and_recover_with_what_they_had_and_become_argon2id() {
    let mut rows: Vec<Row> = (1..=1000).map(Row::new).collect();
    for row in rows.iter_mut().step_by(10) {
        row.passphrase = text(&format!("  My First {:?} CAR", row.id));
    }
    // The cost that the service really used.
    rows[4].password = text(&hash(&password(5), 600_000));
    rows[0].role = text("admin");
    let database = OldDatabase::with(&rows);
    let data = Data::new();
    let run = data.import(&database.file, &[]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    assert_eq!(run.out, "");
    assert!(run.err.contains("1000 accounts imported, 0 imported earlier"), "{}", run.err);
    let before = data.account(7).unwrap();
    assert!(before.password_hash.unwrap().as_phc().starts_with("$pbkdf2-sha256$i=10,l=32$"));
    assert!(before.passphrase_hash.is_none());
    assert!(data.account(11).unwrap().passphrase_hash.unwrap().as_phc().starts_with("$argon2id$"));

    let server = data.serve(&[("REQUIRE_EMAIL_VERIFICATION", "true")]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        for id in 1..=1000 {
            assert_eq!(id_of(&server, id, &password(id)).await, Some(id), "{id}");
        }
        assert_eq!(id_of(&server, 2, &password(3)).await, None);
        for id in (1..=1000).step_by(10) {
            let passphrase = format!("my first {:?} car", Value::Integer(id));
            let body = json!({"email": email(id), "passphrase": passphrase, "new_password": NEW_PASSWORD});
            assert_eq!(server.post("/recovery", &body).await.0, StatusCode::OK, "{id}");
            assert_eq!(id_of(&server, id, NEW_PASSWORD).await, Some(id), "{id}");
        }
        let body = json!({"email": email(2), "passphrase": "none", "new_password": NEW_PASSWORD});
        assert_eq!(server.post("/recovery", &body).await.0, StatusCode::BAD_REQUEST, "it is nobody's passphrase");
        // Registrations continue above the imported numbers, and nobody becomes an administrator by the first-user rule.
        let body =
            json!({"email": "new@example.com", "nickname": "new", "password": NEW_PASSWORD, "passphrase": "a b c"});
        assert_eq!(server.post("/register", &body).await.1["id"], 1001);
    });
    // Hashes are renewed after the answer, at the latest before the stop.
    server.stop();

    for id in 1..=1000 {
        let account = data.account(id).unwrap();
        assert!(account.password_hash.unwrap().as_phc().starts_with("$argon2id$"), "{id}");
        assert_eq!(account.origin, AccountOrigin::Import);
    }
    assert_eq!(data.account(1001).unwrap().role, Role::User);
    let forms = data.ask(async |store| store.hash_forms().await.unwrap());
    assert_eq!(forms, HashForms { accounts: 1001, foreign: Vec::new() }, "no foreign hash is left");

    let again = data.import(&database.file, &[]);
    assert_eq!(again.code, Some(0), "{}", again.err);
    assert!(again.err.contains("0 accounts imported, 1000 imported earlier and left alone"), "{}", again.err);
    assert!(data.account(7).unwrap().password_hash.unwrap().as_phc().starts_with("$argon2id$"));
}

#[test]
fn a_second_import_changes_nothing_and_brings_only_what_is_new() {
    let database = OldDatabase::with(&(1..=5).map(Row::new).collect::<Vec<_>>());
    let data = Data::new();
    assert_eq!(data.import(&database.file, &[]).code, Some(0));
    let everything = |data: &Data| {
        let page = doorward_actors::store::Page { skip: 0, limit: 100 };
        let query = AuditQuery {
            filter: AuditFilter::default(),
            order: AuditOrder::OldestFirst,
            after: None,
            limit: 100,
            scan: 100,
        };
        data.ask(async |store| {
            (store.accounts(page).await.unwrap(), format!("{:?}", store.audit_page(query).await.unwrap()))
        })
    };
    let before = everything(&data);
    assert_eq!(data.import(&database.file, &[]).code, Some(0));
    assert_eq!(everything(&data), before);
    assert!(before.1.contains(&format!("{:?}", AuditEvent::AccountsImported)));

    // One leaves, one changes its name, and two come.
    let server = data.serve(&[]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (leaves, renamed) = runtime.block_on(async {
        (server.login(&email(2), &password(2)).await.1, server.login(&email(3), &password(3)).await.1)
    });
    runtime.block_on(async {
        server.delete_own(leaves["access_token"].as_str().unwrap()).await;
        server.rename(renamed["access_token"].as_str().unwrap(), "Somebody else").await;
    });
    server.stop();
    database.add(&Row::new(6));
    database.add(&Row { email: text("PERSON3@example.com"), ..Row::new(7) });
    let run = data.import(&database.file, &[]);
    assert_eq!(run.code, Some(3), "{}", run.err);
    assert_eq!(run.reasons(2), ["deleted_since"]);
    assert!(data.account(2).is_none(), "what was deleted does not come back");
    assert!(data.account(6).is_some());
    assert_eq!(run.reasons(7), ["email_taken"]);
    assert!(data.account(7).is_none());
    assert_eq!(data.account(3).unwrap().nickname.as_str(), "Somebody else", "what changed here is left alone");
}

#[test]
fn an_interrupted_import_says_how_far_it_came_and_is_continued() {
    let rows: Vec<Row> = (1..=1500).map(|id| Row { role: text("owner"), ..Row::new(id) }).collect();
    let database = OldDatabase::with(&rows);
    let data = Data::new();
    let mut command = data.command(&["import", "--from-auth-service", database.file.to_str().unwrap()]);
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let output = command.stdout(full).output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{err}");
    assert!(err.contains("the report cannot be written") && err.contains("the same command continues"), "{err}");
    assert_eq!(data.ask(async |store| store.hash_forms().await.unwrap().accounts), 512, "one batch");
    let run = data.import(&database.file, &[]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    assert!(run.err.contains("988 accounts imported, 512 imported earlier"), "{}", run.err);
    assert!(data.account(1500).is_some());
}

#[test]
fn what_cannot_be_kept_is_reported_and_nothing_is_dropped_in_silence() {
    let rows = [
        Row { role: text("admin"), plan: text("gold"), lock: Value::Integer(0), ..Row::new(1) },
        Row { nickname: text("PERSON 1"), ..Row::new(2) },
        Row { nickname: Value::Null, ..Row::new(3) },
        Row { nickname: text("a\u{1b}[31mb\n"), ..Row::new(4) },
        Row { email: text("PERSON1@EXAMPLE.COM"), ..Row::new(5) },
        Row { email: text("not an address"), ..Row::new(6) },
        Row { role: text("owner"), ..Row::new(7) },
        Row { lock: Value::Integer(1), role: Value::Null, ..Row::new(8) },
        Row { password: text("plain"), passphrase: text(""), ..Row::new(9) },
        Row { password: text("pbkdf2-sha256$999999999$c2l4dGVlbiBieXRlcw==$c2l4dGVlbiBieXRlcw=="), ..Row::new(10) },
        Row { passphrase: Value::Null, plan: text("plan\nwith a break"), ..Row::new(11) },
        Row { passphrase: text(&"x".repeat(2000)), lock: text("maybe"), ..Row::new(12) },
        Row { id: Value::Integer(-5), ..Row::new(13) },
    ];
    let database = OldDatabase::with(&rows);
    let data = Data::new();
    let dry = data.import(&database.file, &["--dry-run"]);
    assert!(!data.path().exists(), "a dry run does not even create the data directory");
    let run = data.import(&database.file, &[]);
    assert_eq!((run.code, dry.code), (Some(3), Some(3)), "{}", run.err);
    assert_eq!(run.report(), dry.report(), "a dry run reports what an import does");
    let expected: [(i64, &[&str]); 13] = [
        (1, &[]),
        (2, &["nickname_taken"]),
        (3, &["nickname_missing"]),
        (4, &["nickname_invalid"]),
        (5, &["email_taken"]),
        (6, &["email_invalid"]),
        (7, &["role_unknown"]),
        (8, &["role_unknown"]),
        (9, &["password_unknown"]),
        (10, &["password_too_costly"]),
        (11, &["plan_invalid"]),
        (12, &["passphrase_invalid", "lock_unclear"]),
        (13, &[]),
    ];
    for (id, reasons) in expected {
        assert_eq!(run.reasons(id), reasons, "{id}");
    }
    assert!(run.out.contains(r#""result":"skipped","reason":"number_invalid""#), "{}", run.out);
    let name = |id| data.account(id).unwrap().nickname.as_str().to_owned();
    assert_eq!((name(2), name(3), name(4)), ("PERSON 1-2".to_owned(), "user-3".to_owned(), "a[31mb".to_owned()));
    let account = |id| data.account(id).unwrap();
    assert_eq!((account(1).role, account(1).customer_account.as_str().to_owned()), (Role::Admin, "gold".to_owned()));
    assert_eq!((account(7).role, account(8).locked, account(12).locked), (Role::User, true, true));
    assert!(account(9).password_hash.is_none() && account(10).password_hash.is_none());
    assert!([5, 6].into_iter().all(|id| data.account(id).is_none()));
    assert!(!account(1).email_verified);
}

#[test]
fn verified_marks_the_addresses_and_a_report_goes_to_a_file_of_its_own() {
    let database = OldDatabase::with(&[Row::new(1), Row { email: text("x"), ..Row::new(2) }]);
    let data = Data::new();
    let report = database.path().join("report.ndjson");
    let report = report.to_str().unwrap();
    let run = data.import(&database.file, &["--verified", "--report", report]);
    assert_eq!((run.code, run.out.as_str()), (Some(3), ""), "{}", run.err);
    assert!(data.account(1).unwrap().email_verified);
    let written = std::fs::read_to_string(report).unwrap();
    assert!(written.contains("email_invalid") && written.lines().count() == 1, "{written}");
    let run = data.import(&database.file, &["--report", report]);
    assert_eq!(run.code, Some(1), "an older report is not overwritten");
    assert!(run.err.contains("nothing was imported"), "{}", run.err);
}
