//! Standard error, written by a thread of its own. A thread that logs never waits for the reader of standard error and never fails
//! because of it ([ADR 040](../../docs/adr/040-a-log-that-holds-nothing-up.md)).

use std::io::{self, Write};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use tracing_subscriber::fmt::MakeWriter;

use super::places;

/// The maximum size of the waiting lines, in bytes: about 3,000 lines of requests. The writer may hold as many again.
const CAPACITY_BYTES: usize = 1024 * 1024;
/// The maximum size of one write, in bytes, unless a single line is longer. A pipe takes up to this much in one piece (POSIX,
/// `PIPE_BUF` on Linux), so lines of several processes on one pipe do not mix.
const PIECE_BYTES: usize = 4096;
/// How long the writer pauses when a non-blocking descriptor is full.
const PAUSE: Duration = Duration::from_millis(10);
/// How long the process waits for the last lines when it ends.
const LAST_WAIT: Duration = Duration::from_secs(1);

/// The number of lines written since the start of the process, and the number of lines lost. A line is lost if standard error fails
/// or takes lines too slowly.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct LogCounts {
    pub(crate) written: u64,
    pub(crate) dropped: u64,
}

/// The queue of this process. Like its descriptor, there is one for each process.
static LINES: OnceLock<Lines> = OnceLock::new();

/// The queue of lines for the writer.
#[derive(Debug, Default)]
struct Lines {
    state: Mutex<State>,
    /// Signals that lines wait, or that all lines are written.
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    waiting: Vec<u8>,
    /// Whether the writer is writing a batch.
    busy: bool,
    counts: LogCounts,
}

/// Writes whole lines to standard error. Never blocks and never fails: lines that do not fit are dropped and counted.
pub(crate) fn say(text: &str) {
    lines().push(text.as_bytes());
}

/// Waits until all queued lines are written, for at most a second.
pub(crate) fn flush() {
    if let Some(lines) = LINES.get() {
        lines.flush(LAST_WAIT);
    }
}

/// Returns how many lines were written and dropped so far.
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
        // Without a thread the lines stay in the queue, and further ones are dropped when it is full.
        // A process that cannot start a thread fails soon anyway.
        let _ = std::thread::Builder::new().name("log".to_owned()).spawn(|| lines.write_to(io::stderr()));
    }
    lines
}

impl Lines {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues whole lines if there is room. The last line may lack its line end.
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

    /// Writes queued lines until the process ends.
    fn write_to(&self, mut out: impl Write) {
        let mut batch = Vec::new();
        let mut torn = false;
        // The number of dropped lines that the log has already reported.
        let mut told = 0;
        loop {
            self.take(&mut batch);
            // `take` has just emptied the queue, so it has room for the warning. `!torn` means that the last write succeeded.
            let dropped = self.lock().counts.dropped;
            if dropped > told && !torn {
                tracing::warn!(
                    dropped = dropped - told,
                    "log lines were dropped because standard error did not take them in time"
                );
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

    /// Waits until lines are queued, then swaps them for the batch that was written.
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

/// Returns the number of line ends in a text.
fn ends(text: &[u8]) -> u64 {
    text.iter().map(|byte| u64::from(*byte == b'\n')).sum()
}

/// Splits a text into pieces of whole lines, each as large as one write may be.
fn pieces(mut text: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let fitting = text[..text.len().min(PIECE_BYTES)].iter().rposition(|byte| *byte == b'\n');
        let end = fitting.or_else(|| text.iter().position(|byte| *byte == b'\n'))? + 1;
        let (piece, rest) = text.split_at(end);
        text = rest;
        Some(piece)
    })
}

/// Writes a piece and returns how many of its bytes were written. On entry, `torn` says whether the output ended inside a line; a line
/// break is then written first. On return, it says whether this write failed.
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

/// The writer of the log, which writes each event with one call.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stderr;

impl Write for Stderr {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        // Lines are UTF-8 text. Other bytes are queued unchanged.
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

    /// A writer that takes this many bytes in total and then fails.
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
