//! Access tokens: what a client carries to say which session it speaks for.
//!
//! A token proves only that Doorward issued it for a session; whether that session is alive, and whose account it is
//! now, the session's shard and the store say at every use.

use jsonwebtoken::{DecodingKey, EncodingKey, Header, Validation};
use serde::{Deserialize, Serialize};

use super::account::{Account, AccountId};
use super::secret::Secret;
use super::session::{Session, SessionId};
use super::time::Timestamp;

/// The media type of an access token (RFC 9068 §2.1). Nothing else that is signed carries it (S47).
const TOKEN_TYPE: &str = "at+jwt";
/// How far ahead of our clock `nbf` and `iat` may lie, in seconds: room for a clock that was set back a little. The end
/// of a token has no leeway, as issuer and verifier read the same clock.
const NOT_BEFORE_LEEWAY_SECONDS: i64 = 5;
/// The longest token that is looked at, in bytes. Ours have about 400.
const MAX_TOKEN_BYTES: usize = 4096;

/// With what access tokens are signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SigningAlgorithm {
    /// HMAC with SHA-256.
    Hs256,
    /// HMAC with SHA-384.
    Hs384,
    /// HMAC with SHA-512.
    Hs512,
}

impl From<SigningAlgorithm> for jsonwebtoken::Algorithm {
    fn from(algorithm: SigningAlgorithm) -> Self {
        match algorithm {
            SigningAlgorithm::Hs256 => Self::HS256,
            SigningAlgorithm::Hs384 => Self::HS384,
            SigningAlgorithm::Hs512 => Self::HS512,
        }
    }
}

/// How access tokens are made.
#[derive(Debug, Clone)]
pub struct TokenSettings {
    /// The one algorithm that is used and accepted (RFC 8725 §3.1).
    pub algorithm: SigningAlgorithm,
    /// The signing secret, at least 32 bytes.
    pub secret: Secret,
    /// The `iss` claim.
    pub issuer: String,
    /// The `aud` claim.
    pub audience: String,
}

/// Issues and verifies access tokens. It is the only place that knows the signing key.
pub(crate) struct AccessTokens {
    header: Header,
    /// The header as it stands in every token we issue. A token with any other header (another `alg`, a `kid`, `jku`,
    /// `x5u` or `jwk`, another `typ`) is not ours, so it is refused before anything in it is believed (S43).
    header_segment: String,
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
    issuer: String,
    audience: String,
}

/// The token is not one of ours, or its time is over. Why is not told apart: nobody outside may learn it (S51).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InvalidToken;

/// What a valid token says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct VerifiedToken {
    pub(crate) account: AccountId,
    pub(crate) session: SessionId,
    /// From when on it is good, less the leeway, and until when; seconds since the Unix epoch.
    pub(crate) not_before: i64,
    pub(crate) expires: i64,
    /// The `iat` claim.
    pub(crate) issued_at: Timestamp,
    /// The `exp` claim.
    pub(crate) expires_at: Timestamp,
}

impl VerifiedToken {
    /// Whether its time is now. The moment of expiry itself counts as over (RFC 7519 §4.1.4).
    pub(crate) fn is_current(&self, now: Timestamp) -> bool {
        (self.not_before..self.expires).contains(&now.as_seconds())
    }
}

/// What is signed. `id`, `nickname` and `role` are the established claims; they say how things stood at login.
#[derive(Serialize)]
struct IssuedClaims<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: String,
    sid: String,
    iat: i64,
    nbf: i64,
    exp: i64,
    id: u64,
    nickname: &'a str,
    role: &'a str,
}

/// What is read back. Every field is required and typed, so a token that lacks or mistypes one is refused (S45).
#[derive(Deserialize)]
struct ReadClaims {
    #[serde(rename = "iss")]
    _issuer: String,
    #[serde(rename = "aud")]
    _audience: String,
    sub: String,
    sid: String,
    iat: i64,
    nbf: i64,
    exp: i64,
}

impl AccessTokens {
    pub(crate) fn new(settings: &TokenSettings) -> Result<Self, jsonwebtoken::errors::Error> {
        let mut header = Header::new(settings.algorithm.into());
        header.typ = Some(TOKEN_TYPE.to_owned());
        let encoding = EncodingKey::from_secret(settings.secret.expose().as_bytes());
        let decoding = DecodingKey::from_secret(settings.secret.expose().as_bytes());
        let sample = jsonwebtoken::encode(&header, &(), &encoding)?;
        let header_segment = sample.split('.').next().unwrap_or_default().to_owned();

        let mut validation = Validation::new(settings.algorithm.into());
        validation.set_required_spec_claims(&["exp", "nbf", "iss", "aud", "sub"]);
        validation.set_issuer(&[&settings.issuer]);
        validation.set_audience(&[&settings.audience]);
        // The library reads the ambient clock; the times are checked below against ours.
        validation.validate_exp = false;
        validation.validate_nbf = false;
        Ok(Self {
            header,
            header_segment,
            encoding,
            decoding,
            validation,
            issuer: settings.issuer.clone(),
            audience: settings.audience.clone(),
        })
    }

    /// A token for a session of an account, valid as long as the session may live.
    pub(crate) fn issue(&self, account: &Account, session: &Session) -> Result<Secret, jsonwebtoken::errors::Error> {
        let issued_at = session.created_at.as_seconds();
        let claims = IssuedClaims {
            iss: &self.issuer,
            aud: &self.audience,
            sub: account.id.to_string(),
            sid: session.id.to_string(),
            iat: issued_at,
            nbf: issued_at,
            exp: session.expires_at.as_seconds(),
            id: account.id.get(),
            nickname: account.nickname.as_str(),
            role: account.role.as_str(),
        };
        jsonwebtoken::encode(&self.header, &claims, &self.encoding).map(Secret::new)
    }

    /// The `iss` and the `aud` of every token.
    pub(crate) fn issuer_and_audience(&self) -> (&str, &str) {
        (&self.issuer, &self.audience)
    }

    /// What a presented token says, if we issued it and its time is now.
    pub(crate) fn verify(&self, token: &str, now: Timestamp) -> Result<VerifiedToken, InvalidToken> {
        let ours = token.len() <= MAX_TOKEN_BYTES
            && token.strip_prefix(&self.header_segment).is_some_and(|rest| rest.starts_with('.'));
        if !ours {
            return Err(InvalidToken);
        }
        let claims = jsonwebtoken::decode::<ReadClaims>(token, &self.decoding, &self.validation)
            .map_err(|_| InvalidToken)?
            .claims;
        let account = claims.sub.parse().ok().and_then(AccountId::new).ok_or(InvalidToken)?;
        let session = SessionId::parse(&claims.sid).ok_or(InvalidToken)?;
        let not_before = claims.nbf.max(claims.iat).saturating_sub(NOT_BEFORE_LEEWAY_SECONDS);
        let seconds = |seconds: i64| Timestamp::from_millis(seconds.saturating_mul(1000));
        let verified = VerifiedToken {
            account,
            session,
            not_before,
            expires: claims.exp,
            issued_at: seconds(claims.iat),
            expires_at: seconds(claims.exp),
        };
        if verified.is_current(now) { Ok(verified) } else { Err(InvalidToken) }
    }
}

#[cfg(test)]
mod tests;
