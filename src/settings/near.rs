//! Finds names in the environment that are similar to a setting. Such a typo has no effect, so the operator needs a warning.
//!
//! A warning at every start about a correct variable would teach operators to ignore warnings. So the names that Docker, Kubernetes,
//! systemd and desktops put into an environment cause none.

use super::table;

/// A prefix that operators may add to the name of a setting, because other programs use such prefixes.
const OUR_PREFIX: &str = "DOORWARD_";
/// The other variables that Doorward reads.
const OTHER_NAMES: [&str; 3] = ["DOORWARD_CONFIG", "DOORWARD_ADMIN_PASSWORD", "DOORWARD_ADMIN_PASSPHRASE"];
/// Variables of other programs that begin like settings or resemble one: of X sessions, systemd's journal, pass and build scripts.
const OTHERS: [&str; 4] = ["SESSION_MANAGER", "LOG_NAMESPACE", "PASSWORD_STORE_DIR", "BASE_DIR"];
/// First words that are common in variables of many programs. For them, the first two words make a family.
const COMMON_WORDS: [&str; 14] = [
    "ACCESS", "ADDRESS", "ADMIN", "CUSTOMER", "DATA", "FIRST", "HEADER", "KEY", "MAX", "PUBLIC", "REQUEST", "REQUIRE",
    "SECRET", "SERVICE",
];
/// The minimum length of a name that is compared letter by letter, in characters. Shorter names are similar by chance.
const MIN_CHARS: usize = 8;
/// The maximum edit distance of a similar name.
const MAX_DISTANCE: usize = 2;

/// Returns the setting that was probably meant by an unknown name. `value` is the value of that variable.
pub(super) fn meant(name: &str, value: &str) -> Option<String> {
    let known = known();
    let name = name.to_ascii_uppercase().replace('-', "_");
    if OTHER_NAMES.contains(&name.as_str()) || OTHERS.contains(&name.as_str()) || is_link(&name, value) {
        return None;
    }
    let bare = name.strip_prefix(OUR_PREFIX).unwrap_or(&name);
    let near = known.iter().map(|known| (distance(bare, known), known)).min_by_key(|(distance, _)| *distance)?;
    // A name that differs only in its case or by our prefix is not similar by chance.
    if near.0 == 0 || near.0 <= MAX_DISTANCE && bare.chars().count() >= MIN_CHARS {
        return Some(near.1.clone());
    }
    let relatives = known.iter().filter(|known| family(known).is_some_and(|family| bare.starts_with(&family)));
    relatives.min_by_key(|known| (usize::MAX - shared_words(bare, known), distance(bare, known))).cloned()
}

/// Returns every name that the environment may use, canonical ones first.
fn known() -> Vec<String> {
    let canonical = table::ALL.iter().map(|key| key.name.to_owned());
    let files = table::ALL.iter().filter_map(|key| key.file_name());
    let aliases = table::ALL.iter().flat_map(|key| key.aliases).map(|alias| (*alias).to_owned());
    canonical.chain(files).chain(aliases).collect()
}

/// Returns the prefix that a setting shares with its family, with the final underscore. `None` for a name of one word.
fn family(name: &str) -> Option<String> {
    let (first, rest) = name.split_once('_')?;
    if !COMMON_WORDS.contains(&first) {
        return Some(format!("{first}_"));
    }
    let (second, _) = rest.split_once('_')?;
    Some(format!("{first}_{second}_"))
}

fn shared_words(one: &str, other: &str) -> usize {
    one.split('_').filter(|word| other.split('_').any(|same| same == *word)).count()
}

/// Returns whether Kubernetes or Docker created this name for a service: `MAIL_SERVICE_HOST`, `MAIL_PORT=tcp://10.0.0.7:25`,
/// `MAIL_PORT_25_TCP_ADDR`, and for Docker's old links `MAIL_NAME=/web/mail` and `MAIL_ENV_…`.
fn is_link(name: &str, value: &str) -> bool {
    let words: Vec<&str> = name.split('_').collect();
    let has = |wanted: [&str; 2]| words.windows(2).skip(1).any(|found| found == wanted);
    let port = |found: &[&str]| {
        found[0] == "PORT" && found[1].parse::<u16>().is_ok() && ["TCP", "UDP", "SCTP"].contains(&found[2])
    };
    let ends_with = |word| words.len() > 1 && words.last() == Some(&word);
    has(["SERVICE", "HOST"])
        || has(["SERVICE", "PORT"])
        || words.windows(3).skip(1).any(port)
        || ends_with("PORT") && ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme))
        || ends_with("NAME") && value.starts_with('/')
        || words.iter().skip(1).any(|word| *word == "ENV")
}

/// Returns the edit distance: how many letters must be added, dropped or replaced to turn one into the other (Levenshtein).
fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (i, a) in one.chars().enumerate() {
        let mut diagonal = i;
        let mut left = i + 1;
        for (j, b) in other.iter().enumerate() {
            let above = row[j + 1];
            row[j] = left;
            left = (diagonal + usize::from(a != *b)).min(above + 1).min(left + 1);
            diagonal = above;
        }
        row[other.len()] = left;
    }
    row[other.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a03_letters_are_counted() {
        for (one, other, expected) in [
            ("", "", 0),
            ("", "ABC", 3),
            ("ABC", "", 3),
            ("ABC", "ABC", 0),
            ("SERCET", "SECRET", 2),
            ("KITTEN", "SITTING", 3),
            ("SMTP_ULR", "SMTP_URL", 2),
            ("IDLE", "IDDLE", 1),
        ] {
            assert_eq!(distance(one, other), expected, "{one} {other}");
            assert_eq!(distance(other, one), expected, "{other} {one}");
        }
    }

    #[test]
    fn a03_no_setting_is_taken_for_a_link() {
        for name in known() {
            assert!(!is_link(&name, "x"), "{name}");
        }
    }
}
