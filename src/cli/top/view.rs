//! What `doorward top` shows, as text.

use std::collections::{HashMap, VecDeque};
use std::fmt::Write as _;
use std::time::Duration;

use serde::Deserialize;

/// The number of samples of a sparkline.
const SAMPLES: usize = 16;
/// The steps of a sparkline, from none to the most.
const STEPS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// The parts of `GET /health/actors` that are shown.
#[derive(Debug, Deserialize)]
pub(super) struct Report {
    status: String,
    problems: Vec<Problem>,
    uptime_seconds: u64,
    actors: Vec<Actor>,
    store: Store,
    hasher: Hasher,
    outbox: Option<Outbox>,
    sessions: Sessions,
}

#[derive(Debug, Deserialize)]
struct Problem {
    check: String,
    actor: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Actor {
    name: String,
    parent: Option<String>,
    state: String,
    uptime_seconds: u64,
    mailbox: u64,
    oldest_message_seconds: Option<u64>,
    handled: u64,
    failed: u64,
    restarts: u64,
    handling: Timing,
}

#[derive(Debug, Deserialize)]
struct Timing {
    p50_ms: Option<f64>,
    p99_ms: Option<f64>,
}

#[derive(Debug, Deserialize)]
struct Store {
    ok: bool,
    commit: Timing,
    waiting: u64,
    disk_used_bytes: Option<u64>,
    disk_free_bytes: Option<u64>,
}

#[derive(Debug, Deserialize)]
struct Hasher {
    backend: String,
    threads: u64,
    busy: u64,
    queued: u64,
    refused: u64,
}

#[derive(Debug, Deserialize)]
struct Outbox {
    waiting: u64,
    dead: u64,
}

#[derive(Debug, Deserialize)]
struct Sessions {
    live: u64,
}

/// How many messages each actor handled between two looks, the newest last.
pub(super) struct History {
    interval: Duration,
    actors: HashMap<String, Track>,
}

#[derive(Default)]
struct Track {
    handled: Option<u64>,
    messages: VecDeque<u64>,
}

impl History {
    pub(super) fn new(interval: Duration) -> Self {
        Self { interval, actors: HashMap::new() }
    }

    /// Adds what an actor has handled since the last look.
    fn note(&mut self, actor: &Actor) {
        let track = self.actors.entry(actor.name.clone()).or_default();
        // After a restart of the server its counters begin anew.
        if let Some(before) = track.handled.replace(actor.handled) {
            if track.messages.len() == SAMPLES {
                track.messages.pop_front();
            }
            track.messages.push_back(actor.handled.saturating_sub(before));
        }
    }

    /// Returns the messages a second at the last look, and the sparkline of all looks.
    fn of(&self, actor: &Actor) -> (String, String) {
        let Some(track) = self.actors.get(&actor.name) else { return Default::default() };
        let seconds = self.interval.as_secs().max(1);
        let rate = track.messages.back().map(|messages| format!("{}/s", messages / seconds));
        (rate.unwrap_or_default(), sparkline(&track.messages))
    }
}

fn sparkline(values: &VecDeque<u64>) -> String {
    let most = values.iter().copied().max().unwrap_or(0).max(1);
    let step = |value: &u64| {
        let index = usize::try_from(value.saturating_mul(7).div_ceil(most)).unwrap_or(0);
        STEPS[index.min(STEPS.len() - 1)]
    };
    values.iter().map(step).collect()
}

/// Returns the report as plain text.
pub(super) fn plain(report: &Report) -> String {
    written(report, None)
}

/// Returns the report with rates and sparklines, and adds it to the history.
pub(super) fn live(report: &Report, history: &mut History) -> String {
    for actor in &report.actors {
        history.note(actor);
    }
    written(report, Some(history))
}

/// Cuts a text to the size of a terminal. The last row stays empty for the cursor.
pub(super) fn fitted(text: &str, width: usize, height: usize) -> String {
    let lines = text.lines().take(height.saturating_sub(1));
    lines.flat_map(|line| line.chars().take(width).chain(['\n'])).collect()
}

/// Writing to a string cannot fail, so the results of that are ignored here.
fn written(report: &Report, history: Option<&History>) -> String {
    let mut text = String::new();
    let (status, sessions) = (shown(&report.status), report.sessions.live);
    let _ = writeln!(text, "doorward: {status}, up {}, {sessions} sessions", span(report.uptime_seconds));
    for Problem { check, actor } in &report.problems {
        let of = actor.as_deref().map(|actor| format!(" ({})", shown(actor))).unwrap_or_default();
        let _ = writeln!(text, "problem: {}{of}", shown(check));
    }
    let store = &report.store;
    let works = if store.ok { "works" } else { "failed" };
    let disk = |bytes: Option<u64>| bytes.map_or_else(|| "?".to_owned(), mebibytes);
    let _ = writeln!(
        text,
        "store: {works}, commits p50 {} p99 {}, {} waiting, {} used, {} free",
        millis(store.commit.p50_ms),
        millis(store.commit.p99_ms),
        store.waiting,
        disk(store.disk_used_bytes),
        disk(store.disk_free_bytes),
    );
    let Hasher { backend, threads, busy, queued, refused } = &report.hasher;
    let _ = writeln!(
        text,
        "hasher: {}, {busy} of {threads} threads busy, {queued} waiting, {refused} refused",
        shown(backend)
    );
    if let Some(Outbox { waiting, dead }) = &report.outbox {
        let _ = writeln!(text, "outbox: {waiting} waiting, {dead} given up");
    }
    let _ = writeln!(text);
    row(&mut text, &HEAD, if history.is_some() { ["rate", "messages"] } else { [""; 2] });
    branch(&mut text, report, None, "", history);
    text
}

const HEAD: [&str; 10] = ["actor", "state", "up", "mailbox", "oldest", "handled", "p50", "p99", "failed", "restarts"];

/// Writes the actors below one, and those below them.
fn branch(text: &mut String, report: &Report, parent: Option<&str>, indent: &str, history: Option<&History>) {
    let children: Vec<_> = report.actors.iter().filter(|actor| actor.parent.as_deref() == parent).collect();
    for (index, actor) in children.iter().enumerate() {
        let is_last = index + 1 == children.len();
        let (joint, below) = match (parent.is_none(), is_last) {
            (true, _) => ("", ""),
            (false, false) => ("├─ ", "│  "),
            (false, true) => ("└─ ", "   "),
        };
        let columns = [
            &format!("{indent}{joint}{}", shown(&actor.name)),
            &shown(&actor.state),
            &span(actor.uptime_seconds),
            &actor.mailbox.to_string(),
            &actor.oldest_message_seconds.map(span).unwrap_or_default(),
            &actor.handled.to_string(),
            &millis(actor.handling.p50_ms),
            &millis(actor.handling.p99_ms),
            &actor.failed.to_string(),
            &actor.restarts.to_string(),
        ];
        let (rate, sparkline) = history.map(|history| history.of(actor)).unwrap_or_default();
        row(text, &columns.map(String::as_str), [&rate, &sparkline]);
        branch(text, report, Some(&actor.name), &format!("{indent}{below}"), history);
    }
}

fn row(text: &mut String, columns: &[&str; 10], [rate, sparkline]: [&str; 2]) {
    let [name, state, up, mailbox, oldest, handled, p50, p99, failed, restarts] = columns;
    let line = format!(
        "{name:<18} {state:<10} {up:>8} {mailbox:>7} {oldest:>7} {handled:>10} {p50:>9} {p99:>9} {failed:>6} {restarts:>8} \
         {rate:>8}  {sparkline}"
    );
    text.push_str(line.trim_end());
    text.push('\n');
}

/// Returns a text of the server without control characters, which could change the terminal.
fn shown(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}

/// Writes a number of seconds with its two largest units.
fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m{:02}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h{:02}m", seconds / 3600, seconds / 60 % 60),
        _ => format!("{}d{:02}h", seconds / 86_400, seconds / 3600 % 24),
    }
}

