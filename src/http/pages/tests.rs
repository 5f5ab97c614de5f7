//! What the pages guarantee to the people who open them.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use doorward_actors::{Limited, Standing, TokenPurpose};
use http_body_util::BodyExt as _;
use hyper::{HeaderMap, Uri};

use super::*;
use crate::http::routes::Resolved;

fn limited(seconds: u64) -> ApiError {
    let retry_after = Duration::from_secs(seconds);
    let standing = Standing { policy: "public", quota: 1, window: retry_after, remaining: 0, reset: retry_after };
    ApiError::Limited(Limited { retry_after, standing })
}

const TOPICS: [Topic; 3] = [Topic::Verify, Topic::Change, Topic::Undo];
const TOKEN: &str = "abcdefghijklmnopqrstuvwxyz-ABCDEFGHIJKLMNOP";

fn about(nickname: &str, locale: Locale) -> TokenPreview {
    let address = "ann@example.com".to_owned();
    let (nickname, purpose) = (nickname.to_owned(), TokenPurpose::VerifyAddress);
    TokenPreview { nickname, purpose, address, locale, asks_for_passphrase: true }
}

/// The purposes that have a text of their own.
const DISTINCT: [TokenPurpose; 4] =
    [TokenPurpose::VerifyAddress, TokenPurpose::ConfirmAddress, TokenPurpose::ResetPassword, TokenPurpose::Undo];

fn link(purpose: TokenPurpose) -> UsedLink {
    let at = Timestamp::parse_rfc3339("2026-03-04T05:06:07Z").unwrap();
    UsedLink { purpose, at, is_recent: false, locale: Locale::En }
}

fn text(response: Response) -> String {
    let body = futures_util::future::FutureExt::now_or_never(response.into_body().collect()).unwrap().unwrap();
    String::from_utf8(body.to_bytes().to_vec()).unwrap()
}

fn every_page(locale: Locale) -> Vec<String> {
    let about = &about("ann", locale);
    let complaints = [None, Some(Complaint::Weak(WeakPassword::Guessable)), Some(Complaint::NoMatch)];
    let refusals = [ApiError::BAD_TOKEN, ApiError::EMAIL_TAKEN, limited(1), ApiError::NotJson];
    let mut pages: Vec<Response> = TOPICS.iter().map(|topic| question(*topic, about, TOKEN)).collect();
    pages.extend(TOPICS.iter().map(|topic| done(locale, *topic)));
    pages.push(password_changed(locale));
    pages.push(password_kept(locale));
    pages.extend(DISTINCT.map(|purpose| used(locale, &link(purpose))));
    for complaint in complaints {
        pages.extend([true, false].map(|asks_for_passphrase| {
            new_password(StatusCode::OK, &TokenPreview { asks_for_passphrase, ..about.clone() }, TOKEN, complaint)
        }));
    }
    pages.extend(refusals.iter().map(|error| refusal(locale, error)));
    pages.into_iter().map(text).collect()
}

#[test]
fn s36_what_comes_from_outside_is_escaped_and_never_read_twice() {
    let page = text(question(Topic::Verify, &about("{address}<b x='1'>\"&amp;", Locale::En), "\"><script>"));
    assert!(page.contains("<bdi>{address}&lt;b x=&#39;1&#39;&gt;&quot;&amp;amp;</bdi>"), "{page}");
    assert!(page.contains("value=\"&quot;&gt;&lt;script&gt;\""), "{page}");
    let page = text(new_password(StatusCode::OK, &about("</p><script>", Locale::En), TOKEN, None));
    assert!(!page.contains("<script"), "{page}");
}

#[test]
fn every_page_of_every_language_is_whole() {
    for locale in Locale::ALL {
        for page in every_page(locale) {
            assert!(page.contains(&format!("<html lang=\"{}\">", locale.as_str())));
            let text = page.replace(STYLE, "");
            assert!(!text.contains(['{', '}']), "a name was left out: {text}");
            assert!(!text.contains("<form") || text.contains(&format!("action=\"?locale={}\"", locale.as_str())));
            for absent in ["<script", "http:", "https:", "//", "<img", "<link", "style=\"", " onclick"] {
                assert!(!text.contains(absent), "{absent} in {text}");
            }
            assert_eq!(page.matches("<h1>").count(), 1);
            // Each field has a label, and the elements that describe it exist.
            for input in page.split("<input id=\"").skip(1) {
                let name = input.split('"').next().unwrap();
                assert!(page.contains(&format!("<label for=\"{name}\">")));
                let described = input.split("aria-describedby=\"").nth(1).unwrap().split('"').next().unwrap();
                assert!(described.split(' ').all(|id| page.contains(&format!("id=\"{id}\""))), "{described}");
            }
        }
    }
}

