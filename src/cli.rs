//! The command line.

mod accept;
mod audit;
mod backup;
mod calibrate;
mod check_config;
mod export;
mod generate;
mod health;
mod import;
mod keys;
mod mail;
mod top;

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

pub use backup::{BackupArgs, RestoreArgs, VerifyBackupArgs};
use clap::{Args, Parser, Subcommand};
use doorward_actors::{AuditHash, AuditHead, HashBackendChoice};
pub use generate::GenerateArgs;

use crate::ambient::SystemEntropy;
use crate::reload::InForce;
use crate::settings::{Loaded, Settings, SettingsError, Sources};
use crate::{memory, run, telemetry};

/// The exit code of a wrong command line or of wrong settings.
const EXIT_USAGE: u8 = 2;
/// The variable that names a settings file when `--config` does not. It is for containers: their health check is a command of its own
/// and must read the same settings.
const CONFIG_VARIABLE: &str = "DOORWARD_CONFIG";

/// A self-hosted authentication and user-management service.
#[derive(Debug, Parser)]
#[command(name = "doorward", version, about)]
pub struct Cli {
    /// A TOML file with settings. Default: the file that `DOORWARD_CONFIG` names.
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// The command to run. Default: serve.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// The commands of the program.
#[derive(Debug, Clone, PartialEq, Eq, Default, Subcommand)]
pub enum Command {
    /// Serve until a signal stops the server.
    #[default]
    Serve,
    /// Print every setting, its value and its source. Secrets are printed as ***.
    CheckConfig,
    /// Ask a running server whether it is ready. For the health check of a container.
    Health(HealthArgs),
    /// Show the actors of the running server as a tree, live in a terminal until Ctrl-C, else once as plain text. It uses the service
    /// token of the settings or of the data directory.
    Top(TopArgs),
    /// Measure the cost of a password hash on this machine and print matching settings. Takes about ten seconds.
    Calibrate(CalibrateArgs),
    /// Manage accounts without a running server.
    #[command(subcommand)]
    Admin(AdminCommand),
    /// Check that mails can be sent.
    #[command(subcommand)]
    Mail(MailCommand),
    /// Check the audit log without a running server.
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Manage the keys that sign access tokens, with or without a running server.
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Bring the accounts of another system along, with their passwords, beside a running server or without one. Exit code 0: all came
    /// along. 1: the import was refused or failed. 2: the command line or a setting is wrong. 3: all but what the report names came along.
    Import(ImportArgs),
    /// Write all accounts as lines of JSON, in the form that `import --ndjson` reads, without a running server.
    Export(ExportArgs),
    /// Make a backup, of a running server too: accounts, audit log, secrets and keys in one file.
    Backup(BackupArgs),
    /// Check a backup completely and print what it contains. Exit code 0: a restore accepts it. 1: it does not.
    VerifyBackup(VerifyBackupArgs),
    /// Restore a backup into a data directory without a database. Ends all sessions, because a backup does not know which of them ended
    /// after it was made.
    Restore(RestoreArgs),
    /// Accept the database in the data directory although it is missing or older than before. Use it after a start was refused for this
    /// reason, if you restored an older copy or removed the database on purpose.
    AcceptOlderData,
    /// Write the man pages and the completions for shells into a directory. For those who make packages.
    #[command(hide = true)]
    Generate(GenerateArgs),
}

/// The commands for the signing keys.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum KeysCommand {
    /// List the keys of the data directory and their states.
    List,
    /// Create a new key, which starts to sign a quarter of an hour later. A running server picks it up within seconds.
    Rotate(RotateKeys),
}

/// The arguments of `keys rotate`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Args)]
pub struct RotateKeys {
    /// The present key is known to an attacker. The new key signs at once. All other keys are removed, and the tokens that they signed
    /// are no longer valid.
    #[arg(long)]
    pub compromised: bool,
}

/// The commands for the audit log.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum AuditCommand {
    /// Check that no record was changed, moved or removed, and print the head. Exit code 0: the log is intact. 1: it is broken. 2: the
    /// check could not be completed.
    Verify(VerifyAudit),
}

/// The arguments of `audit verify`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct VerifyAudit {
    /// A head that was noted before, from the log of the server or from an earlier run of this command. Without it, the check does not
    /// notice if the newest records or the whole log were replaced.
    #[arg(long, value_name = "SEQUENCE:HASH", value_parser = audit::head)]
    pub head: Option<AuditHead>,
    /// The first record at the time of the note (`first` in the log line `audit head`), and the hash before it if that was noted. Without
    /// it, the check does not notice if the oldest records were removed together with every trace of their removal.
    #[arg(long, value_name = "FIRST[:HASH]", value_parser = audit::first)]
    pub first: Option<NotedStart>,
}

