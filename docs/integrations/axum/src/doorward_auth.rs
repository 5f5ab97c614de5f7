//! Doorward's users in an axum service. Copy this file; `main.rs` beside it shows how it is used.
//!
//! [`Doorward::offline`] checks tokens with Doorward's published keys and follows its revocation feed, so that no request waits
//! for Doorward. [`Doorward::asking`] asks `/verify` about each one: for tokens that a secret signs (HS256), or where a token is
//! seldom seen twice.
//!
//! Both answer 401 without a live token, 403 without the role, and 503 while it cannot be known whether a token is live.

use std::collections::{HashMap, VecDeque};
use std::error::Error;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::Json;
use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, CACHE_CONTROL, RETRY_AFTER, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// The seconds that the two clocks may differ.
const LEEWAY: u64 = 5;
/// The events that an answer of the feed has at most.
const PAGE: usize = 1000;
/// After how many seconds the feed answers though nothing happened: its heartbeat.
const WAIT: u64 = 15;
/// For how long the keys may be kept, as their `Cache-Control` says.
const KEYS_KEPT: Duration = Duration::from_mins(5);
/// How long Doorward may take for an answer for which it does not wait.
const PATIENCE: Duration = Duration::from_secs(5);

/// Who makes the request. Handlers take it as `Extension<User>`.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct User {
    pub id: u64,
    pub nickname: String,
    pub role: String,
    #[serde(alias = "session_id")]
    pub session: String,
}

/// Why there is no user.
#[derive(Debug)]
pub enum Refusal {
    /// There is no token.
    Missing,
    /// The token is not one that is live. Why is nobody's business; the log of Doorward knows.
    Dead,
    /// The user does not have the role.
    Role,
    /// Nobody can say at the moment whether the token is live. Not 401: its owner need not log in anew.
    Unknown,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (status, name, value, detail) = match self {
            Self::Missing => (StatusCode::UNAUTHORIZED, WWW_AUTHENTICATE, "Bearer", "Log in first"),
            Self::Dead => {
                (StatusCode::UNAUTHORIZED, WWW_AUTHENTICATE, r#"Bearer error="invalid_token""#, "Log in again")
            }
            Self::Role => {
                (StatusCode::FORBIDDEN, WWW_AUTHENTICATE, r#"Bearer error="insufficient_scope""#, "Not for you")
            }
            Self::Unknown => (StatusCode::SERVICE_UNAVAILABLE, RETRY_AFTER, "5", "Come back in a moment"),
        };
        (status, [(name, value)], Json(json!({ "detail": detail }))).into_response()
    }
}

/// Lets nobody pass without a live token: `axum::middleware::from_fn_with_state(doorward, authenticate)`.
pub async fn authenticate(
    State(doorward): State<Doorward>,
    mut request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let token = bearer(request.headers())?.to_owned();
    let user = doorward.check(&token).await?;
    request.extensions_mut().insert(user);
    Ok(next.run(request).await)
}

/// Lets nobody pass without this role, inside of [`authenticate`]: `from_fn_with_state("admin", require_role)`.
pub async fn require_role(State(role): State<&'static str>, request: Request, next: Next) -> Result<Response, Refusal> {
    let user = request.extensions().get::<User>().ok_or(Refusal::Missing)?;
    if user.role == role { Ok(next.run(request).await) } else { Err(Refusal::Role) }
}

/// The token of the one `Authorization: Bearer` header.
fn bearer(headers: &HeaderMap) -> Result<&str, Refusal> {
    let mut all = headers.get_all(AUTHORIZATION).iter();
    let (Some(only), None) = (all.next(), all.next()) else { return Err(Refusal::Missing) };
    let space = only.as_bytes().iter().position(|b| *b == b' ').unwrap_or(only.len());
    let (scheme, token) = only.as_bytes().split_at(space);
    let token = token.trim_ascii();
    if !scheme.eq_ignore_ascii_case(b"bearer") || token.is_empty() {
        return Err(Refusal::Missing);
    }
    // Nothing else can be live (RFC 6750 §2.1), and some of it could not even be asked about.
    let token = std::str::from_utf8(token).map_err(|_| Refusal::Dead)?;
    let of_a_token = |c: char| c.is_ascii_alphanumeric() || "-._~+/=".contains(c);
    if token.chars().all(of_a_token) { Ok(token) } else { Err(Refusal::Dead) }
}

/// What has to be known for checking tokens offline.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Doorward, as this service reaches it.
    pub url: String,
    /// A service token with the scope `revocations`.
    pub service_token: String,
    /// Doorward's `ALGORITHM`: `EdDSA`, `ES256` or `RS256`, and no other is accepted.
    pub algorithm: Algorithm,
    /// `TOKEN_ISSUER` and `TOKEN_AUDIENCE`.
    pub issuer: String,
    pub audience: String,
    /// Doorward's `ACCESS_TOKEN_EXPIRE_MINUTES`. A revocation is remembered for as long.
    pub longest_token: Duration,
    /// After what time without a word of the feed no token is trusted. So long may a revoked token live if the way to Doorward
    /// is cut. 45 seconds are three heartbeats: one may get lost, and a restart of Doorward goes unnoticed.
    pub silence: Duration,
    /// How often tokens that name an unknown key can make us fetch the keys: every 30 seconds is enough.
    pub refetch: Duration,
}

