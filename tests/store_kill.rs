//! R01, R02: a process that is killed at any moment loses no acknowledged change and starts again. R03: a process whose
//! disk is full loses none either, and reports the failure.
//!
//! The test starts itself as a child process. The child works on a store and reports each acknowledgement. The test
//! kills the child and checks what is on disk. `DOORWARD_KILL_LOOPS` sets the number of rounds; 300 is a thorough run.
#![expect(clippy::unwrap_used, reason = "a test helper fails its test by panicking")]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use doorward::engine::sled::{SledEngine, SledOptions};
use doorward_actors::ports::Entropy as _;
use doorward_actors::store::chain::verify::AuditFinding;
use doorward_actors::store::{AccountUpdate, Effects, EndSessions, LastUse, ShardOf, Store};
use doorward_actors::testing::SeededEntropy;
use doorward_actors::{
    AccountChange, AccountId, AuditEvent, AuditHead, AuditRecord, CredentialHash, Email, Locale, MailKind, NewAccount,
    NewMail, NewRole, NewToken, Nickname, Origin, Session, SessionId, Timestamp, TokenHash, TokenPurpose, TokenSeed,
};

const CHILD_DIR: &str = "DOORWARD_KILL_CHILD_DIR";
const CHILD_RUN: &str = "DOORWARD_KILL_CHILD_RUN";
const LOOPS: &str = "DOORWARD_KILL_LOOPS";
/// The first word of a line that reports an acknowledgement. The test harness writes lines of its own.
const ACK: &str = "ack";
/// The number of concurrent callers in a child, so that its changes share commit groups.
const CALLERS: u64 = 8;

/// The last acknowledged step in the life of an account. The child takes each account through these steps in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Created,
    LoggedIn,
    LoggedOut,
    Locked,
    Deleted,
}

const STAGES: [Stage; 5] = [Stage::Created, Stage::LoggedIn, Stage::LoggedOut, Stage::Locked, Stage::Deleted];

fn open(dir: &Path) -> Store {
    SledEngine::open(dir, SledOptions::default()).unwrap().into_store(u64::MAX)
}

