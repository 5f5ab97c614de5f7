//! The four layers of settings. Each is read into the same form: the text and the source of each key of the table.
//!
//! figment merges them and remembers the source of each value. It never sees a raw environment value or `.env` line, because it would
//! guess a type: a secret of digits would become a number.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::Path;

use figment::providers::{Format, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};

use super::table::{self, Key, Kind};
use super::{Mistake, Sources, dotenv, near};

/// Some editors write this mark at the start of a file.
const BYTE_ORDER_MARK: char = '\u{feff}';
/// The maximum length of an unknown name that a message repeats, in bytes.
const MAX_SHOWN_NAME: usize = 48;

/// The values of one source, by [`Key::path`].
#[derive(Default)]
struct Layer(BTreeMap<&'static str, Given>);

struct Given {
    text: String,
    source: String,
    /// Whether the text was read from the file that `NAME_FILE` names.
    from_file: bool,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        let sources: BTreeMap<String, String> =
            self.0.iter().map(|(path, given)| ((*path).to_owned(), given.source.clone())).collect();
        Metadata::named("settings")
            .interpolater(move |_, path: &[&str]| sources.get(&path.join(".")).cloned().unwrap_or_default())
    }

    fn data(&self) -> figment::Result<Map<Profile, Dict>> {
        let mut sections = BTreeMap::<String, Dict>::new();
        for (path, given) in &self.0 {
            if let Some((section, key)) = path.split_once('.') {
                let section = sections.entry(section.to_owned()).or_default();
                section.insert(key.to_owned(), Value::from(given.text.clone()));
            }
        }
        let dict = sections.into_iter().map(|(name, section)| (name, Value::from(section))).collect();
        Ok(Profile::Default.collect(dict))
    }
}

/// The mistakes and warnings about the sources.
#[derive(Default)]
pub(super) struct Findings {
    /// The mistakes, which stop the program.
    pub(super) mistakes: Vec<Mistake>,
    /// The warnings, which do not.
    pub(super) warnings: Vec<String>,
    /// The sources of settings in [`table::RETIRED`].
    retired: Vec<String>,
}

/// Reads every source and merges them.
pub(super) fn collect(sources: &Sources, findings: &mut Findings) -> Figment {
    let mut layers = vec![defaults()];
    if let Some(path) = &sources.config_file {
        layers.push(config_file(path, &mut findings.mistakes));
    }
    if let Some(path) = &sources.dotenv_file {
        layers.push(dotenv_file(path, findings));
    }
    layers.push(environment(&sources.environment, findings));
    refuse_secrets_given_both_ways(&layers, &mut findings.mistakes);
    if !findings.retired.is_empty() {
        findings.warnings.push(format!(
            "{}: no effect. The service that Doorward replaces kept its accounts and its log in these databases; Doorward keeps \
             them in DATA_DIR. No command brings accounts along yet: an administrator makes them anew at \
             POST /accounts_management/, or people register again",
            findings.retired.join(", ")
        ));
    }
    layers.into_iter().fold(Figment::new(), Figment::merge)
}

/// Returns only the defaults.
pub(super) fn defaults_alone() -> Figment {
    Figment::new().merge(defaults())
}

fn defaults() -> Layer {
    let given = |text: &str| Given { text: text.to_owned(), source: "default".to_owned(), from_file: false };
    Layer(table::ALL.iter().filter_map(|key| Some((key.path, given(key.default?)))).collect())
}

