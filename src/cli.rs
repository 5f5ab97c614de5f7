//! The command line.

mod accept;
mod audit;
mod calibrate;
mod check_config;
mod health;
mod keys;
mod mail;

use std::io::{self, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use doorward_actors::{AuditHash, AuditHead, HashBackendChoice};

use crate::ambient::SystemEntropy;
use crate::settings::{Loaded, Settings, SettingsError, Sources};
use crate::{memory, run, telemetry};

/// The exit code of a wrong command line or of wrong settings.
const EXIT_USAGE: u8 = 2;
/// The variable that names a settings file when `--config` does not; for containers, whose health check is a command of
/// its own and must read the same settings.
const CONFIG_VARIABLE: &str = "DOORWARD_CONFIG";

/// A self-hosted authentication and user-management service.
#[derive(Debug, Parser)]
#[command(name = "doorward", version, about)]
pub struct Cli {
    /// A TOML file with settings; `DOORWARD_CONFIG` names it otherwise.
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// What to do; without one, serve.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What the program can be asked to do.
#[derive(Debug, Clone, PartialEq, Eq, Default, Subcommand)]
pub enum Command {
    /// Serve until a signal ends it.
    #[default]
    Serve,
    /// Print every setting, its value and where it came from; secrets as ***.
    CheckConfig,
    /// Ask a running server whether it is ready; for the health check of a container.
    Health(HealthArgs),
    /// Measure what a password hash may cost on this machine, and print the settings for it. Takes some ten seconds.
    Calibrate(CalibrateArgs),
    /// Look after accounts without a running server.
    #[command(subcommand)]
    Admin(AdminCommand),
    /// See whether mails arrive.
    #[command(subcommand)]
    Mail(MailCommand),
    /// Check the audit log without a running server.
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Look after the keys that sign access tokens, with or without a running server.
    #[command(subcommand)]
    Keys(KeysCommand),
    /// Take the database in the data directory as it is, though it is missing or older than it was. For an operator who restored
    /// an older copy or removed the database on purpose, when a start was refused for it.
    AcceptOlderData,
}

/// What can be done with the signing keys.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum KeysCommand {
    /// List the keys of the data directory and how they stand.
    List,
    /// Make a new key, which signs a quarter of an hour later. A running server takes it up within seconds.
    Rotate(RotateKeys),
}

/// How to rotate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Args)]
pub struct RotateKeys {
    /// The present key is in wrong hands: let the new one sign at once, and remove every other one with all tokens that it
    /// signed.
    #[arg(long)]
    pub compromised: bool,
}

/// What can be done with the audit log without a running server.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum AuditCommand {
    /// Check that no record was changed, moved or removed, and print the head. Exit code 0: the log is whole; 1: it is
    /// broken; 2: that could not be found out.
    Verify(VerifyAudit),
}

/// What to compare the audit log with.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct VerifyAudit {
    /// A head that the server logged, or that was printed here before: without one, it does not show when the newest records
    /// or the whole log were replaced.
    #[arg(long, value_name = "SEQUENCE:HASH", value_parser = audit::head)]
    pub head: Option<AuditHead>,
    /// With which record the log began when that was noted (`first` in the line `audit head`), and the hash before it if that
    /// was noted: without it, it does not show when the oldest records were removed with everything that says so.
    #[arg(long, value_name = "FIRST[:HASH]", value_parser = audit::first)]
    pub first: Option<NotedStart>,
}

/// With which record the audit log began, and the hash before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NotedStart {
    /// The number of the record.
    pub first: u64,
    /// The hash of the one before it.
    pub before: Option<AuditHash>,
}

/// What can be asked about mails.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum MailCommand {
    /// Send a test mail as the settings say, and say what became of it.
    Test(TestMail),
}

/// A test mail.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct TestMail {
    /// To whom.
    #[arg(value_name = "ADDRESS")]
    pub address: String,
    /// In which language; by default, `MAIL_LOCALE`.
    #[arg(long, value_name = "LANGUAGE")]
    pub locale: Option<String>,
}

/// What a password hash is to take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Args)]
pub struct CalibrateArgs {
    /// How long one hash may take while every thread computes one, in milliseconds.
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

/// Whom to ask.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct HealthArgs {
    /// Where to ask; by default, /health/ready of the configured HOST and PORT.
    #[arg(long)]
    pub url: Option<String>,
}

/// What can be done to accounts without a running server.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum AdminCommand {
    /// Create an administrator. At a terminal it asks for the password and the passphrase and does not show them; otherwise they
    /// are read from two lines of standard input. `DOORWARD_ADMIN_PASSWORD` and `DOORWARD_ADMIN_PASSPHRASE` come before both;
    /// arguments are for every user of the machine to see.
    Create(NewAdmin),
}

/// The public part of a new administrator.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub struct NewAdmin {
    /// The e-mail address to log in with.
    #[arg(long)]
    pub email: String,
    /// The name that others see.
    #[arg(long)]
    pub nickname: String,
}

/// Reads the command line of this process. Ends the process on a mistake, with exit code 2, and on `--help`.
#[must_use]
pub fn parse() -> Cli {
    let mut cli = Cli::parse();
    if cli.config.is_none() {
        cli.config = std::env::var_os(CONFIG_VARIABLE).filter(|path| !path.is_empty()).map(PathBuf::from);
    }
    cli
}

impl Cli {
    /// Does what was asked.
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
            Command::Calibrate(args) => calibrate::run(args),
            Command::Serve => match load() {
                Ok(loaded) => start(loaded, run::serve),
                Err(error) => refuse(&error),
            },
            Command::Admin(AdminCommand::Create(admin)) => match load() {
                Ok(loaded) => start(loaded, |settings| run::create_admin(settings, admin)),
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
fn start<W, F>(loaded: Loaded, work: W) -> ExitCode
where
    W: FnOnce(Settings) -> F,
    F: Future<Output = Result<(), run::RunError>>,
{
    let Loaded { settings, warnings, .. } = loaded;
    if let Err(error) = telemetry::init(&settings.log, &SystemEntropy) {
        complain(&error);
        return ExitCode::FAILURE;
    }
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&error);
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(work(settings));
    // What still blocks a thread, such as a look-up of the name of a mail server, is left behind: the work had its deadline.
    runtime.shutdown_background();
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn refuse(error: &SettingsError) -> ExitCode {
    complain(error);
    ExitCode::from(EXIT_USAGE)
}

/// Tells the operator, who may have no log yet.
fn complain(error: &dyn std::error::Error) {
    say(error);
}

fn say(what: &dyn std::fmt::Display) {
    telemetry::say(&format!("doorward: {what}"));
}

/// Prints what a command found out. The exit code does not depend on whether it can be written: it says what was found. A
/// reader that has gone away, as `| head` does, has what it wanted; of any other failure the operator is told.
fn print(text: &str) {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            telemetry::say(&format!("doorward: standard output cannot be written: {error}"));
        }
        _ => {}
    }
}

/// Waits for the last lines when the program ends, by a panic too.
struct LastWords;

impl Drop for LastWords {
    fn drop(&mut self) {
        telemetry::flush();
    }
}
