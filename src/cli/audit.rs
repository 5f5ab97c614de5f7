//! `doorward audit verify`.

use std::io::{self, Write as _};
use std::process::ExitCode;

use doorward_actors::AuditHead;

use super::{EXIT_USAGE, VerifyAudit, complain};
use crate::ambient::SystemEntropy;
use crate::settings::Settings;
use crate::store::{AuditFinding, AuditReport, SledStore, StoreOptions};
use crate::telemetry;

/// What the engine keeps in memory for the walk, which looks at each record once.
const CACHE_BYTES: u64 = 8 * 1024 * 1024;

/// Checks the audit log of the data directory, and says where it ends. 0: it is whole. 1: it is broken. 2: that could not be
/// found out.
pub(super) fn verify(settings: &Settings, arguments: &VerifyAudit) -> ExitCode {
    let unknown = |error: &dyn std::error::Error| {
        complain(error);
        ExitCode::from(EXIT_USAGE)
    };
    if let Err(error) = telemetry::init(&settings.log, &SystemEntropy) {
        return unknown(&error);
    }
    let options = StoreOptions { cache_bytes: CACHE_BYTES, ..StoreOptions::default() };
    match SledStore::verify_audit(&settings.storage.data_dir, options, arguments.head) {
        // Whoever reads may have gone away, as `| head` does; the exit code says it too.
        Ok(report) => print(&report).unwrap_or(code(&report)),
        Err(error) => unknown(&error),
    }
}

fn code(report: &AuditReport) -> ExitCode {
    match report.finding {
        AuditFinding::Whole(_) => ExitCode::SUCCESS,
        AuditFinding::Broken(_) => ExitCode::FAILURE,
        AuditFinding::TooOld(_) => ExitCode::from(EXIT_USAGE),
    }
}

fn print(report: &AuditReport) -> io::Result<ExitCode> {
    let mut out = io::stdout().lock();
    let AuditReport { checkpoint, records, finding } = report;
    match checkpoint.at {
        None => writeln!(out, "The log begins with record {}; none was ever removed.", checkpoint.first)?,
        Some(at) => {
            let (first, at, before) = (checkpoint.first, at.to_rfc3339(), checkpoint.before);
            writeln!(out, "The log begins with record {first}; older ones were removed, last at {at}.")?;
            writeln!(out, "The hash before record {first} is {before}.")?;
        }
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
    out.flush()?;
    Ok(code(report))
}

/// Reads `SEQUENCE:HASH`, as the log of the server has it.
pub(super) fn head(text: &str) -> Result<AuditHead, &'static str> {
    AuditHead::parse(text).ok_or("this is the number of a record, a colon, and 64 hexadecimal digits")
}
