//! The capabilities that a mail server announces in its reply to `EHLO` (RFC 5321, section 4.1.1.1).

use super::reply::Reply;

/// The SMTP extensions that this client uses.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is an independent offer of the server")]
pub(super) struct Capabilities {
    /// `STARTTLS` (RFC 3207).
    pub(super) starttls: bool,
    /// `SMTPUTF8` (RFC 6531).
    pub(super) smtputf8: bool,
    /// `8BITMIME` (RFC 6152).
    pub(super) eight_bit: bool,
    /// `AUTH PLAIN` (RFC 4616).
    pub(super) plain: bool,
    /// `AUTH LOGIN`.
    pub(super) login: bool,
}

impl Capabilities {
    /// Parses the lines after the first one, which is a greeting. Keywords are case-insensitive.
    pub(super) fn of(reply: &Reply) -> Self {
        let mut found = Self::default();
        for line in reply.lines.iter().skip(1) {
            // `AUTH=LOGIN` is the syntax from before RFC 2554, which some servers still send.
            let mut words = line.split([' ', '\t', '=']).filter(|word| !word.is_empty());
            let Some(keyword) = words.next() else { continue };
            let is = |word: &str, name: &str| word.eq_ignore_ascii_case(name);
            found.starttls |= is(keyword, "STARTTLS");
            found.smtputf8 |= is(keyword, "SMTPUTF8");
            found.eight_bit |= is(keyword, "8BITMIME");
            if is(keyword, "AUTH") {
                for mechanism in words {
                    found.plain |= is(mechanism, "PLAIN");
                    found.login |= is(mechanism, "LOGIN");
                }
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn e16_keywords_count_in_any_case_and_the_old_form_of_auth_too() {
        let of = |lines: &[&str]| {
            let lines = lines.iter().map(|line| (*line).to_owned()).collect();
            Capabilities::of(&Reply { code: 250, lines })
        };
        let all = Capabilities { starttls: true, smtputf8: true, eight_bit: true, plain: true, login: true };
        assert_eq!(of(&["mail.example", "STARTTLS", "SMTPUTF8", "8BITMIME", "AUTH PLAIN LOGIN"]), all);
        assert_eq!(of(&["mail.example", "StartTls", "smtpUTF8 ", "8bitmime", "auth  login plain"]), all);
        assert_eq!(of(&["mail.example", "AUTH=LOGIN"]), Capabilities { login: true, ..Capabilities::default() });
        assert!(of(&["mail.example", "AUTH CRAM-MD5", "auth=plain"]).plain);
        assert_eq!(of(&["STARTTLS"]), Capabilities::default(), "the first line is a greeting");
        assert_eq!(of(&["mail.example", "XSTARTTLS", "AUTHENTICATE PLAIN", ""]), Capabilities::default());
    }
}
