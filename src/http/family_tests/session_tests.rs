//! What happens to sessions when messages about them are late.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use doorward_actors::store::{AccountUpdate, Effects, EndSessions};
use doorward_actors::testing::Fault;
use doorward_actors::{AccountChange, AccountId, Role};

use super::*;

/// Changes an account directly in the store, without telling any actor.
async fn change(app: &App, account: u64, change: AccountChange, ends: EndSessions) {
    let update = AccountUpdate {
        id: AccountId::new(account).unwrap(),
        acting: None,
        expected_revision: None,
        change,
        ends,
        redeems: None,
        revokes_tokens: false,
    };
    app.store.update_account(update, Effects::default()).await.unwrap();
}

#[tokio::test]
async fn s38_a_token_says_what_the_account_is_when_its_session_is_there() {
    let app = App::start(PLENTY, PLENTY).await;
    let admin = |role| AccountChange { role: Some(role), ..AccountChange::default() };
    app.person("root").await;
    app.person("ulla").await;
    change(&app, 2, admin(Role::Admin), EndSessions::None).await;
    app.system.handles().inject("session-0", Fault::Hang(Duration::from_secs(1))).await.unwrap();
    let body = json!({"email": "ulla@example.com", "password": PASSWORD});
    let demoted = async {
        let waits = || app.system.handles().vitals().iter().any(|actor| actor.name == "session-0" && actor.mailbox > 0);
        while !waits() {
            tokio::task::yield_now().await;
        }
        change(&app, 2, admin(Role::User), EndSessions::None).await;
    };
    let (login, ()) = tokio::join!(app.post("/login", &body), demoted);
    let token = login.body["access_token"].as_str().unwrap();
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    assert_eq!(serde_json::from_slice::<Value>(&claims).unwrap()["role"], "user");
    assert_eq!(app.verify(token).await.body["role"], "user");
}

#[tokio::test]
async fn s38_nobody_keeps_a_dead_session_in_memory_by_asking() {
    let app = App::start(PLENTY, PLENTY).await;
    let token = app.person("ann").await;
    change(&app, 1, AccountChange::default(), EndSessions::All).await;
    let sessions = &app.system.handles().sessions;
    assert_eq!(sessions.live(), 1, "its shard was not told");
    // The second request is handled after the effects of the first.
    for _ in 0..2 {
        assert_eq!(app.verify(&token).await.status, 401);
    }
    assert_eq!(sessions.live(), 0);
}
