//! The public name of an account.

use std::fmt;

use unicode_normalization::UnicodeNormalization as _;

/// The maximum length of a nickname, in characters.
const MAX_CHARS: usize = 64;

/// A nickname: 1 to 64 visible characters, in NFC, with no control or direction-changing character.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nickname {
    text: String,
    key: NicknameKey,
}

/// The form in which nicknames are compared. Nicknames that look the same to a reader (apart from letter case, width, and composed or
/// decomposed accents) have the same key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NicknameKey(String);

/// The error for a text that is not a nickname.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NicknameError {
    /// It is empty or only white space.
    #[error("a nickname has at least one visible character")]
    Empty,
    /// It has more than 64 characters.
    #[error("a nickname has at most 64 characters")]
    TooLong,
    /// It has a control, formatting or direction-changing character.
    #[error("a nickname has no control or invisible characters")]
    Invisible,
}

impl Nickname {
    /// Parses a nickname as typed by a person; removes white space around it.
    pub fn parse(typed: &str) -> Result<Self, NicknameError> {
        let typed = typed.trim();
        if typed.len() > 8 * MAX_CHARS {
            return Err(NicknameError::TooLong);
        }
        // ASCII text is already normalised. Most nicknames are ASCII, and the store parses one whenever it reads an account.
        let text: String = if typed.is_ascii() { typed.to_owned() } else { typed.nfc().collect() };
        if text.is_empty() {
            return Err(NicknameError::Empty);
        }
        if text.chars().any(is_invisible) {
            return Err(NicknameError::Invisible);
        }
        if text.chars().count() > MAX_CHARS {
            return Err(NicknameError::TooLong);
        }
        let key = if text.is_ascii() {
            text.to_ascii_lowercase()
        } else {
            text.nfkc().flat_map(char::to_lowercase).nfkc().collect()
        };
        Ok(Self { text, key: NicknameKey(key) })
    }

    /// Returns the name of an account that has none: `user-` and its number, or `user` if that is not known yet.
    #[must_use]
    pub fn numbered(account: Option<u64>) -> Self {
        let text = account.map_or_else(|| "user".to_owned(), |account| format!("user-{account}"));
        Self { key: NicknameKey(text.clone()), text }
    }

    /// Returns the name with a suffix; shortened, if it would be too long. `None` if the suffix is not visible text of fewer than 64
    /// characters.
    #[must_use]
    pub fn with_suffix(&self, suffix: &str) -> Option<Self> {
        let room = MAX_CHARS.checked_sub(suffix.chars().count())?;
        let mut text: String = self.text.chars().take(room).collect();
        text.push_str(suffix);
        Self::parse(&text).ok()
    }

    /// Returns the nickname as it is shown.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Returns the key, which is unique among accounts.
    #[must_use]
    pub fn key(&self) -> &NicknameKey {
        &self.key
    }
}

impl fmt::Display for Nickname {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl NicknameKey {
    /// Returns the key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Returns whether a character is a control character, line separator, zero-width or bidirectional formatting character (UAX #9), tag,
/// or invisible filler. Each of them can make one name look like another or break a line of a log.
fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{00AD}' | '\u{034F}' | '\u{061C}' | '\u{115F}' | '\u{1160}' | '\u{17B4}' | '\u{17B5}'
            | '\u{180B}'..='\u{180F}' | '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2060}'..='\u{206F}'
            | '\u{3164}' | '\u{FEFF}' | '\u{FFA0}' | '\u{FFF0}'..='\u{FFFB}' | '\u{E0000}'..='\u{E0FFF}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names_a_reader_would_call_the_same_share_a_key() {
        let key = |typed: &str| Nickname::parse(typed).unwrap().key().clone();
        assert_eq!(key("Ann"), key("ANN"));
        assert_eq!(key("é"), key("e\u{301}"));
        assert_eq!(key("Ａｎｎ"), key("ann"));
    }

    #[test]
    fn a_suffix_shortens_a_name_that_would_be_too_long() {
        let with = |name: &str, suffix: &str| Nickname::parse(name).unwrap().with_suffix(suffix);
        assert_eq!(with("Ann", "-7").unwrap().as_str(), "Ann-7");
        let long = with(&"ü".repeat(64), "-17").unwrap();
        assert_eq!((long.as_str().chars().count(), long.as_str().ends_with("ü-17")), (64, true));
        assert_eq!(with("Ann", &"x".repeat(65)), None);
        assert_eq!(with("Ann", "\n7"), None);
    }

    #[test]
    fn what_is_not_a_nickname_is_refused() {
        assert_eq!(Nickname::parse("  \t"), Err(NicknameError::Empty));
        assert_eq!(Nickname::parse(&"x".repeat(65)), Err(NicknameError::TooLong));
        assert_eq!(Nickname::parse(&"x".repeat(1_000_000)), Err(NicknameError::TooLong));
        for bad in ["a\nb", "a\x1b[31mb", "a\0b", "a\u{202E}b", "a\u{200B}b", "\u{3164}"] {
            assert_eq!(Nickname::parse(bad), Err(NicknameError::Invisible), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn a_nickname_parsed_again_is_itself(typed in "\\PC{1,40}") {
            if let Ok(nickname) = Nickname::parse(&typed) {
                prop_assert_eq!(Nickname::parse(nickname.as_str()).unwrap(), nickname);
            }
        }
    }
}
