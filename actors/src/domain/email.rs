//! E-mail addresses, and the key by which an account is identified.

use std::borrow::Cow;
use std::fmt;

use idna::uts46::{AsciiDenyList, Hyphens, Uts46};
use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::is_combining_mark;

/// The maximum length of an address in its ASCII form, in bytes (RFC 5321 §4.5.3.1.3, without the angle brackets).
const MAX_ADDRESS_BYTES: usize = 254;
/// The maximum length of the local part, in bytes (RFC 5321 §4.5.3.1.1).
const MAX_LOCAL_BYTES: usize = 64;

/// An e-mail address in the form to which mail is sent, together with the key that makes it unique.
///
/// The local part is NFKC-normalised and keeps its letter case; the domain is in lower case.
/// The *key* also has the local part in lower case, and the domain in IDNA ASCII form.
/// So all case and Unicode spellings of one address are one account everywhere: uniqueness, login, limits and mail (CVE-2025-24806).
/// Sub-addresses (`a+b@…`) are different mailboxes and stay different accounts. Quoted local parts and IP literals are refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Email {
    address: String,
    key: EmailKey,
}

/// The canonical form of an address: equal for all its spellings.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EmailKey(String);

/// The error for a text that is not an e-mail address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EmailError {
    /// There is no local part, no domain, or not exactly one `@`.
    #[error("an e-mail address has one part before and one after a single @")]
    Shape,
    /// The part before the `@` has an invalid character or a misplaced dot, or is too long.
    #[error("the part before the @ is not valid")]
    Local,
    /// The part after the `@` is not a domain name.
    #[error("the part after the @ is not a domain name")]
    Domain,
    /// The address is longer than 254 bytes.
    #[error("an e-mail address has at most 254 bytes")]
    TooLong,
}

impl Email {
    /// Parses an address as typed or pasted by a person; removes white space and invisible characters around it.
    pub fn parse(typed: &str) -> Result<Self, EmailError> {
        let typed = typed.trim_matches(|c: char| c.is_whitespace() || is_invisible(c));
        // Checked before any normalisation, so that a huge input costs nothing.
        if typed.len() > 4 * MAX_ADDRESS_BYTES {
            return Err(EmailError::TooLong);
        }
        let (local, domain) = typed.rsplit_once('@').ok_or(EmailError::Shape)?;
        if local.is_empty() || domain.is_empty() {
            return Err(EmailError::Shape);
        }
        let local = nfkc(local);
        check_local(&local)?;
        let ascii_domain = ascii_domain(domain)?;
        let unicode_domain = unicode_domain(&ascii_domain);
        let key = format!("{}@{ascii_domain}", nfkc(&local.to_lowercase()));
        if key.len() > MAX_ADDRESS_BYTES || local.len() + 1 + ascii_domain.len() > MAX_ADDRESS_BYTES {
            return Err(EmailError::TooLong);
        }
        Ok(Self { address: format!("{local}@{unicode_domain}"), key: EmailKey(key) })
    }

    /// Returns the address for people and mail.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.address
    }

    /// Returns whether the part before the `@` is ASCII, so that every mail server accepts the address.
    /// The domain always has an ASCII form; other local parts need `SMTPUTF8` (RFC 6531).
    #[must_use]
    pub fn has_ascii_local_part(&self) -> bool {
        self.address.rsplit_once('@').is_some_and(|(local, _)| local.is_ascii())
    }

    /// Returns the key by which the account is identified.
    #[must_use]
    pub fn key(&self) -> &EmailKey {
        &self.key
    }
}

impl fmt::Display for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address)
    }
}

impl EmailKey {
    /// Makes a key from its stored form; `None` for a text that cannot be one.
    /// It is not parsed as an address, because a key may be too long for one: lower case may be longer than the typed text.
    #[must_use]
    pub fn from_stored(key: String) -> Option<Self> {
        let (local, domain) = key.rsplit_once('@')?;
        if local.is_empty() || domain.is_empty() { None } else { Some(Self(key)) }
    }

