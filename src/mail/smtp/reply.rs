//! Replies of a mail server (RFC 5321, section 4.2).
//!
//! Only the three digits decide. The text may be missing, long, or in any encoding. It is kept only for people.

/// The maximum size of one reply, in bytes. A reply has a few lines of at most 512 bytes (RFC 5321, section 4.5.3.1.5), but servers
/// that quote a spam report write more.
const MAX_REPLY: usize = 64 * 1024;
/// The maximum number of bytes that are kept of one line.
const MAX_KEPT: usize = 1024;

/// The kind of a reply, by its first digit (RFC 5321, section 4.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// 2yz: done.
    Completed,
    /// 3yz: the server waits for more.
    Intermediate,
    /// 4yz: a transient failure.
    Transient,
    /// 5yz: a permanent failure.
    Permanent,
}

/// One reply.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reply {
    /// The three digits, 200 to 599.
    pub(super) code: u16,
    /// The text of each line, without code and line end. Bytes that are not UTF-8 are replaced.
    pub(super) lines: Vec<String>,
}

impl Reply {
    pub(super) fn kind(&self) -> Kind {
        match self.code / 100 {
            2 => Kind::Completed,
            3 => Kind::Intermediate,
            4 => Kind::Transient,
            _ => Kind::Permanent,
        }
    }

    /// Returns all lines as one, for people.
    pub(super) fn text(&self) -> String {
        self.lines.join(" ")
    }
}

/// The error that bytes are not a reply, because the first line does not begin with a code from 200 to 599.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NoReply;

/// Assembles a reply from bytes as they arrive.
#[derive(Debug, Default)]
pub(super) struct Reader {
    line: Vec<u8>,
    code: Option<u16>,
    lines: Vec<String>,
    read: usize,
}

impl Reader {
    /// Takes bytes up to the end of the reply. Returns how many it took, and the reply once it is complete.
    ///
    /// A reply ends after [`MAX_REPLY`] bytes even if it is longer: its code is known by then.
    pub(super) fn take(&mut self, bytes: &[u8]) -> Result<(usize, Option<Reply>), NoReply> {
        for (at, &byte) in bytes.iter().enumerate() {
            self.read += 1;
            let last = if byte == b'\n' {
                self.end_line()?
            } else {
                if self.line.len() < MAX_KEPT {
                    self.line.push(byte);
                }
                false
            };
            if last || self.read >= MAX_REPLY {
                return Ok((at + 1, Some(self.finish()?)));
            }
        }
        Ok((bytes.len(), None))
    }

    /// Ends the reply after the server closed the connection. It is valid if it has its code. Returns `None` if nothing arrived.
    pub(super) fn close(&mut self) -> Result<Option<Reply>, NoReply> {
        if self.read == 0 { Ok(None) } else { self.finish().map(Some) }
    }

    fn finish(&mut self) -> Result<Reply, NoReply> {
        if !self.line.is_empty() {
            self.end_line()?;
        }
        let Self { code, lines, .. } = std::mem::take(self);
        Ok(Reply { code: code.ok_or(NoReply)?, lines })
    }

    /// Ends a line. Returns whether it is the last line of the reply.
    fn end_line(&mut self) -> Result<bool, NoReply> {
        let line = std::mem::take(&mut self.line);
        let line = line.strip_suffix(b"\r").unwrap_or(&line);
        match (code_of(line), self.code) {
            // All lines should have the same code. If they differ, the last one counts.
            (Some(code), _) => self.code = Some(code),
            // A line without a code inside a reply of several lines is a part of its text.
            (None, Some(_)) => {
                self.lines.push(lossy(line));
                return Ok(false);
            }
            (None, None) => return Err(NoReply),
        }
        let continued = line.get(3) == Some(&b'-');
        let text = line.get(3..).unwrap_or_default();
        self.lines.push(lossy(text.strip_prefix(b"-").or_else(|| text.strip_prefix(b" ")).unwrap_or(text)));
        Ok(!continued)
    }
}

