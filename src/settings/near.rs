//! Names in the environment that nearly are settings: a typo there has no effect, and nobody is told unless we do.
//!
//! Whoever sees a warning at every start for something that is as it should be stops reading them, so the names that Docker,
//! Kubernetes, systemd and desktops put into an environment give none.

use super::keys;

/// The prefix that people put before the name of a setting, as other programs want it.
const OUR_PREFIX: &str = "DOORWARD_";
/// What else Doorward reads from the environment.
const OTHER_NAMES: [&str; 3] = ["DOORWARD_CONFIG", "DOORWARD_ADMIN_PASSWORD", "DOORWARD_ADMIN_PASSPHRASE"];
/// Names of others that begin like settings or resemble one: of X sessions, of systemd's journal, of pass, of build scripts.
const OTHERS: [&str; 4] = ["SESSION_MANAGER", "LOG_NAMESPACE", "PASSWORD_STORE_DIR", "BASE_DIR"];
/// Words with which names of all kinds of programs begin. Here the first two words make a family.
const COMMON_WORDS: [&str; 14] = [
    "ACCESS", "ADDRESS", "ADMIN", "CUSTOMER", "DATA", "FIRST", "HEADER", "KEY", "MAX", "PUBLIC", "REQUEST", "REQUIRE",
    "SECRET", "SERVICE",
];
/// The fewest characters of a name that is compared by its letters: shorter ones are alike by chance.
const MIN_CHARS: usize = 8;
/// How many letters may differ.
const MAX_DISTANCE: usize = 2;

/// The setting that was meant by a name which is none, if it looks as if one was. `value` is what stands behind the name.
pub(super) fn meant(name: &str, value: &str) -> Option<String> {
    let known = known();
    let name = name.to_ascii_uppercase().replace('-', "_");
    if OTHER_NAMES.contains(&name.as_str()) || OTHERS.contains(&name.as_str()) || is_link(&name, value) {
        return None;
    }
    let bare = name.strip_prefix(OUR_PREFIX).unwrap_or(&name);
    let near = known.iter().map(|known| (distance(bare, known), known)).min_by_key(|(distance, _)| *distance)?;
    // A name that is one but for its case or our prefix is alike by no chance.
    if near.0 == 0 || near.0 <= MAX_DISTANCE && bare.chars().count() >= MIN_CHARS {
        return Some(near.1.clone());
    }
    let relatives = known.iter().filter(|known| family(known).is_some_and(|family| bare.starts_with(&family)));
    relatives.min_by_key(|known| (usize::MAX - shared_words(bare, known), distance(bare, known))).cloned()
}

/// Every name that the environment may use, canonical ones first.
fn known() -> Vec<String> {
    let canonical = keys::ALL.iter().map(|key| key.name.to_owned());
    let files = keys::ALL.iter().filter_map(|key| key.file_name());
    let aliases = keys::ALL.iter().flat_map(|key| key.aliases).map(|alias| (*alias).to_owned());
    canonical.chain(files).chain(aliases).collect()
}

/// The beginning that a setting shares with its relatives, with the underscore behind it; `None` for a name of one word.
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

/// Whether Kubernetes or Docker made this name after a service: `MAIL_SERVICE_HOST`, `MAIL_PORT=tcp://10.0.0.7:25`,
/// `MAIL_PORT_25_TCP_ADDR`, and of Docker's old links `MAIL_NAME=/web/mail` and `MAIL_ENV_…`.
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

/// How many letters have to be added, dropped or replaced to get from one to the other (Levenshtein).
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
