//! Passwords: their limits and the rules for new ones.

mod strength;

use super::secret::Secret;
use super::{email::Email, nickname::Nickname};

/// The maximum length of a password, in bytes; checked before anything is hashed (S03).
pub(crate) const MAX_BYTES: usize = 1024;
/// The length in characters from which a password needs no character classes (S02).
const LONG_ENOUGH_CHARS: usize = 15;
/// The minimum length of a password, in characters (S02).
const MIN_CHARS: usize = 8;
/// Words that an attacker of this product would try first (S04).
const PRODUCT_WORDS: [&str; 1] = ["doorward"];
/// The minimum length of a domain label that counts as a name, in bytes; this excludes `com`, `org`, `co`.
const MIN_LABEL: usize = 4;

/// A password as typed by a person: never trimmed, truncated or normalised, at most 1,024 bytes.
#[derive(Debug, Clone)]
pub struct Password(Secret);

/// The password has more than 1,024 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a password has at most 1024 bytes")]
pub struct PasswordTooLong;

/// Why a password is not good enough. The text is shown to its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WeakPassword {
    /// It has fewer than 8 characters.
    #[error("Password is too weak: it must have at least 8 characters")]
    TooShort,
    /// It has fewer than 15 characters and not all four classes.
    #[error(
        "Password is too weak: with fewer than 15 characters it must have an upper case letter, a lower case letter, \
         a digit and a special character"
    )]
    TooPlain,
    /// It is common, or similar to the account's own names.
    #[error("Password is too weak: it is too common or too easy to guess")]
    Guessable,
    /// It is on the operator's list of breached passwords.
    #[error("Password is too weak: it became known in a breach of another service")]
    Breached,
}

impl Password {
    /// Takes a password as typed; only its length is limited.
    pub fn new(typed: impl Into<Secret>) -> Result<Self, PasswordTooLong> {
        let typed = typed.into();
        if typed.expose().len() > MAX_BYTES { Err(PasswordTooLong) } else { Ok(Self(typed)) }
    }

    /// Returns the password. Only the hasher uses it.
    #[must_use]
    pub fn secret(&self) -> &Secret {
        &self.0
    }
}

/// The data that an attacker may know about the owner of a password.
#[derive(Debug, Clone, Default)]
pub struct OwnNames {
    /// The address of the account.
    pub email: Option<Email>,
    /// Its public name; `None` where using it would reveal it.
    pub nickname: Option<Nickname>,
}

impl OwnNames {
    /// Collects the names of an account with this address and, where it may be used, this nickname.
    pub(crate) fn new(email: &Email, nickname: Option<&Nickname>) -> Self {
        Self { email: Some(email.clone()), nickname: nickname.cloned() }
    }

    /// Returns the words that an attacker would try first.
    fn words(&self) -> Vec<&str> {
        let mut words = PRODUCT_WORDS.to_vec();
        if let Some(email) = self.email.as_ref().map(Email::as_str) {
            let (local, domain) = email.rsplit_once('@').unwrap_or((email, ""));
            words.extend([email, local, domain]);
            words.extend(domain.split('.').filter(|label| label.len() >= MIN_LABEL));
            words.extend(parts(local));
        }
        if let Some(nickname) = self.nickname.as_ref().map(Nickname::as_str) {
            words.push(nickname);
            words.extend(parts(nickname));
        }
        words
    }
}

/// Splits a name into its runs of letters.
fn parts(name: &str) -> impl Iterator<Item = &str> {
    name.split(|c: char| !c.is_alphabetic()).filter(|part| !part.is_empty())
}

/// The requirements for a new password.
#[derive(Debug, Clone, Copy)]
pub struct PasswordPolicy {
    /// The minimum zxcvbn score, from 0 (refuses nothing) to 4.
    pub min_score: u8,
}

/// An appraisal of a password for its owner, without the list of breached passwords.
#[derive(Debug, Clone)]
pub(crate) struct Appraisal {
    /// The score, from 0 (found at once) to 4.
    pub(crate) score: u8,
    /// Why it is not good enough; `None` if it is.
    pub(crate) weakness: Option<WeakPassword>,
    /// The problem with it, in a sentence.
    pub(crate) warning: Option<String>,
    /// Possible improvements, in sentences.
    pub(crate) suggestions: Vec<String>,
}

