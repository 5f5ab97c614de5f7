//! The keys that sign access tokens: publication, rotation, change, and tokens that a service verifies offline.

use std::path::Path;
use std::time::Duration;

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use doorward::data_dir::key_files::KeyFiles;
use doorward::settings::{Algorithm, Settings};
use doorward_actors::ports::{Clock as _, KeyVault as _, SendError};
use doorward_actors::{KeyId, KeyRing, MailKind, Origin, RotateError, Secret, SigningAlgorithm, SigningKey, Timestamp};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::support::{Answer, NEW_PASSWORD, SERVICE_TOKEN, TestApp, TestAppBuilder, leaks, members};

/// How long a new key is published before it begins to sign.
const AHEAD: Duration = Duration::from_mins(15);
/// The lifetime of an access token in these tests. An old key is kept longer by `KEPT_LONGER`.
const LIFETIME: Duration = Duration::from_mins(30);
const KEPT_LONGER: Duration = Duration::from_mins(1);
const DAY: Duration = Duration::from_hours(24);
const PAIRS: [Algorithm; 3] = [Algorithm::EdDsa, Algorithm::Es256, Algorithm::Rs256];

fn signing_with(algorithm: Algorithm) -> TestAppBuilder {
    TestApp::builder().with(move |settings| settings.tokens.algorithm = algorithm)
}

/// Starts the application on this directory with these changed settings.
async fn started(directory: &Path, clock_of: Option<TestApp>, change: impl FnOnce(&mut Settings)) -> TestApp {
    let builder = TestApp::builder().with(change).data_dir(directory);
    match clock_of {
        Some(app) => builder.continuing(app).await,
        None => builder.spawn().await,
    }
}

fn part(token: &str, n: usize) -> Value {
    let part = URL_SAFE_NO_PAD.decode(token.split('.').nth(n).unwrap()).unwrap();
    serde_json::from_slice(&part).unwrap()
}

fn kid(token: &str) -> Value {
    part(token, 0)["kid"].clone()
}

async fn published(app: &TestApp) -> Vec<Value> {
    let answer = app.get("/.well-known/jwks.json").await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body["keys"].as_array().unwrap().clone()
}

async fn listed(app: &TestApp, admin: &str) -> Vec<Value> {
    let answer = app.call(Method::GET, "/keys/", admin, &Value::Null).await;
    assert_eq!((answer.status, answer.members()), (200, vec!["keys", "next", "rotation_days"]), "{answer:?}");
    answer.body["keys"].as_array().unwrap().clone()
}

async fn states(app: &TestApp, admin: &str) -> Vec<String> {
    listed(app, admin).await.iter().map(|key| key["state"].as_str().unwrap().to_owned()).collect()
}

async fn rotate(app: &TestApp, admin: &str, body: Value) -> Answer {
    app.call(Method::POST, "/keys/rotate", admin, &body).await
}

/// Returns the events of this kind from the audit log, the newest first.
async fn on_record(app: &TestApp, admin: &str, event: &str) -> Vec<Value> {
    let answer = app.call(Method::GET, &format!("/audit/?event={event}"), admin, &Value::Null).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body["events"].as_array().unwrap().clone()
}

/// Verifies a token with the published keys alone, as an offline service does, and returns its claims.
fn check_offline(token: &str, keys: &[Value]) -> Option<Value> {
    let jwk = keys.iter().find(|key| key["kid"] == kid(token))?;
    let (message, signature) = token.rsplit_once('.')?;
    let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
    let member = |name: &str| URL_SAFE_NO_PAD.decode(jwk[name].as_str().unwrap()).unwrap();
    let good = match jwk["alg"].as_str()? {
        "EdDSA" => UnparsedPublicKey::new(&ED25519, member("x")).verify(message.as_bytes(), &signature),
        "ES256" => {
            let point = [vec![4], member("x"), member("y")].concat();
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).verify(message.as_bytes(), &signature)
        }
        "RS256" => RsaPublicKeyComponents { n: member("n"), e: member("e") }.verify(
            &RSA_PKCS1_2048_8192_SHA256,
            message.as_bytes(),
            &signature,
        ),
        other => panic!("{other}"),
    };
    good.is_ok().then(|| part(token, 1))
}

