//! The texts of mails: one template for each mail and language, and two frames for the layout.
//!
//! The template of a mail has no markup. It only has the blocks `subject`, `lead`, `action` (the text of the button, for mails with a
//! link) and `closing`. `common.jinja` of each language has the texts of all mails. An empty line ends a paragraph.
//!
//! The text part and the HTML part use the same words, so they cannot differ in content. The HTML frame escapes all words once, so no
//! value can become markup (S36).

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use doorward_actors::{Locale, MailKind};
use minijinja::{AutoEscape, Captured, Environment, Error, UndefinedBehavior, Value};
use serde::Serialize;

use super::embedded::{self, HTML_FRAME, TEXT_FRAME};

/// The maximum line width of text parts, in characters. RFC 5322 recommends at most 78.
const TEXT_WIDTH: usize = 72;
/// The variables that a mail's template and the common template may use.
const MAIL_VARIABLES: [&str; 11] = [
    "nickname",
    "to",
    "new_address",
    "has_link",
    "valid_for",
    "public_url",
    "locale",
    "kind",
    "at",
    "client_address",
    "user_agent",
];
/// The additional variables of the common template.
const COMMON_VARIABLES: [&str; 2] = ["amount", "unit"];
/// The variables that a frame may use.
const FRAME_VARIABLES: [&str; 13] = [
    "subject",
    "greeting",
    "lead",
    "action",
    "link",
    "link_hint",
    "closing",
    "details",
    "footer",
    "public_url",
    "locale",
    "kind",
    "colon",
];

/// The maximum number of instructions of one template: some hundred times what the built-in ones need. A mistake such as a loop over a
/// million numbers must not delay the mails.
const FUEL: u64 = 100_000;

/// The mail that `doorward mail test` sends.
pub(super) const TEST: &str = "test";

/// Why the templates cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// The directory or a file in it cannot be read.
    #[error("{}: {source}", path.display())]
    Unreadable {
        /// The path.
        path: PathBuf,
        /// The error of the operating system.
        source: io::Error,
    },
    /// A file has the name of no built-in template.
    #[error("{}: there is no template of this name to replace", .0.display())]
    UnknownFile(PathBuf),
    /// A template is wrong.
    #[error("{file}, line {line}: {problem}")]
    Wrong {
        /// The path of its file, or its name if it is built in.
        file: String,
        /// The line, counted from 1.
        line: usize,
        /// What is wrong.
        problem: String,
    },
}

/// The values of a mail, as text that is ready to be shown.
#[derive(Debug, Clone, Default)]
pub(super) struct Words {
    pub(super) nickname: String,
    pub(super) to: String,
    pub(super) new_address: String,
    pub(super) link: Option<String>,
    pub(super) valid_for: Option<Duration>,
    pub(super) at: String,
    pub(super) client_address: String,
    pub(super) user_agent: String,
    pub(super) public_url: String,
}

/// The texts of one mail.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) subject: String,
    pub(super) text: String,
    pub(super) html: String,
}

/// Every template, compiled.
pub(super) struct Templates {
    environment: Environment<'static>,
    /// The files of the templates that an operator replaced.
    replaced: BTreeMap<&'static str, PathBuf>,
}

