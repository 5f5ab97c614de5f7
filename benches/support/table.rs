//! Tables in the form of docs/performance.md.

/// Formats a Markdown table. Panics if a row has another number of cells than the head.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    assert!(rows.iter().all(|row| row.len() == head.len()), "a row is too short or too long: {rows:?}");
    let line = |cells: Vec<&str>| format!("| {} |\n", cells.join(" | "));
    let mut text = line(head.to_vec());
    text += "|";
    text += &"---|".repeat(head.len());
    text += "\n";
    for row in rows {
        text += &line(row.iter().map(String::as_str).collect());
    }
    text
}
