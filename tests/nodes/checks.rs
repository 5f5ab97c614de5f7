//! The guarantees between two nodes, A and B.

use std::time::Duration;

use doorward_actors::store::{AccountUpdate, EndSessions};
use doorward_actors::{AccountChange, LoginError, SigningAlgorithm, SystemSettings};

use crate::node::{Node, PASSWORD, Person, Shared, origin};

/// A password that no account has.
const WRONG: &str = "quiet-lamp-under-no-stairs";

fn as_it_is(_: &mut SystemSettings) {}

/// Two nodes, an administrator and a person, both registered on A.
async fn two(change: impl Fn(&mut SystemSettings)) -> (Node, Node, Person) {
    let shared = Shared::new();
    let a = Node::start(&shared, 1, &change).await;
    let b = Node::start(&shared, 2, &change).await;
    a.register("root").await;
    a.register("ann").await;
    let root = a.log_in("root").await;
    (a, b, root)
}

#[tokio::test]
async fn a_session_that_was_opened_on_a_before_b_starts_lives_on_b() {
    let shared = Shared::new();
    let a = Node::start(&shared, 1, as_it_is).await;
    a.register("root").await;
    let root = a.log_in("root").await;
    let b = Node::start(&shared, 2, as_it_is).await;
    assert!(b.lives(&root).await);
}

#[tokio::test]
async fn a_session_that_was_opened_on_a_lives_on_b_and_both_list_the_same() {
    let (a, b, root) = two(as_it_is).await;
    let (first, second) = (a.log_in("ann").await, b.log_in("ann").await);
    for person in [&root, &first, &second] {
        assert!(a.lives(person).await && b.lives(person).await);
    }
    let listed = a.list(first.account).await;
    assert_eq!((listed.len(), &listed), (2, &b.list(first.account).await));
}

#[tokio::test]
async fn s37_a_logout_that_a_acknowledged_holds_at_the_next_answer_of_b() {
    let (a, b, _) = two(as_it_is).await;
    for round in 0..50 {
        let person = if round % 2 == 0 { a.log_in("ann").await } else { b.log_in("ann").await };
        assert!(a.lives(&person).await && b.lives(&person).await);
        a.log_out(&person).await;
        assert!(!b.lives(&person).await && !a.lives(&person).await);
        assert!(b.refresh(&person.refresh).await.is_err());
    }
}

#[tokio::test]
async fn s37_a_logout_on_a_that_races_checks_on_b_leaves_nothing_alive() {
    let (a, b, _) = two(as_it_is).await;
    for _ in 0..100 {
        let person = a.log_in("ann").await;
        let checks = async {
            while b.lives(&person).await {
                tokio::task::yield_now().await;
            }
        };
        let ((), ()) = tokio::join!(a.log_out(&person), checks);
        assert!(!b.lives(&person).await);
    }
}

#[tokio::test]
async fn a_service_token_that_was_made_before_b_starts_is_good_on_b_and_revoked_on_both() {
    let shared = Shared::new();
    let a = Node::start(&shared, 1, as_it_is).await;
    a.register("root").await;
    let root = a.log_in("root").await;
    let (id, secret) = a.service_token(&root, "before").await;
    let b = Node::start(&shared, 2, as_it_is).await;
    assert!(b.admits(&secret).await);
    let (_, after) = a.service_token(&root, "after").await;
    assert!(b.admits(&after).await, "one that was made while both run");
    let principal = b.principal(&root).await.unwrap();
    b.handles().services.revoke(&principal, id, origin()).await.unwrap();
    assert!(!a.admits(&secret).await && !b.admits(&secret).await);
}

