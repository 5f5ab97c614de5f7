//! Checks what the compiler cannot: which part may know which, and that documents match the program.
#![expect(clippy::unwrap_used, reason = "a helper of a test may panic like the test itself")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use doorward::{Documented, route_table};

/// The maximum length of a source file, in lines.
const MAX_LINES: usize = 600;
/// The crates that only the root package may use.
const ADAPTERS: [&str; 4] = ["warp", "sled", "figment", "lettre"];

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the text files in a folder of the repository, by their paths in the repository.
fn files(below: &str, endings: &[&str]) -> BTreeMap<String, String> {
    fn collect(folder: &Path, endings: &[&str], found: &mut BTreeMap<String, String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() && !["target", ".git", "data", "fuzz"].contains(&name) {
                collect(&path, endings, found);
            } else if endings.iter().any(|ending| name.ends_with(ending)) {
                let key = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
                found.insert(key, fs::read_to_string(&path).unwrap());
            }
        }
    }
    let mut found = BTreeMap::new();
    collect(&root().join(below), endings, &mut found);
    assert!(!found.is_empty(), "nothing below {below}");
    found
}

/// Returns the source of the program without its unit tests.
fn product() -> BTreeMap<String, String> {
    let mut sources = files("src", &[".rs"]);
    sources.extend(files("actors/src", &[".rs"]));
    let declares_as_test = |name: &str| {
        let declaration = format!("#[cfg(test)]\nmod {name};");
        move |text: &String| text.contains(&declaration)
    };
    let texts: Vec<String> = sources.values().cloned().collect();
    sources.retain(|path, _| {
        let name = Path::new(path).file_stem().unwrap().to_str().unwrap();
        !texts.iter().any(declares_as_test(name))
    });
    sources.into_iter().map(|(path, text)| (path, without_unit_tests(&text).to_owned())).collect()
}

/// Returns the part of a file before its unit tests, which come last.
fn without_unit_tests(source: &str) -> &str {
    source.split("\n#[cfg(test)]\nmod ").next().unwrap_or(source)
}

/// Returns the part of a line before a comment. A `//` in a string cuts too much, but nothing that is searched for comes after one.
fn code(line: &str) -> &str {
    line.split("//").next().unwrap_or(line)
}

/// Returns the forbidden dependencies that a manifest names.
fn forbidden_dependencies<'a>(manifest: &str, forbidden: &[&'a str]) -> Vec<&'a str> {
    let names = |line: &str, name: &str| {
        line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '=', '.', '-']))
            || line.contains(&format!("dependencies.{name}]"))
            || line.contains(&format!("package = \"{name}\""))
    };
    forbidden.iter().copied().filter(|name| manifest.lines().any(|line| names(line.trim(), name))).collect()
}

/// Returns the lines of a source that name a path into one of these crates or modules, or import one.
fn uses_of(source: &str, forbidden: &[&str]) -> Vec<String> {
    let in_word = |c: char| c.is_alphanumeric() || c == '_';
    let names = |line: &str, name: &str| {
        let imports = ["use ", "pub use ", "pub(crate) use ", "pub(super) use "];
        let imports = imports.iter().any(|import| line.trim_start().starts_with(import));
        line.match_indices(name).any(|(at, _)| {
            let after = &line[at + name.len()..];
            !line[..at].ends_with(in_word) && !after.starts_with(in_word) && (imports || after.starts_with("::"))
        })
    };
    let lines = source.lines().filter(|line| forbidden.iter().any(|name| names(code(line), name)));
    lines.map(|line| line.trim().to_owned()).collect()
}

/// Returns the lines of a source that hide a failure or a warning.
fn hidden_failures(source: &str) -> Vec<String> {
    let hides = |line: &str| [".unwrap()", "#[allow", "#![allow"].iter().any(|sign| code(line).contains(sign));
    source.lines().filter(|line| hides(line)).map(|line| line.trim().to_owned()).collect()
}

/// Returns the routes that a document does not name as "METHOD path", in one code span or two.
fn routes_missing_in(document: &str) -> Vec<String> {
    let plain: String = document.chars().filter(|c| *c != '`').collect();
    let documented = route_table().iter().filter(|route| route.documented == Documented::Yes);
    let named = |method: &str, path: &str| {
        let wanted = format!("{method} {path}");
        plain.match_indices(&wanted).any(|(at, _)| {
            let rest = plain[at + wanted.len()..].trim_start_matches('/');
            !rest.starts_with(|c: char| c.is_alphanumeric() || c == '{' || c == '_')
        })
    };
    documented
        .filter(|route| !named(route.method.as_str(), route.path))
        .map(|route| format!("{} {}", route.method, route.path))
        .collect()
}

