//! Strict JSON: the checks that a body passes before a handler sees it.
//!
//! The body must be UTF-8 and JSON without duplicate names, or the answer is 400. Then its fields must have the right
//! names and types, or the answer is 422. Duplicate names are refused at any depth, because two parsers may disagree on
//! which one counts (RFC 8259 §4, S63).

use std::collections::HashSet;
use std::fmt;

use serde::de::{Deserialize, DeserializeOwned, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};

use crate::http::error::{ApiError, FieldError};

/// The most characters of a field name that an answer repeats. Our own names have at most 16.
const MAX_ECHOED_CHARS: usize = 64;

/// Reads a body as `T`, which must be a struct with `deny_unknown_fields`.
pub(in crate::http) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    let text = std::str::from_utf8(body).map_err(|_| ApiError::Malformed("The request body is not valid UTF-8"))?;
    let shape: Shape = serde_json::from_str(text).map_err(|error| {
        ApiError::Malformed(if error.to_string().starts_with(DUPLICATE) {
            "The request body has a JSON object with the same name twice"
        } else {
            "The request body is not valid JSON"
        })
    })?;
    // Without this check, serde would also accept an array, by position.
    if shape != Shape::Object {
        return Err(ApiError::Invalid(vec![FieldError::new("", "This must be a JSON object")]));
    }
    let mut json = serde_json::Deserializer::from_str(text);
    serde_path_to_error::deserialize(&mut json).map_err(|error| ApiError::Invalid(vec![field_error(&error)]))
}

/// Returns where the error is and what is wrong. It repeats no value, because that may be a misplaced password (S09).
fn field_error(error: &serde_path_to_error::Error<serde_json::Error>) -> FieldError {
    use serde_path_to_error::Segment;
    let mut pointer = String::new();
    for segment in error.path() {
        match segment {
            Segment::Map { key } => push_segment(&mut pointer, key),
            Segment::Seq { index } => push_segment(&mut pointer, &index.to_string()),
            Segment::Enum { .. } | Segment::Unknown => {}
        }
    }
    let text = error.inner().to_string();
    if let Some(name) = text.strip_prefix("missing field `").and_then(|rest| rest.split('`').next()) {
        push_segment(&mut pointer, name);
        return FieldError::new(pointer, "This field is required");
    }
    if text.starts_with("unknown field `") {
        return FieldError::new(pointer, "This field is not allowed here");
    }
    // The text after `expected` is ours: a type or a list of variants. The text before it contains the client's value.
    let expected = text.rsplit_once("expected ").map_or("another type", |(_, rest)| rest);
    let expected = match expected.split(" at line ").next().unwrap_or(expected) {
        // JSON has other words for these than Rust.
        "u64" => "an integer of at least 0",
        "a sequence" => "an array",
        expected => expected,
    };
    FieldError::new(pointer, format!("This field must be {expected}"))
}

/// Appends one reference token of a JSON Pointer (RFC 6901 §3), cut to a fixed length.
fn push_segment(pointer: &mut String, name: &str) {
    pointer.push('/');
    for c in name.chars().filter(|c| !c.is_control()).take(MAX_ECHOED_CHARS) {
        match c {
            '~' => pointer.push_str("~0"),
            '/' => pointer.push_str("~1"),
            c => pointer.push(c),
        }
    }
}

const DUPLICATE: &str = "duplicate name";

/// Reads any JSON to its end, keeps nothing of it, and fails on a duplicate name. `serde_json` bounds the depth at 128.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Object,
    Other,
}

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ShapeVisitor)
    }
}

struct ShapeVisitor;

