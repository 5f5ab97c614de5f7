//! Passwords: what is taken at all, and what is good enough.

use zxcvbn::Score;

use super::secret::Secret;
use super::{email::Email, nickname::Nickname};

/// The longest password, in bytes; checked before anything is hashed (S03).
pub(crate) const MAX_BYTES: usize = 1024;
/// From this many characters on, a password needs no classes of characters (S02).
const LONG_ENOUGH_CHARS: usize = 15;
/// The fewest characters of any password (S02).
const MIN_CHARS: usize = 8;
/// How much of a password its strength is judged by, in characters: the estimate's cost grows faster than its input.
const JUDGED_CHARS: usize = 32;
/// Words that a guesser would try first at this product (S04).
const PRODUCT_WORDS: [&str; 1] = ["doorward"];

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
}

impl Password {
    /// Takes a password.
    pub fn new(typed: String) -> Result<Self, PasswordTooLong> {
        if typed.len() > MAX_BYTES { Err(PasswordTooLong) } else { Ok(Self(Secret::new(typed))) }
    }

    /// The password, for the hasher alone.
    #[must_use]
    pub fn secret(&self) -> &Secret {
        &self.0
    }
}

/// What a new password must be like.
#[derive(Debug, Clone, Copy)]
pub struct PasswordPolicy {
    /// The lowest acceptable zxcvbn score, 0 (refuse nothing) to 4.
    pub min_score: u8,
}

impl PasswordPolicy {
    /// Checks a new password of the account with these names (the nickname is left out where it must not be given away):
    /// its length and classes (S02), then how soon a guesser who
    /// knows common passwords and these names would find it (S04; ASVS 6.2.4, 6.2.11).
    pub fn check(&self, password: &Password, email: &Email, nickname: Option<&Nickname>) -> Result<(), WeakPassword> {
        let text = password.secret().expose();
        let chars = text.chars().count();
        if chars < MIN_CHARS {
            return Err(WeakPassword::TooShort);
        }
        if chars < LONG_ENOUGH_CHARS && !has_all_classes(text) {
            return Err(WeakPassword::TooPlain);
        }
        let judged: String = text.chars().take(JUDGED_CHARS).collect();
        let (local, domain) = email.as_str().rsplit_once('@').unwrap_or((email.as_str(), ""));
        let mut context = vec![email.as_str(), local, domain];
        context.extend(nickname.map(Nickname::as_str));
        context.extend(domain.split('.').filter(|label| label.len() > 3));
        context.extend(PRODUCT_WORDS);
        if score(zxcvbn::zxcvbn(&judged, &context).score()) < self.min_score {
            return Err(WeakPassword::Guessable);
        }
        Ok(())
    }
}

fn has_all_classes(text: &str) -> bool {
    text.chars().any(char::is_uppercase)
        && text.chars().any(char::is_lowercase)
        && text.chars().any(char::is_numeric)
        && text.chars().any(|c| !c.is_alphanumeric())
}

fn score(score: Score) -> u8 {
    u8::from(score)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(password: &str) -> Result<(), WeakPassword> {
        let email = Email::parse("ann.lee@example.com").unwrap();
        let nickname = Nickname::parse("annlee77").unwrap();
        PasswordPolicy { min_score: 2 }.check(&Password::new(password.to_owned()).unwrap(), &email, Some(&nickname))
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
}
