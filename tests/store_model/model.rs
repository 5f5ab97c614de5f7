//! Random sequences of all operations give the same answers and the same state on both engines as in the model.

use std::path::Path;
use std::time::Duration;

use doorward_actors::store::{
    AccountUpdate, Effects, EndSessions, LastUse, Page, Redemption, ShardOf, StoreError, StoreFailure,
};
use doorward_actors::testing::RefreshChain;
use doorward_actors::{
    AccountChange, AccountId, AuditOrder, AuditPruning, AuditRecord, CredentialHash, CustomerAccount, Email, Locale,
    MailKind, MailOutcome, NewAccount, NewMail, NewRole, NewToken, Nickname, ProfileChange, Role, Session, SessionId,
    TokenHash, TokenPurpose, Undoable, WhichSessions,
};
use proptest::prelude::*;

use crate::plain::Model;
use crate::questions::{DAYS_3, filters, walk, without_hashes};
use crate::subject::Subject;
use crate::{at, audit, id, mail, mail_id, memory, new_account, open, runtime, session, sign_in, token};

/// Few names, so that they collide. The first two are one name in two spellings.
pub(crate) const NAMES: &[&str] = &["ann", "ANN", "bob", "cyd"];

/// The index of no name.
const NOBODY: usize = NAMES.len();

