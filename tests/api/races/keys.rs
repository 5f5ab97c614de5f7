//! Token checks and refreshes while the signing keys change.

use std::sync::Arc;
use std::time::Duration;

use doorward::settings::Algorithm;
use doorward_actors::{Origin, Secret};
use tempfile::TempDir;

use super::people::{Asker, Held, Refresher, exchange, is_alive, log_in, patient};
use super::witness::{Chance, Race, judge, never_revived};

const SIDE_BY_SIDE: usize = 8;
/// How long a new key is published before it begins to sign.
const AHEAD: Duration = Duration::from_mins(15);

/// Rotates the keys repeatedly during concurrent checks and refreshes. In each third rotation the old key is
/// compromised.
async fn rotate(algorithm: Algorithm, rounds: usize) {
    let mut luck = Chance::of_the_test();
    let app = Arc::new(patient().with(|settings| settings.tokens.algorithm = algorithm).spawn().await);
    let admin = app.register("admin").await;
    let mut people = Vec::new();
    for n in 0..SIDE_BY_SIDE {
        people.push(app.register(&format!("person{n}")).await);
    }
    let mut held = futures_util::future::join_all(people.iter().map(|person| log_in(&app, person))).await;
    for round in 0..rounds {
        let compromised = round % 3 == 2;
        let by = log_in(&app, &admin).await.access;
        let by = app.handles.sessions.authenticate(&by).await.unwrap();
        let race = Arc::new(Race::default());
        let mut watchers = Vec::new();
        for held in &held {
            let asker = || Asker { app: Arc::clone(&app), token: held.access.clone(), uses: true };
            let askers = [race.watch(luck.fork(), asker()), race.watch(luck.fork(), asker())];
            let refresher = Refresher { app: Arc::clone(&app), held: held.clone(), given: Vec::new() };
            watchers.push((askers, race.watch(luck.fork(), refresher)));
        }
        let keys = &app.handles.keys;
        let rotation = keys.rotate(&by, compromised, Origin::default());
        let (span, made) = race.change(3 * SIDE_BY_SIDE, &mut luck, rotation).await;
        let made = made.unwrap();
        for (held, (askers, refresher)) in held.iter_mut().zip(watchers) {
            let mut seen = Vec::new();
            for asker in askers {
                seen.extend(asker.await.unwrap().0);
            }
            let (exchanges, refresher) = refresher.await.unwrap();
            assert!(exchanges.iter().all(|seen| seen.alive), "{algorithm}: a session ended with a key");
            if compromised {
                judge(&seen, span, "a compromised key");
            } else {
                assert!(seen.iter().all(|seen| seen.alive), "{algorithm}: a rotation killed a token");
            }
            never_revived(&seen, "keys");
            // The latest token was issued after the change.
            *held = refresher.held;
            assert!(is_alive(&app, &held.access, true, &mut luck).await.1);
            for token in &refresher.given {
                let alive = is_alive(&app, token, true, &mut luck).await.1;
                assert!(compromised || alive, "{algorithm}: a rotation killed a token");
                assert_eq!(alive, !compromised || kid(token) == kid(&held.access), "{algorithm}");
            }
            if compromised {
                assert_eq!(kid(&held.access), made.id.to_string());
            }
        }
        app.pass(if compromised { Duration::from_secs(11) } else { AHEAD });
        app.handles.tend_keys().await.unwrap();
        for held in &mut held {
            *held = exchange(&app, &held.refresh, &mut luck).await.unwrap();
            assert_eq!(kid(&held.access), made.id.to_string(), "the new key signs");
        }
        app.pass(Duration::from_secs(11));
    }
}

fn kid(token: &str) -> String {
    use base64::Engine as _;
    let header = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
    let header: serde_json::Value = serde_json::from_slice(&header).unwrap();
    header["kid"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s43_no_check_is_wrong_while_ed25519_keys_are_rotated_or_given_up() {
    rotate(Algorithm::EdDsa, 24).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s43_no_check_is_wrong_while_p256_keys_are_rotated_or_given_up() {
    rotate(Algorithm::Es256, 24).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s43_no_check_is_wrong_while_rsa_keys_are_rotated_or_given_up() {
    rotate(Algorithm::Rs256, 6).await;
}

/// Replaces the secret repeatedly, with a restart each time. Tokens of the present and the previous secret are valid,
/// older ones are not.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn s43_tokens_of_the_secret_before_live_through_a_restart_and_those_of_older_ones_do_not() {
    let mut luck = Chance::of_the_test();
    let secret = |n: usize| Some(Secret::new(format!("secret-number-{n:04}-0123456789abcdef")));
    let directory = TempDir::new().unwrap();
    let with = |n: usize| {
        let change = move |settings: &mut doorward::settings::Settings| {
            settings.tokens.secret_key = secret(n);
            settings.tokens.previous_secret_key = n.checked_sub(1).and_then(secret);
        };
        patient().with(change).data_dir(directory.path())
    };
    let mut app = with(0).spawn().await;
    let ann = app.register("ann").await;
    let mut signed: Vec<Vec<Held>> = Vec::new();
    for n in 0..20 {
        let logins = futures_util::future::join_all((0..4).map(|_| log_in(&app, &ann))).await;
        signed.push(logins);
        let checks = (0..64).map(|_| {
            let by = luck.below(signed.len());
            let (token, app, mut luck) = (&signed[by][luck.below(4)].access, &app, luck.fork());
            async move { (by, is_alive(app, token, true, &mut luck).await.1) }
        });
        for (by, alive) in futures_util::future::join_all(checks.collect::<Vec<_>>()).await {
            assert_eq!(alive, by + 1 >= n, "a token of secret {by} with secret {n}");
        }
        app = with(n + 1).continuing(app).await;
    }
    // Refresh tokens follow the same rule. The exchanged tokens are signed with the present secret.
    for (by, held) in signed.iter().enumerate().flat_map(|(by, all)| all.iter().map(move |held| (by, held))) {
        let next = exchange(&app, &held.refresh, &mut luck).await;
        assert_eq!(next.is_some(), by + 1 >= signed.len(), "a refresh token of secret {by}");
        if let Some(next) = next {
            assert!(app.is_live(&next.access).await);
        }
    }
}
