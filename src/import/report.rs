//! The report of an import: one line of JSON for everything that was not taken over as it was.

use std::io::{self, BufWriter, Write};
use std::path::Path;

use doorward_actors::AccountId;
use serde::Serialize;

use crate::files::create_private;

/// What an import changed or left out, as the report writes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Reason {
    /// Its number is missing, not a whole number, or not between 1 and 9,007,199,254,740,991.
    NumberInvalid,
    /// An earlier account of the file has its number.
    NumberRepeated,
    /// It has no usable address.
    EmailInvalid,
    /// Another account has its address, or one that differs in case alone.
    EmailTaken,
    /// It was imported earlier and deleted since.
    DeletedSince,
    /// It was imported earlier and has another address now.
    EmailChangedSince,
    /// It has no password.
    PasswordMissing,
    /// The hash of its password is not in a known form.
    PasswordUnknown,
    /// The hash of its password would take too long to verify.
    PasswordTooCostly,
    /// Its passphrase is too long or not text.
    PassphraseInvalid,
    /// Its customer plan is none that can be kept.
    PlanInvalid,
    /// It has no name.
    NicknameMissing,
    /// Its name is too long or has invisible characters.
    NicknameInvalid,
    /// Another account has its name.
    NicknameTaken,
    /// Its role is neither user nor admin.
    RoleUnknown,
    /// It is not clear whether it is locked.
    LockUnclear,
    /// It is not clear when it was created.
    CreationUnclear,
    /// Its language is none of those of mails.
    LocaleUnknown,
}

/// How much a reason costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weight {
    /// The account was not imported.
    Skipped,
    /// The account was left as it is since an earlier import.
    LeftAlone,
    /// A part of the account was left out.
    LeftOut,
    /// A part of the account was changed by a rule.
    Changed,
}

impl Reason {
    /// Returns how much the reason costs.
    pub(crate) fn weight(self) -> Weight {
        match self {
            // The number of a row with another address may be that of another account, so the row may be missing here.
            Self::NumberInvalid
            | Self::NumberRepeated
            | Self::EmailInvalid
            | Self::EmailTaken
            | Self::EmailChangedSince => Weight::Skipped,
            Self::DeletedSince => Weight::LeftAlone,
            Self::PasswordMissing
            | Self::PasswordUnknown
            | Self::PasswordTooCostly
            | Self::PassphraseInvalid
            | Self::PlanInvalid => Weight::LeftOut,
            Self::NicknameMissing
            | Self::NicknameInvalid
            | Self::NicknameTaken
            | Self::RoleUnknown
            | Self::LockUnclear
            | Self::CreationUnclear
            | Self::LocaleUnknown => Weight::Changed,
        }
    }
}

/// A reason and what exactly it was about.
#[derive(Debug, Clone)]
pub(crate) struct Note {
    pub(crate) reason: Reason,
    /// A sentence for the operator. Never a password, passphrase or hash.
    pub(crate) detail: String,
}

impl Note {
    pub(crate) fn new(reason: Reason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into() }
    }
}

/// Which account of the file a line is about.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Subject {
    /// The line of the file, for files of lines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) line: Option<u64>,
    /// Its number, if it has one.
    pub(crate) id: Option<u64>,
    /// Its address as the file has it, cut to 254 characters; `None` if it has none.
    pub(crate) email: Option<String>,
}

impl Subject {
    /// Describes an account of the file.
    pub(crate) fn new(id: Option<AccountId>, email: Option<&str>) -> Self {
        let email = email.map(|email| email.chars().take(254).collect());
        Self { line: None, id: id.map(AccountId::get), email }
    }
}

#[derive(Serialize)]
struct Line<'a> {
    #[serde(flatten)]
    subject: &'a Subject,
    result: &'static str,
    reason: Reason,
    detail: &'a str,
}

/// The report of an import that is under way, and its counts.
pub(crate) struct Report {
    out: Box<dyn Write + Send>,
    /// The accounts that were created.
    pub(crate) created: u64,
    /// The accounts that were imported earlier.
    pub(crate) left_alone: u64,
    /// The accounts that were not imported.
    pub(crate) skipped: u64,
    /// The parts of accounts that were left out.
    pub(crate) left_out: u64,
    /// The parts of accounts that were changed by a rule.
    pub(crate) changed: u64,
}

impl Report {
    /// Begins a report in a new file that only its owner can read, or on standard output.
    ///
    /// # Errors
    /// The file exists already or cannot be created.
    pub(crate) fn begin(file: Option<&Path>) -> io::Result<Self> {
        let out: Box<dyn Write + Send> = match file {
            Some(path) => Box::new(BufWriter::new(create_private(path)?)),
            None => Box::new(io::stdout()),
        };
        Ok(Self { out, created: 0, left_alone: 0, skipped: 0, left_out: 0, changed: 0 })
    }

    /// Writes a line and counts it.
    pub(crate) fn tell(&mut self, subject: &Subject, note: &Note) -> io::Result<()> {
        let result = match note.reason.weight() {
            Weight::Skipped => {
                self.skipped += 1;
                "skipped"
            }
            Weight::LeftAlone => "left_alone",
            Weight::LeftOut => {
                self.left_out += 1;
                "imported"
            }
            Weight::Changed => {
                self.changed += 1;
                "imported"
            }
        };
        let line = Line { subject, result, reason: note.reason, detail: &note.detail };
        serde_json::to_writer(&mut self.out, &line)?;
        self.out.write_all(b"\n")
    }

    /// Writes what is buffered.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }

    /// Returns whether something of the file is missing here.
    pub(crate) fn is_incomplete(&self) -> bool {
        self.skipped > 0 || self.left_out > 0
    }
}
