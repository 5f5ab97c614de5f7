//! The log.

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::keys;
use super::reader::{Reader, documented};

/// What is logged, and in which form.
#[derive(Debug, Clone)]
pub struct LogSettings {
    /// A level, or directives as `tracing_subscriber::EnvFilter` takes them.
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
        let level = reader.parse(&keys::LOG_LEVEL, |text| is_filter(text).then(|| text.to_owned()));
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

/// Whether this is a usable filter. `EnvFilter` takes a bare word that is no level for a target, so that the typo `inof`
/// would silently log next to nothing: here a target needs its level.
fn is_filter(text: &str) -> bool {
    let is_complete = |directive: &str| {
        let level = directive.rsplit_once('=').map_or(directive, |(_, level)| level);
        // The parser of levels takes nothing at all for ERROR.
        !level.is_empty() && level.parse::<LevelFilter>().is_ok()
    };
    // A span directive may hold commas of its own; it must have its level too.
    let complete = if text.contains('[') { is_complete(text) } else { text.split(',').all(is_complete) };
    complete && EnvFilter::try_new(text).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_and_directives_are_filters() {
        for text in ["info", "OFF", "warn,doorward=debug", "doorward::http=trace,info", "[request{id=\"7\"}]=debug"] {
            assert!(is_filter(text), "{text:?}");
        }
    }

    #[test]
    fn a_word_that_is_no_level_is_no_filter() {
        for text in ["", "inof", "info,", "doorward", "doorward=loud", "info,doorward", "[request]", "=info=", " "] {
            assert!(!is_filter(text), "{text:?}");
        }
    }
}