/// The record with which the audit log began, and the hash before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotedStart {
    /// The number of the record.
    pub first: u64,
    /// The hash of the record before it.
    pub before: Option<AuditHash>,
}

/// The commands for mails.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum MailCommand {
    /// Send a test mail with the configured transport and print the result.
    Test(TestMail),
}

/// The arguments of `mail test`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct TestMail {
    /// The recipient.
    #[arg(value_name = "ADDRESS")]
    pub address: String,
    /// The language of the mail. Default: `MAIL_LOCALE`.
    #[arg(long, value_name = "LANGUAGE")]
    pub locale: Option<String>,
}

/// The arguments of `calibrate`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Args)]
pub struct CalibrateArgs {
    /// The maximum time of one hash while every thread computes one, in milliseconds.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 250, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub target_ms: u32,
    /// How many threads hash; by default, one for each core.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u8).range(1..=64))]
    pub threads: Option<u8>,
    /// Which implementation computes the hashes, as `HASH_BACKEND` says it: auto or portable.
    #[arg(long, value_name = "NAME", default_value = "auto", value_parser = backend)]
    pub backend: HashBackendChoice,
}

fn backend(name: &str) -> Result<HashBackendChoice, &'static str> {
    HashBackendChoice::from_name(name).ok_or("neither auto nor portable")
}

/// The arguments of `health`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct HealthArgs {
    /// The URL to ask. Default: /health/ready of the configured HOST and PORT.
    #[arg(long)]
    pub url: Option<String>,
}

/// The arguments of `top`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Args)]
pub struct TopArgs {
    /// How long to wait between two looks, in seconds.
    #[arg(long, value_name = "SECONDS", default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=60))]
    pub interval: u8,
}

/// The commands for accounts.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum AdminCommand {
    /// Create an administrator. `DOORWARD_ADMIN_PASSWORD` and `DOORWARD_ADMIN_PASSPHRASE` give the password and the passphrase. Without
    /// them, the command asks for both at a terminal and does not show them, or reads them from two lines of standard input. They
    /// cannot be arguments, because every user of the machine can see those.
    Create(NewAdmin),
}

/// The arguments of `admin create`. The secrets are not among them.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct NewAdmin {
    /// The e-mail address for the login.
    #[arg(long)]
    pub email: String,
    /// The name that other users see.
    #[arg(long)]
    pub nickname: String,
}

/// The arguments of `export`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct ExportArgs {
    /// Export the hashes of passwords and passphrases too. Who has them can try passwords without limit, so keep the file safe.
    #[arg(long)]
    pub with_hashes: bool,
    /// A new file, which only its owner can read. Default: standard output.
    #[arg(long, value_name = "FILE")]
    pub to: Option<PathBuf>,
}

/// The arguments of `import`.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
#[command(group(clap::ArgGroup::new("source").required(true).args(["from_auth_service", "ndjson"])))]
pub struct ImportArgs {
    /// The database file of the auth service that Doorward replaces. Stop that service first.
    #[arg(long, value_name = "FILE")]
    pub from_auth_service: Option<PathBuf>,
    /// A file with one account on each line, as JSON.
    #[arg(long, value_name = "FILE")]
    pub ndjson: Option<PathBuf>,
    /// All addresses count as verified by their owners.
    #[arg(long)]
    pub verified: bool,
    /// Only report what would be imported.
    #[arg(long)]
    pub dry_run: bool,
    /// A new file for the report: one line of JSON for everything that was skipped, left out or changed. Default: standard output.
    #[arg(long, value_name = "FILE")]
    pub report: Option<PathBuf>,
}

