//! `POST /register`.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Person, TestApp, within};

async fn is_admin(app: &TestApp, person: &Person) -> bool {
    let token = app.login(person).await;
    app.call(Method::GET, "/accounts_management/", &token, &Value::Null).await.status == 200
}

/// Returns a registration with one member changed.
fn registration_with(name: &str, member: &str, value: Value) -> Value {
    let mut body = Person::named(name).registration();
    body[member] = value;
    body
}

#[tokio::test]
async fn registering_answers_201_with_the_new_account_and_no_more() {
    let app = TestApp::spawn().await;
    for (id, path, name) in [(1, "/register", "ann"), (2, "/register/", "bob")] {
        let person = Person::named(name);
        let answer = app.post(path, &person.registration()).await;
        answer.assert_body(201, &json!({"id": id, "nickname": name, "email": person.email}));
    }
}

#[tokio::test]
async fn the_first_account_administers_and_the_second_does_not() {
    let app = TestApp::spawn().await;
    let (first, second) = (app.register("ann").await, app.register("bob").await);
    assert!(is_admin(&app, &first).await);
    assert!(!is_admin(&app, &second).await);
}

#[tokio::test]
async fn two_racing_first_registrations_make_exactly_one_administrator() {
    let app = TestApp::spawn().await;
    let (ann, bob) = tokio::join!(app.register("ann"), app.register("bob"));
    assert_ne!(ann.id, bob.id);
    let roles = (is_admin(&app, &ann).await, is_admin(&app, &bob).await);
    assert!(roles.0 != roles.1, "{roles:?}");
}

#[tokio::test]
async fn an_emptied_data_directory_makes_no_second_first_administrator_not_even_after_a_restart() {
    let app = TestApp::spawn().await;
    let (_, token) = app.register_and_login("ann").await;
    assert_eq!(app.delete_own(&token, &Value::Null).await.status, 200);
    let (bob, token) = app.register_and_login("bob").await;
    assert!(!is_admin(&app, &bob).await);
    assert_eq!(app.delete_own(&token, &Value::Null).await.status, 200);
    let app = app.restart().await;
    let cleo = app.register("cleo").await;
    assert!(!is_admin(&app, &cleo).await);
    assert_eq!(cleo.id, 3, "numbers are never given again");
}

#[tokio::test]
async fn nobody_becomes_administrator_by_registering_where_that_is_switched_off() {
    let app = TestApp::builder().with(|settings| settings.accounts.first_user_is_admin = false).spawn().await;
    let ann = app.register("ann").await;
    assert!(!is_admin(&app, &ann).await);
}

#[tokio::test]
async fn s02_a_weak_password_is_refused_with_its_reason() {
    let app = TestApp::spawn().await;
    let plain = "Password is too weak: with fewer than 15 characters it must have an upper case letter, a lower case \
                 letter, a digit and a special character";
    for (password, detail) in [
        ("", "Password is too weak: it must have at least 8 characters"),
        ("aB3$xyz", "Password is too weak: it must have at least 8 characters"),
        ("quietlamptree", plain),
        ("Quietlamptree7", plain),
    ] {
        let answer = app.post("/register", &registration_with("ann", "password", json!(password))).await;
        answer.assert_problem(400, detail);
    }
    for password in ["quiet-lamp-tree", "qu1et-Lamp", "тихая лампа у окна", "  Quiet 7 lamp  "] {
        let name = format!("u{}", password.len());
        let answer = app.post("/register", &registration_with(&name, "password", json!(password))).await;
        assert_eq!(answer.status, 201, "{password:?}: {answer:?}");
    }
}

#[tokio::test]
async fn s04_common_passwords_and_ones_made_of_own_names_are_refused() {
    let app = TestApp::spawn().await;
    let guessable = "Password is too weak: it is too common or too easy to guess";
    for password in ["Password1!", "Qwerty123!", "aaaaaaaaaaaaaaaaaaaa", "Doorward1!", "annabel77@example.com"] {
        let answer = app.post("/register", &registration_with("annabel77", "password", json!(password))).await;
        answer.assert_problem(400, guessable);
    }
}

#[tokio::test]
async fn s03_a_long_password_counts_to_its_last_character() {
    let app = TestApp::spawn().await;
    let password = "correct horse battery staple ".repeat(35);
    let ann = Person { password: password[..1000].to_owned(), ..Person::named("ann") };
    assert_eq!(app.post("/register", &ann.registration()).await.status, 201);
    assert!(app.opens(&ann, &ann.password).await);
    assert!(!app.opens(&ann, &ann.password[..999]).await);
    assert!(!app.opens(&ann, &format!("{}x", ann.password)).await);
}

