//! Counters of failed attempts: what is counted together, kept, shared and removed, on both engines.

use std::time::Duration;

use doorward_actors::store::{AttemptOutcome, CountedAttempt, NewAttempt, Store, StoreError};
use doorward_actors::{FailureKey, FailureRule, FailureRules, FailureScope, ProtectedResource, SubjectKey};

use crate::{at, memory, open};

const RULE: FailureRule = FailureRule { allowance: 3, forget: Duration::from_secs(100) };
const RULES: FailureRules = FailureRules { account: RULE, address: RULE };

fn of_account(n: u8) -> FailureKey {
    FailureKey { kind: ProtectedResource::Login, scope: FailureScope::Account(SubjectKey::from_bytes([n; 16])) }
}

fn of_address(n: u8) -> FailureKey {
    FailureKey { kind: ProtectedResource::Login, scope: FailureScope::Address([192, 0, 2, n].into()) }
}

async fn begin(store: &Store, keys: &[FailureKey], full: bool, millis: i64) -> Result<Vec<CountedAttempt>, FailureKey> {
    let attempt = NewAttempt {
        counters: keys.iter().map(|key| (*key, None)).collect(),
        rules: RULES,
        now: at(millis),
        clock_skew: Duration::ZERO,
        under_way: Some(Duration::from_secs(10)),
        full,
    };
    store.begin_attempt(attempt).await.map_err(|error| match error {
        StoreError::Refused(refused) => refused.key,
        StoreError::Failed(failure) => panic!("{failure}"),
    })
}

async fn end(store: &Store, counted: &[CountedAttempt], outcome: AttemptOutcome) {
    let counted = counted.iter().map(|counted| (*counted, outcome)).collect();
    store.end_attempt(counted, at(1)).await.unwrap();
}

async fn count(store: &Store, key: FailureKey) -> Option<(u32, u32)> {
    store.failures_in(&key).await.unwrap().map(|failures| (failures.count, failures.under_way))
}

#[tokio::test]
async fn s15_an_attempt_is_counted_in_all_its_counters_or_in_none_and_outlives_a_reopening() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (account, address) = (of_account(1), of_address(1));
    for _ in 0..3 {
        begin(&store, &[address], false, 0).await.unwrap();
    }
    assert_eq!(begin(&store, &[account, address], false, 0).await, Err(address));
    assert_eq!(count(&store, account).await, None);
    drop(store);
    let store = open(dir.path());
    assert_eq!(count(&store, address).await, Some((3, 3)));
    assert_eq!(begin(&store, &[address], false, 59_999).await, Err(address));
    assert!(begin(&store, &[address], false, 60_000).await.is_ok());
}

#[tokio::test]
async fn a_success_forgets_the_account_and_leaves_no_row() {
    let store = memory();
    let account = of_account(1);
    let first = begin(&store, &[account], false, 0).await.unwrap();
    end(&store, &first, AttemptOutcome::Failed).await;
    assert_eq!(count(&store, account).await, Some((1, 0)));
    let second = begin(&store, &[account], false, 0).await.unwrap();
    let third = begin(&store, &[account], false, 0).await.unwrap();
    end(&store, &second, AttemptOutcome::Succeeded).await;
    assert_eq!(count(&store, account).await, Some((1, 1)), "the one under way stays counted");
    end(&store, &third, AttemptOutcome::Succeeded).await;
    assert_eq!(count(&store, account).await, None);
    end(&store, &third, AttemptOutcome::Failed).await;
    assert_eq!(count(&store, account).await, None, "a counter that is gone stays gone");
}

#[tokio::test]
async fn s19_a_success_forgives_nobody_else_where_a_counter_is_shared() {
    let store = memory();
    let mine = begin(&store, &[of_account(1)], true, 0).await.unwrap();
    let shared = mine[0].key;
    assert!(mine[0].shared && shared != of_account(1));
    begin(&store, &[of_account(1)], true, 0).await.unwrap();
    end(&store, &mine, AttemptOutcome::Succeeded).await;
    assert_eq!(count(&store, shared).await, Some((1, 1)), "its own attempt, and no other");
    begin(&store, &[of_address(1)], false, 0).await.unwrap();
    let known = begin(&store, &[of_address(1)], true, 0).await.unwrap();
    assert!(!known[0].shared, "a counter that is there is used");
}

#[tokio::test]
async fn counters_without_effect_are_removed_and_no_others() {
    let store = memory();
    let (old, new) = (of_account(1), of_account(2));
    let counted = begin(&store, &[old], false, 0).await.unwrap();
    end(&store, &counted, AttemptOutcome::Failed).await;
    let counted = begin(&store, &[new], false, 50_000).await.unwrap();
    end(&store, &counted, AttemptOutcome::Failed).await;
    let pruned = async |most, millis| store.prune_failures(vec![old, new], RULES, most, at(millis)).await.unwrap();
    assert_eq!(pruned(0, 99_999).await, 0);
    assert_eq!(pruned(0, 100_000).await, 1);
    assert_eq!((count(&store, old).await, count(&store, new).await), (None, Some((1, 0))));
    assert_eq!(pruned(1, 100_000).await, 1, "where there are too many, those with the fewest failures go");
}

#[tokio::test]
async fn r05_times_of_the_future_are_moved_to_the_present_once() {
    let store = memory();
    for _ in 0..3 {
        begin(&store, &[of_account(1)], false, 1_000_000).await.unwrap();
    }
    store.heed_clock(vec![of_account(1)], at(0), Duration::ZERO).await.unwrap();
    assert!(begin(&store, &[of_account(1)], false, 59_999).await.is_err());
    assert!(begin(&store, &[of_account(1)], false, 60_000).await.is_ok());
}
