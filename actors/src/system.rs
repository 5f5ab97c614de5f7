//! The actor system: starts all actors, watches them, and drains them in order.

mod health;
#[cfg(feature = "testing")]
mod testing;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use ractor::{Actor as _, ActorRef};
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;
use tokio_util::task::TaskTracker;

use crate::auditor::{AuditActor, AuditHandle, AuditSettings};
#[cfg(feature = "testing")]
use crate::backups;
use crate::backups::{BackupActor, BackupKeeper, BackupPlan};
use crate::domain::hash_form::HashFormKey;
use crate::domain::one_time::OneTimeKey;
use crate::domain::password::PasswordPolicy;
use crate::domain::refresh::RefreshKeys;
use crate::domain::session::SessionPolicy;
use crate::domain::token::{AccessTokens, TokenSettings};
use crate::hasher::{HasherHandle, HasherSettings, HasherStartError};
use crate::health::Vitals;
use crate::keys::{self, KeyActor, KeyHandle, KeyKeeper, KeysError};
use crate::leases::Leases;
use crate::mailer::{MailerActor, MailerHandle, MailerSettings, Postman, Troubles};
use crate::ports::{BreachedPasswords, Clock, Entropy, KeyVault, MailTransport};
use crate::process::{AnyMailbox, Mailbox, Process, Timer};
#[cfg(feature = "testing")]
use crate::rate_limiter::Message;
use crate::rate_limiter::{AFTER_HASH, AttemptTiming, RateLimiterActor, RateLimiterHandle, RateLimits};
use crate::revocations::RevocationHandle;
use crate::services::{self, ServiceActor, ServiceHandle};
use crate::session::{self, SessionActor, SessionHandle, Shard, shard_of};
use crate::store::Store;
use crate::supervisor::{ChildSpec, Supervisor, SupervisorMessage, WatchedSupervisor};
use crate::user::{self, AccountRules, Flows, IssuedLinks, UserActor, UserHandle};
pub use health::HealthHandle;
use health::Sources;

/// How long the leases may take to be given back at a stop.
const RELEASE_DEADLINE: Duration = Duration::from_secs(1);

/// The ports to the outside that the actors need.
#[derive(Clone)]
pub struct Ports {
    /// Durable state.
    pub store: Store,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// The transport of mails.
    pub mail: Arc<dyn MailTransport>,
    /// The operator's list of breached passwords, if there is one.
    pub breached: Option<Arc<dyn BreachedPasswords>>,
    /// The vault of the signing keys.
    pub keys: Arc<dyn KeyVault>,
    /// The schedule of backups, if there is one.
    pub backups: Option<BackupPlan>,
}

/// The settings of the actors.
#[derive(Debug, Clone)]
pub struct SystemSettings {
    /// Access tokens.
    pub tokens: TokenSettings,
    /// Sessions.
    pub sessions: SessionPolicy,
    /// The number of shards into which the sessions are divided, at least 1.
    pub session_shards: usize,
    /// Accounts.
    pub accounts: AccountRules,
    /// Password hashing.
    pub hasher: HasherSettings,
    /// The policy for new passwords.
    pub passwords: PasswordPolicy,
    /// Rate limits.
    pub limits: RateLimits,
    /// Mails.
    pub mailer: MailerSettings,
    /// The audit log.
    pub audit: AuditSettings,
    /// The maximum difference between the clocks of the nodes on one store. Zero if one process has the store to itself.
    pub clock_skew: Duration,
    /// The free space of the disk below which the health is `degraded`, in bytes.
    pub min_free_disk: u64,
}

