//! Access tokens and the service token.

use std::time::Duration;

use doorward_actors::Secret;
pub use doorward_actors::SigningAlgorithm as Algorithm;

use super::reader::{Reader, documented};
use super::table;

/// How access tokens are signed, their claims, and the service token.
#[derive(Debug, Clone)]
pub struct TokenSettings {
    /// The secret that signs access tokens, at least 32 bytes. `None`: created at the first start and kept in the data directory.
    pub secret_key: Option<Secret>,
    /// The signing secret before the present one. Its tokens are accepted until they expire.
    pub previous_secret_key: Option<Secret>,
    /// The algorithm that signs access tokens. Tokens that another algorithm signed before are accepted until they expire.
    pub algorithm: Algorithm,
    /// The age at which a new key pair replaces a key pair; `None` for never.
    pub key_rotation: Option<Duration>,
    /// The lifetime of an access token, 1 minute to 365 days.
    pub access_token_lifetime: Duration,
    /// The `iss` claim.
    pub issuer: String,
    /// The `aud` claim.
    pub audience: String,
    /// The token that services send in `X-Service-Token`, at least 32 visible ASCII characters.
    /// `None`: created at the first start and kept in the data directory.
    pub service_token: Option<Secret>,
    /// How long a service may cache the response of `/verify`, 0 to 300 seconds.
    pub verify_cache: Duration,
}

impl TokenSettings {
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let secret_key = reader.secret(&table::SECRET_KEY);
        let previous_secret_key = reader.secret(&table::SECRET_KEY_PREVIOUS);
        let algorithm = reader.parse(&table::ALGORITHM, Algorithm::parse);
        let key_rotation = reader.integer(&table::KEY_ROTATION_DAYS);
        let access_token_lifetime = reader.minutes(&table::ACCESS_TOKEN_EXPIRE_MINUTES);
        let issuer = reader.text(&table::TOKEN_ISSUER);
        let audience = reader.text(&table::TOKEN_AUDIENCE);
        let service_token = reader.secret(&table::SERVICE_TOKEN);
        let verify_cache = reader.seconds(&table::VERIFY_CACHE_SECONDS);
        if let Some(Some(token)) = &service_token
            && !token.expose().bytes().all(|byte| byte.is_ascii_graphic())
        {
            // The token is sent in a header, which would trim or refuse any other character. No service could ever match it then.
            reader.refuse(&table::SERVICE_TOKEN, "must be visible ASCII characters without spaces".to_owned());
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
