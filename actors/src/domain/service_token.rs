//! Service tokens: what services show to say who they are, and what each of them may do.
//!
//! A token has 256 random bits, is shown once and kept as its SHA-256 alone. It is found by that hash, whose bytes nobody can
//! choose: how long a look-up takes says nothing about any token (S50).

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::audit::ServiceName;
use super::secret::{Secret, SecretDigest};
use super::session::Acting;
use super::time::Timestamp;

/// What every token begins with, so that scanners for leaked secrets find it.
const PREFIX: &str = "dws_";
/// How many bytes of the hash of what stands before it make the checksum at the end: six characters.
const CHECK_BYTES: usize = 4;
/// The name of the token of the settings.
const BUILT_IN_NAME: &str = "default";

/// Declares the scopes, each with its written form and its bit, each said once.
macro_rules! scopes {
    ($($(#[$doc:meta])* $variant:ident = $bit:literal $text:literal,)+) => {
        /// Something that a service may do.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ServiceScope { $($(#[$doc])* $variant,)+ }

        impl ServiceScope {
            /// Every scope, in the order in which they are listed.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The scope as it is written.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// The scope that is written so.
            #[must_use]
            pub fn from_text(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|scope| scope.as_str() == text)
            }

            /// The bit under which it is stored; never given to another scope.
            const fn bit(self) -> u16 {
                match self { $(Self::$variant => 1 << $bit,)+ }
            }
        }
    };
}

scopes! {
    /// Ask about a user's token at `/verify`.
    Verify = 0 "verify",
    /// Ask about any token (RFC 7662).
    Introspect = 1 "introspect",
    /// End the session of a token (RFC 7009).
    Revoke = 2 "revoke",
    /// Follow what was revoked.
    Revocations = 3 "revocations",
    /// Read the audit log.
    Audit = 4 "audit",
    /// See how the service is inside.
    Metrics = 5 "metrics",
    /// Take backups. No route asks for it yet.
    Backup = 6 "backup",
}

/// A set of scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ServiceScopes(u16);

impl ServiceScopes {
    /// What the token of the settings may do.
    pub const BUILT_IN: Self =
        Self(ServiceScope::Verify.bit() | ServiceScope::Introspect.bit() | ServiceScope::Metrics.bit());

    /// Whether this scope is among them.
    #[must_use]
    pub const fn contains(self, scope: ServiceScope) -> bool {
        self.0 & scope.bit() != 0
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The scopes, in the order of [`ServiceScope::ALL`].
    pub fn iter(self) -> impl Iterator<Item = ServiceScope> {
        ServiceScope::ALL.iter().copied().filter(move |scope| self.contains(*scope))
    }

    /// The bits, as the store keeps them.
    #[must_use]
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// The scopes of these bits; `None` if one of them is no scope's.
    #[must_use]
    pub fn from_bits(bits: u16) -> Option<Self> {
        let known: Self = ServiceScope::ALL.iter().copied().collect();
        (bits & !known.0 == 0).then_some(Self(bits))
    }
}

impl FromIterator<ServiceScope> for ServiceScopes {
    fn from_iter<I: IntoIterator<Item = ServiceScope>>(scopes: I) -> Self {
        Self(scopes.into_iter().fold(0, |bits, scope| bits | scope.bit()))
    }
}

/// The number of a service token, given once and never again. 0 is the token of the settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceTokenId(u64);

impl ServiceTokenId {
    /// The token of the settings (`SERVICE_TOKEN`).
    pub const BUILT_IN: Self = Self(0);

    /// The token with this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for ServiceTokenId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A secret that was replaced and works for a while longer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplacedSecret {
    /// Its hash.
    pub digest: SecretDigest,
    /// When it is over.
    pub until: Timestamp,
}

/// A service token as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceToken {
    /// Its number.
    pub id: ServiceTokenId,
    /// Whose it is; no two tokens have the same name.
    pub name: ServiceName,
    /// What it may do.
    pub scopes: ServiceScopes,
    /// The hash of the secret.
    pub digest: SecretDigest,
    /// The secret before it, where it was rotated.
    pub replaced: Option<ReplacedSecret>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it is over, if ever.
    pub expires_at: Option<Timestamp>,
    /// When it was last used, to the minute.
    pub last_used_at: Option<Timestamp>,
}

impl ServiceToken {
    /// The name of the token of the settings, which nobody else may have.
    #[must_use]
    pub fn is_reserved(name: &ServiceName) -> bool {
        name.as_str() == BUILT_IN_NAME
    }

    /// Whether it is not over at `now`. The moment of expiry itself counts as over.
    #[must_use]
    pub fn is_current(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|end| now < end)
    }
}

