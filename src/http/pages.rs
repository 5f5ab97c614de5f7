//! The pages that links in mails lead to: plain HTML from the binary, with a style sheet inside. They have no script and
//! load nothing else.
//!
//! Opening a page changes nothing, because mail scanners open links too. Only its button does (S29). Every value that
//! comes from outside is escaped (S36).

mod texts;

use std::sync::LazyLock;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use doorward_actors::{Locale, Timestamp, TokenPreview, TokenPurpose, UsedLink, WeakPassword};
use hyper::StatusCode;
use hyper::header::{CONTENT_LANGUAGE, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, HeaderValue, RETRY_AFTER};
use warp::reply::Response;

use crate::http::edge::extract::RequestContext;
use crate::http::error::{ApiError, whole_seconds};
use texts::Texts;

const STYLE: &str = include_str!("pages/style.css");
const X_ROBOTS_TAG: HeaderName = HeaderName::from_static("x-robots-tag");

/// Allows only this style sheet and forms to this origin, and forbids framing (CSP 3 §6, §8.3 for the hash).
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let hash = STANDARD.encode(digest::digest(&digest::SHA256, STYLE.as_bytes()));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{hash}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    );
    HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
});

/// What a page asks before it is done, or reports once it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum Topic {
    /// Confirm the address of a new account.
    Verify,
    /// Confirm the new address of an account.
    Change,
    /// Undo what was done to the account since a mail.
    Undo,
}

/// An error in what a user typed on the page for a new password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::http) enum Complaint {
    Weak(WeakPassword),
    PasswordTooLong,
    PassphraseMissing,
    PassphraseTooLong,
    /// It is not the passphrase of the account.
    NoMatch,
}

impl Complaint {
    fn is_about_passphrase(self) -> bool {
        matches!(self, Self::PassphraseMissing | Self::PassphraseTooLong | Self::NoMatch)
    }

