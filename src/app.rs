//! The composition root: builds the ports from the settings, the actors from the ports, and the routes and the listener from the actors.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use doorward_actors::ports::{BreachedPasswords, Clock, Entropy, MailTransport};
use doorward_actors::store::{Engine, Store};
use doorward_actors::{
    AccountRules, ActorSystem, AuditSettings, BackupPlan, ClientNetworks, Handles, HashCost, HasherSettings,
    MailerSettings, PasswordPolicy, Ports, RateLimits, RateQuota, Secret, SecretDigest, SessionPolicy, StartError,
    SystemSettings, TokenSettings,
};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::ambient::{SystemClock, SystemEntropy};
use crate::backup::live::Backups;
use crate::backup::shelf::Shelf;
use crate::backup::source::Source;
use crate::breached::{BreachedList, BreachedListError};
use crate::control::{Commands, Control};
use crate::data_dir::key_files::KeyFiles;
use crate::data_dir::owner::OtherOwner;
use crate::data_dir::{permissions, secrets};
use crate::engine::sled::{OpenError, SledEngine, SledOptions};
use crate::http::{self, Api, ApiRules, ServerSettings, Tls, TlsError};
use crate::mail::{MailSetupError, Transport};
use crate::reload::Reloadable;
use crate::settings::{Rate, Settings};

/// The file in the data directory that holds a generated signing secret.
pub(crate) const SECRET_KEY_FILE: &str = "secret_key";
/// The file in the data directory that holds a generated service token.
pub(crate) const SERVICE_TOKEN_FILE: &str = "service_token";
/// The share of the stop timeout for requests in flight. The rest is for the actors and the store.
const HTTP_SHARE: f64 = 0.6;
/// The share of the remaining time for the actors. The rest is for the last commit.
const ACTORS_SHARE: f64 = 0.7;

/// The share of the request timeout for which a response may wait for an event.
const WAIT_SHARE: f64 = 0.8;

/// How many connections may be open to the listener of the metrics.
const METRICS_CONNECTIONS: usize = 16;
/// How long a request to it may take.
const METRICS_DEADLINE: Duration = Duration::from_secs(10);
/// How long a request to it may take at a stop.
const METRICS_PATIENCE: Duration = Duration::from_millis(200);

