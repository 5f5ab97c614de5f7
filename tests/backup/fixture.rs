//! A data directory with rows of every kind, and the program that backs it up.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use doorward::engine::sled::{SledEngine, SledOptions};
use doorward_actors::store::{
    AccountUpdate, Effects, EndSessions, LastUse, OpenSessionRefusal, SignIn, Store, StoreError,
};
use doorward_actors::testing::RefreshChain;
use doorward_actors::{
    AccountChange, AccountId, AuditActorKind, AuditEvent, AuditRecord, Email, Locale, MailKind, NewAccount, NewMail,
    NewRole, NewServiceToken, NewToken, Nickname, Origin, Role, SecretDigest, ServiceName, ServiceScopes, Session,
    SessionId, Timestamp, TokenHash, TokenPurpose, TokenSeed, Undoable,
};
use tempfile::TempDir;
use tokio::sync::{Mutex, MutexGuard};

/// The number of accounts of the fixture.
pub(crate) const ACCOUNTS: u64 = 12;

/// Held by tests that open a data directory themselves: a program that another test starts inherits its lock until it runs.
static ALONE: Mutex<()> = Mutex::const_new(());

pub(crate) async fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().await
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn email(name: &str) -> Email {
    Email::parse(&format!("{name}@example.com")).unwrap()
}

/// Names of one length, so that one can be put in the place of another in a stored record.
fn name(number: u64) -> String {
    format!("user{number:02}")
}

fn audit(event: AuditEvent, millis: i64) -> AuditRecord {
    AuditRecord {
        at: at(millis),
        event,
        actor: AuditActorKind::System,
        subject: None,
        session: None,
        origin: Origin::new(None, None, Some(format!("request-{millis}"))),
        refusal: None,
        details: None,
    }
}

fn mail(to: &str, token: Option<TokenHash>) -> NewMail {
    NewMail {
        to: email(to),
        kind: MailKind::VerifyAddress,
        locale: Locale::En,
        nickname: to.to_owned(),
        seed: Some(TokenSeed::from_bytes([9; 32])),
        token,
        valid_for: Some(Duration::from_hours(1)),
        new_address: None,
        client_address: Some([192, 0, 2, 1].into()),
        network: None,
        user_agent: None,
        written_at: at(1),
        message_key: [7; 16],
    }
}

/// Creates an account with a token, a mail and a session.
async fn account(store: &Store, number: u64, role: Role) {
    let name = name(number);
    let hash = TokenHash::from_bytes([u8::try_from(number).unwrap(); 32]);
    let token = NewToken {
        hash,
        purpose: TokenPurpose::VerifyAddress,
        address: email(&name).key().clone(),
        issued_at: at(1),
        expires_at: at(i64::MAX / 2),
    };
    let effects = Effects {
        mails: vec![mail(&name, Some(hash))],
        tokens: vec![token],
        audit: vec![audit(AuditEvent::Registered, 1)],
        ..Effects::default()
    };
    let nickname = Nickname::parse(&name).unwrap();
    let new = NewAccount { role: NewRole::Exactly(role), ..NewAccount::sample(email(&name), nickname) };
    let id = store.create_account(new, effects).await.unwrap().id;
    for session in 0..2 {
        open_session(store, id, session).await.unwrap();
    }
}

async fn open_session(store: &Store, account: AccountId, number: u8) -> Result<(), StoreError<OpenSessionRefusal>> {
    let mut id = [number; 16];
    id[..8].copy_from_slice(&account.get().to_be_bytes());
    let session = Session {
        id: SessionId::from_bytes(id),
        account,
        epoch: 0,
        created_at: at(1),
        authenticated_at: Some(at(1)),
        expires_at: at(i64::MAX / 2),
        last_active_at: at(1),
        address: Some([192, 0, 2, 1].into()),
        user_agent: None,
        notified_at: None,
        label: None,
        remembered: false,
    };
    let family = RefreshChain::begin(account, session.id, 1).family();
    let sign_in = SignIn { from: [192, 0, 2, number].into(), notice: mail("notice", None) };
    store.open_session(session, Some(family), Some(sign_in), None, audit(AuditEvent::Login, 2)).await
}