/// Why the actors did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The hashing threads.
    #[error(transparent)]
    Hasher(#[from] HasherStartError),
    /// The signing keys.
    #[error("access tokens cannot be signed: {0}")]
    Keys(#[from] KeysError),
    /// The supervisor.
    #[error("the supervisor did not start: {0}")]
    Supervisor(String),
}

/// The handles that routes use.
#[derive(Clone)]
pub struct Handles {
    /// Accounts.
    pub users: UserHandle,
    /// Sessions.
    pub sessions: SessionHandle,
    /// Service tokens.
    pub services: ServiceHandle,
    /// The log of revocations.
    pub revocations: RevocationHandle,
    /// Rate limits.
    pub limits: RateLimiterHandle,
    /// The audit log.
    pub audit: AuditHandle,
    /// The outbox.
    pub mailer: MailerHandle,
    /// Password hashing.
    pub hasher: HasherHandle,
    /// The signing keys.
    pub keys: KeyHandle,
    /// The health of all parts.
    pub health: HealthHandle,
    /// The rate limiter's mailbox, with which tests trigger its timers.
    #[cfg(feature = "testing")]
    limiter: Arc<Mailbox<Message>>,
    /// The work that flows do after their answer. Tests wait for it.
    #[cfg(feature = "testing")]
    background: TaskTracker,
    /// The supervisor, of which tests have frozen actors replaced.
    #[cfg(feature = "testing")]
    supervisor: ActorRef<SupervisorMessage>,
}

/// The running actors. Dropping it without [`ActorSystem::drain`] leaves them running until the runtime ends.
pub struct ActorSystem {
    supervisor: ActorRef<SupervisorMessage>,
    gave_up: watch::Receiver<Option<String>>,
    draining: Arc<AtomicBool>,
    leases: Leases,
    handles: Handles,
    /// Looks at all parts until the system is dropped.
    _watch: Timer,
}

impl ActorSystem {
    /// Starts the hashing threads and every actor, in the order of their dependencies.
    pub async fn start(ports: Ports, settings: SystemSettings) -> Result<Self, StartError> {
        let Ports { store, clock, entropy, mail, breached, keys: vault, backups } = ports;
        let hasher = HasherHandle::start(
            settings.hasher,
            settings.passwords,
            breached,
            Arc::clone(&clock),
            Arc::clone(&entropy),
        )?;
        let leases = Leases::new(store.clone(), Arc::clone(&clock), &*entropy);
        let audit_mailbox = Mailbox::new(Vitals::new("audit"));
        let audit = AuditHandle::new(Arc::clone(&audit_mailbox), store.clone(), Arc::clone(&clock));
        let keys = key_part(&settings.tokens, vault, &store, &clock, &audit, &leases).await?;
        let key = Arc::new(OneTimeKey::derive(&settings.tokens.secret));
        let refresh_keys = RefreshKeys::derive(&settings.tokens.secret, settings.tokens.previous_secret.as_ref());
        let mut cast = Cast::new(&clock);

        // The actors are drained in this order: an actor that asks stops before the actor that answers.
        let user_mailbox = Mailbox::new(Vitals::new("user"));
        let mailer_mailbox = Mailbox::new(Vitals::new("mailer"));
        let limiter_mailbox = Mailbox::new(Vitals::new("rate_limiter"));
        let (sessions, session_actors) = session_shards(&settings, keys.tokens, &store, &clock, &entropy);
        let timing = AttemptTiming { lasts: settings.hasher.deadline + AFTER_HASH, clock_skew: settings.clock_skew };
        let limits = RateLimiterHandle::new(settings.limits.clone(), timing, &clock, store.clone());
        let mailer =
            MailerHandle::new(Arc::clone(&mailer_mailbox), store.clone(), Arc::clone(&mail), Arc::clone(&clock));
        let (services, service_actor, service_mailbox) =
            service_tokens(&settings, &store, &clock, &entropy, &audit, &leases);
        let (background, links) = (TaskTracker::new(), Arc::new(IssuedLinks::default()));
        let flows = Flows {
            rules: settings.accounts,
            mailer: mailer.clone(),
            key: Arc::clone(&key),
            refresh_keys,
            hash_forms: HashFormKey::derive(&settings.tokens.secret),
            entropy: Arc::clone(&entropy),
            background: background.clone(),
            store: store.clone(),
            hasher: hasher.clone(),
            sessions: sessions.clone(),
            audit: audit.clone(),
            limits: limits.clone(),
            clock: Arc::clone(&clock),
            links: Arc::clone(&links),
            leases: leases.clone(),
            clock_skew: settings.clock_skew,
        };

        let users = user_handle(&settings, &user_mailbox, &store, &sessions, &clock);
        cast.add(UserActor::new(flows), &user_mailbox);
        for (actor, mailbox) in session_actors {
            cast.add(actor, &mailbox);
        }
        let postman = postman(&settings, &store, mail, key, &clock, &entropy, (links, mailer.troubles()));
        let mailer_actor = MailerActor { postman, attempts: TaskTracker::new(), leases: leases.clone() };
        cast.add(RateLimiterActor::new(limits.clone(), leases.clone()), &limiter_mailbox);
        cast.add(keys.actor, &keys.mailbox);
        cast.add(service_actor, &service_mailbox);
        cast.add(auditor(&settings, &store, &clock, &leases), &audit_mailbox);
        // Only the flows ask it. It may wait for a mail server that does not answer, and that must not keep another actor from
        // draining.
        cast.add(mailer_actor, &mailer_mailbox);
        // Nobody asks it, and it may wait for a disk.
        let backups = backups.map(|plan| cast.add_backups(plan, &leases));

        let draining = Arc::new(AtomicBool::new(false));
        let root = WatchedSupervisor::new();
        let (supervisor, gave_up) = supervise(cast.children, &clock, &draining, &root).await?;
        let revocations = RevocationHandle::new(store.clone());
        let health = HealthHandle::new(Sources {
            supervisor: root,
            watched: cast.watched,
            store,
            clock,
            hasher: hasher.clone(),
            sessions: sessions.clone(),
            limits: limits.clone(),
            mailer: mailer.clone(),
            backups,
            min_free: settings.min_free_disk,
        });
        Ok(Self {
            supervisor: supervisor.clone(),
            gave_up,
            draining,
            leases,
            _watch: health.watch(supervisor.clone()),
            handles: Handles {
                users,
                sessions,
                services,
                revocations,
                limits,
                audit,
                mailer,
                hasher,
                keys: keys.handle,
                health,
                #[cfg(feature = "testing")]
                limiter: limiter_mailbox,
                #[cfg(feature = "testing")]
                background,
                #[cfg(feature = "testing")]
                supervisor,
            },
        })
    }

    /// Returns the handles of the actors.
    #[must_use]
    pub fn handles(&self) -> &Handles {
        &self.handles
    }

    /// Resolves with the reason when an actor cannot be kept alive. The process should then end.
    pub fn gave_up(&self) -> impl Future<Output = String> + Send + 'static {
        let mut gave_up = self.gave_up.clone();
        async move {
            let reason = gave_up.wait_for(Option::is_some).await.ok().and_then(|reason| reason.clone());
            match reason {
                Some(reason) => reason,
                None => std::future::pending().await,
            }
        }
    }

    /// Lets every actor handle its waiting messages and stop, in order. Returns false if the deadline passes first.
    pub async fn drain(&self, deadline: Duration) -> bool {
        self.draining.store(true, Ordering::Release);
        self.handles.health.begin_stop();
        let (done, drained) = oneshot::channel();
        let supervisor = &self.handles.health.inner.sources.supervisor;
        if !supervisor.tell(&self.supervisor, SupervisorMessage::Drain(done)) {
            return false;
        }
        let drained = tokio::time::timeout(deadline, drained).await.is_ok_and(|answer| answer.is_ok());
        self.supervisor.stop(None);
        // A store that hangs delays no stop: the leases then end by themselves.
        let _ = tokio::time::timeout(RELEASE_DEADLINE, self.leases.release()).await;
        drained
    }
}

