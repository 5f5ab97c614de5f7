//! Gives answers to unreadable heads the same form as all other answers.
//!
//! A head that is not HTTP, or is too large, never reaches the edge. hyper answers it itself, with a status and nothing
//! else. Such an answer is recognised on its way out, because it has no request id. It gets the body and the headers of
//! our own answers (S66).

use std::borrow::Cow;

use hyper::StatusCode;

use crate::http::edge::request_id;
use crate::http::error::Problem;

/// For how many seconds a browser uses only TLS: a year, as in the example of RFC 6797 §6.1.1. Subdomains are not
/// included, because other services may run there.
pub(in crate::http) const HSTS: &str = "max-age=31536000";

/// The longest answer that hyper writes itself, in bytes. It has about 100.
const MAX_BARE_BYTES: usize = 256;

/// Returns what to send instead of these bytes, if they are an answer that hyper wrote itself.
pub(in crate::http) fn instead_of(written: &[u8], tls: bool) -> Option<Vec<u8>> {
    if written.len() > MAX_BARE_BYTES || !written.starts_with(b"HTTP/1.1 4") {
        return None;
    }
    let head = std::str::from_utf8(written).ok()?.strip_suffix("\r\n\r\n")?;
    if head.contains("\r\n\r\n") || head.contains(request_id::X_REQUEST_ID.as_str()) {
        return None;
    }
    let status: StatusCode = head.get(9..12)?.parse().ok()?;
    let bare = head.replacen("\r\ncontent-length: 0", "", 1);
    if bare.len() == head.len() {
        return None;
    }
    let id = request_id::new();
    let id = id.to_str().ok()?;
    let detail = match status {
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE | StatusCode::URI_TOO_LONG => {
            "The head of the request is too large"
        }
        _ => "The head of the request is not valid HTTP",
    };
    let problem = Problem {
        r#type: "about:blank",
        title: status.canonical_reason().unwrap_or("Error"),
        status: status.as_u16(),
        detail: Cow::Borrowed(detail),
        instance: id,
        error: None,
        errors: &[],
    };
    let body = serde_json::to_string(&problem).ok()?;
    let hsts = if tls { format!("strict-transport-security: {HSTS}\r\n") } else { String::new() };
    tracing::debug!(status = status.as_u16(), request_id = id, "the head of a request cannot be read");
    let length = body.len();
    let answer = format!(
        "{bare}\r\ncontent-type: application/problem+json\r\ncontent-length: {length}\r\nx-request-id: {id}\r\n\
         x-content-type-options: nosniff\r\nreferrer-policy: no-referrer\r\ncache-control: no-store\r\n{hsts}\r\n{body}"
    );
    Some(answer.into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BARE: &str = "HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\ndate: now\r\n\r\n";

    #[test]
    fn s66_an_answer_without_our_headers_gets_them() {
        let answer = String::from_utf8(instead_of(BARE.as_bytes(), false).unwrap()).unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 Bad Request\r\nconnection: close\r\ndate: now\r\ncontent-type: "));
        assert_eq!(answer.matches("content-length").count(), 1, "{answer}");
        assert!(!answer.contains("strict-transport-security"), "{answer}");
        let answer = String::from_utf8(instead_of(BARE.as_bytes(), true).unwrap()).unwrap();
        assert!(answer.contains("\r\nstrict-transport-security: max-age=31536000\r\n"), "{answer}");
    }

    #[test]
    fn answers_of_ours_and_bodies_are_left_alone() {
        let long = BARE.replace("now", &"x".repeat(300));
        for other in [
            &BARE.replace("date", "x-request-id"),
            &BARE.replace("400 Bad Request", "200 OK"),
            &BARE.replace("content-length: 0", "content-length: 1"),
            &format!("{BARE}x"),
            &format!("{BARE}{BARE}"),
            &long,
            "HTTP/1.1 4",
            "",
        ] {
            assert_eq!(instead_of(other.as_bytes(), false), None, "{other}");
        }
    }
}