    fn text(self, texts: &'static Texts) -> &'static str {
        match self {
            Self::Weak(WeakPassword::TooShort) => texts.too_short,
            Self::Weak(WeakPassword::TooPlain) => texts.too_plain,
            Self::Weak(WeakPassword::Guessable) => texts.guessable,
            Self::Weak(WeakPassword::Breached) => texts.breached,
            Self::PasswordTooLong | Self::PassphraseTooLong => texts.too_long,
            Self::PassphraseMissing => texts.missing,
            Self::NoMatch => texts.no_match,
        }
    }
}

/// Asks whether the owner of the token wants this. The button sends the token to the URL of the page.
pub(in crate::http) fn question(topic: Topic, about: &TokenPreview, token: &str) -> Response {
    let texts = Texts::of(about.locale);
    let (title, text, button, otherwise) = match topic {
        Topic::Verify => (texts.verify_title, texts.verify_text, texts.verify_button, texts.verify_otherwise),
        Topic::Change => (texts.change_title, texts.change_text, texts.change_button, texts.change_otherwise),
        Topic::Undo => (texts.undo_title, texts.undo_text, texts.undo_button, texts.undo_otherwise),
    };
    let form = form(about.locale, token, "", button);
    let main = format!("<p>{}</p>{form}<p class=\"quiet\">{}</p>", filled(text, about), escaped(otherwise));
    page(about.locale, StatusCode::OK, title, &main)
}

/// Reports that it is done.
pub(in crate::http) fn done(locale: Locale, topic: Topic) -> Response {
    let texts = Texts::of(locale);
    let (title, text) = match topic {
        Topic::Verify => (texts.verified_title, texts.verified_text),
        Topic::Change => (texts.changed_title, texts.changed_text),
        Topic::Undo => (texts.undone_title, texts.undone_text),
    };
    notice(locale, StatusCode::OK, title, text)
}

/// Reports that the password is changed.
pub(in crate::http) fn password_changed(locale: Locale) -> Response {
    let texts = Texts::of(locale);
    notice(locale, StatusCode::OK, texts.reset_done_title, texts.reset_done_text)
}

/// Repeats the answer to the first use of a link, for a form that is sent again a moment later.
pub(in crate::http) fn done_again(locale: Locale, link: &UsedLink) -> Response {
    match link.purpose {
        TokenPurpose::VerifyAddress => done(locale, Topic::Verify),
        TokenPurpose::ConfirmAddress => done(locale, Topic::Change),
        TokenPurpose::ResetPassword => password_changed(locale),
        TokenPurpose::Undo | TokenPurpose::CancelAddressChange => done(locale, Topic::Undo),
    }
}

/// Reports that the password of an earlier form was set, not the one of this form.
pub(in crate::http) fn password_kept(locale: Locale) -> Response {
    let texts = Texts::of(locale);
    notice(locale, ApiError::BAD_TOKEN.status(), texts.reset_kept_title, texts.reset_kept_text)
}

/// Reports what a used link did and what to do next. It names no account, because somebody else may open the link by then.
pub(in crate::http) fn used(locale: Locale, link: &UsedLink) -> Response {
    let texts = Texts::of(locale);
    let text = match link.purpose {
        TokenPurpose::VerifyAddress => texts.verify_used,
        TokenPurpose::ConfirmAddress => texts.change_used,
        TokenPurpose::ResetPassword => texts.reset_used,
        TokenPurpose::Undo | TokenPurpose::CancelAddressChange => texts.undo_used,
    };
    let text = text.replace("{at}", &spoken(link.at));
    notice(locale, ApiError::BAD_TOKEN.status(), texts.used_title, &text)
}

/// Writes a time to the minute in the order of ISO 8601, which is the same in every language.
fn spoken(at: Timestamp) -> String {
    let minute: String = at.to_rfc3339().chars().take("2000-01-01T00:00".len()).collect();
    format!("{} UTC", minute.replace('T', " "))
}

/// Asks for a new password, and for the account's passphrase if it is needed. A complaint says what was wrong before.
pub(in crate::http) fn new_password(
    status: StatusCode,
    about: &TokenPreview,
    token: &str,
    complaint: Option<Complaint>,
) -> Response {
    let texts = Texts::of(about.locale);
    let complaint_of = |passphrase: bool| {
        complaint
            .filter(|complaint| complaint.is_about_passphrase() == passphrase)
            .map(|complaint| complaint.text(texts))
    };
    // For password managers. The field has no name, so browsers do not send it.
    let mut inputs = format!(
        "<input type=\"email\" autocomplete=\"username\" value=\"{}\" readonly hidden>",
        escaped(&about.address)
    );
    inputs.push_str(&secret_input(&Input {
        name: "new_password",
        label: texts.password_label,
        hint: texts.password_hint,
        rules: "autocomplete=\"new-password\" minlength=\"8\" maxlength=\"1024\"",
        complaint: complaint_of(false),
        focused: !complaint.is_some_and(Complaint::is_about_passphrase),
    }));
    if about.asks_for_passphrase {
        inputs.push_str(&secret_input(&Input {
            name: "passphrase",
            label: texts.passphrase_label,
            hint: texts.passphrase_hint,
            rules: "autocomplete=\"off\" maxlength=\"1024\"",
            complaint: complaint_of(true),
            focused: complaint.is_some_and(Complaint::is_about_passphrase),
        }));
    }
    let main = format!(
        "<p>{}</p>{}<p class=\"quiet\">{}</p>",
        filled(texts.reset_text, about),
        form(about.locale, token, &inputs, texts.reset_button),
        escaped(texts.reset_otherwise)
    );
    page(about.locale, status, texts.reset_title, &main)
}

/// Turns an error into a page, for routes that only people use: they opened a link or sent a form.
pub(in crate::http) fn for_people(context: &RequestContext, mut response: Response) -> Response {
    match response.extensions_mut().remove::<ApiError>() {
        Some(error) => refusal(context.page_language(), &error),
        None => response,
    }
}

/// Turns an error into a page if the request is a form, for routes to which programs may send JSON.
pub(in crate::http) fn for_forms(context: &RequestContext, response: Response) -> Response {
    if context.is_form() { for_people(context, response) } else { response }
}

fn refusal(locale: Locale, error: &ApiError) -> Response {
    let texts = Texts::of(locale);
    let (title, text) = match error {
        error if *error == ApiError::BAD_TOKEN => (texts.bad_title, texts.bad_text),
        error if *error == ApiError::EMAIL_TAKEN => (texts.taken_title, texts.taken_text),
        ApiError::Limited(_) | ApiError::Unavailable(_) | ApiError::Internal => (texts.busy_title, texts.busy_text),
        _ => (texts.failed_title, texts.failed_text),
    };
    let mut response = notice(locale, error.status(), title, text);
    if let Some(wait) = error.retry_after() {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(whole_seconds(wait)));
    }
    response
}

