//! Reads secrets from a terminal without showing them.

use std::io::{self, IsTerminal as _, Stdin, Write as _};

use rustix::process::Signal;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::signal::unix::{SignalKind, signal};

use crate::line_end::without_line_end;

/// A shell adds this to the number of a signal for the exit code of a process that the signal ended.
const ENDED_BY_SIGNAL: i32 = 128;

/// The terminal of standard input with its echo turned off. The echo is restored when this is dropped and when a signal ends the process.
pub(crate) struct Hidden {
    terminal: Stdin,
    before: Termios,
}

impl Hidden {
    /// Turns the echo off. Returns `None` if standard input is not a terminal. Needs a runtime, which waits for signals.
    ///
    /// # Errors
    /// The terminal or the operating system refuses.
    pub(crate) fn begin() -> io::Result<Option<Self>> {
        let terminal = io::stdin();
        if !terminal.is_terminal() {
            return Ok(None);
        }
        let before = tcgetattr(&terminal)?;
        restore_at_signals(before.clone())?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO | LocalModes::ECHONL);
        let guard = Self { terminal, before };
        tcsetattr(&guard.terminal, OptionalActions::Now, &hidden)?;
        Ok(Some(guard))
    }

    /// Asks for one line. `None` at the end of the input.
    ///
    /// # Errors
    /// The terminal cannot be read, or the input is not UTF-8.
    pub(crate) fn ask(&self, prompt: &str) -> io::Result<Option<String>> {
        say(prompt);
        let mut line = String::new();
        let read = self.terminal.read_line(&mut line);
        // The terminal did not show the user's line break either.
        say("\n");
        Ok((read? > 0).then(|| without_line_end(&line).to_owned()))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        restore(&self.terminal, &self.before);
    }
}

fn restore(terminal: &Stdin, before: &Termios) {
    // If the terminal is gone, nothing needs to be restored.
    let _ = tcsetattr(terminal, OptionalActions::Now, before);
}

/// Shows a text to the user. Uses standard error, because standard output is for the result of a command.
fn say(text: &str) {
    let mut err = io::stderr();
    let _ = err.write_all(text.as_bytes()).and_then(|()| err.flush());
}

/// Restores the terminal and ends the process at each signal that would end it anyway. The process cannot be suspended while it
/// asks, because the shell would then have a terminal without echo.
fn restore_at_signals(before: Termios) -> io::Result<()> {
    let mut hangup = signal(SignalKind::hangup())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut quit = signal(SignalKind::quit())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let suspend = signal(SignalKind::from_raw(Signal::TSTP.as_raw()))?;
    tokio::spawn(async move {
        let number = tokio::select! {
            _ = hangup.recv() => Signal::HUP,
            _ = interrupt.recv() => Signal::INT,
            _ = quit.recv() => Signal::QUIT,
            _ = terminate.recv() => Signal::TERM,
        };
        drop(suspend);
        restore(&io::stdin(), &before);
        say("\n");
        std::process::exit(ENDED_BY_SIGNAL + number.as_raw());
    });
    Ok(())
}
