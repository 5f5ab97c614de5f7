//! Makes values that a stranger chose safe for a mail: in our own words, or in plain characters that no mail program turns into a link.

use doorward_actors::Locale;

/// The maximum length of a name in a mail, in characters.
const MAX_NAME: usize = 32;

/// Browsers by a mark in their user agent. Browsers that also contain the mark of another one come first.
const BROWSERS: [(&str, &str); 11] = [
    ("Edg/", "Edge"),
    ("EdgA/", "Edge"),
    ("EdgiOS/", "Edge"),
    ("OPR/", "Opera"),
    ("SamsungBrowser/", "Samsung Internet"),
    ("Firefox/", "Firefox"),
    ("FxiOS/", "Firefox"),
    ("Chrome/", "Chrome"),
    ("CriOS/", "Chrome"),
    ("Safari/", "Safari"),
    ("curl/", "curl"),
];

/// Operating systems by a mark in the user agent, in the same order.
const SYSTEMS: [(&str, &str); 8] = [
    ("iPhone", "iOS"),
    ("iPad", "iPadOS"),
    ("Android", "Android"),
    ("Windows NT", "Windows"),
    ("Macintosh", "macOS"),
    ("CrOS", "ChromeOS"),
    ("FreeBSD", "FreeBSD"),
    ("Linux", "Linux"),
];

/// Returns a name that cannot pass for a link or for structure: at most 32 letters, combining marks, digits,
/// spaces, hyphens, underscores and apostrophes. Replaces other characters by spaces.
pub(super) fn name(chosen: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || is_mark(c) || matches!(c, ' ' | '-' | '_' | '\'' | '\u{2019}');
    let words: String = chosen.chars().map(|c| if plain(c) { c } else { ' ' }).collect();
    let words = words.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    words.chars().take(MAX_NAME).collect::<String>().trim_end().to_owned()
}

/// Returns whether a character is a combining mark in the script of a living language.
fn is_mark(c: char) -> bool {
    matches!(c, '\u{0300}'..='\u{036f}' | '\u{0591}'..='\u{05c7}' | '\u{064b}'..='\u{065f}' | '\u{0900}'..='\u{0dff}' | '\u{0e31}'..='\u{0e4e}')
}

/// Returns an address. Shows only its domain if the local part is longer than 32 characters or has others than letters, digits and `.`,
/// `-`, `_`, `+`.
pub(super) fn address(chosen: &str) -> String {
    let Some((local, domain)) = chosen.rsplit_once('@') else { return String::new() };
    let plain = |c: char| c.is_alphanumeric() || is_mark(c) || matches!(c, '.' | '-' | '_' | '+');
    let shown = if local.chars().count() <= MAX_NAME && local.chars().all(plain) { local } else { "…" };
    format!("{shown}@{domain}")
}

/// Returns the browser and the system of a user agent, such as "Firefox on Linux".
pub(super) fn program(user_agent: &str, locale: Locale) -> String {
    let find = |names: &[(&str, &'static str)]| {
        names.iter().find(|(sign, _)| user_agent.contains(sign)).map(|(_, name)| *name)
    };
    let (on, unknown) = match locale {
        Locale::En => ("on", "an unknown program"),
        Locale::De => ("unter", "einem unbekannten Programm"),
        Locale::Fr => ("sous", "un programme inconnu"),
        Locale::Es => ("en", "un programa desconocido"),
        Locale::Ro => ("pe", "un program necunoscut"),
    };
    match (find(&BROWSERS), find(&SYSTEMS)) {
        (Some(browser), Some(system)) => format!("{browser} {on} {system}"),
        (Some(browser), None) => browser.to_owned(),
        (None, _) => unknown.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c11_a_user_agent_becomes_a_browser_and_a_system_or_nothing_of_it() {
        for (agent, expected) in [
            ("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0", "Firefox on Linux"),
            (
                "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Safari/537.36 Edg/138.0",
                "Edge on Windows",
            ),
            (
                "Mozilla/5.0 (Linux; Android 15) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/138.0.0.0 Mobile Safari/537.36",
                "Chrome on Android",
            ),
            (
                "Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Mobile/15E148 Safari/604.1",
                "Safari on iOS",
            ),
            (
                "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.5 Safari/605.1.15",
                "Safari on macOS",
            ),
            ("curl/8.14.1", "curl"),
            ("Visit https://evil.example to keep your account", "an unknown program"),
            ("", "an unknown program"),
            ("Firefox/ https://evil.example Linux evil.example", "Firefox on Linux"),
        ] {
            assert_eq!(program(agent, Locale::En), expected, "{agent}");
        }
        assert_eq!(program("Firefox/1 Linux", Locale::De), "Firefox unter Linux");
    }

    #[test]
    fn c11_a_name_is_short_and_makes_no_link() {
        for plain in ["Ann", "Jean-Luc O'Neil", "अजय हिन्दी", "Änn_7", "李"] {
            assert_eq!(name(plain), plain);
        }
        for (chosen, shown) in [
            ("Visit https://evil.example/x now", "Visit https evil example x now"),
            ("evil。example．com․", "evil example com"),
            ("a@evil.example", "a evil example"),
            ("<b>Ann</b>", "b Ann b"),
            ("://", ""),
            ("x y\u{202e}z", "x y z"),
        ] {
            assert_eq!(name(chosen), shown);
        }
        assert_eq!(name(&"é".repeat(64)).chars().count(), MAX_NAME);
    }

    #[test]
    fn c11_an_address_with_more_than_plain_characters_is_shown_by_its_domain() {
        assert_eq!(address("ann.lee+shop@example.org"), "ann.lee+shop@example.org");
        assert_eq!(address("ann//evil.example@example.org"), "…@example.org");
        assert_eq!(address(&format!("{}@example.org", "x".repeat(33))), "…@example.org");
    }
}
