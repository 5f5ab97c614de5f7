//! `doorward top`: the actors of a running server as a tree, live in a terminal.

mod view;

use std::io::{self, IsTerminal as _};
use std::process::ExitCode;
use std::time::Duration;

use doorward_actors::Secret;
use rustix::termios::tcgetwinsize;

use super::health::{HealthError, body, server_of};
use super::{TopArgs, complain};
use crate::app::SERVICE_TOKEN_FILE;
use crate::data_dir::secrets;
use crate::settings::Settings;
use view::{History, Report};

/// The size of a terminal that does not tell it.
const USUAL_SIZE: (usize, usize) = (120, 40);

#[derive(Debug, thiserror::Error)]
enum TopError {
    #[error(transparent)]
    Health(#[from] HealthError),
    #[error("the answer of the server cannot be read: {0}")]
    Unreadable(#[from] serde_json::Error),
    #[error("the service token in the data directory cannot be read: {0}")]
    Token(io::Error),
    #[error("there is no service token: neither SERVICE_TOKEN is set, nor has the data directory one")]
    NoToken,
    #[error("{0}")]
    Io(#[from] io::Error),
}

/// Shows the actors until Ctrl-C, or once if standard output is no terminal.
pub(super) fn run(settings: &Settings, arguments: TopArgs) -> ExitCode {
    let shown = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(TopError::from)
        .and_then(|runtime| runtime.block_on(show(settings, Duration::from_secs(arguments.interval.into()))));
    match shown {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

async fn show(settings: &Settings, interval: Duration) -> Result<(), TopError> {
    let token = token(settings)?;
    let url = format!("{}/health/actors", server_of(&settings.http));
    if !io::stdout().is_terminal() {
        super::print(&view::plain(&ask(&url, &token).await?));
        return Ok(());
    }
    let mut history = History::new(interval);
    let mut ended = std::pin::pin!(tokio::signal::ctrl_c());
    loop {
        let lines = match ask(&url, &token).await {
            Ok(report) => view::live(&report, &mut history),
            // A server that restarts is back in a moment.
            Err(error) => error.to_string(),
        };
        let (width, height) = size();
        super::print(&format!("\x1b[H\x1b[2J{}", view::fitted(&lines, width, height)));
        tokio::select! {
            _ = &mut ended => return Ok(()),
            () = tokio::time::sleep(interval) => {}
        }
    }
}

async fn ask(url: &str, token: &Secret) -> Result<Report, TopError> {
    Ok(serde_json::from_str(&body(url, &format!("X-Service-Token: {}\r\n", token.expose())).await?)?)
}

/// Returns the service token of the settings, or the generated one.
fn token(settings: &Settings) -> Result<Secret, TopError> {
    match &settings.tokens.service_token {
        Some(token) => Ok(token.clone()),
        None => secrets::load(&settings.storage.data_dir, SERVICE_TOKEN_FILE)
            .map_err(TopError::Token)?
            .ok_or(TopError::NoToken),
    }
}

/// Returns the columns and rows of the terminal.
fn size() -> (usize, usize) {
    match tcgetwinsize(io::stdout()) {
        Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
        _ => USUAL_SIZE,
    }
}
