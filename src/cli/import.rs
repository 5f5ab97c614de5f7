//! `doorward import`.

use std::process::ExitCode;

use super::{ImportArgs, start_for};
use crate::import::{self, ImportRequest};
use crate::settings::Loaded;

/// The exit code of an import that left something out, which the report names.
const EXIT_INCOMPLETE: u8 = 3;

/// Imports accounts.
pub(super) fn run(loaded: Loaded, arguments: ImportArgs) -> ExitCode {
    let ImportArgs { from_auth_service, verified, dry_run, report } = arguments;
    let request = ImportRequest { file: from_auth_service, verified, dry_run, report };
    match start_for(loaded, |settings| import::run(settings, request)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(EXIT_INCOMPLETE),
        Err(code) => code,
    }
}
