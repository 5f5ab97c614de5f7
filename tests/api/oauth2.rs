//! Introspection (RFC 7662), revocation (RFC 7009) and metadata (RFC 8414).

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use crate::support::{Answer, SERVICE_TOKEN, TestApp};

async fn ask(app: &TestApp, path: &str, secret: &str, form: &str) -> Answer {
    app.send(app.form(path, form).header("X-Service-Token", secret)).await
}

async fn introspect(app: &TestApp, token: &str) -> Value {
    let answer = ask(app, "/oauth2/introspect", SERVICE_TOKEN, &format!("token={token}&token_type_hint=x&y=z")).await;
    assert_eq!((answer.status, answer.header("cache-control")), (200, Some("no-store")), "{answer:?}");
    answer.body
}

fn claims(token: &str) -> Value {
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    serde_json::from_slice(&claims).unwrap()
}

#[tokio::test]
async fn a_live_token_is_described_and_any_other_is_inactive() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    let (ann, token) = app.register_and_login("ann").await;
    let session = app.handles.sessions.look(&token).await.unwrap().session.to_string();
    let issued = 1_735_689_600;
    let expected = json!({"active": true, "token_type": "Bearer", "sub": ann.id.to_string(),
        "username": "ann@example.com", "nickname": "ann", "role": "user", "sid": session, "iss": "doorward",
        "aud": "doorward", "iat": issued, "exp": issued + 1800});
    let mut seen = introspect(&app, &token).await;
    let name = seen.as_object_mut().unwrap().remove("jti").unwrap();
    assert_eq!((&seen, &name), (&expected, &claims(&token)["jti"]));
    let (_, gone) = app.register_and_login("bob").await;
    assert_eq!(app.logout(&gone).await.status, 200);
    app.lock(&admin, ann.id).await;
    for dead in [&*token, &gone, "garbage", SERVICE_TOKEN, "%00"] {
        assert_eq!(introspect(&app, dead).await, json!({"active": false}), "{dead}");
    }
    app.pass(Duration::from_mins(30));
    assert_eq!(introspect(&app, &admin).await, json!({"active": false}));
}

/// Returns whether a value matches a schema of the document, as far as these schemas go (JSON Schema 2020-12).
fn fits(value: &Value, schema: &Value, document: &Value) -> bool {
    let list = |name: &str| schema[name].as_array().into_iter().flatten();
    let is_of_type = |name: &Value| match name.as_str() {
        Some("object") => value.is_object(),
        Some("string") => value.is_string(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("boolean") => value.is_boolean(),
        Some("null") => value.is_null(),
        other => panic!("a type of which this knows nothing: {other:?}"),
    };
    let wanted = &schema["type"];
    let types = wanted.as_array().map_or_else(|| std::slice::from_ref(wanted), Vec::as_slice);
    let reference = schema["$ref"].as_str().map(|path| document.pointer(path.trim_start_matches('#')).unwrap());
    let members = schema["properties"].as_object();
    (wanted.is_null() || types.iter().any(is_of_type))
        && reference.is_none_or(|schema| fits(value, schema, document))
        && (schema["enum"].is_null() || list("enum").any(|one| one == value))
        && list("required").all(|name| value.get(name.as_str().unwrap()).is_some())
        && list("allOf").all(|schema| fits(value, schema, document))
        && (schema["oneOf"].is_null() || list("oneOf").filter(|schema| fits(value, schema, document)).count() == 1)
        && members
            .into_iter()
            .flatten()
            .all(|(name, schema)| value.get(name).is_none_or(|member| fits(member, schema, document)))
}

#[tokio::test]
async fn both_answers_are_what_the_document_says() {
    let app = TestApp::spawn().await;
    let (_, token) = app.register_and_login("ann").await;
    let document = app.get("/openapi.json").await.body;
    let answer = "/paths/~1oauth2~1introspect/post/responses/200/content/application~1json/schema";
    let schema = document.pointer(answer).unwrap();
    let live = introspect(&app, &token).await;
    assert!(fits(&live, schema, &document), "{live} by {schema}");
    assert!(fits(&json!({"active": false}), schema, &document), "{schema}");
    for bad in [json!({}), json!({"active": "false"})] {
        assert!(!fits(&bad, schema, &document), "{bad}");
    }
}

#[tokio::test]
async fn s39_an_introspection_is_no_use_of_the_session() {
    let app =
        TestApp::builder().with(|settings| settings.sessions.idle_timeout = Duration::from_mins(10)).spawn().await;
    let (_, token) = app.register_and_login("ann").await;
    for _ in 0..2 {
        app.pass(Duration::from_mins(5));
        assert_eq!(introspect(&app, &token).await["active"], true);
    }
    app.pass(Duration::from_millis(1));
    assert_eq!(introspect(&app, &token).await["active"], false);
}

#[tokio::test]
async fn s37_a_revoked_token_is_dead_everywhere_and_others_are_not() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    let (ann, token) = app.register_and_login("ann").await;
    let other = app.login(&ann).await;
    let (_, secret) = app.service_token(&admin, "gateway", &["revoke"]).await;
    for _ in 0..2 {
        let answer = ask(&app, "/oauth2/revoke", &secret, &format!("token={token}&token_type_hint=access_token")).await;
        assert_eq!((answer.status, &*answer.text), (200, ""), "a second time too");
        assert!(!app.is_live(&token).await);
    }
    assert!(app.is_live(&other).await);
    assert_eq!(ask(&app, "/oauth2/revoke", &secret, "token=unknown").await.status, 200);
    let seen = app.call(reqwest::Method::GET, "/audit/?event=session.revoked_by_service", &admin, &Value::Null).await;
    assert_eq!(seen.body["events"].as_array().unwrap().len(), 1);
    assert_eq!(seen.body["events"][0]["actor"], "service:gateway");
    assert_eq!(seen.body["events"][0]["subject"], ann.id);
}

