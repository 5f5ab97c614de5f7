//! Access tokens: the credentials with which a client acts in a session.
//!
//! A token proves only that Doorward issued it for a session. The session's shard and the store decide at each use whether the session
//! is alive and which account it belongs to. A service that verifies tokens only by the published keys learns of the end of a session
//! in other ways.

mod algorithm;
mod key;
mod keys;
mod ring;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, Guard};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

pub use algorithm::SigningAlgorithm;
pub use key::{BadKey, KeyId, SigningKey};
pub(crate) use keys::TokenKeys;
pub use keys::{PublishedKeys, TokenKeyError};
pub(crate) use ring::PUBLISHED_AHEAD;
pub use ring::{KEY_SET_MAX_AGE, KeyEvent, KeyEventKind, KeyRing, KeyState, RingKey, RotateRefusal};

use super::account::{Account, AccountId};
use super::secret::Secret;
use super::session::{Session, SessionId};
use super::time::Timestamp;

/// The media type of an access token (RFC 9068 §2.1). No other signed object has it (S47).
const TOKEN_TYPE: &str = "at+jwt";
/// How far ahead of our clock `nbf` and `iat` may lie, in seconds, in case the clock was set back a little.
/// The expiry has no leeway, because issuer and verifier read the same clock.
const NOT_BEFORE_LEEWAY_SECONDS: i64 = 5;
/// The maximum size of a token that is examined, in bytes. Ours have about 500, or 900 with an RSA key.
const MAX_TOKEN_BYTES: usize = 4096;

/// The settings of access tokens.
#[derive(Debug, Clone)]
pub struct TokenSettings {
    /// The algorithm that signs from now on. Tokens with an earlier algorithm are accepted until they expire.
    pub algorithm: SigningAlgorithm,
    /// The signing secret, at least 32 bytes. One-time tokens are always derived from it, whatever the algorithm.
    pub secret: Secret,
    /// The previous signing secret.
    pub previous_secret: Option<Secret>,
    /// The `iss` claim.
    pub issuer: String,
    /// The `aud` claim.
    pub audience: String,
    /// The maximum lifetime of a token.
    pub lifetime: Duration,
    /// The age at which a key pair is rotated; `None` for never.
    pub rotation: Option<Duration>,
}

/// Issues and verifies access tokens. Only this type knows the signing keys.
pub(crate) struct AccessTokens {
    keys: ArcSwap<TokenKeys>,
    issuer: String,
    audience: String,
}

/// The token is not one of ours, or is not valid at this time. The reason is not given, because clients must not learn it (S51).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InvalidToken;

/// The id of a token (RFC 7519 §4.1.7): 128 random bits, written as 22 characters of URL-safe base64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenId([u8; 16]);

impl TokenId {
    /// Makes an id from bytes, which must be unguessable.
    pub(crate) const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Parses the written form; `None` for any other text.
    fn parse(text: &str) -> Option<Self> {
        // The decoder checks the buffer against its own size estimate.
        let mut buffer = [0; 18];
        let length = URL_SAFE_NO_PAD.decode_slice(text, &mut buffer).ok()?;
        buffer[..length].try_into().ok().map(Self)
    }
}

impl fmt::Display for TokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&URL_SAFE_NO_PAD.encode(self.0))
    }
}

/// The contents of a valid token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct VerifiedToken {
    pub(crate) account: AccountId,
    pub(crate) session: SessionId,
    /// When it becomes valid, minus the leeway.
    pub(crate) not_before: Timestamp,
    pub(crate) issued_at: Timestamp,
    /// When it expires, in whole seconds: the time in `exp`, or the time from which on its key is no longer accepted, if that is earlier.
    /// A cache of verified tokens needs no other time.
    pub(crate) expires_at: Timestamp,
    /// Its id; tokens that were issued before tokens had ids have none.
    pub(crate) token_id: Option<TokenId>,
}

impl VerifiedToken {
    /// Returns whether the token is valid at `now`. At the exact time of expiry it has already expired (RFC 7519 §4.1.4).
    pub(crate) fn is_current(&self, now: Timestamp) -> bool {
        (self.not_before.as_seconds()..self.expires_at.as_seconds()).contains(&now.as_seconds())
    }
}

