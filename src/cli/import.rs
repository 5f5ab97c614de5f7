//! `doorward import`.

use std::process::ExitCode;

use super::{EXIT_USAGE, ImportArgs, start_for};
use crate::import::{self, ImportRequest, Source};
use crate::settings::Loaded;

/// The exit code of an import that left something out, which the report names.
const EXIT_INCOMPLETE: u8 = 3;

/// Imports accounts.
pub(super) fn run(loaded: Loaded, arguments: ImportArgs) -> ExitCode {
    let ImportArgs { from_auth_service, ndjson, verified, dry_run, report } = arguments;
    let source = match (from_auth_service, ndjson) {
        (Some(file), _) => Source::AuthService(file),
        (None, Some(file)) => Source::Ndjson(file),
        // The command line has exactly one of them.
        (None, None) => return ExitCode::from(EXIT_USAGE),
    };
    let request = ImportRequest { source, verified, dry_run, report };
    match start_for(loaded, |settings| import::run(settings, request)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(EXIT_INCOMPLETE),
        Err(code) => code,
    }
}