fn config_file(path: &Path, mistakes: &mut Vec<Mistake>) -> Layer {
    let mut layer = Layer::default();
    let file = path.display();
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            mistakes.push(unreadable("settings file", &file.to_string(), &error));
            return layer;
        }
    };
    let root: Dict = match Toml::from_str(&text) {
        Ok(root) => root,
        Err(error) => {
            // The parser's own message repeats the line, which may hold a secret.
            let line = error.span().map_or(1, |span| line_of(&text, span.start));
            mistakes.push(mistake("settings file", &file.to_string(), format!("line {line} is not valid TOML")));
            return layer;
        }
    };
    for (section, entries) in root {
        let Value::Dict(_, entries) = entries else {
            mistakes.push(unknown(&section, &file.to_string()));
            continue;
        };
        for (key, value) in entries {
            let place = format!("{section}.{key}");
            let source = format!("{file}: {}", shown(&place));
            if let Some(key) = table::ALL.iter().find(|key| key.places().any(|known| known == place)) {
                match (toml_text(key, &value), layer.0.get(key.path)) {
                    (Some(text), Some(given)) if given.text != text => {
                        let problem = format!("contradicts {}, which is another name for it", given.source);
                        mistakes.push(mistake(key.name, &source, problem));
                    }
                    (Some(text), _) => layer.give(key, text, source),
                    (None, _) => mistakes.push(mistake(key.name, &source, must_be(key))),
                }
            } else if let Some(key) = table::ALL.iter().find(|key| key.file_path().is_some_and(|path| path == place)) {
                match value.as_str() {
                    Some(secret_file) => layer.give_from_file(key, Path::new(secret_file), &source, mistakes),
                    None => mistakes.push(mistake(key.name, &source, "must be the path of a file".to_owned())),
                }
            } else {
                mistakes.push(unknown(&place, &file.to_string()));
            }
        }
    }
    layer
}

/// Returns the text of a TOML value; `None` if its type is wrong. Text must be quoted, so that `issuer = 007` does not lose its zeros.
fn toml_text(key: &Key, value: &Value) -> Option<String> {
    match (key.kind, value) {
        (_, Value::String(_, text)) => Some(text.clone()),
        (Kind::Integer { .. } | Kind::PerCore { .. }, Value::Num(..)) => Some(value.to_i128()?.to_string()),
        (Kind::Flag, Value::Bool(_, flag)) => Some(flag.to_string()),
        (Kind::Networks | Kind::Origins, Value::Array(_, items)) => {
            let items: Option<Vec<&str>> =
                items.iter().map(|item| item.as_str().filter(|item| !item.contains(','))).collect();
            Some(items?.join(","))
        }
        _ => None,
    }
}

fn dotenv_file(path: &Path, findings: &mut Findings) -> Layer {
    let file = path.display().to_string();
    let mistakes = &mut findings.mistakes;
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Layer::default(),
        Err(error) => {
            mistakes.push(unreadable(".env", &file, &error));
            return Layer::default();
        }
    };
    let mut names = BTreeMap::new();
    for (line, statement) in dotenv::statements(text.trim_start_matches(BYTE_ORDER_MARK)) {
        // A line may hold a secret, so messages do not repeat it.
        let mut refuse = |problem| mistakes.push(mistake(".env", &file, format!("line {line} {problem}")));
        match statement {
            Err(problem) => refuse(problem),
            Ok((name, value)) if table::RETIRED.contains(&name) => {
                if !value.trim().is_empty() {
                    findings.retired.push(format!("{name} ({file})"));
                }
            }
            Ok((name, _)) if key_of(name).is_none() => mistakes.push(unknown(name, &file)),
            Ok((name, value)) => match dotenv::value(value) {
                Err(problem) => refuse(problem),
                Ok(value) => {
                    if names.insert(name.to_owned(), value).is_some() {
                        mistakes.push(mistake(name, &file, "is given twice".to_owned()));
                    }
                }
            },
        }
    }
    Layer::from_names(&names, |name| format!("{file}: {name}"), mistakes)
}

/// Returns the setting of a flat name.
fn key_of(name: &str) -> Option<&'static Key> {
    let means =
        |key: &Key| key.names().any(|known| known == name) || key.file_name().is_some_and(|known| known == name);
    table::ALL.iter().copied().find(|key| means(key))
}

fn environment(variables: &[(OsString, OsString)], findings: &mut Findings) -> Layer {
    let source = |name: &str| format!("environment variable {name}");
    let mut names = BTreeMap::new();
    for (name, value) in variables {
        // A name that is not UTF-8 cannot be a setting.
        let Some(name) = name.to_str() else { continue };
        let Some(key) = key_of(name) else {
            let value = value.to_string_lossy();
            if value.is_empty() {
                continue;
            }
            if table::RETIRED.contains(&name) {
                findings.retired.push(source(name));
            } else if let Some(meant) = near::meant(name, &value) {
                let source = source(name);
                let what = format!("{source} is not a setting and has no effect; the nearest setting is {meant}");
                findings.warnings.push(what);
            }
            continue;
        };
        match value.to_str() {
            Some(value) => _ = names.insert(name.to_owned(), value.to_owned()),
            None => findings.mistakes.push(mistake(key.name, &source(name), "must be UTF-8".to_owned())),
        }
    }
    Layer::from_names(&names, source, &mut findings.mistakes)
}

