//! S09 for the whole suite: every line that the process logs, at level trace, is searched for the secrets that the
//! tests send and receive. The first secret found ends the process.

use std::collections::HashSet;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{LazyLock, Once, PoisonError, RwLock};

use serde_json::Value;
use tracing_subscriber::fmt::format::FmtSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

/// The fields of requests and answers that hold secrets.
const SECRET_FIELDS: [&str; 7] =
    ["password", "passphrase", "new_password", "current_password", "access_token", "refresh_token", "token"];
/// Shorter secrets are words that also occur elsewhere.
const SHORTEST: usize = 10;
/// The beginning of every stored hash.
const HASH: &str = "$argon2id$";

#[derive(Default)]
struct Secrets {
    /// Secrets of a single word. Each word of a line is looked up here.
    words: HashSet<String>,
    /// All other secrets. Each line is searched for them.
    phrases: HashSet<String>,
}

/// The most verbose log filter that the program accepts. `telemetry` says what it never logs.
pub(crate) const LOG: &str = "trace,sled=info";

static SECRETS: LazyLock<RwLock<Secrets>> = LazyLock::new(RwLock::default);
static WATCH: Once = Once::new();
/// The number of lines searched so far.
static SEARCHED: AtomicUsize = AtomicUsize::new(0);

/// Starts to search every logged line. A log that is already set up stays unchanged.
pub(crate) fn watch() {
    WATCH.call_once(|| {
        let _ = tracing_subscriber::fmt()
            .with_env_filter(LOG)
            .with_span_events(FmtSpan::NEW)
            .with_ansi(false)
            .with_writer(|| Watcher)
            .finish()
            .try_init();
    });
}

/// Remembers the secrets in a request or an answer.
pub(crate) fn note(body: &Value) {
    for field in SECRET_FIELDS {
        if let Some(secret) = body[field].as_str() {
            note_secret(secret);
        }
    }
}

/// Remembers a secret.
pub(crate) fn note_secret(secret: &str) {
    if secret.len() < SHORTEST {
        return;
    }
    let mut secrets = SECRETS.write().unwrap_or_else(PoisonError::into_inner);
    if secret.chars().all(is_word) {
        secrets.words.insert(secret.to_owned());
    } else {
        secrets.phrases.insert(secret.to_owned());
    }
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || "-_.".contains(c)
}

fn leak(line: &str) -> Option<String> {
    let secrets = SECRETS.read().unwrap_or_else(PoisonError::into_inner);
    let word = line.split(|c| !is_word(c)).find(|word| secrets.words.contains(*word));
    let phrase = || secrets.phrases.iter().map(String::as_str).chain([HASH]).find(|phrase| line.contains(*phrase));
    word.or_else(phrase).map(str::to_owned)
}

struct Watcher;

impl io::Write for Watcher {
    #[expect(clippy::print_stderr, reason = "a test says why it ends")]
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        SEARCHED.fetch_add(1, Ordering::Relaxed);
        if let Some(secret) = leak(&String::from_utf8_lossy(line)) {
            eprintln!("S09: {secret:?} was logged: {}", String::from_utf8_lossy(line));
            std::process::exit(101);
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Returns the number of lines searched so far.
pub(crate) fn searched() -> usize {
    SEARCHED.load(Ordering::Relaxed)
}

#[test]
fn s09_the_watch_finds_a_secret_wherever_it_stands() {
    note_secret("watched-secret-7f3a9b");
    note_secret("a watched phrase of words");
    assert!(leak("INFO login: password=watched-secret-7f3a9b route=/x").is_some());
    assert!(leak("{\"x\":\"watched-secret-7f3a9b\"}").is_some());
    assert!(leak("said: a watched phrase of words!").is_some());
    assert!(leak("hash $argon2id$v=19$m=64").is_some());
    assert!(leak("INFO answered route=/login status=200 watched-secret").is_none());
}
