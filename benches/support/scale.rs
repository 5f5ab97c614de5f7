//! Compares token checks with many accounts and sessions to token checks with few. Each check uses the token of a
//! random session.

use std::fs;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use doorward::engine::sled::{SledEngine, SledOptions};
use doorward_actors::store::Store;
use doorward_actors::testing::RefreshChain;
use doorward_actors::{AccountId, AuditActorKind, AuditEvent, AuditRecord, Session, SessionId, Timestamp};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;
use tempfile::TempDir;

use super::accounts::{Group, populate};
use super::extent::Extent;
use super::load::Load;
use super::server::Server;
use super::statistics::median;
use super::table::table;

/// The number of accounts and of sessions in the small directory.
const FEW: usize = 1000;
const SECRET_KEY: &str = "a secret of the benchmark, 32 bytes and more";
/// The lifetime of sessions and their tokens: longer than the benchmark.
const DAY: Duration = Duration::from_hours(24);
const CONNECTIONS: usize = 64;

/// A data directory with accounts and sessions.
struct Populated {
    directory: TempDir,
    sessions: Vec<Session>,
}

/// The memory of a server in MiB: with only its accounts, after a start with the sessions, and after the load.
struct Memory {
    idle: f64,
    sessions: f64,
    loaded: f64,
}

/// Measures and prints both tables.
pub(crate) async fn run(extent: Extent) {
    let few = Populated::new(FEW, FEW).await;
    let many = Populated::new(extent.accounts, extent.sessions).await;
    let bare = Server::start_bare(&[]).await;
    let (mut rates, mut memory) = (Vec::new(), Vec::new());
    for algorithm in ["HS256", "EdDSA"] {
        // Each algorithm starts with the same data. A used directory is larger, and its engine is slower.
        let (few, many) = (few.copy(), many.copy());
        let few_server = few.start(algorithm).await;
        let idle = many.idle(algorithm).await;
        let many_server = many.start(algorithm).await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        let sessions = many_server.process().resident_mib();
        let few_load = Load::verify_any(&few_server, &few.tokens(algorithm), extent.sessions);
        let many_load = Load::verify_any(&many_server, &many.tokens(algorithm), extent.sessions);
        // The first read of a record comes from disk. This run warms the caches, because the benchmark does not measure
        // disk reads.
        many_load.run(CONNECTIONS, extent.round * 3);
        let (mut floors, mut fews, mut manys) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..extent.rounds {
            floors.push(Load::get(&bare, "/bare").run(CONNECTIONS, extent.round));
            fews.push(few_load.run(CONNECTIONS, extent.round));
            manys.push(many_load.run(CONNECTIONS, extent.round));
        }
        let ratio = |these: &[f64], those: &[f64]| {
            median(&these.iter().zip(those).map(|(this, that)| this / that).collect::<Vec<_>>())
        };
        rates.push(vec![
            algorithm.to_owned(),
            format!("{:.0}/s", median(&floors)),
            format!("{:.0}/s", median(&fews)),
            format!("{:.0}/s", median(&manys)),
            format!("{:.2}", ratio(&fews, &floors)),
            format!("{:.2}", ratio(&manys, &floors)),
            format!("{:.2}", ratio(&manys, &fews)),
        ]);
        let measured = Memory { idle, sessions, loaded: many_server.process().resident_mib() };
        memory.push(vec![
            algorithm.to_owned(),
            format!("{:.1} MiB", measured.idle),
            format!("{:.1} MiB", measured.sessions),
            format!("{:.1} MiB", measured.sessions - measured.idle),
            format!("{:.1} MiB", measured.loaded),
            format!("{:.1} MiB", measured.loaded - measured.idle),
        ]);
    }
    let (accounts, sessions) = (extent.accounts, extent.sessions);
    let many = format!("{accounts} accounts, {sessions} sessions");
    let few = format!("{FEW} accounts, {FEW} sessions");
    println!();
    let head = ["`ALGORITHM`", "bare route", &few, &many, "few to bare", "many to bare", "many to few"];
    println!("{}", table(&head, &rates));
    let head = ["`ALGORITHM`", "without sessions", "with them", "over", "after the load", "over"];
    println!("{}", table(&head, &memory));
}

impl Populated {
    /// Creates accounts and describes the sessions, one for each of `sessions` random accounts.
    async fn new(accounts: usize, sessions: usize) -> Self {
        let directory = TempDir::new().unwrap();
        populate(directory.path(), &[Group { verified: false, ..Group::good("person", accounts) }]).await;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
        let now = Timestamp::from_millis(i64::try_from(now).unwrap());
        // The sessions belong to random accounts spread over the whole range: neighbouring accounts would share disk
        // reads.
        let (step, mut chance) = (accounts / sessions, fastrand::Rng::with_seed(1));
        let sessions = (0..sessions).map(|number| session(number * step + 1 + chance.usize(..step), now)).collect();
        Self { directory, sessions }
    }

