//! Orderly stops and refused starts.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use reqwest::{Method, StatusCode};
use serde_json::json;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::server::{PATIENCE, Server, doorward, run, run_with_input};

const IN_FLIGHT: usize = 16;

fn registration(n: usize) -> (String, serde_json::Value) {
    let email = format!("user{n}@example.com");
    let body = json!({"email": email, "nickname": format!("user{n}"), "password": "Quiet-lamp-7-tree",
        "passphrase": "blue heron over water"});
    (email, body)
}

#[tokio::test]
async fn a_hangup_ends_nothing() {
    let directory = TempDir::new().unwrap();
    let server = Server::start(directory.path());
    server.hang_up();
    server.says("reloaded").await;
    let (status, _) = server.call(Method::GET, "/health/live", None, None).await.unwrap();
    assert_eq!(status, StatusCode::OK);
    server.terminate();
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
}

#[tokio::test]
async fn r11_an_orderly_stop_answers_what_is_in_flight_and_loses_nothing() {
    let directory = TempDir::new().unwrap();
    let server = Server::start(directory.path());
    let mut streams = Vec::new();
    for n in 0..IN_FLIGHT {
        let body = registration(n).1.to_string();
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        let head = "POST /register HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json";
        let request = format!("{head}\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        stream.write_all(request.as_bytes()).await.unwrap();
        streams.push(stream);
    }
    // Each registration is one job of the hashing threads, with two hashes. Once the hasher has counted all jobs, all
    // requests have arrived. A job that changes its state during a read may be counted twice, so two reads must agree.
    let mut known = 0;
    while known < 2 {
        let (_, body) = server.call(Method::GET, "/health/actors", None, None).await.unwrap();
        let hasher = &body["hasher"];
        let number = |name: &str| hasher[name].as_u64().unwrap();
        let handled: u64 =
            hasher["lanes"].as_array().unwrap().iter().map(|lane| lane["handled"].as_u64().unwrap()).sum();
        let all = number("busy") + number("queued") + handled >= u64::try_from(IN_FLIGHT).unwrap();
        known = if all { known + 1 } else { 0 };
        tokio::task::yield_now().await;
    }
    server.terminate();
    let mut answers = Vec::new();
    for mut stream in streams {
        let mut answer = String::new();
        tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        answers.push(answer);
    }
    for answer in &answers {
        assert!(answer.starts_with("HTTP/1.1 201 ") && answer.ends_with('}'), "{answer}");
    }
    let address = server.address;
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(TcpStream::connect(address).await.is_err());
    let server = Server::start(directory.path());
    for n in 0..IN_FLIGHT {
        let (status, body) = server.login(&registration(n).0, "Quiet-lamp-7-tree").await.unwrap();
        assert_eq!(status, StatusCode::OK, "{body}");
    }
}

#[tokio::test]
async fn a_second_server_on_the_same_data_is_refused_and_does_not_harm_the_first() {
    let directory = TempDir::new().unwrap();
    let server = Server::start(directory.path());
    let (status, said) = run(doorward(directory.path()));
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("is in use by another doorward process; stop that one first"), "{said}");
    let (status, body) = server.call(Method::POST, "/register", None, Some(registration(0).1)).await.unwrap();
    assert_eq!(status, StatusCode::CREATED, "{body}");
    server.kill();
    // A killed server holds no lock.
    Server::start(directory.path());
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let (one, two) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let server = Server::start(one.path());
    let mut command = doorward(two.path());
    command.env("PORT", server.address.port().to_string());
    let (status, said) = run(command);
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("cannot listen on 127.0.0.1:{}", server.address.port())), "{said}");
}

