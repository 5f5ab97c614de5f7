//! One-time tokens: the credentials in the links of mails.
//!
//! A token is never stored. It is derived from a random seed, which waits in the outbox with its mail, and from a key that is
//! derived from the signing secret. The store keeps only its hash.
//! So a mail can be rendered again after a crash, and a copy of the database gives no access (S24; ASVS 11.5.1).

use std::fmt;

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use super::email::{EmailKey, is_invisible};
use super::mail::MailKind;
use super::secret::Secret;
use super::time::Timestamp;

/// The label from which the key is derived, so that no other use of the signing secret produces the same key.
const KEY_LABEL: &[u8] = b"doorward one-time tokens, version 1";
/// The length of a written token: 256 bits in base64.
const TOKEN_CHARS: usize = 43;

/// The purpose of a token. A token works for no other purpose (S27).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum TokenPurpose {
    /// Verifies the address of the account.
    VerifyAddress,
    /// Chooses a new password.
    ResetPassword,
    /// Verifies the pending address and makes it the address of the account.
    ConfirmAddress,
    /// Removes the pending address. Only earlier versions issued it.
    CancelAddressChange,
    /// Undoes the changes since it was issued: restores this address, makes secrets set since unusable and ends the sessions.
    /// An account may have several such tokens.
    Undo,
}

impl TokenPurpose {
    /// Every purpose.
    pub const ALL: [Self; 5] =
        [Self::VerifyAddress, Self::ResetPassword, Self::ConfirmAddress, Self::CancelAddressChange, Self::Undo];

    /// Returns the number under which the purpose is stored. It is never reused for another purpose.
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

    /// Returns the purpose as text.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::VerifyAddress => "verify_address",
            Self::ResetPassword => "reset_password",
            Self::ConfirmAddress => "confirm_address",
            Self::CancelAddressChange => "cancel_address_change",
            Self::Undo => "undo",
        }
    }

    /// Returns the number from which the token is derived.
    /// `Undo` shares that of `CancelAddressChange`, because mails queued by earlier versions may still contain such a link.
    const fn derivation(self) -> u8 {
        match self {
            Self::Undo => Self::CancelAddressChange.number(),
            other => other.number(),
        }
    }

    /// Returns the purpose with this number.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|purpose| purpose.number() == number)
    }

    /// Returns the purpose of the link in a mail of this kind.
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

/// The 256 random bits from which a token is derived. They are worthless without the key.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TokenSeed([u8; 32]);

impl TokenSeed {
    /// Makes a seed from random bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes, as the store keeps them.
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

/// The SHA-256 of a written token, by which the store finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// Hashes a token as it was presented, without spaces and invisible characters around it; `None` for a text that cannot be a token.
    #[must_use]
    pub fn of(token: &str) -> Option<Self> {
        let token = token.trim_matches(|c: char| c.is_whitespace() || is_invisible(c));
        if token.len() != TOKEN_CHARS || !token.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_') {
            return None;
        }
        Some(Self::of_issued(&Secret::new(token.to_owned())))
    }

    /// Hashes a token that was just derived.
    pub(crate) fn of_issued(token: &Secret) -> Self {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, token.expose().as_bytes());
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest.as_ref());
        Self(bytes)
    }

    /// Makes a hash from its stored bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Returns the bytes, as the store keeps them.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

/// A token that is to be issued to an account. It replaces an older one of the same purpose (S26), unless its purpose is `Undo`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewToken {
    /// The hash by which it is found.
    pub hash: TokenHash,
    /// Its purpose.
    pub purpose: TokenPurpose,
    /// The address that it is mailed to or is about. A token for one address proves nothing about another.
    pub address: EmailKey,
    /// When it was issued.
    pub issued_at: Timestamp,
    /// When it expires. Until its mail is handed over, this is the latest possible time; the lifetime begins with the handover.
    pub expires_at: Timestamp,
}

/// Derives tokens from seeds.
pub(crate) struct OneTimeKey(hmac::Key);

impl OneTimeKey {
    /// Derives the key from a signing secret.
    pub(crate) fn derive(signing_secret: &Secret) -> Self {
        let root = hmac::Key::new(hmac::HMAC_SHA256, signing_secret.expose().as_bytes());
        let derived = hmac::sign(&root, KEY_LABEL);
        Self(hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref()))
    }

    /// Derives the token of a seed for a purpose: 43 URL-safe characters.
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