/// The actors to start, in order, and what the health report reads.
struct Cast {
    clock: Arc<dyn Clock>,
    children: Vec<ChildSpec>,
    /// The mailboxes of the children, in the same order.
    watched: Vec<Arc<dyn AnyMailbox>>,
}

impl Cast {
    fn new(clock: &Arc<dyn Clock>) -> Self {
        Self { clock: Arc::clone(clock), children: Vec::new(), watched: Vec::new() }
    }

    fn add<P: Process>(&mut self, process: P, mailbox: &Arc<Mailbox<P::Message>>) {
        self.watched.push(mailbox.clone());
        self.children.push(ChildSpec::new(Arc::new(process), Arc::clone(mailbox), Arc::clone(&self.clock)));
    }
}

impl Cast {
    /// Adds the schedule of backups.
    fn add_backups(&mut self, plan: BackupPlan, leases: &Leases) -> BackupPart {
        let mailbox = Mailbox::new(Vitals::new("backups"));
        let keeper = Arc::new(BackupKeeper::new(plan, Arc::clone(&self.clock), leases.clone()));
        self.add(BackupActor::new(Arc::clone(&keeper)), &mailbox);
        BackupPart {
            keeper,
            #[cfg(feature = "testing")]
            mailbox,
        }
    }
}