impl PasswordPolicy {
    /// Judges a new password: first its length and classes (S02), then how fast an attacker who knows common passwords and these names
    /// would find it (S04; ASVS 6.2.4, 6.2.11). Takes up to a few milliseconds of computing.
    pub(crate) fn appraise(self, password: &Password, names: &OwnNames) -> Appraisal {
        let text = password.secret().expose();
        let strength = strength::of(text, &names.words());
        let weakness = too_simple(text).or((strength.score < self.min_score).then_some(WeakPassword::Guessable));
        let strength::Strength { score, warning, suggestions } = strength;
        Appraisal { score, weakness, warning, suggestions }
    }

    /// As [`PasswordPolicy::appraise`], but only checks that the password is good enough.
    pub(crate) fn check(self, password: &Password, names: &OwnNames) -> Result<(), WeakPassword> {
        // This check costs nothing, so it comes first.
        if let Some(weakness) = too_simple(password.secret().expose()) {
            return Err(weakness);
        }
        self.appraise(password, names).weakness.map_or(Ok(()), Err)
    }
}

/// Returns the problem with the length and the classes of a password (S02).
fn too_simple(text: &str) -> Option<WeakPassword> {
    let chars = text.chars().count();
    if chars < MIN_CHARS {
        Some(WeakPassword::TooShort)
    } else if chars < LONG_ENOUGH_CHARS && !has_all_classes(text) {
        Some(WeakPassword::TooPlain)
    } else {
        None
    }
}

fn has_all_classes(text: &str) -> bool {
    text.chars().any(char::is_uppercase)
        && text.chars().any(char::is_lowercase)
        && text.chars().any(char::is_numeric)
        && text.chars().any(|c| !c.is_alphanumeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(password: &str) -> Result<(), WeakPassword> {
        let names =
            OwnNames::new(&Email::parse("ann.lee@example.com").unwrap(), Some(&Nickname::parse("annlee77").unwrap()));
        PasswordPolicy { min_score: 2 }.check(&Password::new(password.to_owned()).unwrap(), &names)
    }

    #[test]
    fn s02_length_or_classes() {
        assert_eq!(check("aB3$xyz"), Err(WeakPassword::TooShort));
        assert_eq!(check("quiet-lamp-tree"), Ok(()));
        assert_eq!(check("quietlamptree"), Err(WeakPassword::TooPlain));
        assert_eq!(check("qu1et-Lamp"), Ok(()));
        assert_eq!(check("тихая лампа у окна"), Ok(()));
        assert_eq!(check("Ünï 9 ok!"), Ok(()));
    }

    #[test]
    fn s03_long_passwords_pass_and_huge_ones_are_refused() {
        assert_eq!(check(&"correct horse battery staple ".repeat(4)), Ok(()));
        assert_eq!(Password::new("x".repeat(1025)).unwrap_err(), PasswordTooLong);
    }

    #[test]
    fn s04_common_passwords_and_own_names_are_refused() {
        for weak in ["Password1!", "P@ssw0rd", "Qwerty123!", "aaaaaaaaaaaaaaaaaaaa", "123456789012345"] {
            assert_eq!(check(weak), Err(WeakPassword::Guessable), "{weak}");
        }
        for own in ["ann.lee@example.com", "Annlee77!", "Ann.lee1", "Doorward1!"] {
            assert_eq!(check(own), Err(WeakPassword::Guessable), "{own}");
        }
    }

    #[test]
    fn s04_own_names_repeated_or_decorated_are_refused() {
        for own in [
            "doorwarddoorward1!A",
            "Doorward-Doorward-Doorward-1",
            "D00rw@rd2024!",
            "annlee annlee annlee",
            "Ann.Lee.Ann.Lee.1985!",
            "eelnna-eelnna-77-A",
            "My.Example.com.1!A",
            "d-o-o-r-w-a-r-d-1-A",
            "LampLampLampLamp",
            "Lamp-lAmp-laMp-lamP-1",
        ] {
            assert_eq!(check(own), Err(WeakPassword::Guessable), "{own}");
        }
        for good in ["doorward opens for blue otters", "annlee-Vq7-rbh2-doorward", "channel planning at dawn"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn a_service_that_asks_for_no_strength_gets_none() {
        let policy = PasswordPolicy { min_score: 0 };
        let password = Password::new("Password1!".to_owned()).unwrap();
        assert_eq!(policy.check(&password, &OwnNames::default()), Ok(()));
        let appraisal = policy.appraise(&password, &OwnNames::default());
        assert!(appraisal.score < 2 && appraisal.warning.is_some() && !appraisal.suggestions.is_empty());
    }
}