#[test]
fn languages_differ() {
    let pages: Vec<_> = Locale::ALL.iter().map(|locale| every_page(*locale)).collect();
    for n in 0..pages[0].len() {
        let of_all: std::collections::BTreeSet<_> = pages.iter().map(|pages| &pages[n]).collect();
        assert_eq!(of_all.len(), Locale::ALL.len(), "{}", pages[0][n]);
    }
}

#[test]
fn f21_a_used_link_says_what_it_did_and_when_in_every_language_and_names_nobody() {
    let mut texts = std::collections::BTreeSet::new();
    for locale in Locale::ALL {
        for purpose in DISTINCT {
            let page = text(used(locale, &link(purpose)));
            assert!(page.contains("2026-03-04 05:06 UTC"), "{page}");
            assert!(!page.contains("<form") && !page.contains("<bdi>"), "{page}");
            texts.insert(page);
        }
        assert_eq!(
            text(used(locale, &link(TokenPurpose::CancelAddressChange))),
            text(used(locale, &link(TokenPurpose::Undo))),
        );
        texts.insert(text(password_kept(locale)));
    }
    assert_eq!(texts.len(), Locale::ALL.len() * (DISTINCT.len() + 1));
}

#[test]
fn s66_the_policy_admits_the_style_sheet_and_nothing_else() {
    let response = question(Topic::Verify, &about("ann", Locale::De), TOKEN);
    let policy = response.headers()["content-security-policy"].to_str().unwrap().to_owned();
    for part in ["default-src 'none';", "form-action 'self';", "base-uri 'none';", "frame-ancestors 'none'"] {
        assert!(policy.contains(part), "{policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(response.headers()["x-robots-tag"], "noindex");
    assert_eq!(response.headers()["content-language"], "de");
    let page = text(response);
    let style = page.split("<style>").nth(1).unwrap().split("</style>").next().unwrap();
    let hash = STANDARD.encode(digest::digest(&digest::SHA256, style.as_bytes()));
    assert!(policy.contains(&format!("style-src 'sha256-{hash}';")), "{policy}");
}

#[test]
fn a_complaint_stands_at_its_field_and_the_token_stays() {
    let page =
        |complaint| text(new_password(StatusCode::BAD_REQUEST, &about("ann", Locale::En), TOKEN, Some(complaint)));
    let weak = page(Complaint::Weak(WeakPassword::TooShort));
    assert!(weak.contains("id=\"new_password-bad\"") && !weak.contains("id=\"passphrase-bad\""));
    let wrong = page(Complaint::NoMatch);
    assert!(wrong.contains("id=\"passphrase-bad\"") && !wrong.contains("id=\"new_password-bad\""));
    for page in [weak, wrong] {
        assert!(page.contains(&format!("name=\"token\" value=\"{TOKEN}\"")));
        assert_eq!(page.matches(" autofocus").count(), 1);
    }
}

#[test]
fn a_refusal_that_passes_says_when_to_come_back() {
    let wait = limited(7);
    let context = || {
        let headers = HeaderMap::from_iter([(hyper::header::ACCEPT_LANGUAGE, HeaderValue::from_static("ro"))]);
        let id = HeaderValue::from_static("id");
        RequestContext::new(IpAddr::V4(Ipv4Addr::LOCALHOST), id, headers, Uri::default(), Resolved::Unknown, true)
    };
    let response = for_people(&context(), warp::reply::Reply::into_response(wait.clone()));
    assert_eq!((response.status().as_u16(), &response.headers()["retry-after"]), (429, &HeaderValue::from_static("7")));
    assert!(text(response).contains("lang=\"ro\""));
    // A program that sent JSON gets its problem as JSON.
    let kept = for_forms(&context(), warp::reply::Reply::into_response(wait));
    assert!(kept.extensions().get::<ApiError>().is_some());
}
