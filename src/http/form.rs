//! Forms: the bodies that our pages send, and queries (`application/x-www-form-urlencoded`, WHATWG URL §5.1).
//!
//! Stricter than the standard, which would change what a user typed: text that is not UTF-8 is refused instead of
//! replaced, and no name may occur twice (S63).

use std::collections::BTreeMap;

use doorward_actors::Secret;
use zeroize::Zeroizing;

use crate::http::error::ApiError;

/// Parses the fields by name, including empty ones. For queries: an empty field there is usually a mistake, such as a variable
/// that was not set. If it were ignored, the restriction that was meant would be missing.
pub(in crate::http) fn parse(form: &[u8]) -> Result<BTreeMap<String, String>, ApiError> {
    Ok(read(form)?.into_iter().map(|(name, value)| (name, value.expose().to_owned())).collect())
}

/// Parses like [`parse`], for forms whose values may be secrets.
pub(in crate::http) fn read(form: &[u8]) -> Result<BTreeMap<String, Secret>, ApiError> {
    let mut fields = BTreeMap::new();
    for pair in form.split(|b| *b == b'&').filter(|pair| !pair.is_empty()) {
        let end = pair.iter().position(|b| *b == b'=').unwrap_or(pair.len());
        let value = decode(pair.get(end + 1..).unwrap_or_default())?;
        if fields.insert(decode(&pair[..end])?.expose().to_owned(), value).is_some() {
            return Err(ApiError::Malformed("The form has the same name twice"));
        }
    }
    Ok(fields)
}

/// Parses the fields that have a value. For bodies: a page also sends fields that the user left empty, and OAuth treats a
/// parameter without a value as not sent (RFC 6749 §3.1).
pub(in crate::http) fn filled(form: &[u8]) -> Result<BTreeMap<String, Secret>, ApiError> {
    let mut fields = read(form)?;
    fields.retain(|_, value| !value.expose().is_empty());
    Ok(fields)
}

/// Returns the value of one name in a query to which other programs may have added: they append tracking parameters, twice or
/// in any encoding. `None` if the name is missing, cannot be decoded, or has two different values.
pub(in crate::http) fn only(query: &str, name: &str) -> Option<Secret> {
    let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let mut values = pairs.filter(|(key, _)| decode(key.as_bytes()).is_ok_and(|key| key.expose() == name));
    let value = decode(values.next()?.1.as_bytes()).ok()?;
    let same = |other: &str| decode(other.as_bytes()).is_ok_and(|other| other.expose() == value.expose());
    values.all(|(_, other)| same(other)).then_some(value)
}

/// Decodes a name or a value. A percent sign that is not followed by two hexadecimal digits stands for itself.
pub(in crate::http) fn decode(encoded: &[u8]) -> Result<Secret, ApiError> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(encoded.len()));
    let mut rest = encoded;
    while let Some((&first, after)) = rest.split_first() {
        rest = after;
        bytes.push(match (first, after) {
            (b'+', _) => b' ',
            (b'%', [high, low, after @ ..]) => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => {
                    rest = after;
                    high << 4 | low
                }
                _ => b'%',
            },
            (other, _) => other,
        });
    }
    let text = std::str::from_utf8(&bytes).map_err(|_| ApiError::Malformed("The form is not valid UTF-8"))?;
    Ok(Secret::new(text.to_owned()))
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).and_then(|digit| u8::try_from(digit).ok())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn value(form: &str) -> Option<String> {
        parse(form.as_bytes()).unwrap().remove("a")
    }

    #[test]
    fn values_are_what_was_typed() {
        for (form, typed) in [
            ("a=b", "b"),
            ("x=1&a=b&y", "b"),
            ("a=b+c%20d", "b c d"),
            ("a=%2B%26%3D%25", "+&=%"),
            ("a=caf%C3%A9", "café"),
            ("a=b=c", "b=c"),
            ("a=%&b=%zz", "%"),
            ("a=%4", "%4"),
            ("&&%61=b&", "b"),
        ] {
            assert_eq!(value(form).as_deref(), Some(typed), "{form}");
        }
    }

    #[test]
    fn an_empty_field_is_none_in_a_body_and_one_in_a_query() {
        for (form, in_query) in [("", None), ("a", Some("")), ("a=", Some("")), ("b=c", None), ("&", None)] {
            assert!(!filled(form.as_bytes()).unwrap().contains_key("a"), "{form}");
            assert_eq!(value(form).as_deref(), in_query, "{form}");
        }
    }

    #[test]
    fn s63_what_can_be_read_in_two_ways_is_refused() {
        for form in [&b"a=%ff"[..], b"a=\xff", b"%ff=a", b"a=1&a=2", b"a=1&%61=2", b"a=&a=2"] {
            assert!(matches!(parse(form), Err(ApiError::Malformed(_))), "{form:?}");
        }
    }

    #[test]
    fn f21_what_others_add_to_a_link_does_not_break_it() {
        for query in [
            "token=abc",
            "utm_source=x&token=abc&utm_source=y",
            "token=abc&x=%ff&%ff=1&\u{fffd}",
            "token=abc&token=abc",
            "&&x&=&token=abc&fbclid",
            "%74oken=%61bc",
        ] {
            assert_eq!(only(query, "token").unwrap().expose(), "abc", "{query}");
        }
        for query in ["", "x=token", "token=abc&token=abd", "token=%ff", "Token=abc", "token=abc&token=%ff"] {
            assert!(only(query, "token").is_none(), "{query}");
        }
    }

    proptest! {
        #[test]
        fn r07_any_bytes_are_refused_or_read_without_a_panic(form in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&form);
        }
    }
}