fn millis(millis: Option<f64>) -> String {
    match millis {
        None => String::new(),
        Some(millis) if millis < 1.0 => format!("{:.1}µs", millis * 1000.0),
        Some(millis) if millis < 1000.0 => format!("{millis:.1}ms"),
        Some(millis) => format!("{:.1}s", millis / 1000.0),
    }
}

fn mebibytes(bytes: u64) -> String {
    format!("{} MiB", bytes / (1024 * 1024))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn actor(name: &str, parent: Option<&str>, handled: u64) -> serde_json::Value {
        json!({"name": name, "parent": parent, "state": "running", "uptime_seconds": 3720, "mailbox": 0,
               "oldest_message_seconds": null, "handled": handled, "failed": 0, "restarts": 0,
               "handling": {"p50_ms": 0.0015, "p99_ms": 12.0}})
    }

    fn report(handled: u64) -> Report {
        let actors = [
            actor("supervisor", None, 0),
            actor("user", Some("supervisor"), handled),
            actor("session\u{1b}[31m-0", Some("supervisor"), 7),
        ];
        let report = json!({
            "status": "degraded", "problems": [{"check": "disk_low", "actor": null, "blocks": false}, {"check": "actor", "actor": "user", "blocks": true}],
            "uptime_seconds": 90061, "actors": actors,
            "store": {"ok": true, "commit": {"p50_ms": 1.25, "p99_ms": null}, "waiting": 0, "disk_used_bytes": 1 << 20, "disk_free_bytes": null},
            "hasher": {"backend": "avx2", "threads": 2, "busy": 1, "queued": 0, "refused": 3},
            "outbox": null, "sessions": {"live": 4},
        });
        serde_json::from_value(report).unwrap()
    }

    #[test]
    fn the_tree_is_plain_text_without_what_could_change_a_terminal() {
        let expected = "\
doorward: degraded, up 1d01h, 4 sessions
problem: disk_low
problem: actor (user)
store: works, commits p50 1.2ms p99 , 0 waiting, 1 MiB used, ? free
hasher: avx2, 1 of 2 threads busy, 0 waiting, 3 refused

actor              state            up mailbox  oldest    handled       p50       p99 failed restarts
supervisor         running       1h02m       0                  0     1.5µs    12.0ms      0        0
├─ user            running       1h02m       0                  5     1.5µs    12.0ms      0        0
└─ session[31m-0   running       1h02m       0                  7     1.5µs    12.0ms      0        0
";
        assert_eq!(plain(&report(5)), expected);
    }

    #[test]
    fn the_live_tree_has_rates_and_their_past() {
        let mut history = History::new(Duration::from_secs(2));
        live(&report(0), &mut history);
        for handled in [10, 10, 90, 130] {
            live(&report(handled), &mut history);
        }
        let shown = live(&report(140), &mut history);
        let user = shown.lines().find(|line| line.contains("user ")).unwrap();
        assert!(user.ends_with("      5/s  ▂▁█▅▂"), "{user}");
        // Another server has other counters, and only so many looks are kept.
        for _ in 0..100 {
            live(&report(0), &mut history);
        }
        let shown = live(&report(0), &mut history);
        assert!(shown.lines().any(|line| line.ends_with(&format!("  {}", "▁".repeat(SAMPLES)))), "{shown}");
    }

    #[test]
    fn a_small_terminal_is_not_written_beyond() {
        assert_eq!(fitted("äbcd\nefgh\nijkl\n", 2, 3), "äb\nef\n");
    }
}
