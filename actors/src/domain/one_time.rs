//! One-time tokens: what a link in a mail carries.
//!
//! A token is never stored. It is derived from a random seed, which waits in the outbox with its mail, and a key that is
//! derived from the signing secret; the store keeps its hash alone. So a mail can be written again after a crash, and a
//! copy of the database is not a bundle of keys (S24; ASVS 11.5.1).

use std::fmt;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::email::{EmailKey, is_invisible};
use super::mail::MailKind;
use super::secret::Secret;
use super::time::Timestamp;

/// What the key of one-time tokens is derived for, so that no other use of the signing secret gives the same key.
const KEY_LABEL: &[u8] = b"doorward one-time tokens, version 1";
/// The length of a written token: 256 bits in base64.
const TOKEN_CHARS: usize = 43;

/// What a token is good for. It is good for nothing else (S27).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TokenPurpose {
    /// Shows that mail to the account's address arrives.
    VerifyAddress,
    /// Chooses a new password.
    ResetPassword,
    /// Shows that mail to the pending address arrives, and makes it the account's.
    ConfirmAddress,
    /// Drops the pending address. Only earlier versions issued it.
    CancelAddressChange,
    /// Takes back what was done since: the account has this address again, secrets set since are unusable, and sessions end.
    /// An account may have several.
    Undo,
}

impl TokenPurpose {
    /// Every purpose.
    pub const ALL: [Self; 5] =
        [Self::VerifyAddress, Self::ResetPassword, Self::ConfirmAddress, Self::CancelAddressChange, Self::Undo];

    /// The number under which it is stored; never given to another purpose.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::VerifyAddress => 1,
            Self::ResetPassword => 2,
            Self::ConfirmAddress => 3,
            Self::CancelAddressChange => 4,
            Self::Undo => 5,
        }
    }

    /// The number that goes into the token. Mails that earlier versions queued may still carry a link that cancels.
    const fn derivation(self) -> u8 {
        match self {
            Self::Undo => Self::CancelAddressChange.number(),
            other => other.number(),
        }
    }

    /// The purpose with this number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|purpose| purpose.number() == number)
    }

    /// What the link of such a mail is good for.
    #[must_use]
    pub const fn of_mail(kind: MailKind) -> Option<Self> {
        match kind {
            MailKind::VerifyAddress => Some(Self::VerifyAddress),
            MailKind::ResetPassword => Some(Self::ResetPassword),
            MailKind::ConfirmNewAddress => Some(Self::ConfirmAddress),
            MailKind::AddressChangePending
            | MailKind::AddressChanged
            | MailKind::PasswordChanged
            | MailKind::PassphraseChanged
            | MailKind::RecoveryUsed => Some(Self::Undo),
            _ => None,
        }
    }
}

/// 256 random bits from which a token is derived. Worthless without the key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TokenSeed([u8; 32]);

impl TokenSeed {
    /// A seed from random bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, as the store keeps them.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Debug for TokenSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenSeed(***)")
    }
}

/// SHA-256 of a written token: under what the store finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// The hash of a token as it was presented, without what a copy had around it; `None` for what cannot be one.
    #[must_use]
    pub fn of(token: &str) -> Option<Self> {
        let token = token.trim_matches(|c: char| c.is_whitespace() || is_invisible(c));
        if token.len() != TOKEN_CHARS || !token.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
            return None;
        }
        Some(Self::of_issued(&Secret::new(token.to_owned())))
    }

    /// The hash of a token that was just derived.
    pub(crate) fn of_issued(token: &Secret) -> Self {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.expose().as_bytes());
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest.as_ref());
        Self(bytes)
    }

    /// A hash as the store kept it.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The bytes, as the store keeps them.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// A token about to be issued to the account that it is issued with; it replaces an older one of the same purpose (S26), but
/// for one that undoes what was done since.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewToken {
    /// Under what it is found.
    pub hash: TokenHash,
    /// What it is good for.
    pub purpose: TokenPurpose,
    /// The address it is mailed to, or that it is about: a token for one address says nothing about another.
    pub address: EmailKey,
    /// When it was issued.
    pub issued_at: Timestamp,
    /// When it is over. Until its mail is handed over this is the latest possible end; then its life begins.
    pub expires_at: Timestamp,
}

/// Derives tokens from seeds.
pub(crate) struct OneTimeKey(hmac::Key);

impl OneTimeKey {
    /// The key that belongs to a signing secret.
    pub(crate) fn derive(signing_secret: &Secret) -> Self {
        let root = hmac::Key::new(hmac::HMAC_SHA256, signing_secret.expose().as_bytes());
        let derived = hmac::sign(&root, KEY_LABEL);
        Self(hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref()))
    }

    /// The token of a seed for a purpose: 43 URL-safe characters.
    pub(crate) fn token(&self, purpose: TokenPurpose, seed: &TokenSeed) -> Secret {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(&[purpose.derivation()]);
        context.update(&seed.0);
        Secret::new(URL_SAFE_NO_PAD.encode(context.sign().as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(secret: &str) -> OneTimeKey {
        OneTimeKey::derive(&Secret::new(secret.to_owned()))
    }

    #[test]
    fn s24_a_token_has_256_bits_and_depends_on_key_purpose_and_seed() {
        let seed = TokenSeed::from_bytes([1; 32]);
        let token = key("a").token(TokenPurpose::VerifyAddress, &seed);
        assert_eq!(token.expose().len(), TOKEN_CHARS);
        assert_eq!(token.expose(), key("a").token(TokenPurpose::VerifyAddress, &seed).expose());
        for other in [
            key("b").token(TokenPurpose::VerifyAddress, &seed),
            key("a").token(TokenPurpose::ResetPassword, &seed),
            key("a").token(TokenPurpose::VerifyAddress, &TokenSeed::from_bytes([2; 32])),
        ] {
            assert_ne!(token.expose(), other.expose());
        }
        assert!(TokenHash::of(token.expose()).is_some());
        for around in [" ", "\u{a0}", "\r\n", "\u{feff}", "\u{200b}"] {
            assert_eq!(TokenHash::of(&format!("{around}{}{around}", token.expose())), TokenHash::of(token.expose()));
        }
    }

    #[test]
    fn what_cannot_be_a_token_has_no_hash() {
        for bad in ["", "x", &"a".repeat(42), &"a".repeat(44), &"ä".repeat(21), &format!("{} ", "a".repeat(42))] {
            assert_eq!(TokenHash::of(bad), None, "{bad}");
        }
    }

    #[test]
    fn purposes_read_back() {
        for purpose in TokenPurpose::ALL {
            assert_eq!(TokenPurpose::from_number(purpose.number()), Some(purpose));
        }
    }
}
