//! Mails: what is told to whom, in which language, whatever carries it.

use std::net::IpAddr;
use std::time::Duration;

use super::email::Email;
use super::one_time::TokenPurpose;
use super::secret::Secret;
use super::time::Timestamp;

/// A language that mails are written in.
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

    /// The language as a tag of RFC 5646: `en`, `de`, `fr`, `es` or `ro`.
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

    /// The language of a tag, whatever its region or script: `de-AT` is German. `None` for one that mails are not written in.
    #[must_use]
    pub fn from_tag(tag: &str) -> Option<Self> {
        let language = tag.trim().split(['-', '_']).next()?;
        Self::ALL.into_iter().find(|locale| locale.as_str().eq_ignore_ascii_case(language))
    }

    /// The best language of an `Accept-Language` header, its lines joined by commas (RFC 9110 §12.5.4, §5.3): the one with the
    /// highest weight, the earlier of two with the same. `None` when it leaves the choice to us or names none that mails are
    /// written in.
    #[must_use]
    pub fn from_accept_language(header: &str) -> Option<Self> {
        let mut named: Vec<(Self, u16)> = Vec::new();
        let mut refused = Vec::new();
        let mut any_other = 0;
        // Longer lists are somebody playing; browsers send a handful.
        for range in header.split(',').take(32) {
            let mut parts = range.split(';').map(str::trim);
            let tag = parts.next().unwrap_or_default();
            let weight = parts.find_map(|part| part.strip_prefix(['q', 'Q'])?.strip_prefix('='));
            match (Self::from_tag(tag), weight.map_or(Some(1000), thousandths)) {
                // `en-GB;q=0` refuses the English of Britain alone.
                (Some(locale), Some(0)) if tag.len() == locale.as_str().len() => refused.push(locale),
                (Some(locale), Some(weight)) => named.push((locale, weight)),
                (None, Some(weight)) if tag == "*" => any_other = any_other.max(weight),
                _ => {}
            }
        }
        named.retain(|(locale, weight)| *weight > 0 && !refused.contains(locale));
        // The first of the heaviest: `max_by_key` takes the last.
        let best = named.iter().rev().max_by_key(|(_, weight)| *weight);
        match best {
            Some((locale, weight)) if *weight >= any_other => Some(*locale),
            None if refused.is_empty() => None,
            _ if any_other == 0 => None,
            // Whatever is not named weighs more than what is.
            _ => {
                let is_named = |locale: &Self| named.iter().any(|(named, _)| named == locale);
                Self::ALL.into_iter().find(|locale| !refused.contains(locale) && !is_named(locale))
            }
        }
    }
}

/// A weight between 0 and 1 in thousandths; `None` for anything else.
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

/// What a mail is about. Each has a template of the same name in every language.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MailKind {
    /// Show that mail to this address arrives; carries a link.
    VerifyAddress,
    /// Choose a new password; carries a link.
    ResetPassword,
    /// Show that mail to the new address arrives; carries a link.
    ConfirmNewAddress,
    /// To the old address: a change to a new one was asked for; carries a link that undoes it.
    AddressChangePending,
    /// To the old address: the account has another one now; carries a link that undoes it.
    AddressChanged,
    /// The password was changed; carries a link that undoes it.
    PasswordChanged,
    /// The password was replaced by way of recovery; carries a link that undoes it.
    RecoveryUsed,
    /// The account was locked.
    AccountLocked,
    /// The account was unlocked.
    AccountUnlocked,
    /// Somebody logged in from an address that the account was not used from before.
    NewSignIn,
    /// The account was deleted.
    AccountDeleted,
    /// Somebody tried to register this address, which has an account already.
    AddressInUse,
    /// A refresh token was used again after it was replaced, and its session was ended.
    RefreshReused,
    /// The passphrase was set; carries a link that undoes it.
    PassphraseChanged,
    /// The passphrase was made unusable, and the owner may choose a new one.
    PassphraseNeeded,
}

impl MailKind {
    /// Every kind of mail.
    pub const ALL: [Self; 15] = [
        Self::VerifyAddress,
        Self::ResetPassword,
        Self::ConfirmNewAddress,
        Self::AddressChangePending,
        Self::AddressChanged,
        Self::PasswordChanged,
        Self::RecoveryUsed,
        Self::AccountLocked,
        Self::AccountUnlocked,
        Self::NewSignIn,
        Self::AccountDeleted,
        Self::AddressInUse,
        Self::RefreshReused,
        Self::PassphraseChanged,
        Self::PassphraseNeeded,
    ];

    /// The name of its template.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::VerifyAddress => "verify_address",
            Self::ResetPassword => "reset_password",
            Self::ConfirmNewAddress => "confirm_new_address",
            Self::AddressChangePending => "address_change_pending",
            Self::AddressChanged => "address_changed",
            Self::PasswordChanged => "password_changed",
            Self::RecoveryUsed => "recovery_used",
            Self::AccountLocked => "account_locked",
            Self::AccountUnlocked => "account_unlocked",
            Self::NewSignIn => "new_sign_in",
            Self::AccountDeleted => "account_deleted",
            Self::AddressInUse => "address_in_use",
            Self::RefreshReused => "refresh_reused",
            Self::PassphraseChanged => "passphrase_changed",
            Self::PassphraseNeeded => "passphrase_needed",
        }
    }

    /// Whether it carries a link with a one-time token. One that undoes a change is left out where the address is itself the
    /// outcome of a change that can still be undone.
    #[must_use]
    pub const fn has_link(self) -> bool {
        TokenPurpose::of_mail(self).is_some()
    }

    /// Whether it is sent because somebody asked for it or named its address, and not because something happened to an account.
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

    /// Whether it is worth nothing without its link.
    #[must_use]
    pub const fn is_only_a_link(self) -> bool {
        matches!(self, Self::VerifyAddress | Self::ResetPassword | Self::ConfirmNewAddress)
    }

    /// Whether the change that it belongs to must not be made without it: nobody moves an account to another address unless
    /// both addresses are told.
    #[must_use]
    pub const fn is_required(self) -> bool {
        matches!(self, Self::ConfirmNewAddress | Self::AddressChangePending)
    }

    /// Whether it is sent before the others: recovery, and what happened to an account, come before confirmations (S75).
    #[must_use]
    pub const fn is_urgent(self) -> bool {
        !matches!(self, Self::VerifyAddress | Self::ConfirmNewAddress | Self::AddressInUse)
    }
}

/// What a mail says beyond its template. A template uses what it needs.
#[derive(Debug, Clone, Default)]
pub struct MailValues {
    /// How the owner is addressed.
    pub nickname: String,
    /// The token of the link, for the kinds that have one.
    pub token: Option<Secret>,
    /// How long the link is good for.
    pub valid_for: Option<Duration>,
    /// The new address of the account.
    pub new_address: Option<Email>,
    /// When it happened.
    pub at: Option<Timestamp>,
    /// From where it was done.
    pub client_address: Option<IpAddr>,
    /// With what it was done.
    pub user_agent: Option<String>,
}

/// A mail ready to be written and sent.
#[derive(Debug, Clone)]
pub struct OutgoingMail {
    /// To whom.
    pub to: Email,
    /// What about.
    pub kind: MailKind,
    /// In which language.
    pub locale: Locale,
    /// What it says.
    pub values: MailValues,
    /// The part of `Message-ID` before the `@`: the same at each attempt, so that a duplicate can be recognised.
    pub message_key: String,
    /// When it was written, for the `Date` header: the same at each attempt.
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