/// Knows whose token it is. Clones share what they know.
#[derive(Clone)]
pub enum Doorward {
    Offline(Arc<Offline>),
    Asking(Arc<Asking>),
}

impl Doorward {
    /// Checks tokens with the published keys and the feed, which it follows from now on.
    pub fn offline(mut settings: Settings) -> Self {
        settings.url.truncate(settings.url.trim_end_matches('/').len());
        let offline = Arc::new(Offline {
            http: reqwest::Client::new(),
            settings,
            keys: Mutex::default(),
            fetching: tokio::sync::Mutex::default(),
            feed: Mutex::default(),
        });
        tokio::spawn(Arc::clone(&offline).keep_keys());
        tokio::spawn(Arc::clone(&offline).keep_up());
        Self::Offline(offline)
    }

    /// Asks Doorward about each token, with a service token that has the scope `verify`.
    pub fn asking(url: String, service_token: String) -> Self {
        let url = url.trim_end_matches('/').to_owned();
        Self::Asking(Arc::new(Asking { http: reqwest::Client::new(), url, service_token }))
    }

    /// Whether tokens can be checked. While not, requests are better kept away.
    pub fn ready(&self) -> bool {
        match self {
            Self::Offline(offline) => offline.up_to_date(),
            Self::Asking(_) => true,
        }
    }

    async fn check(&self, token: &str) -> Result<User, Refusal> {
        match self {
            Self::Offline(offline) => offline.check(token).await,
            Self::Asking(asking) => asking.check(token).await,
        }
    }
}

pub struct Offline {
    http: reqwest::Client,
    settings: Settings,
    keys: Mutex<Keys>,
    /// Held while the keys are fetched.
    fetching: tokio::sync::Mutex<()>,
    feed: Mutex<Feed>,
}

#[derive(Default)]
struct Keys {
    by_kid: HashMap<String, Jwk>,
    tried_at: Option<Instant>,
    /// Whether Doorward answered the last time.
    told: bool,
}

/// What the feed said so far.
#[derive(Default)]
struct Feed {
    cursor: Option<String>,
    heard_at: Option<Instant>,
    /// Whether to wait for something new. What was missed is asked for first.
    waits: bool,
    /// Sessions that ended.
    ended: HashMap<String, Instant>,
    /// New roles of accounts.
    roles: HashMap<u64, (Instant, String)>,
    /// When what was remembered, the oldest first.
    remembered: VecDeque<(Instant, Remembered)>,
}

enum Remembered {
    Ended(String),
    Role(u64),
}

#[derive(Deserialize)]
struct Claims {
    iat: u64,
    sid: String,
    #[serde(rename = "jti")]
    _jti: String,
    id: u64,
    nickname: String,
    role: String,
}

#[derive(Deserialize)]
struct Page {
    cursor: String,
    events: Vec<Event>,
}

#[derive(Deserialize)]
struct Event {
    kind: String,
    session_id: Option<String>,
    account_id: Option<u64>,
    role: Option<String>,
}

