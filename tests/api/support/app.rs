use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use doorward::settings::Settings;
use doorward::{Ambient, App, Ended};
use doorward_actors::ports::Clock as _;
use doorward_actors::testing::{ManualClock, MemoryMail, SeededEntropy};
use doorward_actors::{Handles, MailKind, OutgoingMail, Secret};
use reqwest::Method;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::client::{Answer, Person};
use super::{documented, leaks};

/// The service token of the settings in these tests.
pub(crate) const SERVICE_TOKEN: &str = "test-service-token-0123456789abcdef";

/// The secret that signs tokens in these tests.
const SECRET_KEY: &str = "test-secret-key-0123456789abcdef";

/// A running application with its own data directory, listener and clock. It stops when this value is dropped. A test
/// that checks the orderly stop calls [`TestApp::stop`].
pub(crate) struct TestApp {
    pub(crate) address: SocketAddr,
    /// The address on which metrics are served without a token.
    pub(crate) metrics_address: Option<SocketAddr>,
    /// Only the test moves this clock.
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) handles: Handles,
    /// The mail transport. It keeps the mails for the test to read.
    pub(crate) mail: Arc<MemoryMail>,
    client: reqwest::Client,
    settings: Settings,
    /// The data directory, removed with the application. `None` if the test owns the directory.
    directory: Option<TempDir>,
    stop: Option<oneshot::Sender<()>>,
    running: Option<JoinHandle<Result<(), Ended>>>,
}

/// The settings and the environment of an application that is to start.
pub(crate) struct TestAppBuilder {
    settings: Settings,
    clock: Arc<ManualClock>,
    mail: Arc<MemoryMail>,
    directory: Option<TempDir>,
}

impl TestApp {
    /// Starts an application with cheap hashes, generous limits and otherwise the default settings.
    pub(crate) async fn spawn() -> Self {
        Self::builder().spawn().await
    }

    pub(crate) fn builder() -> TestAppBuilder {
        leaks::watch();
        [SERVICE_TOKEN, SECRET_KEY].into_iter().for_each(leaks::note_secret);
        let directory = TempDir::new().unwrap();
        let mut settings = Settings::default();
        settings.http.port = 0;
        // All clients of a test share one address.
        settings.http.max_connections_per_address = settings.http.max_connections;
        settings.storage.data_dir = directory.path().into();
        settings.tokens.secret_key = Some(Secret::new(SECRET_KEY.to_owned()));
        settings.tokens.service_token = Some(Secret::new(SERVICE_TOKEN.to_owned()));
        settings.passwords.hash_memory_kib = 64;
        settings.passwords.hash_iterations = 1;
        settings.limits.public.permits = 1_000_000.try_into().unwrap();
        settings.limits.private.permits = 1_000_000.try_into().unwrap();
        settings.sessions.shards = 2;
        let (clock, mail) = (Arc::new(ManualClock::new()), Arc::new(MemoryMail::new()));
        TestAppBuilder { settings, clock, mail, directory: Some(directory) }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Returns a request that the test completes itself.
    pub(crate) fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, self.url(path))
    }

    /// Sends a request and reads the whole answer. Fails if `openapi.json` does not document the answer.
    pub(crate) async fn send(&self, request: reqwest::RequestBuilder) -> Answer {
        let (client, request) = request.build_split();
        let request = request.unwrap();
        let (method, path) = (request.method().to_string(), request.url().path().to_owned());
        let answer = Answer::read(client.execute(request).await.unwrap()).await;
        documented::check(&method, &path, &answer);
        answer
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(self.request(Method::GET, path)).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        leaks::note(body);
        self.send(self.request(Method::POST, path).json(body)).await
    }

    /// Sends a request with a bearer token and, unless `body` is null, a JSON body.
    pub(crate) async fn call(&self, method: Method, path: &str, token: &str, body: &Value) -> Answer {
        leaks::note(body);
        let request = self.request(method, path).bearer_auth(token);
        self.send(if body.is_null() { request } else { request.json(body) }).await
    }

    /// Returns a request with a form body.
    pub(crate) fn form(&self, path: &str, form: &str) -> reqwest::RequestBuilder {
        let request = self.request(Method::POST, path).header("Content-Type", "application/x-www-form-urlencoded");
        request.body(form.to_owned())
    }

    /// Checks a user's token as a service does.
    pub(crate) async fn verify(&self, token: &str) -> Answer {
        let request = self.request(Method::POST, "/verify").header("X-Service-Token", SERVICE_TOKEN);
        self.send(request.bearer_auth(token)).await
    }

    /// Registers a person with this name. The first person of an application is its administrator.
    pub(crate) async fn register(&self, name: &str) -> Person {
        let person = Person::named(name);
        let answer = self.post("/register", &person.registration()).await;
        assert_eq!(answer.status, 201, "{answer:?}");
        Person { id: answer.body["id"].as_u64().unwrap(), ..person }
    }

    /// Registers a person and logs them in.
    pub(crate) async fn register_and_login(&self, name: &str) -> (Person, String) {
        let person = self.register(name).await;
        let token = self.login(&person).await;
        (person, token)
    }

    pub(crate) async fn login(&self, person: &Person) -> String {
        let answer = self.try_login(person).await;
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body["access_token"].as_str().unwrap().to_owned()
    }

    pub(crate) async fn try_login(&self, person: &Person) -> Answer {
        self.post("/login", &json!({"email": person.email, "password": person.password})).await
    }

    /// Sends every mail that is due and returns all mails sent so far to this address.
    pub(crate) async fn mails_to(&self, address: &str) -> Vec<OutgoingMail> {
        self.handles.tend_mail().await.unwrap();
        self.mail.sent().into_iter().filter(|mail| mail.to.as_str() == address).collect()
    }

    /// Returns the token in the newest mail of this kind to this address.
    pub(crate) async fn token_from(&self, address: &str, kind: MailKind) -> String {
        let mails = self.mails_to(address).await;
        let newest = mails.iter().rfind(|mail| mail.kind == kind).unwrap();
        let token = newest.values.token.as_ref().unwrap().expose();
        leaks::note_secret(token);
        token.to_owned()
    }

    /// Sends a request from another address of this host.
    pub(crate) async fn post_from(&self, client: std::net::IpAddr, path: &str, body: &Value) -> Answer {
        leaks::note(body);
        let from = reqwest::Client::builder().local_address(client).build().unwrap();
        Answer::read(from.post(self.url(path)).json(body).send().await.unwrap()).await
    }

    /// Moves the clock of the application forward. The timers of the runtime do not move.
    pub(crate) fn pass(&self, time: Duration) {
        self.clock.advance(time);
    }

    /// Stops the application in an orderly way.
    pub(crate) async fn stop(mut self) -> Result<(), Ended> {
        self.stop_in_place().await
    }

    /// Stops the application and starts it again with the same data directory, settings and clock.
    pub(crate) async fn restart(mut self) -> Self {
        self.stop_in_place().await.unwrap();
        let directory = self.directory.take();
        let (settings, clock, mail) = (self.settings.clone(), Arc::clone(&self.clock), Arc::clone(&self.mail));
        TestAppBuilder { settings, clock, mail, directory }.spawn().await
    }

    /// Waits until the application ends by itself and returns the reason.
    pub(crate) async fn ended(mut self) -> Result<(), Ended> {
        self.running.take().unwrap().await.unwrap()
    }

    async fn stop_in_place(&mut self) -> Result<(), Ended> {
        drop(self.stop.take());
        self.running.take().unwrap().await.unwrap()
    }
}

