//! Checks that a request names exactly one host.
//!
//! A proxy in front may choose by the host where a request goes. A request with no host, two hosts or an invalid one might
//! be understood differently there and here (RFC 9112 §3.2).

use hyper::header::HOST;
use hyper::http::request::Parts;
use hyper::http::uri::Authority;
use hyper::{HeaderMap, Version};

use crate::http::error::ApiError;

/// Refuses a request whose host is missing, given twice or invalid. HTTP/1.0 requests need none. In HTTP/2, `:authority`
/// is enough, and must agree with a `Host` beside it (RFC 9113 §8.3.1).
pub(in crate::http) fn check(parts: &Parts) -> Result<(), ApiError> {
    let host = one(&parts.headers)?;
    let is_fine = match parts.version {
        Version::HTTP_09 | Version::HTTP_10 => true,
        Version::HTTP_2 | Version::HTTP_3 => match (host, parts.uri.authority()) {
            (Some(host), Some(authority)) => authority.as_str().eq_ignore_ascii_case(host),
            (host, authority) => host.is_some() || authority.is_some(),
        },
        _ => host.is_some(),
    };
    if is_fine { Ok(()) } else { Err(ApiError::NO_HOST) }
}

/// Returns the only `Host`. It may be empty, which means that the target has no host.
fn one(headers: &HeaderMap) -> Result<Option<&str>, ApiError> {
    let mut given = headers.get_all(HOST).iter();
    match (given.next(), given.next()) {
        (None, _) => Ok(None),
        (Some(host), None) => host.to_str().ok().filter(|host| is_host(host)).map(Some).ok_or(ApiError::NO_HOST),
        (Some(_), Some(_)) => Err(ApiError::NO_HOST),
    }
}

/// Whether a text is a host with or without a port, and without a user. A comma is refused: it would come from two joined lines.
fn is_host(text: &str) -> bool {
    text.is_empty() || (!text.contains(['@', ',']) && text.parse::<Authority>().is_ok())
}

#[cfg(test)]
mod tests {
    use hyper::Request;

    use super::*;

    fn is_fine(version: Version, uri: &str, hosts: &[&str]) -> bool {
        let mut request = Request::builder().version(version).uri(uri);
        for host in hosts {
            request = request.header(HOST, *host);
        }
        check(&request.body(()).unwrap().into_parts().0).is_ok()
    }

    #[test]
    fn s68_a_request_of_http_1_1_names_one_host() {
        let is_fine = |hosts: &[&str]| is_fine(Version::HTTP_11, "/", hosts);
        for good in ["auth.example.com", "auth.example.com:8443", "[::1]:80", "127.0.0.1", "x", ""] {
            assert!(is_fine(&[good]), "{good:?}");
        }
        for bad in [&[][..], &["a", "a"], &["a", "b"], &["a b"], &["a/b"], &["a:b:c"], &["user@a"], &["a,b"], &["a?x"]]
        {
            assert!(!is_fine(bad), "{bad:?}");
        }
    }

    #[test]
    fn http_1_0_needs_no_host() {
        assert!(is_fine(Version::HTTP_10, "/", &[]));
        assert!(!is_fine(Version::HTTP_10, "/", &["a", "b"]));
    }

    #[test]
    fn s68_authority_and_host_of_http_2_agree() {
        let is_fine = |uri: &str, hosts: &[&str]| is_fine(Version::HTTP_2, uri, hosts);
        assert!(is_fine("https://a.example/", &[]) && is_fine("/", &["a.example"]));
        assert!(is_fine("https://a.example:8443/", &["A.example:8443"]));
        assert!(!is_fine("/", &[]) && !is_fine("https://a.example/", &["b.example"]));
    }
}
