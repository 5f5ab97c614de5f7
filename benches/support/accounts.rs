//! Data directories with many accounts, created without hashing each password.

use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use doorward::engine::sled::{SledEngine, SledOptions};
use doorward_actors::store::{AccountUpdate, EndSessions};
use doorward_actors::{
    AccountChange, AuditActorKind, AuditEvent, AuditRecord, CredentialHash, Email, NewAccount, Nickname, Timestamp,
};
use serde_json::json;

use super::answer::request;

pub(crate) const PASSWORD: &str = "Quiet-lamp-7-tree";
pub(crate) const PASSPHRASE: &str = "blue heron over water";

/// A group of similar accounts with [`PASSWORD`] and [`PASSPHRASE`].
pub(crate) struct Group {
    /// The prefix of the account names. A number follows it.
    pub(crate) name: &'static str,
    pub(crate) count: usize,
    pub(crate) verified: bool,
    pub(crate) locked: bool,
}

impl Group {
    /// Describes accounts that can log in.
    pub(crate) const fn good(name: &'static str, count: usize) -> Self {
        Self { name, count, verified: true, locked: false }
    }

    /// Returns the address of the account with this number.
    pub(crate) fn email(&self, number: usize) -> String {
        format!("{}{number}@example.com", self.name)
    }
}

/// Builds a login request.
pub(crate) fn login(email: &str, password: &str) -> Vec<u8> {
    let body = json!({"email": email, "password": password}).to_string();
    request("POST", "/login", &[], Some(&body))
}

/// Fills a data directory that no server has open.
pub(crate) async fn populate(data_dir: &Path, groups: &[Group]) {
    let store = SledEngine::open(data_dir, SledOptions::default()).unwrap().into_store(u64::MAX);
    let millis = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis();
    let now = Timestamp::from_millis(i64::try_from(millis).unwrap());
    let audit = AuditRecord { actor: AuditActorKind::Anonymous, ..AuditRecord::new(AuditEvent::Registered, now) };
    let (password_hash, passphrase_hash) = (hash(PASSWORD), hash(PASSPHRASE));
    let make = async |group: &Group, number: usize| {
        let email = Email::parse(&group.email(number)).unwrap();
        let nickname = Nickname::parse(&format!("{}{number}", group.name)).unwrap();
        let account = NewAccount {
            password_hash: password_hash.clone(),
            passphrase_hash: passphrase_hash.clone(),
            created_at: now,
            ..NewAccount::sample(email, nickname)
        };
        let id = store.create_account(account, audit.clone().into()).await.unwrap().id;
        let change = AccountChange {
            locked: group.locked.then_some(true),
            email_verified: group.verified.then_some(true),
            ..AccountChange::default()
        };
        let update = AccountUpdate {
            acting: None,
            id,
            expected_revision: None,
            change,
            ends: EndSessions::None,
            redeems: None,
            revokes_tokens: false,
        };
        store.update_account(update, audit.clone().into()).await.unwrap();
    };
    for group in groups {
        let numbers: Vec<usize> = (0..group.count).collect();
        for some in numbers.chunks(500) {
            futures_util::future::join_all(some.iter().map(|number| make(group, *number))).await;
        }
    }
    drop(store);
}

/// Computes a hash with the default cost as a PHC string (RFC 9106, 19,456 KiB, 2 passes).
fn hash(secret: &str) -> CredentialHash {
    let salt = b"a salt of 16 byt";
    let mut out = [0; 32];
    let params = argon2::Params::new(19_456, 2, 1, Some(out.len())).unwrap();
    let argon2 = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
    argon2.hash_password_into(secret.as_bytes(), salt, &mut out).unwrap();
    let (salt, out) = (STANDARD_NO_PAD.encode(salt), STANDARD_NO_PAD.encode(out));
    CredentialHash::from_phc(format!("$argon2id$v=19$m=19456,t=2,p=1${salt}${out}"))
}
