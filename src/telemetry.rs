//! The log, on standard error.

use std::io::{self, IsTerminal as _};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::ParseError;
use tracing_subscriber::util::{SubscriberInitExt as _, TryInitError};

use crate::settings::{LogFormat, LogSettings};

/// The log could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The level is no filter; settings that were loaded never have such a one.
    #[error("the log level is not a filter")]
    Filter(#[from] ParseError),
    /// The process has a log already.
    #[error("the log is set up already")]
    Twice(#[from] TryInitError),
}

/// Starts the log of this process, once.
pub fn init(settings: &LogSettings) -> Result<(), TelemetryError> {
    let terminal = io::stderr().is_terminal();
    let pretty = match settings.format {
        LogFormat::Pretty => true,
        LogFormat::Json => false,
        LogFormat::Auto => terminal,
    };
    let builder = tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::try_new(&settings.level)?)
        .with_writer(io::stderr)
        // Colours are escape sequences, which have no place in a file.
        .with_ansi(terminal);
    if pretty {
        builder.finish().try_init()?;
    } else {
        builder.json().flatten_event(true).finish().try_init()?;
    }
    Ok(())
}