impl Offline {
    async fn check(&self, token: &str) -> Result<User, Refusal> {
        if !self.up_to_date() {
            return Err(Refusal::Unknown);
        }
        let header = decode_header(token).map_err(|_| Refusal::Dead)?;
        if header.typ.as_deref() != Some("at+jwt") {
            return Err(Refusal::Dead);
        }
        let key = self.key(header.kid.as_deref().ok_or(Refusal::Dead)?).await?;
        let key = DecodingKey::from_jwk(&key).map_err(|_| Refusal::Dead)?;
        // The one algorithm that is expected, never what the header says.
        let mut rules = Validation::new(self.settings.algorithm);
        rules.set_required_spec_claims(&["exp", "nbf", "iss", "aud", "sub"]);
        rules.set_issuer(&[&self.settings.issuer]);
        rules.set_audience(&[&self.settings.audience]);
        rules.validate_nbf = true;
        rules.leeway = LEEWAY;
        let claims = decode::<Claims>(token, &key, &rules).map_err(|_| Refusal::Dead)?.claims;
        // One that is older than it can be would outlive our memory of revocations.
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let oldest = now.saturating_sub(self.settings.longest_token.as_secs() + LEEWAY);
        let feed = lock(&self.feed);
        // While the keys were waited for, the feed may have fallen silent, or what is remembered may have been given up.
        if !feed.up_to_date(self.settings.silence) {
            return Err(Refusal::Unknown);
        }
        if claims.iat > now + LEEWAY || claims.iat < oldest || feed.ended.contains_key(&claims.sid) {
            return Err(Refusal::Dead);
        }
        // A role that changed since the token was issued counts, not the one in it.
        let role = feed.roles.get(&claims.id).map_or(claims.role, |(_, role)| role.clone());
        Ok(User { id: claims.id, nickname: claims.nickname, role, session: claims.sid })
    }

    fn up_to_date(&self) -> bool {
        lock(&self.feed).up_to_date(self.settings.silence)
    }

    // The keys.

    async fn key(&self, kid: &str) -> Result<Jwk, Refusal> {
        let known = |keys: &Keys| keys.by_kid.get(kid).cloned();
        if let Some(key) = known(&lock(&self.keys)) {
            return Ok(key);
        }
        // Whoever names the same new key waits for the same answer.
        let _fetching = self.fetching.lock().await;
        let due = {
            let keys = lock(&self.keys);
            known(&keys).is_none() && keys.tried_at.is_none_or(|tried| tried.elapsed() > self.settings.refetch)
        };
        if due {
            self.fetch_keys().await;
        }
        let keys = lock(&self.keys);
        known(&keys).ok_or(if keys.told { Refusal::Dead } else { Refusal::Unknown })
    }

    /// Called by whoever holds `fetching`, so that no older answer takes the place of a newer one.
    async fn fetch_keys(&self) -> bool {
        // Noted before the answer: one that fails must not be asked for by every request either.
        lock(&self.keys).tried_at = Some(Instant::now());
        let url = format!("{}/.well-known/jwks.json", self.settings.url);
        // What a cache on the way has may be from before the keys were replaced.
        let request = self.http.get(url).header(CACHE_CONTROL, "no-cache").timeout(PATIENCE);
        let fetched = async { request.send().await?.error_for_status()?.json::<JwkSet>().await }.await;
        let mut keys = lock(&self.keys);
        keys.told = fetched.is_ok();
        match fetched {
            Ok(set) => {
                keys.by_kid = set.keys.into_iter().filter_map(|key| Some((key.common.key_id.clone()?, key))).collect();
            }
            Err(error) => eprintln!("the keys of Doorward cannot be fetched, those that are known stay: {error}"),
        }
        keys.told
    }

    /// Somebody else may have the old ones: nobody passes by them, even if the new ones cannot be had, and not by an answer
    /// either that is under way. So nothing is trusted until the feed was heard once more.
    async fn replace_keys(&self) -> Result<(), Box<dyn Error + Send + Sync>> {
        lock(&self.feed).heard_at = None;
        let _fetching = self.fetching.lock().await;
        *lock(&self.keys) = Keys::default();
        // The feed tells of it again.
        if self.fetch_keys().await { Ok(()) } else { Err("the new keys are not here yet".into()) }
    }

    async fn keep_keys(self: Arc<Self>) {
        loop {
            let told = {
                let _fetching = self.fetching.lock().await;
                self.fetch_keys().await
            };
            tokio::time::sleep(if told { KEYS_KEPT } else { PATIENCE }).await;
        }
    }

    // The revocation feed.

