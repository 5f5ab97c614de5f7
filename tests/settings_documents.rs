//! The table of settings, `config/default.toml`, `docs/settings.md` and `docker-compose.yml` must agree.
#![expect(clippy::unwrap_used, reason = "a helper of a test may panic like the test itself")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use doorward::settings::table::{self, Key};
use doorward::settings::{Settings, Sources};

fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(path(name)).unwrap()
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
    format!("| {names} | `{}` | {default} | {} | {} |", key.path, key.meaning, key.kind)
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