#[tokio::test]
async fn a_service_checks_tokens_by_the_published_keys_alone() {
    for algorithm in PAIRS {
        let app = signing_with(algorithm).spawn().await;
        let (ann, token) = app.register_and_login("ann").await;
        let keys = published(&app).await;
        let header = part(&token, 0);
        assert_eq!(members(&header), ["alg", "kid", "typ"]);
        assert_eq!((&header["typ"], &header["alg"]), (&json!("at+jwt"), &json!(algorithm.as_str())));
        let claims = check_offline(&token, &keys).unwrap();
        let expected = ["aud", "exp", "iat", "id", "iss", "jti", "nbf", "nickname", "role", "sid", "sub"];
        assert_eq!(members(&claims), expected);
        assert_eq!((&claims["sub"], &claims["id"]), (&json!(ann.id.to_string()), &json!(ann.id)));
        assert!(app.is_live(&token).await);
        let (other, _) = token.rsplit_once('.').unwrap();
        assert!(check_offline(&format!("{other}.{}", URL_SAFE_NO_PAD.encode([7; 64])), &keys).is_none());
    }
}

#[tokio::test]
async fn s09_the_key_set_holds_public_members_alone_and_says_how_long_it_is_good_for() {
    for (algorithm, expected) in [
        (Algorithm::EdDsa, vec!["alg", "crv", "kid", "kty", "use", "x"]),
        (Algorithm::Es256, vec!["alg", "crv", "kid", "kty", "use", "x", "y"]),
        (Algorithm::Rs256, vec!["alg", "e", "kid", "kty", "n", "use"]),
    ] {
        let app = signing_with(algorithm).spawn().await;
        for path in ["/.well-known/jwks.json", "/.well-known/jwks.json/"] {
            let answer = app.get(path).await;
            assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/json")), "{answer:?}");
            assert_eq!(answer.header("cache-control"), Some("public, max-age=300"));
            assert_eq!(answer.members(), ["keys"]);
            let keys = answer.body["keys"].as_array().unwrap();
            assert_eq!(keys.len(), 1);
            assert_eq!(members(&keys[0]), expected);
            assert_eq!((&keys[0]["use"], &keys[0]["alg"]), (&json!("sig"), &json!(algorithm.as_str())));
        }
        let etag = app.get("/.well-known/jwks.json").await.header("etag").unwrap().to_owned();
        let again = app.request(Method::GET, "/.well-known/jwks.json").header("If-None-Match", &etag);
        let again = app.send(again).await;
        assert_eq!((again.status, again.text.as_str(), again.header("etag")), (304, "", Some(etag.as_str())));
        let head = app.send(app.request(Method::HEAD, "/.well-known/jwks.json")).await;
        assert_eq!((head.status, head.header("etag")), (200, Some(etag.as_str())));
    }
    let app = TestApp::spawn().await;
    app.get("/.well-known/jwks.json").await.assert_body(200, &json!({"keys": []}));
}

#[tokio::test]
async fn a_rotation_ends_no_session_and_no_old_key_outlives_its_tokens() {
    let app = signing_with(Algorithm::EdDsa).spawn().await;
    let admin = app.admin().await;
    let (ann, before) = app.register_and_login("ann").await;
    let answer = rotate(&app, &admin, Value::Null).await;
    assert_eq!((answer.status, &answer.body["state"]), (200, &json!("next")), "{answer:?}");
    assert_eq!(answer.body["published"], true);
    let again = rotate(&app, &admin, json!({"compromised": false})).await;
    assert_eq!(again.body, answer.body, "one is on its way");
    assert_eq!(states(&app, &admin).await, ["next", "signing"]);
    assert_eq!(published(&app).await.len(), 2);
    let still = app.login(&ann).await;
    assert_eq!(kid(&still), kid(&before), "nobody knows the new key yet");

    app.pass(AHEAD);
    let after = app.login(&ann).await;
    let admin = app.login(&crate::support::Person::named("admin")).await;
    assert_eq!(kid(&after), answer.body["kid"]);
    let keys = published(&app).await;
    for token in [&before, &still, &after] {
        assert!(app.is_live(token).await);
        assert!(check_offline(token, &keys).is_some());
    }
    let old = listed(&app, &admin).await.pop().unwrap();
    assert_eq!((&old["state"], &old["kid"]), (&json!("retired"), &kid(&before)));

    let moment = Duration::from_millis(1);
    app.pass((LIFETIME + KEPT_LONGER).saturating_sub(moment));
    let admin = app.login(&crate::support::Person::named("admin")).await;
    app.handles.tend_keys().await.unwrap();
    assert_eq!(states(&app, &admin).await, ["signing", "retired"]);
    app.pass(Duration::from_millis(1));
    app.handles.tend_keys().await.unwrap();
    assert_eq!(states(&app, &admin).await, ["signing"]);
    assert_eq!(published(&app).await.len(), 1);
    assert_eq!(on_record(&app, &admin, "key.removed").await.len(), 1);
}

