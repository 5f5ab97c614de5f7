//! `doorward generate`: what a package needs beside the program.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, CommandFactory as _, ValueEnum as _};
use clap_complete::Shell;

use super::{Cli, complain};

/// The arguments of `generate`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct GenerateArgs {
    /// The directory to write to. It is created.
    pub directory: PathBuf,
}

/// Writes the man pages to `man/`, one for each command, and the completions to `completions/`, one for each shell.
pub(super) fn run(args: &GenerateArgs) -> ExitCode {
    match write(&args.directory) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn write(directory: &Path) -> io::Result<()> {
    let (pages, completions) = (directory.join("man"), directory.join("completions"));
    fs::create_dir_all(&pages)?;
    fs::create_dir_all(&completions)?;
    clap_mangen::generate_to(Cli::command(), &pages)?;
    for shell in Shell::value_variants() {
        clap_complete::generate_to(*shell, &mut Cli::command(), "doorward", &completions)?;
    }
    Ok(())
}
