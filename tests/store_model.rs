//! The store on disk against its model in memory, and what only the one on disk must hold (R01, R02).
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test helper fails its test by panicking")]

#[path = "store_model/model.rs"]
mod model;
#[path = "store_model/rules.rs"]
mod rules;

use doorward::store::{SledStore, StoreOptions};
use doorward_actors::{
    AccountId, AuditActorKind, AuditEvent, AuditRecord, CredentialHash, CustomerAccount, Email, NewAccount, NewRole,
    Nickname, Origin, Session, SessionId, Timestamp,
};

fn open(dir: &std::path::Path) -> SledStore {
    SledStore::open(dir, StoreOptions::default()).unwrap()
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
    NewAccount {
        email: Email::parse(&format!("{name}@example.com")).unwrap(),
        nickname: Nickname::parse(name).unwrap(),
        password_hash: CredentialHash::from_phc(format!("$password${name}")),
        passphrase_hash: CredentialHash::from_phc(format!("$passphrase${name}")),
        customer_account: CustomerAccount::none(),
        created_at: at(1),
        role,
    }
}

fn session(account: u64, name: u8, epoch: u64, last_active_at: i64) -> Session {
    Session {
        id: SessionId::from_bytes([name; 16]),
        account: id(account),
        epoch,
        created_at: at(1),
        expires_at: at(1_000_000),
        last_active_at: at(last_active_at),
        address: Some([192, 0, 2, name].into()),
        user_agent: Some("agent".to_owned()),
    }
}

/// An audit record that can be told from others by `mark`.
fn audit(mark: i64) -> AuditRecord {
    AuditRecord {
        at: at(mark),
        event: AuditEvent::AccountUpdated,
        actor: AuditActorKind::System,
        subject: None,
        session: None,
        origin: Origin::new(None, None, Some(format!("request-{mark}"))),
        refusal: None,
    }
}