#[tokio::test]
async fn s37_a_revoked_refresh_token_ends_its_session_also_when_it_was_replaced_before() {
    let app = TestApp::builder().with(|settings| settings.limits.address_failures = 3).spawn().await;
    let admin = app.admin().await;
    let (ann, _) = app.register_and_login("ann").await;
    let (_, secret) = app.service_token(&admin, "gateway", &["revoke", "introspect"]).await;
    let revoke = async |token: &str| {
        let answer =
            ask(&app, "/oauth2/revoke", &secret, &format!("token={token}&token_type_hint=refresh_token")).await;
        assert_eq!((answer.status, &*answer.text), (200, ""));
    };
    for is_replaced in [false, true] {
        let login = app.try_login(&ann).await;
        let (access, refresh) = (login.text_at("access_token"), login.text_at("refresh_token"));
        // A protected resource must not accept a refresh token as an access token (RFC 7662 §4).
        assert_eq!(introspect(&app, &refresh).await, json!({"active": false}));
        let mut next = refresh.clone();
        if is_replaced {
            next = app.post("/refresh", &json!({"refresh_token": refresh})).await.text_at("refresh_token");
        }
        revoke(&refresh).await;
        assert!(!app.is_live(&access).await);
        assert_eq!(app.post("/refresh", &json!({"refresh_token": next})).await.status, 401);
        // A service may repeat this without limit: its attempts do not count against its address.
        for _ in 0..5 {
            revoke(&refresh).await;
        }
    }
}

