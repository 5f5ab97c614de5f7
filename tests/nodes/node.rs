//! An actor system with its own clock over a shared store.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use doorward_actors::store::engine::memory::MemoryEngine;
use doorward_actors::store::{Engine, Store};
use doorward_actors::testing::{ManualClock, MemoryKeys, MemoryMail, SeededEntropy, system_settings};
use doorward_actors::*;

/// The password of all accounts.
pub(crate) const PASSWORD: &str = "quiet-lamp-under-blue-stairs";

/// What the nodes of a test share.
#[derive(Clone)]
pub(crate) struct Shared {
    engine: Arc<MemoryEngine>,
    keys: Arc<MemoryKeys>,
}

impl Shared {
    pub(crate) fn new() -> Self {
        Self { engine: Arc::default(), keys: Arc::default() }
    }

    pub(crate) fn store(&self) -> Store {
        Store::new(Arc::clone(&self.engine) as Arc<dyn Engine>, u64::MAX)
    }
}

/// A node with its own clock.
pub(crate) struct Node {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) store: Store,
    pub(crate) mail: Arc<MemoryMail>,
    system: ActorSystem,
}

/// A user with a session.
#[derive(Debug)]
pub(crate) struct Person {
    pub(crate) account: AccountId,
    pub(crate) bearer: String,
    pub(crate) refresh: String,
}

impl Node {
    /// Starts a node over shared state. `seed` makes its random numbers differ from those of the other nodes.
    pub(crate) async fn start(shared: &Shared, seed: u64, change: impl FnOnce(&mut SystemSettings)) -> Self {
        Self::start_with(shared, seed, change, |_| None).await
    }

    /// Does the same with a schedule of backups.
    pub(crate) async fn start_with(
        shared: &Shared,
        seed: u64,
        change: impl FnOnce(&mut SystemSettings),
        backups: impl FnOnce(&Arc<ManualClock>) -> Option<BackupPlan>,
    ) -> Self {
        let (clock, mail) = (Arc::new(ManualClock::new()), Arc::new(MemoryMail::new()));
        let store = shared.store();
        let ports = Ports {
            store: store.clone(),
            clock: Arc::clone(&clock) as _,
            entropy: Arc::new(SeededEntropy::new(seed)),
            mail: Arc::clone(&mail) as _,
            breached: None,
            keys: Arc::clone(&shared.keys) as _,
            backups: backups(&clock),
        };
        let mut settings = system_settings();
        settings.sessions.access_lifetime = Duration::from_hours(5);
        settings.clock_skew = Duration::from_secs(2);
        change(&mut settings);
        let system = ActorSystem::start(ports, settings).await.unwrap();
        Self { clock, store, mail, system }
    }

    pub(crate) fn handles(&self) -> &Handles {
        self.system.handles()
    }

    /// Stops in order.
    pub(crate) async fn stop(&self) {
        assert!(self.system.drain(Duration::from_mins(1)).await);
    }

    pub(crate) async fn register(&self, name: &str) -> Account {
        let registration = Registration {
            email: email(name),
            nickname: Nickname::parse(name).unwrap(),
            password: password(PASSWORD),
            passphrase: Passphrase::parse("seven words nobody would ever guess here").unwrap(),
            profile: ProfileChange::default(),
        };
        match self.handles().users.register(registration, origin()).await.unwrap() {
            Registered::Created(account) => account,
            Registered::Concealed => panic!("nothing is concealed here"),
        }
    }

    pub(crate) async fn log_in_with(&self, name: &str, password_typed: &str) -> Result<Person, LoginError> {
        let attempt = LoginAttempt { email: email(name), password: password(password_typed), remember: false };
        let logged_in = self.handles().users.login(attempt, origin()).await?;
        Ok(Person {
            account: logged_in.account.id,
            bearer: logged_in.access_token.expose().to_owned(),
            refresh: logged_in.refresh_token.expose().to_owned(),
        })
    }

    pub(crate) async fn log_in(&self, name: &str) -> Person {
        self.log_in_with(name, PASSWORD).await.unwrap()
    }

    /// Returns the principal of a token and counts a use of its session.
    pub(crate) async fn principal(&self, person: &Person) -> Option<Principal> {
        match self.handles().sessions.authenticate(&person.bearer).await {
            Ok(principal) => Some(principal),
            Err(AuthenticateError::Dead) => None,
            Err(AuthenticateError::Unavailable(_)) => panic!("no answer"),
        }
    }

    pub(crate) async fn lives(&self, person: &Person) -> bool {
        self.principal(person).await.is_some()
    }

    pub(crate) async fn log_out(&self, person: &Person) {
        let principal = self.principal(person).await.unwrap();
        self.handles().sessions.logout(&principal, origin()).await.unwrap();
    }

    /// Returns the sessions of an account, as the node lists them.
    pub(crate) async fn list(&self, account: AccountId) -> Vec<SessionId> {
        let account = self.store.account(account).await.unwrap().unwrap();
        let sessions = self.handles().sessions.list(&account).await.unwrap();
        sessions.into_iter().map(|session| session.id).collect()
    }

    pub(crate) async fn refresh(&self, token: &str) -> Result<Refreshed, RefreshError> {
        self.handles().users.refresh(Secret::new(token.to_owned()), origin()).await
    }

    /// Creates a service token and returns it with its secret.
    pub(crate) async fn service_token(&self, admin: &Person, name: &str) -> (ServiceTokenId, Vec<u8>) {
        let principal = self.principal(admin).await.unwrap();
        let name = ServiceName::parse(name).unwrap();
        let scopes = ServiceScopes::BUILT_IN;
        let made = self.handles().services.create(&principal, name, scopes, None, origin()).await.unwrap();
        (made.token.id, made.secret.expose().as_bytes().to_vec())
    }

    pub(crate) async fn admits(&self, secret: &[u8]) -> bool {
        self.handles().services.find(secret).await.unwrap().is_some()
    }
}

pub(crate) fn origin() -> Origin {
    Origin::new(Some(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7))), Some("a test"), None)
}

fn email(name: &str) -> Email {
    Email::parse(&format!("{name}@example.com")).unwrap()
}

pub(crate) fn password(typed: &str) -> Password {
    Password::new(Secret::new(typed.to_owned())).unwrap()
}
