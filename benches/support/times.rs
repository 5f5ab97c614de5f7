//! Measures whether the response time reveals what the answer itself hides: whether an account exists, and in which
//! state (S11).
//!
//! The answers of two classes come in random order over one connection, one after the other, each about an account of
//! its own. After each answer another request follows at once: work that continues after an answer must not show in the
//! next answer either.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::json;

use super::accounts::{Group, PASSPHRASE, PASSWORD, login};
use super::answer::request;
use super::statistics::{auc, median};
use super::table::table;
use super::wire::Wire;
use super::{Extent, Server};

/// A pause before each sample, so that the work of the previous one has ended. An attacker who looks for small
/// differences would wait too.
const PAUSE: Duration = Duration::from_millis(4);
const WRONG: &str = "Loud-lamp-8-bush";
/// The prefix of the addresses that are already registered. A registration costs two hashes.
const TAKEN: &str = "taken";

/// One way in which an answer comes about.
struct Class {
    name: &'static str,
    /// The status of every answer of this class.
    status: u16,
    /// Builds the request of the sample with this number.
    request: Box<dyn Fn(usize) -> Vec<u8> + Send>,
}

fn class(name: &'static str, status: u16, request: impl Fn(usize) -> Vec<u8> + Send + 'static) -> Class {
    Class { name, status, request: Box::new(request) }
}

/// The times of the answers of one class and of the answers after them, in microseconds.
#[derive(Default)]
struct Samples {
    answers: Vec<f64>,
    next: Vec<f64>,
}

pub(crate) async fn run(extent: Extent) {
    let Extent { samples, quick_samples, .. } = extent;
    let limits = [("ADDRESS_FAILURES", "10000"), ("LOGIN_FAILURES", "100")];
    let verifying = [&limits[..], &[("REQUIRE_EMAIL_VERIFICATION", "true")]].concat();
    let concealing = [&limits[..], &[("ENUMERATION_SAFE_REGISTRATION", "true")]].concat();
    let mut rows = Vec::new();

    let group = |name, count, verified, locked| Group { name, count, verified, locked };
    let people = [
        group("verified", samples, true, false),
        group("locked", samples, true, true),
        group("unverified", samples, false, false),
    ];
    let server = Server::start_with(&people, &verifying).await;
    rows.extend(compare(&server, "`/login`", samples, logins(people)).await);

    let people = [
        group(TAKEN, samples, true, false),
        group("forgetful", samples.max(quick_samples), true, false),
        group("new", quick_samples, false, false),
    ];
    let server = Server::start_with(&people, &concealing).await;
    rows.extend(compare(&server, "`/register`", samples, registrations()).await);
    let [_, forgetful, new] = people;
    rows.extend(compare(&server, "`/recovery`", samples, recoveries(forgetful.name)).await);
    let mails = |group: &Group, path| by_mail(group.name, path);
    rows.extend(compare(&server, "`/recovery/request`", quick_samples, mails(&forgetful, "/recovery/request")).await);
    rows.extend(compare(&server, "`/email/verify/resend`", quick_samples, mails(&new, "/email/verify/resend")).await);

    let head = [
        "route",
        "what is compared",
        "n each",
        "median",
        "median of the first",
        "ratio",
        "AUC",
        "AUC of the next answer",
    ];
    println!("\n{}", table(&head, &rows));
}

fn logins([verified, locked, unverified]: [Group; 3]) -> Vec<Class> {
    vec![
        class("unknown", 401, |n| login(&format!("nobody{n}@example.com"), PASSWORD)),
        class("wrong password", 401, move |n| login(&verified.email(n), WRONG)),
        class("locked", 401, move |n| login(&locked.email(n), PASSWORD)),
        class("unverified", 401, move |n| login(&unverified.email(n), PASSWORD)),
    ]
}

fn registrations() -> Vec<Class> {
    let register = |email: String, nickname: String| {
        let body = json!({"email": email, "nickname": nickname, "password": PASSWORD, "passphrase": PASSPHRASE});
        request("POST", "/register", &[], Some(&body.to_string()))
    };
    vec![
        class("free", 202, move |n| register(format!("fresh{n}@example.com"), format!("fresh{n}"))),
        class("taken", 202, move |n| register(format!("{TAKEN}{n}@example.com"), format!("other{n}"))),
    ]
}

fn recoveries(known: &'static str) -> Vec<Class> {
    let recover = |email: String| {
        let body = json!({"email": email, "passphrase": "another bird", "new_password": WRONG});
        request("POST", "/recovery", &[], Some(&body.to_string()))
    };
    vec![
        class("unknown", 400, move |n| recover(format!("nobody{n}@example.com"))),
        class("wrong passphrase", 400, move |n| recover(format!("{known}{n}@example.com"))),
    ]
}

fn by_mail(known: &'static str, path: &'static str) -> Vec<Class> {
    let ask = move |email: String| request("POST", path, &[], Some(&json!({"email": email}).to_string()));
    vec![
        class("unknown", 202, move |n| ask(format!("nobody{n}@example.com"))),
        class("known", 202, move |n| ask(format!("{known}{n}@example.com"))),
    ]
}

/// Returns the table rows that compare each further class with the first.
async fn compare(server: &Server, route: &str, samples: usize, classes: Vec<Class>) -> Vec<Vec<String>> {
    let address = server.address();
    let names: Vec<_> = classes.iter().map(|class| class.name).collect();
    let measured = tokio::task::spawn_blocking(move || measure(address, samples, &classes)).await.unwrap();
    let first = &measured[0];
    let row = |(name, of): (&&str, &Samples)| {
        let medians = (median(&of.answers), median(&first.answers));
        vec![
            route.to_owned(),
            format!("{name} with {}", names[0]),
            samples.to_string(),
            micros(medians.0),
            micros(medians.1),
            format!("{:.3}", medians.0 / medians.1),
            format!("{:.3}", auc(&of.answers, &first.answers)),
            format!("{:.3}", auc(&of.next, &first.next)),
        ]
    };
    names.iter().zip(&measured).skip(1).map(row).collect()
}

fn micros(micros: f64) -> String {
    if micros < 1000.0 { format!("{micros:.0} µs") } else { format!("{:.2} ms", micros / 1000.0) }
}

/// Takes this number of samples of each class. Panics on an answer with another status.
fn measure(server: SocketAddr, samples: usize, classes: &[Class]) -> Vec<Samples> {
    let mut order: Vec<(usize, usize)> =
        (0..samples).flat_map(|number| (0..classes.len()).map(move |class| (class, number))).collect();
    fastrand::Rng::with_seed(11).shuffle(&mut order);
    let mut measured: Vec<Samples> = classes.iter().map(|_| Samples::default()).collect();
    let mut wire = Wire::connect(server).unwrap();
    let other = request("GET", "/health/live", &[], None);
    let mut time = |request: &[u8]| {
        let began = Instant::now();
        let answer = wire.send(request).unwrap();
        (answer.status, began.elapsed().as_secs_f64() * 1_000_000.0)
    };
    // Warms the caches before the measurement.
    for _ in 0..20 {
        time(&other);
    }
    for (class, number) in order {
        let sent = (classes[class].request)(number);
        std::thread::sleep(PAUSE);
        let (status, took) = time(&sent);
        assert_eq!(status, classes[class].status, "{} {number}", classes[class].name);
        measured[class].answers.push(took);
        measured[class].next.push(time(&other).1);
    }
    measured
}
