//! Invalid refresh tokens and parts of other people's tokens: all get the same answer, and nothing changes.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::{Answer, Person, SERVICE_TOKEN, TestApp};

async fn show(app: &TestApp, path: &str, token: &str) -> Answer {
    let request = app.request(Method::POST, path).header("X-Request-Id", "the-same");
    app.send(request.json(&json!({"refresh_token": token}))).await
}

async fn log_in(app: &TestApp, person: &Person) -> (String, String) {
    let answer = app.try_login(person).await;
    let text = |member: &str| answer.body[member].as_str().unwrap().to_owned();
    (text("access_token"), text("refresh_token"))
}

fn written(bytes: &[u8]) -> String {
    format!("dwr_{}", URL_SAFE_NO_PAD.encode(bytes))
}

#[tokio::test]
async fn s37_s51_no_refresh_token_but_the_right_one_is_worth_anything() {
    let app = TestApp::builder().with(|settings| settings.limits.address_failures = 10_000).spawn().await;
    let (admin, ann) = (app.register("admin").await, app.register("ann").await);
    let (admin_access, admins) = log_in(&app, &admin).await;
    let (access, first) = log_in(&app, &ann).await;
    let (other_access, others) = log_in(&app, &ann).await;
    let present = show(&app, "/refresh", &first).await.body["refresh_token"].as_str().unwrap().to_owned();
    let elsewhere = TestApp::spawn().await;
    elsewhere.register("admin").await;
    let (_, foreign) = log_in(&elsewhere, &elsewhere.register("ann").await).await;
    let bytes = |token: &str| URL_SAFE_NO_PAD.decode(&token[4..]).unwrap();
    let own = bytes(&present);
    let mut wrong = vec![foreign, access.clone(), SERVICE_TOKEN.to_owned(), String::new(), "dwr_".to_owned()];
    // One bit of each byte changed.
    for at in 0..own.len() {
        for bit in [0, 7] {
            let mut changed = own.clone();
            changed[at] ^= 1 << bit;
            wrong.push(written(&changed));
        }
    }
    // Parts taken from another token: of another session, of another account, and of the previous generation.
    for other in [&others, &admins, &first] {
        let other = bytes(other);
        for part in [0..8, 8..24, 24..28, 28..60, 60..76, 0..24, 0..28, 24..76, 28..76] {
            let mut mixed = own.clone();
            mixed[part.clone()].copy_from_slice(&other[part]);
            if mixed != own && mixed != other {
                wrong.push(written(&mixed));
            }
        }
    }
    for generation in [0_u32, 2, 3, u32::MAX] {
        let mut renumbered = own.clone();
        renumbered[24..28].copy_from_slice(&generation.to_be_bytes());
        wrong.push(written(&renumbered));
    }
    for text in [
        present.to_uppercase(),
        present.replace("dwr_", "DWR_"),
        present.replace("dwr_", "dws_"),
        present.replace("dwr_", ""),
        format!(" {present}"),
        format!("{present} "),
        format!("{present}\n"),
        format!("{present}=="),
        format!("{present}A"),
        present[..present.len() - 1].to_owned(),
        format!("dwr_{}", URL_SAFE.encode(&own)),
        format!("dwr_{}", STANDARD_NO_PAD.encode([0xFB; 76])),
        format!("Bearer {present}"),
        format!("dwr_{}", "A".repeat(102)),
        format!("dwr_{}", "_".repeat(102)),
        written(&own[1..]),
        written(&[&own[..], &[0]].concat()),
        "x".repeat(5000),
        "é".repeat(53),
        "\0".repeat(106),
    ] {
        wrong.push(text);
    }
    // The last character has four unused bits.
    let last = present.as_bytes()[present.len() - 1];
    wrong.push(format!("{}{}", &present[..present.len() - 1], char::from(last + 1)));
    for path in ["/refresh", "/logout"] {
        let refusal = show(&app, path, "garbage").await;
        refusal.assert_unauthorized("Bearer error=\"invalid_token\"");
        for token in &wrong {
            assert_eq!(show(&app, path, token).await.whole(), refusal.whole(), "{path} {token:?}");
        }
    }
    // A refresh token is not valid as another kind of token.
    assert_eq!(app.verify(&present).await.status, 401);
    let introspected =
        app.form("/oauth2/introspect", &format!("token={others}x")).header("X-Service-Token", SERVICE_TOKEN);
    assert_eq!(app.send(introspected).await.body, json!({"active": false}));
    for body in [
        json!([present]),
        json!({"refresh_token": [present]}),
        json!({"refresh_token": {"token": present}}),
        json!({"refresh_token": null}),
        json!({"Refresh_Token": present}),
        json!({"refresh_token": present, "grant_type": "refresh_token"}),
    ] {
        assert_eq!(app.post("/refresh", &body).await.status, 422, "{body}");
    }
    let twice = format!("{{\"refresh_token\":\"garbage\",\"refresh_token\":\"{present}\"}}");
    let twice = app.request(Method::POST, "/refresh").header("Content-Type", "application/json").body(twice);
    assert!((400..500).contains(&app.send(twice).await.status));
    // Nothing changed: no session ended, no family advanced, and no account is named in the log.
    for token in [&access, &other_access, &admin_access] {
        assert!(app.is_live(token).await);
    }
    app.handles.audit.settle().await;
    let seen = app.call(Method::GET, "/my_account/events?limit=100", &access, &Value::Null).await;
    let named = seen.body["events"].as_array().unwrap().iter().filter(|event| event["outcome"] == "refused").count();
    assert_eq!(named, 0, "a guess names nobody");
    for token in [&present, &others, &admins] {
        assert_eq!(show(&app, "/refresh", token).await.status, 200);
    }
}
