//! What tests see of actors and do to them.

use std::time::Duration;

use doorward_actors::ActorHealth;
use doorward_actors::testing::Fault;
use reqwest::Method;
use serde_json::Value;

use super::{SERVICE_TOKEN, TestApp, within};

/// The pause between two polls for a condition that no event tells of.
const PAUSE: Duration = Duration::from_millis(10);

/// Waits until a condition holds, and fails instead of hanging.
pub(crate) async fn until(mut holds: impl AsyncFnMut() -> bool) {
    within(async {
        while !holds().await {
            tokio::time::sleep(PAUSE).await;
        }
    })
    .await;
}

impl TestApp {
    /// Returns the health report.
    pub(crate) async fn inside(&self) -> Value {
        let request = self.request(Method::GET, "/health/actors").header("X-Service-Token", SERVICE_TOKEN);
        let answer = within(self.send(request)).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body
    }

    /// Returns the vital signs of an actor, without asking it.
    pub(crate) fn vitals_of(&self, name: &str) -> ActorHealth {
        self.handles.vitals().into_iter().find(|actor| actor.name == name).unwrap()
    }

    /// Injects a fault as soon as the actor runs.
    pub(crate) async fn fail(&self, name: &str, fault: Fault) {
        until(async || self.vitals_of(name).state == "running").await;
        self.handles.inject(name, fault).await.unwrap();
    }

    /// Waits until an actor has been restarted this many times and runs.
    pub(crate) async fn restarted(&self, name: &str, times: u64) {
        until(async || {
            let seen = self.vitals_of(name);
            seen.restarts >= times && seen.state == "running"
        })
        .await;
    }
}