fn email(name: &str) -> Email {
    Email::parse(&format!("{name}@example.com")).unwrap()
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn audit() -> AuditRecord {
    AuditRecord::new(AuditEvent::AccountUpdated, at(1))
}

/// A mail to the owner of an account, due immediately.
fn mail(name: &str, kind: MailKind) -> NewMail {
    NewMail {
        to: email(name),
        kind,
        locale: Locale::En,
        nickname: name.to_owned(),
        seed: Some(TokenSeed::from_bytes([1; 32])),
        token: None,
        valid_for: None,
        new_address: None,
        client_address: None,
        network: None,
        user_agent: None,
        written_at: at(1),
        message_key: [1; 16],
    }
}

/// A one-time token for the owner of an account. Its hash is made from the name.
fn token(name: &str) -> NewToken {
    NewToken {
        hash: TokenHash::of(&format!("{:-<43}", name.replace('.', "_"))).unwrap(),
        purpose: TokenPurpose::VerifyAddress,
        address: email(name).key().clone(),
        issued_at: at(1),
        expires_at: at(1000),
    }
}

/// The child process. It is not a test of its own: the parent starts it and kills it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the parent starts this as a process of its own"]
async fn child() {
    let Ok(dir) = std::env::var(CHILD_DIR) else { return };
    let run = std::env::var(CHILD_RUN).unwrap();
    let store = Arc::new(open(Path::new(&dir)));
    let mut callers = tokio::task::JoinSet::new();
    for caller in 0..CALLERS {
        let (store, run) = (Arc::clone(&store), run.clone());
        callers.spawn(async move {
            for life in 0_u64.. {
                live(&store, &format!("run{run}.{caller}.{life}")).await;
            }
        });
    }
    callers.join_all().await;
}

async fn live(store: &Store, name: &str) {
    let report = |stage: Stage, id: AccountId| {
        writeln!(std::io::stdout().lock(), "{ACK} {} {id} {name}", stage as usize).unwrap();
    };
    let new = NewAccount {
        password_hash: CredentialHash::from_phc("$password".repeat(10)),
        passphrase_hash: CredentialHash::from_phc("$passphrase".repeat(10)),
        role: NewRole::AdminIfFirst,
        ..NewAccount::sample(email(name), Nickname::parse(name).unwrap())
    };
    let with =
        Effects { mails: vec![mail(name, MailKind::VerifyAddress)], tokens: vec![token(name)], ..audit().into() };
    let id = store.create_account(new, with).await.unwrap().id;
    report(Stage::Created, id);
    let session = Session {
        id: SessionId::from_bytes([1; 16]),
        account: id,
        epoch: 0,
        created_at: at(1),
        authenticated_at: Some(at(1)),
        expires_at: at(1000),
        last_active_at: at(1),
        address: None,
        user_agent: None,
        notified_at: None,
        label: None,
        remembered: false,
    };
    store.open_session(session.clone(), None, None, None, audit()).await.unwrap();
    report(Stage::LoggedIn, id);
    let touch = LastUse { account: id, session: session.id, at: at(2) };
    store.touch_sessions(vec![touch]).await.unwrap();
    store.end_sessions(vec![touch], at(2), vec![audit()]).await.unwrap();
    report(Stage::LoggedOut, id);
    let lock = AccountChange { locked: Some(true), ..AccountChange::default() };
    let update = AccountUpdate {
        acting: None,
        id,
        expected_revision: Some(0),
        change: lock,
        ends: EndSessions::All,
        redeems: None,
        revokes_tokens: false,
    };
    // The first account is the administrator, which can be neither locked nor deleted.
    if store.update_account(update, audit().into()).await.is_ok() {
        report(Stage::Locked, id);
        let with = Effects { mails: vec![mail(name, MailKind::AccountDeleted)], ..audit().into() };
        store.delete_account(id, Some(1), None, with).await.unwrap();
        report(Stage::Deleted, id);
    }
}

/// The child of R03: appends audit records until the disk is full. It succeeds if the store then refuses reads and
/// writes and gives a reason.
#[tokio::test]
#[ignore = "the parent starts this as a process of its own"]
async fn child_with_a_full_disk() {
    let Ok(dir) = std::env::var(CHILD_DIR) else { return };
    let engine = Arc::new(SledEngine::open(Path::new(&dir), SledOptions::default()).unwrap());
    let (failed, store) = (engine.failed(), Store::new(engine, u64::MAX));
    for n in 0_u64.. {
        // Each record is large and different, because repeated content might need no space.
        let mut bytes = [0; 1500];
        SeededEntropy::new(n).fill(&mut bytes);
        let agent = bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
        let origin = Origin { request_id: Some(agent), ..Origin::default() };
        match store.append_audit(vec![AuditRecord { at: at(1), origin, ..audit() }]).await {
            Ok(()) => writeln!(std::io::stdout().lock(), "{ACK}").unwrap(),
            Err(_) => break,
        }
    }
    let reason = tokio::time::timeout(Duration::from_secs(5), failed).await.unwrap();
    assert!(store.append_audit(vec![audit()]).await.is_err(), "a failed store took a write");
    assert!(store.probe().await.is_err(), "a failed store says it is well");
    assert!(store.recent_audit(1).await.is_err(), "a failed store shows what may not be on disk");
    writeln!(std::io::stdout().lock(), "reason: {reason}").unwrap();
}

#[test]
fn r03_a_full_disk_is_no_false_acknowledgement_and_no_loss() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    // A limit on file size stands in for a full disk. The signal that comes with it is ignored, so that writes fail as
    // they do on a full disk.
    let script = "trap '' XFSZ; ulimit -f 8192; exec \"$0\" --exact child_with_a_full_disk --ignored --nocapture";
    let output = Command::new("sh")
        .args(["-c", script])
        .arg(std::env::current_exe().unwrap())
        .env(CHILD_DIR, dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.contains("reason: "), "{said}");
    let acknowledged = said.lines().filter(|line| *line == ACK).count();
    assert!(acknowledged > 100, "the disk was full too soon to tell: {acknowledged}");

    // There is space again.
    let store = open(dir.path());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let found = store.recent_audit(usize::MAX).await.unwrap().len();
        assert!(found >= acknowledged, "{found} of {acknowledged} records");
        store.probe().await.unwrap();
    });
}

/// Runs a child until it has acknowledged `acks` changes, or for the time `or_for`, and kills it. Returns all its
/// acknowledgements.
fn run_and_kill(dir: &Path, run: usize, acks: usize, or_for: Option<Duration>) -> Vec<(Stage, u64, String)> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--ignored", "--nocapture"])
        .env(CHILD_DIR, dir)
        .env(CHILD_RUN, run.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap());
    let mut acknowledged = Vec::new();
    if let Some(time) = or_for {
        // Kills the child during its start, which reports nothing.
        std::thread::sleep(time);
        child.kill().unwrap();
    }
    let mut line = String::new();
    while lines.read_line(&mut line).unwrap() > 0 {
        // A line without its line end was cut by the kill.
        let words: Vec<&str> = line.strip_suffix('\n').unwrap_or_default().split(' ').collect();
        if let [ACK, stage, id, name] = words[..] {
            acknowledged.push((STAGES[stage.parse::<usize>().unwrap()], id.parse().unwrap(), name.to_owned()));
            if acknowledged.len() == acks {
                child.kill().unwrap();
            }
        }
        line.clear();
    }
    let status = child.wait().unwrap();
    assert!(!status.success() && status.code().is_none(), "the child ended by itself: {status}");
    acknowledged
}

