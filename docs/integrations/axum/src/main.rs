//! A service with Doorward's users: `cargo run`.

mod doorward_auth;

use std::env;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::middleware::from_fn_with_state;
use axum::routing::get;
use axum::{Extension, Json, Router};
use serde_json::{Value, json};

use doorward_auth::{Doorward, Settings, User, authenticate, require_role};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let doorward = doorward()?;
    let admins = Router::new().route("/admin", get(admin)).layer(from_fn_with_state("admin", require_role));
    // The outer layer comes first: whose token it is, then what the user may.
    let users =
        Router::new().route("/me", get(me)).merge(admins).layer(from_fn_with_state(doorward.clone(), authenticate));
    let app = users.route("/health/ready", get(ready)).with_state(doorward);
    let port = number("PORT", 9000)?.try_into()?;
    axum::serve(tokio::net::TcpListener::bind(("127.0.0.1", port)).await?, app).await?;
    Ok(())
}

async fn me(Extension(user): Extension<User>) -> Json<User> {
    Json(user)
}

async fn admin(Extension(user): Extension<User>) -> Json<Value> {
    Json(json!({ "secret": format!("for {}", user.nickname) }))
}

/// Keeps requests away while no token can be checked.
async fn ready(State(doorward): State<Doorward>) -> StatusCode {
    if doorward.ready() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

fn doorward() -> Result<Doorward, Box<dyn std::error::Error>> {
    let (url, service_token) = (env::var("DOORWARD_URL")?, env::var("DOORWARD_SERVICE_TOKEN")?);
    let algorithm = env::var("DOORWARD_ALGORITHM").unwrap_or_else(|_| "EdDSA".to_owned());
    if algorithm.starts_with("HS") {
        return Ok(Doorward::asking(url, service_token));
    }
    Ok(Doorward::offline(Settings {
        url,
        service_token,
        algorithm: algorithm.parse()?,
        issuer: "doorward".to_owned(),
        audience: "doorward".to_owned(),
        longest_token: Duration::from_secs(60 * number("ACCESS_TOKEN_EXPIRE_MINUTES", 30)?),
        silence: Duration::from_secs(number("DOORWARD_SILENCE", 45)?),
        refetch: Duration::from_secs(number("DOORWARD_REFETCH", 30)?),
    }))
}

fn number(name: &str, default: u64) -> Result<u64, std::num::ParseIntError> {
    env::var(name).map_or(Ok(default), |text| text.parse())
}
