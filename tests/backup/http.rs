//! Backups over HTTP.

use std::convert::Infallible;

use doorward::backup::check::{Sink, pass};
use doorward_actors::store::engine::Row;
use reqwest::Method;
use serde_json::json;

use crate::fixture::{alone, run, write};
use crate::round_trip::{PASSWORD, account, stop};
use crate::server::{SERVICE_TOKEN, Server};

/// All bytes of the rows.
#[derive(Default)]
struct Bytes(Vec<u8>);

impl Sink for Bytes {
    type Error = Infallible;

    fn file(&mut self, name: &str, _: &[u8]) -> Result<(), Infallible> {
        panic!("there is a secret: {name}");
    }

    fn rows(&mut self, rows: &[Row]) -> Result<(), Infallible> {
        for (key, value) in rows {
            self.0.extend([&key[..], &value[..]].concat());
        }
        Ok(())
    }
}

#[tokio::test]
async fn a_backup_over_http_restores_and_contains_no_secret() {
    let _alone = alone().await;
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"));
    let (admin, _) = account(&server, "ann").await;
    let body = json!({"name": "safe", "scopes": ["backup"], "current_password": PASSWORD});
    let (status, body) = server.call(Method::POST, "/service_tokens/", Some(&admin), Some(body)).await.unwrap();
    assert_eq!(status, 201, "{body}");
    let token = body["token"].as_str().unwrap();
    let request = server.client.post(format!("http://{}/backup", server.address)).header("X-Service-Token", token);
    let backup = request.send().await.unwrap().bytes().await.unwrap();
    stop(server);

    let file = write(dir.path(), "http.backup", &backup);
    let told = run(dir.path(), "data", &["verify-backup", file.to_str().unwrap()]).done();
    assert!(told.contains(": 1 accounts, 1 sessions, ") && told.contains("with 0 files of secrets"), "{told}");
    let mut rows = Bytes::default();
    pass(&backup[..], [3; 32], &mut rows).unwrap();
    let secret_key = std::fs::read_to_string(dir.path().join("data/secret_key")).unwrap();
    for secret in [secret_key.trim(), SERVICE_TOKEN, token, PASSWORD, &admin] {
        assert!(!rows.0.windows(secret.len()).any(|window| window == secret.as_bytes()), "{secret}");
    }
    run(dir.path(), "new", &["restore", "--from", "http.backup"]).done();
    run(dir.path(), "new", &["audit", "verify"]).done();
    let server = Server::start(&dir.path().join("new"));
    let (status, body) = server.login("ann@example.com", PASSWORD).await.unwrap();
    assert_eq!(status, 200, "{body}");
    let log =
        server.call(Method::GET, "/audit/?event=backup.made", body["access_token"].as_str(), None).await.unwrap().1;
    assert_eq!(log["events"][0]["actor"], "service:safe");
    stop(server);
}
