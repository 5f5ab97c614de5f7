//! A running server's part of an import.

use std::io::{self, BufRead, BufReader, Read as _, Write};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::Duration;

use doorward_actors::ports::Clock;
use doorward_actors::store::{Engine, ImportBatch, Store, StoreError};
use doorward_actors::{AccountId, AuditEvent, AuditRecord, ImportOutcome, NumberStanding};
use tokio::runtime::Handle;

use super::wire::{self, Ask, MAX_LINE, Outcome, SERVER_BATCH, Told};
use super::{NUMBER_LIMIT, NUMBERS_AT_ONCE};
use crate::engine::dry_run::DryRun;

/// How long the command may take for the next request. It may hash 128 passphrases meanwhile.
const PATIENCE: Duration = Duration::from_mins(10);
/// The maximum number of accounts of a dry run, whose writes stay in the memory of the server: some 100 MB.
const MOST_IN_MEMORY: usize = 100_000;

/// One import.
struct Import {
    store: Store,
    clock: Arc<dyn Clock>,
    dry_run: bool,
    created: usize,
}

/// Answers the requests of an import until its command is done. It runs on the present thread.
pub(crate) fn serve(
    stream: &UnixStream,
    (engine, clock): (Arc<dyn Engine>, Arc<dyn Clock>),
    dry_run: bool,
    runtime: &Handle,
) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    let engine = if dry_run { Arc::new(DryRun::over(engine)) } else { engine };
    // The server keeps its audit log within its bounds. An import removes nothing from it.
    let mut import = Import { store: Store::new(engine, u64::MAX), clock, dry_run, created: 0 };
    let (mut reader, mut writer) = (BufReader::new(stream), stream);
    loop {
        let mut line = Vec::new();
        if (&mut reader).take(MAX_LINE).read_until(b'\n', &mut line)? == 0 {
            tracing::info!(accounts = import.created, dry_run, "an import through the control socket is done");
            return Ok(());
        }
        let told = match serde_json::from_slice(&line) {
            Ok(ask) => runtime.block_on(import.answer(ask)),
            Err(error) => Told::Failed { why: format!("this server does not know the request: {error}") },
        };
        let mut answer = serde_json::to_vec(&told)?;
        answer.push(b'\n');
        writer.write_all(&answer)?;
    }
}

impl Import {
    async fn answer(&mut self, ask: Ask) -> Told {
        self.do_it(ask).await.unwrap_or_else(|why| Told::Failed { why })
    }

    async fn do_it(&mut self, ask: Ask) -> Result<Told, String> {
        let failed = |failure: doorward_actors::store::StoreFailure| failure.to_string();
        Ok(match ask {
            Ask::Numbers { numbers } => {
                let ids: Option<Vec<_>> = numbers.into_iter().map(AccountId::new).collect();
                let ids = ids.filter(|ids| ids.len() <= NUMBERS_AT_ONCE).ok_or("these are no account numbers")?;
                let standings = self.store.number_standings(ids).await.map_err(failed)?;
                Told::Numbers { standings: standings.into_iter().map(Into::into).collect() }
            }
            Ask::HashForms => {
                let forms = self.store.hash_forms().await.map_err(failed)?;
                Told::HashForms { forms: forms.foreign.into_iter().map(|(form, _)| form.as_str().to_owned()).collect() }
            }
            Ask::HadAdmin => Told::HadAdmin { had_admin: self.store.had_admin().await.map_err(failed)? },
            Ask::Unknown { accounts } => {
                let mut unknown = Vec::with_capacity(accounts.len());
                for (id, email) in accounts {
                    unknown.push(self.is_unknown(id.and_then(AccountId::new), &email).await?);
                }
                Told::Unknown { unknown }
            }
            Ask::Write { accounts, last_number } => {
                if accounts.len() > SERVER_BATCH {
                    return Err("there are too many accounts in one request".to_owned());
                }
                if self.dry_run && self.created + accounts.len() > MOST_IN_MEMORY {
                    return Err(format!(
                        "a dry run through a running server takes at most {MOST_IN_MEMORY} accounts; stop the server for it"
                    ));
                }
                let now = self.clock.now();
                let accounts: Option<Vec<_>> = accounts.into_iter().map(|line| wire::account(line, now)).collect();
                let accounts = accounts.ok_or("one of the accounts is none")?;
                let audit = AuditRecord::new(AuditEvent::AccountsImported, now);
                let is_possible = last_number.is_none_or(|last| (1..=NUMBER_LIMIT).contains(&last));
                if !is_possible {
                    return Err("the highest account number is not possible".to_owned());
                }
                let last_number = last_number.and_then(AccountId::new);
                let written = self.store.import_accounts(ImportBatch { accounts, last_number, audit }).await;
                let outcomes = written.map_err(|error| match error {
                    StoreError::Refused(refusal) => refusal.to_string(),
                    StoreError::Failed(failure) => failure.to_string(),
                })?;
                self.created += outcomes.iter().filter(|told| matches!(told, ImportOutcome::Created { .. })).count();
                Told::Written { outcomes: outcomes.into_iter().map(Outcome::from).collect() }
            }
        })
    }

    /// Returns whether neither the number nor the address is taken. Only saves hashes; the commit decides.
    async fn is_unknown(&self, id: Option<AccountId>, email: &str) -> Result<bool, String> {
        let email = wire::email(email).ok_or("this is no address")?;
        if let Some(id) = id {
            let standings = self.store.number_standings(vec![id]).await.map_err(|failure| failure.to_string())?;
            if standings.first() != Some(&NumberStanding::Free) {
                return Ok(false);
            }
        }
        let holder = self.store.account_by_email(email.key()).await.map_err(|failure| failure.to_string())?;
        Ok(holder.is_none())
    }
}
