//! Signing keys: managed at the command line, with and without a running server, and across kills.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use doorward::data_dir::key_files::KeyFiles;
use doorward_actors::ports::KeyVault as _;
use doorward_actors::{SigningAlgorithm, SigningKey};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::server::{PATIENCE, Server, doorward, run};

const KILLS: usize = 12;

fn server(data_dir: &Path, algorithm: &str) -> Server {
    let mut command = doorward(data_dir);
    command.env("ALGORITHM", algorithm);
    Server::start_with(command)
}

/// Returns the exit code, the output and the errors of `doorward keys …`.
fn keys(data_dir: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let mut command = doorward(data_dir);
    let output = command.arg("keys").args(arguments).stdout(Stdio::piped()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

fn listed(data_dir: &Path) -> Vec<String> {
    let (code, out, err) = keys(data_dir, &["list"]);
    assert_eq!(code, Some(0), "{err}");
    out.lines().map(str::to_owned).collect()
}

async fn published(server: &Server) -> usize {
    let (status, body) = server.call(Method::GET, "/.well-known/jwks.json", None, None).await.unwrap();
    assert_eq!(status, StatusCode::OK);
    body["keys"].as_array().unwrap().len()
}

async fn token(server: &Server) -> String {
    let (_, body) = server.login("ann@example.com", "Quiet-lamp-7-tree").await.unwrap();
    body["access_token"].as_str().unwrap().to_owned()
}

async fn register(server: &Server) {
    let body = json!({"email": "ann@example.com", "nickname": "ann", "password": "Quiet-lamp-7-tree",
        "passphrase": "blue heron over water"});
    let (status, body): (_, Value) = server.call(Method::POST, "/register", None, Some(body)).await.unwrap();
    assert_eq!(status, StatusCode::CREATED, "{body}");
}

/// Waits until a running server has done something by itself.
async fn until(what: &str, mut done: impl AsyncFnMut() -> bool) {
    let began = Instant::now();
    while !done().await {
        assert!(began.elapsed() < PATIENCE, "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn the_command_line_rotates_keys_beside_a_running_server_and_without_one() {
    let directory = TempDir::new().unwrap();
    let data = directory.path();
    let (code, _, err) = keys(data, &["list"]);
    assert_eq!(code, Some(1));
    assert!(err.contains("the first start of a server makes them"), "{err}");

    let running = server(data, "EdDSA");
    register(&running).await;
    let before = token(&running).await;
    assert_eq!(listed(data).len(), 1);
    let (code, out, err) = keys(data, &["rotate"]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("signs from 20") && out.contains("publishes it within five seconds"), "{out}");
    until("the publication of the key", async || published(&running).await == 2).await;
    assert!(running.is_live(&before).await);
    let (_, out, _) = keys(data, &["rotate"]);
    assert!(out.contains("on its way already"), "{out}");
    let (code, out, err) = keys(data, &["rotate", "--compromised"]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("in the place of every other one") && out.contains("within five seconds"), "{out}");
    until("the death of the token", async || !running.is_live(&before).await).await;
    assert_eq!(published(&running).await, 1);
    let after = token(&running).await;
    until("the record", async || {
        let (_, body) = running.call(Method::GET, "/audit/?event=key.replaced", Some(&after), None).await.unwrap();
        body["events"].as_array().unwrap().len() == 1
    })
    .await;
    running.kill();

    assert_eq!(keys(data, &["rotate"]).0, Some(0));
    assert_eq!(listed(data).len(), 2);
    let running = server(data, "EdDSA");
    assert_eq!(published(&running).await, 2);
    assert!(running.is_live(&after).await);
    running.kill();

    // This command does not create a secret.
    let running = server(data, "HS256");
    assert!(running.is_live(&after).await);
    for arguments in [&["rotate"][..], &["rotate", "--compromised"]] {
        let (code, _, err) = keys(data, arguments);
        assert_eq!(code, Some(1));
        assert!(err.contains("SECRET_KEY_PREVIOUS"), "{err}");
    }
}

#[test]
fn r05_the_command_line_brings_a_key_forward_that_was_made_while_the_clock_was_ahead() {
    let directory = TempDir::new().unwrap();
    let data = directory.path();
    server(data, "EdDSA").kill();
    let files = KeyFiles::in_data_dir(data);
    let mut ring = files.load().unwrap().unwrap().ring;
    let key = SigningKey::generate(SigningAlgorithm::EdDsa).unwrap();
    let now = ring.keys[0].signs_from;
    let ahead = now.plus(Duration::from_hours(24 * 1461));
    ring.rotate(key.id().clone(), SigningAlgorithm::EdDsa, Duration::from_mins(30), ahead, None);
    files.replace(&ring, Some(&key)).unwrap();

    let (code, out, err) = keys(data, &["rotate"]);
    assert_eq!(code, Some(0), "{err}");
    assert!(out.contains("Warning: the clock was ahead") && out.contains("is on its way already"), "{out}");
    let ring = files.load().unwrap().unwrap().ring;
    let soon = now.plus(Duration::from_mins(15))..now.plus(Duration::from_hours(1));
    assert_eq!((ring.keys.len(), &ring.keys[1].id), (2, key.id()));
    assert!(soon.contains(&ring.keys[1].signs_from), "{:?}", ring.keys[1]);
    assert_eq!(ring.keys[0].retired_at, Some(ring.keys[1].signs_from));
    let (_, out, _) = keys(data, &["rotate"]);
    assert!(out.starts_with("The key ") && out.contains("is on its way already"), "{out}");
}

#[tokio::test]
async fn s07_keys_that_others_may_use_or_that_are_lost_stop_the_start() {
    let directory = TempDir::new().unwrap();
    let data = directory.path();
    server(data, "ES256").kill();
    let folder = data.join("keys");
    let pair = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|end| end == "pem"));
    let (pair, ring) = (pair.unwrap(), folder.join("ring.json"));
    let refused = |expected: &str| {
        let mut command = doorward(data);
        command.env("ALGORITHM", "ES256");
        let (status, said) = run(command);
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(said.contains("access tokens cannot be signed") && said.contains(expected), "{said}");
        assert!(!said.contains("panicked") && !said.contains("PRIVATE"), "{said}");
    };
    fs::set_permissions(&pair, fs::Permissions::from_mode(0o644)).unwrap();
    refused("chmod 600");
    fs::set_permissions(&pair, fs::Permissions::from_mode(0o600)).unwrap();
    for (path, expected) in [(&pair, "missing"), (&ring, "restore")] {
        let away = data.join("away");
        fs::rename(path, &away).unwrap();
        refused(expected);
        fs::rename(&away, path).unwrap();
    }
    let kept = fs::read(&ring).unwrap();
    fs::write(&ring, &kept[..kept.len() / 2]).unwrap();
    refused("cannot be read");
    fs::write(&ring, &kept).unwrap();
    server(data, "ES256");
}

#[tokio::test]
async fn r01_no_kill_while_keys_change_keeps_the_next_start_from_them() {
    let directory = TempDir::new().unwrap();
    let data = directory.path();
    let first = server(data, "EdDSA");
    register(&first).await;
    let body = json!({"name": "follower", "scopes": ["revocations"]});
    let made = first.call(Method::POST, "/service_tokens/", Some(&token(&first).await), Some(body)).await.unwrap();
    let service = made.1["token"].as_str().unwrap().to_owned();
    first.kill();
    let mut replaced = 0;
    for round in 0..KILLS {
        let running = server(data, "EdDSA");
        let admin = token(&running).await;
        let body = Some(json!({"compromised": true}));
        // The kill comes a little later in each round. A rotation takes a few milliseconds.
        let asked = running.call(Method::POST, "/keys/rotate", Some(&admin), body);
        let kill = async {
            tokio::time::sleep(Duration::from_millis(u64::try_from(round).unwrap())).await;
            running.send_kill();
        };
        let (answer, ()) = tokio::join!(asked, kill);
        let acknowledged = answer.is_some_and(|(status, _)| status == StatusCode::OK);
        running.kill();
        let running = server(data, "EdDSA");
        assert_eq!(published(&running).await, 1, "round {round}");
        if acknowledged {
            assert!(!running.is_live(&admin).await, "round {round}: a rotation that was acknowledged was lost");
        }
        replaced += usize::from(!running.is_live(&admin).await);
        let fresh = token(&running).await;
        assert!(running.is_live(&fresh).await);
        running.kill();
        let pairs = fs::read_dir(data.join("keys")).unwrap().map(|entry| entry.unwrap().file_name());
        let pairs = pairs.filter(|name| name.to_string_lossy().ends_with(".pem")).count();
        assert!((1..=2).contains(&pairs), "a kill leaves at most one file that nobody names: {pairs}");
    }
    assert!(replaced > 0, "every kill came before the rotation");
    let running = server(data, "EdDSA");
    let admin = token(&running).await;
    until("a record of every rotation", async || {
        let path = "/audit/?event=key.replaced&outcome=success";
        let (_, page) = running.call(Method::GET, path, Some(&admin), None).await.unwrap();
        // A record that was interrupted by a kill may exist twice.
        page["events"].as_array().unwrap().len() >= replaced
    })
    .await;
    // Changes that are recorded together appear as one event in the feed.
    let (_, page) = running.call_as(&service, "/revocations?after=start").await.unwrap();
    assert!(page["events"].as_array().unwrap().iter().any(|event| event["kind"] == "keys_replaced"), "{page}");
}
