//! Prevents request smuggling: no proxy in front may find the end of a request in another place (S68).
//!
//! hyper accepts a bare line feed as a line end. If a head has both `Content-Length` and `Transfer-Encoding`, it silently drops
//! the former. Of two equal lengths it takes one. All this is allowed (RFC 9112 §2.2, §6.3), but a proxy in front may
//! decide otherwise, and requests are smuggled through the difference. So the guard checks the bytes before hyper sees
//! them. In such a head it replaces one byte by NUL, which no head may contain. hyper then answers 400 and closes.
//!
//! The guard only follows bodies with `Content-Length`. It stops at a chunked body. The edge answers every chunked
//! request with `Connection: close`, so no head comes after it.

/// The longest line that is kept while it arrives in pieces. hyper refuses heads long before this.
const MAX_LINE_BYTES: usize = 64 * 1024;

/// Watches the input of one connection.
#[derive(Debug, Default)]
pub(in crate::http) struct FramingGuard {
    state: State,
    /// The part of a line that arrived in earlier pieces.
    carried: Vec<u8>,
    head: Head,
}

#[derive(Debug, Default)]
enum State {
    #[default]
    Head,
    /// This many bytes of the body are still to come.
    Body(u64),
    /// The connection ends with this request.
    Unwatched,
}

/// What was seen of the current head.
#[derive(Debug, Default)]
struct Head {
    begun: bool,
    length: Option<u64>,
    broken_length: bool,
    transfer_encoding: bool,
}

impl FramingGuard {
    /// Checks newly arrived bytes, and makes a head among them invalid if it is ambiguous.
    pub(in crate::http) fn inspect(&mut self, bytes: &mut [u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.state {
                State::Unwatched => return,
                State::Body(left) => {
                    let skipped = usize::try_from(left).unwrap_or(usize::MAX).min(rest.len());
                    let left = left - skipped as u64;
                    self.state = if left == 0 { State::Head } else { State::Body(left) };
                    rest = &mut rest[skipped..];
                }
                State::Head => {
                    let Some(end) = rest.iter().position(|b| *b == b'\n') else {
                        self.carried.extend_from_slice(rest);
                        if self.carried.len() > MAX_LINE_BYTES {
                            self.state = State::Unwatched;
                        }
                        return;
                    };
                    if !self.line_is_fine(&rest[..end]) {
                        rest[end] = 0;
                        self.state = State::Unwatched;
                        return;
                    }
                    rest = &mut rest[end + 1..];
                }
            }
        }
    }

    /// Takes a line up to its line feed. Returns false if the line makes the head ambiguous.
    fn line_is_fine(&mut self, line: &[u8]) -> bool {
        if self.carried.is_empty() {
            let Some(line) = line.strip_suffix(b"\r") else { return false };
            return self.take(line);
        }
        let mut whole = std::mem::take(&mut self.carried);
        whole.extend_from_slice(line);
        let fine = whole.strip_suffix(b"\r").is_some_and(|line| self.take(line));
        whole.clear();
        self.carried = whole;
        fine
    }

    fn take(&mut self, line: &[u8]) -> bool {
        if !line.is_empty() {
            // The first line is the request line. It has no colon before its first space, so it is not mistaken for a field.
            self.head.begun = true;
            self.head.field(line);
            return true;
        }
        if !self.head.begun {
            // Empty lines before a request are ignored (RFC 9112 §2.2).
            return true;
        }
        let head = std::mem::take(&mut self.head);
        self.state = match head.length {
            _ if head.transfer_encoding || head.broken_length => State::Unwatched,
            Some(length) if length > 0 => State::Body(length),
            _ => State::Head,
        };
        !(head.broken_length || head.transfer_encoding && head.length.is_some())
    }
}

impl Head {
    fn field(&mut self, line: &[u8]) {
        let Some(colon) = line.iter().position(|b| *b == b':') else { return };
        let (name, value) = line.split_at(colon);
        if name.eq_ignore_ascii_case(b"content-length") {
            let value = std::str::from_utf8(&value[1..]).ok().and_then(|value| value.trim().parse().ok());
            match (value, self.length) {
                (Some(length), None) => self.length = Some(length),
                // Two lengths are refused even if they are equal, which RFC 9110 §8.6 permits.
                _ => self.broken_length = true,
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.transfer_encoding = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Returns what hyper would see if the input arrived in pieces of this size.
    fn seen(input: &str, piece: usize) -> String {
        let mut guard = FramingGuard::default();
        let mut bytes = input.as_bytes().to_vec();
        for piece in bytes.chunks_mut(piece) {
            guard.inspect(piece);
        }
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn s68_ambiguous_heads_are_spoiled_however_they_arrive() {
        for bad in [
            "GET / HTTP/1.1\nHost: x\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\n\r\n",
            "GET / HTTP/1.1\r\nHost: x\r\n\n",
            "\nGET / HTTP/1.1\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nTRANSFER-ENCODING: chunked\r\nX: y\r\ncontent-length:3\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 3, 3\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nab\nGET / HTTP/1.1\nHost: x\r\n\r\n",
        ] {
            for piece in 1..bad.len() {
                assert_eq!(seen(bad, piece).matches('\0').count(), 1, "{bad:?} in pieces of {piece}");
            }
        }
    }

    #[test]
    fn s68_other_requests_pass_untouched() {
        for good in [
            "GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\n\r\n",
            "\r\n\r\nGET / HTTP/1.1\r\n\r\n",
            "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\na\nb\n\nGET / HTTP/1.1\r\nContent-Length: 0\r\n\r\nGET / HTTP/1.1\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n\n\r\n0\r\n\r\n",
        ] {
            for piece in 1..good.len() {
                assert_eq!(seen(good, piece), good, "in pieces of {piece}");
            }
        }
    }

    proptest! {
        #[test]
        fn r07_any_bytes_are_watched_without_a_panic(input in "[ -~\\r\\n]{0,100}", piece in 1_usize..20) {
            let _ = seen(&input, piece);
        }
    }
}
