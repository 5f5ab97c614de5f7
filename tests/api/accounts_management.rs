//! `/accounts_management`: what administrators read, create, change and delete.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{NEW_PASSWORD, Person, TestApp, members, within};

const ACCOUNT: [&str; 12] = [
    "created_at",
    "customer_account",
    "email",
    "email_verified",
    "id",
    "iddle_time",
    "idle_duration",
    "is_logged_in",
    "lock",
    "nickname",
    "password_compromised",
    "role",
];
const LAST_ADMIN: &str = "The last administrator cannot be removed, demoted or locked";

async fn ids(app: &TestApp, admin: &str, query: &str) -> Vec<u64> {
    let answer = app.call(Method::GET, &format!("/accounts_management/{query}"), admin, &Value::Null).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body.as_array().unwrap().iter().map(|account| account["id"].as_u64().unwrap()).collect()
}

fn done(id: u64) -> Value {
    json!({"message": format!("User details successfully updated for user {id}")})
}

#[tokio::test]
async fn administrators_see_every_member_of_an_account_and_no_secret() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    app.register("ann").await;
    let expected = json!({"id": 2, "nickname": "ann", "email": "ann@example.com", "customer_account": "none",
        "role": "user", "lock": false, "email_verified": false, "password_compromised": false, "iddle_time": null, "idle_duration": null,
        "is_logged_in": false, "created_at": "2025-01-01T00:00:00.000Z"});
    for path in ["/accounts_management/2", "/accounts_management/2/"] {
        app.call(Method::GET, path, &admin, &Value::Null).await.assert_body(200, &expected);
    }
    for path in ["/accounts_management/", "/accounts_management"] {
        let answer = app.call(Method::GET, path, &admin, &Value::Null).await;
        assert_eq!(answer.body[1], expected);
        assert_eq!(members(&answer.body[0]), ACCOUNT);
        assert_eq!(answer.body[0]["role"], "admin");
    }
}

#[tokio::test]
async fn a_list_is_by_id_and_has_pages() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    for n in 0..6 {
        app.register(&format!("user{n}")).await;
    }
    assert_eq!(app.delete(&admin, 4).await.status, 200);
    assert_eq!(ids(&app, &admin, "").await, [1, 2, 3, 5, 6, 7]);
    assert_eq!(ids(&app, &admin, "?skip=0&limit=100").await, [1, 2, 3, 5, 6, 7]);
    assert_eq!(ids(&app, &admin, "?skip=2").await, [3, 5, 6, 7]);
    assert_eq!(ids(&app, &admin, "?limit=2").await, [1, 2]);
    assert_eq!(ids(&app, &admin, "?skip=2&limit=2").await, [3, 5]);
    assert_eq!(ids(&app, &admin, "?skip=5&limit=1000").await, [7]);
    assert_eq!(ids(&app, &admin, "?skip=6").await, [0_u64; 0]);
    assert_eq!(ids(&app, &admin, "?skip=18446744073709551615").await, [0_u64; 0]);
}

#[tokio::test]
async fn a_list_without_a_limit_has_a_hundred_accounts() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    for n in 0..102 {
        app.register(&format!("user{n}")).await;
    }
    assert_eq!(ids(&app, &admin, "").await, (1..=100).collect::<Vec<_>>());
    assert_eq!(ids(&app, &admin, "?limit=1000").await.len(), 103);
}

#[tokio::test]
async fn s61_a_page_that_cannot_be_is_refused() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    for (query, pointer) in [
        ("?skip=-1", "?skip"),
        ("?skip=x", "?skip"),
        ("?skip=", "?skip"),
        ("?limit=0", "?limit"),
        ("?limit=1001", "?limit"),
        ("?limit=-5", "?limit"),
        ("?limit=1.5", "?limit"),
        ("?limit=99999999999999999999999", "?limit"),
    ] {
        let answer = app.call(Method::GET, &format!("/accounts_management/{query}"), &admin, &Value::Null).await;
        assert_eq!(answer.pointers(), [pointer], "{query}");
    }
}

