//! From a server to a backup to another server.

use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;

use reqwest::Method;
use serde_json::{Value, json};

use crate::fixture::{alone, run};
use crate::server::{PATIENCE, Server};

pub(crate) const PASSWORD: &str = "Correct-horse-9-battery";

/// Registers and logs in. Returns the access token and the refresh token.
pub(crate) async fn account(server: &Server, name: &str) -> (String, String) {
    let email = format!("{name}@example.com");
    let body = json!({
        "email": email, "nickname": name, "password": PASSWORD, "passphrase": "seven quiet words",
    });
    let (status, body) = server.call(Method::POST, "/register", None, Some(body)).await.unwrap();
    assert_eq!(status, 201, "{body}");
    let (status, body) = server.login(&email, PASSWORD).await.unwrap();
    assert_eq!(status, 200, "{body}");
    let text = |name: &str| body[name].as_str().unwrap().to_owned();
    (text("access_token"), text("refresh_token"))
}

/// Makes a service token for the log of revocations.
async fn reader(server: &Server, admin: &str) -> String {
    let body = json!({"name": "reader", "scopes": ["revocations"], "current_password": PASSWORD});
    let (status, body) = server.call(Method::POST, "/service_tokens/", Some(admin), Some(body)).await.unwrap();
    assert_eq!(status, 201, "{body}");
    body["token"].as_str().unwrap().to_owned()
}

async fn revocations(server: &Server, reader: &str, after: &str) -> (u16, Value) {
    let (status, body) = server.call_as(reader, &format!("/revocations{after}")).await.unwrap();
    (status.as_u16(), body)
}

pub(crate) fn stop(server: Server) {
    let (status, log) = server.stop_within(PATIENCE);
    assert!(status.success() && status.signal().is_none(), "{log}");
}

/// Starts a server with two accounts, of which the first is an administrator, and stops it. Returns what was given out.
async fn source(data_dir: &Path) -> ((String, String), String, String) {
    let server = Server::start(data_dir);
    let admin = account(&server, "ann").await;
    account(&server, "bob").await;
    let reader = reader(&server, &admin.0).await;
    // So that the log has an entry, and the cursor a mark.
    let (gone, _) = account(&server, "eve").await;
    server.call(Method::POST, "/logout", Some(&gone), None).await.unwrap();
    let (status, body) = revocations(&server, &reader, "").await;
    assert_eq!(status, 200, "{body}");
    let cursor = body["cursor"].as_str().unwrap().to_owned();
    stop(server);
    (admin, reader, cursor)
}

#[tokio::test]
async fn r16_accounts_come_back_and_sessions_and_cursors_do_not() {
    let _alone = alone().await;
    let dir = tempfile::tempdir().unwrap();
    let (admin, reader, cursor) = source(&dir.path().join("data")).await;
    let made = run(dir.path(), "data", &["backup", "--to", "backup.dw"]).done();
    assert!(made.contains(": 3 accounts, 2 sessions, "), "{made}");
    assert_eq!(run(dir.path(), "data", &["verify-backup", "backup.dw"]).done(), made);
    let restored = run(dir.path(), "new", &["restore", "--from", "backup.dw"]).done();
    assert!(restored.starts_with("Restored into new. Its 2 sessions were ended.\n"), "{restored}");
    run(dir.path(), "new", &["audit", "verify"]).done();
    // The head that was printed is in the restored log.
    let head = made.lines().find_map(|line| line.strip_prefix("Audit head: ")).unwrap();
    run(dir.path(), "new", &["audit", "verify", "--head", head]).done();

    let server = Server::start(&dir.path().join("new"));
    assert!(!server.is_live(&admin.0).await, "sessions end");
    let refresh = Some(json!({"refresh_token": admin.1}));
    assert_eq!(server.call(Method::POST, "/refresh", None, refresh).await.unwrap().0, 401);
    let (status, body) = server.login("bob@example.com", PASSWORD).await.unwrap();
    assert_eq!(status, 200, "{body}");
    assert!(server.is_live(body["access_token"].as_str().unwrap()).await);
    // A reader of the log learns that it has to begin again, and then what ended.
    assert_eq!(revocations(&server, &reader, &format!("?after={cursor}")).await.0, 410);
    let (status, body) = revocations(&server, &reader, "?after=start").await;
    assert_eq!(status, 200);
    let kinds: Vec<_> = body["events"].as_array().unwrap().iter().map(|event| event["kind"].clone()).collect();
    assert_eq!(kinds, ["session_ended", "session_ended"]);
    let next = format!("?after={}", body["cursor"].as_str().unwrap());
    assert_eq!(revocations(&server, &reader, &next).await, (200, json!({"cursor": body["cursor"], "events": []})));
    let (_, body) = server.login("ann@example.com", PASSWORD).await.unwrap();
    let log = server.call(Method::GET, "/audit/?limit=20", body["access_token"].as_str(), None).await.unwrap().1;
    let events: Vec<_> = log["events"].as_array().unwrap().iter().map(|event| event["event"].clone()).collect();
    assert!(events.contains(&json!("backup.made")) && events.contains(&json!("backup.restored")), "{events:?}");
    // Numbers go on where they were.
    let (token, _) = account(&server, "joe").await;
    let me = server.call(Method::POST, "/verify", Some(&token), None).await.unwrap().1;
    assert_eq!(me["id"], 4);
    stop(server);
}

#[tokio::test]
async fn r16_a_second_restore_of_one_backup_begins_another_log_of_revocations() {
    let _alone = alone().await;
    let dir = tempfile::tempdir().unwrap();
    let (_, reader, _) = source(&dir.path().join("data")).await;
    run(dir.path(), "data", &["backup", "--to", "backup.dw"]).done();
    let mut cursor = None;
    for data in ["first", "second"] {
        run(dir.path(), data, &["restore", "--from", "backup.dw"]).done();
        let server = Server::start(&dir.path().join(data));
        if let Some(cursor) = cursor {
            assert_eq!(revocations(&server, &reader, &format!("?after={cursor}")).await.0, 410);
        }
        cursor = Some(revocations(&server, &reader, "?after=start").await.1["cursor"].as_str().unwrap().to_owned());
        stop(server);
    }
}