#[test]
fn r01_a_kill_loses_nothing_that_was_acknowledged() {
    let loops = std::env::var(LOOPS).ok().and_then(|loops| loops.parse().ok()).unwrap_or(12);
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let random = SeededEntropy::new(1);
    let mut known: BTreeMap<u64, (Stage, String)> = BTreeMap::new();
    let mut acknowledged_changes = 0;
    let mut last_head = None;
    for run in 0..loops {
        let mut bytes = [0; 2];
        random.fill(&mut bytes);
        // Every third kill hits the start (R02). The others hit the work.
        let or_for = (run % 3 == 0).then(|| Duration::from_micros(u64::from(u16::from_be_bytes(bytes)) / 2));
        let acks = 1 + usize::from(bytes[0]);
        let given_before = known.keys().next_back().copied().unwrap_or(0);
        for (stage, id, name) in run_and_kill(dir.path(), run, acks, or_for) {
            acknowledged_changes += 1;
            assert!(known.contains_key(&id) || id > given_before, "account number {id} was given twice");
            let known = known.entry(id).or_insert((stage, name.clone()));
            assert_eq!(known.1, name, "account number {id} was given twice");
            known.0 = known.0.max(stage);
        }
        let store = open(dir.path());
        let head = runtime.block_on(check(&store, &known, acknowledged_changes));
        drop(store);
        // Verifies from the head after the previous run: every record up to it must be unchanged, byte for byte.
        let report = SledEngine::verify_audit(dir.path(), SledOptions::default(), last_head.replace(head)).unwrap();
        assert_eq!(report.finding, AuditFinding::Whole(head), "the chain of the audit log: {report:?}");
    }
    assert!(known.values().any(|(stage, _)| *stage == Stage::Deleted), "the children did not get far");
}

async fn check(store: &Store, known: &BTreeMap<u64, (Stage, String)>, acknowledged_changes: usize) -> AuditHead {
    let sessions = store.sessions(ShardOf { index: 0, of: 1 }).await.unwrap();
    let mails = store.mails(None, usize::MAX).await.unwrap();
    let mut due = store.due_mails(at(1), usize::MAX).await.unwrap();
    due.sort_by_key(|mail| mail.id);
    assert_eq!(due, mails, "the mails and the order of their attempts");
    for (id, (stage, name)) in known {
        let id = AccountId::new(*id).unwrap();
        let account = store.account(id).await.unwrap();
        assert_eq!(store.account_by_email(email(name).key()).await.unwrap(), account, "{name}: index and record");
        // The mail and the token of a change exist if and only if the change exists.
        let queued = |kind| mails.iter().filter(|mail| mail.mail.kind == kind && mail.mail.nickname == *name).count();
        let exists = usize::from(account.is_some());
        assert_eq!(queued(MailKind::VerifyAddress), exists, "{name}: the mail of its making");
        assert_eq!(queued(MailKind::AccountDeleted), 1 - exists, "{name}: the mail of its deletion");
        let token = store.one_time_token(&token(name).hash).await.unwrap();
        assert_eq!(token.as_ref().map(|token| token.account), account.as_ref().map(|account| account.id), "{name}");
        assert_eq!(store.token_of(id, TokenPurpose::VerifyAddress).await.unwrap(), token, "{name}: index and record");
        // The step after the last acknowledged one may have been committed too.
        match stage {
            Stage::Created | Stage::LoggedIn | Stage::LoggedOut => assert!(account.is_some(), "{name} at {stage:?}"),
            Stage::Locked => assert!(account.is_none_or(|account| account.locked), "{name} at {stage:?}"),
            Stage::Deleted => assert_eq!(account, None, "{name} at {stage:?}"),
        }
        if *stage >= Stage::LoggedOut {
            assert!(sessions.iter().all(|session| session.account != id), "{name}: a session came back");
        }
    }
    let audit = store.recent_audit(usize::MAX).await.unwrap();
    assert!(audit.len() >= acknowledged_changes, "an acknowledged change is not on record");
    let newest = audit.first().map_or(0, |(sequence, _)| *sequence);
    assert_eq!(newest, audit.len() as u64, "the audit log has a gap");
    store.probe().await.unwrap();
    store.audit_status().await.unwrap().head
}
