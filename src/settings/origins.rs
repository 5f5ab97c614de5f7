//! Lists of web origins.

use url::Url;

/// A set of web origins, each written as browsers send it in `Origin` (RFC 6454 §6.2).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origins(Vec<String>);

impl Origins {
    /// Parses origins that are separated by commas. An empty text is an empty list.
    ///
    /// Returns `None` if an item is not written as a browser would write it. A path, capitals, the default port, `*` and `null` would never
    /// match, or would match too much.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        if text.trim().is_empty() {
            return Some(Self::default());
        }
        text.split(',').map(|item| origin(item.trim())).collect::<Option<_>>().map(Self)
    }

    /// Returns the origins in the given order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(String::as_str)
    }
}

fn origin(item: &str) -> Option<String> {
    let origin = Url::parse(item).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?.origin();
    // A star is valid in a URL, but an operator who writes one means a pattern.
    (origin.ascii_serialization() == item && !item.contains('*')).then(|| item.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_as_browsers_send_them() {
        let list = Origins::parse("https://app.example.com, http://localhost:3000,https://[2001:db8::1]:8443").unwrap();
        let origins: Vec<_> = list.iter().collect();
        assert_eq!(origins, ["https://app.example.com", "http://localhost:3000", "https://[2001:db8::1]:8443"]);
        assert_eq!(Origins::parse(" ").unwrap().iter().count(), 0);
    }

    #[test]
    fn s67_anything_else_is_no_origin() {
        for bad in [
            "*",
            "null",
            "https://*.example.com",
            "app.example.com",
            "https://app.example.com/",
            "https://app.example.com/login",
            "https://app.example.com:443",
            "http://app.example.com:80",
            "https://App.example.com",
            "HTTPS://app.example.com",
            "https://bücher.example",
            "https://user@app.example.com",
            "https://app.example.com?x",
            "https://app.example.com#x",
            "ftp://app.example.com",
            "file:///app",
            "https://",
            "https://a.example,,https://b.example",
            "https://a.example https://b.example",
            "https://a.example\r\nx: y",
        ] {
            assert_eq!(Origins::parse(bad), None, "{bad:?}");
        }
    }
}
