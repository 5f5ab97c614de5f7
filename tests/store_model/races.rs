//! Races between changes of sessions: thousands of interleavings against both stores, with no wrong answer.

use std::path::Path;
use std::time::Duration;

use doorward_actors::Acting;
use doorward_actors::store::{
    AccountUpdate, ChangeServiceTokenRefusal, CreateServiceTokenRefusal, Effects, EndSessions, LastUse, RefreshOutcome,
    RefreshRefusal, RefreshUse, Store, StoreError, UpdateAccountRefusal,
};
use doorward_actors::testing::RefreshChain;
use doorward_actors::{
    AccountChange, NewRole, NewServiceToken, Origin, RefreshFamily, Role, SecretDigest, ServiceTokenId,
    ServiceTokenRotation, Session, SessionId,
};

use crate::{at, audit, id, memory, new_account, open, session};

const GRACE: Duration = Duration::from_millis(10);

/// How often each race runs on the store in memory, and on the one on disk, where each run needs some flushes.
const ROUNDS: [usize; 2] = [3000, 700];

fn stores(dir: &Path) -> [(Store, usize); 2] {
    [(memory(), ROUNDS[0]), (open(dir), ROUNDS[1])]
}

/// Runs a race many times on both stores, on several threads.
fn race<F: Future<Output = ()>>(run: impl Fn(Store, usize) -> F) {
    let dir = tempfile::tempdir().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
    for (store, rounds) in stores(dir.path()) {
        runtime.block_on(async {
            for name in ["root", "ann"] {
                let new = new_account(name, NewRole::Exactly(Role::Admin));
                store.create_account(new, audit(0).into()).await.unwrap();
            }
            for round in 0..rounds {
                run(store.clone(), round).await;
            }
        });
    }
}

fn sid(round: usize) -> SessionId {
    SessionId::from_bytes(u128::try_from(round + 1).unwrap().to_be_bytes())
}

/// Opens a session of the second account with a chain of refresh tokens, of which this many were exchanged.
async fn begin(store: &Store, round: usize, exchanged: usize) -> RefreshChain {
    let chain = RefreshChain::begin(id(2), sid(round), exchanged + 3);
    let epoch = store.account(id(2)).await.unwrap().unwrap().session_epoch;
    let opened = Session { id: sid(round), ..session(2, 1, epoch, 5) };
    store.open_session(opened, Some(chain.family()), None, None, audit(0)).await.unwrap();
    for generation in 0..exchanged {
        let now = 100 * i64::try_from(generation + 1).unwrap();
        assert!(matches!(store.rotate_refresh(shown(&chain, generation, now)).await, Ok(RefreshOutcome::Honoured(_))));
    }
    chain
}

fn shown(chain: &RefreshChain, generation: usize, now: i64) -> RefreshUse {
    let (proof, successor) = chain.presented(generation);
    RefreshUse {
        proof,
        successor,
        now: at(now),
        grace: GRACE,
        origin: Origin::default(),
        sign_in: None,
        on_reuse: Effects::from(audit(9)),
    }
}

fn touch(round: usize) -> Vec<LastUse> {
    vec![LastUse { account: id(2), session: sid(round), at: at(6) }]
}

/// Returns whether the session and its tokens are gone, after a race.
async fn is_gone(store: &Store, round: usize) -> bool {
    let session = store.session(id(2), sid(round)).await.unwrap();
    let family = store.refresh_family(id(2), sid(round)).await.unwrap();
    assert_eq!(session.is_some(), family.is_some(), "tokens without their session, or the other way round");
    session.is_none()
}

#[test]
fn s37_a_refresh_that_races_a_logout_revives_nothing() {
    race(async |store, round| {
        let chain = begin(&store, round, 0).await;
        let (one, two) = (store.clone(), store.clone());
        let used = shown(&chain, 0, 100);
        let refresh = tokio::spawn(async move { one.rotate_refresh(used).await });
        let logout = tokio::spawn(async move { two.end_sessions(touch(round), at(1), vec![audit(1)]).await });
        let (refreshed, ended) = tokio::join!(refresh, logout);
        ended.unwrap().unwrap();
        let refreshed = refreshed.unwrap();
        assert!(
            matches!(refreshed, Ok(RefreshOutcome::Honoured(_)) | Err(StoreError::Refused(RefreshRefusal::Unknown))),
            "{refreshed:?}"
        );
        assert!(is_gone(&store, round).await);
        for generation in 0..2 {
            let late = store.rotate_refresh(shown(&chain, generation, 100)).await;
            assert!(matches!(late, Err(StoreError::Refused(RefreshRefusal::Unknown))), "{late:?}");
        }
    });
}

