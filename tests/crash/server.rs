use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use reqwest::{Method, RequestBuilder, StatusCode};
use serde_json::{Value, json};

/// The service token of the settings in these tests.
pub(crate) const SERVICE_TOKEN: &str = "crash-service-token-0123456789abcdef";
/// The time after which a test counts as hung. It measures nothing.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// Returns the program with an environment that has only what these tests need.
pub(crate) fn doorward(data_dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_doorward"));
    command.env_clear().current_dir(std::env::temp_dir()).envs([
        ("PORT", "0"),
        ("LOG_FORMAT", "json"),
        ("SERVICE_TOKEN", SERVICE_TOKEN),
        ("RATE_LIMITS_PUBLIC_ROUTES", "1000000"),
        ("RATE_LIMITS_PRIVATE_ROUTES", "1000000"),
        ("MAX_SESSIONS_PER_USER", "1000"),
        // On a busy machine a hash may wait long. These tests do not check that.
        ("HASH_DEADLINE_MS", "60000"),
        // The tests log in to find out whether an interrupted change was made.
        ("LOGIN_FAILURES", "100"),
        ("ADDRESS_FAILURES", "10000"),
    ]);
    command.env("DATA_DIR", data_dir).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// Runs the program until it exits. Returns its status and its log.
pub(crate) fn run(mut command: Command) -> (ExitStatus, String) {
    let Output { status, stderr, .. } = command.output().unwrap();
    (status, String::from_utf8(stderr).unwrap())
}

/// The running server. It is killed when this value is dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: SocketAddr,
    pub(crate) client: reqwest::Client,
    /// Empty if the test does not read the log.
    log: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

impl Server {
    /// Starts the program and waits until it listens.
    pub(crate) fn start(data_dir: &Path) -> Self {
        Self::start_with(doorward(data_dir))
    }

    /// Starts the program with more settings than [`doorward`] sets, and waits until it listens.
    pub(crate) fn start_with(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let (log, lines, reader) = follow(&mut child);
        let address = loop {
            let Ok(line) = lines.recv_timeout(PATIENCE) else {
                let status = child.wait();
                panic!("it did not start ({status:?}): {}", log.lock().unwrap());
            };
            let event: Value = serde_json::from_str(&line).unwrap_or_default();
            if event["message"] == "listening" {
                break event["address"].as_str().unwrap().parse().unwrap();
            }
        };
        Self { child, address, client: client(), log, reader: Some(reader) }
    }

    /// Starts the program with a log that the test does not read, and waits until it answers.
    pub(crate) async fn start_unheard(mut command: Command, log: impl Into<Stdio>) -> Self {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        command.env("PORT", free.port().to_string()).stderr(log);
        let child = command.spawn().unwrap();
        let server = Self { child, address: free, client: client(), log: Arc::default(), reader: None };
        let up = async {
            while server.call(Method::GET, "/health/ready", None, None).await.is_none_or(|(status, _)| status != 200) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, up).await.unwrap();
        server
    }

    /// Sends SIGKILL and waits. The process completes none of its unfinished work.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends SIGTERM and does not wait.
    pub(crate) fn terminate(&self) {
        self.signal("TERM");
    }

    /// Waits until the log contains this text.
    pub(crate) async fn says(&self, text: &str) {
        let said = async {
            while !self.log.lock().unwrap().contains(text) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(PATIENCE, said).await.unwrap();
    }

    /// Sends SIGHUP.
    pub(crate) fn hang_up(&self) {
        self.signal("HUP");
    }

    /// Sends SIGKILL while the load borrows the server. [`Self::kill`] then reaps the process.
    pub(crate) fn send_kill(&self) {
        self.signal("KILL");
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("sh").args(["-c", &format!("kill -{name} {}", self.child.id())]).status().unwrap();
        assert!(sent.success());
    }

    /// Sends SIGTERM, and SIGKILL if the process is still running after `patience`, as Docker does. Returns the status
    /// and the whole log.
    pub(crate) fn stop_within(self, patience: Duration) -> (ExitStatus, String) {
        let id = self.child.id();
        let (done, ended) = mpsc::channel::<()>();
        self.terminate();
        let killer = std::thread::spawn(move || {
            if ended.recv_timeout(patience) == Err(RecvTimeoutError::Timeout) {
                let _ = Command::new("sh").args(["-c", &format!("kill -KILL {id}")]).status();
            }
        });
        let outcome = self.wait();
        drop(done);
        killer.join().unwrap();
        outcome
    }

    /// Returns the process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for the exit. Returns the status and the whole log.
    pub(crate) fn wait(mut self) -> (ExitStatus, String) {
        let status = self.child.wait().unwrap();
        if let Some(reader) = self.reader.take() {
            reader.join().unwrap();
        }
        let log = self.log.lock().unwrap().clone();
        (status, log)
    }

    /// Sends a request. Returns `None` if there was no complete answer, so that the effect of the request is unknown.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Option<Value>,
    ) -> Option<(StatusCode, Value)> {
        let mut request = self.request(method, path, SERVICE_TOKEN);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        answer_to(request).await
    }

    /// Sends a read request with another service token.
    pub(crate) async fn call_as(&self, service_token: &str, path: &str) -> Option<(StatusCode, Value)> {
        answer_to(self.request(Method::GET, path, service_token)).await
    }

    fn request(&self, method: Method, path: &str, service_token: &str) -> RequestBuilder {
        let request = self.client.request(method, format!("http://{}{path}", self.address));
        request.header("X-Service-Token", service_token)
    }

    pub(crate) async fn login(&self, email: &str, password: &str) -> Option<(StatusCode, Value)> {
        self.call(Method::POST, "/login", None, Some(json!({"email": email, "password": password}))).await
    }

    /// Returns whether a token is live.
    pub(crate) async fn is_live(&self, token: &str) -> bool {
        let (status, body) = self.call(Method::POST, "/verify", Some(token), None).await.unwrap();
        assert!(matches!(status.as_u16(), 200 | 401), "{status} {body}");
        status == StatusCode::OK
    }
}

fn client() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().timeout(PATIENCE).build().unwrap()
}

async fn answer_to(request: RequestBuilder) -> Option<(StatusCode, Value)> {
    let response = request.send().await.ok()?;
    let status = response.status();
    let body = response.bytes().await.ok()?;
    Some((status, serde_json::from_slice(&body).unwrap_or_default()))
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads the standard error of a process, both as a whole and line by line.
fn follow(child: &mut Child) -> (Arc<Mutex<String>>, Receiver<String>, JoinHandle<()>) {
    let stderr = BufReader::new(child.stderr.take().unwrap());
    let log = Arc::new(Mutex::new(String::new()));
    let (sender, lines) = mpsc::channel();
    let kept = Arc::clone(&log);
    let reader = std::thread::spawn(move || {
        for line in stderr.lines().map_while(Result::ok) {
            kept.lock().unwrap().extend([line.as_str(), "\n"]);
            // Once the server is up, nobody receives lines any more.
            let _ = sender.send(line);
        }
    });
    (log, lines, reader)
}

/// Runs the program with this text as its standard input.
pub(crate) fn run_with_input(mut command: Command, input: &str) -> (ExitStatus, String) {
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    // A program that refuses to start does not read its input.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output = child.wait_with_output().unwrap();
    (output.status, String::from_utf8(output.stderr).unwrap())
}
