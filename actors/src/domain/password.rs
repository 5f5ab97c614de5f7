//! Passwords: what is taken at all, and what is good enough.

mod strength;

use super::secret::Secret;
use super::{email::Email, nickname::Nickname};

/// The longest password, in bytes; checked before anything is hashed (S03).
pub(crate) const MAX_BYTES: usize = 1024;
/// From this many characters on, a password needs no classes of characters (S02).
const LONG_ENOUGH_CHARS: usize = 15;
/// The fewest characters of any password (S02).
const MIN_CHARS: usize = 8;
/// Words that a guesser would try first at this product (S04).
const PRODUCT_WORDS: [&str; 1] = ["doorward"];
/// The shortest label of a domain that counts as a name of its own, in bytes: not `com`, `org`, `co`.
const MIN_LABEL: usize = 4;

/// A password as a person typed it: never trimmed, truncated or normalised, at most 1,024 bytes.
#[derive(Debug, Clone)]
pub struct Password(Secret);

/// The password has more than 1,024 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a password has at most 1024 bytes")]
pub struct PasswordTooLong;

/// Why a password is not good enough. The text is shown to its owner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum WeakPassword {
    /// Fewer than 8 characters.
    #[error("Password is too weak: it must have at least 8 characters")]
    TooShort,
    /// Fewer than 15 characters and not all four classes.
    #[error(
        "Password is too weak: with fewer than 15 characters it must have an upper case letter, a lower case letter, \
         a digit and a special character"
    )]
    TooPlain,
    /// It is common, or close to the account's own names.
    #[error("Password is too weak: it is too common or too easy to guess")]
    Guessable,
    /// It is on the operator's list of passwords that guessers have.
    #[error("Password is too weak: it became known in a breach of another service")]
    Breached,
}

impl Password {
    /// Takes a password.
    pub fn new(typed: impl Into<Secret>) -> Result<Self, PasswordTooLong> {
        let typed = typed.into();
        if typed.expose().len() > MAX_BYTES { Err(PasswordTooLong) } else { Ok(Self(typed)) }
    }

    /// The password, for the hasher alone.
    #[must_use]
    pub fn secret(&self) -> &Secret {
        &self.0
    }
}

/// What a guesser knows of the person a password is for.
#[derive(Debug, Clone, Default)]
pub struct OwnNames {
    /// The address of the account.
    pub email: Option<Email>,
    /// Its public name; left out where it must not be given away.
    pub nickname: Option<Nickname>,
}

impl OwnNames {
    /// The names of an account with this address and, where it may be known, this nickname.
    pub(crate) fn new(email: &Email, nickname: Option<&Nickname>) -> Self {
        Self { email: Some(email.clone()), nickname: nickname.cloned() }
    }

    /// Every word that a guesser would begin with.
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

/// The runs of letters in a name.
fn parts(name: &str) -> impl Iterator<Item = &str> {
    name.split(|c: char| !c.is_alphabetic()).filter(|part| !part.is_empty())
}

/// What a new password must be like.
#[derive(Debug, Clone, Copy)]
pub struct PasswordPolicy {
    /// The lowest acceptable zxcvbn score, 0 (refuse nothing) to 4.
    pub min_score: u8,
}

/// How good a password is for a person, as far as that can be told without a list of breached ones.
#[derive(Debug, Clone)]
pub(crate) struct Appraisal {
    /// 0 (found at once) to 4.
    pub(crate) score: u8,
    /// Why it is not good enough, if it is not.
    pub(crate) weakness: Option<WeakPassword>,
    /// What is wrong with it, in a sentence.
    pub(crate) warning: Option<String>,
    /// What would make it better, in sentences.
    pub(crate) suggestions: Vec<String>,
}

impl PasswordPolicy {
    /// Judges a new password: its length and classes (S02), then how soon a guesser who knows common passwords and these names
    /// would find it (S04; ASVS 6.2.4, 6.2.11). Takes up to some milliseconds of computing.
    pub(crate) fn appraise(self, password: &Password, names: &OwnNames) -> Appraisal {
        let text = password.secret().expose();
        let strength = strength::of(text, &names.words());
        let weakness = too_simple(text).or((strength.score < self.min_score).then_some(WeakPassword::Guessable));
        let strength::Strength { score, warning, suggestions } = strength;
        Appraisal { score, weakness, warning, suggestions }
    }

    /// As [`PasswordPolicy::appraise`], for who wants to know no more than whether it is good enough.
    pub(crate) fn check(self, password: &Password, names: &OwnNames) -> Result<(), WeakPassword> {
        // Costs nothing, so it comes first.
        if let Some(weakness) = too_simple(password.secret().expose()) {
            return Err(weakness);
        }
        self.appraise(password, names).weakness.map_or(Ok(()), Err)
    }
}

/// What is wrong with the length and the classes of a password (S02).
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