/// One call. Account and session numbers come from small ranges, so that they hit, miss, and hit again after a deletion.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Create { email: usize, nickname: usize, role: NewRole, made: i64, replaces: bool, with: With },
    Update { account: u64, revision: Revision, change: Change, ends: Ends, redeems: Redeems, revokes: bool, with: With },
    Delete { account: u64, revision: Revision, with: With },
    Record { account: u64, with: With },
    Open { account: u64, name: u8, epoch: Epoch, used: i64, from: Option<u8>, crowded: bool },
    Settle { mail: u64, at: i64, outcome: Outcome },
    Claim { mail: u64, now: i64, keeps: bool },
    RetryMail { mail: u64, at: i64 },
    DeleteMail(u64),
    PruneMails { now: i64 },
    End(Vec<(u64, u8, i64)>),
    EndOf { account: u64, which: WhichSessions, seen: Vec<(u64, u8, i64)>, at: i64 },
    EndIdle(Vec<(u64, u8, i64)>),
    LastUse(Vec<(u64, u8, i64)>),
    Refresh(crate::refresh::Use),
    Label { account: u64, name: u8, label: Option<u8> },
    Append(usize),
    Prune { before: Option<i64>, now: i64, limit: usize },
    CreateService(usize),
    RotateService { token: u64, until: i64 },
    DeleteService(u64),
    UseServices(Vec<(u64, i64)>),
    RecordKeys { replaced_at: Option<i64> },
    PruneRevocations { before: i64, up_to: u64, limit: usize },
    Probe,
    Reopen,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Revision {
    Any,
    Current,
    Old,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Epoch {
    Current,
    Old,
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Ends {
    None,
    All,
    AllBut(u8),
}

#[derive(Debug, Clone, Copy)]
pub(crate) enum Outcome {
    Sent,
    Retry,
    Dead,
}

/// The token that a change presents.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Redeems {
    Nothing,
    /// The account's token for this purpose, presented at this time.
    Own(TokenPurpose, i64),
    /// Any token, with any claim about it.
    Any {
        hash: u8,
        purpose: TokenPurpose,
        address: usize,
    },
}

/// The effects of a change.
#[derive(Debug, Clone)]
pub(crate) struct With {
    /// The due time of each mail.
    mails: Vec<i64>,
    tokens: Vec<(u8, TokenPurpose, usize, i64)>,
    settles_from: Option<u64>,
}

#[derive(Debug, Clone)]
pub(crate) struct Change {
    email: Option<usize>,
    nickname: Option<usize>,
    /// The highest value makes the passphrase unusable, the one before it the password.
    password: Option<u8>,
    /// When a new address is taken, and until when that can be undone.
    undoable: Option<(i64, i64)>,
    plan: Option<u8>,
    role: Option<Role>,
    locked: Option<bool>,
    verified: Option<bool>,
    /// [`NOBODY`] removes it.
    pending: Option<usize>,
    locale: Option<Locale>,
    compromised: Option<bool>,
}

fn with() -> impl Strategy<Value = With> {
    let token = (1_u8..6, proptest::sample::select(&TokenPurpose::ALL[..]), 0..NAMES.len(), 0_i64..100);
    let settles_from = proptest::option::weighted(0.2, 0_u64..6);
    (proptest::collection::vec(-50_i64..100, 0..4), proptest::collection::vec(token, 0..3), settles_from)
        .prop_map(|(mails, tokens, settles_from)| With { mails, tokens, settles_from })
}

fn redeems() -> impl Strategy<Value = Redeems> {
    let purpose = || proptest::sample::select(&TokenPurpose::ALL[..]);
    prop_oneof![
        3 => Just(Redeems::Nothing),
        2 => (purpose(), 0_i64..100).prop_map(|(purpose, now)| Redeems::Own(purpose, now)),
        1 => (1_u8..6, purpose(), 0..NAMES.len())
            .prop_map(|(hash, purpose, address)| Redeems::Any { hash, purpose, address }),
    ]
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
    let ends = prop_oneof![3 => Just(Ends::None), 1 => Just(Ends::All), 2 => name().prop_map(Ends::AllBut)];
    let epoch = prop_oneof![5 => Just(Epoch::Current), 1 => Just(Epoch::Old)];
    let change = (
        proptest::option::weighted(0.3, 0..NAMES.len()),
        proptest::option::weighted(0.3, 0..NAMES.len()),
        proptest::option::weighted(0.3, 0_u8..5),
        proptest::option::weighted(0.8, (0_i64..100, 0_i64..200)),
        proptest::option::weighted(0.2, 0_u8..3),
        proptest::option::weighted(0.4, role),
        proptest::option::weighted(0.4, any::<bool>()),
        proptest::option::weighted(0.3, any::<bool>()),
        proptest::option::weighted(0.3, 0..=NOBODY),
        proptest::option::weighted(0.3, proptest::sample::select(&Locale::ALL[..])),
        proptest::option::weighted(0.2, any::<bool>()),
    )
        .prop_map(
            |(email, nickname, password, undoable, plan, role, locked, verified, pending, locale, compromised)| {
                Change {
                    email,
                    nickname,
                    password,
                    undoable,
                    plan,
                    role,
                    locked,
                    verified,
                    pending,
                    locale,
                    compromised,
                }
            },
        );
    let which = prop_oneof![
        name().prop_map(|name| WhichSessions::One(sid(name))),
        name().prop_map(|name| WhichSessions::AllBut(sid(name))),
        Just(WhichSessions::All),
    ];
    let outcome = prop_oneof![Just(Outcome::Sent), Just(Outcome::Retry), Just(Outcome::Dead)];
    let mail = || 1_u64..8;
    prop_oneof![
        6 => (0..NAMES.len(), 0..NAMES.len(), new_role, 0_i64..100, any::<bool>(), with())
            .prop_map(|(email, nickname, role, made, replaces, with)|
                Step::Create { email, nickname, role, made, replaces, with }),
        8 => (account(), revision(), change, ends, redeems(), any::<bool>(), with())
            .prop_map(|(account, revision, change, ends, redeems, revokes, with)|
                Step::Update { account, revision, change, ends, redeems, revokes, with }),
        2 => (account(), revision(), with())
            .prop_map(|(account, revision, with)| Step::Delete { account, revision, with }),
        5 => (account(), with()).prop_map(|(account, with)| Step::Record { account, with }),
        8 => (account(), name(), epoch, 0_i64..100, proptest::option::of(0_u8..6), any::<bool>())
            .prop_map(|(account, name, epoch, used, from, crowded)|
                Step::Open { account, name, epoch, used, from, crowded }),
        1 => (mail(), -50_i64..100, any::<bool>()).prop_map(|(mail, now, keeps)| Step::Claim { mail, now, keeps }),
        4 => (mail(), -50_i64..100, outcome).prop_map(|(mail, at, outcome)| Step::Settle { mail, at, outcome }),
        1 => (mail(), -50_i64..100).prop_map(|(mail, at)| Step::RetryMail { mail, at }),
        1 => mail().prop_map(Step::DeleteMail),
        1 => (0_i64..5 * DAYS_3).prop_map(|now| Step::PruneMails { now }),
        3 => proptest::collection::vec(used(), 0..4).prop_map(Step::End),
        2 => (account(), which, proptest::collection::vec(used(), 0..3), 0_i64..100)
            .prop_map(|(account, which, seen, at)| Step::EndOf { account, which, seen, at }),
        2 => proptest::collection::vec(used(), 0..4).prop_map(Step::EndIdle),
        4 => proptest::collection::vec(used(), 0..4).prop_map(Step::LastUse),
        16 => crate::refresh::step().prop_map(Step::Refresh),
        2 => (account(), name(), proptest::option::of(0_u8..3))
            .prop_map(|(account, name, label)| Step::Label { account, name, label }),
        2 => (0_usize..4).prop_map(Step::Append),
        1 => (proptest::option::of(0_i64..60), 0_i64..100, 1_usize..20)
            .prop_map(|(before, now, limit)| Step::Prune { before, now, limit }),
        2 => (0..NAMES.len()).prop_map(Step::CreateService),
        1 => (0_u64..4, 0_i64..100).prop_map(|(token, until)| Step::RotateService { token, until }),
        1 => (0_u64..4).prop_map(Step::DeleteService),
        1 => proptest::collection::vec((0_u64..4, 0_i64..100), 0..3).prop_map(Step::UseServices),
        1 => proptest::option::of(0_i64..60).prop_map(|replaced_at| Step::RecordKeys { replaced_at }),
        1 => (0_i64..60, 0_u64..20, 1_usize..6)
            .prop_map(|(before, up_to, limit)| Step::PruneRevocations { before, up_to, limit }),
        1 => Just(Step::Probe),
        1 => Just(Step::Reopen),
    ]
}

impl Change {
    fn build(&self) -> AccountChange {
        let customer_account = self.plan.map(|n| CustomerAccount::parse(&format!("plan {n}")).unwrap());
        AccountChange {
            email: self.email.map(email),
            nickname: self.nickname.map(nickname),
            password_hash: self.password.map(|n| (n != 3).then(|| phc(format!("$password${n}")))),
            renewed_hash: self.plan.map(|n| phc(format!("$renewed${n}"))),
            passphrase_hash: self.password.map(|n| (n != 4).then(|| phc(format!("$passphrase${n}")))),
            undoable: self.undoable.map(|(now, until)| Undoable { at: at(now), until: at(until) }),
            profile: ProfileChange { customer_account, locale: self.locale },
            role: self.role,
            locked: self.locked,
            email_verified: self.verified,
            pending_email: self.pending.map(|name| (name != NOBODY).then(|| email(name))),
            password_compromised: self.compromised,
        }
    }
}

impl With {
    /// Creates a mail that may exceed a limit, with the token at the same index, if there is one.
    fn mail(&self, n: u8, due: i64) -> NewMail {
        let kinds = [MailKind::VerifyAddress, MailKind::ConfirmNewAddress, MailKind::PasswordChanged];
        let at = usize::from(n);
        NewMail {
            token: self.tokens.get(at).map(|(hash, ..)| TokenHash::from_bytes([*hash; 32])),
            valid_for: Some(Duration::from_millis(20)),
            network: (due % 2 == 0).then(|| [192, 0, 2, n].into()),
            ..mail(kinds[at % 3], due)
        }
    }

    fn build(&self, mark: i64) -> Effects {
        let tokens = self.tokens.iter().map(|&(hash, purpose, name, over)| NewToken {
            address: email(name).key().clone(),
            expires_at: at(over),
            ..token(hash, purpose)
        });
        Effects {
            audit: vec![audit(mark)],
            mails: (0_u8..).zip(&self.mails).map(|(n, due)| self.mail(n, *due)).collect(),
            tokens: tokens.collect(),
            settles_from: self.settles_from,
            refresh: None,
            networks: None,
        }
    }
}

impl Redeems {
    async fn build(self, store: &dyn Subject, account: u64) -> Option<Redemption> {
        match self {
            Self::Nothing => None,
            Self::Own(purpose, now) => {
                let stored = store.token_of(id(account), purpose).await.unwrap()?;
                Some(Redemption { hash: stored.token.hash, purpose, address: stored.token.address, now: at(now) })
            }
            Self::Any { hash, purpose, address } => {
                let (hash, address) = (TokenHash::from_bytes([hash; 32]), email(address).key().clone());
                Some(Redemption { hash, purpose, address, now: at(0) })
            }
        }
    }
}

fn phc(hash: String) -> CredentialHash {
    CredentialHash::from_phc(hash)
}

fn email(name: usize) -> Email {
    Email::parse(&format!("{}@example.com", NAMES[name])).unwrap()
}

fn nickname(name: usize) -> Nickname {
    Nickname::parse(NAMES[name]).unwrap()
}

pub(crate) fn sid(name: u8) -> SessionId {
    SessionId::from_bytes([name; 16])
}

pub(crate) fn touches(of: &[(u64, u8, i64)]) -> Vec<LastUse> {
    of.iter().map(|&(account, name, used)| LastUse { account: id(account), session: sid(name), at: at(used) }).collect()
}

/// Formats an answer so that the answers of two stores can be compared. A failing store fails the test.
pub(crate) fn answer<T: std::fmt::Debug, R: std::fmt::Debug>(answer: Result<T, StoreError<R>>) -> String {
    match answer {
        Ok(value) => format!("done: {value:?}"),
        Err(StoreError::Refused(refusal)) => format!("refused: {refusal:?}"),
        Err(StoreError::Failed(failure)) => panic!("{failure}"),
    }
}

pub(crate) fn done(answer: Result<(), StoreFailure>) -> String {
    answer.map(|()| "done".to_owned()).unwrap()
}

async fn run(store: &dyn Subject, step: &Step, mark: i64) -> String {
    let audit = audit(mark);
    match step {
        Step::Create { email: e, nickname: n, role, made, replaces, with } => {
            let new = NewAccount {
                email: email(*e),
                nickname: nickname(*n),
                created_at: at(*made),
                replaces_unverified: *replaces,
                ..new_account("x", *role)
            };
            let holder = store.account_by_email(new.email.key()).await.unwrap();
            let answer = answer(store.create_account(new, with.build(mark)).await);
            // Mark this case for the test that it is reached.
            if holder.is_some() && answer.starts_with("done") { format!("replaced: {answer}") } else { answer }
        }
        Step::Update { account, revision, change, ends, redeems, revokes, with } => {
            let update = AccountUpdate {
                id: id(*account),
                acting: None,
                expected_revision: expected(store, *account, *revision).await,
                change: change.build(),
                ends: match ends {
                    Ends::None => EndSessions::None,
                    Ends::All => EndSessions::All,
                    Ends::AllBut(name) => EndSessions::AllBut(sid(*name)),
                },
                redeems: redeems.build(store, *account).await,
                revokes_tokens: *revokes,
            };
            let redeems = update.redeems.is_some();
            let mut effects = with.build(mark);
            if let Ends::AllBut(name) = ends {
                // Every other change gives the session no new tokens.
                let renewed = RefreshChain::begin(id(*account), sid(*name), 1).family();
                effects.refresh = (mark % 2 == 0).then_some(renewed);
            }
            let answer = answer(store.update_account(update, effects).await);
            if redeems && answer.starts_with("done") { format!("redeemed: {answer}") } else { answer }
        }
        Step::Delete { account, revision, with } => {
            let revision = expected(store, *account, *revision).await;
            answer(store.delete_account(id(*account), revision, None, with.build(mark)).await)
        }
        Step::Record { account, with } => answer(store.record(id(*account), with.build(mark)).await),
        Step::Open { account, name, epoch, used, from, crowded } => {
            let current = store.account(id(*account)).await.unwrap().map_or(0, |account| account.session_epoch);
            let epoch = match epoch {
                Epoch::Current => current,
                Epoch::Old => current.wrapping_sub(1),
            };
            let session = Session { created_at: at(*used), ..session(*account, *name, epoch, *used) };
            let sign_in = from.map(|n| if n < 3 { sign_in([192, 0, 2, n]) } else { sign_in([n; 16]) });
            let family = RefreshChain::begin(id(*account), sid(*name), 1).family();
            answer(
                store
                    .open_session(session, Some(family), sign_in, crowded.then(|| crate::ends::room(&[])), audit)
                    .await,
            )
        }
        Step::Settle { mail, at: millis, outcome } => {
            let (at, error) = (at(*millis), "an error".to_owned());
            let outcome = match outcome {
                Outcome::Sent => MailOutcome::Sent { at },
                Outcome::Retry => MailOutcome::Retry { at, error },
                Outcome::Dead => MailOutcome::Dead { at, error },
            };
            done(store.settle_mail(mail_id(*mail), outcome).await)
        }
        Step::Claim { mail, now, keeps } => {
            let claimed = store.claim_mail(mail_id(*mail), at(*now), keeps.then(|| at(now + 40))).await.unwrap();
            format!("claimed: {:?}", claimed.map(|mail| (mail.id, mail.next_attempt_at)))
        }
        Step::RetryMail { mail, at: millis } => {
            format!("retried: {}", store.retry_mail(mail_id(*mail), at(*millis), audit).await.unwrap())
        }
        Step::DeleteMail(mail) => format!("deleted: {}", store.delete_mail(mail_id(*mail), audit).await.unwrap()),
        Step::PruneMails { now } => format!("forgotten: {}", store.prune_mails(at(*now), 1000).await.unwrap()),
        Step::Refresh(used) => crate::refresh::run(store, used, audit).await,
        Step::Append(count) => {
            let subject = AccountId::new(u64::try_from(mark).unwrap() % 4);
            done(store.append_audit(vec![AuditRecord { subject, ..audit }; *count]).await)
        }
        Step::Prune { before, now, limit } => {
            let pruning = AuditPruning {
                before: before.map(at),
                now: at(*now),
                max_bytes: u64::MAX,
                limit: *limit,
                record: Some(AuditRecord { event: doorward_actors::AuditEvent::AuditPruned, ..audit }),
            };
            format!("pruned: {:?}", store.prune_audit(pruning).await.unwrap())
        }
        Step::Probe => done(store.probe().await),
        Step::Reopen => String::new(),
        Step::End(_) | Step::EndOf { .. } | Step::EndIdle(_) | Step::LastUse(_) | Step::Label { .. } => {
            crate::ends::run(store, step, audit, mark).await
        }
        services => crate::services::run(store, services, audit).await,
    }
}

async fn expected(store: &dyn Subject, account: u64, revision: Revision) -> Option<u64> {
    let current = store.account(id(account)).await.unwrap().map_or(0, |account| account.revision);
    match revision {
        Revision::Any => None,
        Revision::Current => Some(current),
        Revision::Old => Some(current.wrapping_sub(1)),
    }
}

/// Returns the answers to all queries of a store.
async fn observe(store: &dyn Subject) -> Vec<String> {
    let mut seen = Vec::new();
    for account in 1..8 {
        seen.push(format!("{:?}", store.account(id(account)).await.unwrap()));
        seen.push(format!("{:?}", store.listed_account(id(account)).await.unwrap()));
        for name in 1..6 {
            seen.push(format!("{:?}", store.session(id(account), sid(name)).await.unwrap()));
            seen.push(format!("{:?}", store.refresh_family(id(account), sid(name)).await.unwrap()));
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
        seen.push(without_hashes(&format!("{:?}", store.recent_audit(limit).await.unwrap())));
    }
    // Only the store on disk has hashes and sizes.
    let status = store.audit_status().await.unwrap();
    seen.push(format!("{:?} {:?}", status.head.sequence, status.newest_at));
    seen.push(format!("{:?} {:?}", status.checkpoint.first, status.checkpoint.at));
    seen.push(format!("head {}", *store.audit_head().borrow()));
    for filter in filters() {
        for order in [AuditOrder::NewestFirst, AuditOrder::OldestFirst] {
            for (limit, scan) in [(1000, 1000), (2, 1000), (3, 4), (1000, 1)] {
                seen.push(walk(store, &filter, order, limit, scan).await);
            }
        }
    }
    for account in 1..8 {
        for purpose in TokenPurpose::ALL {
            seen.push(format!("{:?}", store.token_of(id(account), purpose).await.unwrap()));
        }
    }
    for hash in 1..7 {
        let hash = TokenHash::from_bytes([hash; 32]);
        seen.push(format!("{:?}", store.one_time_token(&hash).await.unwrap()));
        seen.push(format!("{:?}", store.used_token(&hash).await.unwrap()));
    }
    for (time, limit) in [(0, 9), (50, 9), (1000, 9), (1000, 1)] {
        seen.push(format!("{:?}", store.unverified_before(at(time), limit).await.unwrap()));
        seen.push(format!("{:?}", store.due_mails(at(time), limit).await.unwrap()));
    }
    for (after, limit) in [(None, 999), (None, 2), (Some(3), 2), (Some(99), 9)] {
        seen.push(format!("{:?}", store.mails(after.map(mail_id), limit).await.unwrap()));
    }
    seen.push(format!("{:?}", store.had_admin().await.unwrap()));
    seen.extend(crate::services::observe(store).await);
    seen
}

fn compare(dir: &Path, steps: &[Step]) {
    runtime().block_on(async {
        let (model, in_memory) = (Model::new(), memory());
        let mut store = open(dir);
        for (mark, step) in (1..).zip(steps) {
            if matches!(step, Step::Reopen) {
                drop(store);
                store = open(dir);
            }
            let expected = run(&model, step, mark).await;
            assert_eq!(run(&store, step, mark).await, expected, "the answer to {step:?} on the disk");
            assert_eq!(run(&in_memory, step, mark).await, expected, "the answer to {step:?} in memory");
        }
        let expected = observe(&model).await;
        assert_eq!([observe(&store).await, observe(&in_memory).await], [expected.clone(), expected.clone()]);
        drop(store);
        crate::export::assert_whole(dir).await;
        assert_eq!(observe(&open(dir)).await, expected, "after a last reopening");
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn both_engines_answer_like_the_model(steps in proptest::collection::vec(step(), 1..60)) {
        let dir = tempfile::tempdir().unwrap();
        compare(dir.path(), &steps);
    }
}

/// The strategy must reach the cases for which it exists. If its ranges drift, this test fails instead of testing nothing.
#[test]
fn random_steps_reach_every_refusal() {
    use proptest::strategy::ValueTree as _;
    use proptest::test_runner::TestRunner;

    let mut runner = TestRunner::deterministic();
    let steps = proptest::collection::vec(step(), 60);
    let mut answers = String::new();
    runtime().block_on(async {
        for _ in 0..600 {
            let model = Model::new();
            for step in steps.new_tree(&mut runner).unwrap().current() {
                answers.push_str(&run(&model, &step, 1).await);
            }
            answers.extend(observe(&model).await);
        }
    });
    for refusal in [
        "EmailTaken",
        "NicknameTaken",
        "Stale",
        "Unknown",
        "LastAdmin",
        "BadToken",
        "UnknownAccount",
        "TooManyMails",
        "OpenSessionRefusal",
    ] {
        assert!(answers.contains(&format!("refused: {refusal}")), "{refusal}");
    }
    for outcome in [
        "replaced: ",
        "redeemed: ",
        "retried: true",
        "retried: false",
        "deleted: true",
        "NewSignIn",
        "done: Honoured",
        "done: Reused",
        "refused: Over",
        "refused: Unknown",
        "ended done: 1",
        "ended done: 2",
        "SessionEvicted",
        "SessionExpired",
        "Dead",
        "UnverifiedRemoved",
        "pruned: AuditPruned { removed: 1",
        "revoked done: ()",
        "revoked refused: Unknown",
        "forgotten: 2",
        "AccountLocked",
        "AccountDeleted",
        "Role(Admin)",
        "Session(SessionId",
        "KeysReplaced",
        "MailWithheld",
        "password_hash: None",
        "passphrase_hash: None",
        "reserved_email: Some",
        "purpose: Undo",
    ] {
        assert!(answers.contains(outcome), "{outcome}");
    }
}
