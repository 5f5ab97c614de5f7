//! The log.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::keys;
use super::reader::{Reader, documented};

/// What is logged, and in which form.
#[derive(Debug, Clone)]
pub struct LogSettings {
    /// A level, or directives as `tracing_subscriber::EnvFilter` takes them; Python's names of levels are translated.
    pub level: String,
    /// The form.
    pub format: LogFormat,
    /// Whether e-mail addresses stand in it as they are.
    pub pii: bool,
    /// One in how many token checks that succeed is logged; 0 for none.
    pub verify_sample: u64,
}

/// The form of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Pretty on a terminal, else JSON.
    Auto,
    /// For people.
    Pretty,
    /// One JSON object a line.
    Json,
}

impl LogSettings {
    pub(super) fn read(reader: &mut Reader) -> Option<Self> {
        let level = reader.parse(&keys::LOG_LEVEL, filter);
        let format = reader.parse(&keys::LOG_FORMAT, |text| match text {
            "auto" => Some(LogFormat::Auto),
            "pretty" => Some(LogFormat::Pretty),
            "json" => Some(LogFormat::Json),
            _ => None,
        });
        let pii = reader.flag(&keys::LOG_PII);
        let verify_sample = reader.integer(&keys::LOG_VERIFY_SAMPLE);
        Some(Self { level: level?, format: format?, pii: pii?, verify_sample: verify_sample? })
    }
}

impl Default for LogSettings {
    /// The documented defaults.
    fn default() -> Self {
        documented(Self::read)
    }
}

/// A usable filter. `EnvFilter` takes a bare word that is no level for a target, so that the typo `inof` would silently log
/// next to nothing: here a target needs its level.
fn filter(text: &str) -> Option<String> {
    let complete = |directive: &str| {
        let (target, level) = match directive.rsplit_once('=') {
            Some((target, level)) => (Some(target), level),
            None => (None, directive),
        };
        let level = level_of(level)?;
        Some(target.map_or(level.to_owned(), |target| format!("{target}={level}")))
    };
    // A span directive may hold commas of its own; it must have its level too.
    let directives: Vec<&str> = if text.contains('[') { vec![text] } else { text.split(',').collect() };
    let filter = directives.into_iter().map(complete).collect::<Option<Vec<_>>>()?.join(",");
    EnvFilter::try_new(&filter).is_ok().then_some(filter)
}

/// A level as `tracing` spells it. Python's names are taken, too, in any case, because the service that Doorward replaces was
/// written in Python.
fn level_of(name: &str) -> Option<&str> {
    let python = [("WARNING", "warn"), ("CRITICAL", "error"), ("FATAL", "error"), ("NOTSET", "trace")];
    if let Some((_, level)) = python.into_iter().find(|(python, _)| python.eq_ignore_ascii_case(name)) {
        return Some(level);
    }
    // The parser of levels takes nothing at all for ERROR.
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
