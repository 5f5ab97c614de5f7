//! Texts that repeat something else are written by these tests: `BLESS=1 cargo test --test written` writes them anew, and without
//! it a text that differs is a failure.

#![expect(clippy::unwrap_used, reason = "a helper of a test may panic like the test itself")]

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

fn path(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(file)
}

fn read(file: &str) -> String {
    fs::read_to_string(path(file)).unwrap_or_default()
}

/// Writes a file, or fails if it is not as it should be.
#[track_caller]
fn hold(file: &str, expected: &str) {
    if std::env::var_os("BLESS").is_some() {
        fs::write(path(file), expected).unwrap();
    }
    assert!(read(file) == expected, "{file} is not up to date: BLESS=1 cargo test --test written");
}

/// A text with other lines between its two marks.
fn with_part(text: &str, name: &str, part: &str) -> String {
    let (begin, end) = (format!("<!-- {name}: written by tests/written.rs -->\n"), format!("<!-- end of {name} -->\n"));
    let (before, rest) = text.split_once(&begin).unwrap();
    let (_, after) = rest.split_once(&end).unwrap();
    format!("{before}{begin}{part}{end}{after}")
}

#[test]
fn the_index_of_decisions_names_each_of_them() {
    let mut files: Vec<_> = fs::read_dir(path("docs/adr")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    files.sort();
    let mut index = "# Decisions\n\nEach page says what was decided, why, and what follows from it. This list is written by a test.\n\n\
                     | decision | status |\n|---|---|\n"
        .to_owned();
    for file in files.iter().map(|file| file.to_str().unwrap()).filter(|file| *file != "README.md") {
        let text = read(&format!("docs/adr/{file}"));
        let title = text.lines().next().unwrap().trim_start_matches("# ");
        let status = text.lines().find_map(|line| line.strip_prefix("Status: ")).unwrap();
        writeln!(index, "| [{title}]({file}) | {status} |").unwrap();
    }
    hold("docs/adr/README.md", &index);
}

#[test]
fn the_layout_of_the_database_is_described_as_the_code_describes_it() {
    let source = read("actors/src/store/layout.rs");
    let comment =
        source.lines().map_while(|line| line.strip_prefix("//!")).map(|line| line.strip_prefix(' ').unwrap_or(line));
    let part: String = comment.skip_while(|line| !line.starts_with("| kind")).flat_map(|line| [line, "\n"]).collect();
    let page = "docs/architecture.md";
    hold(page, &with_part(&read(page), "layout", &part));
}
