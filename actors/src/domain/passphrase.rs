//! The recovery passphrase, a credential like the password (S08).

use unicode_normalization::UnicodeNormalization as _;

use zeroize::Zeroizing;

use super::secret::Secret;

/// The maximum length of a passphrase as typed, in bytes; checked before it is normalised or hashed.
pub(crate) const MAX_BYTES: usize = 1024;

/// A recovery passphrase in the form that is hashed: NFKC, lower case, one space between words.
#[derive(Debug, Clone)]
pub struct Passphrase(Secret);

/// The error for a text that is not a passphrase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PassphraseError {
    /// It has no visible character.
    #[error("a passphrase has at least one visible character")]
    Empty,
    /// More than 1,024 bytes.
    #[error("a passphrase has at most 1024 bytes")]
    TooLong,
}

impl Passphrase {
    /// Parses a passphrase as typed by a person.
    pub fn parse(typed: &str) -> Result<Self, PassphraseError> {
        if typed.len() > MAX_BYTES {
            return Err(PassphraseError::TooLong);
        }
        let fold = || typed.nfkc().flat_map(char::to_lowercase).nfkc();
        // Allocated at its final size: a text that grows leaves copies of itself in memory.
        let mut folded = Zeroizing::new(String::with_capacity(fold().map(char::len_utf8).sum()));
        folded.extend(fold());
        let words: Vec<&str> = folded.split_whitespace().collect();
        let visible = |c: char| !c.is_control() && !c.is_whitespace() && !('\u{200B}'..='\u{200F}').contains(&c);
        if !words.iter().any(|word| word.chars().any(visible)) {
            return Err(PassphraseError::Empty);
        }
        Ok(Self(Secret::new(words.join(" "))))
    }

    /// Returns the normalised passphrase. Only the hasher uses it.
    #[must_use]
    pub fn secret(&self) -> &Secret {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s08_spelling_differences_do_not_matter() {
        let form = |typed: &str| Passphrase::parse(typed).unwrap().secret().expose().to_owned();
        assert_eq!(form("  My   FIRST\tcar "), "my first car");
        assert_eq!(form("Ｃafe\u{301}"), form("café"));
    }

    #[test]
    fn an_empty_or_a_huge_passphrase_is_refused() {
        for nothing in ["", " \n ", "\0", "\u{1b}\u{200b}"] {
            assert_eq!(Passphrase::parse(nothing).unwrap_err(), PassphraseError::Empty, "{nothing:?}");
        }
        assert_eq!(Passphrase::parse(&"x".repeat(1025)).unwrap_err(), PassphraseError::TooLong);
    }
}
