//! A store that fails, and a disk that is full, as the operators see them.

use hyper::Method;
use serde_json::{Value, json};

use super::{App, PLENTY, SERVICE_TOKEN};

impl App {
    /// Returns the health report as a service sees it.
    async fn inside(&self) -> Value {
        let answer = self.send(Method::GET, "/health/actors", &[("x-service-token", SERVICE_TOKEN)], None).await;
        assert_eq!(answer.status, 200, "{:?}", answer.body);
        answer.body
    }

    async fn ready(&self) -> Value {
        let answer = self.send(Method::GET, "/health/ready", &[], None).await;
        assert_eq!(answer.status == 200, answer.body["status"] == "ready");
        answer.body
    }
}

impl App {
    /// Returns the value of a series of the metrics.
    async fn metric(&self, series: &str) -> String {
        let request = self.client.get(format!("{}/metrics", self.base)).header("x-service-token", SERVICE_TOKEN);
        let text = request.send().await.unwrap().text().await.unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{series} ")).map(str::to_owned));
        line.unwrap_or_else(|| panic!("no {series} in {text}"))
    }
}

fn problem(check: &str, blocks: bool) -> Value {
    json!([{"check": check, "actor": null, "blocks": blocks}])
}

#[tokio::test]
async fn r03_s72_a_full_disk_makes_the_service_not_ready_before_a_commit_fails() {
    let app = App::start(PLENTY, PLENTY).await;
    app.engine.set_free_disk(300 << 20);
    assert_eq!(app.ready().await, json!({"status": "ready"}));
    app.clock.advance(std::time::Duration::from_secs(2));
    app.engine.set_free_disk(100 << 20);
    assert_eq!(
        (app.ready().await, app.inside().await["problems"].clone()),
        (json!({"status": "ready"}), problem("disk_low", false))
    );
    app.clock.advance(std::time::Duration::from_secs(2));
    app.engine.set_free_disk(7 << 20);
    assert_eq!(app.ready().await, json!({"status": "not_ready"}));
    let inside = app.inside().await;
    assert_eq!((&inside["status"], &inside["problems"]), (&json!("degraded"), &problem("disk_full", true)));
    assert_eq!(inside["store"]["disk_free_bytes"], 7 << 20);
    assert_eq!(app.metric("doorward_ready").await, "0");
    assert_eq!(app.metric("doorward_check_failing{check=\"disk_full\"}").await, "1");
    assert_eq!(app.metric("doorward_store_disk_free_bytes").await, "7340032");
    app.clock.advance(std::time::Duration::from_secs(2));
    app.engine.set_free_disk(300 << 20);
    assert_eq!(app.ready().await, json!({"status": "ready"}));
    assert_eq!(app.inside().await["status"], "ok");
}

#[tokio::test]
async fn s72_a_store_that_failed_is_named_to_insiders_alone() {
    let app = App::start(PLENTY, PLENTY).await;
    app.engine.break_down("on purpose");
    assert_eq!(app.ready().await, json!({"status": "not_ready"}));
    let inside = app.inside().await;
    assert_eq!((&inside["status"], &inside["problems"]), (&json!("degraded"), &problem("store", true)));
    assert_eq!((&inside["store"]["ok"], &inside["outbox"]), (&json!(false), &Value::Null));
    app.clock.advance(std::time::Duration::from_secs(2));
    assert_eq!(app.metric("doorward_store_up").await, "0");
    assert_eq!(app.metric("doorward_check_failing{check=\"store\"}").await, "1");
    app.engine.heal();
    app.clock.advance(std::time::Duration::from_secs(2));
    assert_eq!(app.ready().await, json!({"status": "ready"}));
}
