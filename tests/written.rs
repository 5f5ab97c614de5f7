//! Texts that repeat something else are written by these tests: `BLESS=1 cargo test --test written` writes them anew, and without
//! it a text that differs is a failure.

#![expect(clippy::unwrap_used, reason = "a helper of a test may panic like the test itself")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

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

/// Statements that tests of a reported fault hold, whose names begin with the number of the fault.
const FAULTS: &[(&str, &[&str])] = &[
    ("a02", &["R13"]),
    ("a03", &["R13"]),
    ("c06", &["S74"]),
    ("c07", &["S05"]),
    ("c08", &["S33", "S74"]),
    ("c09", &["S26", "S32"]),
    ("c10", &["S77"]),
    ("c14", &["S15"]),
    ("d12", &["S75"]),
    ("d13", &["S75"]),
    ("d14", &["S15"]),
    ("e17", &["R13"]),
    ("f21", &["S25"]),
    ("g24", &["R13"]),
    ("g25", &["R11", "S07"]),
    ("g26", &["S09"]),
];

#[test]
fn the_tests_of_each_statement_of_the_security_page_are_listed() {
    let page = read("docs/security.md");
    let is_id = |id: &str| id.len() == 3 && id.starts_with(['S', 'R']) && id[1..].bytes().all(|b| b.is_ascii_digit());
    let first_cells = page.lines().filter_map(|line| line.strip_prefix("| ")?.split(" |").next());
    let mut tests: BTreeMap<&str, BTreeMap<String, Vec<String>>> =
        first_cells.filter(|cell| is_id(cell)).map(|id| (id, BTreeMap::new())).collect();
    let mut sources = Vec::new();
    for folder in ["actors/src", "src", "tests"] {
        sources_below(&path(folder), &mut sources);
    }
    sources.sort();
    for source in sources {
        let file = source.strip_prefix(path("")).unwrap().to_str().unwrap().to_owned();
        for name in tests_in(&fs::read_to_string(&source).unwrap()) {
            for (id, rows) in &mut tests {
                let held = |part: &str| {
                    let of_fault = FAULTS.iter().find(|(fault, _)| *fault == part);
                    part == id.to_lowercase() || of_fault.is_some_and(|(_, ids)| ids.contains(id))
                };
                if name.split('_').any(held) {
                    rows.entry(file.clone()).or_default().push(name.clone());
                }
            }
        }
    }
    let mut list = "# Tests of the security register\n\n\
                    Each statement of [security.md](security.md#what-holds) has a row here, which names the tests that fail if the \
                    statement does not hold.\nThis page is written by a test. `cargo test s43_` runs the tests whose names begin \
                    with that number.\n\n| id | tests |\n|---|---|\n"
        .to_owned();
    for (id, files) in &tests {
        let of_file = |(file, names): (&String, &Vec<String>)| {
            let names: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
            format!("`{file}` {}", names.join(", "))
        };
        let files: Vec<_> = files.iter().map(of_file).collect();
        writeln!(list, "| {id} | {} |", files.join("; ")).unwrap();
    }
    hold("docs/security-tests.md", &list);
}

fn sources_below(folder: &Path, sources: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources_below(&path, sources);
        } else if path.extension().is_some_and(|ending| ending == "rs") {
            sources.push(path);
        }
    }
}

/// The names of the functions of a source that an attribute makes a test, or that a macro for properties does.
fn tests_in(source: &str) -> Vec<String> {
    let (mut tests, mut is_test) = (Vec::new(), false);
    for line in source.lines().map(str::trim) {
        let attribute = line.starts_with("#[");
        is_test |= attribute && line.contains("test") && !line.contains("cfg");
        let name = line.trim_start_matches("async ").strip_prefix("fn ").and_then(|rest| rest.split('(').next());
        if let (true, Some(name)) = (is_test, name) {
            tests.push(name.to_owned());
        }
        is_test &= attribute || line.starts_with("//");
    }
    tests
}
