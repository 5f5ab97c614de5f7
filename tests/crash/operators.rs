//! Operating conditions that occur in practice: volumes with group permissions, world-readable files, and stops with a
//! short deadline.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::mpsc;
use std::time::Duration;

use doorward::settings::Settings;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;

use crate::server::{PATIENCE, Server, doorward, run, run_with_input};

/// How long `docker stop` and `docker compose down` wait before they send SIGKILL.
const DOCKER_WAITS: Duration = Duration::from_secs(10);

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// Starts and stops a server that signs with key pairs. Returns its warnings, by path.
fn start_and_stop(data: &Path) -> Vec<(String, String)> {
    let mut command = doorward(data);
    command.env("ALGORITHM", "EdDSA");
    let server = Server::start_with(command);
    server.terminate();
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    let events = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let warnings = events.filter(|event| event["level"] == "WARN" && event["path"].is_string());
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    warnings.map(|event| (text(&event["path"]), text(&event["message"]))).collect()
}

/// Returns every file and directory below a directory.
fn everything(directory: &Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(everything(&path));
        }
        found.push(path);
    }
    found
}

#[test]
fn g25_a_volume_of_a_group_starts_with_a_warning_and_keeps_its_secrets_from_the_group() {
    let directory = TempDir::new().unwrap();
    let data = directory.path().join("data");
    fs::create_dir(&data).unwrap();
    chmod(&data, 0o2770);
    let warned = start_and_stop(&data);
    assert!(matches!(&warned[..], [(path, what)] if *path == data.display().to_string() && what.contains("its group")));
    // At each mount, Kubernetes gives the group of `fsGroup` all permissions of the owner.
    for path in everything(&data) {
        chmod(&path, if path.is_dir() { 0o2770 } else { mode(&path) | 0o660 });
    }
    let warned = start_and_stop(&data);
    for path in everything(&data).into_iter().filter(|path| path.parent() == Some(&data.join("keys"))) {
        assert_eq!(mode(&path), 0o600, "{}", path.display());
    }
    for (name, wanted) in [("db", 0o700), ("keys", 0o700), ("mail", 0o700), ("secret_key", 0o600)] {
        let path = data.join(name);
        assert_eq!(mode(&path), wanted, "{name}");
        let put_right = |(at, what): &(String, String)| *at == path.display().to_string() && what.contains("put right");
        assert!(warned.iter().any(put_right), "{name}: {warned:?}");
    }
}

#[test]
fn g25_directories_that_everybody_may_enter_are_put_right_and_secrets_that_they_may_read_refused() {
    let directory = TempDir::new().unwrap();
    let data = directory.path().join("data");
    assert_eq!(start_and_stop(&data), []);
    for name in ["db", "keys", "mail"] {
        let path = data.join(name);
        chmod(&path, 0o755);
        let warned = start_and_stop(&data);
        assert!(
            matches!(&warned[..], [(at, what)] if *at == path.display().to_string() && what.contains("put right")),
            "{name}: {warned:?}"
        );
        assert_eq!(mode(&path), 0o700, "{name}");
    }
    for shared in [0o700, 0o2770] {
        chmod(&data, shared);
        for (bad, name) in [(0o644, "secret_key"), (0o604, "secret_key"), (0o664, "secret_key")] {
            chmod(&data.join(name), bad);
            let (status, said) = run(doorward(&data));
            assert_eq!(status.code(), Some(1), "{said}");
            assert!(said.contains(name) && said.contains("chmod 600"), "{said}");
            assert_eq!(mode(&data.join(name)), bad, "it may have been read: its owner decides");
            chmod(&data.join(name), 0o600);
        }
    }
}

#[test]
fn g25_a_stop_by_the_defaults_is_over_before_docker_kills() {
    let settings = Settings::default();
    assert!(settings.http.shutdown_timeout < Duration::from_secs(8), "{:?}", settings.http.shutdown_timeout);
}

/// Starts a mail server that accepts connections and never sends anything. The receiver gets a message for each
/// connection.
fn stalled_mail_server() -> (u16, mpsc::Receiver<()>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    let (sender, connected) = mpsc::channel();
    std::thread::spawn(move || {
        let mut open = Vec::new();
        while let Ok((stream, _)) = listener.accept() {
            open.push(stream);
            let _ = sender.send(());
        }
    });
    (port, connected)
}