#[tokio::test]
async fn idle_times_follow_the_last_use() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    let (ann, token) = app.register_and_login("ann").await;
    let idle = async |app: &TestApp| {
        let account = app.account(&admin, ann.id).await;
        (account["iddle_time"].clone(), account["idle_duration"].clone(), account["is_logged_in"].clone())
    };
    assert_eq!(idle(&app).await, (json!("2025-01-01T00:00:00.000Z"), json!("0 sec"), json!(true)));
    app.pass(Duration::from_secs(45));
    assert_eq!(idle(&app).await, (json!("2025-01-01T00:00:00.000Z"), json!("45 sec"), json!(true)));
    assert!(app.is_live(&token).await);
    app.pass(Duration::from_secs(330));
    assert_eq!(idle(&app).await, (json!("2025-01-01T00:00:45.000Z"), json!("5 min 30 sec"), json!(true)));
    assert_eq!(app.logout(&token).await.status, 200);
    // The logout itself counted as a use.
    assert_eq!(idle(&app).await, (json!("2025-01-01T00:06:15.000Z"), json!("0 sec"), json!(false)));
    app.pass(Duration::from_secs(61));
    assert_eq!(idle(&app).await, (json!("2025-01-01T00:06:15.000Z"), json!("1 min 1 sec"), json!(false)));
    let app = app.restart().await;
    assert_eq!(idle(&app).await, (json!("2025-01-01T00:06:15.000Z"), json!("1 min 1 sec"), json!(false)));
}

#[tokio::test]
async fn somebody_idle_for_too_long_is_not_logged_in() {
    let app = TestApp::builder()
        .with(|settings| {
            settings.sessions.idle_timeout = Duration::from_mins(10);
            settings.tokens.access_token_lifetime = Duration::from_hours(1);
        })
        .spawn()
        .await;
    let admin = app.admin().await;
    let (ann, _) = app.register_and_login("ann").await;
    app.pass(Duration::from_mins(9));
    assert_eq!(app.account(&admin, ann.id).await["is_logged_in"], true);
    app.pass(Duration::from_mins(2));
    let before_the_sweep = app.account(&admin, ann.id).await;
    assert_eq!(before_the_sweep["is_logged_in"], false);
    app.handles.tend_sessions().await.unwrap();
    let after = app.account(&admin, ann.id).await;
    assert_eq!((&after["is_logged_in"], &after["idle_duration"]), (&json!(false), &json!("11 min 0 sec")));
}

#[tokio::test]
async fn administrators_make_accounts_which_are_users() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    let ann = Person::named("ann");
    let mut body = ann.registration();
    body["customer_account"] = json!("gold");
    let answer = app.call(Method::POST, "/accounts_management/", &admin, &body).await;
    let expected = json!({"id": 2, "nickname": "ann", "email": "ann@example.com", "customer_account": "gold",
        "role": "user", "lock": false, "email_verified": false, "password_compromised": false, "iddle_time": null, "idle_duration": null,
        "is_logged_in": false, "created_at": "2025-01-01T00:00:00.000Z"});
    answer.assert_body(201, &expected);
    assert_eq!(app.account(&admin, 2).await, expected);
    assert!(app.opens(&ann, &ann.password).await);
    let bare = app.call(Method::POST, "/accounts_management", &admin, &Person::named("bob").registration()).await;
    assert_eq!((bare.status, &bare.body["id"]), (201, &json!(3)));
}

#[tokio::test]
async fn s56_an_account_made_by_an_administrator_follows_the_rules_of_registration() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    app.register("kate").await;
    let make = async |member: &str, value: Value| {
        let mut body = Person::named("ann").registration();
        body[member] = value;
        app.call(Method::POST, "/accounts_management/", &admin, &body).await
    };
    make("email", json!("Kate@example.com")).await.assert_problem(400, "Email already registered");
    make("nickname", json!("KATE")).await.assert_problem(400, "Nickname already taken");
    make("password", json!("short"))
        .await
        .assert_problem(400, "Password is too weak: it must have at least 8 characters");
    assert_eq!(make("email", json!("x")).await.pointers(), ["/email"]);
    for member in ["role", "lock", "email_verified", "id"] {
        assert_eq!(make(member, json!("admin")).await.pointers(), [format!("/{member}")]);
    }
    assert_eq!(ids(&app, &admin, "").await, [1, 2]);
}

#[tokio::test]
async fn s61_an_id_that_no_account_has_is_404_and_one_that_is_no_number_is_422() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    for method in [Method::GET, Method::PUT, Method::DELETE] {
        for id in ["2", "0", "-1", "-0", "9223372036854775808", "18446744073709551615", "99999999999999999999"] {
            let path = format!("/accounts_management/{id}");
            let answer = app.call(method.clone(), &path, &admin, &json!({"nickname": "x"})).await;
            answer.assert_problem(404, &format!("User with id {id} not found"));
        }
        for id in ["x", "1.0", "1e3", "0x1", "+1", "%31", "1%00", "null", "1;2", "%F0%9F%98%80"] {
            let path = format!("/accounts_management/{id}");
            let answer = app.call(method.clone(), &path, &admin, &json!({"nickname": "x"})).await;
            assert_eq!(answer.pointers(), ["/id"], "{method} {id}");
        }
    }
}

