//! The table of settings, `config/default.toml`, `docs/settings.md` and `docker-compose.yml` must agree.
//! `BLESS=1 cargo test --test settings_documents` writes what the three say about each setting, and adds settings that are missing.
#![expect(clippy::unwrap_used, reason = "a helper of a test may panic like the test itself")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Once;

use doorward::settings::table::{self, Key};
use doorward::settings::{Settings, Sources};

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

/// A file; with `BLESS` what the table says about it is written first.
fn read(name: &str) -> String {
    static WRITTEN: Once = Once::new();
    WRITTEN.call_once(|| {
        if std::env::var_os("BLESS").is_some() {
            for (name, written) in [
                ("config/default.toml", defaults as Written),
                ("docs/settings.md", rows),
                ("docker-compose.yml", passed),
            ] {
                fs::write(path(name), written(&fs::read_to_string(path(name)).unwrap())).unwrap();
            }
        }
    });
    fs::read_to_string(path(name)).unwrap()
}

type Written = fn(&str) -> String;

/// The rows of the settings page, each in the table of its section.
fn rows(text: &str) -> String {
    let path_of = |line: &str| line.strip_prefix("| `")?.split(" | `").nth(1)?.split('`').next().map(str::to_owned);
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        match path_of(line) {
            Some(path) => lines.extend(table::ALL.iter().find(|key| key.path == path).map(|key| row(key))),
            None => lines.push(line.to_owned()),
        }
    }
    for key in table::ALL {
        if !lines.iter().any(|line| path_of(line).as_deref() == Some(key.path)) {
            let is_of_section = |line: &String| path_of(line).is_some_and(|path| section(&path) == section(key.path));
            let last = lines.iter().rposition(is_of_section).unwrap();
            lines.insert(last + 1, row(key));
        }
    }
    lines.join("\n") + "\n"
}

/// The explanations of the default file. A setting that is missing comes last in its section.
fn defaults(text: &str) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for key in table::ALL {
        let environment = format!("# Environment: {}", key.names().collect::<Vec<_>>().join(", "));
        let explanation = [format!("# {}", key.meaning), format!("# Must be {}.", key.kind), environment.clone()];
        if let Some(at) = lines.iter().position(|line| *line == environment) {
            lines.splice(at - 2..=at, explanation);
            continue;
        }
        let head = lines.iter().position(|line| *line == format!("[{}]", section(key.path))).unwrap();
        let next = lines.iter().skip(head + 1).position(|line| line.starts_with('['));
        let end = next.map_or(lines.len(), |next| head + next);
        let last = key.path.split_once('.').unwrap().1;
        let value = match key.default {
            Some(bare) if bare.parse::<u64>().is_ok() || bare.parse::<bool>().is_ok() => format!("{last} = {bare}"),
            Some(text) => format!("{last} = {text:?}"),
            None => format!("# {last} = \"…\""),
        };
        lines.splice(end..end, std::iter::once(String::new()).chain(explanation).chain([value]));
    }
    lines.join("\n") + "\n"
}

/// The names that the compose file passes on. One that is missing comes after the last.
fn passed(text: &str) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for name in table::ALL.iter().flat_map(|key| key.names()) {
        let line = format!("      {name}: ${{{name}:-}}");
        if !lines.iter().any(|other| other.trim().starts_with(&format!("{name}: "))) {
            let last = lines.iter().rposition(|line| line.contains("${DOORWARD_CONFIG")).unwrap();
            lines.insert(last, line);
        }
    }
    lines.join("\n") + "\n"
}

fn section(path: &str) -> &str {
    path.split('.').next().unwrap()
}

#[test]
fn the_default_file_gives_exactly_the_defaults() {
    let loaded = Settings::load(&Sources::default().config_file(path("config/default.toml"))).unwrap();
    assert_eq!(format!("{:?}", loaded.settings), format!("{:?}", Settings::default()));
    for entry in &loaded.entries {
        if let Some(default) = entry.key.default {
            assert_eq!(entry.value, default, "{}", entry.key.name);
            assert_ne!(entry.source, "default", "{} is missing in config/default.toml", entry.key.name);
        } else {
            assert_eq!(entry.source, "default", "{} must have no default", entry.key.name);
        }
    }
}

#[test]
fn the_default_file_explains_every_setting() {
    let text = read("config/default.toml");
    for key in table::ALL {
        let environment = key.names().collect::<Vec<_>>().join(", ");
        let explanation = format!("# {}\n# Must be {}.\n# Environment: {environment}\n", key.meaning, key.kind);
        let (_, rest) = text.split_once(&explanation).unwrap_or_else(|| panic!("no explanation:\n{explanation}"));
        let line = rest.lines().next().unwrap().trim_start_matches("# ");
        let (_, last) = key.path.split_once('.').unwrap();
        assert!(line.starts_with(&format!("{last} = ")), "{} is followed by {line:?}", key.name);
    }
}

fn row(key: &Key) -> String {
    let names = key.names().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
    let default = key.default.map_or(key.when_unset().to_owned(), |default| format!("`{default}`"));
    let reloads = if key.reloads { " Reloaded at SIGHUP." } else { "" };
    format!("| {names} | `{}` | {default} | {}{reloads} | {} |", key.path, key.meaning, key.kind)
}

#[test]
fn the_settings_page_has_a_row_for_each_setting_and_no_other() {
    let text = read("docs/settings.md");
    let expected: BTreeSet<String> = table::ALL.iter().map(|key| row(key)).collect();
    let found: BTreeSet<String> = text.lines().filter(|line| line.starts_with("| `")).map(str::to_owned).collect();
    assert_eq!(found, expected);
}

#[test]
fn the_compose_file_passes_every_setting_and_no_other() {
    let text = read("docker-compose.yml");
    let passed: BTreeSet<String> = text
        .lines()
        .filter_map(|line| line.trim().split_once(": "))
        .filter(|(name, _)| name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_'))
        .map(|(name, value)| {
            let fixed = ["HOST", "PORT", "DATA_DIR"].contains(&name);
            assert!(fixed || value == format!("${{{name}:-}}"), "{name}: {value}");
            name.to_owned()
        })
        .collect();
    let mut expected: BTreeSet<String> = table::ALL.iter().flat_map(|key| key.names()).map(str::to_owned).collect();
    expected.extend(table::ALL.iter().filter_map(|key| key.file_name()));
    expected.insert("DOORWARD_CONFIG".to_owned());
    assert_eq!(passed, expected);
}

#[test]
fn names_and_places_are_unique() {
    let names: Vec<_> = table::ALL.iter().flat_map(|key| key.names()).collect();
    assert_eq!(names.iter().collect::<BTreeSet<_>>().len(), names.len());
    let paths: BTreeSet<_> = table::ALL.iter().map(|key| key.path).collect();
    assert_eq!(paths.len(), table::ALL.len());
}
