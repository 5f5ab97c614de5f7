//! Access tokens, and the token of services.

use std::time::Duration;

use doorward_actors::Secret;
pub use doorward_actors::SigningAlgorithm as Algorithm;

use super::keys;
use super::reader::{Reader, documented};

/// How access tokens are signed and what they say; what services present.
#[derive(Debug, Clone)]
pub struct TokenSettings {
    /// What signs access tokens, at least 32 bytes. `None`: made at the first start and kept in the data directory.
    pub secret_key: Option<Secret>,
    /// The signing secret before that one, whose tokens are accepted until they are over.
    pub previous_secret_key: Option<Secret>,
    /// What signs access tokens. Those that another algorithm signed before are accepted until they are over.
    pub algorithm: Algorithm,
    /// After how long a key pair gives way to a new one; `None` for never.
    pub key_rotation: Option<Duration>,
    /// How long an access token is good for, 1 minute to 365 days.
    pub access_token_lifetime: Duration,
    /// The `iss` claim.
    pub issuer: String,
    /// The `aud` claim.
    pub audience: String,
    /// What services send in `X-Service-Token`, at least 32 visible ASCII characters. `None`: made at the first start
    /// and kept in the data directory.
    pub service_token: Option<Secret>,
    /// For how long a service may keep the answer of `/verify`, 0 to 300 seconds.
    pub verify_cache: Duration,
}

impl TokenSettings {
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let secret_key = reader.secret(&keys::SECRET_KEY);
        let previous_secret_key = reader.secret(&keys::SECRET_KEY_PREVIOUS);
        let algorithm = reader.parse(&keys::ALGORITHM, Algorithm::parse);
        let key_rotation = reader.integer(&keys::KEY_ROTATION_DAYS);
        let access_token_lifetime = reader.minutes(&keys::ACCESS_TOKEN_EXPIRE_MINUTES);
        let issuer = reader.text(&keys::TOKEN_ISSUER);
        let audience = reader.text(&keys::TOKEN_AUDIENCE);
        let service_token = reader.secret(&keys::SERVICE_TOKEN);
        let verify_cache = reader.seconds(&keys::VERIFY_CACHE_SECONDS);
        if let Some(Some(token)) = &service_token
            && !token.expose().bytes().all(|byte| byte.is_ascii_graphic())
        {
            // It travels in a header, which would trim or refuse anything else, so that no service could ever match it.
            reader.refuse(&keys::SERVICE_TOKEN, "must be visible ASCII characters without spaces".to_owned());
        }
        Some(Self {
            secret_key: secret_key?,
            previous_secret_key: previous_secret_key?,
            algorithm: algorithm?,
            key_rotation: Some(key_rotation?).filter(|days| *days > 0).map(|days: u64| Duration::from_hours(24 * days)),
            access_token_lifetime: access_token_lifetime?,
            issuer: issuer?,
            audience: audience?,
            service_token: service_token?,
            verify_cache: verify_cache?,
        })
    }
}

impl Default for TokenSettings {
    /// The documented defaults.
    fn default() -> Self {
        documented(Self::read)
    }
}