/// Returns the lines of a text that contain a path of a particular machine.
fn machine_paths(text: &str) -> Vec<String> {
    // The paths are in pieces, so that this file is not a finding itself.
    let places =
        [["/ro", "ot/"], ["/wo", "rk/"], ["/ho", "me/"], ["/Us", "ers/"], ["C:", "\\"]].map(|parts| parts.concat());
    let names = |line: &&str| places.iter().any(|place| line.contains(place.as_str()));
    text.lines().filter(names).map(|line| line.trim().to_owned()).collect()
}

/// Returns the variables that the commands of a page use and none of them sets.
fn variables_not_set(page: &str) -> Vec<String> {
    let blocks: Vec<&str> = page.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    let commands = blocks.concat();
    let names = |text: &str| -> String { text.chars().take_while(|c| c.is_ascii_uppercase() || *c == '_').collect() };
    let used = commands.split('$').skip(1).map(|rest| names(rest.trim_start_matches('{')));
    let is_set = |name: &str| commands.lines().any(|line| line.trim_start().starts_with(&format!("{name}=")));
    used.filter(|name| !name.is_empty() && !is_set(name)).collect()
}

/// Returns the functions of a source that run as tests: those with an attribute such as `#[test]` or `#[tokio::test]`.
fn test_functions(source: &str) -> BTreeSet<&str> {
    let mut is_test = false;
    let mut found = BTreeSet::new();
    for line in source.lines().map(str::trim) {
        if let Some(attribute) = line.strip_prefix("#[") {
            let name = attribute.split(['(', ']']).next().unwrap_or(attribute);
            is_test |= name == "test" || name.ends_with("::test");
        } else if let Some(rest) = line.strip_prefix("fn ").or_else(|| line.strip_prefix("async fn ")) {
            // Only attributes and comments come between the attribute of a test and its function.
            if std::mem::take(&mut is_test) {
                found.insert(rest.split(['(', '<']).next().unwrap_or(rest));
            }
        }
    }
    found
}

/// Returns the test names in backticks on a page: those with the number of a statement or a finding, such as `s01_…`.
fn tests_named_in(page: &str) -> Vec<&str> {
    let is_test = |name: &&str| {
        let bytes = name.as_bytes();
        bytes.len() > 4
            && bytes[0].is_ascii_lowercase()
            && bytes[1..3].iter().all(u8::is_ascii_digit)
            && bytes[3] == b'_'
            && bytes.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'_')
    };
    page.split('`').filter(is_test).collect()
}

/// Returns the tests that a page names and the sources do not contain.
fn tests_missing_in<'a>(sources: &str, page: &'a str) -> Vec<&'a str> {
    let tests = test_functions(sources);
    tests_named_in(page).into_iter().filter(|name| !tests.contains(name)).collect()
}

/// Returns the numbers of statements, such as `S01`, that begin the rows of a page, in the order of the page.
fn statements_in(page: &str) -> Vec<&str> {
    let is_statement = |cell: &&str| {
        let bytes = cell.as_bytes();
        bytes.len() == 3 && matches!(bytes[0], b'S' | b'R') && bytes[1..].iter().all(u8::is_ascii_digit)
    };
    page.lines().filter_map(|line| line.strip_prefix("| ")?.split(" | ").next()).filter(is_statement).collect()
}

/// Fails with all findings and their locations.
#[track_caller]
fn assert_none(findings: impl IntoIterator<Item = (String, Vec<String>)>) {
    let found: Vec<_> = findings.into_iter().filter(|(_, lines)| !lines.is_empty()).collect();
    assert!(found.is_empty(), "{found:#?}");
}

#[test]
fn the_actors_know_no_adapter() {
    let manifest = fs::read_to_string(root().join("actors/Cargo.toml")).unwrap();
    assert_eq!(forbidden_dependencies(&manifest, &ADAPTERS), Vec::<&str>::new());
    assert_none(files("actors/src", &[".rs"]).into_iter().map(|(path, text)| {
        let uses = uses_of(&text, &[&ADAPTERS[..], &["doorward", "hyper"]].concat());
        (path, uses)
    }));
}

