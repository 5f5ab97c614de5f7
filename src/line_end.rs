//! The one rule for line breaks at the end of secrets, from every source.

/// Returns the secret without the line break that an editor or `echo` leaves at its end. Removes exactly one `\n` or `\r\n`, whatever
/// the source of the secret.
pub(crate) fn without_line_end(text: &str) -> &str {
    text.strip_suffix("\r\n").or_else(|| text.strip_suffix('\n')).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn g24_exactly_one_line_end_is_cut() {
        for (text, cut) in [
            ("", ""),
            ("a", "a"),
            ("a\n", "a"),
            ("a\r\n", "a"),
            ("a\n\n", "a\n"),
            ("a\r\n\r\n", "a\r\n"),
            ("a\r", "a\r"),
            ("a \n", "a "),
            ("\n", ""),
        ] {
            assert_eq!(without_line_end(text), cut, "{text:?}");
        }
    }
}
