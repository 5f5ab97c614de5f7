//! Lines of JSON: exports of other systems, and Doorward's own.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use reqwest::StatusCode;
use serde_json::{Value, json};

use crate::program::{Data, Run};

/// Hashes of `correct horse`: bcrypt of cost 4, scrypt, PBKDF2 with SHA-512, and argon2id with four lanes.
fn hashes() -> [String; 4] {
    let argon2 = argon2::Params::new(256, 2, 4, Some(32)).unwrap();
    let mut key = [0; 32];
    let argon2 = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, argon2);
    argon2.hash_password_into(b"correct horse", b"0123456789abcdef", &mut key).unwrap();
    let key = base64::Engine::encode(&base64::engine::general_purpose::STANDARD_NO_PAD, key);
    [
        "$2b$04$KBCwKxOzLha2MUDyiq.5ve0B8l4VLCNgW3iezEF4xH2yBbe.5Q7QW".to_owned(),
        "$scrypt$ln=10,r=8,p=1$MDEyMzQ1Njc4OWFiY2RlZg$6g3umF+uVrJsObaTZhIbbTlgrvOEFcCItdwSjtPF67M".to_owned(),
        "$pbkdf2-sha512$i=1000,l=64$MDEyMzQ1Njc4OWFiY2RlZg$OM0FAoIqCVK1sWtxDiffVlBejtLa+ks4TP71JiecwuSZCG8iLbnlIEPOMoVX+i2B2wkSxjQ8CRGR9OkNGuIPMQ".to_owned(),
        format!("$argon2id$v=19$m=256,t=2,p=4$MDEyMzQ1Njc4OWFiY2RlZg${key}"),
    ]
}

impl Data {
    fn import_lines(&self, lines: &str, more: &[&str]) -> Run {
        let file = self.beside("accounts.ndjson");
        fs::write(&file, lines).unwrap();
        self.run(&[&["import", "--ndjson", file.to_str().unwrap()], more].concat())
    }

    fn beside(&self, name: &str) -> PathBuf {
        self.path().with_file_name(name)
    }
}

fn lines(accounts: &[Value]) -> String {
    accounts.iter().map(Value::to_string).collect::<Vec<_>>().join("\n")
}

#[test]
fn accounts_of_many_systems_log_in_with_their_old_passwords() {
    let accounts: Vec<Value> = hashes()
        .iter()
        .enumerate()
        .map(|(n, hash)| json!({"email": format!("p{n}@example.com"), "nickname": format!("p{n}"), "password_hash": hash}))
        .collect();
    let data = Data::new();
    let run = data.import_lines(&lines(&accounts), &[]);
    assert_eq!((run.code, run.out.as_str()), (Some(0), ""), "{}", run.err);
    let server = data.serve(&[]);
    tokio::runtime::Runtime::new().unwrap().block_on(async {
        for n in 0..accounts.len() {
            let email = format!("p{n}@example.com");
            assert_eq!(server.login(&email, "wrong horse").await.0, StatusCode::UNAUTHORIZED, "{n}");
            assert_eq!(server.login(&email, "correct horse").await.0, StatusCode::OK, "{n}");
        }
    });
    server.stop();
    for id in 1..=4 {
        let hash = data.account(id).unwrap().password_hash.unwrap();
        assert!(hash.as_phc().starts_with("$argon2id$v=19$m=19456,t=2,p=1$"), "{}", hash.as_phc());
    }
    assert!(data.import_lines(&lines(&accounts), &[]).err.contains("0 accounts imported, 4 imported earlier"));
}

#[test]
fn an_export_is_imported_elsewhere_as_it_was() {
    let [bcrypt, ..] = hashes();
    let own = "$argon2id$v=19$m=19456,t=2,p=1$MDEyMzQ1Njc4OWFiY2RlZg$MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY";
    let accounts = [
        json!({"id": 7, "email": "ann@example.com", "nickname": "Ann", "password_hash": bcrypt, "passphrase_hash": own,
               "role": "admin", "lock": false, "customer_account": "gold", "email_verified": true, "locale": "de",
               "created_at": "2024-02-29T10:00:00.000Z"}),
        json!({"id": 9, "email": "bob@example.com", "nickname": "Bob", "password_hash": own, "lock": true}),
    ];
    let (one, other) = (Data::new(), Data::new());
    assert_eq!(one.import_lines(&lines(&accounts), &[]).code, Some(0));
    let file = one.beside("export.ndjson");
    let run = one.run(&["export", "--with-hashes", "--to", file.to_str().unwrap()]);
    assert_eq!(run.code, Some(0), "{}", run.err);
    assert!(run.err.contains("2 accounts exported"), "{}", run.err);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let exported = fs::read_to_string(&file).unwrap();
    let first: Value = serde_json::from_str(exported.lines().next().unwrap()).unwrap();
    assert_eq!(first, accounts[0]);
    assert_eq!(other.import_lines(&exported, &[]).code, Some(0));
    for id in [7, 9] {
        assert_eq!(other.account(id), one.account(id));
    }
    let run = one.run(&["export"]);
    assert_eq!((run.code, run.out.lines().count()), (Some(0), 2), "{}", run.err);
    assert!(!run.out.contains("hash") && !run.out.contains("$argon2"), "{}", run.out);
    assert_eq!(one.run(&["export", "--to", file.to_str().unwrap()]).code, Some(1), "no file is overwritten");
    assert!(Data::new().run(&["export"]).err.contains("there is no database"));
}