#[test]
fn two_uses_of_one_refresh_token_never_fork_the_family() {
    race(async |store, round| {
        let chain = begin(&store, round, 1).await;
        let uses = (0..4).map(|_| {
            let (store, used) = (store.clone(), shown(&chain, 1, 200));
            tokio::spawn(async move { store.rotate_refresh(used).await })
        });
        for answer in futures_util::future::join_all(uses).await {
            let Ok(RefreshOutcome::Honoured(family)) = answer.unwrap() else { panic!("a tab was logged out") };
            assert_eq!(family.generation, 2);
            assert_eq!(family.current, chain.presented(2).0.hash());
        }
    });
}

#[test]
fn a_reuse_that_races_a_refresh_ends_the_session_once() {
    race(async |store, round| {
        let chain = begin(&store, round, 2).await;
        let before = store.audit_status().await.unwrap().head.sequence;
        let spawn = |generation| {
            let (store, used) = (store.clone(), shown(&chain, generation, 1000));
            tokio::spawn(async move { store.rotate_refresh(used).await })
        };
        let (thief, other, owner) = tokio::join!(spawn(0), spawn(1), spawn(2));
        let answers = [thief.unwrap(), other.unwrap()];
        let reused = answers.iter().filter(|answer| matches!(answer, Ok(RefreshOutcome::Reused))).count();
        assert_eq!(reused, 1, "{answers:?}");
        let owner = owner.unwrap();
        assert!(
            matches!(owner, Ok(RefreshOutcome::Honoured(_)) | Err(StoreError::Refused(RefreshRefusal::Unknown))),
            "{owner:?}"
        );
        assert!(is_gone(&store, round).await);
        assert_eq!(store.audit_status().await.unwrap().head.sequence, before + 1);
    });
}

/// Returns a change that the session of a round makes.
fn change(round: usize, account: u64, role: Role) -> AccountUpdate {
    AccountUpdate {
        id: id(account),
        acting: Some(Acting { account: id(2), session: sid(round), role, proven_at: None }),
        expected_revision: None,
        change: AccountChange { email_verified: Some(round.is_multiple_of(2)), ..AccountChange::default() },
        ends: EndSessions::None,
        redeems: None,
        revokes_tokens: false,
    }
}

async fn sequence_of(store: &Store, mark: i64) -> Option<u64> {
    let recent = store.recent_audit(8).await.unwrap();
    recent.into_iter().find(|(_, record)| *record == audit(mark)).map(|(sequence, _)| sequence)
}

#[test]
fn s37_no_change_is_committed_after_the_logout_of_the_session_that_makes_it() {
    race(async |store, round| {
        begin(&store, round, 0).await;
        let mark = i64::try_from(round).unwrap() * 2 + 1000;
        let (one, two) = (store.clone(), store.clone());
        let update =
            tokio::spawn(async move { one.update_account(change(round, 2, Role::User), audit(mark).into()).await });
        let logout =
            tokio::spawn(async move { two.end_sessions(touch(round), at(mark + 1), vec![audit(mark + 1)]).await });
        let (updated, ended) = tokio::join!(update, logout);
        ended.unwrap().unwrap();
        let (changed, out) = (sequence_of(&store, mark).await, sequence_of(&store, mark + 1).await.unwrap());
        match updated.unwrap() {
            Ok(_) => assert!(changed.unwrap() < out, "a change after the logout"),
            Err(StoreError::Refused(UpdateAccountRefusal::Revoked)) => assert_eq!(changed, None),
            Err(other) => panic!("{other:?}"),
        }
        let late = store.update_account(change(round, 2, Role::User), audit(2).into()).await;
        assert!(matches!(late, Err(StoreError::Refused(UpdateAccountRefusal::Revoked))), "{late:?}");
    });
}

