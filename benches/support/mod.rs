//! The servers that are measured and the loads they are put under.

mod load;
mod server;

use std::path::Path;
use std::time::{Duration, Instant};

use doorward::store::{SledStore, StoreOptions};
use doorward_actors::ports::Store as _;
use doorward_actors::{
    AuditActorKind, AuditEvent, AuditRecord, CredentialHash, CustomerAccount, Email, Locale, NewAccount, NewRole,
    Nickname, Origin, Role, Timestamp,
};
use hyper_util::rt::TokioIo;
use hyper_util::service::TowerToHyperService;
use warp::Filter as _;

pub(crate) use load::Load;
pub(crate) use server::Server;

/// The middle of some measurements.
pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// How many password hashes of the default cost these threads compute in a second, with memory of their own and nothing
/// else to do.
pub(crate) fn argon2_rate(threads: usize, time: Duration) -> f64 {
    let count = move || {
        let params = argon2::Params::new(19_456, 2, 1, Some(32)).unwrap();
        let mut memory = vec![argon2::Block::default(); params.block_count()];
        let argon2 = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, params);
        let (began, mut hashes, mut out) = (Instant::now(), 0_u32, [0; 32]);
        while began.elapsed() < time {
            argon2.hash_password_into_with_memory(b"password", b"a salt of 16 byt", &mut out, &mut memory).unwrap();
            hashes += 1;
        }
        f64::from(hashes) / began.elapsed().as_secs_f64()
    };
    let running: Vec<_> = (0..threads).map(|_| std::thread::spawn(count)).collect();
    running.into_iter().map(|thread| thread.join().unwrap()).sum()
}

/// Fills a data directory with accounts that nobody can log in to, without hashing anything.
pub(crate) async fn populate(data_dir: &Path, accounts: usize) {
    let store = SledStore::open(data_dir, StoreOptions::default()).unwrap();
    let audit = AuditRecord {
        at: Timestamp::from_millis(0),
        event: AuditEvent::Registered,
        actor: AuditActorKind::Anonymous,
        subject: None,
        session: None,
        origin: Origin::default(),
        refusal: None,
    };
    let hash = CredentialHash::from_phc(
        "$argon2id$v=19$m=19456,t=2,p=1$AAECAwQFBgcICQoLDA0ODw$AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8".to_owned(),
    );
    let create = |n: usize| NewAccount {
        email: Email::parse(&format!("somebody{n}@example.com")).unwrap(),
        nickname: Nickname::parse(&format!("somebody{n}")).unwrap(),
        password_hash: hash.clone(),
        passphrase_hash: hash.clone(),
        customer_account: CustomerAccount::none(),
        created_at: Timestamp::from_millis(0),
        role: NewRole::Exactly(Role::User),
        locale: Locale::En,
        acting: None,
        replaces_unverified: false,
    };
    let numbers: Vec<usize> = (0..accounts).collect();
    for group in numbers.chunks(500) {
        let created = group.iter().map(|n| store.create_account(create(*n), audit.clone().into()));
        for outcome in futures_util::future::join_all(created).await {
            outcome.unwrap();
        }
    }
    store.close().unwrap();
}

/// A route that does nothing on an accept loop that does nothing either: what hyper and warp cost by themselves. Never returns.
pub(crate) async fn serve_plain(listener: tokio::net::TcpListener) {
    let service = TowerToHyperService::new(warp::service(warp::path!("bare").map(|| "bare".to_owned())));
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        tokio::spawn(async move {
            let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
        });
    }
}
