//! `GET /metrics`: its names, its labels, and who may see it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use doorward::settings::Settings;
use doorward_actors::testing::Fault;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, SERVICE_TOKEN, TestApp, within};
use crate::watching::crash;

/// Asks for the metrics as a service does.
pub(crate) async fn scrape(app: &TestApp) -> Scraped {
    let request = app.request(Method::GET, "/metrics").header("X-Service-Token", SERVICE_TOKEN);
    let answer = within(app.send(request)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    Scraped(answer.text)
}

/// An answer in the format of Prometheus.
pub(crate) struct Scraped(String);

impl Scraped {
    /// Returns the series, each as its name with its labels.
    fn series(&self) -> BTreeSet<&str> {
        self.samples().map(|(series, _)| series).collect()
    }

    fn samples(&self) -> impl Iterator<Item = (&str, &str)> {
        let lines = self.0.lines().filter(|line| !line.starts_with('#'));
        lines.map(|line| line.rsplit_once(' ').unwrap())
    }

    /// Returns the value of one series, such as `doorward_ready`, rounded.
    #[track_caller]
    pub(crate) fn value(&self, series: &str) -> u64 {
        let found = self.samples().find(|(name, _)| *name == series);
        let (_, value) = found.unwrap_or_else(|| panic!("no {series} in\n{}", self.0));
        format!("{:.0}", value.parse::<f64>().unwrap()).parse().unwrap()
    }

    /// Describes each metric: its type, its labels, and the values of each label that are the same everywhere.
    fn described(&self) -> String {
        let mut metrics: BTreeMap<&str, (&str, BTreeMap<&str, BTreeSet<&str>>)> = BTreeMap::new();
        for line in self.0.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
            let (name, kind) = line.split_once(' ').unwrap();
            metrics.insert(name, (kind, BTreeMap::new()));
        }
        for (series, _) in self.samples() {
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            let base = ["_bucket", "_sum", "_count"].iter().find_map(|part| name.strip_suffix(part));
            let name = base.filter(|base| metrics.contains_key(base)).unwrap_or(name);
            let known = &mut metrics.get_mut(name).unwrap_or_else(|| panic!("{name} has no type")).1;
            for label in labels.trim_end_matches('}').split(',').filter(|label| !label.is_empty()) {
                let (label, value) = label.split_once('=').unwrap();
                let values = known.entry(label).or_default();
                // These depend on the machine and the release.
                if !["le", "backend", "version"].contains(&label) {
                    values.insert(value.trim_matches('"'));
                }
            }
        }
        let mut text = String::new();
        for (name, (kind, labels)) in metrics {
            writeln!(text, "{name} {kind}").unwrap();
            for (label, values) in labels {
                writeln!(text, "  {label}: {}", values.into_iter().collect::<Vec<_>>().join(" ")).unwrap();
            }
        }
        text
    }
}

/// Sends some requests of each kind that is counted by outcome.
async fn busy_app() -> TestApp {
    let app = TestApp::spawn().await;
    let (ann, token) = app.register_and_login("ann").await;
    assert_eq!(app.post("/login", &json!({"email": ann.email, "password": "wrong-horse-battery"})).await.status, 401);
    assert_eq!(app.post("/login", &json!({"email": ann.email})).await.status, 422);
    assert_eq!(app.verify(&token).await.status, 200);
    assert_eq!(app.verify("garbage").await.status, 401);
    let wrong = json!({"email": ann.email, "passphrase": "no idea at all", "new_password": "quiet-lamp-forest-9"});
    assert_eq!(app.post("/recovery", &wrong).await.status, 400);
    assert_eq!(app.get("/nothing/here").await.status, 404);
    // What is read from the store is read again after a second.
    app.pass(Duration::from_secs(2));
    app
}

#[tokio::test]
async fn every_metric_with_its_labels_is_as_it_was() {
    let app = busy_app().await;
    scrape(&app).await;
    insta::assert_snapshot!(scrape(&app).await.described());
}

