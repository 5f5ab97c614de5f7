//! The pages that links in mails lead to: plain HTML from the binary, with a style sheet of their own, no script and
//! nothing from anywhere else.
//!
//! A page that is opened changes nothing, as mail scanners open links too; its one button does (S29). Every value that
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

use super::error::{ApiError, whole_seconds};
use super::extract::RequestContext;
use texts::Texts;

const STYLE: &str = include_str!("pages/style.css");
const X_ROBOTS_TAG: HeaderName = HeaderName::from_static("x-robots-tag");

/// Nothing but this style sheet and forms to this place; nobody frames the pages (CSP 3 §6, §8.3 for the hash).
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let hash = STANDARD.encode(digest::digest(&digest::SHA256, STYLE.as_bytes()));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{hash}'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    );
    HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
});

/// What is asked before something is done, or said once it is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Topic {
    /// The address of a new account.
    Verify,
    /// The new address of an account.
    Change,
    /// What was done to the account since a mail.
    Undo,
}

/// What is wrong with what somebody typed on the page for a new password.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Complaint {
    Weak(WeakPassword),
    PasswordTooLong,
    PassphraseMissing,
    PassphraseTooLong,
    /// Not the passphrase of the account.
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

/// Asks whether this is what the owner of the token wants; the button sends the token to where the page came from.
pub(super) fn question(topic: Topic, about: &TokenPreview, token: &str) -> Response {
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

/// Says that it is done.
pub(super) fn done(locale: Locale, topic: Topic) -> Response {
    let texts = Texts::of(locale);
    let (title, text) = match topic {
        Topic::Verify => (texts.verified_title, texts.verified_text),
        Topic::Change => (texts.changed_title, texts.changed_text),
        Topic::Undo => (texts.undone_title, texts.undone_text),
    };
    notice(locale, StatusCode::OK, title, text)
}

/// Says that the password is the new one.
pub(super) fn password_changed(locale: Locale) -> Response {
    let texts = Texts::of(locale);
    notice(locale, StatusCode::OK, texts.reset_done_title, texts.reset_done_text)
}

/// Says what was said when a link was used, for its form sent again a moment later.
pub(super) fn done_again(locale: Locale, link: &UsedLink) -> Response {
    match link.purpose {
        TokenPurpose::VerifyAddress => done(locale, Topic::Verify),
        TokenPurpose::ConfirmAddress => done(locale, Topic::Change),
        TokenPurpose::ResetPassword => password_changed(locale),
        TokenPurpose::Undo | TokenPurpose::CancelAddressChange => done(locale, Topic::Undo),
    }
}

/// Says that the password of the form sent before counts, not the one of this form.
pub(super) fn password_kept(locale: Locale) -> Response {
    let texts = Texts::of(locale);
    notice(locale, ApiError::BAD_TOKEN.status(), texts.reset_kept_title, texts.reset_kept_text)
}

/// Says what a link did when it was used, and what to do next. It names no account, as somebody else may open the link by then.
pub(super) fn used(locale: Locale, link: &UsedLink) -> Response {
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

/// A time to the minute, in the order in which ISO 8601 writes it: the same in every language.
fn spoken(at: Timestamp) -> String {
    let minute: String = at.to_rfc3339().chars().take("2000-01-01T00:00".len()).collect();
    format!("{} UTC", minute.replace('T', " "))
}

/// Asks for a new password, and for the passphrase of the account where that is needed too. With a complaint, it says what was wrong.
pub(super) fn new_password(
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
    // For password managers; without a name it is not sent.
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

/// Turns a refusal into a page when it is a person who sees it: who opened a link or sent a form.
pub(super) fn for_people(context: &RequestContext, mut response: Response) -> Response {
    match response.extensions_mut().remove::<ApiError>() {
        Some(error) => refusal(context.page_language(), &error),
        None => response,
    }
}

/// The same where programs may send JSON too.
pub(super) fn for_forms(context: &RequestContext, response: Response) -> Response {
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

/// A page that only says something.
fn notice(locale: Locale, status: StatusCode, title: &str, text: &str) -> Response {
    page(locale, status, title, &format!("<p>{}</p>", escaped(text)))
}

/// A field for something that must not be read over a shoulder.
struct Input {
    name: &'static str,
    label: &'static str,
    hint: &'static str,
    /// Attributes of its own.
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

/// A form to where the page came from, without the token in the address: that one may end up in a history or a log. The
/// answer is to be in the language of the page.
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

/// A text with the names of the account in it, as HTML. What the names hold is not looked at again, and their direction of
/// writing is kept to themselves.
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

/// A text as it may stand in an element or between double quotes (HTML §13.1.2).
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