#[tokio::test]
async fn s43_a_compromised_key_is_dead_at_once() {
    for algorithm in PAIRS {
        let app = signing_with(algorithm).spawn().await;
        let admin = app.admin().await;
        let (ann, token) = app.register_and_login("ann").await;
        assert!(app.is_live(&token).await);
        let answer = rotate(&app, &admin, json!({"compromised": true})).await;
        assert_eq!((answer.status, &answer.body["state"]), (200, &json!("signing")), "{answer:?}");
        for dead in [&token, &admin] {
            assert!(!app.is_live(dead).await);
            app.call(Method::GET, "/my_account/", dead, &Value::Null).await.assert_status_problem(401);
        }
        let keys = published(&app).await;
        assert_eq!(keys.len(), 1);
        assert!(check_offline(&token, &keys).is_none());
        let fresh = app.login(&ann).await;
        assert_eq!(kid(&fresh), answer.body["kid"]);
        assert!(app.is_live(&fresh).await);
        let admin = app.login(&crate::support::Person::named("admin")).await;
        let record = &on_record(&app, &admin, "key.replaced").await[0];
        assert_eq!(record["actor"], "admin:1");
        assert!(record["address"].is_string() && record["session_id"].is_string(), "{record}");
    }
}

#[tokio::test]
async fn keys_are_rotated_by_age_and_put_on_record() {
    let app =
        signing_with(Algorithm::Es256).with(|settings| settings.tokens.key_rotation = Some(DAY * 7)).spawn().await;
    let first = kid(&app.admin().await);
    app.pass((DAY * 7).saturating_sub(AHEAD + Duration::from_millis(1)));
    app.handles.tend_keys().await.unwrap();
    assert_eq!(published(&app).await.len(), 1, "not yet");
    app.pass(Duration::from_millis(1));
    for _ in 0..3 {
        app.handles.tend_keys().await.unwrap();
    }
    assert_eq!(published(&app).await.len(), 2);
    app.pass(AHEAD);
    let admin = app.login(&crate::support::Person::named("admin")).await;
    assert_ne!(kid(&admin), first);
    let records = on_record(&app, &admin, "key.rotated").await;
    assert_eq!((records.len(), &records[0]["actor"]), (1, &json!("system")));
    let answer = app.call(Method::GET, "/keys/", &admin, &Value::Null).await;
    assert_eq!(answer.body["rotation_days"], 7);

    let never = signing_with(Algorithm::Es256).with(|settings| settings.tokens.key_rotation = None).spawn().await;
    never.pass(DAY * 4000);
    never.handles.tend_keys().await.unwrap();
    assert_eq!(published(&never).await.len(), 1);
}

#[tokio::test]
async fn a_secret_is_not_rotated_here_and_not_published() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    for body in [Value::Null, json!({"compromised": true})] {
        let answer = rotate(&app, &admin, body).await;
        answer.assert_status_problem(409);
        assert!(answer.body["detail"].as_str().unwrap().contains("SECRET_KEY_PREVIOUS"), "{answer:?}");
    }
    for body in [json!({"compromised": "yes"}), json!({"all": true}), json!([])] {
        rotate(&app, &admin, body).await.assert_status_problem(422);
    }
    let keys = listed(&app, &admin).await;
    assert_eq!((keys.len(), &keys[0]["published"], &keys[0]["algorithm"]), (1, &json!(false), &json!("HS256")));
    assert!(app.is_live(&admin).await);
    assert!(on_record(&app, &admin, "key.rotated&outcome=success").await.is_empty());
}

