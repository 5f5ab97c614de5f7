//! The strength of a password: the zxcvbn score of the whole, or of the rest without known names and repetitions, if that is lower.
//!
//! zxcvbn alone rates a name that is repeated with a little decoration as strong, because it multiplies the parts.
//! An attacker who tries `Doorward1!` tries `doorward-Doorward1!` next, so only the rest counts.

use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::is_combining_mark;
use zeroize::Zeroizing;

/// How many characters of a password are searched for names and repetitions.
const READ_CHARS: usize = 256;
/// How many characters of it zxcvbn judges: its cost grows faster than its input. `docs/passwords.md` gives the cost.
const JUDGED_CHARS: usize = 32;
/// The minimum length of a name or repetition that is removed, in letters. Shorter ones occur in too many words.
const MIN_PART: usize = 3;

/// The strength of a password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Strength {
    /// The score, from 0 (found at once) to 4.
    pub(super) score: u8,
    /// The problem with it, in a sentence.
    pub(super) warning: Option<String>,
    /// Possible improvements, in sentences.
    pub(super) suggestions: Vec<String>,
}

/// Judges a password of an owner with these names.
pub(super) fn of(password: &str, names: &[&str]) -> Strength {
    let text = readable(password);
    let whole = estimate(&text, names);
    let left = what_is_left(&text, names);
    let mut made_of_known_parts = false;
    let mut weaker = whole;
    if left.len() < text.len() {
        let left = estimate(&left, names);
        if left.score() < weaker.score() {
            made_of_known_parts = true;
            weaker = left;
        }
    }
    let feedback = weaker.feedback();
    let warning = if made_of_known_parts {
        Some("Names of the account and repetitions add nothing.".to_owned())
    } else {
        feedback.and_then(zxcvbn::feedback::Feedback::warning).map(|warning| warning.to_string())
    };
    let suggestions =
        feedback.map_or_else(Vec::new, |feedback| feedback.suggestions().iter().map(ToString::to_string).collect());
    Strength { score: u8::from(weaker.score()), warning, suggestions }
}

/// Returns the zxcvbn estimate of the beginning of a text.
fn estimate(text: &[char], names: &[&str]) -> zxcvbn::Entropy {
    let judged = &text[..text.len().min(JUDGED_CHARS)];
    zxcvbn::zxcvbn(&with_one_reading(judged), names)
}

/// Keeps at most one sign for each letter that zxcvbn reads several signs as, and replaces the other signs by that letter.
/// zxcvbn tries every combination of readings with all its dictionaries, which takes hundreds of milliseconds for a password of such
/// signs. A letter costs an attacker no more than its sign, so no password is rated better for this.
fn with_one_reading(text: &[char]) -> Zeroizing<String> {
    const SIGNS: [(&[char], char); 5] = [
        (&['4', '@'], 'a'),
        (&['(', '{', '[', '<'], 'c'),
        (&['1', '!', '7', '|'], 'i'),
        (&['5', '$'], 's'),
        (&['7', '+'], 't'),
    ];
    let read = |c: &char| {
        // Digits are kept: dates and sequences consist of them, and they cause few combinations.
        let group = SIGNS.iter().find(|(signs, _)| !c.is_ascii_digit() && signs.contains(c));
        let ambiguous = |signs: &[char]| signs.iter().take_while(|sign| *sign != c).any(|sign| text.contains(sign));
        group.filter(|(signs, _)| ambiguous(signs)).map_or(*c, |(_, letter)| *letter)
    };
    // Allocated at its final size, here and below: a text that grows leaves copies of the password in memory.
    let mut read_once = Zeroizing::new(String::with_capacity(text.iter().map(|c| c.len_utf8()).sum()));
    read_once.extend(text.iter().map(read));
    read_once
}

/// Returns the visible characters in one spelling: compatibility forms (full-width letters, ligatures) become the letters they stand
/// for, and invisible characters are removed. A look-alike letter of another alphabet is kept as it is.
fn readable(password: &str) -> Zeroizing<Vec<char>> {
    let invisible = |c: char| {
        c.is_control() || matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{2064}' | '\u{feff}')
    };
    let mut text = Zeroizing::new(Vec::with_capacity(READ_CHARS));
    text.extend(password.chars().filter(|c| !invisible(*c)).nfkc().take(READ_CHARS));
    text
}

