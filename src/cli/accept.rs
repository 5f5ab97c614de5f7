//! `doorward accept-older-data`.

use std::io::{self, Write as _};
use std::process::ExitCode;

use super::complain;
use crate::engine::sled::SledEngine;
use crate::settings::Settings;

/// Makes the next start accept the database as it is. Fails while a server has it open.
pub(super) fn older_data(settings: &Settings) -> ExitCode {
    let data_dir = &settings.storage.data_dir;
    let text = match SledEngine::accept_older_data(data_dir) {
        Ok(true) => "The next start takes the database as it is, and makes an empty one if there is none.",
        Ok(false) => "Nothing was noted about the database, so no start is refused for it. Nothing was changed.",
        Err(error) => {
            complain(&error);
            return ExitCode::FAILURE;
        }
    };
    // The reader may have gone away; the command has succeeded all the same.
    let _ = writeln!(io::stdout().lock(), "{}: {text}", data_dir.display());
    ExitCode::SUCCESS
}