#[tokio::test]
async fn another_algorithm_invalidates_nothing_before_its_expiry() {
    let directory = TempDir::new().unwrap();
    let order =
        [Algorithm::Hs256, Algorithm::EdDsa, Algorithm::Hs512, Algorithm::Rs256, Algorithm::Es256, Algorithm::Hs256];
    let (mut app, mut tokens) = (None, Vec::new());
    for algorithm in order {
        let next = started(directory.path(), app.take(), |settings| settings.tokens.algorithm = algorithm).await;
        if tokens.is_empty() {
            next.register("ann").await;
        }
        let token = next.login(&crate::support::Person::named("ann")).await;
        assert_eq!(part(&token, 0)["alg"], algorithm.as_str());
        tokens.push(token);
        for token in &tokens {
            assert!(next.is_live(token).await, "{} after {algorithm}", part(token, 0));
        }
        next.pass(Duration::from_mins(1));
        app = Some(next);
    }
    let app = app.unwrap();
    assert_eq!(published(&app).await.len(), 3);
    app.handles.tend_keys().await.unwrap();
    let ann = crate::support::Person::named("ann");
    assert_eq!(on_record(&app, &app.login(&ann).await, "key.switched").await.len(), order.len() - 1);
    // Each token expires at its own time, and its key is removed with it.
    app.pass(LIFETIME + KEPT_LONGER);
    app.handles.tend_keys().await.unwrap();
    for token in &tokens {
        assert!(!app.is_live(token).await);
    }
    assert!(published(&app).await.is_empty());
    assert_eq!(states(&app, &app.login(&ann).await).await, ["signing"]);
}

#[tokio::test]
async fn the_secret_before_is_good_until_its_tokens_are_over() {
    const SECOND: &str = "second-secret-key-0123456789abcdef";
    const THIRD: &str = "third-secret-key-0123456789abcdefg";
    [SECOND, THIRD].into_iter().for_each(leaks::note_secret);
    let secret = |text: &str| Some(Secret::new(text.to_owned()));
    let directory = TempDir::new().unwrap();
    let app = started(directory.path(), None, |_| {}).await;
    let (_, old) = app.register_and_login("ann").await;
    let app = started(directory.path(), Some(app), |settings| {
        settings.tokens.previous_secret_key = settings.tokens.secret_key.replace(Secret::new(SECOND.to_owned()));
    })
    .await;
    let ann = crate::support::Person::named("ann");
    let new = app.login(&ann).await;
    assert_eq!(part(&old, 0), part(&new, 0));
    assert!(app.is_live(&old).await && app.is_live(&new).await);

    // Without the previous secret, its tokens are refused. With it they are accepted again, because only time ends
    // them.
    let app = started(directory.path(), Some(app), |settings| settings.tokens.secret_key = secret(SECOND)).await;
    assert!(!app.is_live(&old).await && app.is_live(&new).await);
    assert_eq!(listed(&app, &new).await.last().unwrap()["accepted"], false);
    let app = started(directory.path(), Some(app), |settings| {
        settings.tokens.previous_secret_key = settings.tokens.secret_key.replace(Secret::new(SECOND.to_owned()));
    })
    .await;
    assert!(app.is_live(&old).await && app.is_live(&new).await);
    // A secret that never signed anything here does not count as a previous secret.
    let app = started(directory.path(), Some(app), |settings| {
        settings.tokens.secret_key = secret(SECOND);
        settings.tokens.previous_secret_key = secret(THIRD);
    })
    .await;
    assert!(!app.is_live(&old).await && app.is_live(&new).await);
}