impl Layer {
    /// Creates a layer from flat names. An empty value counts as not set, so a container can pass through every name.
    fn from_names(
        names: &BTreeMap<String, String>,
        source: impl Fn(&str) -> String,
        mistakes: &mut Vec<Mistake>,
    ) -> Self {
        let get = |name: &str| names.get(name).filter(|value| !value.is_empty());
        let mut layer = Self::default();
        for key in table::ALL {
            let mut spellings = key.names().filter_map(|name| Some((name, get(name)?)));
            if let Some((name, value)) = spellings.next() {
                if let Some((other, _)) = spellings.find(|(_, other)| *other != value) {
                    let problem = format!("contradicts {other}, which is another name for it");
                    mistakes.push(mistake(name, &source(name), problem));
                }
                layer.give(key, value.clone(), source(name));
            }
            let file_name = key.file_name().unwrap_or_default();
            if let Some(secret_file) = get(&file_name) {
                let named_by = source(&file_name);
                layer.give_from_file(key, Path::new(secret_file), &named_by, mistakes);
            }
        }
        layer
    }

    fn give(&mut self, key: &Key, text: String, source: String) {
        self.0.insert(key.path, Given { text, source, from_file: false });
    }

    /// Reads a secret from its file.
    fn give_from_file(&mut self, key: &Key, file: &Path, named_by: &str, mistakes: &mut Vec<Mistake>) {
        let source = format!("file {}, named by {named_by}", file.display());
        if let Some(given) = self.0.get(key.path) {
            mistakes.push(given_both_ways(key, &given.source, &source));
            return;
        }
        match fs::read_to_string(file) {
            Ok(text) => {
                self.0.insert(key.path, Given { text, source, from_file: true });
            }
            Err(error) => mistakes.push(unreadable(key.name, &source, &error)),
        }
    }
}

/// Refuses a secret that is given in one layer and as a file in another. This is a contradiction, not an override: an operator who moved
/// the secret into a file needs to know that the old one still exists.
fn refuse_secrets_given_both_ways(layers: &[Layer], mistakes: &mut Vec<Mistake>) {
    for key in table::ALL.iter().filter(|key| key.is_secret()) {
        let source = |from_file: bool| {
            let mut given = layers.iter().filter_map(|layer| layer.0.get(key.path));
            given.find(|given| given.from_file == from_file).map(|given| &given.source)
        };
        if let (Some(value), Some(file)) = (source(false), source(true)) {
            mistakes.push(given_both_ways(key, value, file));
        }
    }
}

fn given_both_ways(key: &Key, value: &str, file: &str) -> Mistake {
    mistake(key.name, file, format!("is given as a value too, by {value}"))
}

pub(super) fn must_be(key: &Key) -> String {
    format!("must be {}", key.kind)
}

fn unknown(name: &str, source: &str) -> Mistake {
    mistake(shown(name), source, "is not a known setting".to_owned())
}

fn unreadable(key: &str, source: &str, error: &io::Error) -> Mistake {
    mistake(key, source, format!("cannot be read: {error}"))
}

fn mistake(key: &str, source: &str, problem: String) -> Mistake {
    Mistake { key: key.to_owned(), origin: source.to_owned(), problem }
}

/// Returns the name of an unknown setting if it looks like a name. A line of a wrapped secret does not, although base64 also ends in `=`.
fn shown(name: &str) -> &str {
    let of = |case: fn(&char) -> bool| name.chars().all(|c| case(&c) || c.is_ascii_digit() || "_-.".contains(c));
    let plausible = of(char::is_ascii_lowercase) || of(char::is_ascii_uppercase);
    if plausible && name.len() <= MAX_SHOWN_NAME { name } else { "(a name that is not shown)" }
}

fn line_of(text: &str, offset: usize) -> usize {
    1 + text.bytes().take(offset).filter(|byte| *byte == b'\n').count()
}
