//! Checks that `openapi.json` documents an answer: its status, headers, media type and body.
//!
//! Every answer that a test reads is checked. If a route deviates from its documentation, a test fails.
#![expect(clippy::panic, reason = "a helper of a test may panic like the test itself")]

use std::fmt::Write as _;
use std::sync::LazyLock;

use serde_json::Value;

use super::client::Answer;

static DOCUMENT: LazyLock<Value> = LazyLock::new(doorward::openapi_document);

/// The headers that every answer may have, whatever its route: headers of the connection, headers that the description
/// of the document names, and headers for browsers.
const FIXED: [&str; 14] = [
    "access-control-allow-headers",
    "access-control-allow-methods",
    "access-control-allow-origin",
    "access-control-expose-headers",
    "access-control-max-age",
    "cache-control",
    "connection",
    "content-length",
    "content-type",
    "date",
    "referrer-policy",
    "strict-transport-security",
    "transfer-encoding",
    "x-content-type-options",
];

/// Compares an answer with the documentation of its operation. Skips paths and methods that the document does not have:
/// pages for people, the documentation itself, and requests that match no route.
#[track_caller]
pub(super) fn check(method: &str, path: &str, answer: &Answer) {
    let Some(operation) = operation(method, path) else { return };
    // A page for people shares its path with the operation that receives its form.
    if answer.header("content-type").is_some_and(|kind| kind.starts_with("text/html")) {
        return;
    }
    let told = &operation["responses"][answer.status.to_string()];
    assert!(told.is_object(), "{method} {path}: the document has no status {}: {answer:?}", answer.status);
    let headers = told["headers"].as_object().unwrap();
    for name in answer.headers.keys().map(reqwest::header::HeaderName::as_str) {
        let is_told = headers.keys().any(|told| told.eq_ignore_ascii_case(name));
        assert!(
            is_told || name == "vary" || FIXED.contains(&name),
            "{method} {path}: the document has no {name}: {answer:?}"
        );
    }
    for (name, header) in headers {
        let required = resolved(header)["required"] == true;
        assert!(!required || answer.headers.contains_key(name), "{method} {path}: no {name}: {answer:?}");
    }
    let Some(kind) = answer.header("content-type") else { return };
    let kind = kind.split(';').next().unwrap();
    let content = &told["content"][kind];
    assert!(content.is_object(), "{method} {path}: the document has no {kind}: {answer:?}");
    // An answer to `HEAD` has no body to compare.
    if kind.ends_with("json") && kind != "application/x-ndjson" && !answer.text.is_empty() {
        conforms(&answer.body, &content["schema"], &mut format!("{method} {path} {}: $", answer.status));
    }
}

fn operation(method: &str, path: &str) -> Option<&'static Value> {
    let path = path.split('?').next().unwrap();
    let method = if method == "HEAD" { "get".to_owned() } else { method.to_lowercase() };
    let (_, item) =
        DOCUMENT["paths"].as_object().unwrap().iter().filter(|(template, _)| matches(template, path)).min_by_key(
            // A fixed path takes precedence over a template.
            |(template, _)| template.matches('{').count(),
        )?;
    item.get(&method)
}

fn matches(template: &str, path: &str) -> bool {
    let (template, path) = (template.trim_end_matches('/'), path.strip_suffix('/').unwrap_or(path));
    let fits =
        |(wanted, given): (&str, &str)| if wanted.starts_with('{') { !given.is_empty() } else { wanted == given };
    template.split('/').count() == path.split('/').count() && template.split('/').zip(path.split('/')).all(fits)
}

fn resolved(value: &'static Value) -> &'static Value {
    let reference = value.get("$ref").and_then(Value::as_str);
    reference.map_or(value, |reference| DOCUMENT.pointer(reference.trim_start_matches('#')).unwrap())
}

/// Asserts that a value has the type, the members and the enumerated words of its schema.
#[track_caller]
fn conforms(value: &Value, schema: &'static Value, at: &mut String) {
    let schema = resolved(schema);
    if let Some(alternatives) = schema["oneOf"].as_array() {
        // The alternatives are null and one other schema.
        let alternative = alternatives.iter().find(|alternative| (alternative["type"] == "null") == value.is_null());
        return conforms(value, alternative.unwrap_or_else(|| panic!("{at}: {value}")), at);
    }
    if let Some(parts) = schema["allOf"].as_array() {
        let parts: Vec<_> = parts.iter().map(resolved).collect();
        for required in parts.iter().filter_map(|part| part["required"].as_array()).flatten() {
            assert!(value.get(required.as_str().unwrap()).is_some(), "{at}: no {required} in {value}");
        }
        for (name, member) in value.as_object().unwrap() {
            let property = parts.iter().find_map(|part| part["properties"].get(name));
            let property = property.unwrap_or_else(|| panic!("{at}: the document has no {name}"));
            conforms(member, property, &mut format!("{at}.{name}"));
        }
        return;
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let is_one_of = |kinds: &Value, kind: &str| {
        *kinds == kind || kinds.as_array().is_some_and(|kinds| kinds.contains(&kind.into()))
    };
    // Each integer is a number too.
    let is_of = |kinds: &Value| is_one_of(kinds, kind) || kind == "integer" && is_one_of(kinds, "number");
    assert!(is_of(&schema["type"]), "{at}: {value} is not {}", schema["type"]);
    let words = schema["enum"].as_array();
    assert!(words.is_none_or(|words| words.contains(value)), "{at}: {value} is not one of the set");
    let depth = at.len();
    for (n, item) in value.as_array().into_iter().flatten().enumerate() {
        write!(at, "[{n}]").unwrap();
        conforms(item, &schema["items"], at);
        at.truncate(depth);
    }
    let Some(members) = value.as_object() else { return };
    for required in schema["required"].as_array().into_iter().flatten() {
        assert!(members.contains_key(required.as_str().unwrap()), "{at}: no {required} in {value}");
    }
    for (name, member) in members {
        write!(at, ".{name}").unwrap();
        match (schema["properties"].get(name), &schema["additionalProperties"]) {
            (Some(property), _) => conforms(member, property, at),
            (None, Value::Object(_)) => conforms(member, &schema["additionalProperties"], at),
            _ => panic!("{at}: the document has no such member"),
        }
        at.truncate(depth);
    }
}
