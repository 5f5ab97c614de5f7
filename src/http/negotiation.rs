//! What a client prefers (RFC 9110 §12.5).

use hyper::header::{GetAll, HeaderValue};

/// Returns the lines of a header as one list (RFC 9110 §5.3). Skips lines that are not text.
pub(in crate::http) fn joined(lines: &GetAll<'_, HeaderValue>) -> String {
    lines.iter().filter_map(|line| line.to_str().ok()).collect::<Vec<_>>().join(",")
}

/// Returns the weight of an item in a list: 1 if it is named without one, and 0 if it is not named or its weight is not a number.
/// Wildcards do not name it.
pub(in crate::http) fn weight(list: &str, wanted: &str) -> f32 {
    let weight = |item: &str| {
        let mut parts = item.split(';').map(str::trim);
        let is_named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(wanted));
        let given = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        if is_named { given.map_or(Ok(1.0), str::parse).unwrap_or(0.0) } else { 0.0 }
    };
    list.split(',').map(weight).fold(0.0, f32::max)
}
