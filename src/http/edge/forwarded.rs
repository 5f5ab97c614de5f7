//! Which client a request comes from: the socket's peer or, behind proxies that the operator trusts, the client that the
//! proxies name (S17, S18, R06).
//!
//! `X-Forwarded-For` and `Forwarded` (RFC 7239) grow to the right: each proxy appends the address that it was called
//! from. So only the right end is trustworthy. The entries are read from there as long as they name trusted proxies.
//! The first one that does not is the client. Everything left of it may be forged by the client.
//!
//! `Forwarded` is parsed from the right as well. If it were parsed from the left, a client could open a quoted string that
//! swallows what the proxy appended.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper::HeaderMap;
use hyper::header::{FORWARDED, HeaderName};
use tokio::time::Instant;

use crate::http::error::ApiError;
use crate::settings::Networks;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// The shortest time between two warnings about unlisted proxies.
const WARN_EVERY: Duration = Duration::from_hours(1);

/// Returns the client's address. IPv4-mapped addresses are folded to IPv4.
///
/// Both headers of a peer that is not trusted are ignored. An entry without an address (malformed, obfuscated, `unknown`,
/// empty) ends the reading: the last trusted hop before it is the client. If every hop is trusted, the outermost one is the client.
///
/// # Errors
/// Both headers are there and name different clients. Most proxies write one of them and pass the other on as the client
/// sent it, so it is unknown which one is true.
pub(in crate::http) fn client(peer: IpAddr, trusted: &Networks, headers: &HeaderMap) -> Result<IpAddr, ApiError> {
    let peer = peer.to_canonical();
    if !trusted.contains(peer) {
        return Ok(peer);
    }
    let named = |name, split: Split, address_of: AddressOf| {
        // All lines are one list (RFC 9110 §5.3), here read from its end. Bytes that are not UTF-8 only make their own entry invalid.
        let lines = headers.get_all(&name).iter().rev();
        let lines: Vec<_> = lines.map(|line| String::from_utf8_lossy(line.as_bytes())).collect();
        let hops = lines.iter().flat_map(|line| entries(line, split)).map(address_of);
        (!lines.is_empty()).then(|| outermost(peer, trusted, hops))
    };
    // Some proxies write `Forwarded` only for the protocol or the host. Such a header names no client, so it contradicts nothing.
    let says_who = headers.get_all(FORWARDED).iter().next_back().is_some_and(|line| {
        entries(&String::from_utf8_lossy(line.as_bytes()), at_comma_outside_quotes).next().is_some_and(has_for)
    });
    let forwarded = named(FORWARDED, at_comma_outside_quotes, forwarded_for).filter(|_| says_who);
    match (named(X_FORWARDED_FOR, at_comma, node), forwarded) {
        (Some(one), Some(other)) if one != other => Err(ApiError::TWO_CLIENTS),
        (one, other) => Ok(one.or(other).unwrap_or(peer)),
    }
}

/// Whether a request has a header that names a client, as only proxies send it.
pub(in crate::http) fn claims(headers: &HeaderMap) -> bool {
    headers.contains_key(X_FORWARDED_FOR) || headers.contains_key(FORWARDED)
}

/// Warns about peers that name clients but are not trusted proxies. All clients behind an unlisted proxy count as one.
#[derive(Debug, Clone, Default)]
pub(crate) struct UnlistedProxies {
    /// When it last warned.
    warned: Arc<Mutex<Option<Instant>>>,
}

impl UnlistedProxies {
    /// Records such a peer. Warns at most once in [`WARN_EVERY`], because any client can cause it. Returns whether it warned.
    pub(in crate::http) fn note(&self, peer: IpAddr) -> bool {
        let now = Instant::now();
        let mut warned = self.warned.lock().unwrap_or_else(PoisonError::into_inner);
        if warned.is_some_and(|at| now.duration_since(at) < WARN_EVERY) {
            return false;
        }
        *warned = Some(now);
        drop(warned);
        tracing::warn!(
            address = %peer.to_canonical(),
            "a peer that is not in TRUSTED_PROXIES sends X-Forwarded-For or Forwarded, which is ignored; if it is your \
             proxy, add its address to TRUSTED_PROXIES, or all its clients share one quota"
        );
        true
    }
}