#[tokio::test]
async fn administrators_change_names_and_plan() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    let (ann, token) = app.register_and_login("ann").await;
    let change = json!({"nickname": "Anna", "email": "anna@example.org", "customer_account": "gold"});
    app.change(&admin, ann.id, &change).await.assert_body(200, &done(ann.id));
    let seen = app.account(&admin, ann.id).await;
    for (member, value) in change.as_object().unwrap() {
        assert_eq!(&seen[member], value);
    }
    assert!(app.is_live(&token).await);
    assert_eq!(app.verify(&token).await.body["nickname"], "Anna");
    let slashed = app.call(Method::PUT, &format!("/accounts_management/{}/", ann.id), &admin, &json!({})).await;
    slashed.assert_body(200, &done(ann.id));
    app.change(&admin, ann.id, &json!({"email": "ADMIN@example.com"}))
        .await
        .assert_problem(400, "Email already registered");
    app.change(&admin, ann.id, &json!({"nickname": "Admin"})).await.assert_problem(400, "Nickname already taken");
    let short = "Password is too weak: it must have at least 8 characters";
    app.change(&admin, ann.id, &json!({"password": "short"})).await.assert_problem(400, short);
}

#[tokio::test]
async fn s38_a_password_set_by_an_administrator_is_the_password_and_ends_all_sessions() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    let (ann, token) = app.register_and_login("ann").await;
    app.change(&admin, ann.id, &json!({"password": NEW_PASSWORD})).await.assert_body(200, &done(ann.id));
    assert!(!app.is_live(&token).await);
    assert!(!app.opens(&ann, &ann.password).await);
    assert!(app.opens(&ann, NEW_PASSWORD).await);
    let app = app.restart().await;
    assert!(!app.is_live(&token).await);
    assert!(!app.opens(&ann, &ann.password).await);
    assert!(app.opens(&ann, NEW_PASSWORD).await);
}

#[tokio::test]
async fn s08_a_passphrase_set_by_an_administrator_is_the_passphrase() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    let ann = app.register("ann").await;
    app.must_change(&admin, ann.id, &json!({"passphrase": "Quite another ONE"})).await;
    assert_eq!(app.recover(&ann.email, &ann.passphrase, NEW_PASSWORD).await.status, 400);
    assert_eq!(app.recover(&ann.email, "quite another one", NEW_PASSWORD).await.status, 200);
}

#[tokio::test]
async fn s38_a_lock_ends_the_sessions_at_once_and_an_unlock_revives_none() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    let (ann, one) = app.register_and_login("ann").await;
    let two = app.login(&ann).await;
    app.change(&admin, ann.id, &json!({"lock": true})).await.assert_body(200, &done(ann.id));
    assert!(!app.is_live(&one).await && !app.is_live(&two).await);
    assert!(!app.opens(&ann, &ann.password).await);
    let seen = app.account(&admin, ann.id).await;
    assert_eq!((&seen["lock"], &seen["is_logged_in"]), (&json!(true), &json!(false)));
    let app = app.restart().await;
    assert!(!app.opens(&ann, &ann.password).await);
    app.must_change(&admin, ann.id, &json!({"lock": false})).await;
    assert!(!app.is_live(&one).await && !app.is_live(&two).await);
    assert!(app.opens(&ann, &ann.password).await);
}

#[tokio::test]
async fn s38_a_role_counts_from_the_very_next_request() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    let (ann, token) = app.register_and_login("ann").await;
    let list = async || app.call(Method::GET, "/accounts_management/", &token, &Value::Null).await;
    list().await.assert_problem(403, "Insufficient permissions. Admin role required.");
    app.must_change(&admin, ann.id, &json!({"role": "admin"})).await;
    assert_eq!(list().await.status, 200);
    assert_eq!(app.verify(&token).await.body["role"], "admin");
    app.must_change(&admin, ann.id, &json!({"role": "user"})).await;
    list().await.assert_problem(403, "Insufficient permissions. Admin role required.");
    assert_eq!(app.verify(&token).await.body["role"], "user");
}

