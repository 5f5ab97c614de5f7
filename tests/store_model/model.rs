//! Random sequences of all operations give the same answers and leave the same state on both stores.

use std::path::Path;

use doorward_actors::ports::{AccountUpdate, EndSessions, Page, ShardOf, Store, StoreError, StoreFailure, Touch};
use doorward_actors::testing::MemoryStore;
use doorward_actors::{AccountChange, CredentialHash, CustomerAccount, Email, NewRole, Nickname, Role, SessionId};
use proptest::prelude::*;

use crate::{at, audit, id, new_account, open, runtime, session};

/// Few names, so that they collide; the first two are one name in two spellings.
const NAMES: &[&str] = &["ann", "ANN", "bob", "cyd"];

/// One call, with account and session numbers from small ranges, so that they hit, miss and hit again after a deletion.
#[derive(Debug, Clone)]
enum Step {
    Create { email: usize, nickname: usize, role: NewRole },
    Update { account: u64, revision: Revision, change: Change, ends: Ends },
    Delete { account: u64, revision: Revision },
    Open { account: u64, name: u8, epoch: Epoch, used: i64 },
    End(Vec<(u64, u8, i64)>),
    Touch(Vec<(u64, u8, i64)>),
    Append(usize),
    Probe,
    Reopen,
}

#[derive(Debug, Clone, Copy)]
enum Revision {
    Any,
    Current,
    Old,
}

#[derive(Debug, Clone, Copy)]
enum Epoch {
    Current,
    Old,
}

#[derive(Debug, Clone, Copy)]
enum Ends {
    None,
    All,
    AllBut(u8),
}

#[derive(Debug, Clone)]
struct Change {
    email: Option<usize>,
    nickname: Option<usize>,
    password: Option<u8>,
    plan: Option<u8>,
    role: Option<Role>,
    locked: Option<bool>,
}

fn step() -> impl Strategy<Value = Step> {
    let account = || 1_u64..6;
    let name = || 1_u8..5;
    let used = || (account(), name(), 0_i64..100);
    let role = prop_oneof![Just(Role::User), Just(Role::Admin)];
    let new_role = prop_oneof![
        Just(NewRole::AdminIfFirst),
        Just(NewRole::Exactly(Role::User)),
        Just(NewRole::Exactly(Role::Admin)),
    ];
    let revision = || prop_oneof![2 => Just(Revision::Any), 3 => Just(Revision::Current), 1 => Just(Revision::Old)];
    let ends = prop_oneof![2 => Just(Ends::None), 1 => Just(Ends::All), 2 => name().prop_map(Ends::AllBut)];
    let epoch = prop_oneof![5 => Just(Epoch::Current), 1 => Just(Epoch::Old)];
    let change = (
        proptest::option::weighted(0.3, 0..NAMES.len()),
        proptest::option::weighted(0.3, 0..NAMES.len()),
        proptest::option::weighted(0.3, 0_u8..3),
        proptest::option::weighted(0.2, 0_u8..3),
        proptest::option::weighted(0.4, role),
        proptest::option::weighted(0.4, any::<bool>()),
    )
        .prop_map(|(email, nickname, password, plan, role, locked)| Change {
            email,
            nickname,
            password,
            plan,
            role,
            locked,
        });
    prop_oneof![
        6 => (0..NAMES.len(), 0..NAMES.len(), new_role)
            .prop_map(|(email, nickname, role)| Step::Create { email, nickname, role }),
        6 => (account(), revision(), change, ends)
            .prop_map(|(account, revision, change, ends)| Step::Update { account, revision, change, ends }),
        2 => (account(), revision()).prop_map(|(account, revision)| Step::Delete { account, revision }),
        8 => (account(), name(), epoch, 0_i64..100)
            .prop_map(|(account, name, epoch, used)| Step::Open { account, name, epoch, used }),
        3 => proptest::collection::vec(used(), 0..4).prop_map(Step::End),
        4 => proptest::collection::vec(used(), 0..4).prop_map(Step::Touch),
        1 => (0_usize..3).prop_map(Step::Append),
        1 => Just(Step::Probe),
        1 => Just(Step::Reopen),
    ]
}

impl Change {
    fn build(&self) -> AccountChange {
        AccountChange {
            email: self.email.map(email),
            nickname: self.nickname.map(nickname),
            password_hash: self.password.map(|n| CredentialHash::from_phc(format!("$password${n}"))),
            passphrase_hash: self.password.map(|n| CredentialHash::from_phc(format!("$passphrase${n}"))),
            customer_account: self.plan.map(|n| CustomerAccount::parse(&format!("plan {n}")).unwrap()),
            role: self.role,
            locked: self.locked,
        }
    }
}

fn email(name: usize) -> Email {
    Email::parse(&format!("{}@example.com", NAMES[name])).unwrap()
}

fn nickname(name: usize) -> Nickname {
    Nickname::parse(NAMES[name]).unwrap()
}

fn sid(name: u8) -> SessionId {
    SessionId::from_bytes([name; 16])
}

fn touches(of: &[(u64, u8, i64)]) -> Vec<Touch> {
    of.iter().map(|&(account, name, used)| Touch { account: id(account), session: sid(name), at: at(used) }).collect()
}

