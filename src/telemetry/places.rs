//! Shortens paths of source files, so that the log does not show the directories of the machine that built the program.

use std::borrow::Cow;

/// The start of the field in which the bridge from the `log` crate names a file. Inside a value its quotes would be escaped.
const FILE_FIELD: &str = "\"log.file\":\"";

/// Returns the path from the crate on: `sled-0.34.7/src/lib.rs`, `core/src/option.rs`, or `src/app.rs` for this project.
pub(super) fn of(path: &str) -> &str {
    if !path.starts_with('/') {
        return path;
    }
    let before = path.rfind("/src/").unwrap_or(path.len());
    path[..before].rfind('/').map_or(path, |slash| &path[slash + 1..])
}

/// Shortens the path of the source file in a JSON log line, for an event of the `log` crate.
pub(super) fn shorten(line: &str) -> Cow<'_, str> {
    let Some(start) = line.find(FILE_FIELD).map(|field| field + FILE_FIELD.len()) else { return line.into() };
    let end = line[start..].find('"').map_or(line.len(), |length| start + length);
    format!("{}{}{}", &line[..start], of(&line[start..end]), &line[end..]).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn f22_a_place_in_the_source_begins_with_its_crate() {
        for (path, place) in [
            ("src/app.rs", "src/app.rs"),
            ("actors/src/user.rs", "actors/src/user.rs"),
            (
                "/usr/local/cargo/registry/src/index.crates.io-1949cf8c6b5b557f/sled-0.34.7/src/pagecache/mod.rs",
                "sled-0.34.7/src/pagecache/mod.rs",
            ),
            ("/rustc/59807616e/library/core/src/option.rs", "core/src/option.rs"),
            ("/build/src/main.rs", "build/src/main.rs"),
            ("/srv/generated.rs", "generated.rs"),
        ] {
            assert_eq!(of(path), place);
        }
    }

    #[test]
    fn f22_a_line_keeps_all_but_where_the_source_lay() {
        let line = |file: &str| format!(r#"{{"message":"x \"log.file\":\"/a/b\"","log.file":"{file}","log.line":7}}"#);
        assert_eq!(shorten(&line("/srv/sled-0.34.7/src/lib.rs")), line("sled-0.34.7/src/lib.rs"));
        let other = r#"{"message":"\"log.file\":\"/a/b\""}"#;
        assert_eq!(shorten(other), other);
    }
}