#[tokio::test]
async fn s24_a_mail_that_waits_while_the_secret_changes_has_a_link_that_is_good() {
    let directory = TempDir::new().unwrap();
    let app = started(directory.path(), None, |_| {}).await;
    app.mail.refuse(Some(SendError::Transient("not yet".to_owned())));
    let ann = app.register("ann").await;
    assert_eq!(app.post("/recovery/request", &json!({"email": ann.email})).await.status, 202);
    assert!(app.mails_to(&ann.email).await.is_empty());
    let app = started(directory.path(), Some(app), |settings| {
        let new = Secret::new("second-secret-key-0123456789abcdef".to_owned());
        settings.tokens.previous_secret_key = settings.tokens.secret_key.replace(new);
    })
    .await;
    app.mail.refuse(None);
    app.pass(Duration::from_mins(1));
    let token = app.token_from(&ann.email, MailKind::VerifyAddress).await;
    assert_eq!(app.post("/email/verify", &json!({"token": token})).await.status, 200);
    let token = app.token_from(&ann.email, MailKind::ResetPassword).await;
    let answer = app.post("/recovery/confirm", &json!({"token": token, "new_password": NEW_PASSWORD})).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    // A mail that is queued under the new secret has a valid link too.
    assert_eq!(app.post("/recovery/request", &json!({"email": ann.email})).await.status, 202);
    let token = app.token_from(&ann.email, MailKind::ResetPassword).await;
    let answer = app.post("/recovery/confirm", &json!({"token": token, "new_password": ann.password})).await;
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test]
async fn keys_outlive_a_restart() {
    let directory = TempDir::new().unwrap();
    let eddsa = |settings: &mut Settings| settings.tokens.algorithm = Algorithm::EdDsa;
    let app = started(directory.path(), None, eddsa).await;
    let (_, token) = app.register_and_login("ann").await;
    let keys = published(&app).await;
    let app = started(directory.path(), Some(app), eddsa).await;
    assert_eq!(published(&app).await, keys);
    assert!(app.is_live(&token).await);
    assert_eq!(kid(&app.login(&crate::support::Person::named("ann")).await), kid(&token));
}

/// Verifies tokens concurrently while keys change. No valid token is refused. No token of a compromised key is accepted
/// after the request that removed the key was answered.
#[tokio::test]
async fn s38_no_check_is_wrong_while_keys_are_rotated() {
    const ROUNDS: usize = 100;
    let app = signing_with(Algorithm::EdDsa).spawn().await;
    let admin_person = app.register("admin").await;
    let mut admin = app.login(&admin_person).await;
    let ann = app.register("ann").await;
    for round in 0..ROUNDS {
        let token = app.login(&ann).await;
        let compromised = round % 4 == 3;
        let checks = futures_util::future::join_all((0..32).map(|_| app.verify(&token)));
        let (changed, seen) = tokio::join!(rotate(&app, &admin, json!({"compromised": compromised})), checks);
        assert_eq!(changed.status, 200, "{changed:?}");
        if compromised {
            assert!(!app.is_live(&token).await, "round {round}");
            assert!(seen.iter().all(|answer| matches!(answer.status, 200 | 401)), "{seen:?}");
        } else {
            assert!(seen.iter().all(|answer| answer.status == 200), "round {round}: {seen:?}");
            assert!(app.is_live(&token).await);
            app.pass(AHEAD);
        }
        admin = app.login(&admin_person).await;
        let request = app.request(Method::POST, "/verify").header("X-Service-Token", SERVICE_TOKEN);
        assert_eq!(app.send(request.bearer_auth(&admin)).await.status, 200);
    }
}

/// Changes the key ring behind the back of a running server, as a command line does.
fn beside(directory: &Path, change: impl Fn(&mut KeyRing, &SigningKey, Timestamp), now: Timestamp) {
    let files = KeyFiles::in_data_dir(directory);
    let mut ring = files.load().unwrap().unwrap().ring;
    let key = SigningKey::generate(SigningAlgorithm::EdDsa).unwrap();
    change(&mut ring, &key, now);
    files.replace(&ring, Some(&key)).unwrap();
}