/// Returns the characters that belong to no name and repeat nothing before them.
fn what_is_left(text: &[char], names: &[&str]) -> Zeroizing<Vec<char>> {
    let mut taken = vec![false; text.len()];
    for reading in Reading::ALL {
        let signs = signs(text, reading);
        for name in names {
            let mut name: Vec<char> = signs_of(name, reading);
            for _ in 0..2 {
                take_out(&signs, &name, &mut taken);
                name.reverse();
            }
        }
    }
    // Only letters and digits: in a repetition, the separators vary.
    let mut signs = signs(text, Reading::Digits);
    signs.retain(|(at, _)| !taken[*at]);
    take_out_repetitions(&signs, &mut taken);
    let kept = |at: usize| {
        let separates = sign(text[at], Reading::Digits).is_none();
        // A separator next to a removed part is removed with it.
        let joins = |other: Option<usize>| other.and_then(|other| taken.get(other)).copied().unwrap_or(false);
        !taken[at] && !(separates && (joins(at.checked_sub(1)) || joins(Some(at + 1))))
    };
    let mut left = Zeroizing::new(Vec::with_capacity(text.len()));
    left.extend((0..text.len()).filter(|at| kept(*at)).map(|at| text[at]));
    left
}

/// The characters that count as letters when a name is searched for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// Letters only; anything between them is skipped.
    Letters,
    /// Letters, and digits as the letters they resemble.
    Digits,
    /// Also punctuation as the letters it resembles.
    Punctuation,
}

impl Reading {
    const ALL: [Self; 3] = [Self::Letters, Self::Digits, Self::Punctuation];
}

/// Returns the letter as which a character is read: without case and accents, and a similar character as that letter.
/// `i` and `l` are the same, because `1` may be either. `None` for a separator.
fn sign(c: char, reading: Reading) -> Option<char> {
    let letter = std::iter::once(c).nfkd().find(|c| !is_combining_mark(*c))?;
    if letter.is_alphabetic() {
        let lower = letter.to_lowercase().next()?;
        return Some(if lower == 'l' { 'i' } else { lower });
    }
    if letter.is_numeric() {
        let read = match letter {
            '0' => 'o',
            '1' => 'i',
            '2' => 'z',
            '3' => 'e',
            '4' => 'a',
            '5' => 's',
            '6' | '9' => 'g',
            '7' => 't',
            '8' => 'b',
            other => other,
        };
        return (reading != Reading::Letters).then_some(read);
    }
    let read = match letter {
        '@' => 'a',
        '$' => 's',
        '!' | '|' => 'i',
        '€' => 'e',
        '+' => 't',
        _ => return None,
    };
    (reading == Reading::Punctuation).then_some(read)
}

/// Returns the letters of a text, each with its position.
fn signs(text: &[char], reading: Reading) -> Zeroizing<Vec<(usize, char)>> {
    let mut signs = Zeroizing::new(Vec::with_capacity(text.len()));
    signs.extend(text.iter().enumerate().filter_map(|(at, c)| Some((at, sign(*c, reading)?))));
    signs
}

fn signs_of(name: &str, reading: Reading) -> Vec<char> {
    name.nfkc().filter_map(|c| sign(c, reading)).collect()
}

/// Marks every occurrence of a name, including anything between its letters.
fn take_out(signs: &[(usize, char)], name: &[char], taken: &mut [bool]) {
    if name.len() < MIN_PART {
        return;
    }
    for window in signs.windows(name.len()) {
        if window.iter().zip(name).all(|((_, sign), wanted)| sign == wanted)
            && let (Some((first, _)), Some((last, _))) = (window.first(), window.last())
        {
            taken[*first..=*last].fill(true);
        }
    }
}

