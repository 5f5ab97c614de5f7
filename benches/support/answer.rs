//! The part of HTTP/1.1 that a load needs: requests that are built once and sent often, and answers with a length. It
//! needs less CPU than a complete client, which matters because client and server share the machine.

use std::fmt::Write as _;

/// Builds the bytes of a request. `body` is JSON; without it the request has no body headers.
pub(crate) fn request(method: &str, path: &str, headers: &[(&str, &str)], body: Option<&str>) -> Vec<u8> {
    let mut text = format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n");
    for (name, value) in headers {
        write!(text, "{name}: {value}\r\n").unwrap();
    }
    if let Some(body) = body {
        write!(text, "Content-Type: application/json\r\nContent-Length: {}\r\n", body.len()).unwrap();
    }
    text += "\r\n";
    text += body.unwrap_or_default();
    text.into_bytes()
}

/// An answer of the server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The value of `Retry-After`, if present and a whole number of seconds.
    pub(crate) retry_after: Option<u64>,
    /// Whether the server closes the connection after this answer.
    pub(crate) closes: bool,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// Parses the answer at the front of the received bytes and returns it with its length. Returns `None` while bytes
    /// are missing. Panics if the answer has no length.
    pub(crate) fn parse(received: &[u8]) -> Option<(Self, usize)> {
        let head_len = received.windows(4).position(|window| window == b"\r\n\r\n")? + 4;
        let head = std::str::from_utf8(&received[..head_len]).unwrap();
        let status = head.strip_prefix("HTTP/1.1 ").unwrap()[..3].parse().unwrap();
        let (mut body_len, mut retry_after, mut closes) = (None, None, false);
        for (name, value) in head.lines().filter_map(|line| line.split_once(':')) {
            match name.to_ascii_lowercase().as_str() {
                "content-length" => body_len = Some(value.trim().parse::<usize>().unwrap()),
                "retry-after" => retry_after = value.trim().parse().ok(),
                "connection" => closes = value.trim().eq_ignore_ascii_case("close"),
                _ => {}
            }
        }
        let len = head_len + body_len.unwrap_or_else(|| panic!("an answer without a length: {head}"));
        let body = received.get(head_len..len)?.to_vec();
        Some((Self { status, retry_after, closes, body }, len))
    }
}