/// A service token about to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewServiceToken {
    /// In whose name it is made, if in anybody's.
    pub acting: Option<Acting>,
    /// Whose it is.
    pub name: ServiceName,
    /// What it may do.
    pub scopes: ServiceScopes,
    /// The hash of the secret.
    pub digest: SecretDigest,
    /// When it is made.
    pub created_at: Timestamp,
    /// When it is over, if ever.
    pub expires_at: Option<Timestamp>,
}

/// A new secret for an existing service token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServiceTokenRotation {
    /// In whose name it is made, if in anybody's.
    pub acting: Option<Acting>,
    /// The hash of the new secret.
    pub digest: SecretDigest,
    /// When the present secret is over. One that was replaced before it is over at once.
    pub until: Timestamp,
}

/// How long a replaced secret may go on working, at most.
pub const MAX_OVERLAP: Duration = Duration::from_hours(30 * 24);

/// Makes a secret: `dws_`, 43 characters of 256 random bits and 6 of a checksum, so that a scanner can tell one from a text that
/// only looks like it. The checksum is the first four bytes of the SHA-256 of what stands before it.
pub(crate) fn make_secret(random: &[u8; 32]) -> Secret {
    let mut secret = String::with_capacity(PREFIX.len() + 49);
    secret.push_str(PREFIX);
    URL_SAFE_NO_PAD.encode_string(random, &mut secret);
    let check = SecretDigest::of(secret.as_bytes());
    URL_SAFE_NO_PAD.encode_string(&check.as_bytes()[..CHECK_BYTES], &mut secret);
    Secret::new(secret)
}

/// The name of the token of the settings.
pub(crate) fn built_in_name() -> Option<ServiceName> {
    ServiceName::parse(BUILT_IN_NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scopes_read_back_and_keep_their_bits() {
        for (n, scope) in ServiceScope::ALL.iter().enumerate() {
            assert_eq!(ServiceScope::from_text(scope.as_str()), Some(*scope));
            assert_eq!(scope.bit(), 1 << n);
            let alone: ServiceScopes = [*scope].into_iter().collect();
            assert_eq!(alone.iter().collect::<Vec<_>>(), [*scope]);
            assert_eq!(ServiceScopes::from_bits(alone.bits()), Some(alone));
        }
        assert_eq!(ServiceScopes::from_bits(1 << ServiceScope::ALL.len()), None);
        assert_eq!(
            ServiceScopes::BUILT_IN.iter().map(ServiceScope::as_str).collect::<Vec<_>>(),
            ["verify", "introspect", "metrics"]
        );
        assert!(ServiceScopes::default().is_empty() && !ServiceScopes::BUILT_IN.is_empty());
    }

    #[test]
    fn s50_a_secret_has_a_prefix_256_bits_and_a_checksum() {
        let (one, two) = (make_secret(&[1; 32]), make_secret(&[0xFF; 32]));
        assert_ne!(one.expose(), two.expose());
        for secret in [one, two] {
            let (body, check) = secret.expose().split_at(47);
            assert!(body.starts_with("dws_"));
            assert_eq!(URL_SAFE_NO_PAD.decode(&body[4..]).unwrap().len(), 32);
            let expected = SecretDigest::of(body.as_bytes());
            assert_eq!(URL_SAFE_NO_PAD.decode(check).unwrap(), &expected.as_bytes()[..4]);
        }
    }

    #[test]
    fn the_moment_of_expiry_is_over() {
        let at = Timestamp::from_millis;
        let token = ServiceToken {
            id: ServiceTokenId::new(1),
            name: ServiceName::parse("billing").unwrap(),
            scopes: ServiceScopes::BUILT_IN,
            digest: SecretDigest::of(b"x"),
            replaced: None,
            created_at: at(0),
            expires_at: Some(at(10)),
            last_used_at: None,
        };
        assert!(token.is_current(at(9)) && !token.is_current(at(10)));
        assert!(ServiceToken { expires_at: None, ..token }.is_current(at(i64::MAX)));
        assert!(built_in_name().is_some_and(|name| ServiceToken::is_reserved(&name)));
    }
}
