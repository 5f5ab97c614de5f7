//! Secrets that are typed at a terminal, which does not show them.

use std::io::{self, IsTerminal as _, Stdin, Write as _};

use rustix::process::Signal;
use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use tokio::signal::unix::{SignalKind, signal};

use crate::line_end::without_line_end;

/// What a shell adds to the number of a signal for the exit code of what it ended.
const ENDED_BY_SIGNAL: i32 = 128;

/// The terminal of standard input while it shows nothing of what is typed. It is as before when this is dropped, and when a
/// signal ends the process.
pub(crate) struct Hidden {
    terminal: Stdin,
    before: Termios,
}

impl Hidden {
    /// Hides what is typed from here on; `None` where standard input is no terminal. Needs a runtime, which looks out for
    /// signals.
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
    /// The terminal cannot be read, or what it gives is not UTF-8.
    pub(crate) fn ask(&self, prompt: &str) -> io::Result<Option<String>> {
        say(prompt);
        let mut line = String::new();
        let read = self.terminal.read_line(&mut line);
        // The one that was typed is not shown.
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
    // A terminal that is gone needs nothing.
    let _ = tcsetattr(terminal, OptionalActions::Now, before);
}

/// Shows the terminal's user something. Standard output is for what a command prints.
fn say(text: &str) {
    let mut err = io::stderr();
    let _ = err.write_all(text.as_bytes()).and_then(|()| err.flush());
}

/// Ends the process at a signal that would end it anyway, with the terminal as it was. While it asks, it cannot be suspended:
/// the shell would have a terminal that shows nothing.
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
