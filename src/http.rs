//! The HTTP front end: the accept loop, the steps that every request takes, and the route families.
//!
//! This module knows the actors' handles but not the store behind them.

mod access;
mod admission;
mod closed_sets;
mod edge;
mod error;
mod families;
mod feeds;
mod fields;
mod figures;
mod form;
mod json;
mod links;
mod metrics;
mod negotiation;
mod openapi;
mod pages;
mod reader;
mod routes;
mod shown;
mod wire;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use doorward_actors::{Email, Handles, SecretDigest};
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use warp::Filter;

use crate::backup::live::Backups;
use admission::Admission;
pub(crate) use edge::cors::{Cors, SharedCors};
use edge::extract::RequestContext;
use edge::server::serve;
pub(crate) use edge::server::{ServerSettings, listen};
pub(crate) use edge::tls::{Tls, TlsError};
use error::ApiError;
use families::audit::Readers;
use families::docs::Docs;
pub use families::route_table;
use figures::RequestFigures;
use routes::Table;
pub use routes::{Access, Class, Documented, RouteInfo};

/// The state that all routes share.
pub(crate) struct Api {
    handles: Handles,
    rules: ApiRules,
    admission: Admission,
    readers: Readers,
    /// The documentation, once somebody has read it.
    docs: OnceLock<Docs>,
    figures: Arc<RequestFigures>,
    /// Makes backups. `None` in tests of routes alone, whose store has no data directory.
    backups: Option<Arc<Backups>>,
}

/// The operator's settings for answers.
#[derive(Debug, Clone)]
pub(crate) struct ApiRules {
    /// For how long a service may cache the answer of `/verify`.
    pub(crate) verify_cache: Duration,
    /// Whether the documentation is served.
    pub(crate) docs: bool,
    /// The URL under which users reach this service, without a trailing slash.
    pub(crate) public_url: String,
    /// Whether an address that no mail can be sent to is refused. If not, the answer has a warning.
    pub(crate) refuse_unreachable: bool,
    /// The longest that an answer may wait for an event.
    pub(crate) longest_wait: Duration,
}

/// The value of `PUBLIC_URL` if it is not set.
const UNKNOWN_URL: &str = "http://127.0.0.1:8000";

impl ApiRules {
    /// Returns the URL under which users reach this service, if the operator has set it.
    fn known_url(&self) -> Option<&str> {
        Some(self.public_url.as_str()).filter(|url| *url != UNKNOWN_URL)
    }

    /// Returns the path of the public URL, without a trailing slash. Every path that a browser receives must begin with it.
    fn base_path(&self) -> &str {
        let after_scheme = self.public_url.split_once("://").map_or("", |(_, rest)| rest);
        after_scheme.find('/').map_or("", |at| &after_scheme[at..])
    }
}

impl Default for ApiRules {
    fn default() -> Self {
        let public_url = UNKNOWN_URL.to_owned();
        Self {
            verify_cache: Duration::ZERO,
            docs: true,
            public_url,
            refuse_unreachable: false,
            longest_wait: Duration::from_secs(24),
        }
    }
}

fn new_figures() -> Arc<RequestFigures> {
    Arc::new(RequestFigures::new(Table(route_table())))
}

impl Api {
    /// Creates the API in front of these actors. `service_token` is the token from the settings.
    pub(crate) fn new(
        handles: Handles,
        service_token: SecretDigest,
        rules: ApiRules,
        backups: Arc<Backups>,
    ) -> Arc<Self> {
        handles.services.admit_built_in(service_token);
        let (admission, readers, docs) = (Admission::default(), Readers::default(), OnceLock::new());
        Arc::new(Self { handles, rules, admission, readers, docs, figures: new_figures(), backups: Some(backups) })
    }

    /// Creates the same with another heartbeat of streams.
    #[cfg(test)]
    fn beating(handles: Handles, service_token: SecretDigest, heartbeat: Duration) -> Arc<Self> {
        handles.services.admit_built_in(service_token);
        let (rules, readers) = (ApiRules::default(), Readers::beating(heartbeat));
        let (admission, docs) = (Admission::default(), OnceLock::new());
        Arc::new(Self { handles, rules, admission, readers, docs, figures: new_figures(), backups: None })
    }

    /// Returns the warning for a request that sets this address: no mail can be sent to it, as far as the mailer knows.
    ///
    /// # Errors
    /// Such an address is refused if the settings say so.
    fn warning_of(&self, email: &Email) -> Result<Option<&'static str>, ApiError> {
        match self.handles.mailer.reaches(email) {
            true => Ok(None),
            false if self.rules.refuse_unreachable => Err(ApiError::UNREACHABLE),
            false => Ok(Some(error::UNREACHABLE)),
        }
    }

    /// Returns the settings of a listener in front of this API, with its routes and its count of requests.
    fn over_routes(&self, mut settings: ServerSettings) -> ServerSettings {
        settings.edge.routes = Table(route_table());
        settings.edge.figures = Arc::clone(&self.figures);
        settings
    }

    /// Ends the answers that would go on forever, so that the listener can stop.
    pub(crate) fn end_streams(&self) {
        self.readers.end();
    }
}

/// Serves the API until `shutdown` resolves; see [`serve`].
pub(crate) async fn serve_api(
    listener: TcpListener,
    api: &Arc<Api>,
    settings: ServerSettings,
    shutdown: impl Future<Output = ()>,
) -> bool {
    let settings = api.over_routes(settings);
    let api = Arc::clone(api);
    let all = warp::ext::get::<Arc<RequestContext>>().and(warp::body::stream()).then(
        move |context: Arc<RequestContext>, body| {
            let api = Arc::clone(&api);
            async move {
                context.keep_body(body);
                let answer = routes::respond(&api, &context).await;
                context.take_body();
                answer
            }
        },
    );
    let all = all.recover(error::recover).unify();
    serve(listener, TowerToHyperService::new(warp::service(all)), settings, shutdown).await
}

/// Serves the route of the metrics alone, which then needs no token, until `shutdown` resolves; see [`serve`].
pub(crate) async fn serve_metrics(
    listener: TcpListener,
    api: &Arc<Api>,
    settings: ServerSettings,
    shutdown: impl Future<Output = ()>,
) -> bool {
    let settings = api.over_routes(settings);
    let api = Arc::clone(api);
    let route = warp::ext::get::<Arc<RequestContext>>().then(move |context: Arc<RequestContext>| {
        let api = Arc::clone(&api);
        async move { families::metrics::openly(&api, &context).await }
    });
    let route = route.recover(error::recover).unify();
    serve(listener, TowerToHyperService::new(warp::service(route)), settings, shutdown).await
}

/// Returns `openapi.json`, for tests that compare every answer with it.
#[doc(hidden)]
#[must_use]
pub fn openapi_document() -> serde_json::Value {
    // The document consists of texts and maps, which always serialise.
    serde_json::to_value(openapi::document(None)).unwrap_or_default()
}

/// Serves a route that does nothing on the accept loop, until the process ends. Benchmarks compare the other routes with it.
#[doc(hidden)]
pub async fn serve_bare(listener: TcpListener) {
    let settings = ServerSettings::plain(8192, Duration::from_secs(30));
    let service = TowerToHyperService::new(warp::service(warp::path!("bare").map(|| "bare".to_owned())));
    serve(listener, service, settings, std::future::pending()).await;
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod family_tests;