#[test]
fn a_line_that_is_no_account_refuses_the_file_and_prints_no_value_of_it() {
    let good = r#"{"email":"ann@example.com"}"#;
    for (bad, why) in [
        ("{\"email\":", "line 2: it is not a JSON object"),
        ("[1]", "line 2: "),
        ("\"kanarienvogel\"", "line 2: a value has the wrong type"),
        (r#"{"email":"b@example.com","lock":"kanarienvogel"}"#, "line 2: a value has the wrong type"),
        (r#"{"email":"b@example.com","pasword_hash":"x"}"#, "unknown field `pasword_hash`"),
        (r#"{"email":"b@example.com","id":1,"id":2}"#, "duplicate field `id`"),
        (r#"{"nickname":"b"}"#, "missing field `email`"),
        (&format!(r#"{{"email":"{}"}}"#, "x".repeat(70_000)), "longer than 65536 bytes"),
    ] {
        let data = Data::new();
        let run = data.import_lines(&format!("{good}\n{bad}\n"), &[]);
        assert_eq!(run.code, Some(1), "{bad:.60}");
        assert!(run.err.contains(why) && run.err.contains("nothing was imported"), "{bad:.60}: {}", run.err);
        assert!(!run.err.contains("kanarienvogel"), "{}", run.err);
        assert!(!data.path().exists());
    }
    let data = Data::new();
    let run = data.run(&["import", "--ndjson", "missing.ndjson"]);
    assert!(run.code == Some(1) && run.err.contains("missing.ndjson"), "{}", run.err);
    for arguments in [&["import"] as &[&str], &["import", "--ndjson", "a", "--from-auth-service", "b"]] {
        assert_eq!(data.run(arguments).code, Some(2), "exactly one source");
    }
}

#[test]
fn s85_hostile_hashes_and_duplicates_are_left_out_and_reported() {
    let (salt, key) = ("A".repeat(22), "A".repeat(43));
    let with = |id: u64, hash: &str| json!({"id": id, "email": format!("p{id}@example.com"), "nickname": format!("p{id}"), "password_hash": hash});
    let accounts = [
        with(1, &format!("$argon2id$v=19$m=4194304,t=1,p=1${salt}${key}")),
        with(2, &format!("$scrypt$ln=30,r=8,p=1${salt}${key}")),
        with(3, &format!("$2b$31${}", ".".repeat(53))),
        with(4, "plain text"),
        with(5, &format!("$argon2id$v=19$m=64,t=1,p=1$AAAA${key}")),
        json!({"id": 1, "email": "again@example.com"}),
        json!({"id": 6, "email": "P1@EXAMPLE.com"}),
        json!({"id": 0, "email": "zero@example.com"}),
        json!({"id": 8, "email": "p8@example.com", "nickname": "p8", "passphrase_hash": hashes()[0], "locale": "tlh",
               "created_at": "yesterday", "role": "root", "customer_account": "a\u{7}b"}),
    ];
    let data = Data::new();
    let run = data.import_lines(&lines(&accounts), &[]);
    assert_eq!(run.code, Some(3), "{}", run.err);
    for (id, reasons) in [
        (1, &["password_too_costly", "number_repeated"] as &[&str]),
        (2, &["password_too_costly"]),
        (3, &["password_too_costly"]),
        (4, &["password_unknown"]),
        (5, &["password_unknown"]),
        (6, &["email_taken"]),
        (
            8,
            &[
                "password_missing",
                "passphrase_invalid",
                "role_unknown",
                "plan_invalid",
                "locale_unknown",
                "creation_unclear",
            ],
        ),
    ] {
        assert_eq!(run.reasons(id), reasons, "{id}: {}", run.out);
    }
    assert!(run.out.contains("number_invalid") && run.report().iter().all(|line| line["line"].is_u64()), "{}", run.out);
    assert!((1..=5).all(|id| data.account(id).unwrap().password_hash.is_none()));
}
