//! Parses the text of each setting and collects the mistakes.

use std::net::IpAddr;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use doorward_actors::{Secret, SecretDigest};
use figment::{Figment, Profile};

use super::layers::{self, must_be};
use super::origins::Origins;
use super::table::{self, Key, Kind};
use super::{Entry, Mistake};
use crate::line_end::without_line_end;
use doorward_actors::Networks;

/// The minimum length of a secret, in bytes. RFC 7518, section 3.2 requires an HMAC key at least as long as SHA-256's output.
const MIN_SECRET_BYTES: usize = 32;
/// The placeholder for a secret in examples.
const PLACEHOLDER: &str = "your_secret_key_here";
/// The maximum length of a [`Kind::Text`], in characters.
const MAX_TEXT_CHARS: usize = 255;

/// Reads settings one by one. A method that returns `None` has recorded a mistake.
pub(super) struct Reader {
    layers: Figment,
    mistakes: Vec<Mistake>,
}

impl Reader {
    pub(super) fn new(layers: Figment, mistakes: Vec<Mistake>) -> Self {
        Self { layers, mistakes }
    }

    pub(super) fn into_mistakes(self) -> Vec<Mistake> {
        self.mistakes
    }

    /// Returns every setting as it took effect.
    pub(super) fn entries(&self) -> Vec<Entry> {
        let entry = |key: &'static Key| {
            let found = self.find(key);
            let digest = found.as_ref().map(|(value, _)| SecretDigest::of(value.as_bytes()));
            let (value, source) = match found {
                Some((_, source)) if key.is_secret() => ("***".to_owned(), source),
                Some(found) => found,
                None => (format!("({})", key.when_unset()), "default".to_owned()),
            };
            Entry { key, value, source, digest }
        };
        table::ALL.iter().copied().map(entry).collect()
    }

    /// Returns a value and its source. A secret is returned without the line break at its end.
    fn find(&self, key: &Key) -> Option<(String, String)> {
        let value = self.layers.find_value(key.path).ok()?;
        let metadata = self.layers.get_metadata(value.tag())?;
        let path: Vec<&str> = key.path.split('.').collect();
        let source = metadata.interpolate(&Profile::Default, &path);
        let text = value.into_string()?;
        let text = if key.is_secret() { without_line_end(&text).to_owned() } else { text };
        Some((text, source))
    }

    /// Reads a setting that has a default.
    pub(super) fn parse<T>(&mut self, key: &Key, parse: impl FnOnce(&str) -> Option<T>) -> Option<T> {
        let (text, _) = self.find(key)?;
        let parsed = parse(&text);
        if parsed.is_none() {
            self.refuse(key, must_be(key));
        }
        parsed
    }

    /// Reads a setting that may be missing. Returns `Some(None)` if it is.
    #[expect(clippy::option_option, reason = "the outer one says whether the reading went well, as everywhere here")]
    pub(super) fn optional<T>(&mut self, key: &Key, parse: impl FnOnce(&str) -> Option<T>) -> Option<Option<T>> {
        match self.find(key) {
            Some(_) => self.parse(key, parse).map(Some),
            None => Some(None),
        }
    }

    /// Reads a path.
    pub(super) fn path(&mut self, key: &Key) -> Option<PathBuf> {
        self.parse(key, path_of)
    }

    /// Reads a path that may be missing. Returns `Some(None)` if it is.
    #[expect(clippy::option_option, reason = "the outer one says whether the reading went well, as everywhere here")]
    pub(super) fn optional_path(&mut self, key: &Key) -> Option<Option<PathBuf>> {
        self.optional(key, path_of)
    }

    /// Records a mistake in a setting.
    pub(super) fn refuse(&mut self, key: &Key, problem: String) {
        let origin = self.find(key).map(|(_, source)| source).unwrap_or_default();
        self.mistakes.push(Mistake { key: key.name.to_owned(), origin, problem });
    }

    /// Reads a whole number within the limits of the table.
    pub(super) fn integer<T: TryFrom<u64>>(&mut self, key: &Key) -> Option<T> {
        self.parse(key, |text| match key.kind {
            Kind::PerCore { min, max } if text == "auto" => cores().clamp(min, max).try_into().ok(),
            Kind::Integer { min, max } | Kind::PerCore { min, max } => whole_number(text, min, max)?.try_into().ok(),
            _ => None,
        })
    }

    /// Reads a span of time in minutes.
    pub(super) fn minutes(&mut self, key: &Key) -> Option<Duration> {
        self.integer(key).map(Duration::from_mins)
    }

    /// Reads a span of time in seconds.
    pub(super) fn seconds(&mut self, key: &Key) -> Option<Duration> {
        self.integer(key).map(Duration::from_secs)
    }

    /// Reads a span of time in milliseconds.
    pub(super) fn milliseconds(&mut self, key: &Key) -> Option<Duration> {
        self.integer(key).map(Duration::from_millis)
    }

    pub(super) fn flag(&mut self, key: &Key) -> Option<bool> {
        self.parse(key, |text| match text.to_ascii_lowercase().as_str() {
            "true" => Some(true),
            "false" => Some(false),
            _ => None,
        })
    }

    pub(super) fn text(&mut self, key: &Key) -> Option<String> {
        self.parse(key, |text| {
            let fits = (1..=MAX_TEXT_CHARS).contains(&text.chars().count());
            (fits && !text.chars().any(char::is_control)).then(|| text.to_owned())
        })
    }

    pub(super) fn address(&mut self, key: &Key) -> Option<IpAddr> {
        self.parse(key, |text| text.parse().ok())
    }

    /// Reads a list of networks; empty if it is not set.
    pub(super) fn networks(&mut self, key: &Key) -> Option<Networks> {
        self.optional(key, Networks::parse).map(Option::unwrap_or_default)
    }

    /// Reads a list of web origins; empty if it is not set.
    pub(super) fn origins(&mut self, key: &Key) -> Option<Origins> {
        self.optional(key, Origins::parse).map(Option::unwrap_or_default)
    }

    /// Reads a secret that may be missing. Returns `Some(None)` if it is; it is then created at the first start.
    #[expect(clippy::option_option, reason = "the outer one says whether the reading went well, as everywhere here")]
    pub(super) fn secret(&mut self, key: &Key) -> Option<Option<Secret>> {
        let Some((text, _)) = self.find(key) else { return Some(None) };
        let secret = Secret::new(text);
        if secret.expose() == PLACEHOLDER {
            self.refuse(key, "is still the placeholder of the examples".to_owned());
            None
        } else if secret.expose().ends_with(['\r', '\n']) {
            // To drop or keep the line breaks would silently change a secret that an earlier version read in another way.
            self.refuse(key, "ends with more than one line break; leave one or none".to_owned());
            None
        } else if secret.expose().len() < MIN_SECRET_BYTES {
            self.refuse(key, must_be(key));
            None
        } else {
            Some(Some(secret))
        }
    }
}

/// Returns the documented defaults of one section or of all of them.
#[expect(clippy::expect_used, reason = "the defaults are constants, and a test reads every one of them")]
pub(super) fn documented<T>(read: impl FnOnce(&mut Reader) -> Option<T>) -> T {
    read(&mut Reader::new(layers::defaults_alone(), Vec::new())).expect("the documented defaults are valid")
}

/// No path can contain a NUL byte. The file system checks everything else.
fn path_of(text: &str) -> Option<PathBuf> {
    (!text.is_empty() && !text.contains('\0')).then(|| PathBuf::from(text))
}

/// Parses digits only: no sign, no space, no separator.
fn whole_number(text: &str, min: u64, max: u64) -> Option<u64> {
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|number| (min..=max).contains(number))
}

/// Returns how many cores this process may use.
fn cores() -> u64 {
    thread::available_parallelism().map_or(1, |cores| u64::try_from(cores.get()).unwrap_or(u64::MAX))
}