#[test]
fn s38_no_change_is_committed_after_the_demotion_or_lock_of_the_administrator_who_makes_it() {
    race(async |store, round| {
        begin(&store, round, 0).await;
        let mark = i64::try_from(round).unwrap() * 2 + 1000;
        let locks = round.is_multiple_of(2);
        let demote = |back: bool| AccountUpdate {
            acting: None,
            change: AccountChange {
                role: (!locks).then_some(if back { Role::Admin } else { Role::User }),
                locked: locks.then_some(!back),
                ..AccountChange::default()
            },
            ends: if locks && !back { EndSessions::All } else { EndSessions::None },
            ..change(round, 2, Role::User)
        };
        let (one, two, demotion) = (store.clone(), store.clone(), demote(false));
        let update =
            tokio::spawn(async move { one.update_account(change(round, 1, Role::Admin), audit(mark).into()).await });
        let demotion = tokio::spawn(async move { two.update_account(demotion, audit(mark + 1).into()).await });
        let (updated, demoted) = tokio::join!(update, demotion);
        demoted.unwrap().unwrap();
        let (changed, down) = (sequence_of(&store, mark).await, sequence_of(&store, mark + 1).await.unwrap());
        match updated.unwrap() {
            Ok(_) => assert!(changed.unwrap() < down, "a change after the demotion"),
            Err(StoreError::Refused(UpdateAccountRefusal::Revoked)) => assert_eq!(changed, None),
            Err(other) => panic!("{other:?}"),
        }
        let acting = change(round, 1, Role::Admin).acting;
        let late = store.delete_account(id(1), None, acting, audit(2).into()).await;
        assert!(matches!(late, Err(StoreError::Refused(_))), "{late:?}");
        let new = doorward_actors::NewAccount { acting, ..new_account("late", NewRole::Exactly(Role::User)) };
        let late = store.create_account(new, audit(2).into()).await;
        assert!(matches!(late, Err(StoreError::Refused(_))), "{late:?}");
        store.update_account(demote(true), audit(3).into()).await.unwrap();
    });
}

#[test]
fn s37_no_service_token_is_made_or_changed_after_the_logout_of_the_session_that_does_it() {
    race(async |store, round| {
        begin(&store, round, 0).await;
        let mark = i64::try_from(round).unwrap() * 2 + 1000;
        let acting = change(round, 1, Role::Admin).acting;
        let new = |name: &str| NewServiceToken { acting, ..crate::services::new(name) };
        let (one, two, raced) = (store.clone(), store.clone(), new("raced"));
        let making = tokio::spawn(async move { one.create_service_token(raced, audit(mark)).await });
        let logout =
            tokio::spawn(async move { two.end_sessions(touch(round), at(mark + 1), vec![audit(mark + 1)]).await });
        let (made, ended) = tokio::join!(making, logout);
        ended.unwrap().unwrap();
        let (made_at, down) = (sequence_of(&store, mark).await, sequence_of(&store, mark + 1).await.unwrap());
        match made.unwrap() {
            Ok(token) => {
                assert!(made_at.unwrap() < down, "a token after the logout");
                let rotation = ServiceTokenRotation { acting, digest: SecretDigest::of(b"late"), until: at(2000) };
                let late = store.rotate_service_token(token.id, rotation, audit(2)).await;
                assert!(matches!(late, Err(StoreError::Refused(ChangeServiceTokenRefusal::Revoked))), "{late:?}");
                let late = store.delete_service_token(token.id, acting, audit(2)).await;
                assert!(matches!(late, Err(StoreError::Refused(ChangeServiceTokenRefusal::Revoked))), "{late:?}");
                assert_eq!(store.service_tokens().await.unwrap(), std::slice::from_ref(&token));
                store.delete_service_token(token.id, None, audit(3)).await.unwrap();
            }
            Err(StoreError::Refused(CreateServiceTokenRefusal::Revoked)) => assert_eq!(made_at, None),
            Err(other) => panic!("{other:?}"),
        }
    });
}

