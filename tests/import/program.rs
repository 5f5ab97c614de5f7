//! The built program on a data directory of its own: as a command, and as a server.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use doorward::engine::sled::{SledEngine, SledOptions};
use doorward_actors::store::Store;
use doorward_actors::{Account, AccountId};
use reqwest::StatusCode;
use serde_json::{Value, json};
use tempfile::TempDir;

/// The time after which a test counts as hung. It measures nothing.
const PATIENCE: Duration = Duration::from_mins(2);

/// A data directory.
pub(crate) struct Data {
    directory: TempDir,
}

/// What a command printed, and how it ended.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

impl Run {
    /// Returns the lines of the report on standard output.
    pub(crate) fn report(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// Returns the reasons that the report gives for an account.
    pub(crate) fn reasons(&self, id: i64) -> Vec<String> {
        let lines = self.report().into_iter().filter(|line| line["id"] == id);
        lines.map(|line| line["reason"].as_str().unwrap().to_owned()).collect()
    }
}

impl Data {
    pub(crate) fn new() -> Self {
        Self { directory: TempDir::new().unwrap() }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_doorward"));
        command.env_clear().current_dir(self.directory.path()).args(arguments).envs([
            ("PORT", "0"),
            ("LOG_FORMAT", "json"),
            ("RATE_LIMITS_PUBLIC_ROUTES", "1000000"),
            ("RATE_LIMITS_PRIVATE_ROUTES", "1000000"),
            ("HASH_DEADLINE_MS", "60000"),
            ("LOGIN_FAILURES", "100"),
            ("ADDRESS_FAILURES", "10000"),
        ]);
        command.env("DATA_DIR", self.path()).stdin(Stdio::null());
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Run {
        let output = self.command(arguments).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Run { code: output.status.code(), out: text(output.stdout), err: text(output.stderr) }
    }

    /// Imports a database of the auth service.
    pub(crate) fn import(&self, file: &Path, more: &[&str]) -> Run {
        self.run(&[&["import", "--from-auth-service", file.to_str().unwrap()], more].concat())
    }

    /// Returns an account as the store has it. No program may use the directory.
    pub(crate) fn account(&self, id: i64) -> Option<Account> {
        self.ask(async |store| store.account(AccountId::new(id.try_into().unwrap()).unwrap()).await.unwrap())
    }

    /// Asks the store. No program may use the directory.
    pub(crate) fn ask<T>(&self, question: impl AsyncFnOnce(&Store) -> T) -> T {
        let store = SledEngine::open(&self.path(), SledOptions::default()).unwrap().into_store(u64::MAX);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(question(&store))
    }

    pub(crate) fn serve(&self, settings: &[(&str, &str)]) -> Server {
        let mut command = self.command(&["serve"]);
        command.envs(settings.iter().copied()).stdout(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (sender, lines) = mpsc::channel();
        std::thread::spawn(move || {
            // The log is read to its end, or the server would have nowhere to write.
            stderr.lines().map_while(Result::ok).for_each(|line| drop(sender.send(line)));
        });
        let address = loop {
            let line = lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("it did not start"));
            let event: Value = serde_json::from_str(&line).unwrap_or_default();
            if event["message"] == "listening" {
                break event["address"].as_str().unwrap().parse().unwrap();
            }
        };
        Server { child, address, client: reqwest::Client::new() }
    }
}

/// A running server. It is killed when this value is dropped.
pub(crate) struct Server {
    child: Child,
    address: SocketAddr,
    client: reqwest::Client,
}

impl Server {
    pub(crate) async fn post(&self, path: &str, body: &Value) -> (StatusCode, Value) {
        let answer = self.client.post(format!("http://{}{path}", self.address)).json(body).send().await.unwrap();
        (answer.status(), answer.json().await.unwrap())
    }

    pub(crate) async fn login(&self, email: &str, password: &str) -> (StatusCode, Value) {
        self.post("/login", &json!({"email": email, "password": password})).await
    }

    pub(crate) async fn delete_own(&self, token: &str) {
        let request = self.client.delete(format!("http://{}/my_account/delete", self.address)).bearer_auth(token);
        assert_eq!(request.send().await.unwrap().status(), StatusCode::OK);
    }

    pub(crate) async fn rename(&self, token: &str, nickname: &str) {
        let request = self.client.put(format!("http://{}/my_account/", self.address)).bearer_auth(token);
        assert_eq!(request.json(&json!({"nickname": nickname})).send().await.unwrap().status(), StatusCode::OK);
    }

    /// Stops the server in an orderly way.
    pub(crate) fn stop(mut self) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