impl Templates {
    /// Compiles the templates. A file in `directory` replaces the built-in template of the same name.
    /// Renders every mail in every language, so that mistakes are found at the start and not when a mail is due.
    pub(super) fn load(directory: Option<&Path>) -> Result<Self, TemplateError> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.set_fuel(Some(FUEL));
        environment.set_auto_escape_callback(
            |name| {
                if name == HTML_FRAME { AutoEscape::Html } else { AutoEscape::None }
            },
        );
        let mut templates = Self { environment, replaced: BTreeMap::new() };
        let mut sources = replacements(directory)?;
        for (name, built_in) in embedded::templates() {
            let source = sources.remove(name).map(|(path, source)| {
                templates.replaced.insert(name, path);
                source
            });
            let source = source.unwrap_or_else(|| built_in.to_owned());
            let added = templates.environment.add_template_owned(name, source);
            added.map_err(|error| templates.wrong(name, &error))?;
            templates.check_names(name)?;
        }
        if let Some((path, _)) = sources.into_values().next() {
            return Err(TemplateError::UnknownFile(path));
        }
        templates.try_all()?;
        Ok(templates)
    }

    /// Renders a mail in a language. `name` is the name of a [`MailKind`] or [`TEST`].
    pub(super) fn write(&self, name: &str, locale: Locale, words: &Words) -> Result<Written, Failure> {
        let language = locale.as_str();
        let (amount, unit) = amount_and_unit(words.valid_for.unwrap_or_default());
        let mut values = BTreeMap::from([
            ("nickname", Value::from(&*words.nickname)),
            ("to", Value::from(&*words.to)),
            ("new_address", Value::from(&*words.new_address)),
            ("public_url", Value::from(&*words.public_url)),
            ("at", Value::from(&*words.at)),
            ("client_address", Value::from(&*words.client_address)),
            ("user_agent", Value::from(&*words.user_agent)),
            ("locale", Value::from(language)),
            ("kind", Value::from(name)),
            ("has_link", Value::from(words.link.is_some())),
            ("amount", Value::from(amount)),
            ("unit", Value::from(unit)),
        ]);
        let mut common = Blocks::of(&self.environment, format!("{language}/common.jinja"), &values)?;
        values.retain(|name, _| !COMMON_VARIABLES.contains(name));
        values.insert("valid_for", Value::from(common.line("duration")?));
        let mut mail = Blocks::of(&self.environment, format!("{language}/{name}.jinja"), &values)?;

        let subject = mail.line("subject")?;
        let (lead, closing) = (mail.paragraphs("lead")?, mail.paragraphs("closing")?);
        let action = if words.link.is_some() { mail.line("action")? } else { String::new() };
        let mut details = Vec::new();
        for (label, value) in [
            ("label_at", &words.at),
            ("label_client_address", &words.client_address),
            ("label_user_agent", &words.user_agent),
        ] {
            let label = common.line(label)?;
            if !value.is_empty() {
                details.push(Detail { label, value });
            }
        }
        let mut frame = Frame {
            subject: &subject,
            greeting: common.line("greeting")?,
            lead,
            action,
            link: words.link.as_deref(),
            link_hint: common.line("link_hint")?,
            closing,
            details,
            footer: common.line("footer")?,
            colon: common.line("colon")?,
            public_url: &words.public_url,
            locale: language,
            kind: name,
        };
        let render = |name: &str, frame: &Frame<'_>| {
            let rendered = self.environment.get_template(name).and_then(|template| template.render(frame));
            rendered.map_err(|error| Failure::of(name, &error))
        };
        let html = render(HTML_FRAME, &frame)?;
        frame.wrap();
        let text = render(TEXT_FRAME, &frame)?;
        Ok(Written { subject, text, html })
    }

    /// Renders every mail in every language, with all values and with as few as possible.
    fn try_all(&self) -> Result<(), TemplateError> {
        let names = MailKind::ALL.into_iter().map(|kind| (kind.as_str(), kind.has_link())).chain([(TEST, false)]);
        for (name, has_link) in names {
            for locale in Locale::ALL {
                // Some mails of a kind with a link have none.
                for (mut words, linked) in
                    [(Words::full(), has_link), (Words::default(), has_link), (Words::full(), false)]
                {
                    words.link = linked.then(|| "https://auth.example.com/x?token=sample".to_owned());
                    let written = self.write(name, locale, &words);
                    let written =
                        written.map_err(|failure| self.wrong_at(&failure.template, failure.line, failure.problem))?;
                    // Without values a subject may be empty; with all values it must not be.
                    if written.subject.is_empty() && !words.nickname.is_empty() {
                        let template = format!("{}/{name}.jinja", locale.as_str());
                        return Err(self.wrong_at(&template, 1, "the block subject is empty".to_owned()));
                    }
                }
            }
        }
        Ok(())
    }

    /// Looks for unknown variables, also in branches that no sample reaches.
    fn check_names(&self, name: &str) -> Result<(), TemplateError> {
        let template = self.environment.get_template(name).map_err(|error| self.wrong(name, &error))?;
        let known = |variable: &str| match name {
            TEXT_FRAME | HTML_FRAME => FRAME_VARIABLES.contains(&variable),
            _ if name.ends_with("/common.jinja") => {
                let variable = &variable;
                COMMON_VARIABLES.contains(variable) || (MAIL_VARIABLES.contains(variable) && *variable != "valid_for")
            }
            _ => MAIL_VARIABLES.contains(&variable),
        };
        let builtin = |variable: &str| self.environment.globals().any(|(global, _)| global == variable);
        let mut unknown: Vec<_> = template.undeclared_variables(false).into_iter().collect();
        unknown.retain(|variable| !known(variable) && !builtin(variable));
        // Sorted, because a set has no order and the message should always be the same.
        unknown.sort_unstable();
        match unknown.first() {
            None => Ok(()),
            Some(variable) => {
                let line = template.source().lines().position(|line| names(line, variable)).unwrap_or_default();
                Err(self.wrong_at(name, line + 1, format!("there is no variable {variable}")))
            }
        }
    }

    fn wrong(&self, template: &str, error: &Error) -> TemplateError {
        let Failure { template, line, problem } = Failure::of(template, error);
        self.wrong_at(&template, line, problem)
    }

    fn wrong_at(&self, template: &str, line: usize, problem: String) -> TemplateError {
        let file = self.replaced.get(template).map_or(template.to_owned(), |path| path.display().to_string());
        TemplateError::Wrong { file, line, problem }
    }
}