/// Why the application did not start.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The data directory cannot be opened.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The data directory belongs to another user.
    #[error(transparent)]
    OtherOwner(#[from] OtherOwner),
    /// A generated secret could not be created or read.
    #[error("{file} in the data directory: {source}")]
    Secret {
        /// Which file.
        file: &'static str,
        /// What happened.
        source: io::Error,
    },
    /// The actors did not start.
    #[error(transparent)]
    Actors(#[from] StartError),
    /// The first read from the store failed.
    #[error("the data directory cannot be read: {0}")]
    Unreadable(#[from] doorward_actors::store::StoreFailure),
    /// The list of breached passwords cannot be opened. It was valid when the settings were read.
    #[error("the file of BREACHED_PASSWORDS_FILE {0}")]
    Breached(#[from] BreachedListError),
    /// The mail transport cannot be set up.
    #[error(transparent)]
    Mail(#[from] MailSetupError),
    /// The certificate cannot be loaded.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The address cannot be bound.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The configured address.
        address: SocketAddr,
        /// The error of the operating system.
        source: io::Error,
    },
}

/// Why the application stopped by itself.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Ended {
    /// An actor could not be kept alive.
    #[error("{0}")]
    ActorGaveUp(String),
    /// The store failed. Its data is intact up to the last acknowledged change.
    #[error("the store failed: {0}")]
    StoreFailed(String),
    /// The last commit failed.
    #[error("the store could not be closed: {0}")]
    NotClosed(String),
}

/// Everything but the network: the store and the actors on top of it.
struct Core {
    engine: Arc<SledEngine>,
    store: Store,
    system: ActorSystem,
    /// The mail transport of the settings; `None` if there is another one.
    mail: Option<Arc<Transport>>,
    backups: Arc<Backups>,
    clock: Arc<dyn Clock>,
}

/// The application: it is listening but does not answer yet.
pub struct App {
    core: Core,
    listener: TcpListener,
    address: SocketAddr,
    /// The listener of the metrics for this machine.
    metrics: Option<TcpListener>,
    service_token: Secret,
    server: ServerSettings,
    settings: Settings,
}

/// The sources of time and randomness and the mail transport.
#[derive(Clone)]
pub struct Ambient {
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Randomness.
    pub entropy: Arc<dyn Entropy>,
    /// The mail transport; `None` for the one that the settings select.
    pub mail: Option<Arc<dyn MailTransport>>,
}

impl Default for Ambient {
    fn default() -> Self {
        Self { clock: Arc::new(SystemClock::new()), entropy: Arc::new(SystemEntropy), mail: None }
    }
}

impl Core {
    /// Opens the data directory and starts the actors.
    async fn start(settings: &Settings, ambient: &Ambient) -> Result<Self, BuildError> {
        // Only the server applies `audit.max_bytes`. A command that opens the directory has the settings of its shell and must not remove
        // records because of them.
        let engine = open_engine(settings).await?;
        let store = Store::new(Arc::clone(&engine) as Arc<dyn Engine>, settings.audit.max_bytes);
        let secret_key = secret(settings, settings.tokens.secret_key.as_ref(), SECRET_KEY_FILE, ambient)?;
        let (port, mail): (Arc<dyn MailTransport>, _) = if let Some(transport) = &ambient.mail {
            (Arc::clone(transport), None)
        } else {
            let transport = Arc::new(Transport::new(settings)?);
            (Arc::clone(&transport) as _, Some(transport))
        };
        let source = Source {
            engine: Arc::clone(&engine) as Arc<dyn Engine>,
            data_dir: settings.storage.data_dir.clone(),
            secret_key: settings.tokens.secret_key.clone(),
        };
        let backups = Arc::new(Backups::new(source, Arc::clone(&ambient.clock), Arc::clone(&ambient.entropy)));
        let ports = Ports {
            store: store.clone(),
            clock: Arc::clone(&ambient.clock),
            entropy: Arc::clone(&ambient.entropy),
            mail: port,
            breached: breached_list(settings)?,
            keys: Arc::new(KeyFiles::in_data_dir(&settings.storage.data_dir)),
            backups: backup_plan(settings, &backups),
        };
        let system = ActorSystem::start(ports, system_settings(settings, secret_key)).await?;
        Ok(Self { engine, store, system, mail, backups, clock: Arc::clone(&ambient.clock) })
    }

    /// Drains the actors, makes the last commit and releases the data directory, all within the deadline. Acknowledged changes are on disk
    /// even if this fails.
    async fn stop(self, deadline: Duration) -> Result<(), Ended> {
        let began = Instant::now();
        if !self.system.drain(deadline.mul_f64(ACTORS_SHARE)).await {
            tracing::warn!("the actors did not drain in time");
        }
        close_engine(self.engine, deadline.saturating_sub(began.elapsed())).await
    }
}

impl App {
    /// Starts everything and binds the listener. Requests wait in its backlog until [`App::run_until`].
    pub async fn build(settings: Settings) -> Result<Self, BuildError> {
        Self::build_with(settings, Ambient::default()).await
    }

    /// Does the same as [`App::build`] with another clock, source of randomness or mail transport.
    pub async fn build_with(settings: Settings, ambient: Ambient) -> Result<Self, BuildError> {
        let tls = settings.http.tls.as_ref().map(Tls::load).transpose()?;
        // Boxed, because callers would otherwise hold all that a start needs for as long as they live.
        let core = Box::pin(Core::start(&settings, &ambient)).await?;
        let service_token = secret(&settings, settings.tokens.service_token.as_ref(), SERVICE_TOKEN_FILE, &ambient)?;
        if settings.accounts.first_user_is_admin && !core.store.had_admin().await? {
            tracing::warn!(
                "this data directory has no administrator yet: the first account that registers becomes one \
                 (set FIRST_USER_IS_ADMIN=false and use `doorward admin create` to prevent it)"
            );
        }
        let (listener, address) = listen(SocketAddr::new(settings.http.host, settings.http.port))?;
        let metrics = settings.http.metrics.map(listen).transpose()?;
        if let Some((_, address)) = &metrics {
            tracing::info!(%address, "the metrics are served to this machine without a token");
        }
        let metrics = metrics.map(|(listener, _)| listener);
        tracing::info!(%address, tls = tls.is_some(), data_dir = %settings.storage.data_dir.display(), "listening");
        let patience = settings.http.shutdown_timeout.mul_f64(HTTP_SHARE);
        let server = ServerSettings::new(&settings.http, patience, tls, settings.log.verify_sample);
        Ok(Self { core, listener, address, metrics, service_token, server, settings })
    }

    /// Returns the address on which it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns the address on which the metrics are served without a token, if there is one.
    #[must_use]
    pub fn metrics_address(&self) -> Option<SocketAddr> {
        self.metrics.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// Returns the built-in service token, with which services authenticate.
    #[must_use]
    pub fn service_token(&self) -> &Secret {
        &self.service_token
    }

    /// Returns the handles of the actors.
    #[must_use]
    pub fn handles(&self) -> &Handles {
        self.core.system.handles()
    }

    /// Returns the parts that take new settings while they run.
    pub(crate) fn reloadable(&self) -> Reloadable {
        let Handles { limits, hasher, .. } = self.handles();
        Reloadable {
            limits: limits.clone(),
            hasher: hasher.clone(),
            cors: Arc::clone(&self.server.edge.cors),
            mail: self.core.mail.clone(),
            tls: self.server.tls.clone(),
        }
    }

    /// Serves until `shutdown` resolves or a part fails for good. Then stops in order: refuses new connections, finishes requests in
    /// flight, drains the actors, makes the last commit.
    pub async fn run_until(self, shutdown: impl Future<Output = ()>) -> Result<(), Ended> {
        let Self { core, listener, metrics, service_token, server, settings, .. } = self;
        let stop_within = settings.http.shutdown_timeout;
        let service_token = SecretDigest::of(service_token.expose().as_bytes());
        let rules = ApiRules {
            verify_cache: settings.tokens.verify_cache,
            docs: settings.http.docs,
            public_url: settings.mail.public_url.as_str().to_owned(),
            refuse_unreachable: settings.mail.refuse_unreachable,
            longest_wait: settings.http.request_timeout.mul_f64(WAIT_SHARE),
        };
        let (backups, clock) = (Arc::clone(&core.backups), Arc::clone(&core.clock));
        let api = Api::new(core.system.handles().clone(), service_token, rules, Arc::clone(&backups));
        let metrics = metrics.map(|listener| MetricsServer::start(listener, &api));
        let control = Control::listen(&settings.storage.data_dir).map(|control| {
            let engine = Arc::clone(&core.engine) as Arc<dyn Engine>;
            tokio::spawn(control.serve(Commands { backups, engine, clock }))
        });
        let (actors, store) = (core.system.gave_up(), core.engine.failed());
        let mut ended = None;
        let mut stop_began = Instant::now();
        http::serve_api(listener, &api, server, async {
            tokio::select! {
                () = shutdown => {}
                reason = actors => ended = Some(Ended::ActorGaveUp(reason)),
                reason = store => ended = Some(Ended::StoreFailed(reason)),
            }
            stop_began = Instant::now();
            core.system.handles().health.begin_stop();
            api.end_streams();
        })
        .await;
        if let Some(metrics) = metrics {
            metrics.stop().await;
        }
        if let Some(control) = control {
            control.abort();
        }
        let stopped = core.stop(stop_within.saturating_sub(stop_began.elapsed())).await;
        match ended {
            Some(ended) => Err(ended),
            None => stopped,
        }
    }
}

/// Binds a listener and returns it with its address.
fn listen(wanted: SocketAddr) -> Result<(TcpListener, SocketAddr), BuildError> {
    let failed = |source| BuildError::Listen { address: wanted, source };
    let listener = http::listen(wanted).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((listener, address))
}

/// Serves the metrics to this machine. It goes on while the other listener stops, so that a stop can be watched.
struct MetricsServer {
    stop: oneshot::Sender<()>,
    serving: JoinHandle<bool>,
}

impl MetricsServer {
    fn start(listener: TcpListener, api: &Arc<Api>) -> Self {
        let settings = ServerSettings {
            shutdown_timeout: METRICS_PATIENCE,
            ..ServerSettings::plain(METRICS_CONNECTIONS, METRICS_DEADLINE)
        };
        let (stop, stopped) = oneshot::channel::<()>();
        let api = Arc::clone(api);
        let serving = tokio::spawn(async move {
            // A dropped sender is a stop too.
            http::serve_metrics(listener, &api, settings, async { drop(stopped.await) }).await
        });
        Self { stop, serving }
    }

    async fn stop(self) {
        drop(self.stop);
        // A panic in it was logged, and there is nothing left to stop.
        let _ = self.serving.await;
    }
}

/// Opens the engine in the data directory. Fails while another process has it open.
pub(crate) async fn open_engine(settings: &Settings) -> Result<Arc<SledEngine>, BuildError> {
    let data_dir = settings.storage.data_dir.clone();
    // Recovery reads files, so it must not block a thread of the async runtime.
    let opened = tokio::task::spawn_blocking(move || {
        permissions::protect(&data_dir)?;
        SledEngine::open(&data_dir, SledOptions::default())
    });
    let opened = opened.await;
    match opened {
        Ok(opened) => Ok(Arc::new(opened?)),
        Err(panic) => std::panic::resume_unwind(panic.into_panic()),
    }
}

/// How long a command may take to make its last commit and release the data directory.
pub(crate) const STOP_DEADLINE: Duration = Duration::from_secs(15);

/// Makes the last commit and releases the data directory.
pub(crate) async fn close_engine(engine: Arc<SledEngine>, deadline: Duration) -> Result<(), Ended> {
    let closing = tokio::task::spawn_blocking(move || engine.close());
    match tokio::time::timeout(deadline, closing).await {
        Ok(Ok(Ok(()))) => Ok(()),
        Ok(Ok(Err(failure))) => Err(Ended::NotClosed(failure.to_string())),
        Ok(Err(panic)) => Err(Ended::NotClosed(panic.to_string())),
        Err(_) => Err(Ended::NotClosed("the last commit took too long".to_owned())),
    }
}

/// Opens the operator's list of breached passwords, if the settings name one.
pub(crate) fn breached_list(settings: &Settings) -> Result<Option<Arc<dyn BreachedPasswords>>, BuildError> {
    match &settings.passwords.breached_file {
        Some(path) => Ok(Some(Arc::new(BreachedList::open(path)?))),
        None => Ok(None),
    }
}

/// Returns the configured secret, or else the one in the data directory, which is created if there is none.
fn secret(
    settings: &Settings,
    configured: Option<&Secret>,
    file: &'static str,
    ambient: &Ambient,
) -> Result<Secret, BuildError> {
    match configured {
        Some(secret) => Ok(secret.clone()),
        None => secrets::load_or_create(&settings.storage.data_dir, file, &*ambient.entropy)
            .map_err(|source| BuildError::Secret { file, source }),
    }
}

/// Returns the settings of the password hasher.
pub(crate) fn hasher_settings(settings: &Settings) -> HasherSettings {
    HasherSettings {
        threads: settings.passwords.hash_threads,
        backend: settings.passwords.hash_backend,
        cost: HashCost {
            memory_kib: settings.passwords.hash_memory_kib,
            iterations: settings.passwords.hash_iterations,
        },
        queue: settings.passwords.hash_queue,
        deadline: settings.passwords.hash_deadline,
    }
}

/// Returns the schedule of backups, if the settings have one.
fn backup_plan(settings: &Settings, backups: &Arc<Backups>) -> Option<BackupPlan> {
    let every = settings.backup.every?;
    let dir = settings.backup.dir.clone().unwrap_or_else(|| settings.storage.data_dir.join("backups"));
    let shelf = Shelf::new(Arc::clone(backups), dir, settings.backup.keep, settings.storage.min_free);
    Some(BackupPlan { every, vault: Arc::new(shelf) })
}

/// Returns the rules for new passwords.
pub(crate) fn password_policy(settings: &Settings) -> PasswordPolicy {
    PasswordPolicy { min_score: settings.passwords.min_score }
}

/// Returns the limits of requests and of failed attempts.
pub(crate) fn rate_limits(settings: &Settings) -> RateLimits {
    let quota = |rate: Rate| RateQuota { permits: rate.permits, per: rate.per };
    RateLimits {
        public: quota(settings.limits.public),
        private: quota(settings.limits.private),
        account_failures: settings.limits.login_failures,
        address_failures: settings.limits.address_failures,
        networks: ClientNetworks {
            ipv6_prefix: settings.http.ipv6_prefix,
            allow: settings.limits.allow.clone(),
            deny: settings.limits.deny.clone(),
        },
    }
}

fn system_settings(settings: &Settings, secret_key: Secret) -> SystemSettings {
    SystemSettings {
        tokens: TokenSettings {
            algorithm: settings.tokens.algorithm,
            secret: secret_key,
            previous_secret: settings.tokens.previous_secret_key.clone(),
            lifetime: settings.tokens.access_token_lifetime,
            rotation: settings.tokens.key_rotation,
            issuer: settings.tokens.issuer.clone(),
            audience: settings.tokens.audience.clone(),
        },
        sessions: SessionPolicy {
            idle_timeout: settings.sessions.idle_timeout,
            remembered_idle_timeout: settings.sessions.remembered_idle_timeout,
            // If the settings give access tokens a longer lifetime than sessions, sessions get that lifetime too.
            lifetime: settings.sessions.lifetime.max(settings.tokens.access_token_lifetime),
            access_lifetime: settings.tokens.access_token_lifetime,
            refresh_grace: settings.sessions.refresh_grace,
            max_per_account: settings.sessions.max_per_account,
        },
        session_shards: settings.sessions.shards,
        accounts: AccountRules {
            first_user_is_admin: settings.accounts.first_user_is_admin,
            customer_account_self_service: settings.accounts.customer_account_self_service,
            reauth_window: settings.sessions.reauth_window,
            admin_reauth_window: settings.sessions.admin_reauth_window,
            require_email_verification: settings.accounts.require_email_verification,
            unverified_ttl: settings.accounts.unverified_ttl,
            recovery_mode: settings.accounts.recovery_mode,
            enumeration_safe_registration: settings.accounts.enumeration_safe_registration,
            verification_ttl: settings.accounts.verification_ttl,
            recovery_ttl: settings.accounts.recovery_ttl,
            address_change_ttl: settings.accounts.address_change_ttl,
            undo_ttl: settings.accounts.undo_ttl,
            default_locale: settings.mail.locale,
        },
        hasher: hasher_settings(settings),
        passwords: password_policy(settings),
        limits: rate_limits(settings),
        mailer: MailerSettings {
            concurrency: settings.mail.concurrency,
            send_timeout: settings.mail.send_timeout,
            max_attempts: settings.mail.max_attempts,
        },
        audit: AuditSettings { retention: settings.audit.retention, max_bytes: settings.audit.max_bytes },
        // The embedded engine belongs to one process, which has one clock.
        clock_skew: Duration::ZERO,
        min_free_disk: settings.storage.min_free,
    }
}