impl<'de> Visitor<'de> for ShapeVisitor {
    type Value = Shape;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Shape, A::Error> {
        let mut names = HashSet::new();
        while let Some(name) = map.next_key::<String>()? {
            if !names.insert(name) {
                return Err(A::Error::custom(DUPLICATE));
            }
            map.next_value::<Shape>()?;
        }
        Ok(Shape::Object)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Shape, A::Error> {
        while seq.next_element::<Shape>()?.is_some() {}
        Ok(Shape::Other)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Shape, E> {
        Ok(Shape::Other)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Shape, E> {
        Ok(Shape::Other)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Shape, E> {
        Ok(Shape::Other)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Shape, E> {
        Ok(Shape::Other)
    }

    fn visit_str<E>(self, _: &str) -> Result<Shape, E> {
        Ok(Shape::Other)
    }

    fn visit_unit<E>(self) -> Result<Shape, E> {
        Ok(Shape::Other)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Role {
        User,
        Admin,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Wire {
        email: String,
        lock: Option<bool>,
        role: Option<Role>,
        seconds: Option<u64>,
        scopes: Option<Vec<String>>,
    }

    fn refused(body: &str) -> (u16, String, String) {
        match parse::<Wire>(body.as_bytes()).unwrap_err() {
            ApiError::Invalid(errors) => (422, errors[0].pointer.clone(), errors[0].detail.to_string()),
            ApiError::Malformed(detail) => (400, String::new(), detail.to_owned()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn null_is_the_same_as_absent() {
        let expected = Wire { email: "x".to_owned(), lock: None, role: None, seconds: None, scopes: None };
        assert_eq!(parse::<Wire>(br#" {"email":"x","lock":null} "#).unwrap(), expected);
        assert_eq!(parse::<Wire>(br#"{"email":"x"}"#).unwrap(), expected);
    }

    #[test]
    fn s63_what_is_not_json_is_400() {
        for body in
            ["{", "nope", r#"{"email":"x"} x"#, r#"{"email":"\ud800"}"#, r#"{"email":1e999}"#, "\u{feff}{}", "{'a':1}"]
        {
            assert_eq!(refused(body), (400, String::new(), "The request body is not valid JSON".to_owned()), "{body}");
        }
        assert_eq!(refused(&"[".repeat(60_000)).0, 400);
        assert_eq!(refused(&format!("{}{}", "[".repeat(200), "]".repeat(200))).0, 400);
        assert!(matches!(parse::<Wire>(b"{\"email\":\"\xff\"}"), Err(ApiError::Malformed(_))));
    }

    #[test]
    fn s63_duplicate_names_are_400_at_any_depth() {
        for body in [
            r#"{"email":"a","email":"b"}"#,
            r#"{"email":"a","\u0065mail":"b"}"#,
            r#"{"email":"a","x":[{"y":{"z":1,"z":1}}]}"#,
            r#"[{"a":1,"a":2}]"#,
        ] {
            assert!(refused(body).2.contains("twice"), "{body}");
        }
    }

    #[test]
    fn s61_wrong_fields_are_422_and_say_where() {
        let at = |body: &str| refused(body);
        assert_eq!(at("{}"), (422, "/email".to_owned(), "This field is required".to_owned()));
        assert_eq!(at(r#"{"email":null}"#).1, "/email");
        assert_eq!(
            at(r#"{"email":"x","a/b~c":1}"#),
            (422, "/a~1b~0c".to_owned(), "This field is not allowed here".to_owned())
        );
        assert_eq!(
            at(r#"{"email":"x","lock":"yes"}"#),
            (422, "/lock".to_owned(), "This field must be a boolean".to_owned())
        );
        assert_eq!(at(r#"{"email":"x","role":"root"}"#).2, "This field must be `user` or `admin`");
        for number in ["-1", "1.5", "1.0", "\"1\"", "1e30"] {
            let body = format!(r#"{{"email":"x","seconds":{number}}}"#);
            assert_eq!(at(&body).2, "This field must be an integer of at least 0", "{number}");
        }
        assert_eq!(at(r#"{"email":"x","scopes":"y"}"#).2, "This field must be an array");
        for other in ["[]", r#"["x"]"#, "\"x\"", "1", "null", "true"] {
            assert_eq!(at(other), (422, String::new(), "This must be a JSON object".to_owned()));
        }
    }

    #[test]
    fn s09_a_refusal_repeats_no_value() {
        for body in [
            r#"{"email":["expected hunter2"]}"#,
            r#"{"email":1234567}"#,
            r#"{"email":"x","role":"hunter2"}"#,
            r#"{"email":"x","role":"expected hunter2"}"#,
            r#"{"email":"x","lock":"hunter2 expected hunter2"}"#,
        ] {
            let (_, pointer, detail) = refused(body);
            assert!(!format!("{pointer}{detail}").contains("hunter2"), "{detail}");
            assert!(!detail.contains("1234567"), "{detail}");
        }
    }

    proptest! {
        #[test]
        fn r07_any_bytes_are_refused_or_read_without_a_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse::<Wire>(&body);
        }

        #[test]
        fn r07_any_json_like_text_is_refused_or_read_without_a_panic(body in "[\\[\\]{}\":,a-e0-9 \\\\nultrsfmi`]{0,80}") {
            let _ = parse::<Wire>(body.as_bytes());
        }
    }
}