fn code_of(line: &[u8]) -> Option<u16> {
    let digits = std::str::from_utf8(line.get(..3)?).ok()?;
    let plain = digits.bytes().all(|digit| digit.is_ascii_digit());
    // With a fourth digit it is a number and not a code.
    let alone = !line.get(3).is_some_and(u8::is_ascii_digit);
    let code = digits.parse().ok()?;
    (plain && alone && (200..600).contains(&code)).then_some(code)
}

fn lossy(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(bytes: &[u8]) -> Result<Option<Reply>, NoReply> {
        Reader::default().take(bytes).map(|(_, reply)| reply)
    }

    #[track_caller]
    fn code(bytes: &[u8]) -> u16 {
        read(bytes).unwrap().unwrap().code
    }

    #[test]
    fn e16_the_three_digits_decide() {
        for good in [
            b"250 ok\r\n".as_slice(),
            b"250\r\n",
            b"250 \r\n",
            b"250\n",
            b"250 ok\n",
            b"250\tok\r\n",
            b"250ok\r\n",
            b"250-one\r\n250 two\r\n",
            b"250-one\n250-\n250\n",
            b"250-one\r\nmore of it\r\n\r\n250 two\r\n",
            b"250 verf\xfcgbar\r\n",
            b"250 \0\x07\xff\r\n",
        ] {
            assert_eq!(code(good), 250, "{good:?}");
        }
        let long = [b"250 ".as_slice(), &[b'x'; 5000], b"\r\n"].concat();
        assert_eq!(code(&long), 250);
        assert_eq!(code(b"571 5.7.1 never\r\n"), 571);
        assert_eq!(code(b"550 Empf\xe4nger unbekannt\r\n"), 550);
        assert_eq!(code(b"250-one\r\n550 two\r\n"), 550);
    }

    #[test]
    fn e16_what_has_no_code_is_no_reply() {
        for bad in
            ["\r\n", "ok\r\n", "25\r\n", "99 what\r\n", "999 what\r\n", "199 what\r\n", "2500 ok\r\n", " 250 ok\r\n"]
        {
            assert_eq!(read(bad.as_bytes()), Err(NoReply), "{bad:?}");
        }
    }

    #[test]
    fn e16_an_unfinished_reply_counts_once_the_connection_is_closed() {
        for (bytes, end) in [
            ("", Ok(None)),
            ("25", Err(NoReply)),
            ("250", Ok(Some(250))),
            ("250 o", Ok(Some(250))),
            ("250-one\r\n", Ok(Some(250))),
        ] {
            let mut reader = Reader::default();
            assert_eq!(reader.take(bytes.as_bytes()).unwrap().1, None);
            assert_eq!(reader.close().map(|reply| reply.map(|reply| reply.code)), end, "{bytes:?}");
        }
    }

    #[test]
    fn e16_a_reply_is_bounded() {
        let line = [b"250-".as_slice(), &[b'x'; 9000], b"\r\n"].concat();
        let endless: Vec<u8> = line.iter().copied().cycle().take(MAX_REPLY + 5000).collect();
        let (taken, reply) = Reader::default().take(&endless).unwrap();
        assert_eq!((taken, reply.as_ref().unwrap().code), (MAX_REPLY, 250));
        assert!(reply.unwrap().text().len() <= 9 * MAX_KEPT);
    }

    proptest! {
        #[test]
        fn the_pieces_in_which_a_reply_arrives_change_nothing(
            bytes in proptest::collection::vec(prop_oneof![Just(b'\n'), Just(b'-'), Just(b'2'), Just(b'5'), any::<u8>()], 0..80),
            cut in 0_usize..80,
        ) {
            let bytes = [b"250-".as_slice(), &bytes, b"\n250 end\n"].concat();
            let whole = Reader::default().take(&bytes);
            let (first, second) = bytes.split_at(cut.min(bytes.len()));
            let mut reader = Reader::default();
            let pieces = match reader.take(first) {
                Ok((taken, None)) => reader.take(second).map(|(more, reply)| (taken + more, reply)),
                other => other,
            };
            prop_assert_eq!(whole, pieces);
        }
    }
}