#[tokio::test]
async fn s07_an_administrator_is_made_offline_and_not_beside_a_running_server() {
    let directory = TempDir::new().unwrap();
    let create = |name: &str| {
        let mut command = doorward(directory.path());
        command.args(["admin", "create", "--email", &format!("{name}@example.com"), "--nickname", name]);
        command
    };
    let (status, said) = run_with_input(create("ann"), "Quiet-lamp-7-tree\nblue heron over water\n");
    assert_eq!(status.code(), Some(0), "{said}");
    // Only the first start of the server creates the secret, unless its environment has one.
    assert!(said.contains("no mail is queued"), "{said}");
    for unmade in ["secret_key", "keys", "mail"] {
        assert!(!directory.path().join(unmade).exists(), "{unmade}");
    }
    let mut by_environment = create("bob");
    by_environment.env("DOORWARD_ADMIN_PASSWORD", "Warm-river-9-stone");
    by_environment.env("DOORWARD_ADMIN_PASSPHRASE", "blue heron over water");
    let (status, said) = run(by_environment);
    assert_eq!(status.code(), Some(0), "{said}");
    for (name, input, why) in [
        ("cleo", "", "standard input"),
        ("cleo", "Quiet-lamp-7-tree\n", "standard input"),
        ("cleo", "short\nblue heron over water\n", "too weak"),
        ("ann", "Quiet-lamp-7-tree\nblue heron over water\n", "already"),
    ] {
        let (status, said) = run_with_input(create(name), input);
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(said.contains(why), "{said}");
        assert!(!said.contains("Quiet-lamp") && !said.contains("heron"), "{said}");
    }

    let server = Server::start(directory.path());
    let (status, said) = run_with_input(create("dora"), "Quiet-lamp-7-tree\nblue heron over water\n");
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("is in use by another doorward process"), "{said}");
    for (name, password) in [("ann", "Quiet-lamp-7-tree"), ("bob", "Warm-river-9-stone")] {
        let (status, body) = server.login(&format!("{name}@example.com"), password).await.unwrap();
        assert_eq!(status, StatusCode::OK, "{body}");
        let token = body["access_token"].as_str().unwrap();
        let (status, list) = server.call(Method::GET, "/accounts_management/", Some(token), None).await.unwrap();
        assert_eq!((status, list.as_array().unwrap().len()), (StatusCode::OK, 2), "{list}");
        let (_, body) = server.call(Method::GET, "/keys/", Some(token), None).await.unwrap();
        assert_eq!(body["keys"].as_array().unwrap().len(), 1, "nothing was signed before the first start: {body}");
        let path = "/audit/?event=account.created";
        let (_, body) = server.call(Method::GET, path, Some(token), None).await.unwrap();
        let records = body["events"].as_array().unwrap();
        assert!(records.iter().all(|record| record["actor"] == "system"), "{body}");
        let reasons: Vec<_> = records.iter().map(|record| record["reason"].as_str().unwrap_or_default()).collect();
        assert_eq!(reasons, ["email_taken", "weak_password", "", ""]);
    }
    // An account that registers after this is not the first one, so it is no administrator.
    let (_, body) = server.call(Method::POST, "/register", None, Some(registration(0).1)).await.unwrap();
    assert_eq!(body["id"], 3);
    let (_, body) = server.login(&registration(0).0, "Quiet-lamp-7-tree").await.unwrap();
    let token = body["access_token"].as_str().unwrap();
    let (status, _) = server.call(Method::GET, "/accounts_management/", Some(token), None).await.unwrap();
    assert_eq!(status, StatusCode::FORBIDDEN);
}