/// Which part must not name which others. The parts are those in `docs/architecture.md`, the innermost first.
const DIRECTIONS: &[(&str, &[&str])] = &[
    ("actors/src/domain", &["crate::ports", "crate::store", "crate::system", "ractor", "tokio"]),
    ("actors/src/ports", &["crate::store", "crate::system", "ractor"]),
    ("actors/src/store/rules", &["crate::ports", "memory", "sled", "tokio", "ractor"]),
    ("actors/src/store/reads", &["crate::ports", "memory", "sled", "tokio", "ractor"]),
    ("actors/src/store/codec", &["super::engine", "super::super::engine", "memory", "sled"]),
    ("src/http", &["crate::engine", "sled"]),
    ("src/http/edge", &["crate::http::families", "crate::http::wire", "crate::http::pages"]),
    ("src/http/wire.rs", &["crate::http::families", "crate::http::edge"]),
    ("src/backup/format", &["crate::engine", "crate::http", "sled"]),
    ("src/backup/writer", &["crate::engine", "crate::http", "sled"]),
    ("src/backup/reader", &["crate::engine", "crate::http", "sled"]),
    ("src/backup/check", &["crate::engine", "crate::http", "sled"]),
    ("src/backup/create", &["crate::engine", "crate::http", "sled"]),
    ("src/engine", &["crate::http", "crate::settings", "crate::app"]),
];

#[test]
fn no_part_names_one_that_stands_outside_of_it() {
    for (part, forbidden) in DIRECTIONS {
        let sources = product().into_iter().filter(|(path, _)| path.starts_with(part));
        let sources: Vec<_> = sources.collect();
        assert!(!sources.is_empty(), "there is no {part}");
        assert_none(sources.into_iter().map(|(path, text)| (path, uses_of(&text, forbidden))));
    }
}

#[test]
fn no_route_family_names_another_one() {
    let folder = "src/http/families/";
    let sources = product().into_iter().filter_map(|(path, text)| {
        let family = path.strip_prefix(folder)?.split(['/', '.']).next()?.to_owned();
        Some((path, family, text))
    });
    let sources: Vec<_> = sources.collect();
    let families: BTreeSet<_> = sources.iter().map(|(_, family, _)| family.clone()).collect();
    assert!(families.len() > 10, "{families:?}");
    assert_none(sources.into_iter().map(|(path, family, text)| {
        let others = families.iter().filter(|other| **other != family);
        let others: Vec<_> = others.map(|other| format!("crate::http::families::{other}")).collect();
        (path, uses_of(&text, &others.iter().map(String::as_str).collect::<Vec<_>>()))
    }));
}

/// The names of the fields of the log that a source writes, and whether each is formatted (`%`, `?`) or written as it is.
fn log_fields(source: &str) -> Vec<(String, bool)> {
    let calls = ["trace", "debug", "info", "warn", "error"].map(|level| format!("tracing::{level}!("));
    let starts = calls.iter().flat_map(|call| source.match_indices(call).map(|(at, call)| at + call.len()));
    // Read up to the message, which is the first string.
    let fields = starts.filter_map(|start| source[start..].split(['"', ';']).next());
    let fields = fields.flat_map(|fields| fields.split(", ").map(str::trim).filter(|field| !field.is_empty()));
    let named = fields.map(|field| {
        let (name, value) = field.split_once(" = ").unwrap_or((field, field));
        (name.trim_start_matches(['%', '?']).to_owned(), value.starts_with(['%', '?']))
    });
    named.filter(|(name, _)| name.chars().all(|c| c.is_ascii_lowercase() || c == '_')).collect()
}

#[test]
fn f22_a_field_of_the_log_is_a_text_everywhere_or_nowhere() {
    let sources = ["src", "actors/src"].into_iter().flat_map(|folder| files(folder, &[".rs"]));
    let fields: BTreeSet<_> = sources.flat_map(|(_, text)| log_fields(&text)).collect();
    assert!(
        fields.contains(&("account".to_owned(), false)) && fields.contains(&("error".to_owned(), true)),
        "{fields:?}"
    );
    let both = fields.iter().filter(|(name, formatted)| *formatted && fields.contains(&(name.clone(), false)));
    assert_eq!(both.collect::<Vec<_>>(), Vec::<&(String, bool)>::new());
}

#[test]
fn no_source_file_is_too_long() {
    let mut sources = product();
    for folder in ["src", "actors", "tests", "benches"] {
        sources.extend(files(folder, &[".rs"]));
    }
    let lengths = sources.into_iter().map(|(path, text)| (path, text.lines().count()));
    assert_eq!(lengths.filter(|(_, lines)| *lines > MAX_LINES).collect::<Vec<_>>(), []);
}

