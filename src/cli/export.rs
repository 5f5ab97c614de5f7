//! `doorward export`.

use std::process::ExitCode;

use super::{ExportArgs, say, start_for};
use crate::export::{self, ExportRequest};
use crate::settings::Loaded;

/// Exports accounts.
pub(super) fn run(loaded: Loaded, arguments: ExportArgs) -> ExitCode {
    let ExportArgs { with_hashes, to } = arguments;
    let request = ExportRequest { with_hashes, to };
    match start_for(loaded, |settings| export::run(settings, request)) {
        Ok(accounts) => {
            say(&format!("{accounts} accounts exported"));
            ExitCode::SUCCESS
        }
        Err(code) => code,
    }
}
