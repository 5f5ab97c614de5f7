//! Long answers, and who may read them: administrators, and services with a scope.

use std::sync::Arc;
use std::time::Duration;

use doorward_actors::{AuditReader, Principal, Role, SecretDigest, ServiceName, ServiceScope};
use futures_util::Stream;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use warp::reply::{Reply as _, Response};

use crate::http::Api;
use crate::http::edge::extract::RequestContext;
use crate::http::edge::pieces::Piece;
use crate::http::error::ApiError;

/// Who reads a long answer. Keeps what is needed to check again whether they still may.
pub(in crate::http) enum Reader {
    Admin { bearer: String, principal: Box<Principal> },
    Service { name: ServiceName, digest: SecretDigest, scope: ServiceScope },
}

impl Reader {
    /// Admits an administrator, or a service with this scope.
    pub(in crate::http) async fn of(
        api: &Api,
        context: &RequestContext,
        scope: ServiceScope,
    ) -> Result<Self, ApiError> {
        let service = api.service_of(context).await?;
        if let (Some(service), Some(secret)) = (&service, context.service_token())
            && service.may(scope)
        {
            return Ok(Self::Service { name: service.name().clone(), digest: SecretDigest::of(secret), scope });
        }
        // A wrong service token is counted even if a bearer token is sent too. Otherwise a bearer would make guesses free (S22).
        let is_wrong = service.is_none() && context.claims_to_be_a_service();
        let wrong = if is_wrong { Some(api.unknown_service(context, false, true).await) } else { None };
        if context.has_bearer() || !context.claims_to_be_a_service() {
            let principal = Box::new(api.admin(context).await.map_err(|refused| match &wrong {
                Some(ApiError::Limited(limited)) => ApiError::Limited(*limited),
                _ => refused,
            })?);
            return Ok(Self::Admin { bearer: context.bearer()?.to_owned(), principal });
        }
        match service {
            Some(service) => {
                api.must_have(&service, scope, context)?;
                Err(ApiError::ScopeMissing { bearer: false })
            }
            None => Err(wrong.unwrap_or(ApiError::NotFound)),
        }
    }

    /// Whether they may still read. This does not count as a use of the session, because nobody needs to be there for a long answer.
    pub(in crate::http) async fn may_still_read(&self, api: &Api) -> bool {
        match self {
            Self::Admin { bearer, .. } => {
                let found = api.handles.sessions.look(bearer).await;
                found.is_ok_and(|principal| principal.account.role == Role::Admin)
            }
            Self::Service { digest, scope, .. } => api.still_may(digest, *scope).await,
        }
    }

    /// Resolves when they may no longer read. It checks this once per heartbeat.
    pub(in crate::http) async fn barred(&self, api: &Api) {
        loop {
            tokio::time::sleep(api.readers.heartbeat).await;
            if !self.may_still_read(api).await {
                return;
            }
        }
    }

    /// Returns who they are, for the audit log.
    pub(in crate::http) fn named(&self) -> AuditReader {
        match self {
            Self::Admin { principal, .. } => AuditReader::from(&**principal),
            Self::Service { name, .. } => AuditReader::Service(name.clone()),
        }
    }
}

/// What a client gets when all places are taken: it may retry in a minute, because a place is often free by then.
pub(in crate::http) const BUSY: ApiError = ApiError::Unavailable(Duration::from_mins(1));

/// Takes a place.
pub(in crate::http) fn place(places: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, ApiError> {
    Arc::clone(places).try_acquire_owned().map_err(|_| BUSY)
}

/// Returns an answer whose body is produced piece by piece.
pub(in crate::http) fn streamed(
    body: impl Stream<Item = Piece> + Send + Sync + 'static,
    media_type: &'static str,
) -> Response {
    let mut response = warp::reply::stream(body).into_response();
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    response
}

/// Returns the value of `Content-Disposition` for a file to be kept under this name.
pub(in crate::http) fn attachment(name: &str) -> Option<HeaderValue> {
    HeaderValue::from_str(&format!("attachment; filename=\"{name}\"")).ok()
}
