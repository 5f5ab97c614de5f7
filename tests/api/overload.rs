//! Behaviour when one part is slow and receives far more requests than it can serve (R10).

use std::cell::Cell;
use std::time::Duration;

use doorward_actors::testing::Fault;
use futures_util::future::{Either, join_all, select};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, TestApp, within};

/// The maximum number of requests in flight for routes of the own account; see `http::admission`.
const PLACES: usize = 512;
/// The number of requests sent.
const REQUESTS: usize = 700;
/// The time that the slow part takes for one message: longer than all requests need to arrive, and shorter than their
/// deadline.
const SLOW: Duration = Duration::from_millis(1500);

async fn app() -> (TestApp, String) {
    let app = TestApp::builder().with(|settings| settings.sessions.shards = 1).spawn().await;
    let (_, token) = app.register_and_login("ann").await;
    (app, token)
}

/// Sends the load while an actor is slow. Returns the answers and the maximum length of any actor's mailbox.
async fn overload<F: Future<Output = Answer>>(
    app: &TestApp,
    slow: &str,
    request: impl Fn() -> F,
) -> (Vec<Answer>, u64) {
    // The connections are opened first, so that only the actor is slow and not the arrival of requests.
    within(join_all((0..REQUESTS).map(|_| app.get("/health/live")))).await;
    app.handles.inject(slow, Fault::Hang(SLOW)).await.unwrap();
    let longest = Cell::new(0);
    let watch = async {
        loop {
            let now = app.handles.vitals().into_iter().map(|actor| actor.mailbox).max();
            longest.set(longest.get().max(now.unwrap_or(0)));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let load = within(join_all((0..REQUESTS).map(|_| request())));
    match select(Box::pin(load), Box::pin(watch)).await {
        Either::Left((answers, _)) => (answers, longest.get()),
        Either::Right(((), _)) => unreachable!("the watch has no end"),
    }
}

#[track_caller]
fn assert_shed(answers: &[Answer], longest: u64) {
    let (served, shed): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| matches!(answer.status, 200 | 202));
    for answer in &shed {
        answer.assert_problem(503, "The service is busy, try again later");
        assert!(answer.header("retry-after").unwrap().parse::<u64>().unwrap() >= 1);
    }
    assert!(served.len() >= PLACES / 2, "only {} were served", served.len());
    assert!(shed.len() >= REQUESTS - PLACES, "only {} were shed", shed.len());
    assert!(usize::try_from(longest).unwrap() <= PLACES + 8, "a queue of {longest}");
    assert!(longest > 64, "a queue of {longest}: nobody was slow");
}

#[tokio::test]
async fn r10_a_slow_session_shard_has_a_bounded_queue_and_the_rest_is_shed() {
    let (app, token) = app().await;
    let (answers, longest) =
        overload(&app, "session-0", || app.call(Method::GET, "/my_account/", &token, &Value::Null)).await;
    assert_shed(&answers, longest);
    assert!(app.is_live(&token).await);
}

#[tokio::test]
async fn r10_a_slow_user_actor_has_a_bounded_queue_and_the_rest_is_shed() {
    let (app, token) = app().await;
    let nobody = json!({"email": "nobody@example.com"});
    let (answers, longest) = overload(&app, "user", || app.post("/recovery/request", &nobody)).await;
    assert_shed(&answers, longest);
    assert_eq!(app.change_own(&token, &json!({"nickname": "anna"})).await.status, 200);
}

#[tokio::test]
async fn r10_requests_do_not_wait_for_actors_that_are_not_in_their_way() {
    for slow in ["mailer", "audit", "rate_limiter"] {
        let (app, token) = app().await;
        // The actor hangs for an hour, so no request may wait for it.
        app.handles.inject(slow, Fault::Hang(Duration::from_hours(1))).await.unwrap();
        let answers = within(join_all((0..200).map(|_| app.verify(&token)))).await;
        assert!(answers.iter().all(|answer| answer.status == 200), "{slow}");
        let bob = within(app.register("bob")).await;
        within(app.login(&bob)).await;
        assert_eq!(within(app.logout(&token)).await.status, 200, "{slow}");
    }
}