#[tokio::test]
async fn s07_making_an_administrator_with_other_settings_changes_no_key_and_no_session_and_sends_no_mail() {
    const SECRET: &str = "crash-secret-key-0123456789abcdef";
    const OTHER: &str = "other-secret-key-0123456789abcdef";
    for algorithm in ["EdDSA", "HS256"] {
        let directory = TempDir::new().unwrap();
        let data = directory.path();
        let serve = || {
            let mut command = doorward(data);
            // No mail server listens at this port, so mails wait.
            command.envs([("ALGORITHM", algorithm), ("SECRET_KEY", SECRET), ("SMTP_URL", "smtp://127.0.0.1:1")]);
            Server::start_with(command)
        };
        let server = serve();
        let (root, body) = registration(0);
        assert_eq!(server.call(Method::POST, "/register", None, Some(body)).await.unwrap().0, StatusCode::CREATED);
        let mut tokens = Vec::new();
        for _ in 0..3 {
            let (_, body) = server.login(&root, "Quiet-lamp-7-tree").await.unwrap();
            tokens.push(body["access_token"].as_str().unwrap().to_owned());
        }
        server.terminate();
        assert_eq!(server.wait().0.code(), Some(0));
        let ring = fs::read(data.join("keys/ring.json")).unwrap();

        // A shell has none of the server's settings, or a wrong one.
        for (name, secret, queues) in
            [("ann", None, false), ("bob", Some(SECRET), true), ("cleo", Some(OTHER), algorithm == "EdDSA")]
        {
            let mut command = doorward(data);
            command.args(["admin", "create", "--email", &format!("{name}@example.com"), "--nickname", name]);
            command.envs([("MAX_SESSIONS_PER_USER", "1"), ("ALGORITHM", "HS512"), ("SESSION_SHARDS", "1")]);
            command.envs(secret.map(|secret| ("SECRET_KEY", secret)));
            let (status, said) = run_with_input(command, "Quiet-lamp-7-tree\nblue heron over water\n");
            assert_eq!(status.code(), Some(0), "{said}");
            assert_eq!(!said.contains("no mail is queued"), queues, "{algorithm}, {name}: {said}");
        }
        assert_eq!(fs::read(data.join("keys/ring.json")).unwrap(), ring, "no key was changed");
        for unmade in ["secret_key", "mail"] {
            assert!(!data.join(unmade).exists(), "{unmade}");
        }

        let server = serve();
        for token in &tokens {
            assert!(server.is_live(token).await, "{algorithm}: no session was ended");
        }
        let ann = server.login("ann@example.com", "Quiet-lamp-7-tree").await.unwrap().1;
        let ann = ann["access_token"].as_str().unwrap();
        let (status, body) = server.call(Method::GET, "/outbox/", Some(ann), None).await.unwrap();
        assert_eq!(status, StatusCode::OK, "she is an administrator");
        let mut to: Vec<_> =
            body["mails"].as_array().unwrap().iter().map(|mail| mail["to"].as_str().unwrap()).collect();
        to.sort_unstable();
        let expected =
            [Some("bob@example.com"), (algorithm == "EdDSA").then_some("cleo@example.com"), Some(root.as_str())];
        assert_eq!(to, expected.into_iter().flatten().collect::<Vec<_>>());
        for event in ["key.switched", "session.evicted", "session.expired"] {
            let path = format!("/audit/?event={event}");
            let (_, body) = server.call(Method::GET, &path, Some(ann), None).await.unwrap();
            assert_eq!(body["events"], json!([]), "{algorithm}");
        }
    }
}

#[test]
fn r03_a_data_directory_that_cannot_be_used_is_named() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "x").unwrap();
    for bad in [file.clone(), file.join("below"), "/proc/doorward-data".into()] {
        let (status, said) = run(doorward(&bad));
        assert_eq!(status.code(), Some(1), "{said}");
        assert!(
            said.contains(&format!("doorward: cannot use {}", bad.display())) || said.contains("no permission to use"),
            "{said}"
        );
        assert!(!said.contains("panicked"), "{said}");
    }
}

#[test]
fn s07_a_generated_secret_is_private_and_a_damaged_one_stops_the_start() {
    let directory = TempDir::new().unwrap();
    Server::start(directory.path()).kill();
    let path = directory.path().join("secret_key");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    let secret = fs::read_to_string(&path).unwrap();
    assert!(secret.trim_end().len() >= 64, "{} characters", secret.len());

    fs::write(&path, &secret[..20]).unwrap();
    let (status, said) = run(doorward(directory.path()));
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("secret_key") && !said.contains(&secret[..20]), "{said}");

    fs::write(&path, &secret).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let (status, said) = run(doorward(directory.path()));
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("secret_key") && said.contains("chmod 600") && !said.contains(secret.trim_end()), "{said}");
}