/// An answer in a form in which the answers of two stores can be compared; a failing store fails the test.
fn answer<T: std::fmt::Debug, R: std::fmt::Debug>(answer: Result<T, StoreError<R>>) -> String {
    match answer {
        Ok(value) => format!("done: {value:?}"),
        Err(StoreError::Refused(refusal)) => format!("refused: {refusal:?}"),
        Err(StoreError::Failed(failure)) => panic!("{failure}"),
    }
}

fn done(answer: Result<(), StoreFailure>) -> String {
    answer.map(|()| "done".to_owned()).unwrap()
}

async fn run(store: &dyn Store, step: &Step, mark: i64) -> String {
    let audit = audit(mark);
    match step {
        Step::Create { email: e, nickname: n, role } => {
            let new =
                doorward_actors::NewAccount { email: email(*e), nickname: nickname(*n), ..new_account("x", *role) };
            answer(store.create_account(new, audit).await)
        }
        Step::Update { account, revision, change, ends } => {
            let update = AccountUpdate {
                id: id(*account),
                expected_revision: expected(store, *account, *revision).await,
                change: change.build(),
                ends: match ends {
                    Ends::None => EndSessions::None,
                    Ends::All => EndSessions::All,
                    Ends::AllBut(name) => EndSessions::AllBut(sid(*name)),
                },
            };
            answer(store.update_account(update, audit).await)
        }
        Step::Delete { account, revision } => {
            let revision = expected(store, *account, *revision).await;
            answer(store.delete_account(id(*account), revision, audit).await)
        }
        Step::Open { account, name, epoch, used } => {
            let current = store.account(id(*account)).await.unwrap().map_or(0, |account| account.session_epoch);
            let epoch = match epoch {
                Epoch::Current => current,
                Epoch::Old => current.wrapping_sub(1),
            };
            answer(store.open_session(session(*account, *name, epoch, *used), audit).await)
        }
        Step::End(ended) => done(store.end_sessions(touches(ended), vec![audit]).await),
        Step::Touch(touched) => done(store.touch_sessions(touches(touched)).await),
        Step::Append(count) => done(store.append_audit(vec![audit; *count]).await),
        Step::Probe => done(store.probe().await),
        Step::Reopen => String::new(),
    }
}

async fn expected(store: &dyn Store, account: u64, revision: Revision) -> Option<u64> {
    let current = store.account(id(account)).await.unwrap().map_or(0, |account| account.revision);
    match revision {
        Revision::Any => None,
        Revision::Current => Some(current),
        Revision::Old => Some(current.wrapping_sub(1)),
    }
}

/// Everything that can be asked of a store.
async fn observe(store: &dyn Store) -> Vec<String> {
    let mut seen = Vec::new();
    for account in 1..8 {
        seen.push(format!("{:?}", store.account(id(account)).await.unwrap()));
        seen.push(format!("{:?}", store.listed_account(id(account)).await.unwrap()));
        for name in 1..6 {
            seen.push(format!("{:?}", store.session(id(account), sid(name)).await.unwrap()));
        }
    }
    for name in 0..NAMES.len() {
        seen.push(format!("{:?}", store.account_by_email(email(name).key()).await.unwrap()));
    }
    for page in [Page { skip: 0, limit: 100 }, Page { skip: 1, limit: 2 }, Page { skip: 9, limit: 1 }] {
        seen.push(format!("{:?}", store.accounts(page).await.unwrap()));
    }
    for shard in [ShardOf { index: 0, of: 1 }, ShardOf { index: 0, of: 2 }, ShardOf { index: 1, of: 2 }] {
        let mut sessions = store.sessions(shard).await.unwrap();
        sessions.sort_by_key(|session| (session.account, session.id));
        seen.push(format!("{sessions:?}"));
    }
    for limit in [0, 3, 1000] {
        seen.push(format!("{:?}", store.recent_audit(limit).await.unwrap()));
    }
    seen.push(format!("{:?}", store.had_admin().await.unwrap()));
    seen
}

fn compare(dir: &Path, steps: &[Step]) {
    runtime().block_on(async {
        let model = MemoryStore::new();
        let mut store = open(dir);
        for (mark, step) in (1..).zip(steps) {
            if matches!(step, Step::Reopen) {
                drop(store);
                store = open(dir);
            }
            assert_eq!(run(&store, step, mark).await, run(&model, step, mark).await, "the answer to {step:?}");
        }
        assert_eq!(observe(&store).await, observe(&model).await);
        drop(store);
        assert_eq!(observe(&open(dir)).await, observe(&model).await, "after a last reopening");
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_stores_answer_alike(steps in proptest::collection::vec(step(), 1..60)) {
        let dir = tempfile::tempdir().unwrap();
        compare(dir.path(), &steps);
    }
}

/// The strategy must reach the cases it is there for; if its ranges drift, this fails rather than testing nothing.
#[test]
fn random_steps_reach_every_refusal() {
    use proptest::strategy::ValueTree as _;
    use proptest::test_runner::TestRunner;

    let mut runner = TestRunner::deterministic();
    let steps = proptest::collection::vec(step(), 60);
    let mut answers = String::new();
    runtime().block_on(async {
        for _ in 0..100 {
            let model = MemoryStore::new();
            for step in steps.new_tree(&mut runner).unwrap().current() {
                answers.push_str(&run(&model, &step, 1).await);
            }
        }
    });
    for refusal in ["EmailTaken", "NicknameTaken", "Stale", "Unknown", "LastAdmin", "OpenSessionRefusal"] {
        assert!(answers.contains(&format!("refused: {refusal}")), "{refusal}");
    }
}