/// The new password's tokens replace the earlier ones, which then become invalid, even if the new family is old.
#[test]
fn c07_s74_a_refresh_that_races_a_new_password_is_before_it_or_nothing() {
    race(async |store, round| {
        let chain = begin(&store, round, 2).await;
        let renewed = RefreshFamily { seed: [8; 32], generation: 7, ..chain.family() };
        // The current token, or one that was replaced long ago.
        let is_spent = round.is_multiple_of(2);
        let used = shown(&chain, if is_spent { 0 } else { 2 }, 1000);
        let update = AccountUpdate { ends: EndSessions::AllBut(sid(round)), ..change(round, 2, Role::User) };
        let effects = Effects { refresh: Some(renewed.clone()), ..audit(1).into() };
        let (one, two) = (store.clone(), store.clone());
        let refresh = tokio::spawn(async move { one.rotate_refresh(used).await });
        let set = tokio::spawn(async move { two.update_account(update, effects).await });
        let (refreshed, set) = tokio::join!(refresh, set);
        match (refreshed.unwrap(), set.unwrap()) {
            (Err(StoreError::Refused(RefreshRefusal::Unknown)), Ok(_)) => {}
            (Ok(RefreshOutcome::Honoured(_)), Ok(_)) if !is_spent => {}
            (Ok(RefreshOutcome::Reused), Err(StoreError::Refused(UpdateAccountRefusal::Revoked))) if is_spent => {
                assert!(is_gone(&store, round).await);
                return;
            }
            other => panic!("{other:?}"),
        }
        for generation in 0..4 {
            let late = store.rotate_refresh(shown(&chain, generation, 1000)).await;
            assert!(matches!(late, Err(StoreError::Refused(RefreshRefusal::Unknown))), "{late:?}");
        }
        assert!(!is_gone(&store, round).await);
        assert_eq!(store.refresh_family(id(2), sid(round)).await.unwrap(), Some(renewed));
    });
}

/// A proof of identity that was checked before a new password permits nothing after it, even though the session is kept.
#[tokio::test]
async fn c10_s77_proof_from_before_a_new_password_permits_nothing() {
    let dir = tempfile::tempdir().unwrap();
    for store in [open(dir.path()), memory()] {
        let administrator = NewRole::Exactly(Role::Admin);
        for name in ["ann", "bob", "cyd"] {
            store.create_account(new_account(name, administrator), audit(0).into()).await.unwrap();
        }
        store.open_session(session(2, 1, 0, 1), None, None, None, audit(1)).await.unwrap();
        let acting =
            |proven_at| Acting { account: id(2), session: session(2, 1, 0, 1).id, role: Role::Admin, proven_at };
        let spares = AccountUpdate {
            id: id(2),
            acting: None,
            ends: EndSessions::AllBut(session(2, 1, 0, 1).id),
            ..change(0, 2, Role::Admin)
        };
        store.update_account(spares, audit(2).into()).await.unwrap();
        let kept = store.session(id(2), session(2, 1, 0, 1).id).await.unwrap().unwrap();
        assert_eq!((kept.epoch, kept.authenticated_at), (1, None));
        for (proven_at, permitted) in [(Some(0), false), (Some(2), false), (None, true), (Some(1), true)] {
            let update = AccountUpdate { acting: Some(acting(proven_at)), ..change(0, 1, Role::Admin) };
            assert_eq!(store.update_account(update, audit(3).into()).await.is_ok(), permitted, "{proven_at:?}");
            let rotation = ServiceTokenRotation {
                acting: Some(acting(proven_at)),
                digest: SecretDigest::of(b"late"),
                until: at(2000),
            };
            let rotated = store.rotate_service_token(ServiceTokenId::new(9), rotation, audit(4)).await;
            let revoked = matches!(rotated, Err(StoreError::Refused(ChangeServiceTokenRefusal::Revoked)));
            assert_eq!(revoked, !permitted, "{proven_at:?}");
        }
        let old = store.delete_account(id(3), None, Some(acting(Some(0))), audit(5).into()).await;
        assert!(old.is_err() && store.account(id(3)).await.unwrap().is_some());
    }
}