#[tokio::test]
async fn a_command_line_with_other_settings_makes_no_key_that_goes_before_its_tokens() {
    const LONG: Duration = Duration::from_hours(10);
    let directory = TempDir::new().unwrap();
    let app = started(directory.path(), None, |settings| {
        settings.tokens.algorithm = Algorithm::EdDsa;
        settings.tokens.access_token_lifetime = LONG;
        settings.sessions.idle_timeout = Duration::from_hours(100);
    })
    .await;
    let (ann, _) = app.register_and_login("ann").await;
    let short = Duration::from_mins(1);
    let rotate = |ring: &mut KeyRing, key: &SigningKey, now| {
        ring.rotate(key.id().clone(), SigningAlgorithm::EdDsa, short, now, None);
    };
    beside(directory.path(), rotate, app.clock.now());
    app.handles.tend_keys().await.unwrap();
    app.pass(AHEAD);
    let token = app.login(&ann).await;
    beside(directory.path(), rotate, app.clock.now());
    app.handles.tend_keys().await.unwrap();
    app.pass(Duration::from_mins(599));
    app.handles.tend_keys().await.unwrap();
    assert!(published(&app).await.iter().any(|key| key["kid"] == kid(&token)));
    assert!(app.is_live(&token).await);
}

#[tokio::test]
async fn s70_a_rotation_is_on_record_as_what_it_is_however_much_else_waits() {
    let directory = TempDir::new().unwrap();
    let signing = |settings: &mut Settings| settings.tokens.algorithm = Algorithm::EdDsa;
    let app = started(directory.path(), None, signing).await;
    let admin = app.admin().await;
    // Makes as many changes as the ring remembers, before the server reads any of them.
    let replace_often = |ring: &mut KeyRing, key: &SigningKey, now| {
        let first = ring.keys.clone();
        for _ in 0..70 {
            ring.replace(key.id().clone(), SigningAlgorithm::EdDsa, LIFETIME, now, None);
        }
        ring.keys = first;
    };
    beside(directory.path(), replace_often, app.clock.now());
    assert_eq!(rotate(&app, &admin, json!({})).await.status, 200);
    let record = &on_record(&app, &admin, "key.rotated").await[0];
    assert_eq!(record["actor"], "admin:1", "{record}");
}

#[tokio::test]
async fn r05_a_rotation_that_was_planned_while_the_clock_was_ahead_is_made_when_it_is_put_right() {
    const YEARS: Duration = Duration::from_hours(24 * 1461);
    for asked_again in [true, false] {
        let rotating = |settings: &mut Settings| settings.tokens.key_rotation = Some(DAY * 7);
        let app = signing_with(Algorithm::EdDsa).with(rotating).spawn().await;
        let admin = app.register("admin").await;
        let before = app.login(&admin).await;
        app.clock.set_forward(YEARS);
        let ahead = app.login(&admin).await;
        if asked_again {
            assert_eq!(rotate(&app, &ahead, Value::Null).await.body["state"], "next");
        } else {
            app.handles.tend_keys().await.unwrap();
        }
        let made = listed(&app, &ahead).await[0]["kid"].clone();
        app.clock.set_back(YEARS);

        // The repair starts with a request for a rotation, or with the periodic check.
        let token = app.login(&admin).await;
        if asked_again {
            let answer = rotate(&app, &token, Value::Null).await;
            assert_eq!((answer.status, &answer.body["kid"]), (200, &made), "{answer:?}");
        } else {
            // The clock may also be behind for a moment and be corrected soon.
            app.handles.tend_keys().await.unwrap();
            app.pass(AHEAD.saturating_sub(Duration::from_millis(1)));
            app.handles.tend_keys().await.unwrap();
            let planned = app.clock.now().plus(YEARS).to_rfc3339();
            assert!(listed(&app, &token).await[0]["signs_from"].as_str().unwrap() > planned.as_str());
            app.pass(Duration::from_millis(1));
            app.handles.tend_keys().await.unwrap();
        }
        let now = app.clock.now();
        let keys = listed(&app, &token).await;
        assert_eq!((keys.len(), &keys[0]["kid"], &keys[1]["kid"]), (2, &made, &kid(&before)));
        let turn = json!(now.plus(AHEAD).to_rfc3339());
        assert_eq!((&keys[0]["signs_from"], &keys[1]["retired_at"]), (&turn, &turn));
        assert_eq!(keys[1]["accepted_until"], now.plus(AHEAD + LIFETIME + KEPT_LONGER).to_rfc3339());

        let moment = Duration::from_millis(1);
        app.pass(AHEAD.saturating_sub(moment));
        app.handles.tend_keys().await.unwrap();
        let last = app.login(&admin).await;
        assert_eq!(kid(&last), kid(&before), "verifiers have not had the time to learn of the new key");
        app.pass(moment);
        assert_eq!(kid(&app.login(&admin).await), made);
        // What the old key signed while the clock was right stays valid until it expires.
        let moments = Duration::from_secs(2);
        app.pass(LIFETIME.saturating_sub(moments));
        app.handles.tend_keys().await.unwrap();
        assert!(app.is_live(&last).await && check_offline(&last, &published(&app).await).is_some());
        app.pass(KEPT_LONGER + moments);
        app.handles.tend_keys().await.unwrap();
        assert_eq!(published(&app).await.len(), 1);

        // Rotation by age continues from there.
        app.pass((DAY * 7).saturating_sub(AHEAD + LIFETIME + KEPT_LONGER));
        app.handles.tend_keys().await.unwrap();
        assert_eq!(published(&app).await.len(), 2);
    }
}

