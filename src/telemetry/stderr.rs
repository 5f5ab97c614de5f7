//! Standard error, written by a thread of its own: whoever has something to say neither waits for its reader nor fails
//! with it ([ADR 040](../../docs/adr/040-a-log-that-holds-nothing-up.md)).

use std::io::{self, Write};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

use super::places;

/// The most bytes that wait: about 3,000 lines of requests. As much again may be on its way.
const CAPACITY_BYTES: usize = 1024 * 1024;
/// The most bytes of one write, unless a single line is longer: a pipe takes so many in one piece (POSIX, `PIPE_BUF` on Linux),
/// so that lines of several processes on it do not mix.
const PIECE_BYTES: usize = 4096;
/// How long the writer rests when a descriptor that does not block has no room.
const PAUSE: Duration = Duration::from_millis(10);
/// How long the end of the process may wait for the last lines.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// How many lines were written since the start of the process, and how many were lost because standard error could not be
/// written or took them too slowly.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct LogCounts {
    pub(crate) written: u64,
    pub(crate) dropped: u64,
}

/// The lines on their way. One for each process, like the descriptor that it stands for.
static LINES: OnceLock<Lines> = OnceLock::new();

/// Lines that wait for the writer.
#[derive(Debug, Default)]
struct Lines {
    state: Mutex<State>,
    /// Something waits, or nothing does any more.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    /// Whether the writer has lines in its hands.
    busy: bool,
    counts: LogCounts,
}

/// Says whole lines on standard error. Never blocks and never fails: what does not fit is dropped and counted.
pub(crate) fn say(text: &str) {
    lines().push(text.as_bytes());
}

/// Waits until all that was said is written, for a second at most.
pub(crate) fn flush() {
    if let Some(lines) = LINES.get() {
        lines.flush(LAST_WAIT);
    }
}

/// What became of the lines so far.
pub(crate) fn counts() -> LogCounts {
    LINES.get().map(|lines| lines.lock().counts).unwrap_or_default()
}

fn lines() -> &'static Lines {
    let mut first = false;
    let lines = LINES.get_or_init(|| {
        first = true;
        Lines::default()
    });
    if first {
        // Without a thread the lines wait and are dropped in the end; a process that gets none does not come far anyway.
        let _ = std::thread::Builder::new().name("log".to_owned()).spawn(|| lines.write_to(io::stderr()));
    }
    lines
}

impl Lines {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes whole lines, the last one with or without its end, if there is room.
    fn push(&self, text: &[u8]) {
        let open = !text.ends_with(b"\n");
        let mut state = self.lock();
        if state.waiting.len() + text.len() < CAPACITY_BYTES {
            state.waiting.extend_from_slice(text);
            if open {
                state.waiting.push(b'\n');
            }
            self.changed.notify_all();
        } else {
            state.counts.dropped += ends(text) + u64::from(open);
        }
    }

    fn flush(&self, within: Duration) {
        let open = |state: &mut State| state.busy || !state.waiting.is_empty();
        drop(self.changed.wait_timeout_while(self.lock(), within, open));
    }

    /// Writes what waits and what comes, for as long as the process lives.
    fn write_to(&self, mut out: impl Write) {
        let mut batch = Vec::new();
        let mut torn = false;
        // How many lines were lost when the log last said so.
        let mut told = 0;
        loop {
            self.take(&mut batch);
            // Now there is room for the line that says so, and what was written last went well.
            let dropped = self.lock().counts.dropped;
            if dropped > told && !torn {
                tracing::warn!(dropped = dropped - told, "lines of the log were lost: nobody took them in time");
                told = dropped;
            }
            for piece in pieces(&batch) {
                let written = write(&mut out, piece, &mut torn);
                let mut state = self.lock();
                state.counts.written += ends(&piece[..written]);
                state.counts.dropped += ends(&piece[written..]);
            }
        }
    }

    /// Swaps a batch that is written for what waits; waits until something does.
    fn take(&self, batch: &mut Vec<u8>) {
        batch.clear();
        let mut state = self.lock();
        state.busy = false;
        self.changed.notify_all();
        let mut state =
            self.changed.wait_while(state, |state| state.waiting.is_empty()).unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut state.waiting, batch);
        state.busy = true;
    }
}

/// How many lines end in a text.
fn ends(text: &[u8]) -> u64 {
    text.iter().map(|byte| u64::from(*byte == b'\n')).sum()
}

/// Whole lines, as many at a time as one write may have.
fn pieces(mut text: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let fitting = text[..text.len().min(PIECE_BYTES)].iter().rposition(|byte| *byte == b'\n');
        let end = fitting.or_else(|| text.iter().position(|byte| *byte == b'\n'))? + 1;
        let (piece, rest) = text.split_at(end);
        text = rest;
        Some(piece)
    })
}

/// Writes a piece, and gives back how much of it was. `torn` says whether the output ended inside a line, and afterwards
/// whether it failed: the next piece then begins a line of its own.
fn write(out: &mut impl Write, piece: &[u8], torn: &mut bool) -> usize {
    if *torn && write_all(out, b"\n") == 0 {
        return 0;
    }
    let written = write_all(out, piece);
    *torn = written < piece.len();
    written
}

fn write_all(out: &mut impl Write, text: &[u8]) -> usize {
    let mut written = 0;
    while written < text.len() {
        match out.write(&text[written..]) {
            Ok(0) => break,
            Ok(taken) => written += taken,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(PAUSE),
            Err(_) => break,
        }
    }
    written
}

/// What the log writes to: each event with one call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stderr;

impl Write for Stderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // Lines are text; anything else goes as it is.
        match std::str::from_utf8(line) {
            Ok(text) => lines().push(places::shorten(text).as_bytes()),
            Err(_) => lines().push(line),
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Stderr {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        Self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes so many bytes in all, and then fails.
    struct Full {
        room: usize,
        taken: Vec<u8>,
    }

    impl Write for Full {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let taken = bytes.len().min(self.room).min(7);
            self.room -= taken;
            self.taken.extend_from_slice(&bytes[..taken]);
            if taken == 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(taken) }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn b04_lines_beyond_the_room_are_dropped_and_counted() {
        let lines = Lines::default();
        let line = "x".repeat(1023);
        for _ in 0..2000 {
            lines.push(line.as_bytes());
        }
        let state = lines.lock();
        assert!(state.waiting.len() <= CAPACITY_BYTES, "{}", state.waiting.len());
        assert_eq!(state.counts.dropped + ends(&state.waiting), 2000);
    }

    #[test]
    fn b04_a_line_that_was_cut_off_swallows_no_later_one() {
        let mut out = Full { room: 10, taken: Vec::new() };
        let mut torn = false;
        assert_eq!(write(&mut out, b"one\ntwo\nthree\n", &mut torn), 10);
        assert_eq!(write(&mut out, b"four\n", &mut torn), 0);
        assert!(torn);
        out.room = 100;
        assert_eq!(write(&mut out, b"five\n", &mut torn), 5);
        assert!(!torn);
        assert_eq!(String::from_utf8(out.taken).unwrap(), "one\ntwo\nth\nfive\n");
    }

    #[test]
    fn pieces_are_whole_lines_and_none_is_lost() {
        let line = |n: usize| format!("{}\n", "x".repeat(n));
        let text = [line(10), line(5000), line(0), line(4000), line(94), line(1)].concat();
        let lengths: Vec<_> = pieces(text.as_bytes()).map(<[u8]>::len).collect();
        assert_eq!(lengths, [11, 5001, 1 + 4001, 95 + 2]);
        assert_eq!(pieces(b"").count(), 0);
    }
}
