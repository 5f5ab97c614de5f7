//! Mails: their kinds, languages and contents, independent of the transport.

use std::net::IpAddr;
use std::time::Duration;

use super::codes::codes;
use super::email::Email;
use super::one_time::TokenPurpose;
use super::secret::Secret;
use super::time::Timestamp;

/// A language of mails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Locale {
    /// English.
    #[default]
    En,
    /// German.
    De,
    /// French.
    Fr,
    /// Spanish.
    Es,
    /// Romanian.
    Ro,
}

impl Locale {
    /// Every language, English first.
    pub const ALL: [Self; 5] = [Self::En, Self::De, Self::Fr, Self::Es, Self::Ro];

    /// Returns the language as a tag of RFC 5646: `en`, `de`, `fr`, `es` or `ro`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::En => "en",
            Self::De => "de",
            Self::Fr => "fr",
            Self::Es => "es",
            Self::Ro => "ro",
        }
    }

    /// Returns the language of a tag, ignoring region and script: `de-AT` is German. `None` if mails are not available in it.
    #[must_use]
    pub fn from_tag(tag: &str) -> Option<Self> {
        let language = tag.trim().split(['-', '_']).next()?;
        Self::ALL.into_iter().find(|locale| locale.as_str().eq_ignore_ascii_case(language))
    }

    /// Returns the best language of an `Accept-Language` header, its lines joined by commas (RFC 9110 §12.5.4, §5.3).
    /// This is the language with the highest weight, and the earlier one of two with the same weight.
    /// `None` if the header leaves the choice to us or names no language of mails.
    #[must_use]
    pub fn from_accept_language(header: &str) -> Option<Self> {
        let mut named: Vec<(Self, u16)> = Vec::new();
        let mut refused = Vec::new();
        let mut any_other = 0;
        // Browsers send only a few ranges; the rest of a longer list is ignored.
        for range in header.split(',').take(32) {
            let mut parts = range.split(';').map(str::trim);
            let tag = parts.next().unwrap_or_default();
            let weight = parts.find_map(|part| part.strip_prefix(['q', 'Q'])?.strip_prefix('='));
            match (Self::from_tag(tag), weight.map_or(Some(1000), thousandths)) {
                // `en-GB;q=0` refuses British English only.
                (Some(locale), Some(0)) if tag.len() == locale.as_str().len() => refused.push(locale),
                (Some(locale), Some(weight)) => named.push((locale, weight)),
                (None, Some(weight)) if tag == "*" => any_other = any_other.max(weight),
                _ => {}
            }
        }
        named.retain(|(locale, weight)| *weight > 0 && !refused.contains(locale));
        // `max_by_key` returns the last maximum, and the first is wanted.
        let best = named.iter().rev().max_by_key(|(_, weight)| *weight);
        match best {
            Some((locale, weight)) if *weight >= any_other => Some(*locale),
            None if refused.is_empty() => None,
            _ if any_other == 0 => None,
            // The unnamed languages weigh more than the named ones.
            _ => {
                let is_named = |locale: &Self| named.iter().any(|(named, _)| named == locale);
                Self::ALL.into_iter().find(|locale| !refused.contains(locale) && !is_named(locale))
            }
        }
    }
}

/// Parses a weight between 0 and 1 into thousandths; `None` for anything else.
fn thousandths(weight: &str) -> Option<u16> {
    let (whole, fraction) = weight.trim().split_once('.').unwrap_or((weight.trim(), ""));
    if fraction.len() > 3 || !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let fraction: u16 = format!("{fraction:0<3}").parse().ok()?;
    match whole {
        "0" => Some(fraction),
        "1" if fraction == 0 => Some(1000),
        _ => None,
    }
}

codes! {
    /// The subject of a mail. Each kind has a template of the same name in every language.
    MailKind {
        /// Asks to verify this address; contains a link.
        VerifyAddress = 1 "verify_address",
        /// Offers to choose a new password; contains a link.
        ResetPassword = 2 "reset_password",
        /// Asks to confirm the new address; contains a link.
        ConfirmNewAddress = 3 "confirm_new_address",
        /// Tells the old address that a change of address was requested; contains a link that undoes it.
        AddressChangePending = 4 "address_change_pending",
        /// Tells the old address that the account has another address now; contains a link that undoes it.
        AddressChanged = 5 "address_changed",
        /// The password was changed; contains a link that undoes it.
        PasswordChanged = 6 "password_changed",
        /// The password was replaced by a recovery; contains a link that undoes it.
        RecoveryUsed = 7 "recovery_used",
        /// The account was locked.
        AccountLocked = 8 "account_locked",
        /// The account was unlocked.
        AccountUnlocked = 9 "account_unlocked",
        /// Somebody logged in from an address from which the account was not used before.
        NewSignIn = 10 "new_sign_in",
        /// The account was deleted.
        AccountDeleted = 11 "account_deleted",
        /// Somebody tried to register this address, which has an account already.
        AddressInUse = 12 "address_in_use",
        /// A refresh token was used again after its rotation, and its session was ended.
        RefreshReused = 13 "refresh_reused",
        /// The passphrase was set; contains a link that undoes it.
        PassphraseChanged = 14 "passphrase_changed",
        /// The passphrase was made unusable, and the owner may choose a new one.
        PassphraseNeeded = 15 "passphrase_needed",
    }
}