#[tokio::test]
async fn r05_a_clock_that_is_behind_for_a_while_changes_no_key() {
    let app = signing_with(Algorithm::EdDsa).spawn().await;
    let admin = app.register("admin").await;
    let before = app.login(&admin).await;
    rotate(&app, &before, Value::Null).await;
    app.pass(AHEAD);
    let token = app.login(&admin).await;
    assert_ne!(kid(&token), kid(&before));
    let keys = listed(&app, &token).await;
    for behind in [Duration::from_hours(2), Duration::from_hours(24 * 365 * 50)] {
        app.clock.set_back(behind);
        app.handles.tend_keys().await.unwrap();
        app.pass(Duration::from_mins(1));
        app.handles.tend_keys().await.unwrap();
        app.clock.set_forward(behind);
        app.handles.tend_keys().await.unwrap();
    }
    let token = app.login(&admin).await;
    assert_eq!(listed(&app, &token).await, keys);
    assert!(check_offline(&before, &published(&app).await).is_some(), "its key is still published");
}

#[tokio::test]
async fn s70_a_rotation_that_is_refused_is_on_record() {
    let told = |record: &Value| ["actor", "outcome", "reason"].map(|name| record[name].as_str().unwrap().to_owned());
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    for (body, event) in [(Value::Null, "key.rotated"), (json!({"compromised": true}), "key.replaced")] {
        rotate(&app, &admin, body).await.assert_status_problem(409);
        let records = on_record(&app, &admin, event).await;
        assert_eq!(records.len(), 1);
        assert_eq!(told(&records[0]), ["admin:1", "refused", "secret_signs"]);
        assert!(["address", "session_id", "request_id"].iter().all(|name| records[0][name].is_string()), "{records:?}");
    }

    let directory = TempDir::new().unwrap();
    let app = started(directory.path(), None, |settings| settings.tokens.algorithm = Algorithm::EdDsa).await;
    let admin = app.admin().await;
    // The request acts for an admin whose acknowledged demotion came first, so it is refused.
    let (other, token) = app.register_and_login("other").await;
    app.must_change(&admin, other.id, &json!({"role": "admin"})).await;
    let acting = app.handles.sessions.look(&token).await.unwrap();
    app.must_change(&admin, other.id, &json!({"role": "user"})).await;
    let refused = app.handles.keys.rotate(&acting, false, Origin::default()).await;
    assert!(matches!(refused, Err(RotateError::Revoked)), "{refused:?}");
    let records = on_record(&app, &admin, "key.rotated").await;
    assert_eq!((records.len(), told(&records[0])), (1, ["admin:2", "refused", "revoked"].map(str::to_owned)));

    let fill = |ring: &mut KeyRing, _: &SigningKey, now| {
        for n in 0..31 {
            let id = KeyId::of_secret(&Secret::new(format!("secret {n}")));
            ring.assume(id, SigningAlgorithm::Hs256, LIFETIME, now);
        }
    };
    beside(directory.path(), fill, app.clock.now());
    rotate(&app, &admin, Value::Null).await.assert_status_problem(409);
    let record = &on_record(&app, &admin, "key.rotated").await[0];
    assert_eq!(told(record), ["admin:1", "refused", "too_many_keys"]);
}