    /// Copies the directory to another place.
    fn copy(&self) -> Self {
        let directory = TempDir::new().unwrap();
        copy_files(self.directory.path(), directory.path());
        Self { directory, sessions: self.sessions.clone() }
    }

    /// Returns the memory of a server that has only the accounts. The sessions are added after this.
    async fn idle(&self, algorithm: &str) -> f64 {
        let server = self.serve(algorithm).await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        let idle = server.process().resident_mib();
        drop(server);
        idle
    }

    /// Starts a server with the sessions.
    async fn start(&self, algorithm: &str) -> Server {
        let store = SledEngine::open(self.directory.path(), SledOptions::default()).unwrap().into_store(u64::MAX);
        for some in self.sessions.chunks(500) {
            futures_util::future::join_all(some.iter().map(|session| open(&store, session))).await;
        }
        drop(store);
        self.serve(algorithm).await
    }

    async fn serve(&self, algorithm: &str) -> Server {
        // The idle timeout is one day, so that no session expires during the benchmark.
        let settings = [("ALGORITHM", algorithm), ("SECRET_KEY", SECRET_KEY), ("IDDLE_MINUTES", "1440")];
        let server = Server::start_in(self.directory.path(), &settings);
        server.until_ready().await;
        server
    }

    /// Returns a token for each session, signed as the server of this directory would sign it.
    fn tokens(&self, algorithm: &str) -> Vec<String> {
        let (header, key) = if algorithm == "EdDSA" {
            let (kid, der) = key_pair(&self.directory.path().join("keys"));
            let header = Header { kid: Some(kid), ..Header::new(Algorithm::EdDSA) };
            (header, EncodingKey::from_ed_der(&der))
        } else {
            (Header::new(Algorithm::HS256), EncodingKey::from_secret(SECRET_KEY.as_bytes()))
        };
        let header = Header { typ: Some("at+jwt".to_owned()), ..header };
        let token = |session: &Session| {
            let (account, from) = (session.account.get(), session.created_at.as_seconds());
            let claims = json!({
                "iss": "doorward", "aud": "doorward", "sub": account.to_string(), "sid": session.id.to_string(),
                "jti": session.id.to_string(), "iat": from, "nbf": from, "exp": from + 86_400, "id": account,
                "nickname": format!("person{}", account - 1), "role": "user",
            });
            jsonwebtoken::encode(&header, &claims, &key).unwrap()
        };
        self.sessions.iter().map(token).collect()
    }
}

fn copy_files(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let copy = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            fs::create_dir(&copy).unwrap();
            copy_files(&entry.path(), &copy);
        } else {
            fs::copy(entry.path(), copy).unwrap();
        }
    }
}

/// Returns the name and the private key (PKCS #8) of the only key pair in a data directory.
fn key_pair(keys: &Path) -> (String, Vec<u8>) {
    let files = fs::read_dir(keys).unwrap().map(|entry| entry.unwrap().path());
    let file = files.into_iter().find(|path| path.extension().is_some_and(|ending| ending == "pem")).unwrap();
    let kid = file.file_stem().unwrap().to_str().unwrap().strip_prefix("key-").unwrap().to_owned();
    let pem = fs::read_to_string(file).unwrap();
    let body: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    (kid, STANDARD.decode(body).unwrap())
}

fn session(account: usize, now: Timestamp) -> Session {
    let mut id = [0; 16];
    fastrand::Rng::with_seed(account as u64).fill(&mut id);
    Session {
        id: SessionId::from_bytes(id),
        account: AccountId::new(account as u64).unwrap(),
        epoch: 0,
        created_at: now,
        authenticated_at: Some(now),
        expires_at: now.plus(DAY),
        last_active_at: now,
        address: Some([192, 0, 2, 1].into()),
        user_agent: Some("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0".to_owned()),
        notified_at: None,
        label: None,
        remembered: false,
    }
}

async fn open(store: &Store, session: &Session) {
    let account = Some(session.account);
    let audit = AuditRecord {
        actor: AuditActorKind::Anonymous,
        subject: account,
        session: Some(session.id),
        ..AuditRecord::new(AuditEvent::Login, session.created_at)
    };
    let family = RefreshChain::begin(session.account, session.id, 1).family();
    store.open_session(session.clone(), Some(family), None, None, audit).await.unwrap();
}