impl MailKind {
    /// Returns whether it contains a link with a one-time token.
    /// The undo link is left out if the address itself results from a change that can still be undone.
    #[must_use]
    pub const fn has_link(self) -> bool {
        TokenPurpose::of_mail(self).is_some()
    }

    /// Returns whether it is sent because a client requested it or named its address, and not because something happened to an account.
    #[must_use]
    pub const fn is_asked_for(self) -> bool {
        matches!(
            self,
            Self::VerifyAddress
                | Self::ResetPassword
                | Self::ConfirmNewAddress
                | Self::AddressChangePending
                | Self::AddressInUse
        )
    }

    /// Returns whether it is useless without its link.
    #[must_use]
    pub const fn is_only_a_link(self) -> bool {
        matches!(self, Self::VerifyAddress | Self::ResetPassword | Self::ConfirmNewAddress)
    }

    /// Returns whether its change must not be made without it: an account moves to another address only if both addresses are notified.
    #[must_use]
    pub const fn is_required(self) -> bool {
        matches!(self, Self::ConfirmNewAddress | Self::AddressChangePending)
    }

    /// Returns whether it is sent before the others: recovery mails and notices come before confirmations (S75).
    #[must_use]
    pub const fn is_urgent(self) -> bool {
        !matches!(self, Self::VerifyAddress | Self::ConfirmNewAddress | Self::AddressInUse)
    }
}

/// The values for a template. A template uses those that it needs.
#[derive(Debug, Clone, Default)]
pub struct MailValues {
    /// The name with which the mail addresses the owner.
    pub nickname: String,
    /// The token of the link, for the kinds that have one.
    pub token: Option<Secret>,
    /// How long the link is valid.
    pub valid_for: Option<Duration>,
    /// The new address of the account.
    pub new_address: Option<Email>,
    /// When it happened.
    pub at: Option<Timestamp>,
    /// The client address from which it was done.
    pub client_address: Option<IpAddr>,
    /// The user agent with which it was done.
    pub user_agent: Option<String>,
}

/// A mail that is ready to be rendered and sent.
#[derive(Debug, Clone)]
pub struct OutgoingMail {
    /// The recipient.
    pub to: Email,
    /// The subject.
    pub kind: MailKind,
    /// The language.
    pub locale: Locale,
    /// The values for the template.
    pub values: MailValues,
    /// The part of `Message-ID` before the `@`: the same in each attempt, so that duplicates can be recognised.
    pub message_key: String,
    /// When it was written, for the `Date` header: the same in each attempt.
    pub written_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_language_of_a_header_is_taken() {
        let best = Locale::from_accept_language;
        assert_eq!(best("de-AT,de;q=0.9,en;q=0.8"), Some(Locale::De));
        assert_eq!(best("en;q=0.2, ro;q=0.9, fr;q=0.8"), Some(Locale::Ro));
        assert_eq!(best("ja, es;q=0.5"), Some(Locale::Es));
        assert_eq!(best("FR_ca"), Some(Locale::Fr));
        assert_eq!(best("en;q=0, fr;q=0.001"), Some(Locale::Fr));
        for none in [
            "",
            "*",
            "ja",
            "ja, *;q=0.5",
            "*;q=0",
            "en;q=0",
            "de;q=0",
            "de;q=2",
            "de;q=x",
            "de;q=0.9999",
            ",,,",
            ";q=1",
        ] {
            assert_eq!(best(none), None, "{none}");
        }
    }

    #[test]
    fn f22_weights_refusals_and_any_language_are_as_rfc_9110_says() {
        let best = Locale::from_accept_language;
        for (header, locale) in [
            ("en;Q=0.2, ro;Q=0.9", Locale::Ro),
            ("de ; q=0.3 , fr ; Q=0.4", Locale::Fr),
            ("de;Q=0, fr;q=0.1", Locale::Fr),
            ("de;q=0, de-AT, fr;q=0.1", Locale::Fr),
            ("de-AT;q=0, de;q=0.5, fr;q=0.1", Locale::De),
            ("fr;q=0.5, fr-CA;q=0.9, de;q=0.7", Locale::Fr),
            ("de, *", Locale::De),
            ("*;q=0.5, de;q=0.5", Locale::De),
            ("*;q=0.5, fr;q=0.7", Locale::Fr),
            ("*;q=0, fr;q=0.1", Locale::Fr),
            ("en;q=0, *", Locale::De),
            ("en;q=0.1, de;q=0, *;q=0.5", Locale::Fr),
            ("de, fr", Locale::De),
        ] {
            assert_eq!(best(header), Some(locale), "{header}");
        }
    }
}