/// The schedule of backups.
struct BackupPart {
    keeper: Arc<BackupKeeper>,
    /// With this, tests trigger its timer.
    #[cfg(feature = "testing")]
    mailbox: Arc<Mailbox<backups::Message>>,
}

/// The opened signing keys.
struct KeyPart {
    tokens: Arc<AccessTokens>,
    actor: KeyActor,
    mailbox: Arc<Mailbox<keys::Message>>,
    handle: KeyHandle,
}

/// Opens the keys and creates their actor.
async fn key_part(
    settings: &TokenSettings,
    vault: Arc<dyn KeyVault>,
    store: &Store,
    clock: &Arc<dyn Clock>,
    audit: &AuditHandle,
    leases: &Leases,
) -> Result<KeyPart, KeysError> {
    let (clock, leases) = (Arc::clone(clock), leases.clone());
    let keeper =
        KeyKeeper::open(settings.clone(), vault, store.clone(), Arc::clone(&clock), audit.clone(), leases).await?;
    let (tokens, mailbox) = (Arc::clone(keeper.tokens()), Mailbox::new(Vitals::new("keys")));
    let handle = KeyHandle::new(Arc::clone(&mailbox), Arc::clone(&tokens), clock, settings.rotation);
    Ok(KeyPart { tokens, actor: KeyActor::new(Arc::new(keeper)), mailbox, handle })
}

/// A session shard and its mailbox.
type SessionShard = (SessionActor, Arc<Mailbox<session::Message>>);

/// Creates the session shards and their handle.
fn session_shards(
    settings: &SystemSettings,
    tokens: Arc<AccessTokens>,
    store: &Store,
    clock: &Arc<dyn Clock>,
    entropy: &Arc<dyn Entropy>,
) -> (SessionHandle, Vec<SessionShard>) {
    let shards: Vec<Shard> = (0..settings.session_shards.max(1))
        .map(|index| Shard {
            mailbox: Mailbox::new(Vitals::new(format!("session-{index}"))),
            live: Arc::new(AtomicUsize::new(0)),
        })
        .collect();
    let actor = |(index, shard): (usize, &Shard)| {
        let actor = SessionActor {
            shard: shard_of(index, shards.len()),
            policy: settings.sessions,
            store: store.clone(),
            clock: Arc::clone(clock),
            commits: TaskTracker::new(),
            live: Arc::clone(&shard.live),
        };
        (actor, Arc::clone(&shard.mailbox))
    };
    let actors = shards.iter().enumerate().map(actor).collect();
    let (store, clock, entropy) = (store.clone(), Arc::clone(clock), Arc::clone(entropy));
    (SessionHandle::new(shards, tokens, settings.sessions, store, clock, entropy), actors)
}