#[tokio::test]
async fn s38_an_account_that_was_locked_on_a_is_dead_on_b() {
    let (a, b, _) = two(as_it_is).await;
    let person = b.log_in("ann").await;
    assert!(b.lives(&person).await);
    let lock = AccountUpdate {
        id: person.account,
        acting: None,
        expected_revision: None,
        change: AccountChange { locked: Some(true), ..AccountChange::default() },
        ends: EndSessions::All,
        redeems: None,
        revokes_tokens: true,
    };
    a.store.update_account(lock, doorward_actors::store::Effects::default()).await.unwrap();
    assert!(!b.lives(&person).await && !a.lives(&person).await);
}

#[tokio::test]
async fn a_session_that_is_used_on_a_is_not_ended_by_the_sweep_of_b() {
    let (a, b, _) = two(as_it_is).await;
    let person = a.log_in("ann").await;
    assert!(b.lives(&person).await);
    for _ in 0..20 {
        for node in [&a, &b] {
            node.clock.advance(Duration::from_mins(10));
        }
        assert!(a.lives(&person).await);
        b.handles().tend_sessions().await.unwrap();
        a.handles().tend_sessions().await.unwrap();
    }
    assert!(b.lives(&person).await);
    for node in [&a, &b] {
        node.clock.advance(Duration::from_mins(31));
    }
    b.handles().tend_sessions().await.unwrap();
    assert!(!a.lives(&person).await && !b.lives(&person).await);
}

#[tokio::test]
async fn s42_the_cap_of_sessions_counts_those_of_both_nodes() {
    let (a, b, _) = two(|settings| settings.sessions.max_per_account = 2).await;
    let mut people = Vec::new();
    for node in [&a, &b, &a, &b] {
        for clock in [&a.clock, &b.clock] {
            clock.advance(Duration::from_secs(1));
        }
        people.push(node.log_in("ann").await);
    }
    assert_eq!(a.store.sessions_of(vec![people[0].account]).await.unwrap().len(), 2);
    for (n, person) in people.iter().enumerate() {
        assert_eq!((a.lives(person).await, b.lives(person).await), (n > 1, n > 1), "{n}");
    }
}

/// B issues tokens that live for 300 minutes. A was started with 30 minutes and must keep a revocation for as long as B's tokens
/// live.
#[tokio::test]
async fn a_revocation_is_told_for_as_long_as_a_token_of_any_node_lives() {
    let shared = Shared::new();
    let a = Node::start(&shared, 1, as_it_is).await;
    let b = Node::start(&shared, 2, |settings| settings.tokens.lifetime = Duration::from_hours(5)).await;
    a.register("root").await;
    let root = a.log_in("root").await;
    a.log_out(&root).await;
    for minutes in [10, 70] {
        a.clock.advance(Duration::from_mins(minutes));
        a.handles().tend_services().await.unwrap();
    }
    assert!(!a.store.revocations(0, 10).await.unwrap().is_empty());
    for _ in 0..8 {
        a.clock.advance(Duration::from_hours(1));
        a.handles().tend_services().await.unwrap();
    }
    assert!(a.store.revocations(0, 10).await.unwrap().is_empty());
    assert!(!b.lives(&root).await);
}

#[tokio::test]
async fn s37_a_refresh_on_both_nodes_forks_no_family() {
    let (a, b, _) = two(as_it_is).await;
    for _ in 0..50 {
        let person = a.log_in("ann").await;
        let (one, other) = tokio::join!(a.refresh(&person.refresh), b.refresh(&person.refresh));
        let (one, other) = (one.unwrap(), other.unwrap());
        assert_eq!(one.refresh_token.expose(), other.refresh_token.expose());
        assert!(a.lives(&person).await && b.lives(&person).await);
        a.log_out(&person).await;
        assert!(b.refresh(one.refresh_token.expose()).await.is_err());
    }
}

#[tokio::test]
async fn s22_wrong_passwords_on_a_and_b_use_up_one_allowance() {
    let (a, b, _) = two(as_it_is).await;
    for _ in 0..5 {
        assert!(matches!(a.log_in_with("ann", WRONG).await, Err(LoginError::Incorrect)));
    }
    assert!(matches!(b.log_in_with("ann", PASSWORD).await, Err(LoginError::Limited(_))));
}