/// Follows the hops, the nearest first, as long as they are trusted.
fn outermost(peer: IpAddr, trusted: &Networks, hops: impl Iterator<Item = Option<IpAddr>>) -> IpAddr {
    let mut last = peer;
    for hop in hops {
        let Some(hop) = hop else { break };
        last = hop;
        if !trusted.contains(hop) {
            break;
        }
    }
    last
}

/// Cuts the last entry off a list. Returns the rest of the list, then the entry.
type Split = fn(&str) -> (Option<&str>, &str);
/// Returns the address that an entry names.
type AddressOf = fn(&str) -> Option<IpAddr>;

/// Returns the entries of a line, the last one first.
fn entries(line: &str, cut: Split) -> impl Iterator<Item = &str> {
    let mut uncut = Some(line);
    std::iter::from_fn(move || {
        let (before, last) = cut(uncut?);
        uncut = before;
        Some(last.trim_matches([' ', '\t']))
    })
}

fn at_comma(list: &str) -> (Option<&str>, &str) {
    list.rsplit_once(',').map_or((None, list), |(before, last)| (Some(before), last))
}

fn at_comma_outside_quotes(list: &str) -> (Option<&str>, &str) {
    let bytes = list.as_bytes();
    let mut quoted = false;
    for (at, byte) in bytes.iter().enumerate().rev() {
        match byte {
            b'"' if !(quoted && is_escaped(bytes, at)) => quoted = !quoted,
            b',' if !quoted => return (Some(&list[..at]), &list[at + 1..]),
            _ => {}
        }
    }
    (None, list)
}

/// Whether an odd number of backslashes stands before this position.
fn is_escaped(bytes: &[u8], at: usize) -> bool {
    bytes[..at].iter().rev().take_while(|byte| **byte == b'\\').count() % 2 == 1
}

/// Returns the address in the only `for` of an element of `Forwarded`. Two are an error.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let mut found: Option<String> = None;
    let mut rest = element;
    loop {
        // Pairs may be empty (RFC 7239 §4).
        rest = rest.trim_start_matches([' ', '\t', ';']);
        if rest.is_empty() {
            return node(&found?);
        }
        let (name, after) = rest.split_once('=')?;
        let (value, after) = value(after)?;
        if name.eq_ignore_ascii_case("for") && found.replace(value).is_some() {
            return None;
        }
        rest = after.trim_start_matches([' ', '\t']);
        if !rest.is_empty() && !rest.starts_with(';') {
            return None;
        }
    }
}

/// Whether an element of `Forwarded` has a `for` or cannot be parsed.
fn has_for(element: &str) -> bool {
    let mut rest = element;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ';']);
        if rest.is_empty() {
            return false;
        }
        let Some((name, after)) = rest.split_once('=') else { return true };
        let Some((_, after)) = value(after) else { return true };
        if name.trim().eq_ignore_ascii_case("for") {
            return true;
        }
        rest = after;
    }
}

/// Parses a token or a quoted string (RFC 9110 §5.6.4) at the start of a text. Returns it and the rest. A token may
/// contain colons and brackets too, because some proxies do not quote them.
fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([';', ' ', '\t', '"', '\\']).unwrap_or(text.len());
        return Some((text[..end].to_owned(), &text[end..]));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(chars.next()?.1),
            c => value.push(c),
        }
    }
    None
}

