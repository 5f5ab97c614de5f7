//! Where accounts are imported to: the data directory itself, or the server that has it open.

use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::net::UnixStream;

use doorward_actors::store::StoreFailure;
use doorward_actors::{
    AccountId, AccountToImport, HashForm, IMPORT_BATCH, ImportError, ImportOutcome, Importer, NumberStanding,
};

use super::ndjson::AccountLine;
use super::wire::{self, Ask, MAX_LINE, SERVER_BATCH, Told};

/// Why a target did not do something. Nothing was written by it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TargetError {
    /// The data directory cannot be read.
    #[error("the data directory cannot be read: {0}")]
    Store(#[from] StoreFailure),
    /// A batch was not written.
    #[error(transparent)]
    Import(#[from] ImportError),
    /// The server cannot be reached any more.
    #[error("the server cannot be asked any more: {0}")]
    Gone(#[from] io::Error),
    /// The server did not do it.
    #[error("the server did not do it: {0}")]
    Refused(String),
    /// The server said something else.
    #[error("the server, maybe of another version, gave an answer that does not fit")]
    Unfitting,
}

/// Where accounts go.
pub(super) enum Target {
    /// A data directory that this process has open.
    Here(Importer),
    /// A running server. The importer hashes passphrases and has a store of its own, which stays empty.
    There(Importer, Box<Connection>),
}

/// The conversation with a server.
pub(super) struct Connection(pub(super) BufReader<UnixStream>);

impl Connection {
    fn ask(&mut self, ask: &Ask) -> Result<Told, TargetError> {
        let mut line = serde_json::to_vec(ask).map_err(io::Error::from)?;
        line.push(b'\n');
        self.0.get_mut().write_all(&line)?;
        line.clear();
        (&mut self.0).take(MAX_LINE).read_until(b'\n', &mut line)?;
        if line.is_empty() {
            return Err(TargetError::Gone(io::ErrorKind::UnexpectedEof.into()));
        }
        match serde_json::from_slice(&line).map_err(|_| TargetError::Unfitting)? {
            Told::Failed { why } => Err(TargetError::Refused(why)),
            told => Ok(told),
        }
    }
}

impl Target {
    /// Returns how many accounts are written in one commit.
    pub(super) fn batch(&self) -> usize {
        match self {
            Self::Here(_) => IMPORT_BATCH,
            Self::There(..) => SERVER_BATCH,
        }
    }

    /// Returns what is known there of each of these numbers, in their order.
    pub(super) async fn number_standings(&mut self, ids: Vec<AccountId>) -> Result<Vec<NumberStanding>, TargetError> {
        match self {
            Self::Here(importer) => Ok(importer.number_standings(ids).await?),
            Self::There(_, server) => {
                let wanted = ids.len();
                match server.ask(&Ask::Numbers { numbers: ids.into_iter().map(AccountId::get).collect() })? {
                    Told::Numbers { standings } if standings.len() == wanted => {
                        Ok(standings.into_iter().map(Into::into).collect())
                    }
                    _ => Err(TargetError::Unfitting),
                }
            }
        }
    }

    /// Returns the foreign forms of password hashes that are there.
    pub(super) async fn hash_forms(&mut self) -> Result<Vec<HashForm>, TargetError> {
        match self {
            Self::Here(importer) => {
                Ok(importer.hash_forms().await?.foreign.into_iter().map(|(form, _)| form).collect())
            }
            Self::There(_, server) => match server.ask(&Ask::HashForms)? {
                Told::HashForms { forms } => Ok(forms.into_iter().filter_map(HashForm::from_stored).collect()),
                _ => Err(TargetError::Unfitting),
            },
        }
    }

    /// Returns whether there ever was an administrator or an import.
    pub(super) async fn had_admin(&mut self) -> Result<bool, TargetError> {
        match self {
            Self::Here(importer) => Ok(importer.had_admin().await?),
            Self::There(_, server) => match server.ask(&Ask::HadAdmin)? {
                Told::HadAdmin { had_admin } => Ok(had_admin),
                _ => Err(TargetError::Unfitting),
            },
        }
    }

    /// Writes the head of the audit log to the log of this command. A server does that by itself.
    pub(super) async fn log_audit_head(&self) {
        if let Self::Here(importer) = self {
            importer.log_audit_head().await;
        }
    }

    /// Imports some accounts in one commit, at most [`Self::batch`]. Returns what became of each, in their order.
    pub(super) async fn import(
        &mut self,
        mut accounts: Vec<AccountToImport>,
        last_number: Option<AccountId>,
    ) -> Result<Vec<ImportOutcome>, TargetError> {
        let (importer, server) = match self {
            Self::Here(importer) => return Ok(importer.import(accounts, last_number).await?),
            Self::There(importer, server) => (importer, server),
        };
        if accounts.iter().any(|account| account.passphrase.is_some()) {
            let named = accounts.iter().map(|account| wire::named(&account.account)).collect();
            let Told::Unknown { unknown } = server.ask(&Ask::Unknown { accounts: named })? else {
                return Err(TargetError::Unfitting);
            };
            // The passphrases of the others are not written, so they need no hash.
            for (account, _) in accounts.iter_mut().zip(unknown).filter(|(_, unknown)| !unknown) {
                account.passphrase = None;
            }
        }
        let hashed = importer.hash_passphrases(accounts).await?;
        let wanted = hashed.len();
        let accounts = hashed.iter().map(AccountLine::of_import).collect();
        let last_number = last_number.map(AccountId::get);
        let Told::Written { outcomes } = server.ask(&Ask::Write { accounts, last_number })? else {
            return Err(TargetError::Unfitting);
        };
        let outcomes: Option<Vec<_>> = outcomes.into_iter().map(wire::Outcome::read).collect();
        outcomes.filter(|outcomes| outcomes.len() == wanted).ok_or(TargetError::Unfitting)
    }
}