    /// Returns the key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Checks that a local part is an RFC 5322 `dot-atom` with letters and digits of any script (RFC 6532).
/// It may also contain the marks and joiners with which many scripts are written, where UTS 46 allows them in a label.
fn check_local(local: &str) -> Result<(), EmailError> {
    let allowed = |c: char| {
        if c.is_ascii() {
            c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c)
        } else {
            c.is_alphanumeric() || joins(c)
        }
    };
    let dots = local.starts_with('.') || local.ends_with('.') || local.contains("..");
    if local.len() > MAX_LOCAL_BYTES || dots || !local.chars().all(allowed) {
        return Err(EmailError::Local);
    }
    if local.chars().any(joins) && !joined_well(local) {
        return Err(EmailError::Local);
    }
    Ok(())
}

/// Returns whether a character is part of a word only next to letters: a combining mark or a joiner.
fn joins(c: char) -> bool {
    (is_combining_mark(c) && !c.is_alphanumeric()) || matches!(c, '\u{200c}' | '\u{200d}')
}

/// Returns whether marks and joiners are where UTS 46 (sections 4.1 and 7, `ContextJ`) allows them, and none is one that UTS 46 removes
/// as invisible. Otherwise two spellings that look the same would be two accounts.
fn joined_well(local: &str) -> bool {
    let (processed, valid) = Uts46::new().to_unicode(local.as_bytes(), AsciiDenyList::EMPTY, Hyphens::Allow);
    let count = |text: &str| text.chars().filter(|c| joins(*c)).count();
    valid.is_ok() && count(&processed) >= count(local)
}

/// Returns whether a character is invisible and may surround pasted text: byte order marks, zero-width spaces, direction marks.
pub(super) fn is_invisible(c: char) -> bool {
    matches!(c, '\u{feff}' | '\u{200b}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}' | '\u{2066}'..='\u{2069}')
}

/// Normalises to NFKC. ASCII text needs none; most addresses are ASCII, and the store parses one whenever it reads an account.
fn nfkc(text: &str) -> Cow<'_, str> {
    if text.is_ascii() { Cow::Borrowed(text) } else { Cow::Owned(text.nfkc().collect()) }
}

/// Returns the domain as people read it. Only labels in IDNA encoding differ.
fn unicode_domain(ascii: &str) -> Cow<'_, str> {
    if ascii.contains("xn--") { Cow::Owned(idna::domain_to_unicode(ascii).0) } else { Cow::Borrowed(ascii) }
}

