//! Compares the store, on disk and in memory, with an independent model. Also tests what only the store on disk
//! guarantees (R01, R02).
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test helper fails its test by panicking")]

#[path = "store_model/audit.rs"]
mod audit_log;
#[path = "store_model/ends.rs"]
mod ends;
#[path = "store_model/export.rs"]
mod export;
#[path = "store_model/failures.rs"]
mod failures;
#[path = "store_model/imports.rs"]
mod imports;
#[path = "store_model/model.rs"]
mod model;
#[path = "store_model/outbox.rs"]
mod outbox;
#[path = "store_model/plain/mod.rs"]
mod plain;
#[path = "store_model/questions.rs"]
mod questions;
#[path = "store_model/races.rs"]
mod races;
#[path = "store_model/refresh.rs"]
mod refresh;
#[path = "store_model/rules.rs"]
mod rules;
#[path = "store_model/services.rs"]
mod services;
#[path = "store_model/subject.rs"]
mod subject;
#[path = "store_model/tokens.rs"]
mod tokens;
#[path = "store_model/versions.rs"]
mod versions;

use std::sync::Arc;
use std::time::Duration;

use doorward::engine::sled::{SledEngine, SledOptions};
use doorward_actors::store::{Effects, SignIn, Store, StoreFailure};
use doorward_actors::testing::MemoryEngine;
use doorward_actors::{
    AccountId, AuditEvent, AuditRecord, Email, Locale, MailId, MailKind, MailOutcome, NewAccount, NewMail, NewRole,
    NewToken, Nickname, Origin, ProfileChange, Session, SessionId, Timestamp, TokenHash, TokenPurpose, TokenSeed,
};

use crate::subject::Subject;

fn open(dir: &std::path::Path) -> Store {
    SledEngine::open(dir, SledOptions::default()).unwrap().into_store(u64::MAX)
}

fn memory() -> Store {
    Store::new(Arc::new(MemoryEngine::default()), u64::MAX)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

fn id(number: u64) -> AccountId {
    AccountId::new(number).unwrap()
}

fn at(millis: i64) -> Timestamp {
    Timestamp::from_millis(millis)
}

fn new_account(name: &str, role: NewRole) -> NewAccount {
    let email = Email::parse(&format!("{name}@example.com")).unwrap();
    NewAccount { role, ..NewAccount::sample(email, Nickname::parse(name).unwrap()) }
}

fn french() -> ProfileChange {
    ProfileChange { locale: Some(Locale::Fr), ..ProfileChange::default() }
}

fn session(account: u64, name: u8, epoch: u64, last_active_at: i64) -> Session {
    Session {
        id: SessionId::from_bytes([name; 16]),
        account: id(account),
        epoch,
        created_at: at(1),
        authenticated_at: Some(at(1)),
        expires_at: at(1_000_000),
        last_active_at: at(last_active_at),
        address: Some([192, 0, 2, name].into()),
        user_agent: Some("agent".to_owned()),
        notified_at: None,
        label: None,
        remembered: false,
    }
}

fn email(name: &str) -> Email {
    Email::parse(&format!("{name}@example.com")).unwrap()
}

fn mail_id(number: u64) -> MailId {
    MailId::new(number).unwrap()
}

/// A mail that is due at this time.
fn mail(kind: MailKind, written_at: i64) -> NewMail {
    NewMail {
        to: email("ann"),
        kind,
        locale: Locale::De,
        nickname: "Ann".to_owned(),
        seed: kind.has_link().then(|| TokenSeed::from_bytes([9; 32])),
        token: None,
        valid_for: kind.has_link().then(|| Duration::from_mins(30)),
        new_address: None,
        client_address: Some([192, 0, 2, 1].into()),
        network: None,
        user_agent: Some("agent".to_owned()),
        written_at: at(written_at),
        message_key: [7; 16],
    }
}

/// A token for `ann@example.com` that expires 1,000 ms after the Unix epoch.
fn token(hash: u8, purpose: TokenPurpose) -> NewToken {
    NewToken {
        hash: TokenHash::from_bytes([hash; 32]),
        purpose,
        address: email("ann").key().clone(),
        issued_at: at(1),
        expires_at: at(1000),
    }
}

fn mails(mails: Vec<NewMail>) -> Effects {
    Effects { mails, ..Effects::default() }
}

fn issue(tokens: Vec<NewToken>) -> Effects {
    Effects { tokens, ..Effects::default() }
}

fn sign_in(from: impl Into<std::net::IpAddr>) -> SignIn {
    SignIn { from: from.into(), notice: mail(MailKind::NewSignIn, 1) }
}

/// An audit record that is identified by `mark`.
fn audit(mark: i64) -> AuditRecord {
    AuditRecord {
        origin: Origin::new(None, None, Some(format!("request-{mark}"))),
        ..AuditRecord::new(AuditEvent::AccountUpdated, at(mark))
    }
}

/// Notes what came of an attempt to send a mail, in the name of whoever claimed it.
async fn settle(store: &Store, id: MailId, outcome: MailOutcome) -> Result<(), StoreFailure> {
    Subject::settle_mail(store, id, outcome).await
}
