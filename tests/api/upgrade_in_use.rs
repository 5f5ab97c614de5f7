//! A data directory in use, from before sessions could be refreshed. No user is logged out, nothing is lost, and the
//! migration to the present layout may be interrupted.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use doorward::engine::sled::{SledEngine, SledOptions};
use doorward_actors::store::chain::verify::AuditFinding;
use doorward_actors::{AuditHead, MailKind};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Person, TestApp, TestAppBuilder, leaks};

/// One minute after the logins, in seconds since the Unix epoch. The sessions are valid for half an hour.
const LATER: u64 = 1_795_489_885;
/// The head of the audit log, as logged at the stop.
const HEAD: &str = "13:e572930f71f9950e18b513549dcfd5c07d9d7e2bb447e4994274dcc99ae44f1b";
const MINE: &str = "/my_account/sessions";

struct Left {
    directory: TempDir,
    tokens: Value,
}

impl Left {
    fn behind() -> Self {
        let names = ["tests", "fixtures", "in-use-before-key-pairs"];
        let fixture: PathBuf = std::iter::once(env!("CARGO_MANIFEST_DIR")).chain(names).collect();
        let directory = TempDir::new().unwrap();
        fs::create_dir_all(directory.path().join("db/blobs")).unwrap();
        for name in ["db/db", "db/conf", "secret_key"] {
            fs::copy(fixture.join(name), directory.path().join(name)).unwrap();
        }
        fs::set_permissions(directory.path().join("secret_key"), fs::Permissions::from_mode(0o600)).unwrap();
        let tokens: Value = serde_json::from_str(&fs::read_to_string(fixture.join("tokens.json")).unwrap()).unwrap();
        let left = Self { directory, tokens };
        for name in ["ann", "bob", "bob_too", "ended", "locked"] {
            leaks::note_secret(left.token(name));
        }
        left
    }

    fn token(&self, name: &str) -> &str {
        self.tokens[name].as_str().unwrap()
    }

    fn builder(&self) -> TestAppBuilder {
        TestApp::builder().with(|settings| settings.tokens.secret_key = None).data_dir(self.directory.path())
    }

    async fn start(&self) -> TestApp {
        self.builder().at(LATER).spawn().await
    }

    async fn assert_as_it_was_left(&self, app: &TestApp) {
        for (name, nickname) in [("ann", "ann"), ("bob", "bobby"), ("bob_too", "bobby")] {
            let told = app.verify(self.token(name)).await;
            assert_eq!((told.status, &told.body["nickname"]), (200, &json!(nickname)), "{name}: {told:?}");
        }
        for name in ["ended", "locked"] {
            assert!(!app.is_live(self.token(name)).await, "{name}");
        }
    }
}

async fn sessions(app: &TestApp, token: &str) -> Vec<Value> {
    let answer = app.call(Method::GET, MINE, token, &Value::Null).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body["sessions"].as_array().unwrap().clone()
}

