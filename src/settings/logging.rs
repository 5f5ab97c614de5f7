//! The log.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::reader::{Reader, documented};
use super::table;

/// What is logged, and in which format.
#[derive(Debug, Clone)]
pub struct LogSettings {
    /// A level, or directives in the syntax of `tracing_subscriber::EnvFilter`. Python's level names are translated.
    pub level: String,
    /// The format.
    pub format: LogFormat,
    /// Whether e-mail addresses are logged unchanged.
    pub pii: bool,
    /// Of this many successful token checks, one is logged; 0 for none.
    pub verify_sample: u64,
}

/// The format of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Pretty on a terminal, otherwise JSON.
    Auto,
    /// For people.
    Pretty,
    /// One JSON object per line.
    Json,
}

impl LogSettings {
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let level = reader.parse(&table::LOG_LEVEL, filter);
        let format = reader.parse(&table::LOG_FORMAT, |text| match text {
            "auto" => Some(LogFormat::Auto),
            "pretty" => Some(LogFormat::Pretty),
            "json" => Some(LogFormat::Json),
            _ => None,
        });
        let pii = reader.flag(&table::LOG_PII);
        let verify_sample = reader.integer(&table::LOG_VERIFY_SAMPLE);
        Some(Self { level: level?, format: format?, pii: pii?, verify_sample: verify_sample? })
    }
}

impl Default for LogSettings {
    /// The documented defaults.
    fn default() -> Self {
        documented(Self::read)
    }
}

/// Returns a usable filter. A target must have a level here: `EnvFilter` treats a word that is not a level as a target, so the typo `inof`
/// would silently log almost nothing.
fn filter(text: &str) -> Option<String> {
    let complete = |directive: &str| {
        let (target, level) = match directive.rsplit_once('=') {
            Some((target, level)) => (Some(target), level),
            None => (None, directive),
        };
        let level = level_of(level)?;
        Some(target.map_or(level.to_owned(), |target| format!("{target}={level}")))
    };
    // A span directive may contain commas. It must have a level too.
    let directives: Vec<&str> = if text.contains('[') { vec![text] } else { text.split(',').collect() };
    let filter = directives.into_iter().map(complete).collect::<Option<Vec<_>>>()?.join(",");
    EnvFilter::try_new(&filter).is_ok().then_some(filter)
}

/// Returns the level as `tracing` spells it. Also accepts Python's level names in any case, because the service that Doorward replaces
/// was written in Python.
fn level_of(name: &str) -> Option<&str> {
    let python = [("WARNING", "warn"), ("CRITICAL", "error"), ("FATAL", "error"), ("NOTSET", "trace")];
    if let Some((_, level)) = python.into_iter().find(|(python, _)| python.eq_ignore_ascii_case(name)) {
        return Some(level);
    }
    // The parser of levels reads an empty text as ERROR.
    (!name.is_empty() && name.parse::<LevelFilter>().is_ok()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_directives_are_filters() {
        for text in ["info", "OFF", "warn,doorward=debug", "doorward::http=trace,info", "[request{id=\"7\"}]=debug"] {
            assert_eq!(filter(text).as_deref(), Some(text));
        }
    }

    #[test]
    fn a_word_that_is_no_level_is_no_filter() {
        for text in ["", "inof", "info,", "doorward", "doorward=loud", "info,doorward", "[request]", "=info=", " "] {
            assert_eq!(filter(text), None, "{text:?}");
        }
    }

    #[test]
    fn a02_the_levels_of_a_python_service_are_levels() {
        for (python, level) in [
            ("INFO", "INFO"),
            ("Debug", "Debug"),
            ("WARNING", "warn"),
            ("warning", "warn"),
            ("CRITICAL", "error"),
            ("Fatal", "error"),
            ("NOTSET", "trace"),
            ("WARNING,doorward=CRITICAL", "warn,doorward=error"),
        ] {
            assert_eq!(filter(python).as_deref(), Some(level));
        }
    }
}