#[tokio::test]
async fn s03_an_over_long_password_or_passphrase_costs_no_hash() {
    let app = TestApp::builder().with(|settings| settings.passwords.hash_threads = 1).spawn().await;
    let before = app.hashes().await;
    for (member, length) in [("password", 1025), ("passphrase", 1025), ("password", 60_000)] {
        let answer = app.post("/register", &registration_with("ann", member, json!("x".repeat(length)))).await;
        assert_eq!(answer.pointers(), [format!("/{member}")]);
    }
    let answer = app.post("/register", &registration_with("ann", "password", json!("x".repeat(1_000_000)))).await;
    answer.assert_status_problem(413);
    assert_eq!(app.hashes().await, before);
}

#[tokio::test]
async fn taken_names_are_refused_in_every_spelling() {
    let app = TestApp::spawn().await;
    app.register("kate").await;
    for email in ["kate@example.com", "KATE@Example.COM", " kate@example.com ", "\u{212A}ate@example.com"] {
        let answer = app.post("/register", &registration_with("other", "email", json!(email))).await;
        answer.assert_problem(400, "Email already registered");
    }
    for nickname in ["kate", "KATE", " kate ", "\u{212A}ate", "ｋａｔｅ"] {
        let answer = app.post("/register", &registration_with("other", "nickname", json!(nickname))).await;
        answer.assert_problem(400, "Nickname already taken");
    }
    assert_eq!(app.register("other").await.id, 2, "a refused registration uses up no number");
}

#[tokio::test]
async fn s16_parallel_registrations_of_one_address_in_many_spellings_make_one_account() {
    let app = TestApp::spawn().await;
    let spellings = ["kate@example.com", "Kate@example.com", "KATE@EXAMPLE.COM", "\u{212A}ate@ＥＸＡＭＰＬＥ.com"];
    let attempts = (0..12).map(|n| {
        let mut body = registration_with(&format!("nick{n}"), "email", json!(spellings[n % spellings.len()]));
        body["nickname"] = json!(format!("nick{n}"));
        let app = &app;
        async move { app.post("/register", &body).await }
    });
    let answers = within(futures_util::future::join_all(attempts)).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 1, "{answers:?}");
    for refused in answers.iter().filter(|answer| answer.status != 201) {
        refused.assert_problem(400, "Email already registered");
    }
}

#[tokio::test]
async fn parallel_registrations_of_one_nickname_make_one_account() {
    let app = TestApp::spawn().await;
    let spellings = ["Kate", "kate", "\u{212A}ATE", "ｋate"];
    let attempts = (0..8).map(|n| {
        let body = registration_with(&format!("nick{n}"), "nickname", json!(spellings[n % spellings.len()]));
        let app = &app;
        async move { app.post("/register", &body).await }
    });
    let answers = within(futures_util::future::join_all(attempts)).await;
    assert_eq!(answers.iter().filter(|answer| answer.status == 201).count(), 1, "{answers:?}");
    for refused in answers.iter().filter(|answer| answer.status != 201) {
        refused.assert_problem(400, "Nickname already taken");
    }
}

#[tokio::test]
async fn a_customer_plan_other_than_none_is_refused_unless_users_may_choose() {
    let app = TestApp::spawn().await;
    let answer = app.post("/register", &registration_with("ann", "customer_account", json!("gold"))).await;
    answer.assert_status_problem(400);
    let answer = app.post("/register", &registration_with("ann", "customer_account", json!("none"))).await;
    assert_eq!(answer.status, 201, "{answer:?}");

    let app = TestApp::builder().with(|settings| settings.accounts.customer_account_self_service = true).spawn().await;
    let answer = app.post("/register", &registration_with("ann", "customer_account", json!("gold"))).await;
    assert_eq!(answer.status, 201, "{answer:?}");
    let token = app.login(&Person::named("ann")).await;
    let mine = app.call(Method::GET, "/my_account/", &token, &Value::Null).await;
    assert_eq!(mine.body["customer_account"], "gold");
}

#[tokio::test]
async fn s61_a_missing_or_mistyped_field_is_named() {
    let app = TestApp::spawn().await;
    for member in ["email", "nickname", "password", "passphrase"] {
        let mut body = Person::named("ann").registration();
        body.as_object_mut().unwrap().remove(member);
        assert_eq!(app.post("/register", &body).await.pointers(), [format!("/{member}")]);
        for wrong in [json!(null), json!(7), json!(["x"]), json!({"x": 1}), json!(true)] {
            let answer = app.post("/register", &registration_with("ann", member, wrong)).await;
            assert_eq!(answer.pointers(), [format!("/{member}")]);
        }
    }
    let answer = app.post("/register", &registration_with("ann", "customer_account", json!(7))).await;
    assert_eq!(answer.pointers(), ["/customer_account"]);
}

