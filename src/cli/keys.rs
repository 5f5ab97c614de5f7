//! `doorward keys list` and `doorward keys rotate`. Both also work while a server runs.

use std::process::ExitCode;

use doorward_actors::ports::{Clock as _, KeyVault as _, KeyVaultFailure, ReplaceKeysError};
use doorward_actors::{BadKey, KeyRing, KeyState, RingKey, RotateRefusal, SigningKey, Timestamp};

use super::{KeysCommand, complain};
use crate::ambient::SystemClock;
use crate::data_dir::key_files::KeyFiles;
use crate::data_dir::owner;
use crate::settings::Settings;

/// The maximum number of attempts. Each attempt but the first follows a change that a server made meanwhile.
const MAX_ATTEMPTS: usize = 5;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
enum KeysCommandError {
    #[error("there are no keys in {0}: the first start of a server makes them")]
    None(String),
    #[error(transparent)]
    Vault(#[from] KeyVaultFailure),
    #[error(transparent)]
    Refused(#[from] RotateRefusal),
    #[error(transparent)]
    Bad(#[from] BadKey),
    #[error(transparent)]
    OtherOwner(#[from] owner::OtherOwner),
    #[error("another process is changing the keys; try again")]
    Contended,
}

/// Runs the command.
pub(super) fn run(settings: &Settings, command: &KeysCommand) -> ExitCode {
    let now = SystemClock::new().now();
    let done = match command {
        KeysCommand::List => list(settings, now),
        KeysCommand::Rotate(arguments) => rotate(settings, arguments.compromised, now),
    };
    match done {
        Ok(text) => {
            super::print(&text);
            ExitCode::SUCCESS
        }
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

fn files(settings: &Settings) -> KeyFiles {
    KeyFiles::in_data_dir(&settings.storage.data_dir)
}

fn none(settings: &Settings) -> KeysCommandError {
    KeysCommandError::None(settings.storage.data_dir.display().to_string())
}

fn list(settings: &Settings, now: Timestamp) -> Result<String, KeysCommandError> {
    let ring = files(settings).load()?.ok_or_else(|| none(settings))?.ring;
    let lines = ring.keys.iter().rev().map(|key| {
        let since = match key.state(now) {
            KeyState::Next => format!("signs from {}", key.signs_from.to_rfc3339()),
            KeyState::Signing => format!("signs since {}", key.signs_from.to_rfc3339()),
            KeyState::Retired => String::from("signs no more"),
        };
        let until = key.accepted_until().map(|until| format!(", accepted until {}", until.to_rfc3339()));
        format!("{}  {:<5}  {since}{}\n", key.id, key.algorithm.as_str(), until.unwrap_or_default())
    });
    Ok(lines.collect())
}

fn rotate(settings: &Settings, compromised: bool, now: Timestamp) -> Result<String, KeysCommandError> {
    owner::check(&settings.storage.data_dir)?;
    let files = files(settings);
    for _ in 0..MAX_ATTEMPTS {
        let mut ring = files.load()?.ok_or_else(|| none(settings))?.ring;
        let planned = ring.put_right(now);
        if let Some(next) = ring.next(now).filter(|_| !compromised) {
            let said = on_its_way(next, planned);
            match planned.map_or(Ok(()), |_| files.replace(&ring, None)) {
                Ok(()) => return Ok(said),
                Err(ReplaceKeysError::Stale) => continue,
                Err(ReplaceKeysError::Failed(failure)) => return Err(failure.into()),
            }
        }
        let algorithm = if compromised { ring.may_replace(now)? } else { ring.may_rotate(now)? };
        let key = SigningKey::generate(algorithm)?;
        // Uses the longest lifetime that the server noted for the present key, because this command may have other settings.
        // The server notes its own lifetime when it picks up the new key.
        let lifetime = ring.signer(now).map_or(settings.tokens.access_token_lifetime, |key| key.longest_lifetime);
        if compromised {
            ring.replace(key.id().clone(), algorithm, lifetime, now, None);
        } else {
            ring.rotate(key.id().clone(), algorithm, lifetime, now, None);
        }
        match files.replace(&ring, Some(&key)) {
            Ok(()) => return Ok(format!("{}{}", put_right(planned), said(&ring))),
            Err(ReplaceKeysError::Stale) => {}
            Err(ReplaceKeysError::Failed(failure)) => return Err(failure.into()),
        }
    }
    Err(KeysCommandError::Contended)
}

/// Reports which key is about to take over, and whether it was brought forward.
fn on_its_way(next: &RingKey, planned: Option<Timestamp>) -> String {
    let (key, from, warning) = (&next.id, next.signs_from.to_rfc3339(), put_right(planned));
    let now = if planned.is_some() { " now" } else { "" };
    format!("{warning}The key {key} is on its way already, and signs from {from}{now}.\n")
}

/// Returns the warning that a change was planned by a clock that was ahead, and was brought forward.
fn put_right(planned: Option<Timestamp>) -> String {
    planned.map_or_else(String::new, |planned| {
        let planned = planned.to_rfc3339();
        format!("Warning: the clock was ahead when keys were changed, and a key was to sign from {planned}.\n")
    })
}

/// Reports what was done and what the server will do. This command sees only the files.
fn said(ring: &KeyRing) -> String {
    let Some(key) = ring.keys.last() else { return String::new() };
    let from = key.signs_from.to_rfc3339();
    if ring.keys.len() == 1 {
        format!(
            "The key {} is in the place of every other one. A running server takes it up within five seconds and says so in its log; \
             from then on it signs, and the tokens of the other keys are dead.\n",
            key.id
        )
    } else {
        format!(
            "The key {} signs from {from}. A running server publishes it within five seconds and says so in its log.\n",
            key.id
        )
    }
}
