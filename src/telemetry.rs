//! The log, on standard error.

mod places;
mod pseudonyms;
mod stderr;

use std::fmt;
use std::io::{self, IsTerminal as _};
use std::panic::PanicHookInfo;
use std::sync::OnceLock;

use doorward_actors::ports::Entropy;

use tracing::field::Field;
use tracing::subscriber::Subscriber;
use tracing::{Level, Metadata};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::field::MakeExt as _;
use tracing_subscriber::filter::{ParseError, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::reload;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

use crate::settings::{LogFormat, LogSettings};
use pseudonyms::{Pseudonymous, Pseudonyms};
use stderr::Stderr;
pub(crate) use stderr::{LogCounts, counts, flush, say};

/// Why the log could not be set up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TelemetryError {
    /// The level is not a valid filter. This never happens with loaded settings.
    #[error("the log level is not a filter")]
    Filter(#[from] ParseError),
    /// The level cannot be changed. This never happens while there is a log.
    #[error("the log level cannot be changed: {0}")]
    Change(#[from] reload::Error),
    /// The process already has a log.
    #[error("the log is set up already")]
    Twice(#[from] TryInitError),
}

/// Changes the filter of the log.
type ChangeFilter = dyn Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync;
/// Changes the filter of the log of this process. Like the log, there is one for each process.
static CHANGE_FILTER: OnceLock<Box<ChangeFilter>> = OnceLock::new();

/// Sets up the log of this process. Call it once. `entropy` creates the key of the pseudonyms.
pub(crate) fn init(settings: &LogSettings, entropy: &dyn Entropy) -> Result<(), TelemetryError> {
    let terminal = io::stderr().is_terminal();
    let pretty = match settings.format {
        LogFormat::Pretty => true,
        LogFormat::Json => false,
        LogFormat::Auto => terminal,
    };
    let filter = EnvFilter::try_new(&settings.level)?;
    let pseudonyms = (!settings.pii).then(|| {
        let mut key = [0; 32];
        entropy.fill(&mut key);
        Pseudonyms::new(&key)
    });
    let writer = Pseudonymous::new(Stderr, pseudonyms);
    if pretty {
        let (log, change) = for_people(filter, writer, terminal);
        log.with(filter_fn(is_safe)).try_init()?;
        keep(change);
    } else {
        let (log, change) = for_machines(filter, writer);
        log.with(filter_fn(is_safe)).try_init()?;
        keep(change);
    }
    Ok(())
}

/// Changes what the log of this process contains. `level` is that of checked settings. Without a log there is nothing to change.
pub(crate) fn set_level(level: &str) -> Result<(), TelemetryError> {
    let filter = EnvFilter::try_new(level)?;
    Ok(CHANGE_FILTER.get().map_or(Ok(()), |change| change(filter))?)
}

fn keep(change: impl Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync + 'static) {
    // The process has one log, which was set up just now.
    let _ = CHANGE_FILTER.set(Box::new(change));
}

/// Reports panics in the log, once there is one. The default report goes directly to standard error, contains paths of the machine
/// that built the program, and is not JSON.
pub(crate) fn report_panics() {
    std::panic::set_hook(Box::new(report));
}

fn report(panic: &PanicHookInfo<'_>) {
    let text = panic.payload_as_str().unwrap_or("not a text");
    let at = panic.location().map_or_else(String::new, |at| format!("{}:{}", places::of(at.file()), at.line()));
    if tracing::dispatcher::has_been_set() {
        tracing::error!(panic = text, at, "a thread panicked");
    } else {
        say(&format!("doorward: a thread panicked at {at}: {text}"));
    }
}

/// Returns whether an event may be logged at all. sled frees memory while a thread ends and logs that at its finest levels.
/// At that point the thread's log buffer no longer exists, and an attempt to log would end the process.
fn is_safe(event: &Metadata<'_>) -> bool {
    *event.level() <= Level::INFO || !event.target().starts_with("sled")
}

/// Writes each event as one line of text, and returns what changes the filter. Colours are escape sequences, which do not belong in a file.
fn for_people<W>(
    filter: EnvFilter,
    writer: W,
    colours: bool,
) -> (impl Subscriber + Send + Sync, impl Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync + 'static)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .with_ansi(colours)
        .log_internal_errors(false)
        .fmt_fields(debug_fn(write_field).delimited(" "))
        .with_filter_reloading();
    let handle = log.reload_handle();
    (log.finish(), move |filter| handle.reload(filter))
}

/// Writes each event as one JSON object, with its fields next to its time and level. Returns also what changes the filter.
fn for_machines<W>(
    filter: EnvFilter,
    writer: W,
) -> (impl Subscriber + Send + Sync, impl Fn(EnvFilter) -> Result<(), reload::Error> + Send + Sync + 'static)
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(writer)
        .log_internal_errors(false)
        .json()
        .flatten_event(true)
        .with_span_list(false)
        .with_filter_reloading();
    let handle = log.reload_handle();
    (log.finish(), move |filter| handle.reload(filter))
}

/// Writes a field and escapes its control characters, so that a client's input can neither begin a new line nor control the terminal
/// (S71). The default formatter writes a `%field` unescaped.
fn write_field(writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug) -> fmt::Result {
    match field.name() {
        "message" => {}
        // The bridge from the `log` crate adds these fields. The line already shows them as its target.
        name if name.starts_with("log.") => return Ok(()),
        name => write!(writer, "{name}=")?,
    }
    for c in format!("{value:?}").chars() {
        if c.is_control() { write!(writer, "{}", c.escape_debug())? } else { writer.write_char(c)? }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Captured {
        fn writer(&self) -> impl for<'a> MakeWriter<'a> + Send + Sync + 'static {
            let captured = self.clone();
            move || captured.clone()
        }

        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    /// Two events with a forged line in the message, in fields of each kind and in a span.
    fn log_forged_lines() {
        let forged = "a\r\nINFO forged \u{1b}[31m\u{85}";
        tracing::info!(display = %forged, debug = ?forged, text = forged, "message {forged}");
        tracing::info_span!("span", display = %forged).in_scope(|| tracing::info!("second"));
    }

    #[test]
    fn s71_input_never_forges_a_line() {
        let captured = Captured::default();
        let filter = || EnvFilter::new("info");
        tracing::subscriber::with_default(for_people(filter(), captured.writer(), false).0, log_forged_lines);
        let text = captured.text();
        assert_eq!(text.lines().count(), 2, "{text}");
        assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
        assert!(text.contains("display=a\\r\\nINFO forged \\u{1b}[31m"), "{text}");

        let captured = Captured::default();
        tracing::subscriber::with_default(for_machines(filter(), captured.writer()).0, log_forged_lines);
        let text = captured.text();
        assert_eq!(text.lines().count(), 2, "{text}");
        let first: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        assert_eq!(first["display"], "a\r\nINFO forged \u{1b}[31m\u{85}");
    }
}