/// Parses the command line of this process. Ends the process with exit code 2 on a mistake, and with 0 on `--help`.
#[must_use]
pub fn parse() -> Cli {
    let mut cli = Cli::parse();
    if cli.config.is_none() {
        cli.config = std::env::var_os(CONFIG_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
    }
    cli
}

impl Cli {
    /// Runs the command.
    #[must_use]
    pub fn execute(self) -> ExitCode {
        telemetry::report_panics();
        let _last_words = LastWords;
        if let Err(error) = memory::keep_private() {
            say(&format!("warning: the memory of this process may be dumped: {error}"));
        }
        self.run()
    }

    fn run(self) -> ExitCode {
        let command = self.command.unwrap_or_default();
        let config = self.config.clone();
        let load = || Settings::load(&Sources::of_process(self.config));
        match command {
            Command::CheckConfig => match load() {
                Ok(loaded) => check_config::print(&loaded),
                Err(error) => refuse(&error),
            },
            Command::Health(HealthArgs { url: Some(url) }) => health::ask(&url),
            Command::Health(HealthArgs { url: None }) => match load() {
                Ok(loaded) => health::ask(&health::url_of(&loaded.settings.http)),
                Err(error) => {
                    complain(&error);
                    ExitCode::FAILURE
                }
            },
            Command::Top(arguments) => match load() {
                Ok(loaded) => top::run(&loaded.settings, arguments),
                Err(error) => refuse(&error),
            },
            Command::Calibrate(args) => calibrate::run(args),
            Command::Generate(args) => generate::run(&args),
            Command::Serve => match load() {
                Ok(loaded) => {
                    let in_force = InForce { config, entries: loaded.entries.clone() };
                    start(loaded, |settings| run::serve(settings, in_force))
                }
                Err(error) => refuse(&error),
            },
            Command::Admin(AdminCommand::Create(admin)) => match load() {
                Ok(loaded) => {
                    start(loaded, async |settings| run::create_admin(settings, &admin.email, &admin.nickname).await)
                }
                Err(error) => refuse(&error),
            },
            Command::Mail(MailCommand::Test(test)) => match load() {
                Ok(loaded) => start(loaded, |settings| mail::send_test(settings, test)),
                Err(error) => refuse(&error),
            },
            Command::Keys(command) => match load() {
                Ok(loaded) => keys::run(&loaded.settings, &command),
                Err(error) => refuse(&error),
            },
            Command::Import(arguments) => match load() {
                Ok(loaded) => import::run(loaded, arguments),
                Err(error) => refuse(&error),
            },
            Command::Export(arguments) => match load() {
                Ok(loaded) => export::run(loaded, arguments),
                Err(error) => refuse(&error),
            },
            Command::Backup(args) => match load() {
                Ok(loaded) => start(loaded, |settings| backup::make(settings, args)),
                Err(error) => refuse(&error),
            },
            Command::VerifyBackup(args) => backup::verify(&args),
            Command::Restore(args) => match load() {
                Ok(loaded) => start(loaded, async |settings| backup::restore(&settings, &args)),
                Err(error) => refuse(&error),
            },
            Command::AcceptOlderData => match load() {
                Ok(loaded) => accept::older_data(&loaded.settings),
                Err(error) => refuse(&error),
            },
            Command::Audit(AuditCommand::Verify(arguments)) => match load() {
                Ok(loaded) => audit::verify(&loaded.settings, &arguments),
                Err(error) => refuse(&error),
            },
        }
    }
}

/// Starts the log and the async runtime, and runs `work` on it.
fn start<W, F, E>(loaded: Loaded, work: W) -> ExitCode
where
    W: FnOnce(Settings) -> F,
    F: Future<Output = Result<(), E>>,
    E: std::error::Error,
{
    start_for(loaded, work).map_or_else(|code| code, |()| ExitCode::SUCCESS)
}

/// As [`start`], and returns what `work` returned. `Err` is the exit code after a failure, which was reported.
fn start_for<W, F, T, E>(loaded: Loaded, work: W) -> Result<T, ExitCode>
where
    W: FnOnce(Settings) -> F,
    F: Future<Output = Result<T, E>>,
    E: std::error::Error,
{
    let Loaded { settings, warnings, .. } = loaded;
    if let Err(error) = telemetry::init(&settings.log, &SystemEntropy) {
        complain(&error);
        return Err(ExitCode::FAILURE);
    }
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&error);
            return Err(ExitCode::FAILURE);
        }
    };
    let outcome = runtime.block_on(work(settings));
    // Does not wait for threads that still block, as in a look-up of a mail server's name: the work had its own deadline.
    runtime.shutdown_background();
    outcome.map_err(|error| {
        complain(&error);
        ExitCode::FAILURE
    })
}

fn refuse(error: &SettingsError) -> ExitCode {
    complain(error);
    ExitCode::from(EXIT_USAGE)
}

/// Reports an error to the operator. The log may not be set up yet.
fn complain(error: &dyn std::error::Error) {
    say(error);
}

fn say(what: &dyn std::fmt::Display) {
    telemetry::say(&format!("doorward: {what}"));
}

/// Prints the result of a command. The exit code depends on the result and not on whether this succeeds.
/// A broken pipe is ignored, because the reader ended on purpose, like `| head`. Any other failure is reported.
fn print(text: &str) {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            telemetry::say(&format!("doorward: standard output cannot be written: {error}"));
        }
        _ => {}
    }
}

/// Writes the last lines of the log when the program ends, also after a panic.
struct LastWords;

impl Drop for LastWords {
    fn drop(&mut self) {
        telemetry::flush();
    }
}
