//! Access tokens: what a client carries to say which session it speaks for.
//!
//! A token proves only that Doorward issued it for a session; whether that session is alive, and whose account it is
//! now, the session's shard and the store say at every use. Who checks it by the published keys alone learns of the end of
//! a session in other ways.

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

/// The media type of an access token (RFC 9068 §2.1). Nothing else that is signed carries it (S47).
const TOKEN_TYPE: &str = "at+jwt";
/// How far ahead of our clock `nbf` and `iat` may lie, in seconds: room for a clock that was set back a little. The end
/// of a token has no leeway, as issuer and verifier read the same clock.
const NOT_BEFORE_LEEWAY_SECONDS: i64 = 5;
/// The longest token that is looked at, in bytes. Ours have about 500, and 900 with an RSA key.
const MAX_TOKEN_BYTES: usize = 4096;

/// How access tokens are made.
#[derive(Debug, Clone)]
pub struct TokenSettings {
    /// What signs from here on. Tokens that another one signed before are accepted until they are over.
    pub algorithm: SigningAlgorithm,
    /// The signing secret, at least 32 bytes. One-time tokens are derived from it too, whatever signs.
    pub secret: Secret,
    /// The signing secret before this one.
    pub previous_secret: Option<Secret>,
    /// The `iss` claim.
    pub issuer: String,
    /// The `aud` claim.
    pub audience: String,
    /// The longest that a token lives.
    pub lifetime: Duration,
    /// After how long a key pair gives way to a new one; `None` for never.
    pub rotation: Option<Duration>,
}

/// Issues and verifies access tokens. It is the only place that knows the signing keys.
pub(crate) struct AccessTokens {
    keys: ArcSwap<TokenKeys>,
    issuer: String,
    audience: String,
}

/// The token is not one of ours, or its time is over. Why is not told apart: nobody outside may learn it (S51).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InvalidToken;

/// The name of a token (RFC 7519 §4.1.7): 128 random bits, written as 22 characters of URL-safe base64.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TokenId([u8; 16]);

impl TokenId {
    /// The name made of these bytes, which nobody may be able to guess.
    pub(crate) const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// Reads the written form; `None` for anything that is not exactly one.
    fn parse(text: &str) -> Option<Self> {
        // The decoder wants room for its own estimate.
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

/// What a valid token says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct VerifiedToken {
    pub(crate) account: AccountId,
    pub(crate) session: SessionId,
    /// From when on it is good, less the leeway.
    pub(crate) not_before: Timestamp,
    pub(crate) issued_at: Timestamp,
    /// The moment from which on it is over, in whole seconds: that of its `exp`, or that from which on its key is good for
    /// nothing, if that is sooner. Whoever keeps what a token says needs to know no other.
    pub(crate) expires_at: Timestamp,
    /// Its name; tokens that were issued before tokens had names have none.
    pub(crate) token_id: Option<TokenId>,
}

impl VerifiedToken {
    /// Whether its time is now. The moment of expiry itself counts as over (RFC 7519 §4.1.4).
    pub(crate) fn is_current(&self, now: Timestamp) -> bool {
        (self.not_before.as_seconds()..self.expires_at.as_seconds()).contains(&now.as_seconds())
    }
}

/// What is signed (RFC 9068 §2.2, without `client_id`: there are no clients to tell apart). `id`, `nickname` and `role` are
/// the established claims; they say how things stood when the token was issued.
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

/// What is read back. Every field but `jti` is required and typed, so a token that lacks or mistypes one is refused (S45).
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

    /// The keys as they are now.
    pub(crate) fn keys(&self) -> Guard<Arc<TokenKeys>> {
        self.keys.load()
    }

    /// Takes other keys from here on.
    pub(crate) fn take_up(&self, keys: TokenKeys) {
        self.keys.store(Arc::new(keys));
    }

    /// A token for a session of an account, good from `issued_at` to `expires_at`.
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

    /// The `iss` and the `aud` of every token.
    pub(crate) fn issuer_and_audience(&self) -> (&str, &str) {
        (&self.issuer, &self.audience)
    }

    /// What a presented token says, if we issued it and its time is now.
    #[cfg(test)]
    pub(crate) fn verify(&self, token: &str, now: Timestamp) -> Result<VerifiedToken, InvalidToken> {
        self.keys.load().verify(token, now)
    }
}

impl TokenKeys {
    /// What a presented token says, if one of these keys signed it and its time is now.
    pub(crate) fn verify(&self, token: &str, now: Timestamp) -> Result<VerifiedToken, InvalidToken> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(InvalidToken);
        }
        let (claims, key) = self.open::<ReadClaims>(token, now).ok_or(InvalidToken)?;
        let account = claims.sub.parse().ok().and_then(AccountId::new).ok_or(InvalidToken)?;
        let session = SessionId::parse(&claims.sid).ok_or(InvalidToken)?;
        let token_id = match claims.jti {
            Some(name) => Some(TokenId::parse(&name).ok_or(InvalidToken)?),
            // Only secrets signed tokens when these had no names.
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

/// A `NumericDate`; one that no clock shows is the last or first moment.
fn seconds(seconds: i64) -> Timestamp {
    Timestamp::from_millis(seconds.saturating_mul(1000))
}

#[cfg(test)]
mod tests;