/// Fills a data directory.
pub(crate) async fn fill(data_dir: &Path) {
    let store = SledEngine::open(data_dir, SledOptions::default()).unwrap().into_store(u64::MAX);
    for number in 1..=ACCOUNTS {
        account(&store, number, if number <= 2 { Role::Admin } else { Role::User }).await;
    }
    let id = |number| AccountId::new(number).unwrap();
    let session = |number: u64| {
        let mut id = [0; 16];
        id[..8].copy_from_slice(&number.to_be_bytes());
        SessionId::from_bytes(id)
    };
    let used = |number, millis| LastUse { account: id(number), session: session(number), at: at(millis) };
    store.touch_sessions(vec![used(3, 50), used(4, 60)]).await.unwrap();
    store.end_sessions(vec![used(5, 70)], at(80), vec![audit(AuditEvent::SessionExpired, 80)]).await.unwrap();
    let update = AccountUpdate {
        id: id(6),
        change: AccountChange {
            email: Some(email("moved6")),
            undoable: Some(Undoable { at: at(90), until: at(i64::MAX / 2) }),
            ..AccountChange::default()
        },
        ends: EndSessions::None,
        expected_revision: None,
        redeems: None,
        revokes_tokens: false,
        acting: None,
    };
    let changed = Effects { audit: vec![audit(AuditEvent::AccountUpdated, 90)], ..Effects::default() };
    store.update_account(update, changed).await.unwrap();
    let token = NewServiceToken {
        acting: None,
        name: ServiceName::parse("billing").unwrap(),
        scopes: ServiceScopes::from_bits(1).unwrap(),
        digest: SecretDigest::of(b"secret"),
        created_at: at(1),
        expires_at: None,
    };
    store.create_service_token(token, audit(AuditEvent::ServiceTokenCreated, 95)).await.unwrap();
}

/// Fills a data directory whose only administrator was its last account when it was deleted.
pub(crate) async fn fill_without_administrator(data_dir: &Path) {
    let store = SledEngine::open(data_dir, SledOptions::default()).unwrap().into_store(u64::MAX);
    account(&store, 1, Role::Admin).await;
    let deleted = Effects { audit: vec![audit(AuditEvent::AccountDeleted, 5)], ..Effects::default() };
    store.delete_account(AccountId::new(1).unwrap(), None, None, deleted).await.unwrap();
    account(&store, 2, Role::User).await;
}

/// A directory with a filled data directory `data` in it.
pub(crate) async fn filled() -> TempDir {
    let dir = TempDir::new().unwrap();
    fill(&dir.path().join("data")).await;
    dir
}

/// The outcome of a command.
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) out: Vec<u8>,
    pub(crate) err: String,
}

impl Run {
    fn of(output: Output) -> Self {
        let err = String::from_utf8(output.stderr).unwrap();
        Self { code: output.status.code(), out: output.stdout, err }
    }

    /// Fails unless the command failed and said this.
    #[track_caller]
    pub(crate) fn refused(&self, why: &str) {
        assert!(self.code == Some(1) && self.err.contains(why), "{:?}: {}", self.code, self.err);
    }

    /// Fails unless the command succeeded.
    #[track_caller]
    pub(crate) fn done(self) -> String {
        assert_eq!(self.code, Some(0), "{}", self.err);
        String::from_utf8_lossy(&self.out).into_owned()
    }
}

/// The program in a directory, with this data directory in it.
pub(crate) fn command(dir: &Path, data: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_doorward"));
    command.args(arguments).env_clear().current_dir(dir).env("DATA_DIR", data).stdin(Stdio::null());
    command
}

/// Runs the program.
pub(crate) fn run(dir: &Path, data: &str, arguments: &[&str]) -> Run {
    Run::of(command(dir, data, arguments).output().unwrap())
}

/// Makes a backup of `data` and returns its bytes.
pub(crate) fn backup(dir: &Path) -> Vec<u8> {
    run(dir, "data", &["backup", "--to", "backup.dw"]).done();
    std::fs::read(dir.join("backup.dw")).unwrap()
}

/// Writes a file in a directory.
pub(crate) fn write(dir: &Path, name: &str, bytes: &[u8]) -> PathBuf {
    let path = dir.join(name);
    std::fs::write(&path, bytes).unwrap();
    path
}
