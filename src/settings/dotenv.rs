//! `.env` files. Accepts a line only if `docker compose` and `node --env-file` read it in the same way. Refuses all other lines, so
//! that no secret silently gets another value (docs/adr/039).
//!
//! Each line is parsed on its own. Both programs let a quoted value continue on the next lines. This parser does not, because an
//! unclosed quote would swallow the settings after it.

/// What is wrong with a line. The text continues a sentence such as "line 7 …".
pub(super) type Problem = &'static str;

const NOT_A_SETTING: Problem = "is not NAME=value";
const UNCLOSED: Problem = "is not NAME=value: its quote is not closed on the same line";
const CARRIAGE_RETURN: Problem = "has a carriage return before its end";
const NOTHING_BUT_BLANKS: Problem = "has nothing but blanks behind its =: remove them";
const BEGINS_WITH_HASH: Problem = "has a value that begins with #, which needs quotes";
const HASH: Problem = "has a # in its value, which needs quotes; a comment needs a space before it";
const BACKTICK: Problem = "has a value that begins with a backtick, which needs other quotes";
const DOLLAR: Problem = "has a $ outside single quotes: nothing is substituted here";
const BLANK_AT_EDGE: Problem =
    "has a tab or an unusual blank before or behind its value: remove it, or put it into quotes";
const ESCAPED_QUOTE: Problem =
    "has a backslash before the quote that closes its value, which needs double quotes or none";
const BACKSLASH: Problem =
    "has a backslash in double quotes, which needs single quotes; \\n alone is taken, for a line break";
const TEXT_BEHIND: Problem = "has text or a tab behind the quote that closes its value";

/// The space that both programs remove around names and values. Older versions of node keep a tab as a part of them.
const BLANK: char = ' ';

/// Returns the lines that are neither empty nor a comment: the number of each, its name and the text after its `=`.
pub(super) fn statements(text: &str) -> impl Iterator<Item = (usize, Result<(&str, &str), Problem>)> {
    let lines = text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line).trim_start_matches(BLANK));
    let says_something = |line: &str| !line.trim_start().is_empty() && !line.trim_start().starts_with('#');
    let numbered = (1..).zip(lines).filter(move |(_, line)| says_something(line));
    numbered.map(|(number, line)| (number, statement(line)))
}

fn statement(line: &str) -> Result<(&str, &str), Problem> {
    if line.contains('\r') {
        return Err(CARRIAGE_RETURN);
    }
    let line = line.strip_prefix("export ").unwrap_or(line);
    let (name, value) = line.split_once('=').ok_or(NOT_A_SETTING)?;
    let name = name.trim_matches(BLANK);
    let is_name = !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_-.".contains(c));
    if is_name { Ok((name, value)) } else { Err(NOT_A_SETTING) }
}

/// Parses the text after a `=`. Returns an empty value for an empty text.
pub(super) fn value(behind: &str) -> Result<String, Problem> {
    let text = behind.trim_start_matches(BLANK);
    let mut chars = text.chars();
    match chars.next() {
        None if behind.is_empty() => Ok(String::new()),
        // Newer versions of node use the next line as the value.
        None => Err(NOTHING_BUT_BLANKS),
        Some('#') => Err(BEGINS_WITH_HASH),
        Some('`') => Err(BACKTICK),
        Some('\'') => in_single_quotes(chars.as_str()),
        Some('"') => in_double_quotes(chars.as_str()),
        Some(_) => without_quotes(text),
    }
}

/// Quotes and backslashes inside the value are literal.
fn without_quotes(text: &str) -> Result<String, Problem> {
    let value = match text.split_once('#') {
        Some((value, _)) if value.ends_with(' ') => value,
        // node cuts the value off there, docker compose does not.
        Some(_) => return Err(HASH),
        None => text,
    };
    if value.contains('$') {
        return Err(DOLLAR);
    }
    let value = value.trim_end_matches(BLANK);
    // docker compose removes such white space, node does not.
    if value.starts_with(char::is_whitespace) || value.ends_with(char::is_whitespace) {
        return Err(BLANK_AT_EDGE);
    }
    Ok(value.to_owned())
}

/// Everything up to the next quote is literal. docker compose skips a quote after a backslash, so that is refused.
fn in_single_quotes(text: &str) -> Result<String, Problem> {
    let (value, behind) = text.split_once('\'').ok_or(UNCLOSED)?;
    let backslashes = value.len() - value.trim_end_matches('\\').len();
    if backslashes % 2 == 1 {
        return Err(ESCAPED_QUOTE);
    }
    nothing_behind(behind)?;
    Ok(value.to_owned())
}

/// `\n` is a line break. node knows no other escape, and docker compose substitutes what follows a `$`, so both are refused.
fn in_double_quotes(text: &str) -> Result<String, Problem> {
    let mut value = String::with_capacity(text.len());
    let mut chars = text.chars();
    loop {
        match chars.next().ok_or(UNCLOSED)? {
            '"' => break,
            '$' => return Err(DOLLAR),
            '\\' if chars.next() == Some('n') => value.push('\n'),
            '\\' => return Err(BACKSLASH),
            c => value.push(c),
        }
    }
    nothing_behind(chars.as_str())?;
    Ok(value)
}