#[tokio::test]
async fn s61_every_field_that_cannot_be_used_is_named_at_once() {
    let app = TestApp::spawn().await;
    let body = json!({"email": "not an address", "nickname": " ", "password": "x".repeat(1025), "passphrase": "",
        "customer_account": "<b>"});
    let answer = app.post("/register", &body).await;
    assert_eq!(answer.pointers(), ["/email", "/nickname", "/password", "/passphrase", "/customer_account"]);
    for error in answer.body["errors"].as_array().unwrap() {
        assert!(!error["detail"].as_str().unwrap().is_empty(), "{answer:?}");
    }
}

#[tokio::test]
async fn s35_control_characters_never_get_into_an_address_or_a_name() {
    let app = TestApp::spawn().await;
    for (member, bad) in [
        ("email", "ann@example.com\r\nBcc: x@example.org"),
        ("email", "ann\u{202E}@example.com"),
        ("nickname", "a\nb"),
        ("nickname", "a\u{1b}[31mb"),
        ("nickname", "a\u{202E}b"),
        ("nickname", "a\u{200B}b"),
    ] {
        let answer = app.post("/register", &registration_with("ann", member, json!(bad))).await;
        assert_eq!(answer.pointers(), [format!("/{member}")]);
    }
}

#[tokio::test]
async fn s56_privileges_cannot_be_smuggled_into_a_registration() {
    let app = TestApp::spawn().await;
    app.register("admin").await;
    for (member, value) in [
        ("role", json!("admin")),
        ("lock", json!(false)),
        ("email_verified", json!(true)),
        ("id", json!(77)),
        ("session_epoch", json!(0)),
        ("password_hash", json!("x")),
        ("created_at", json!("2020-01-01T00:00:00Z")),
    ] {
        let answer = app.post("/register", &registration_with("ann", member, value)).await;
        assert_eq!(answer.pointers(), [format!("/{member}")]);
    }
    let ann = app.register("ann").await;
    assert!(!is_admin(&app, &ann).await);
}

/// Every route that sets an address warns of an address for which the mail server accepts no mail.
#[tokio::test]
async fn e17_an_address_that_no_mail_reaches_is_warned_of() {
    let app = TestApp::spawn().await;
    let (_, admin) = app.register_and_login("ann").await;
    let done = |answer: Answer, status: u16| {
        assert_eq!(answer.status, status, "{answer:?}");
        answer.body
    };
    let body = |name: &str, email: &str| json!({"email": email, "nickname": name, "password": "quiet-lamp-under-stairs", "passphrase": "a long green story"});
    done(app.post("/register", &body("one", "jürgen@example.com")).await, 201);
    app.mail.reach_ascii_only();
    let made = done(app.post("/register", &body("two", "अजय@example.com")).await, 201);
    let warning = made["warning"].as_str().unwrap().to_owned();
    assert!(warning.contains("No mail can be sent"), "{warning}");
    let made = done(app.post("/register", &body("three", "ann.lee@müller.de")).await, 201);
    assert_eq!(made.get("warning"), None, "its domain has an ASCII form: {made}");
    let path = "/accounts_management/";
    let made = done(app.call(Method::POST, path, &admin, &body("four", "zoë@example.com")).await, 201);
    assert_eq!(made["warning"], warning);
    let path = format!("/accounts_management/{}", made["id"]);
    let changed = done(app.call(Method::PUT, &path, &admin, &json!({"email": "zoé@example.com"})).await, 200);
    assert_eq!(changed["warning"], warning);
    let changed = done(app.call(Method::PUT, "/my_account/", &admin, &json!({"email": "änn@example.com"})).await, 200);
    assert_eq!(changed, json!({"message": "Account details updated successfully", "warning": warning}));
    let changed = done(app.call(Method::PUT, "/my_account/", &admin, &json!({"nickname": "änn"})).await, 200);
    assert_eq!(changed, json!({"message": "Account details updated successfully"}));
}

#[tokio::test]
async fn e17_an_address_that_no_mail_reaches_is_refused_where_the_operator_says_so() {
    let app = TestApp::builder().with(|settings| settings.mail.refuse_unreachable = true).spawn().await;
    let (_, admin) = app.register_and_login("ann").await;
    app.mail.reach_ascii_only();
    let body = json!({"email": "jürgen@example.com", "nickname": "j", "password": "quiet-lamp-under-stairs", "passphrase": "a green story"});
    app.post("/register", &body).await.assert_status_problem(400);
    app.call(Method::POST, "/accounts_management/", &admin, &body).await.assert_status_problem(400);
    for path in ["/my_account/", "/accounts_management/1"] {
        app.call(Method::PUT, path, &admin, &json!({"email": "jürgen@example.com"}))
            .await
            .assert_problem(400, "No mail can be sent to this address: the mail server takes only ASCII before the @");
    }
}