/// Parses the address of a node (RFC 7239 §6): with or without a port, IPv6 in brackets or, without a port, without them.
/// A zone id is ignored, because it refers to the proxy's own machine. `unknown` and obfuscated names are not addresses.
fn node(text: &str) -> Option<IpAddr> {
    let address = |text: &str| -> Option<IpAddr> {
        let (address, zone) = text.split_once('%').unwrap_or((text, "-"));
        let parsed: IpAddr = address.parse().ok()?;
        (!zone.is_empty() && (!text.contains('%') || parsed.is_ipv6())).then(|| parsed.to_canonical())
    };
    if let Some(bracketed) = text.strip_prefix('[') {
        let (inside, port) = bracketed.split_once(']')?;
        let is_fine = port.is_empty() || port.strip_prefix(':').is_some_and(is_port);
        return address(inside).filter(|_| is_fine && inside.contains(':'));
    }
    match text.split_once(':') {
        Some((v4, port)) if !port.contains(':') => address(v4).filter(|_| is_port(port)),
        _ => address(text),
    }
}

/// Whether a text is a port number or an obfuscated port.
fn is_port(text: &str) -> bool {
    let digits = (1..=5).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_digit());
    let hidden = text
        .strip_prefix('_')
        .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b)));
    digits || hidden
}

#[cfg(test)]
mod tests {
    use hyper::header::HeaderValue;
    use proptest::prelude::*;

    use super::*;

    const PROXIES: &str = "10.0.0.0/8, fd00::/8, ::ffff:192.168.0.0/112";

    fn resolve(peer: &str, headers: &[(&str, &str)]) -> Result<String, ApiError> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name: HeaderName = name.parse().unwrap();
            map.append(name, HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        client(peer.parse().unwrap(), &Networks::parse(PROXIES).unwrap(), &map).map(|address| address.to_string())
    }

    fn xff(value: &str) -> String {
        resolve("10.0.0.1", &[("x-forwarded-for", value)]).unwrap()
    }

    fn fwd(value: &str) -> String {
        resolve("10.0.0.1", &[("forwarded", value)]).unwrap()
    }

    #[test]
    fn s18_an_untrusted_peer_is_the_client_whatever_it_says() {
        for headers in [
            &[("x-forwarded-for", "192.0.2.1")][..],
            &[("forwarded", "for=192.0.2.1")],
            &[("x-forwarded-for", "10.0.0.1, 10.0.0.2"), ("forwarded", "for=192.0.2.1")],
        ] {
            assert_eq!(resolve("203.0.113.9", headers).unwrap(), "203.0.113.9");
            assert_eq!(resolve("::ffff:203.0.113.9", headers).unwrap(), "203.0.113.9");
        }
        assert_eq!(resolve("10.0.0.1", &[]).unwrap(), "10.0.0.1");
    }

    #[test]
    fn s18_the_right_most_untrusted_entry_is_the_client() {
        assert_eq!(xff("192.0.2.1"), "192.0.2.1");
        assert_eq!(xff("192.0.2.66, 192.0.2.1"), "192.0.2.1");
        assert_eq!(xff("192.0.2.66,192.0.2.1 , 10.9.9.9,\tfd00::2"), "192.0.2.1");
        assert_eq!(xff("192.0.2.66, ::ffff:192.0.2.1, ::ffff:192.168.0.7"), "192.0.2.1");
        assert_eq!(xff("10.0.0.7, 10.0.0.8"), "10.0.0.7", "where all are trusted, the outermost one");
        assert_eq!(fwd("for=192.0.2.66, for=192.0.2.1;proto=https;by=10.0.0.1, For=\"[fd00::1]\""), "192.0.2.1");
        let lines =
            [("x-forwarded-for", "192.0.2.66"), ("x-forwarded-for", "192.0.2.1"), ("x-forwarded-for", "10.0.0.2")];
        assert_eq!(resolve("10.0.0.1", &lines).unwrap(), "192.0.2.1");
        assert_eq!(resolve("::ffff:10.0.0.1", &lines).unwrap(), "192.0.2.1");
    }