/// Returns a page that only has a text.
fn notice(locale: Locale, status: StatusCode, title: &str, text: &str) -> Response {
    page(locale, status, title, &format!("<p>{}</p>", escaped(text)))
}

/// An input field for a secret, which is not shown while it is typed.
struct Input {
    name: &'static str,
    label: &'static str,
    hint: &'static str,
    /// Its other attributes.
    rules: &'static str,
    complaint: Option<&'static str>,
    focused: bool,
}

fn secret_input(input: &Input) -> String {
    let Input { name, label, hint, rules, complaint, focused } = *input;
    let (label, hint) = (escaped(label), escaped(hint));
    let (bad, invalid) = complaint.map_or_else(Default::default, |complaint| {
        let bad = format!("<p class=\"bad\" id=\"{name}-bad\" role=\"alert\">{}</p>", escaped(complaint));
        (bad, format!(" aria-invalid=\"true\" aria-errormessage=\"{name}-bad\""))
    });
    let described = if complaint.is_some() { format!("{name}-bad {name}-hint") } else { format!("{name}-hint") };
    let focus = if focused { " autofocus" } else { "" };
    format!(
        "<label for=\"{name}\">{label}</label><p class=\"quiet\" id=\"{name}-hint\">{hint}</p>{bad}\
         <input id=\"{name}\" name=\"{name}\" type=\"password\" {rules} required \
         aria-describedby=\"{described}\"{invalid}{focus}>"
    )
}

/// Writes a form that goes back to the URL of the page, with the token in the body: a token in the URL may end up in a
/// history or a log. The query asks for the answer in the language of the page.
fn form(locale: Locale, token: &str, inputs: &str, button: &str) -> String {
    format!(
        "<form method=\"post\" action=\"?locale={}\" accept-charset=\"utf-8\">\
         <input type=\"hidden\" name=\"token\" value=\"{}\">{inputs}<button type=\"submit\">{}</button></form>",
        locale.as_str(),
        escaped(token),
        escaped(button)
    )
}

/// The frame of every page. `main` is HTML, `title` is text.
fn page(locale: Locale, status: StatusCode, title: &str, main: &str) -> Response {
    let (language, title) = (locale.as_str(), escaped(title));
    let html = format!(
        "<!DOCTYPE html><html lang=\"{language}\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\
         <meta name=\"color-scheme\" content=\"light dark\"><title>{title}</title><style>{STYLE}</style></head>\
         <body><main><h1>{title}</h1>{main}</main></body></html>"
    );
    let mut response = Response::new(html.into());
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/html; charset=utf-8"));
    headers.insert(CONTENT_LANGUAGE, HeaderValue::from_static(language));
    headers.insert(CONTENT_SECURITY_POLICY, POLICY.clone());
    headers.insert(X_ROBOTS_TAG, HeaderValue::from_static("noindex"));
    response
}

/// Fills the account's names into a text and returns HTML. Braces inside a name are not filled again. The writing direction
/// of a name does not affect the text around it.
fn filled(text: &str, about: &TokenPreview) -> String {
    let mut html = String::new();
    let mut rest = text;
    while let Some((before, (name, after))) =
        rest.split_once('{').and_then(|(b, rest)| Some((b, rest.split_once('}')?)))
    {
        let value = if name == "nickname" { &about.nickname } else { &about.address };
        html.extend([&escaped(before), "<bdi>", &escaped(value), "</bdi>"]);
        rest = after;
    }
    html + &escaped(rest)
}

/// Escapes a text for an element or for an attribute in double quotes (HTML §13.1.2).
fn escaped(text: &str) -> String {
    let mut html = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => html.push_str("&amp;"),
            '<' => html.push_str("&lt;"),
            '>' => html.push_str("&gt;"),
            '"' => html.push_str("&quot;"),
            '\'' => html.push_str("&#39;"),
            c => html.push(c),
        }
    }
    html
}

#[cfg(test)]
mod tests;
