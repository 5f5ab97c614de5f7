//! `doorward check-config`.

use std::fmt::Write as _;
use std::process::ExitCode;

use crate::settings::Loaded;

/// Prints one line for each setting: name, value, source. Prints the warnings on standard error.
pub(super) fn print(loaded: &Loaded) -> ExitCode {
    for warning in &loaded.warnings {
        super::say(&format!("warning: {warning}"));
    }
    super::print(&lines(loaded));
    ExitCode::SUCCESS
}

fn lines(loaded: &Loaded) -> String {
    // Escape control characters, so that a value can neither forge a line nor control the terminal.
    let rows: Vec<_> = loaded
        .entries
        .iter()
        .map(|entry| (entry.key.name, entry.value.escape_debug().to_string(), &entry.source))
        .collect();
    let name_width = rows.iter().map(|(name, ..)| name.len()).max().unwrap_or(0);
    let value_width = rows.iter().map(|(_, value, _)| value.chars().count()).max().unwrap_or(0);
    let mut lines = String::new();
    for (name, value, source) in rows {
        // Writing to a string cannot fail.
        let _ = writeln!(lines, "{name:name_width$}  {value:value_width$}  {source}");
    }
    lines
}