#[tokio::test]
async fn g25_a_stop_with_half_open_requests_and_a_stalled_mail_server_ends_before_docker_kills() {
    let directory = TempDir::new().unwrap();
    let (port, connected) = stalled_mail_server();
    let mut command = doorward(directory.path());
    command.env("SMTP_URL", format!("smtp://127.0.0.1:{port}"));
    let server = Server::start_with(command);
    let body = json!({"email": "ann@example.com", "nickname": "ann", "password": "Quiet-lamp-7-tree",
        "passphrase": "blue heron over water"});
    let (status, body) = server.call(Method::POST, "/register", None, Some(body)).await.unwrap();
    assert_eq!(status, StatusCode::CREATED, "{body}");
    connected.recv_timeout(PATIENCE).unwrap();
    let mut half_open = Vec::new();
    for beginning in [
        "",
        "POST /login HTTP/1.1\r\nHost: x\r\nContent-",
        "POST /login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"email\"",
        "POST /login HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{",
    ] {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(beginning.as_bytes()).await.unwrap();
        half_open.push(stream);
    }
    // These failures are counted after the half-open connections have arrived, and they wait to be written. Two are
    // needed, because a single failure is not stored.
    for _ in 0..2 {
        let (status, _) = server.login("bob@example.com", "Quiet-lamp-7-tree").await.unwrap();
        assert_eq!(status, StatusCode::UNAUTHORIZED);
    }
    let (status, log) = tokio::task::spawn_blocking(move || server.stop_within(DOCKER_WAITS)).await.unwrap();
    assert_eq!(status.code(), Some(0), "{status:?}: {log}");
    assert!(log.contains("\"stopped\""), "{log}");
    let server = Server::start(directory.path());
    let (_, body) = server.login("ann@example.com", "Quiet-lamp-7-tree").await.unwrap();
    let path = "/rate_limits/?policy=login&email=bob@example.com";
    let (status, body) = server.call(Method::GET, path, body["access_token"].as_str(), None).await.unwrap();
    assert_eq!(status, StatusCode::OK, "{body}");
    assert_eq!(body["rate_limits"].as_array().unwrap().len(), 1, "the mail that hangs keeps no other actor: {body}");
}

#[tokio::test]
async fn g24_one_line_break_at_the_end_of_a_password_is_cut_whichever_way_it_comes_in() {
    let directory = TempDir::new().unwrap();
    let ends = ["", "\n", "\r\n"];
    for (n, end) in ends.iter().enumerate() {
        for way in ["variable", "line"] {
            let (email, nickname) = (format!("{way}{n}@example.com"), format!("{way}{n}"));
            let mut command = doorward(directory.path());
            command.args(["admin", "create", "--email", &email, "--nickname", &nickname]);
            let secrets = [format!("Quiet-lamp-7-tree{end}"), format!("blue heron over water{end}")];
            let (status, said) = if way == "variable" {
                command.envs([("DOORWARD_ADMIN_PASSWORD", &secrets[0]), ("DOORWARD_ADMIN_PASSPHRASE", &secrets[1])]);
                run(command)
            } else {
                run_with_input(command, &secrets.join(if end.is_empty() { "\n" } else { "" }))
            };
            assert_eq!(status.code(), Some(0), "{way} {end:?}: {said}");
        }
    }
    let server = Server::start(directory.path());
    for (n, end) in ends.iter().enumerate() {
        for way in ["variable", "line"] {
            let (status, body) = server.login(&format!("{way}{n}@example.com"), "Quiet-lamp-7-tree").await.unwrap();
            assert_eq!(status, StatusCode::OK, "{way} {end:?}: {body}");
        }
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn g26_the_server_writes_no_core_file() {
    let directory = TempDir::new().unwrap();
    let server = Server::start(directory.path());
    let limits = fs::read_to_string(format!("/proc/{}/limits", server.id())).unwrap();
    let core = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().collect::<Vec<_>>(), ["0", "0", "bytes"]);
}

#[test]
fn a02_a03_a_start_with_the_env_file_of_the_service_before_is_warned_of_once_and_serves() {
    let directory = TempDir::new().unwrap();
    let dotenv = "DATABASE_URL=postgresql://auth:x@db/auth\nLOG_DATABASE_URL=postgresql://auth:x@db/log\n\
        SECRET_KEY=3f0d6f1c4fb1b1a6f4a5b8f3d1e7c2a9\nLOG_LEVEL=INFO\nRATE_LIMITS_PUBLIC_TIME_UNIT=minute\n";
    fs::write(directory.path().join(".env"), dotenv).unwrap();
    let mut command = doorward(&directory.path().join("data"));
    command.current_dir(directory.path()).env("SECERT_KEY", "x");
    let server = Server::start_with(command);
    server.terminate();
    let (status, log) = server.wait();
    assert_eq!(status.code(), Some(0), "{log}");
    let count = |text: &str| log.lines().filter(|line| line.contains("WARN") && line.contains(text)).count();
    assert_eq!((count("LOG_DATABASE_URL"), count("SECERT_KEY")), (1, 1), "{log}");
}
