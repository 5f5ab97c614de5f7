//! Replaces each e-mail address in the log by a pseudonym, unless the operator wants addresses in the log. This includes addresses in
//! responses of mail servers and in log lines of libraries.

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io;
use std::sync::Arc;

use aws_lc_rs::hmac::{self, HMAC_SHA256};
use doorward_actors::Email;
use tracing_subscriber::fmt::MakeWriter;

/// The number of hash bytes in a pseudonym: short enough to read, and long enough to distinguish a million addresses.
const SHOWN_BYTES: usize = 6;

/// Gives the same address the same pseudonym until the process ends. The key is created at each start and stored nowhere, so an
/// attacker cannot test addresses against a log afterwards.
#[derive(Debug, Clone)]
pub(super) struct Pseudonyms {
    key: hmac::Key,
}

impl Pseudonyms {
    pub(super) fn new(key: &[u8; 32]) -> Self {
        Self { key: hmac::Key::new(HMAC_SHA256, key) }
    }

    /// Returns the line with every address replaced.
    fn rewrite<'a>(&self, line: &'a str) -> Cow<'a, str> {
        let mut rewritten = String::new();
        let mut rest = line;
        while let Some(at) = rest.find('@') {
            let (before, after) = (&rest[..at], &rest[at + 1..]);
            let local = before.len() - before.trim_end_matches(is_local).len();
            let domain = after[..after.len() - after.trim_start_matches(is_domain).len()].trim_end_matches(['.', '-']);
            if local == 0 || domain.is_empty() {
                rewritten.push_str(&rest[..=at]);
                rest = after;
                continue;
            }
            let (kept, address) = (&before[..at - local], &rest[at - local..at + 1 + domain.len()]);
            rewritten.push_str(kept);
            self.write(&mut rewritten, address);
            rest = &after[domain.len()..];
        }
        if rewritten.is_empty() {
            return Cow::Borrowed(line);
        }
        rewritten.push_str(rest);
        Cow::Owned(rewritten)
    }

    fn write(&self, line: &mut String, address: &str) {
        let hash = match Email::parse(address) {
            Ok(email) => hmac::sign(&self.key, email.key().as_str().as_bytes()),
            Err(_) => hmac::sign(&self.key, address.as_bytes()),
        };
        line.push_str("email:");
        for byte in &hash.as_ref()[..SHOWN_BYTES] {
            // Writing to a string cannot fail.
            let _ = write!(line, "{byte:02x}");
        }
    }
}

/// Returns whether a character may precede the `@`. RFC 5322 allows more; without this limit, a field's name would become a part of
/// the address.
fn is_local(c: char) -> bool {
    c.is_alphanumeric() || "!#$%&'*+^_~.-".contains(c)
}

fn is_domain(c: char) -> bool {
    c.is_alphanumeric() || c == '-' || c == '.'
}

/// A writer of whole lines that replaces addresses, unless it has no pseudonyms.
#[derive(Clone)]
pub(super) struct Pseudonymous<W> {
    inner: W,
    pseudonyms: Option<Arc<Pseudonyms>>,
}

impl<W> Pseudonymous<W> {
    /// Creates a writer. `None` keeps addresses unchanged.
    pub(super) fn new(inner: W, pseudonyms: Option<Pseudonyms>) -> Self {
        Self { inner, pseudonyms: pseudonyms.map(Arc::new) }
    }
}

impl<'a, W: MakeWriter<'a>> MakeWriter<'a> for Pseudonymous<W> {
    type Writer = Pseudonymous<W::Writer>;

    fn make_writer(&'a self) -> Self::Writer {
        Pseudonymous { inner: self.inner.make_writer(), pseudonyms: self.pseudonyms.clone() }
    }
}

impl<W: io::Write> io::Write for Pseudonymous<W> {
    /// Takes one whole event: the log writes each event with one call.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        match &self.pseudonyms {
            Some(pseudonyms) if line.contains(&b'@') => {
                self.inner.write_all(pseudonyms.rewrite(&String::from_utf8_lossy(line)).as_bytes())?;
            }
            _ => self.inner.write_all(line)?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rewrite(line: &str) -> String {
        Pseudonyms::new(&[7; 32]).rewrite(line).into_owned()
    }

    #[test]
    fn an_address_has_one_pseudonym_however_it_is_spelt() {
        let one = rewrite("ann@example.com");
        assert!(one.starts_with("email:") && one.len() == 18, "{one}");
        assert_eq!(rewrite("Ann@EXAMPLE.com"), one);
        assert_ne!(rewrite("bob@example.com"), one);
        assert_ne!(Pseudonyms::new(&[8; 32]).rewrite("ann@example.com"), one);
    }

    #[test]
    fn what_stands_around_an_address_stays() {
        let one = rewrite("ann@example.com");
        for (before, after) in
            [("to=", " error=x"), ("<", ">"), ("\"", "\","), ("550 5.1.1 <", ">: no such user."), ("at ", ".\n")]
        {
            assert_eq!(rewrite(&format!("{before}ann@example.com{after}")), format!("{before}{one}{after}"));
        }
        let two = rewrite("bob@example.com");
        assert_eq!(rewrite("ann@example.com,bob@example.com"), format!("{one},{two}"));
        for untouched in ["", "no address", "@", "a @ b", "@example.com", "ann@", "ann@[192.0.2.1]"] {
            assert_eq!(rewrite(untouched), untouched);
        }
    }

    proptest! {
        #[test]
        fn no_address_is_left(before in "[ =<\"]{0,3}", local in "[a-zä]{1,9}([.+][a-z]{1,9})?", domain in "[a-z]{1,9}\\.[a-z]{2,5}", after in "[ >\",.]{0,3}") {
            let address = format!("{local}@{domain}");
            let line = rewrite(&format!("{before}{address}{after}"));
            prop_assert!(!line.contains(&address) && !line.contains('@'), "{line}");
        }

        #[test]
        fn r07_any_text_is_rewritten_without_a_panic(line in any::<String>()) {
            rewrite(&line);
        }
    }
}