/// Creates the service tokens' handle, actor and mailbox.
fn service_tokens(
    settings: &SystemSettings,
    store: &Store,
    clock: &Arc<dyn Clock>,
    entropy: &Arc<dyn Entropy>,
    audit: &AuditHandle,
    leases: &Leases,
) -> (ServiceHandle, ServiceActor, Arc<Mailbox<services::Message>>) {
    let mailbox = Mailbox::new(Vitals::new("services"));
    let handle =
        ServiceHandle::new(Arc::clone(&mailbox), store.clone(), Arc::clone(clock), Arc::clone(entropy), audit.clone());
    let actor = ServiceActor {
        directory: Arc::clone(handle.directory()),
        store: store.clone(),
        clock: Arc::clone(clock),
        token_lifetime: settings.tokens.lifetime,
        known: std::sync::Mutex::default(),
        leases: leases.clone(),
    };
    (handle, actor, mailbox)
}

/// Creates the handle of the accounts.
fn user_handle(
    settings: &SystemSettings,
    mailbox: &Arc<Mailbox<user::Message>>,
    store: &Store,
    sessions: &SessionHandle,
    clock: &Arc<dyn Clock>,
) -> UserHandle {
    let mode = settings.accounts.recovery_mode;
    UserHandle::new(Arc::clone(mailbox), store.clone(), sessions.clone(), Arc::clone(clock), mode)
}

/// Creates the actor of the audit log.
fn auditor(settings: &SystemSettings, store: &Store, clock: &Arc<dyn Clock>, leases: &Leases) -> AuditActor {
    let prefix = settings.limits.networks.ipv6_prefix;
    AuditActor::new(store.clone(), Arc::clone(clock), settings.audit, prefix, leases.clone())
}

/// What makes attempts to send mails.
fn postman(
    settings: &SystemSettings,
    store: &Store,
    transport: Arc<dyn MailTransport>,
    key: Arc<OneTimeKey>,
    clock: &Arc<dyn Clock>,
    entropy: &Arc<dyn Entropy>,
    (links, troubles): (Arc<IssuedLinks>, Arc<Troubles>),
) -> Arc<Postman> {
    Arc::new(Postman {
        settings: settings.mailer,
        store: store.clone(),
        transport,
        key,
        previous_key: settings.tokens.previous_secret.as_ref().map(OneTimeKey::derive),
        clock: Arc::clone(clock),
        entropy: Arc::clone(entropy),
        links,
        troubles,
    })
}

/// Starts the supervisor with its children, and watches it.
async fn supervise(
    children: Vec<ChildSpec>,
    clock: &Arc<dyn Clock>,
    draining: &Arc<AtomicBool>,
    watched: &WatchedSupervisor,
) -> Result<(ActorRef<SupervisorMessage>, watch::Receiver<Option<String>>), StartError> {
    let (gave_up_sender, gave_up) = watch::channel(None);
    let supervisor = Supervisor::new(Arc::clone(clock), gave_up_sender.clone(), watched);
    let started = Supervisor::spawn(None, supervisor, children).await;
    let (supervisor, ended) = started.map_err(|error| StartError::Supervisor(error.to_string()))?;
    watch_supervisor(ended, Arc::clone(draining), gave_up_sender);
    Ok((supervisor, gave_up))
}

/// Reports the system as ended when its supervisor ends, unless it is being drained.
fn watch_supervisor(ended: JoinHandle<()>, draining: Arc<AtomicBool>, gave_up: watch::Sender<Option<String>>) {
    tokio::spawn(async move {
        let _ = ended.await;
        if !draining.load(Ordering::Acquire) {
            gave_up.send_if_modified(|reason| {
                reason.get_or_insert_with(|| "the supervisor itself ended".to_owned());
                true
            });
        }
    });
}