#[tokio::test]
async fn sessions_from_before_refresh_tokens_are_listed_named_and_ended_and_live_until_their_tokens_are_over() {
    let left = Left::behind();
    let app = left.start().await;
    left.assert_as_it_was_left(&app).await;
    let listed = sessions(&app, left.token("bob")).await;
    assert_eq!(listed.len(), 2);
    for session in &listed {
        assert_eq!((&session["label"], &session["address"]), (&Value::Null, &json!("127.0.0.1")));
        assert!(session["created_at"].as_str().unwrap().starts_with("2026-11-24T03:10:25"), "{session}");
    }
    let (own, other): (Vec<_>, Vec<_>) = listed.into_iter().partition(|session| session["current"] == true);
    let path = |session: &Value| format!("{MINE}/{}", session["id"].as_str().unwrap());
    let named = app.call(Method::PATCH, &path(&own[0]), left.token("bob"), &json!({"label": "Phone"})).await;
    assert_eq!((named.status, &named.body["label"]), (200, &json!("Phone")));
    let ended = app.call(Method::DELETE, &path(&other[0]), left.token("bob"), &Value::Null).await;
    assert_eq!(ended.status, 204, "{ended:?}");
    assert!(!app.is_live(left.token("bob_too")).await);
    // The session has no refresh token. The next login issues one.
    for wrong in [left.token("ann"), "dwr_"] {
        assert_eq!(app.post("/refresh", &json!({"refresh_token": wrong})).await.status, 401);
    }
    let login = app.try_login(&Person::named("ann")).await;
    let next = app.post("/refresh", &json!({"refresh_token": login.body["refresh_token"]})).await;
    assert_eq!((login.status, next.status), (200, 200));

    let app = left.builder().continuing(app).await;
    assert_eq!(sessions(&app, left.token("bob")).await[0]["label"], "Phone");
    assert!(!app.is_live(left.token("bob_too")).await);
    assert_eq!(app.logout(left.token("ann")).await.status, 200);
    assert!(!app.is_live(left.token("ann")).await);
    // Despite constant use, the session ends with its token, as announced when it was opened.
    app.pass(Duration::from_mins(28));
    assert!(app.is_live(left.token("bob")).await);
    app.pass(Duration::from_mins(2));
    assert!(!app.is_live(left.token("bob")).await);
}

#[tokio::test]
async fn an_upgrade_ends_sessions_when_it_is_told_to_and_its_mails_and_audit_log_go_on() {
    let left = Left::behind();
    let app = left.start().await;
    let admin = left.token("ann");
    // The waiting mails are sent, with valid links.
    app.pass(Duration::from_mins(5));
    let token = app.token_from("bob@example.com", MailKind::VerifyAddress).await;
    assert_eq!(app.post("/email/verify", &json!({"token": token})).await.status, 200);
    assert_eq!(app.mails_to("cyd@example.com").await.len(), 2);
    // An administrator's action ends sessions that were opened before the upgrade.
    app.lock(admin, 2).await;
    assert!(!app.is_live(left.token("bob")).await && !app.is_live(left.token("bob_too")).await);
    app.must_change(admin, 3, &json!({"lock": false})).await;
    assert!(app.opens(&Person::named("cyd"), "Quiet-lamp-7-tree").await);
    assert!(!app.is_live(left.token("locked")).await);
    let log = app.call(Method::GET, "/audit/?limit=100", admin, &Value::Null).await;
    assert_eq!(log.body["events"].as_array().unwrap().last().unwrap()["sequence"], 1, "{log:?}");
    app.stop().await.unwrap();
    let head = AuditHead::parse(HEAD).unwrap();
    let report = SledEngine::verify_audit(left.directory.path(), SledOptions::default(), Some(head)).unwrap();
    assert!(matches!(report.finding, AuditFinding::Whole(now) if now.sequence > 13), "{report:?}");
}

/// A start may be interrupted at any moment: after the data has the new layout but before a key ring exists, and
/// repeatedly.
#[tokio::test]
async fn r02_an_upgrade_that_is_cut_short_and_begun_again_logs_nobody_out() {
    let left = Left::behind();
    for _ in 0..3 {
        // Opens only the store, as a start does that is interrupted right after it.
        drop(SledEngine::open(left.directory.path(), SledOptions::default()).unwrap().into_store(u64::MAX));
        assert!(!left.directory.path().join("keys").exists());
    }
    let mut app = left.start().await;
    for _ in 0..3 {
        left.assert_as_it_was_left(&app).await;
        app = left.builder().continuing(app).await;
    }
    left.assert_as_it_was_left(&app).await;
    app.stop().await.unwrap();
    // A kill before the key ring was written leaves no ring.
    fs::remove_dir_all(left.directory.path().join("keys")).unwrap();
    left.assert_as_it_was_left(&left.start().await).await;
}
