//! Tables as they stand in docs/performance.md.

/// A table in Markdown. Every row has as many cells as the head.
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