fn ascii_domain(domain: &str) -> Result<String, EmailError> {
    let plain = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.' || b == b'-';
    let ascii = if domain.bytes().all(plain) && !domain.contains("xn--") {
        // IDNA would leave it unchanged.
        Cow::Borrowed(domain)
    } else {
        idna::domain_to_ascii_cow(domain.as_bytes(), AsciiDenyList::STD3).map_err(|_| EmailError::Domain)?
    };
    let labels_fit = ascii
        .split('.')
        .all(|label| !label.is_empty() && label.len() <= 63 && !label.starts_with('-') && !label.ends_with('-'));
    // A top-level label of digits only would be an IP address without brackets.
    let top_is_a_name = ascii.rsplit('.').next().is_some_and(|top| !top.bytes().all(|b| b.is_ascii_digit()));
    if !ascii.contains('.') || ascii.len() > 253 || !labels_fit || !top_is_a_name {
        return Err(EmailError::Domain);
    }
    Ok(ascii.into_owned())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(typed: &str) -> String {
        Email::parse(typed).unwrap().key().as_str().to_owned()
    }

    #[test]
    fn s16_case_and_unicode_spellings_share_one_key() {
        assert_eq!(key("Ann.Lee@Example.COM"), "ann.lee@example.com");
        assert_eq!(key("ａｎｎ@example.com"), "ann@example.com");
        assert_eq!(key("ann@ＥＸＡＭＰＬＥ.com"), "ann@example.com");
        assert_eq!(key("ann@müller.de"), key("ann@xn--mller-kva.de"));
        assert_eq!(key("\u{212A}ate@example.com"), "kate@example.com");
    }

    #[test]
    fn the_address_keeps_what_the_owner_typed() {
        assert_eq!(Email::parse(" Ann.Lee+home@Example.com ").unwrap().as_str(), "Ann.Lee+home@example.com");
        assert_eq!(Email::parse("ann@MÜLLER.de").unwrap().as_str(), "ann@müller.de");
    }

    #[test]
    fn f23_words_of_every_script_are_local_parts() {
        for local in [
            "अजय",
            "हिन्दी",
            "विक्रम",
            "தமிழ்",
            "తెలుగు",
            "বাংলা",
            "ไทยแลนด์",
            "ខ្មែរ",
            "မြန်မာ",
            "සිංහල",
            "ශ්\u{200d}රී",
            "نام\u{200c}ه\u{200c}ها",
            "עִבְרִית",
            "العَرَبِيَّة",
            "Việt",
            "ắn",
            "한국어",
            "日本語",
            "e\u{301}",
            "हिन्दी.नाम+x",
        ] {
            let email =
                Email::parse(&format!("{local}@example.com")).unwrap_or_else(|error| panic!("{local}: {error}"));
            assert_eq!(Email::parse(email.as_str()).unwrap().key(), email.key(), "{local}");
            assert_eq!(Email::parse(email.key().as_str()).unwrap().key(), email.key(), "{local}");
        }
        for bad in [
            "\u{301}ann",
            "a.\u{301}nn",
            "a\u{200d}nn",
            "\u{200c}ann",
            "ann\u{fe0f}",
            "a\u{34f}nn",
            "a\u{e0100}",
            "a\u{200b}b",
        ] {
            assert!(Email::parse(&format!("{bad}@example.com")).is_err(), "{bad:?} was taken for a local part");
        }
    }

    #[test]
    fn f23_what_is_pasted_around_an_address_is_no_part_of_it() {
        for around in
            ["\u{feff}", " ", "\u{a0}", "\u{3000}", "\t\r\n", "\u{200b}", "\u{202a}", "\u{2060}", "\u{feff} \u{200e}"]
        {
            assert_eq!(key(&format!("{around}ann@example.com{around}")), "ann@example.com", "{around:?}");
        }
    }

    #[test]
    fn what_is_not_an_address_is_refused() {
        let long_local = format!("{}@example.com", "a".repeat(65));
        let long_domain = format!("a@{}.com", "b".repeat(64));
        let long = format!("{}@{}.example.com", "a".repeat(60), vec!["b".repeat(60); 4].join("."));
        for bad in [
            "",
            "@",
            "ann",
            "ann@",
            "@example.com",
            "ann@example",
            "a b@example.com",
            "ann@exa mple.com",
            "ann@@example.com",
            "ann@example.com\r\nBcc: x@y.z",
            "ann\0@example.com",
            "ann@example..com",
            ".ann@example.com",
            "ann.@example.com",
            "a..n@example.com",
            "\"ann\"@example.com",
            "ann@[127.0.0.1]",
            "ann@127.0.0.1",
            "ann@-example.com",
            "ann\u{202E}@example.com",
            "<ann@example.com>",
            &long_local,
            &long_domain,
            &long,
            &"x".repeat(100_000),
        ] {
            assert!(Email::parse(bad).is_err(), "{bad:?} was taken for an address");
        }
    }

    proptest! {
        #[test]
        fn the_short_way_for_plain_domains_gives_what_idna_gives(domain in "[a-z0-9.-]{1,30}") {
            let idna = idna::domain_to_ascii_cow(domain.as_bytes(), AsciiDenyList::STD3);
            let parsed = Email::parse(&format!("a@{domain}"));
            if let Ok(email) = &parsed {
                let (expected, _) = idna::domain_to_unicode(&domain);
                prop_assert_eq!(email.key().as_str(), format!("a@{}", idna.unwrap()));
                prop_assert_eq!(email.as_str(), format!("a@{expected}"));
            }
        }

        #[test]
        fn parsing_never_panics_and_never_lets_control_characters_through(typed in ".{0,80}") {
            if let Ok(email) = Email::parse(&typed) {
                prop_assert!(!email.as_str().chars().any(|c| c.is_control() || c.is_whitespace()));
                prop_assert_eq!(email.as_str().matches('@').count(), 1);
            }
        }

        #[test]
        fn an_address_parsed_again_has_the_same_key(typed in "[a-zA-Zäößिन्द\\u{301}.]{1,12}@[a-z]{1,8}\\.[a-z]{2,3}") {
            if let Ok(email) = Email::parse(&typed) {
                let again = Email::parse(email.as_str()).unwrap();
                prop_assert_eq!(again.key(), email.key());
                let by_key = Email::parse(email.key().as_str()).unwrap();
                prop_assert_eq!(by_key.key(), email.key());
            }
        }
    }
}