impl Words {
    /// Sample values for every field.
    fn full() -> Self {
        Self {
            nickname: "Ann".to_owned(),
            to: "ann@example.com".to_owned(),
            new_address: "ann.lee@example.com".to_owned(),
            link: None,
            valid_for: Some(Duration::from_hours(24)),
            at: "2026-01-02 03:04:05 UTC".to_owned(),
            client_address: "192.0.2.7".to_owned(),
            user_agent: "Mozilla/5.0".to_owned(),
            public_url: "https://auth.example.com".to_owned(),
        }
    }
}

/// The failure to render a template.
#[derive(Debug)]
pub(super) struct Failure {
    /// The name of the template.
    pub(super) template: String,
    /// The line, counted from 1.
    pub(super) line: usize,
    /// The reason. It may contain a value.
    problem: String,
}

impl Failure {
    /// Creates a failure. `template` is used if the error does not name one.
    fn of(template: &str, error: &Error) -> Self {
        let kind = error.kind().to_string();
        Self {
            template: error.name().unwrap_or(template).to_owned(),
            line: error.line().unwrap_or(1),
            problem: error.detail().map_or(kind.clone(), |detail| format!("{kind}: {detail}")),
        }
    }
}

/// The rendered blocks of one template.
struct Blocks<'templates> {
    name: String,
    captured: Captured<'templates>,
}

impl<'templates> Blocks<'templates> {
    fn of(
        environment: &'templates Environment<'templates>,
        name: String,
        values: &BTreeMap<&str, Value>,
    ) -> Result<Self, Failure> {
        let captured = environment.get_template(&name).and_then(|template| template.render_captured(values));
        match captured {
            Ok(captured) => Ok(Self { name, captured }),
            Err(error) => Err(Failure::of(&name, &error)),
        }
    }

    fn render(&mut self, block: &str) -> Result<String, Failure> {
        let rendered = self.captured.with_state_mut(|state| state.render_block(block));
        rendered.map_err(|error| Failure::of(&self.name, &error))
    }

    fn line(&mut self, block: &str) -> Result<String, Failure> {
        self.render(block).map(|text| on_one_line(&text))
    }

    fn paragraphs(&mut self, block: &str) -> Result<Vec<String>, Failure> {
        let text = self.render(block)?;
        let mut paragraphs = vec![String::new()];
        for line in text.lines() {
            match paragraphs.last_mut() {
                Some(last) if !line.trim().is_empty() => {
                    last.push_str(line);
                    last.push('\n');
                }
                _ => paragraphs.push(String::new()),
            }
        }
        Ok(paragraphs.iter().map(|text| on_one_line(text)).filter(|text| !text.is_empty()).collect())
    }
}

/// The values of a frame.
#[derive(Serialize)]
struct Frame<'mail> {
    subject: &'mail str,
    greeting: String,
    lead: Vec<String>,
    action: String,
    link: Option<&'mail str>,
    link_hint: String,
    closing: Vec<String>,
    details: Vec<Detail<'mail>>,
    footer: String,
    colon: String,
    public_url: &'mail str,
    locale: &'mail str,
    kind: &'mail str,
}

#[derive(Serialize)]
struct Detail<'mail> {
    label: String,
    value: &'mail str,
}