#[test]
fn the_program_hides_no_failure() {
    assert_none(product().into_iter().map(|(path, text)| (path, hidden_failures(&text))));
}

#[test]
fn every_route_is_in_the_description_of_the_interface() {
    let document = fs::read_to_string(root().join("docs/api.md")).unwrap_or_default();
    assert_eq!(routes_missing_in(&document), Vec::<String>::new(), "missing in docs/api.md");
}

#[test]
fn every_statement_of_the_security_page_has_tests_and_they_exist() {
    let read = |page: &str| fs::read_to_string(root().join(page)).unwrap();
    let (register, tests) = (read("docs/security.md"), read("docs/security-tests.md"));
    let mut statements = statements_in(&register);
    statements.sort_unstable();
    assert!(!statements.is_empty(), "docs/security.md has no statements");
    assert_eq!(statements_in(&tests), statements, "docs/security-tests.md has one row for each statement, sorted");
    let untested = tests.lines().filter(|line| !statements_in(line).is_empty() && tests_named_in(line).is_empty());
    assert_eq!(untested.collect::<Vec<_>>(), Vec::<&str>::new(), "statements without a test");
    let sources: String = files("", &["rs"]).into_values().collect();
    for (name, page) in [("docs/security.md", &register), ("docs/security-tests.md", &tests)] {
        let missing = tests_missing_in(&sources, page);
        assert!(missing.is_empty(), "{name} names tests that are not there: {missing:?}");
    }
}

#[test]
fn commands_of_pages_that_one_begins_with_work_as_they_stand() {
    let pages = files("", &[".md"]).into_iter();
    let first = ["README.md", "docs/tour.md", "docs/integrations/README.md"];
    let pages = pages.filter(|(path, _)| first.contains(&path.as_str()));
    assert_none(pages.map(|(path, text)| (path, variables_not_set(&text))));
}

#[test]
fn nothing_names_a_place_on_somebodys_machine() {
    let texts = files("", &[".md", ".rs", ".toml", ".yml", ".yaml", ".sh", "Dockerfile", ".txt", ".json"]);
    assert_none(texts.into_iter().map(|(path, text)| (path, machine_paths(&text))));
}

/// Runs each check on an example that it must find and one that it must not.
mod checks {
    use super::*;

    #[test]
    fn dependencies_are_found_however_they_are_written() {
        for bad in [
            "sled = \"0.34\"",
            "sled.workspace = true",
            "[dependencies.sled]",
            "store = { package = \"sled\", version = \"1\" }",
        ] {
            assert_eq!(forbidden_dependencies(&format!("[dependencies]\n{bad}\n"), &ADAPTERS), ["sled"], "{bad}");
        }
        assert_eq!(forbidden_dependencies("sledge = \"1\"\n# sled is not used\n", &ADAPTERS), Vec::<&str>::new());
    }

    #[test]
    fn uses_are_found_but_not_words() {
        for bad in [
            "use sled::Db;",
            "    let db = sled::open(path)?;",
            "use sled as engine;",
            "pub use sled;",
            "use crate::{sled::Db};",
        ] {
            assert_eq!(uses_of(bad, &["sled"]), [bad.trim()], "{bad}");
        }
        for good in ["// use sled::Db;", "let bobsled = my_sled::open();", "/// Not sled::open.", "fn sled() {}"] {
            assert_eq!(uses_of(good, &["sled"]), Vec::<String>::new(), "{good}");
        }
        assert_eq!(uses_of("use crate::engine::SledEngine;", &["crate::engine"]).len(), 1);
    }

    #[test]
    fn hidden_failures_are_found_but_not_in_unit_tests_or_comments() {
        let bad = "fn f() {\n    g().unwrap();\n}\n#[allow(dead_code)]\nfn g() {}\n";
        assert_eq!(hidden_failures(bad).len(), 2);
        let good =
            "/// Like `x.unwrap()`.\nfn f() { g().unwrap_or(1); }\n\n#[cfg(test)]\nmod tests {\n    x.unwrap();\n}\n";
        assert_eq!(hidden_failures(without_unit_tests(good)), Vec::<String>::new());
        assert_eq!(hidden_failures(good).len(), 1);
    }