impl TestAppBuilder {
    /// Changes settings before the start.
    pub(crate) fn with(mut self, change: impl FnOnce(&mut Settings)) -> Self {
        change(&mut self.settings);
        self
    }

    /// Uses a directory of the test, which outlives the application.
    pub(crate) fn data_dir(mut self, path: &Path) -> Self {
        self.settings.storage.data_dir = path.into();
        self.directory = None;
        self
    }

    /// Starts with the clock at this time, in seconds since the Unix epoch.
    pub(crate) fn at(self, seconds: u64) -> Self {
        let now = u64::try_from(self.clock.now().as_seconds()).unwrap();
        self.clock.advance(Duration::from_secs(seconds - now));
        self
    }

    /// Stops an application and starts this one in its place, with the same clock and mail transport.
    pub(crate) async fn continuing(self, mut app: TestApp) -> TestApp {
        app.stop_in_place().await.unwrap();
        Self { clock: Arc::clone(&app.clock), mail: Arc::clone(&app.mail), ..self }.spawn().await
    }

    pub(crate) async fn spawn(self) -> TestApp {
        let Self { settings, clock, mail, directory } = self;
        // Two starts on one directory need different session ids, as they would have by chance.
        let seed = u64::try_from(std::ptr::from_ref(&*clock).addr()).unwrap() ^ rand_seed();
        let ambient = Ambient {
            clock: Arc::clone(&clock) as _,
            entropy: Arc::new(SeededEntropy::new(seed)),
            mail: Some(Arc::clone(&mail) as _),
        };
        let app = App::build_with(settings.clone(), ambient).await.unwrap();
        let (stop, stopped) = oneshot::channel();
        let (address, metrics_address, handles) = (app.address(), app.metrics_address(), app.handles().clone());
        let running = tokio::spawn(app.run_until(async move {
            let _ = stopped.await;
        }));
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        TestApp {
            address,
            metrics_address,
            clock,
            handles,
            mail,
            client,
            settings,
            directory,
            stop: Some(stop),
            running: Some(running),
        }
    }
}

fn rand_seed() -> u64 {
    static NEXT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
}