/// The claims to sign (RFC 9068 §2.2, without `client_id`, as there are no clients to distinguish).
/// `id`, `nickname` and `role` are claims of earlier versions; they describe the account when the token was issued.
#[derive(Serialize)]
struct IssuedClaims<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: String,
    sid: String,
    jti: String,
    iat: i64,
    nbf: i64,
    exp: i64,
    id: u64,
    nickname: &'a str,
    role: &'a str,
}

/// The claims to read. Each field except `jti` is required and typed, so a token without one, or with another type, is refused (S45).
#[derive(Deserialize)]
struct ReadClaims {
    #[serde(rename = "iss")]
    _issuer: String,
    #[serde(rename = "aud")]
    _audience: String,
    sub: String,
    sid: String,
    jti: Option<String>,
    iat: i64,
    nbf: i64,
    exp: i64,
}

impl AccessTokens {
    pub(crate) fn new(settings: &TokenSettings, keys: TokenKeys) -> Self {
        let (issuer, audience) = (settings.issuer.clone(), settings.audience.clone());
        Self { keys: ArcSwap::from_pointee(keys), issuer, audience }
    }

    /// Returns the current keys.
    pub(crate) fn keys(&self) -> Guard<Arc<TokenKeys>> {
        self.keys.load()
    }

    /// Replaces the keys.
    pub(crate) fn take_up(&self, keys: TokenKeys) {
        self.keys.store(Arc::new(keys));
    }

    /// Issues a token for a session of an account, valid from `issued_at` to `expires_at`.
    pub(crate) fn issue(
        &self,
        account: &Account,
        session: &Session,
        issued_at: Timestamp,
        expires_at: Timestamp,
        id: TokenId,
    ) -> Result<Secret, TokenKeyError> {
        let claims = IssuedClaims {
            iss: &self.issuer,
            aud: &self.audience,
            sub: account.id.to_string(),
            sid: session.id.to_string(),
            jti: id.to_string(),
            iat: issued_at.as_seconds(),
            nbf: issued_at.as_seconds(),
            exp: expires_at.as_seconds(),
            id: account.id.get(),
            nickname: account.nickname.as_str(),
            role: account.role.as_str(),
        };
        self.keys.load().sign(&claims, issued_at)
    }

    /// Returns the `iss` and the `aud` of every token.
    pub(crate) fn issuer_and_audience(&self) -> (&str, &str) {
        (&self.issuer, &self.audience)
    }

    /// Returns the contents of a presented token, if we issued it and it is valid at `now`.
    #[cfg(test)]
    pub(crate) fn verify(&self, token: &str, now: Timestamp) -> Result<VerifiedToken, InvalidToken> {
        self.keys.load().verify(token, now)
    }
}

impl TokenKeys {
    /// Returns the contents of a presented token, if one of these keys signed it and it is valid at `now`.
    pub(crate) fn verify(&self, token: &str, now: Timestamp) -> Result<VerifiedToken, InvalidToken> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(InvalidToken);
        }
        let (claims, key) = self.open::<ReadClaims>(token, now).ok_or(InvalidToken)?;
        let account = claims.sub.parse().ok().and_then(AccountId::new).ok_or(InvalidToken)?;
        let session = SessionId::parse(&claims.sid).ok_or(InvalidToken)?;
        let token_id = match claims.jti {
            Some(name) => Some(TokenId::parse(&name).ok_or(InvalidToken)?),
            // Before tokens had ids, only secrets signed them.
            None if key.algorithm.is_symmetric() => None,
            None => return Err(InvalidToken),
        };
        let not_before = claims.nbf.max(claims.iat).saturating_sub(NOT_BEFORE_LEEWAY_SECONDS);
        let expires_at = seconds(claims.exp);
        let verified = VerifiedToken {
            account,
            session,
            not_before: seconds(not_before),
            issued_at: seconds(claims.iat),
            expires_at: key.accepted_until().map_or(expires_at, |until| until.min(expires_at)),
            token_id,
        };
        if verified.is_current(now) { Ok(verified) } else { Err(InvalidToken) }
    }
}

/// Converts a `NumericDate`. A value that is out of range becomes the last or the first possible time.
fn seconds(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds.saturating_mul(1000))
}

#[cfg(test)]
mod tests;