#[tokio::test]
async fn s15_guesses_on_both_nodes_at_once_are_no_more_than_the_allowance() {
    let (a, b, _) = two(as_it_is).await;
    let guesses = (0..40).map(|n| if n % 2 == 0 { &a } else { &b }).map(|node| node.log_in_with("ann", WRONG));
    let answers = futures_util::future::join_all(guesses).await;
    let tried = answers.iter().filter(|answer| matches!(answer, Err(LoginError::Incorrect))).count();
    assert_eq!((tried, answers.len()), (5, 40));
}

#[tokio::test]
async fn c14_right_passwords_on_both_nodes_at_once_are_all_let_in() {
    let (a, b, _) = two(as_it_is).await;
    let logins = (0..12).map(|n| if n % 2 == 0 { &a } else { &b }).map(|node| node.log_in_with("ann", PASSWORD));
    let answers = futures_util::future::join_all(logins).await;
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
}

#[tokio::test]
async fn one_mail_of_two_mailers_is_tried_by_one_of_them() {
    let (a, b, _) = two(as_it_is).await;
    for node in [&a, &b] {
        node.handles().tend_mail().await.unwrap();
    }
    let before = a.mail.attempts() + b.mail.attempts();
    assert_eq!(before, 2, "a verification mail for each account");
    a.mail.stall(true);
    a.register("cyd").await;
    while a.mail.attempts() + b.mail.attempts() == before {
        tokio::task::yield_now().await;
    }
    let (on_a, on_b) = (a.mail.attempts(), b.mail.attempts());
    b.handles().tend_mail().await.unwrap();
    assert_eq!((a.mail.attempts(), b.mail.attempts()), (on_a, on_b), "it is under way on A");
    // A stands still. When its claim has expired, B sends the same mail.
    for node in [&a, &b] {
        node.clock.advance(Duration::from_mins(2));
    }
    b.handles().tend_mail().await.unwrap();
    assert_eq!(b.mail.attempts(), on_b + 1);
}

#[tokio::test]
async fn a_refresh_token_is_honoured_within_the_grace_by_a_clock_that_is_ahead() {
    let (a, b, _) = two(as_it_is).await;
    let person = a.log_in("ann").await;
    let renewed = a.refresh(&person.refresh).await.unwrap();
    for (node, millis) in [(&a, 9_500), (&b, 9_500 + 1_500)] {
        node.clock.advance(Duration::from_millis(millis));
    }
    let again = b.refresh(&person.refresh).await.unwrap();
    assert_eq!(again.refresh_token.expose(), renewed.refresh_token.expose());
    for node in [&a, &b] {
        node.clock.advance(Duration::from_secs(5));
    }
    assert!(b.refresh(&person.refresh).await.is_err(), "that is theft");
    assert!(!a.lives(&person).await && !b.lives(&person).await);
}

#[tokio::test]
async fn keys_that_both_nodes_rotate_at_once_stay_one_ring() {
    let (a, b, root) = two(|settings| settings.tokens.algorithm = SigningAlgorithm::EdDsa).await;
    let (on_a, on_b) = (a.principal(&root).await.unwrap(), b.principal(&root).await.unwrap());
    let (keys_a, keys_b) = (&a.handles().keys, &b.handles().keys);
    let (one, other) = tokio::join!(keys_a.rotate(&on_a, false, origin()), keys_b.rotate(&on_b, false, origin()));
    assert_eq!(one.unwrap().id, other.unwrap().id, "one is on its way already, for whoever comes second");
    for node in [&a, &b] {
        node.handles().tend_keys().await.unwrap();
    }
    let ids = |node: &Node| node.handles().keys.list().into_iter().map(|key| key.id).collect::<Vec<_>>();
    assert_eq!((ids(&a).len(), ids(&a)), (2, ids(&b)));
    assert!(a.lives(&root).await && b.lives(&root).await);
}