#[tokio::test]
async fn what_happened_is_counted_by_its_outcome() {
    let app = busy_app().await;
    let seen = scrape(&app).await;
    let expected = [
        (r#"doorward_logins_total{outcome="success"}"#, 1),
        (r#"doorward_logins_total{outcome="refused"}"#, 1),
        (r#"doorward_logins_total{outcome="invalid"}"#, 1),
        (r#"doorward_logins_total{outcome="error"}"#, 0),
        (r#"doorward_recoveries_total{by="passphrase",outcome="refused"}"#, 1),
        (r#"doorward_token_checks_total{route="/verify",outcome="success"}"#, 1),
        (r#"doorward_token_checks_total{route="/verify",outcome="refused"}"#, 1),
        (r#"doorward_http_requests_total{method="POST",route="/verify",status="200"}"#, 1),
        (r#"doorward_http_requests_total{method="other",route="unmatched",status="404"}"#, 1),
        (r#"doorward_http_request_duration_seconds_count{method="POST",route="/login"}"#, 3),
        (r#"doorward_http_request_duration_seconds_bucket{method="POST",route="/login",le="+Inf"}"#, 3),
        ("doorward_sessions", 1),
        ("doorward_ready", 1),
        ("doorward_store_up", 1),
        (r#"doorward_hasher_jobs_total{lane="verification"}"#, 2),
        (r#"doorward_outbox_mails{state="dead"}"#, 0),
        (r#"doorward_actor_restarts_total{actor="user"}"#, 0),
        (r#"doorward_limiter_keys{policy="public"}"#, 1),
        (r#"doorward_build_info{version="0.1.0"}"#, 1),
        // The clock of the application stands at 2025-01-01.
        ("doorward_start_time_seconds", 1_735_689_600),
    ];
    for (series, value) in expected {
        assert_eq!(seen.value(series), value, "{series}");
    }
    assert!(seen.value("doorward_store_commit_seconds_count") > 3);
    assert!(seen.value("doorward_store_disk_free_bytes") > 1000);
}

#[tokio::test]
async fn s72_strangers_learn_nothing_of_it() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    let (_, user) = app.register_and_login("ann").await;
    let ask = || app.request(Method::GET, "/metrics");
    for stranger in
        [ask(), ask().bearer_auth("garbage"), ask().bearer_auth(&user), ask().header("X-Service-Token", "wrong")]
    {
        app.send(stranger).await.assert_problem(404, "Not found");
    }
    let narrow = json!({"name": "narrow", "scopes": ["verify"]});
    let narrow = app.call(Method::POST, "/service_tokens/", &admin, &narrow).await.body["token"].clone();
    let narrow = narrow.as_str().unwrap();
    for service in [ask().header("X-Service-Token", narrow), ask().bearer_auth(narrow)] {
        let answer = app.send(service).await;
        assert_eq!(answer.status, 403, "{answer:?}");
    }
    let wide = json!({"name": "prometheus", "scopes": ["metrics"]});
    let wide = app.call(Method::POST, "/service_tokens/", &admin, &wide).await.body["token"].clone();
    let wide = wide.as_str().unwrap();
    for insider in [ask().bearer_auth(&admin), ask().header("X-Service-Token", wide), ask().bearer_auth(wide)] {
        assert_eq!(app.send(insider).await.status, 200);
    }
}

#[tokio::test]
async fn the_format_is_the_one_that_the_client_accepts() {
    let app = TestApp::spawn().await;
    let ask = app.request(Method::GET, "/metrics").header("X-Service-Token", SERVICE_TOKEN);
    let open = app.send(ask.header("Accept", "application/openmetrics-text;version=1.0.0,text/plain;q=0.5")).await;
    assert_eq!(open.header("content-type"), Some("application/openmetrics-text; version=1.0.0; charset=utf-8"));
    assert!(open.text.ends_with("\n# EOF\n"));
    assert!(open.text.contains("# TYPE doorward_logins counter\n"), "{}", open.text);
    let classic = scrape(&app).await.0;
    assert!(classic.contains("# TYPE doorward_logins_total counter\n") && !classic.contains("# EOF"), "{classic}");
}

#[tokio::test]
async fn s71_no_request_makes_a_series_of_its_own() {
    let app = busy_app().await;
    let paths =
        |n: usize| [format!("/{n}"), format!("/login/{n}"), format!("/%22,route=%22{n}"), format!("/outbox/{n}")];
    let ask = async |n: usize| {
        for path in paths(n) {
            for method in [Method::GET, Method::DELETE, Method::from_bytes(format!("M{n}").as_bytes()).unwrap()] {
                let request = app.request(method, &path).header("X-Request-Id", format!("id-{n}"));
                app.send(request.header("User-Agent", format!("agent-{n}"))).await;
            }
        }
    };
    ask(1).await;
    scrape(&app).await;
    let before = scrape(&app).await;
    for n in 2..8 {
        ask(n).await;
    }
    let after = scrape(&app).await;
    assert_eq!(before.series(), after.series());
}

#[tokio::test]
async fn a_frozen_actor_and_one_that_crashes_are_in_the_metrics_and_hold_up_no_scrape() {
    let app = TestApp::spawn().await;
    crash(&app, "keys", 5).await;
    let names: Vec<String> = app.handles.vitals().into_iter().map(|actor| actor.name).collect();
    for name in &names {
        app.handles.inject(name, Fault::Hang(Duration::from_mins(10))).await.unwrap();
    }
    // A ping of each actor waits behind the one that hangs.
    assert_eq!(within(app.get("/health/ready")).await.status, 503);
    app.pass(Duration::from_secs(5));
    let asked = std::time::Instant::now();
    let seen = scrape(&app).await;
    assert!(asked.elapsed() < Duration::from_secs(1), "it waited for an actor: {:?}", asked.elapsed());
    assert_eq!(seen.value("doorward_ready"), 0);
    assert_eq!(seen.value(r#"doorward_check_failing{check="restart_storm"}"#), 1);
    assert_eq!(seen.value(r#"doorward_actor_restarts_total{actor="keys"}"#), 5);
    assert_eq!(seen.value(r#"doorward_check_failing{check="stuck_actor"}"#), names.len() as u64);
    assert_eq!(seen.value(r#"doorward_actor_oldest_message_seconds{actor="session-0"}"#), 5);
    assert!(seen.value(r#"doorward_actor_mailbox_messages{actor="session-0"}"#) >= 1);
}

#[tokio::test]
async fn a_listener_of_this_machine_serves_the_metrics_without_a_token_and_nothing_else() {
    let on_loopback = |settings: &mut Settings| {
        settings.http.metrics = Some(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
    };
    let app = TestApp::builder().with(on_loopback).spawn().await;
    let address = app.metrics_address.unwrap();
    assert_ne!(address, app.address);
    let get = async |path: &str| {
        let request = app.request(Method::GET, "/").try_clone().unwrap();
        let (client, _) = request.build_split();
        Answer::read(client.get(format!("http://{address}{path}")).send().await.unwrap()).await
    };
    let answer = get("/metrics").await;
    assert_eq!((answer.status, answer.text.contains("doorward_ready 1")), (200, true), "{answer:?}");
    for other in ["/", "/health/actors", "/health/live", "/login", "/metrics/x"] {
        assert_eq!(get(other).await.status, 404, "{other}");
    }
    // It is not served there by the other listener.
    assert_eq!(app.get("/metrics").await.status, 404);
    let counted = r#"doorward_http_requests_total{method="GET",route="/metrics",status="404"}"#;
    assert_eq!(Scraped(get("/metrics").await.text).value(counted), 1);
    app.stop().await.unwrap();
    assert!(reqwest::get(format!("http://{address}/metrics")).await.is_err(), "it ends with the application");
}

#[tokio::test]
async fn a_value_of_the_settings_alone_opens_the_listener() {
    let app = TestApp::spawn().await;
    assert_eq!(app.metrics_address, None);
    assert_eq!(app.call(Method::POST, "/metrics", "x", &Value::Null).await.status, 405);
}