#[tokio::test]
async fn s50_a_service_may_say_who_it_is_in_three_ways_but_in_one_at_a_time() {
    let app = TestApp::spawn().await;
    let admin = app.admin().await;
    let (_, secret) = app.service_token(&admin, "my app", &["introspect"]).await;
    let request = || app.form("/oauth2/introspect", "token=x");
    let basic = |pair: &str| format!("Basic {}", STANDARD.encode(pair));
    let good = basic(&format!("my+app:{secret}"));
    assert_eq!(app.send(request().header("X-Service-Token", &secret)).await.status, 200);
    assert_eq!(app.send(request().bearer_auth(&secret)).await.status, 200);
    assert_eq!(app.send(request().header("Authorization", &good)).await.status, 200);
    assert_eq!(
        app.send(request().header("Authorization", basic(&format!("default:{SERVICE_TOKEN}")))).await.status,
        200
    );

    let both = app.send(request().header("X-Service-Token", &secret).header("Authorization", &good)).await;
    both.assert_problem(400, "There is more than one credential of a service");
    assert_eq!(both.body["error"], "invalid_request");
    for (authorization, challenge) in [
        (None, "Bearer"),
        (Some("Bearer wrong".to_owned()), "Bearer error=\"invalid_token\""),
        // A user's token does not authenticate a service.
        (Some(format!("Bearer {admin}")), "Bearer error=\"invalid_token\""),
        (Some(basic(&format!("other:{secret}"))), "Basic realm=\"doorward\""),
        (Some(basic("my+app:wrong")), "Basic realm=\"doorward\""),
        (Some("Basic !".to_owned()), "Basic realm=\"doorward\""),
    ] {
        let request = authorization.iter().fold(request(), |request, value| request.header("Authorization", value));
        let refused = app.send(request).await;
        refused.assert_unauthorized(challenge);
        assert_eq!(refused.body["error"], "invalid_client");
    }
    let (_, other) = app.service_token(&admin, "other", &["revoke"]).await;
    let refused = ask(&app, "/oauth2/introspect", &other, "token=x").await;
    refused.assert_problem(403, "The service token does not have the scope that this needs");
    assert_eq!((&refused.body["error"], refused.header("www-authenticate")), (&json!("insufficient_scope"), None));
    let refused = app.send(request().bearer_auth(&other)).await;
    assert_eq!(
        (refused.status, refused.header("www-authenticate")),
        (403, Some("Bearer error=\"insufficient_scope\""))
    );
}

#[tokio::test]
async fn a_form_that_is_not_what_the_standards_ask_for_is_refused() {
    let app = TestApp::spawn().await;
    for form in ["", "token=", "tokens=x", "token=a&token=b", "token=%ff"] {
        let refused = ask(&app, "/oauth2/introspect", SERVICE_TOKEN, form).await;
        assert_eq!((refused.status, &refused.body["error"]), (400, &json!("invalid_request")), "{form}");
    }
    let json = app.request(reqwest::Method::POST, "/oauth2/introspect").header("X-Service-Token", SERVICE_TOKEN);
    assert_eq!(app.send(json.json(&json!({"token": "x"}))).await.status, 415);
}

#[tokio::test]
async fn s22_who_guesses_at_service_tokens_waits() {
    let app = TestApp::builder().with(|settings| settings.limits.address_failures = 3).spawn().await;
    let status = async |secret: &str| ask(&app, "/oauth2/introspect", secret, "token=x").await.status;
    let mut seen = Vec::new();
    for _ in 0..5 {
        seen.push(status("wrong").await);
    }
    assert_eq!((seen[0], seen[4]), (401, 429), "{seen:?}");
    assert_eq!(status(SERVICE_TOKEN).await, 200, "the right one is not kept out");
}

#[tokio::test]
async fn the_metadata_says_what_is_true() {
    let public = "https://auth.example.com/base";
    let app = TestApp::builder()
        .with(|settings| settings.mail.public_url = doorward::settings::PublicUrl::parse(public).unwrap())
        .spawn()
        .await;
    let told = app.get("/.well-known/oauth-authorization-server").await;
    told.assert_body(
        200,
        &json!({
            "issuer": public,
            "jwks_uri": format!("{public}/.well-known/jwks.json"),
            "introspection_endpoint": format!("{public}/oauth2/introspect"),
            "introspection_endpoint_auth_methods_supported": ["client_secret_basic", "Bearer"],
            "revocation_endpoint": format!("{public}/oauth2/revoke"),
            "revocation_endpoint_auth_methods_supported": ["client_secret_basic"],
            "grant_types_supported": [],
            "response_types_supported": [],
            "service_documentation": format!("{public}/docs"),
        }),
    );
}