impl Frame<'_> {
    /// Wraps the lines for the text part.
    fn wrap(&mut self) {
        for text in self.lead.iter_mut().chain(&mut self.closing).chain([&mut self.footer]) {
            *text = wrapped(text);
        }
    }
}

/// Puts everything on one line with single spaces between words. Keeps a no-break space.
fn on_one_line(text: &str) -> String {
    let breaks = |c: char| c.is_ascii_whitespace() || c.is_control();
    text.split(breaks).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}

fn wrapped(text: &str) -> String {
    let mut lines = String::with_capacity(text.len());
    let mut width = 0;
    for word in text.split(' ') {
        let length = word.chars().count();
        if width > 0 && width + 1 + length > TEXT_WIDTH {
            lines.push('\n');
            width = 0;
        } else if width > 0 {
            lines.push(' ');
            width += 1;
        }
        lines.push_str(word);
        width += length;
    }
    lines
}

/// Returns a span of time in the largest unit that is exact. Uses days from two days on. Rounds less than a minute up to one.
fn amount_and_unit(span: Duration) -> (u64, &'static str) {
    let minutes = (span.as_secs() / 60).max(1);
    match minutes {
        _ if minutes >= 2 * 1440 && minutes.is_multiple_of(1440) => (minutes / 1440, "day"),
        _ if minutes.is_multiple_of(60) => (minutes / 60, "hour"),
        _ => (minutes, "minute"),
    }
}

/// Returns whether a line of a template contains a variable.
fn names(line: &str, variable: &str) -> bool {
    let in_word = |c: char| c.is_alphanumeric() || c == '_';
    line.match_indices(variable)
        .any(|(at, _)| !line[..at].ends_with(in_word) && !line[at + variable.len()..].starts_with(in_word))
}

/// Returns an operator's files by the name of the template that each of them replaces.
fn replacements(directory: Option<&Path>) -> Result<BTreeMap<String, (PathBuf, String)>, TemplateError> {
    let mut found = BTreeMap::new();
    if let Some(directory) = directory {
        collect(directory, "", &mut found)?;
    }
    Ok(found)
}

fn collect(folder: &Path, prefix: &str, found: &mut BTreeMap<String, (PathBuf, String)>) -> Result<(), TemplateError> {
    let unreadable = |path: &Path| {
        let path = path.to_owned();
        move |source| TemplateError::Unreadable { path, source }
    };
    for entry in fs::read_dir(folder).map_err(unreadable(folder))? {
        let path = entry.map_err(unreadable(folder))?.path();
        let Some(file_name) = path.file_name().and_then(|name| name.to_str()) else {
            return Err(TemplateError::UnknownFile(path));
        };
        // Hidden files are not templates: editors and mounted volumes leave such files behind.
        if file_name.starts_with('.') {
            continue;
        }
        let name = format!("{prefix}{file_name}");
        if path.is_dir() {
            // There is one level of folders, for the languages. A deeper folder could be a link to its parent, which would never end.
            if !prefix.is_empty() || Locale::ALL.iter().all(|locale| locale.as_str() != file_name) {
                return Err(TemplateError::UnknownFile(path));
            }
            collect(&path, &format!("{name}/"), found)?;
        } else {
            let source = fs::read_to_string(&path).map_err(unreadable(&path))?;
            found.insert(name, (path, source));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_of_time_are_said_in_the_largest_unit_that_fits() {
        for (seconds, said) in [
            (0, (1, "minute")),
            (59, (1, "minute")),
            (1800, (30, "minute")),
            (3600, (1, "hour")),
            (5400, (90, "minute")),
            (86_400, (24, "hour")),
            (172_800, (2, "day")),
            (180_000, (50, "hour")),
        ] {
            assert_eq!(amount_and_unit(Duration::from_secs(seconds)), said, "{seconds}");
        }
    }

    #[test]
    fn text_is_wrapped_between_words_and_long_ones_stay_whole() {
        let link = format!("https://{}", "x".repeat(100));
        let text = format!("{} {link} end", "word ".repeat(20).trim_end());
        let lines = wrapped(&text);
        assert!(lines.lines().all(|line| line.chars().count() <= TEXT_WIDTH || line == link), "{lines}");
        assert_eq!(lines.replace('\n', " "), text);
    }
}