    #[test]
    fn s17_addresses_are_folded_and_lose_port_and_zone() {
        for one in ["192.0.2.1", "192.0.2.1:443", "::ffff:192.0.2.1", "[::ffff:192.0.2.1]:1"] {
            assert_eq!(xff(one), "192.0.2.1", "{one}");
            assert_eq!(fwd(&format!("for=\"{one}\"")), "192.0.2.1", "{one}");
            assert_eq!(fwd(&format!("for={one}")), "192.0.2.1", "{one}");
        }
        for one in ["2001:db8::1", "[2001:DB8::1]", "[2001:db8::1]:65535", "[2001:db8::1]:_x", "2001:db8::1%eth0"] {
            assert_eq!(xff(one), "2001:db8::1", "{one}");
            assert_eq!(fwd(&format!("proto=http;FOR=\"{one}\"")), "2001:db8::1", "{one}");
        }
        assert_eq!(fwd("for=192.0.2.1;;proto=https; "), "192.0.2.1", "pairs may be empty");
        assert_eq!(fwd(r#"for="\1\92.0.2.1""#), "192.0.2.1", "a backslash takes the next character as it is");
        assert_eq!(fwd(r#"by="a\",for=192.0.2.66;\\";for=192.0.2.1"#), "192.0.2.1");
    }

    #[test]
    fn s18_an_entry_that_names_no_address_ends_the_reading() {
        for bad in [
            "",
            " ",
            "unknown",
            "_hidden",
            "client.example.com",
            "192.0.2.1 192.0.2.2",
            "192.0.2",
            "192.0.2.1:",
            "192.0.2.1:123456",
            "192.0.2.1:x",
            "192.0.2.01",
            "192.0.2.1%eth0",
            "2001:db8::1%",
            "[192.0.2.1]",
            "[2001:db8::1",
            "[2001:db8::1]x",
            "2001:db8::1]",
            "192.0.2.1;",
            "unix:",
            "é",
        ] {
            assert_eq!(xff(&format!("192.0.2.66, {bad}")), "10.0.0.1", "{bad:?}");
            assert_eq!(xff(&format!("192.0.2.66, {bad}, 10.0.0.2")), "10.0.0.2", "{bad:?}");
            assert_eq!(fwd(&format!("for=192.0.2.66, for=\"{bad}\", for=10.0.0.2")), "10.0.0.2", "{bad:?}");
        }
        for bad in [
            "",
            "192.0.2.1",
            "for",
            "for=",
            "for = 192.0.2.1",
            "by=192.0.2.1",
            "proto=https",
            "for=192.0.2.1;for=192.0.2.2",
            "for=192.0.2.1;for=192.0.2.1",
            "for=192.0.2.1 proto=https",
            "for=\"192.0.2.1",
            "for=192.0.2.1\"",
            "for=\"192.0.2.1\"x",
            "for='192.0.2.1'",
            "xfor=192.0.2.1",
        ] {
            assert_eq!(fwd(&format!("for=192.0.2.66, {bad}, for=10.0.0.2")), "10.0.0.2", "{bad:?}");
        }
    }

    #[test]
    fn s18_nothing_that_a_client_sends_reaches_over_what_a_proxy_appends() {
        for opened in ["for=\"", "for=\"\\", "for=\"a\\\"", "\"", "\",\"", "by=\"x;for=192.0.2.66", ",,,", ";", "\\"] {
            assert_eq!(fwd(&format!("{opened}, for=192.0.2.1")), "192.0.2.1", "{opened:?}");
            assert_eq!(fwd(&format!("{opened}, for=\"[2001:db8::1]:4711\";by=\"a,b\"")), "2001:db8::1", "{opened:?}");
            let two = [("forwarded", opened), ("forwarded", "for=192.0.2.1")];
            assert_eq!(resolve("10.0.0.1", &two).unwrap(), "192.0.2.1", "{opened:?}");
        }
    }

    #[test]
    fn s18_two_headers_must_name_the_same_client() {
        let both =
            |xff: &str, forwarded: &str| resolve("10.0.0.1", &[("x-forwarded-for", xff), ("forwarded", forwarded)]);
        assert_eq!(both("192.0.2.1", "for=\"[::ffff:192.0.2.1]:80\", for=10.0.0.2").unwrap(), "192.0.2.1");
        for (one, other) in [("192.0.2.1", "for=192.0.2.2"), ("192.0.2.1", "for=_x"), ("", "for=192.0.2.1")] {
            assert_eq!(both(one, other), Err(ApiError::TWO_CLIENTS), "{one} {other}");
        }
    }

    #[test]
    fn f21_forwarded_without_a_client_contradicts_nobody() {
        let both =
            |xff: &str, forwarded: &str| resolve("10.0.0.1", &[("x-forwarded-for", xff), ("forwarded", forwarded)]);
        for silent in [
            "proto=https",
            "host=\"a,b;for=x\";proto=https",
            "by=10.0.0.1; proto=http;",
            "",
            "for=192.0.2.9, proto=https",
        ] {
            assert_eq!(both("192.0.2.1", silent).unwrap(), "192.0.2.1", "{silent:?}");
            assert_eq!(fwd(silent), "10.0.0.1", "{silent:?}");
        }
        for speaking in
            ["for=192.0.2.2;proto=https", "proto=https;FOR=unknown", "proto=https, for=_x", "for", "proto=\"https"]
        {
            assert_eq!(both("192.0.2.1", speaking), Err(ApiError::TWO_CLIENTS), "{speaking:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn f21_an_unlisted_proxy_is_warned_of_once_an_hour() {
        let unlisted = UnlistedProxies::default();
        let peer = "192.0.2.1".parse().unwrap();
        assert!(unlisted.note(peer));
        assert!(!unlisted.note(peer) && !unlisted.note("192.0.2.2".parse().unwrap()));
        tokio::time::advance(WARN_EVERY).await;
        assert!(unlisted.note(peer) && !unlisted.note(peer));
    }

    fn address() -> impl Strategy<Value = IpAddr> {
        prop_oneof![any::<[u8; 4]>().prop_map(IpAddr::from), any::<[u8; 16]>().prop_map(IpAddr::from)]
    }

    proptest! {
        #[test]
        fn s18_the_address_that_a_proxy_appends_is_found_behind_anything(
            before in "[ -~\\t]{0,60}",
            client in address(),
            hops in proptest::collection::vec(any::<[u8; 3]>(), 0..3),
        ) {
            let client = client.to_canonical();
            let trusted = Networks::parse(PROXIES).unwrap();
            prop_assume!(!trusted.contains(client));
            let nodes: Vec<String> = std::iter::once(match client {
                IpAddr::V4(v4) => v4.to_string(),
                IpAddr::V6(v6) => format!("[{v6}]"),
            }).chain(hops.iter().map(|[a, b, c]| format!("10.{a}.{b}.{c}"))).collect();
            let forwarded: Vec<_> = nodes.iter().map(|node| format!("for=\"{node}\"")).collect();
            prop_assert_eq!(xff(&format!("{before},{}", nodes.join(", "))), client.to_string());
            prop_assert_eq!(fwd(&format!("{before},{}", forwarded.join(", "))), client.to_string());
        }

        #[test]
        fn r07_any_header_is_read_without_a_panic(value in "[ -~\\t]{0,80}") {
            let (xff, fwd) = (xff(&value), fwd(&value));
            prop_assert!(xff.parse::<IpAddr>().is_ok() && fwd.parse::<IpAddr>().is_ok());
        }

        #[test]
        fn s18_a_stranger_is_its_own_address_whatever_it_sends(peer in address(), value in "[ -~\\t]{0,80}") {
            let peer = peer.to_canonical();
            prop_assume!(!Networks::parse(PROXIES).unwrap().contains(peer));
            let headers = [("x-forwarded-for", &*value), ("forwarded", &*value)];
            prop_assert_eq!(resolve(&peer.to_string(), &headers).unwrap(), peer.to_string());
        }
    }
}