fn nothing_behind(text: &str) -> Result<(), Problem> {
    let text = text.trim_start_matches(BLANK);
    if text.is_empty() || text.starts_with('#') { Ok(()) } else { Err(TEXT_BEHIND) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn one(line: &str) -> Result<String, Problem> {
        let mut all = statements(line).map(|(_, statement)| statement.and_then(|(_, behind)| value(behind)));
        let first = all.next().unwrap();
        assert!(all.next().is_none(), "{line:?}");
        first
    }

    /// What both programs read, according to their source code and to node 20 and 24.
    #[test]
    fn g24_what_both_read_alike_is_read_like_that() {
        for (line, value) in [
            ("A=", ""),
            ("A=''", ""),
            ("A=\"\"", ""),
            ("A=x", "x"),
            ("  A  =  x  ", "x"),
            ("A=x\r", "x"),
            ("export A=x", "x"),
            ("export   A = x", "x"),
            ("A=x y  z", "x y  z"),
            ("A=x # comment with $, ' and \"", "x"),
            ("A=x #y#z", "x"),
            ("A=it's", "it's"),
            ("A=x\"y", "x\"y"),
            ("A=x'y'z", "x'y'z"),
            ("A=x`y", "x`y"),
            (r"A=x\y\\z\n", r"x\y\\z\n"),
            ("A=x=y==", "x=y=="),
            ("A='x'", "x"),
            ("A=  'x'  # comment", "x"),
            ("A='x'#comment", "x"),
            ("A=' x # $y ${z} \"`'", " x # $y ${z} \"`"),
            (r"A='x\y\\'", r"x\y\\"),
            ("A=\"x # ' ` y \"", "x # ' ` y "),
            ("A=\"x\" # comment", "x"),
            (r#"A="x\ny\n""#, "x\ny\n"),
            ("A=\u{1}\0x", "\u{1}\0x"),
            ("A=ä\u{a0}ö", "ä\u{a0}ö"),
        ] {
            assert_eq!(one(line), Ok(value.to_owned()), "{line:?}");
        }
    }

    #[test]
    fn g24_what_they_read_differently_is_refused() {
        for (line, problem) in [
            ("A", NOT_A_SETTING),
            ("=x", NOT_A_SETTING),
            ("A: x", NOT_A_SETTING),
            ("A:B=x", NOT_A_SETTING),
            ("A B=x", NOT_A_SETTING),
            ("export\tA=x", NOT_A_SETTING),
            ("\u{a0}A=x", NOT_A_SETTING),
            ("[section]", NOT_A_SETTING),
            ("export A", NOT_A_SETTING),
            ("A=x\ry", CARRIAGE_RETURN),
            ("A=x\r\r", CARRIAGE_RETURN),
            ("A='x\ry'", CARRIAGE_RETURN),
            ("A= ", NOTHING_BUT_BLANKS),
            ("\tA=x", NOT_A_SETTING),
            ("A\t=x", NOT_A_SETTING),
            ("A=\t", BLANK_AT_EDGE),
            ("A=\tx", BLANK_AT_EDGE),
            ("A=x\t", BLANK_AT_EDGE),
            ("A=x\t # y", BLANK_AT_EDGE),
            ("A='x'\t", TEXT_BEHIND),
            ("A=\"x\"\t# y", TEXT_BEHIND),
            ("A=#x", BEGINS_WITH_HASH),
            ("A= # x", BEGINS_WITH_HASH),
            ("A=x#y", HASH),
            ("A=x\t# y", HASH),
            ("A=x#y # z", HASH),
            ("A=`x`", BACKTICK),
            ("A=$x", DOLLAR),
            ("A=x$", DOLLAR),
            ("A=\"x${y}\"", DOLLAR),
            ("A=x\u{a0}", BLANK_AT_EDGE),
            ("A=\u{b}x", BLANK_AT_EDGE),
            ("A=x\u{85} # y", BLANK_AT_EDGE),
            ("A='x", UNCLOSED),
            ("A=\"x", UNCLOSED),
            ("A=\"x'", UNCLOSED),
            (r"A='x\'", ESCAPED_QUOTE),
            (r"A='x\'y'", ESCAPED_QUOTE),
            (r#"A="x\"y""#, BACKSLASH),
            (r#"A="x\\y""#, BACKSLASH),
            (r#"A="x\ty""#, BACKSLASH),
            (r#"A="x\"#, BACKSLASH),
            ("A='x'y", TEXT_BEHIND),
            ("A='x' B=y", TEXT_BEHIND),
            ("A=\"x\"'y'", TEXT_BEHIND),
            ("A='it's'", TEXT_BEHIND),
        ] {
            assert_eq!(one(line), Err(problem), "{line:?}");
        }
    }

    #[test]
    fn g24_lines_are_counted_and_comments_and_empty_lines_passed_over() {
        let text = "# A='x\r\n\r\n \t\nB=1\n  # $C=\"\nD = 2";
        let found: Vec<_> = statements(text).collect();
        assert_eq!(found, [(4, Ok(("B", "1"))), (6, Ok(("D", " 2")))]);
    }

    proptest! {
        /// An accepted value appears in its line unchanged, except for `\n`: nothing is added, dropped or replaced.
        #[test]
        fn g24_no_value_is_changed(line in r#"[xy'"`\\$#n =\t]{0,16}"#) {
            let Ok(value) = value(&line) else { return Ok(()) };
            prop_assert!(line.contains(&value.replace('\n', "\\n")), "{line:?} became {value:?}");
        }

        /// A line never changes the meaning of another one, so no quote swallows a setting.
        #[test]
        fn g24_no_line_swallows_another(line in r#"[A=xy'"`\\$#n \t]{0,16}"#) {
            let text = format!("{line}\nB='z'\n{line}\n");
            prop_assert!(statements(&text).any(|(number, found)| (number, found) == (2, Ok(("B", "'z'")))));
        }
    }
}