    async fn keep_up(self: Arc<Self>) {
        const SHORTEST: Duration = Duration::from_millis(250);
        let mut pause = SHORTEST;
        loop {
            match self.listen().await {
                Ok(()) => pause = SHORTEST,
                Err(error) => {
                    eprintln!("no word of revocations: {error}");
                    lock(&self.feed).waits = false;
                    tokio::time::sleep(pause).await;
                    pause = (2 * pause).min(PATIENCE);
                }
            }
        }
    }

    async fn listen(&self) -> Result<(), Box<dyn Error + Send + Sync>> {
        let (cursor, wait) = {
            let feed = lock(&self.feed);
            (feed.cursor.clone(), if feed.waits { WAIT } else { 0 })
        };
        let after = cursor.as_deref().unwrap_or("start");
        let answer = self
            .http
            .get(format!("{}/revocations?after={after}&wait={wait}", self.settings.url))
            .header("X-Service-Token", &self.settings.service_token)
            .timeout(Duration::from_secs(wait) + PATIENCE)
            .send()
            .await?;
        // 410: some of what we missed is gone. 422: this is the log of another data directory.
        if matches!(answer.status(), StatusCode::GONE | StatusCode::UNPROCESSABLE_ENTITY) && cursor.is_some() {
            eprintln!("the feed begins again");
            // What is gone may have told that all keys were replaced.
            self.replace_keys().await?;
            *lock(&self.feed) = Feed::default();
            return Ok(());
        }
        let page = answer.error_for_status()?.json::<Page>().await?;
        let more = page.events.len() >= PAGE;
        let replaced = page.events.iter().any(|event| event.kind == "keys_replaced");
        for event in page.events {
            lock(&self.feed).take(event, self.settings.longest_token);
        }
        if replaced {
            self.replace_keys().await?;
        }
        let mut feed = lock(&self.feed);
        feed.cursor = Some(page.cursor);
        // A full page says that we are behind.
        if !more {
            feed.heard_at = Some(Instant::now());
            feed.waits = true;
        }
        Ok(())
    }
}

impl Feed {
    fn up_to_date(&self, silence: Duration) -> bool {
        self.heard_at.is_some_and(|heard| heard.elapsed() <= silence)
    }

    fn take(&mut self, event: Event, longest_token: Duration) {
        let now = Instant::now();
        match (event.kind.as_str(), event.session_id, event.account_id.zip(event.role)) {
            ("session_ended", Some(session), _) => {
                self.ended.insert(session.clone(), now);
                self.remembered.push_back((now, Remembered::Ended(session)));
            }
            ("role_changed", _, Some((account, role))) => {
                self.roles.insert(account, (now, role));
                self.remembered.push_back((now, Remembered::Role(account)));
            }
            // account_locked, account_deleted: each of its sessions was named before.
            _ => {}
        }
        // No token is alive that was issued before this.
        let kept = longest_token + Duration::from_mins(1);
        while self.remembered.front().is_some_and(|(at, _)| now - *at > kept) {
            match self.remembered.pop_front() {
                Some((_, Remembered::Ended(session))) => drop(self.ended.remove(&session)),
                Some((at, Remembered::Role(account)))
                    if self.roles.get(&account).is_some_and(|(last, _)| *last == at) =>
                {
                    self.roles.remove(&account);
                }
                _ => {}
            }
        }
    }
}

/// What is behind the locks is whole even if a thread panicked.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub struct Asking {
    http: reqwest::Client,
    url: String,
    service_token: String,
}

impl Asking {
    async fn check(&self, token: &str) -> Result<User, Refusal> {
        let asked = self
            .http
            .post(format!("{}/verify", self.url))
            .header("X-Service-Token", &self.service_token)
            .bearer_auth(token)
            .timeout(PATIENCE)
            .send()
            .await;
        // 431: no live token is that long.
        let dead = [StatusCode::UNAUTHORIZED, StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE];
        let told = async {
            match asked?.error_for_status() {
                Err(error) if error.status().is_some_and(|status| dead.contains(&status)) => Ok(None),
                // 404 and 403 are about our own token, 503 is about Doorward.
                answer => answer?.json::<User>().await.map(Some),
            }
        };
        match told.await {
            Ok(user) => user.ok_or(Refusal::Dead),
            Err(error) => {
                eprintln!("Doorward does not say whose token it is: {error}");
                Err(Refusal::Unknown)
            }
        }
    }
}
