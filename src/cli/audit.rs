//! `doorward audit verify`.

use std::fmt::{self, Write as _};
use std::process::ExitCode;

use doorward_actors::{AuditHead, AuditStart};

use super::{EXIT_USAGE, NotedStart, VerifyAudit, complain};
use crate::ambient::SystemEntropy;
use crate::data_dir::owner;
use crate::engine::sled::{SledEngine, SledOptions};
use crate::settings::Settings;
use crate::telemetry;
use doorward_actors::store::chain::verify::{AuditFinding, AuditReport};

/// The engine's cache for the check, which reads each record once.
const CACHE_BYTES: u64 = 8 * 1024 * 1024;

/// Checks the audit log of the data directory and prints its head. Exit code 0: the log is intact. 1: it is broken. 2: the check could
/// not be completed.
pub(super) fn verify(settings: &Settings, arguments: &VerifyAudit) -> ExitCode {
    let unknown = |error: &dyn std::error::Error| {
        complain(error);
        ExitCode::from(EXIT_USAGE)
    };
    if let Err(error) = telemetry::init(&settings.log, &SystemEntropy) {
        return unknown(&error);
    }
    if let Err(error) = owner::check(&settings.storage.data_dir) {
        return unknown(&error);
    }
    let options = SledOptions { cache_bytes: CACHE_BYTES, ..SledOptions::default() };
    match SledEngine::verify_audit(&settings.storage.data_dir, options, arguments.head) {
        Ok(report) => {
            // Writing to a string cannot fail.
            super::print(&text(&report, arguments).unwrap_or_default());
            code(&report, arguments)
        }
        Err(error) => unknown(&error),
    }
}

/// Returns whether the log begins with the record that was noted.
fn begins_as_noted(report: &AuditReport, arguments: &VerifyAudit) -> bool {
    arguments.first.is_none_or(|noted| report.begins_with(noted.first, noted.before))
}

fn code(report: &AuditReport, arguments: &VerifyAudit) -> ExitCode {
    match report.finding {
        _ if !begins_as_noted(report, arguments) => ExitCode::FAILURE,
        AuditFinding::Whole(_) => ExitCode::SUCCESS,
        AuditFinding::Broken(_) => ExitCode::FAILURE,
        AuditFinding::TooOld(_) => ExitCode::from(EXIT_USAGE),
    }
}

fn text(report: &AuditReport, arguments: &VerifyAudit) -> Result<String, fmt::Error> {
    let mut out = String::new();
    let AuditReport { checkpoint, records, put_aside, start_is_on_record, finding } = report;
    match checkpoint.at {
        None => writeln!(out, "The log begins with record {}; none was ever removed.", checkpoint.first)?,
        Some(at) => {
            let (first, at, before) = (checkpoint.first, at.to_rfc3339(), checkpoint.before);
            writeln!(out, "The log begins with record {first}; older ones were removed, last at {at}.")?;
            writeln!(out, "The hash before record {first} is {before}.")?;
        }
    }
    if !start_is_on_record {
        writeln!(out, "They were removed by an older version, which put on record that it did, but not up to where:")?;
        writeln!(out, "that the log should begin there is taken on trust until the next removal.")?;
    }
    if let Some(noted) = arguments.first.filter(|_| !begins_as_noted(report, arguments)) {
        writeln!(
            out,
            "That is not the beginning that was noted, record {}: the oldest records were removed or",
            noted.first
        )?;
        writeln!(out, "replaced since. Compare with the newest one that was noted.")?;
    }
    if let (count @ 1.., named) = put_aside {
        let named: Vec<String> = named.iter().map(u64::to_string).collect();
        writeln!(out, "{count} records could not be read when the log was chained, and are kept as they were:")?;
        writeln!(out, "record {}{}.", named.join(", "), if *count > 20 { " and more" } else { "" })?;
    }
    match finding {
        AuditFinding::Whole(head) => {
            writeln!(out, "{records} records fit together.")?;
            writeln!(out, "Head: {head}")?;
        }
        AuditFinding::Broken(broken) => {
            writeln!(out, "{records} records fit together, and then: {broken}.")?;
        }
        AuditFinding::TooOld(head) => {
            writeln!(
                out,
                "{records} records fit together. The record to compare with was removed as too old or too much,"
            )?;
            writeln!(out, "so whether the log still leads on from it cannot be told.")?;
            writeln!(out, "Head: {head}")?;
        }
    }
    Ok(out)
}

/// Parses `SEQUENCE:HASH`, the format in the server's log.
pub(super) fn head(text: &str) -> Result<AuditHead, &'static str> {
    AuditHead::parse(text).ok_or("this is the number of a record, a colon, and 64 hexadecimal digits")
}

/// Parses `FIRST` or `FIRST:HASH`.
pub(super) fn first(text: &str) -> Result<NotedStart, &'static str> {
    let wrong = "this is the number of a record, and may have a colon and 64 hexadecimal digits behind it";
    if let Some(start) = AuditStart::parse(text) {
        return Ok(NotedStart { first: start.first, before: Some(start.before) });
    }
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let first = text.parse().ok().filter(|first| digits && *first != 0).ok_or(wrong)?;
    Ok(NotedStart { first, before: None })
}
