//! Service tokens and revocations on both stores.

use std::time::Duration;

use doorward_actors::store::{CreateServiceTokenRefusal, MAX_SERVICE_TOKENS, StoreError};
use doorward_actors::{
    AuditRecord, NewServiceToken, SecretDigest, ServiceName, ServiceScopes, ServiceTokenId, ServiceTokenRotation,
};

use crate::model::{NAMES, Step, answer, done};
use crate::subject::Subject;
use crate::{at, audit, memory, open, runtime};

pub(crate) fn new(name: &str) -> NewServiceToken {
    NewServiceToken {
        acting: None,
        name: ServiceName::parse(name).unwrap(),
        scopes: ServiceScopes::BUILT_IN,
        digest: SecretDigest::of(name.as_bytes()),
        created_at: at(1),
        expires_at: Some(at(1000)),
    }
}

/// The steps of the model that are about services.
pub(crate) async fn run(store: &dyn Subject, step: &Step, audit: AuditRecord) -> String {
    match step {
        Step::CreateService(name) => answer(store.create_service_token(new(NAMES[*name]), audit).await),
        Step::RotateService { token, until } => {
            let rotation = ServiceTokenRotation { acting: None, digest: SecretDigest::of(b"next"), until: at(*until) };
            answer(store.rotate_service_token(ServiceTokenId::new(*token), rotation, audit).await)
        }
        Step::DeleteService(token) => {
            format!("revoked {}", answer(store.delete_service_token(ServiceTokenId::new(*token), None, audit).await))
        }
        Step::UseServices(used) => {
            let used = used.iter().map(|&(token, used)| (ServiceTokenId::new(token), at(used))).collect();
            done(store.touch_service_tokens(used).await)
        }
        Step::RecordKeys { replaced_at } => done(store.record_keys(vec![audit], replaced_at.map(at)).await),
        Step::PruneRevocations { before, up_to, limit } => {
            store.note_token_lifetime(Duration::from_millis(2)).await.unwrap();
            format!(
                "forgotten: {}",
                store.prune_revocations(at(*before), Duration::from_millis(3), *up_to, *limit).await.unwrap()
            )
        }
        other => panic!("{other:?} is not about services"),
    }
}

/// Returns the answers to all queries about services.
pub(crate) async fn observe(store: &dyn Subject) -> Vec<String> {
    let mut seen = vec![
        format!("{:?}", store.service_tokens().await.unwrap()),
        format!("{:?}", store.built_in_last_used().await.unwrap()),
        format!("{:?}", store.revocation_span().await.unwrap()),
        format!("head {}", *store.revocation_head().borrow()),
    ];
    for (after, limit) in [(0, 1000), (0, 2), (3, 2), (1000, 9), (u64::MAX, 9)] {
        seen.push(format!("{:?}", store.revocations(after, limit).await.unwrap()));
    }
    seen
}

#[test]
fn there_are_so_many_service_tokens_and_no_more() {
    let dir = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        for store in [open(dir.path()), memory()] {
            for n in 0..MAX_SERVICE_TOKENS {
                store.create_service_token(new(&format!("service {n}")), audit(1)).await.unwrap();
            }
            let refused = store.create_service_token(new("one more"), audit(1)).await;
            assert!(matches!(refused, Err(StoreError::Refused(CreateServiceTokenRefusal::TooMany))));
            store.delete_service_token(ServiceTokenId::new(7), None, audit(1)).await.unwrap();
            let made = store.create_service_token(new("one more"), audit(1)).await.unwrap();
            assert_eq!(made.id.get(), u64::try_from(MAX_SERVICE_TOKENS).unwrap() + 1, "no number is given twice");
        }
    });
}

#[test]
fn the_longest_lifetime_of_tokens_is_remembered() {
    let dir = tempfile::tempdir().unwrap();
    runtime().block_on(async {
        let minutes = Duration::from_mins;
        let store = open(dir.path());
        assert_eq!(store.note_token_lifetime(minutes(30)).await.unwrap(), minutes(30));
        assert_eq!(store.note_token_lifetime(minutes(60)).await.unwrap(), minutes(60));
        drop(store);
        assert_eq!(open(dir.path()).note_token_lifetime(minutes(5)).await.unwrap(), minutes(60));
    });
}
