//! Service tokens: the credentials of services, and what each token may do.
//!
//! A token has 256 random bits, is shown once, and is stored only as its SHA-256 hash.
//! The store finds it by that hash, whose bytes nobody can choose.
//! The duration of a look-up therefore tells nothing about any token (S50).

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::audit::ServiceName;
use super::secret::{Secret, SecretDigest};
use super::session::Acting;
use super::time::Timestamp;

/// The prefix of every token, which scanners for leaked secrets can find.
const PREFIX: &str = "dws_";
/// The length of the checksum at the end of a token, in bytes: six characters.
/// It is the start of the hash of the text before it.
const CHECK_BYTES: usize = 4;
/// The name of the token from the settings.
const BUILT_IN_NAME: &str = "default";

/// Declares the scopes, each once with its text and its bit.
macro_rules! scopes {
    ($($(#[$doc:meta])* $variant:ident = $bit:literal $text:literal,)+) => {
        /// An operation that a service may be allowed to do.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum ServiceScope { $($(#[$doc])* $variant,)+ }

        impl ServiceScope {
            /// Every scope, in the order in which they are listed.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Returns the scope as text.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// Returns the scope with this text.
            #[must_use]
            pub fn from_text(text: &str) -> Option<Self> {
                Self::ALL.iter().copied().find(|scope| scope.as_str() == text)
            }

            /// Returns the bit under which the scope is stored. It is never reused for another scope.
            const fn bit(self) -> u16 {
                match self { $(Self::$variant => 1 << $bit,)+ }
            }
        }
    };
}

scopes! {
    /// Check a user's token at `/verify`.
    Verify = 0 "verify",
    /// Introspect any token (RFC 7662).
    Introspect = 1 "introspect",
    /// End the session of a token (RFC 7009).
    Revoke = 2 "revoke",
    /// Follow the log of revocations.
    Revocations = 3 "revocations",
    /// Read the audit log.
    Audit = 4 "audit",
    /// Read the metrics of the service.
    Metrics = 5 "metrics",
    /// Take backups, which have no secrets.
    Backup = 6 "backup",
}

/// A set of scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ServiceScopes(u16);

impl ServiceScopes {
    /// The scopes of the token from the settings.
    pub const BUILT_IN: Self =
        Self(ServiceScope::Verify.bit() | ServiceScope::Introspect.bit() | ServiceScope::Metrics.bit());

    /// Returns whether the set contains this scope.
    #[must_use]
    pub const fn contains(self, scope: ServiceScope) -> bool {
        self.0 & scope.bit() != 0
    }

    /// Returns whether the set is empty.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns the scopes, in the order of [`ServiceScope::ALL`].
    pub fn iter(self) -> impl Iterator<Item = ServiceScope> {
        ServiceScope::ALL.iter().copied().filter(move |scope| self.contains(*scope))
    }

    /// Returns the bits, as the store keeps them.
    #[must_use]
    pub const fn bits(self) -> u16 {
        self.0
    }

    /// Returns the scopes of these bits; `None` if a bit belongs to no scope.
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

/// The number of a service token, never assigned twice. 0 is the token from the settings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceTokenId(u64);

impl ServiceTokenId {
    /// The token from the settings (`SERVICE_TOKEN`).
    pub const BUILT_IN: Self = Self(0);

    /// Returns the id with this number.
    #[must_use]
    pub const fn new(number: u64) -> Self {
        Self(number)
    }

    /// Returns the number.
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

/// A secret that was replaced but still works for a while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplacedSecret {
    /// Its hash.
    pub digest: SecretDigest,
    /// When it stops working.
    pub until: Timestamp,
}

/// A service token as the store keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceToken {
    /// Its number.
    pub id: ServiceTokenId,
    /// The name of the service; no two tokens have the same name.
    pub name: ServiceName,
    /// Its scopes.
    pub scopes: ServiceScopes,
    /// The hash of the secret.
    pub digest: SecretDigest,
    /// The secret before the last rotation, if there was one.
    pub replaced: Option<ReplacedSecret>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it expires, if ever.
    pub expires_at: Option<Timestamp>,
    /// When it was last used, with a precision of one minute.
    pub last_used_at: Option<Timestamp>,
}

impl ServiceToken {
    /// Returns whether this is the reserved name of the token from the settings.
    #[must_use]
    pub fn is_reserved(name: &ServiceName) -> bool {
        name.as_str() == BUILT_IN_NAME
    }

    /// Returns whether it has not expired at `now`. At the exact time of expiry it has already expired.
    #[must_use]
    pub fn is_current(&self, now: Timestamp) -> bool {
        self.expires_at.is_none_or(|end| now < end)
    }
}

/// A service token that is to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewServiceToken {
    /// The acting session, if there is one.
    pub acting: Option<Acting>,
    /// The name of the service.
    pub name: ServiceName,
    /// Its scopes.
    pub scopes: ServiceScopes,
    /// The hash of the secret.
    pub digest: SecretDigest,
    /// When it is created.
    pub created_at: Timestamp,
    /// When it expires, if ever.
    pub expires_at: Option<Timestamp>,
}

/// A new secret for an existing service token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServiceTokenRotation {
    /// The acting session, if there is one.
    pub acting: Option<Acting>,
    /// The hash of the new secret.
    pub digest: SecretDigest,
    /// When the present secret stops working. A secret that was replaced earlier stops working at once.
    pub until: Timestamp,
}

/// The maximum time for which a replaced secret still works.
pub const MAX_OVERLAP: Duration = Duration::from_hours(30 * 24);

/// Makes a secret: `dws_`, 43 characters of 256 random bits and 6 characters of a checksum.
/// The checksum lets a scanner tell a secret from a text that only looks like one.
/// It is the first four bytes of the SHA-256 of the text before it.
pub(crate) fn make_secret(random: &[u8; 32]) -> Secret {
    let mut secret = String::with_capacity(PREFIX.len() + 49);
    secret.push_str(PREFIX);
    URL_SAFE_NO_PAD.encode_string(random, &mut secret);
    let check = SecretDigest::of(secret.as_bytes());
    URL_SAFE_NO_PAD.encode_string(&check.as_bytes()[..CHECK_BYTES], &mut secret);
    Secret::new(secret)
}

/// Returns the name of the token from the settings.
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
