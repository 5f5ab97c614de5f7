//! How soon a guesser would find a password: what zxcvbn says of it, and of what is left of it once the names that a guesser knows
//! and everything that was there before are taken out.
//!
//! zxcvbn alone takes a name twice with a little decoration for strong, because it multiplies its parts. A guesser does not: whoever
//! tries `Doorward1!` tries `doorward-Doorward1!` next. So what counts is what is left.

use unicode_normalization::UnicodeNormalization as _;
use unicode_normalization::char::is_combining_mark;
use zeroize::Zeroizing;

/// How much of a password is looked at for names and repetitions, in characters.
const READ_CHARS: usize = 256;
/// How much of it zxcvbn judges, in characters: its cost grows faster than its input. See `docs/passwords.md` for what it costs.
const JUDGED_CHARS: usize = 32;
/// The shortest name, and the shortest repetition, that is taken out, in letters. Shorter ones stand in too many words.
const MIN_PART: usize = 3;

/// What is known of a password's strength.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Strength {
    /// 0 (found at once) to 4.
    pub(super) score: u8,
    /// What is wrong with it, in a sentence.
    pub(super) warning: Option<String>,
    /// What would make it better, in sentences.
    pub(super) suggestions: Vec<String>,
}

/// Judges a password of somebody with these names.
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

/// What zxcvbn says of the beginning of a text.
fn estimate(text: &[char], names: &[&str]) -> zxcvbn::Entropy {
    let judged = &text[..text.len().min(JUDGED_CHARS)];
    zxcvbn::zxcvbn(&with_one_reading(judged), names)
}

/// The text with at most one sign for each letter that zxcvbn takes several for; the others as the letter itself. It tries every
/// combination of readings, each with all its dictionaries: hundreds of milliseconds for a password made of such signs. What a
/// letter costs a guesser is no more than what its sign does, so nothing is judged better for it.
fn with_one_reading(text: &[char]) -> Zeroizing<String> {
    const SIGNS: [(&[char], char); 5] = [
        (&['4', '@'], 'a'),
        (&['(', '{', '[', '<'], 'c'),
        (&['1', '!', '7', '|'], 'i'),
        (&['5', '$'], 's'),
        (&['7', '+'], 't'),
    ];
    let read = |c: &char| {
        // Digits stay: dates and sequences are made of them, and they alone are few enough.
        let group = SIGNS.iter().find(|(signs, _)| !c.is_ascii_digit() && signs.contains(c));
        let ambiguous = |signs: &[char]| signs.iter().take_while(|sign| *sign != c).any(|sign| text.contains(sign));
        group.filter(|(signs, _)| ambiguous(signs)).map_or(*c, |(_, letter)| *letter)
    };
    // As long as it gets at once, here and below: what grows leaves pieces of the password behind.
    let mut read_once = Zeroizing::new(String::with_capacity(text.iter().map(|c| c.len_utf8()).sum()));
    read_once.extend(text.iter().map(read));
    read_once
}

/// The characters that a reader sees, in one spelling: compatible forms (full-width letters, ligatures) as the letters they stand
/// for, without what is invisible. A look-alike letter of another alphabet stays the other letter it is.
fn readable(password: &str) -> Zeroizing<Vec<char>> {
    let invisible = |c: char| {
        c.is_control() || matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2060}'..='\u{2064}' | '\u{feff}')
    };
    let mut text = Zeroizing::new(Vec::with_capacity(READ_CHARS));
    text.extend(password.chars().filter(|c| !invisible(*c)).nfkc().take(READ_CHARS));
    text
}

/// The characters that are neither part of a name nor a repetition of what stands before them.
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
    // Letters and digits alone: in a repetition, the separators are what varies.
    let mut signs = signs(text, Reading::Digits);
    signs.retain(|(at, _)| !taken[*at]);
    take_out_repetitions(&signs, &mut taken);
    let kept = |at: usize| {
        let separates = sign(text[at], Reading::Digits).is_none();
        // What joins a part that was taken out to the rest went with it.
        let joins = |other: Option<usize>| other.and_then(|other| taken.get(other)).copied().unwrap_or(false);
        !taken[at] && !(separates && (joins(at.checked_sub(1)) || joins(Some(at + 1))))
    };
    let mut left = Zeroizing::new(Vec::with_capacity(text.len()));
    left.extend((0..text.len()).filter(|at| kept(*at)).map(|at| text[at]));
    left
}

/// What counts as a letter when a name is looked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reading {
    /// Letters alone: whatever stands between them is passed over.
    Letters,
    /// Letters, and digits as the letters they resemble.
    Digits,
    /// Punctuation too.
    Punctuation,
}

impl Reading {
    const ALL: [Self; 3] = [Self::Letters, Self::Digits, Self::Punctuation];
}

/// The letter a character is read as: without case and accents, and what resembles a letter as that letter. `i` and `l` are one,
/// since `1` may be either. `None` for a separator.
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

/// The letters of a text, each with its place in it.
fn signs(text: &[char], reading: Reading) -> Zeroizing<Vec<(usize, char)>> {
    let mut signs = Zeroizing::new(Vec::with_capacity(text.len()));
    signs.extend(text.iter().enumerate().filter_map(|(at, c)| Some((at, sign(*c, reading)?))));
    signs
}

fn signs_of(name: &str, reading: Reading) -> Vec<char> {
    name.nfkc().filter_map(|c| sign(c, reading)).collect()
}

/// Marks every occurrence of a name, with what stands between its letters.
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

/// Marks what repeats something that stands before it. Reading on after each repetition keeps this at most quadratic.
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