/// Marks everything that repeats an earlier part. Continuing after each repetition keeps the cost at most quadratic.
fn take_out_repetitions(signs: &[(usize, char)], taken: &mut [bool]) {
    let common = |one: usize, other: usize| {
        signs[one..].iter().zip(&signs[other..]).take_while(|((_, one), (_, other))| one == other).count()
    };
    let mut at = 0;
    while at < signs.len() {
        let longest = (0..at).map(|earlier| common(earlier, at)).max().unwrap_or(0);
        if longest < MIN_PART {
            at += 1;
            continue;
        }
        for (place, _) in &signs[at..at + longest] {
            taken[*place] = true;
        }
        at += longest;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NAMES: [&str; 5] = ["ann.lee@example.com", "ann.lee", "example", "annlee77", "doorward"];

    fn left(password: &str) -> String {
        what_is_left(&readable(password), &NAMES).iter().collect()
    }

    #[test]
    fn s04_names_and_repetitions_are_taken_out_however_they_are_spelt() {
        for (password, expected) in [
            ("Doorward1!", "1!"),
            ("doorwarddoorward1!A", "1!A"),
            ("D00rw@rd-drawrood", ""),
            ("d.o.o.r.w.a.r.d 42", "42"),
            ("ＤＯＯＲＷＡＲＤ９", "9"),
            ("door\u{200b}ward7", "7"),
            ("Dóórwárd", ""),
            ("annlee77@example.com", ""),
            ("Lamp-lamp_L4mp lamp", "Lamp"),
            ("aaaaaaaaaaaaaaa", "a"),
            ("quiet-lamp-tree", "quiet-lamp-tree"),
            ("doorward under quiet stairs", "under quiet stairs"),
            ("", ""),
        ] {
            assert_eq!(left(password), expected, "{password}");
        }
    }

    #[test]
    fn a_letter_has_at_most_one_sign() {
        let read = |text: &str| with_one_reading(&text.chars().collect::<Vec<_>>());
        assert_eq!(*read("P@$$w0rd!"), "P@$$w0rd!");
        assert_eq!(*read("4@8({[<369#!1|0$5+7%2"), "4a8(ccc369#i1i0s5t7%2");
        assert_eq!(*read("1234567890"), "1234567890");
        assert_eq!(*read("[a|b]!"), "[aib]!");
        assert_eq!(of("p4ssw0rd!1@$5|7+%2(3<{[6#9&0pass", &[]).score, 4);
        assert_eq!(of("P@ssw0rd1!", &[]).score, of("P@ssw0rd1i", &[]).score);
    }

    #[test]
    fn odd_input_is_judged_within_its_bounds() {
        let all_substitutions = "4@8({[<369#!1|0$5+7%2".repeat(40);
        for odd in [
            "\0".repeat(1024),
            "\u{fdfa}".repeat(341),
            "a\u{301}".repeat(341),
            "\u{301}".repeat(512),
            "аррӏе-рау".repeat(50),
            "\u{202e}drowssap".repeat(60),
            "😀".repeat(256),
            "ab".repeat(512),
            "1234567890qwertyuiop".repeat(51),
            all_substitutions,
        ] {
            assert!(readable(&odd).len() <= READ_CHARS);
            assert!(of(&odd, &NAMES).score <= 4);
        }
    }

    /// A name in one of the ways in which people vary it.
    fn varied_name() -> impl Strategy<Value = String> {
        let name = prop::sample::select(vec!["doorward", "annlee77", "ann.lee", "AnnLee", "example"]);
        (name, 0_u8..5).prop_map(|(name, way)| match way {
            0 => name.to_owned(),
            1 => name.to_uppercase(),
            2 => name.chars().rev().collect(),
            3 => name.replace('o', "0").replace('a', "@").replace('e', "3"),
            _ => name.chars().flat_map(|c| [c, '.']).collect(),
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn s04_no_number_and_arrangement_of_names_makes_a_password(
            parts in prop::collection::vec(varied_name(), 1..6),
            separator in prop::sample::select(vec!["", "-", "_", " ", "."]),
            decoration in prop::sample::select(vec!["", "1", "1!", "A1!", "!!", "77", "2024"]),
        ) {
            let names = ["ann.lee@example.com", "ann.lee", "annlee77", "annlee", "ann", "lee", "example", "doorward"];
            let password = format!("{}{decoration}", parts.join(separator));
            let strength = of(&password, &names);
            prop_assert!(strength.score < 2, "{password}: {strength:?}");
        }

        #[test]
        fn s04_repeating_a_password_makes_it_no_better(
            base in "[a-zA-Z0-9]{3,8}", times in 2_usize..6,
            separator in prop::sample::select(vec!["", "-", "_", " ", "."]),
        ) {
            let once = of(&base, &[]).score;
            let repeated = of(&vec![base.as_str(); times].join(separator), &[]).score;
            prop_assert!(repeated <= once, "{base} × {times}: {once}, {repeated}");
        }

        #[test]
        fn a_good_password_stays_good_with_a_name_behind_it(base in "[b-df-hj-np-tv-z]{4}[0-9]{3}[B-DF-HJ-NP-TV-Z]{5}") {
            prop_assume!(of(&base, &NAMES).score == 4);
            let named = format!("{base} doorward");
            prop_assert!(of(&named, &NAMES).score >= 3);
        }

        #[test]
        fn anything_can_be_judged(password in any::<String>(), name in any::<String>()) {
            let strength = of(&password, &[&name]);
            prop_assert!(strength.score <= 4);
        }
    }
}
