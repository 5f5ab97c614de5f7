//! SIGHUP: what takes effect in the running server, and what is said of the rest.

use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::Command;

use reqwest::{Method, StatusCode};
use serde_json::json;
use tempfile::TempDir;

use crate::server::{PATIENCE, Server, doorward};

/// The SHA-1 of `Quiet-lamp-7-tree`.
const BREACHED: &str = "4D0895BD6B134E9C5948B1F661BC463C27435404";

/// The program with a settings file, and without the limits of the other tests, which no file can override.
fn with_file(directory: &Path, settings: &str) -> Command {
    write(directory, settings);
    let mut command = doorward(&directory.join("data"));
    for name in ["RATE_LIMITS_PUBLIC_ROUTES", "LOGIN_FAILURES", "ADDRESS_FAILURES"] {
        command.env_remove(name);
    }
    command.arg("--config").arg(directory.join("doorward.toml"));
    command
}

fn write(directory: &Path, settings: &str) {
    fs::write(directory.join("doorward.toml"), settings).unwrap();
}

/// The answer to a request that a page of this origin makes: whether the page may read it.
async fn may_read(server: &Server, origin: &str) -> bool {
    let url = format!("http://{}/health/live", server.address);
    let answer = server.client.get(url).header("Origin", origin).send().await.unwrap();
    answer.headers().contains_key("access-control-allow-origin")
}

async fn register(server: &Server, name: &str) -> (StatusCode, String) {
    let body = json!({"email": format!("{name}@example.com"), "nickname": name, "password": "Quiet-lamp-7-tree",
        "passphrase": "blue heron over water"});
    let (status, body) = server.call(Method::POST, "/register", None, Some(body)).await.unwrap();
    (status, body.to_string())
}

#[tokio::test]
async fn a_hangup_brings_changed_settings_into_force_and_names_those_that_need_a_restart() {
    let directory = TempDir::new().unwrap();
    let at = directory.path();
    let server = Server::start_with(with_file(at, "[log]\nlevel = \"warn,doorward=info\"\n"));
    assert_eq!(register(&server, "ann").await.0, StatusCode::CREATED);
    assert!(!may_read(&server, "https://app.example.com").await);

    fs::write(at.join("breached"), format!("{BREACHED}:7\n")).unwrap();
    let settings = format!(
        "[http]\ncors_origins = \"https://app.example.com\"\nrequest_timeout_seconds = 29\n\
         [passwords]\nbreached_file = {:?}\n[limits]\npublic_routes = 3\n[log]\nlevel = \"debug\"\n",
        at.join("breached")
    );
    write(at, &settings);
    server.hang_up();
    server.says("\"settings\":\"REQUEST_TIMEOUT_SECONDS\"").await;
    server.says("\"changed\":\"CORS_ORIGINS, BREACHED_PASSWORDS_FILE, RATE_LIMITS_PUBLIC_ROUTES, LOG_LEVEL\"").await;
    assert!(may_read(&server, "https://app.example.com").await);
    server.says("\"level\":\"DEBUG\"").await;
    let (status, body) = register(&server, "bob").await;
    assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
    // The quota is new, so nothing was counted before.
    for _ in 0..2 {
        assert_eq!(server.login("nobody@example.com", "x").await.unwrap().0, StatusCode::UNAUTHORIZED);
    }
    assert_eq!(server.login("nobody@example.com", "x").await.unwrap().0, StatusCode::TOO_MANY_REQUESTS);

    // Without the file, everything is as at first.
    write(at, "");
    server.hang_up();
    server.says("\"changed\":\"CORS_ORIGINS, BREACHED_PASSWORDS_FILE, RATE_LIMITS_PUBLIC_ROUTES, LOG_LEVEL\"").await;
    while may_read(&server, "https://app.example.com").await {}
    assert_eq!(register(&server, "bob").await.0, StatusCode::CREATED);
}

#[tokio::test]
async fn a_hangup_with_a_broken_setting_or_template_changes_nothing_and_says_why() {
    let directory = TempDir::new().unwrap();
    let (at, notified) = (directory.path(), directory.path().join("notify"));
    let manager = UnixDatagram::bind(&notified).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let told = || {
        let mut bytes = [0; 256];
        let length = manager.recv(&mut bytes).unwrap();
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    };
    let mut command = with_file(at, "[http]\ncors_origins = \"https://app.example.com\"\n");
    command.env("NOTIFY_SOCKET", &notified);
    let server = Server::start_with(command);
    assert!(told().starts_with("READY=1"));
    let templates = at.join("templates");
    fs::create_dir(&templates).unwrap();
    fs::write(templates.join("recovery.en.txt"), "{{ nothing_known }}").unwrap();
    for (settings, why) in [
        ("[limits]\npublic_routes = 0\n".to_owned(), "RATE_LIMITS_PUBLIC_ROUTES"),
        ("[http\n".to_owned(), "doorward.toml"),
        (format!("[mail]\ntemplates_dir = {templates:?}\n"), "a mail template cannot be used"),
        (format!("[passwords]\nbreached_file = {:?}\n", at.join("none")), "BREACHED_PASSWORDS_FILE"),
    ] {
        write(at, &settings);
        server.hang_up();
        let reloading = told();
        let (_, usec) = reloading.split_once("RELOADING=1\nMONOTONIC_USEC=").unwrap();
        assert!(usec.lines().next().unwrap().parse::<u64>().unwrap() > 0, "{reloading}");
        assert!(told().starts_with("READY=1"));
        server.says(why).await;
        assert!(may_read(&server, "https://app.example.com").await, "{settings}");
    }
    server.says("nothing was reloaded").await;
}
