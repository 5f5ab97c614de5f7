//! The steps that end, use and label sessions, and their acting sessions.

use std::time::Duration;

use doorward_actors::store::{EndOfSessions, EndSessionsRefusal, LabelSessionRefusal, Room, Seen, Store, StoreError};
use doorward_actors::{Acting, AuditRecord, NewRole, Role, SessionLabel, SessionPolicy, WhichSessions};

use crate::model::{Step, answer, done, sid, touches};
use crate::subject::Subject;
use crate::{at, audit, id, memory, new_account, open, session};

/// Room for two sessions that expire soon, with their uses as a shard saw them. The first ones were found expired.
pub(crate) fn room(seen: &[(u64, u8, i64)]) -> Room {
    let policy = SessionPolicy {
        idle_timeout: Duration::from_millis(40),
        remembered_idle_timeout: Duration::from_millis(40),
        lifetime: Duration::from_millis(80),
        access_lifetime: Duration::from_millis(80),
        refresh_grace: Duration::ZERO,
        max_per_account: 2,
    };
    let expired = seen.iter().filter(|(account, ..)| *account == 1).map(|(_, name, _)| sid(*name)).collect();
    Room { policy, seen: Seen { uses: touches(seen), expired } }
}

/// The steps that end, use and label sessions.
pub(crate) async fn run(store: &dyn Subject, step: &Step, audit: AuditRecord, mark: i64) -> String {
    match step {
        Step::End(ended) => done(store.end_sessions(touches(ended), audit.at, vec![audit]).await),
        Step::EndOf { account, which, seen, at: now } => {
            let Room { policy, seen } = room(seen);
            let audit = AuditRecord { at: at(*now), ..audit };
            let end = EndOfSessions { account: id(*account), which: *which, acting: None, policy, seen, audit };
            format!("ended {}", answer(store.end_sessions_of(end).await))
        }
        Step::EndIdle(ended) => {
            let ended = touches(ended).into_iter().map(|touch| (touch, audit.clone())).collect();
            format!("idle: {:?}", store.end_idle(ended, at(mark)).await.unwrap())
        }
        Step::LastUse(touched) => done(store.touch_sessions(touches(touched)).await),
        Step::Label { account, name, label } => {
            let label = label.map(|n| SessionLabel::parse(&format!("label {n}")).unwrap());
            answer(store.label_session(id(*account), sid(*name), label, None, audit).await)
        }
        other => panic!("{other:?} is not about sessions"),
    }
}

fn end(which: WhichSessions, acting: Option<Acting>) -> EndOfSessions {
    let policy = SessionPolicy {
        idle_timeout: Duration::from_secs(1),
        remembered_idle_timeout: Duration::from_secs(1),
        lifetime: Duration::from_secs(2),
        access_lifetime: Duration::from_secs(1),
        refresh_grace: Duration::ZERO,
        max_per_account: 9,
    };
    EndOfSessions { account: id(1), which, acting, policy, seen: Seen::default(), audit: audit(10) }
}

async fn check(store: Store) {
    store.create_account(new_account("ann", NewRole::Exactly(Role::User)), audit(0).into()).await.unwrap();
    for name in [1, 2, 3] {
        store.open_session(session(1, name, 0, 1), None, None, None, audit(1)).await.unwrap();
    }
    let acting = |name, role| Some(Acting { account: id(1), session: sid(name), role, proven_at: None });
    let own = acting(1, Role::User);
    assert_eq!(store.end_sessions_of(end(WhichSessions::One(sid(1)), own)).await.unwrap(), 1);
    for (which, acting) in [
        (WhichSessions::One(sid(2)), own),
        (WhichSessions::AllBut(sid(1)), own),
        (WhichSessions::All, own),
        (WhichSessions::All, acting(2, Role::Admin)),
    ] {
        let refused = store.end_sessions_of(end(which, acting)).await;
        assert!(matches!(refused, Err(StoreError::Refused(EndSessionsRefusal))), "{which:?}");
    }
    let label = SessionLabel::parse("a name").ok();
    let refused = store.label_session(id(1), sid(2), label.clone(), own, audit(11)).await;
    assert!(matches!(refused, Err(StoreError::Refused(LabelSessionRefusal::Revoked))));
    assert_eq!(store.session(id(1), sid(2)).await.unwrap().unwrap().label, None);
    store.label_session(id(1), sid(2), label.clone(), acting(3, Role::User), audit(12)).await.unwrap();
    assert_eq!(store.session(id(1), sid(2)).await.unwrap().unwrap().label, label);
    let others = end(WhichSessions::AllBut(sid(3)), acting(3, Role::User));
    assert_eq!(store.end_sessions_of(others).await.unwrap(), 1);
    // An expired session no longer counts as live, but it ends too.
    let late = EndOfSessions { audit: AuditRecord { at: at(1500), ..audit(13) }, ..end(WhichSessions::All, None) };
    assert_eq!(store.end_sessions_of(late).await.unwrap(), 0);
    assert_eq!(store.sessions_of(vec![id(1)]).await.unwrap(), []);
}

#[tokio::test]
async fn s37_nothing_is_ended_and_nothing_labelled_in_the_name_of_a_session_that_has_ended() {
    let dir = tempfile::tempdir().unwrap();
    check(open(dir.path())).await;
    check(memory()).await;
}
