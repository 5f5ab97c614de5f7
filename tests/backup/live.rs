//! Backups of a running server.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use doorward::engine::sled::{SledEngine, SledOptions};
use doorward_actors::store::engine::{Engine as _, Verdict, View};
use doorward_actors::store::layout::HAD_ADMIN;
use reqwest::Method;
use serde_json::json;

use crate::fixture::{alone, command, run, write};
use crate::round_trip::{PASSWORD, account, stop};
use crate::server::Server;

/// Returns the label of the only session of a login, as a number.
async fn label(server: &Server, token: &str) -> u32 {
    let (_, body) = server.call(Method::GET, "/my_account/sessions", Some(token), None).await.unwrap();
    body["sessions"][0]["label"].as_str().unwrap_or("0").parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn r16_a_backup_of_a_server_under_load_has_all_that_was_acknowledged_before() {
    let _alone = alone().await;
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"));
    let (token, _) = account(&server, "ann").await;
    let (_, body) = server.call(Method::GET, "/my_account/sessions", Some(&token), None).await.unwrap();
    let session = format!("/my_account/sessions/{}", body["sessions"][0]["id"].as_str().unwrap());
    let (acknowledged, stopping) = (AtomicU32::new(0), AtomicBool::new(false));
    let load = async {
        while !stopping.load(Ordering::Relaxed) {
            let number = acknowledged.load(Ordering::Relaxed) + 1;
            let body = Some(json!({"label": number.to_string()}));
            let (status, body) = server.call(Method::PATCH, &session, Some(&token), body).await.unwrap();
            assert_eq!(status, 200, "{body}");
            acknowledged.store(number, Ordering::Relaxed);
        }
    };
    let backups = async {
        let mut before = Vec::new();
        for number in 0..5 {
            before.push(acknowledged.load(Ordering::Relaxed));
            let path = dir.path().to_owned();
            let made = tokio::task::spawn_blocking(move || {
                run(&path, "data", &["backup", "--to", &format!("{number}.dw")]).done()
            });
            assert!(made.await.unwrap().contains(": 1 accounts, 1 sessions, "));
        }
        stopping.store(true, Ordering::Relaxed);
        before
    };
    let ((), before) = tokio::join!(load, backups);
    stop(server);
    assert!(before[0] < before[4], "there was a load: {before:?}");
    for (number, before) in before.into_iter().enumerate() {
        let (data, file) = (format!("new{number}"), format!("{number}.dw"));
        run(dir.path(), &data, &["verify-backup", &file]).done();
        run(dir.path(), &data, &["restore", "--from", &file]).done();
        run(dir.path(), &data, &["audit", "verify"]).done();
        let server = Server::start(&dir.path().join(&data));
        assert!(!server.is_live(&token).await);
        let (status, body) = server.login("ann@example.com", PASSWORD).await.unwrap();
        assert_eq!(status, 200, "{body}");
        let admin = body["access_token"].as_str();
        // Each label left an audit record.
        let log = server.call(Method::GET, "/audit/?event=session.labelled&limit=1000", admin, None).await.unwrap().1;
        let labelled = log["events"].as_array().unwrap().len();
        assert!(log["next"].is_string() || labelled >= before as usize, "{labelled} of {before}");
        assert_eq!(label(&server, admin.unwrap()).await, 0, "a new session");
        stop(server);
    }
}

#[tokio::test]
async fn a_backup_comes_through_the_control_socket_with_the_secrets_and_after_a_crash_too() {
    let _alone = alone().await;
    let dir = tempfile::tempdir().unwrap();
    let server = Server::start(&dir.path().join("data"));
    account(&server, "ann").await;
    let made = run(dir.path(), "data", &["backup", "--to", "first.dw"]).done();
    assert!(made.contains("with 2 files of secrets and keys"), "{made}");
    assert_eq!(run(dir.path(), "data", &["verify-backup", "first.dw"]).done(), made);
    let bare = run(dir.path(), "data", &["backup", "--to", "bare.dw", "--no-secrets"]).done();
    assert!(bare.contains("with 0 files of secrets and keys"), "{bare}");
    run(dir.path(), "data", &["backup", "--to", "move.dw", "--move"])
        .refused("--move: a server uses the data directory; stop it first");
    assert!(!dir.path().join("move.dw").exists());
    let socket = dir.path().join("data/control/socket");
    server.kill();
    assert!(socket.exists(), "a crash leaves the socket");
    // Nobody listens at it, and nobody holds the lock: the command opens the directory itself.
    run(dir.path(), "data", &["backup", "--to", "second.dw"]).done();

    let server = Server::start(&dir.path().join("data"));
    let streamed = command(dir.path(), "data", &["backup", "--to", "-"]).output().unwrap();
    assert!(streamed.status.success(), "{}", String::from_utf8_lossy(&streamed.stderr));
    std::fs::write(dir.path().join("streamed.dw"), &streamed.stdout).unwrap();
    run(dir.path(), "data", &["verify-backup", "streamed.dw"]).done();
    std::fs::remove_file(&socket).unwrap();
    run(dir.path(), "data", &["backup", "--to", "third.dw"])
        .refused("its control socket data/control/socket cannot be used");
    assert!(!dir.path().join("third.dw").exists());
    stop(server);
    assert!(!socket.exists());
}

#[tokio::test]
async fn the_command_says_why_the_server_made_no_backup() {
    let _alone = alone().await;
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let server = Server::start(&data);
    account(&server, "ann").await;
    stop(server);
    // Something outside of doorward took away a row.
    let engine = SledEngine::open(&data, SledOptions::default()).unwrap();
    let damage = |view: &mut dyn View| {
        view.remove(HAD_ADMIN);
        Ok(Verdict::Keep)
    };
    engine.commit(Box::new(damage)).await.unwrap();
    drop(engine);
    let server = Server::start(&data);
    write(dir.path(), "backup.dw", b"an older one");
    run(dir.path(), "data", &["backup", "--to", "backup.dw"]).refused(
        "the server did not do it: the store is damaged, and no restore would take a backup of it: there are administrators, and \
         the rows say that there never was one",
    );
    assert_eq!(std::fs::read(dir.path().join("backup.dw")).unwrap(), b"an older one");
    assert!(!dir.path().join("backup.dw.unfinished").exists());
    stop(server);
}
