use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use reqwest::StatusCode;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::accounts::{Group, PASSPHRASE, PASSWORD, populate};
use super::process::Process;

pub(crate) const SERVICE_TOKEN: &str = "bench-service-token-0123456789abcdef";

/// A person with an account.
pub(crate) struct Person {
    pub(crate) email: String,
    pub(crate) password: String,
}

/// A server process. It ends when this value is dropped.
pub(crate) struct Server {
    process: Child,
    port: u16,
    client: reqwest::Client,
    /// The data directory, removed with the server that was started on it.
    data_dir: Option<TempDir>,
}

impl Server {
    /// Starts the program on a data directory of its own.
    pub(crate) async fn start(settings: &[(&str, &str)]) -> Self {
        let data_dir = TempDir::new().unwrap();
        let mut server = Self::start_in(data_dir.path(), settings);
        server.data_dir = Some(data_dir);
        server.until_ready().await;
        server
    }

    /// Starts the program on a data directory of its own with these accounts.
    pub(crate) async fn start_with(groups: &[Group], settings: &[(&str, &str)]) -> Self {
        let data_dir = TempDir::new().unwrap();
        populate(data_dir.path(), groups).await;
        let mut server = Self::start_in(data_dir.path(), settings);
        server.data_dir = Some(data_dir);
        server.until_ready().await;
        server
    }

    /// Starts the program on this data directory. Returns before it is ready.
    pub(crate) fn start_in(data_dir: &Path, settings: &[(&str, &str)]) -> Self {
        let port = free_port();
        let mut command = Command::new(env!("CARGO_BIN_EXE_doorward"));
        command
            .env_clear()
            .current_dir(data_dir)
            .env("PORT", port.to_string())
            .env("DATA_DIR", data_dir)
            .env("SERVICE_TOKEN", SERVICE_TOKEN)
            .env("RATE_LIMITS_PUBLIC_ROUTES", "1000000")
            .env("LOG_LEVEL", "warn")
            .envs(settings.iter().copied());
        Self::spawn(command, port)
    }

    /// Starts a route that does nothing, in a process of its own.
    pub(crate) async fn start_bare(arguments: &[&str]) -> Self {
        let port = free_port();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--serve-bare", &port.to_string()]).args(arguments);
        let server = Self::spawn(command, port);
        server.until(StatusCode::OK, "/bare").await;
        server
    }

    fn spawn(mut command: Command, port: u16) -> Self {
        let process = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { process, port, client, data_dir: None }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Returns the process, for the kernel's figures about it.
    pub(crate) fn process(&self) -> Process {
        Process(self.process.id().to_string())
    }

    pub(crate) async fn until_ready(&self) {
        self.until(StatusCode::OK, "/health/ready").await;
    }

    async fn until(&self, status: StatusCode, path: &str) {
        for _ in 0..20_000 {
            if self.client.get(self.url(path)).send().await.is_ok_and(|answer| answer.status() == status) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        panic!("the server did not come up");
    }

    pub(crate) async fn register(&self, name: &str) -> Person {
        let person = Person { email: format!("{name}@example.com"), password: PASSWORD.to_owned() };
        let body = json!({
            "email": person.email, "nickname": name, "password": person.password, "passphrase": PASSPHRASE,
        });
        let answer = self.client.post(self.url("/register")).json(&body).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::CREATED);
        person
    }

    /// Registers a person, logs them in and returns their token.
    pub(crate) async fn token(&self, name: &str) -> String {
        let person = self.register(name).await;
        let body = json!({"email": person.email, "password": person.password});
        let answer = self.client.post(self.url("/login")).json(&body).send().await.unwrap();
        let answer: Value = answer.json().await.unwrap();
        answer["access_token"].as_str().unwrap().to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Returns a port that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