    #[test]
    fn a_route_that_a_document_leaves_out_is_found() {
        let lines: Vec<_> = route_table().iter().map(|route| format!("`{} {}`", route.method, route.path)).collect();
        let whole = lines.join("\n");
        assert_eq!(routes_missing_in(&whole), Vec::<String>::new());
        let without = whole.replace("`DELETE /my_account/delete`", "");
        assert_eq!(routes_missing_in(&without), ["DELETE /my_account/delete"]);
        let without = whole.replace("`GET /accounts_management/`", "");
        assert_eq!(routes_missing_in(&without), ["GET /accounts_management/"]);
        assert_eq!(
            routes_missing_in("").len(),
            route_table().iter().filter(|route| route.documented == Documented::Yes).count()
        );
    }

    #[test]
    fn a_test_that_is_named_and_not_there_is_found() {
        let page = "| S01 | `tests/api` `s01_there`, `d02_there`, `s01_gone`, `s01_helper`, `s01_helper_of_a_test` |";
        let sources = [
            "#[test]\nfn s01_there() {}\nasync fn s01_helper() {}\n",
            "#[tokio::test(flavor = \"multi_thread\")]\n#[ignore]\nasync fn d02_there() {}\n",
            "/// `#[test]`\nfn s01_helper_of_a_test() {}\n",
        ];
        let sources = sources.concat();
        assert_eq!(tests_missing_in(&sources, page), ["s01_gone", "s01_helper", "s01_helper_of_a_test"]);
    }

    #[test]
    fn the_statements_of_a_page_are_its_rows() {
        let page = "| id | tests |\n|---|---|\n| R01 | `r01_there` |\n| S74 | of S01 |\nS02\n| SMTP | S03 |\n";
        assert_eq!(statements_in(page), ["R01", "S74"]);
        assert_eq!(tests_named_in(page), ["r01_there"]);
    }

    #[test]
    fn a_variable_that_no_command_sets_is_found() {
        let page = "$NOT_IN_A_COMMAND\n```sh\nURL=x\ncurl $URL \"${ADMIN}\" $(ls)\n```\n```json\n$JSON\n```\n";
        assert_eq!(variables_not_set(page), ["ADMIN"]);
    }

    #[test]
    fn places_on_a_machine_are_found() {
        let bad = format!("see {}ann/notes", ["/ho", "me/"].concat());
        assert_eq!(machine_paths(&bad), [bad.as_str()]);
        assert_eq!(machine_paths("the work/life balance of /var/lib/doorward"), Vec::<String>::new());
    }
}

/// Returns the names under which the source describes types in `openapi.json`.
fn described_types(source: &str) -> Vec<String> {
    let mut names = Vec::new();
    for (at, _) in source.match_indices("ToSchema)]\n") {
        let declaration = source[at..].lines().skip(1).map(str::trim);
        let attributes: Vec<&str> = declaration.clone().take_while(|line| line.starts_with('#')).collect();
        let renamed = attributes
            .iter()
            .find_map(|line| line.strip_prefix("#[schema(as = "))
            .map(|rest| rest.trim_end_matches(")]"));
        let words = declaration.clone().nth(attributes.len()).unwrap();
        let name = words
            .split(["struct ", "enum "].map(|kind| kind).iter().copied().find(|kind| words.contains(kind)).unwrap());
        let name = name.last().unwrap().split(|c: char| !c.is_alphanumeric()).next().unwrap();
        names.push(renamed.unwrap_or(name).to_owned());
    }
    // A macro defines the fields that these bodies share. Its own text has a name for each of them.
    names.retain(|name| !name.is_empty());
    names.extend(source.match_indices("\naccount_change! {").filter_map(|(at, _)| {
        let line = source[at..].lines().find_map(|line| line.trim().strip_prefix("struct "))?;
        Some(line.trim_end_matches(" {").to_owned())
    }));
    if let Some((_, sets)) = source.split_once("\nclosed_sets! {") {
        let lines =
            sets.lines().take_while(|line| !line.starts_with('}')).filter(|line| !line.trim().starts_with("//"));
        names.extend(lines.filter_map(|line| line.split_once(" = ")).map(|(name, _)| name.trim().to_owned()));
    }
    names.extend(source.match_indices("impl ToSchema for ").filter_map(|(at, found)| {
        let name = source[at + found.len()..].split(' ').next().unwrap();
        (!name.starts_with('$')).then(|| name.to_owned())
    }));
    names
}

#[test]
fn f18_one_name_of_the_document_is_one_type() {
    let mut declared: Vec<String> = product().values().flat_map(|source| described_types(source)).collect();
    declared.sort_unstable();
    let document = doorward::openapi_document();
    let documented: Vec<String> = document["components"]["schemas"].as_object().unwrap().keys().cloned().collect();
    let mut documented = documented;
    documented.sort_unstable();
    assert_eq!(declared, documented);
}