#[tokio::test]
async fn s61_changes_that_cannot_be_read_are_refused_with_their_place() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    let ann = app.register("ann").await;
    let before = app.account(&admin, ann.id).await;
    for (member, value) in [
        ("role", json!("root")),
        ("role", json!("Admin")),
        ("role", json!(1)),
        ("lock", json!("true")),
        ("lock", json!(1)),
        ("email", json!("x")),
        ("nickname", json!("")),
        ("password", json!("x".repeat(1025))),
        ("passphrase", json!(" ")),
        ("customer_account", json!("<b>")),
        ("email_verified", json!(true)),
        ("id", json!(1)),
        ("current_password", json!(1)),
    ] {
        let answer = app.change(&admin, ann.id, &json!({member: value})).await;
        assert_eq!(answer.pointers(), [format!("/{member}")]);
    }
    assert_eq!(app.account(&admin, ann.id).await, before);
}

#[tokio::test]
async fn s60_a_deleted_account_is_gone_with_its_sessions_and_its_number_is_not_given_again() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    let (ann, token) = app.register_and_login("ann").await;
    let answer = app.delete(&admin, ann.id).await;
    answer.assert_body(200, &json!({"message": format!("User {} has been successfully deleted", ann.id)}));
    assert!(!app.is_live(&token).await);
    assert!(!app.opens(&ann, &ann.password).await);
    app.delete(&admin, ann.id).await.assert_problem(404, &format!("User with id {} not found", ann.id));
    let app = app.restart().await;
    assert_eq!(app.register("ann").await.id, ann.id + 1);
    assert!(!app.is_live(&token).await);
}

#[tokio::test]
async fn administrators_do_not_delete_their_own_account_here() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    app.delete(&admin, 1).await.assert_problem(400, "Administrators cannot delete their own accounts");
    let slashed = app.call(Method::DELETE, "/accounts_management/1/", &admin, &Value::Null).await;
    slashed.assert_problem(400, "Administrators cannot delete their own accounts");
    assert!(app.is_live(&admin).await);
}

#[tokio::test]
async fn s58_the_last_administrator_is_neither_demoted_nor_locked() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    let (ann, _) = app.register_and_login("ann").await;
    for change in [json!({"role": "user"}), json!({"lock": true}), json!({"role": "user", "lock": true})] {
        app.change(&admin, 1, &change).await.assert_problem(409, LAST_ADMIN);
    }
    assert!(app.is_live(&admin).await);
    app.must_change(&admin, ann.id, &json!({"role": "admin"})).await;
    app.lock(&admin, ann.id).await;
    // A locked administrator does not count as an administrator.
    app.change(&admin, 1, &json!({"role": "user"})).await.assert_problem(409, LAST_ADMIN);
    app.delete_own(&admin, &Value::Null).await.assert_problem(409, LAST_ADMIN);
    app.must_change(&admin, ann.id, &json!({"lock": false})).await;
    app.must_change(&admin, 1, &json!({"role": "user"})).await;
}

#[tokio::test]
async fn s58_two_administrators_who_demote_each_other_at_once_leave_one() {
    for round in 0..5 {
        let app = TestApp::spawn().await;
        let first = app.admin().await;
        let (ann, second) = app.register_and_login("ann").await;
        app.must_change(&first, ann.id, &json!({"role": "admin"})).await;
        let (demotion, lock) = (json!({"role": "user"}), json!({"lock": true}));
        let body = if round % 2 == 0 { &demotion } else { &lock };
        let (one, two) =
            within(async { tokio::join!(app.change(&first, ann.id, body), app.change(&second, 1, body)) }).await;
        // The slower request may find its role or its session already ended.
        let mut statuses = [one.status, two.status];
        statuses.sort_unstable();
        assert_eq!(statuses[0], 200, "{one:?} {two:?}");
        assert!(matches!(statuses[1], 401 | 403 | 409), "{one:?} {two:?}");
        let mut admins = 0;
        for token in [&first, &second] {
            let answer = app.call(Method::GET, "/accounts_management/", token, &Value::Null).await;
            admins += u32::from(answer.status == 200);
        }
        assert_eq!(admins, 1, "{one:?} {two:?}");
    }
}

#[tokio::test]
async fn s58_two_administrators_who_step_down_at_once_leave_one() {
    for _ in 0..5 {
        let app = TestApp::spawn().await;
        let first = app.admin().await;
        let (ann, second) = app.register_and_login("ann").await;
        app.must_change(&first, ann.id, &json!({"role": "admin"})).await;
        let body = json!({"role": "user"});
        let (one, two) =
            within(async { tokio::join!(app.change(&first, 1, &body), app.change(&second, ann.id, &body)) }).await;
        let mut statuses = [one.status, two.status];
        statuses.sort_unstable();
        assert_eq!(statuses, [200, 409], "{one:?} {two:?}");
    }
}
