//! Decides whether a request may go on: admission, limits, authentication and authorisation, in this order, after the path and
//! before the body.

use std::sync::Arc;

use doorward_actors::Secret;
use doorward_actors::{
    ActingError, AuditEvent, AuditRefusal, AuthenticateError, HashLane, Limited, Principal, ProtectedResource, Role,
    SecretDigest, Service, ServiceScope, Unavailable,
};
use warp::reply::{Reply as _, Response};

use crate::http::Api;
use crate::http::edge::extract::{RequestContext, ServiceCredential};
use crate::http::error::ApiError;
use crate::http::routes::Class;
use crate::http::wire::current_password;

impl Api {
    /// Runs the work of a request within the bounds of its class.
    pub(in crate::http) async fn admit(
        &self,
        context: &RequestContext,
        work: impl Future<Output = Result<Response, ApiError>>,
    ) -> Response {
        let answer = self.enter(context, work).await.map_err(|error| self.timed(context.class(), error));
        if let Err(ApiError::Limited(limited)) = &answer {
            context.note(limited.standing);
        }
        answer.unwrap_or_else(ApiError::into_response)
    }

    /// Returns the error. For a 503 of a class that hashes, the wait covers the hashes that are queued now.
    fn timed(&self, class: Class, error: ApiError) -> ApiError {
        let lane = match class {
            Class::Login => HashLane::Verification,
            Class::Credential => HashLane::Creation,
            _ => return error,
        };
        match error {
            ApiError::Unavailable(after) => ApiError::Unavailable(after.max(self.handles.hasher.wait(lane))),
            other => other,
        }
    }

    async fn enter(
        &self,
        context: &RequestContext,
        work: impl Future<Output = Result<Response, ApiError>>,
    ) -> Result<Response, ApiError> {
        self.handles.limits.check_denied(context.address())?;
        context.take_place(self.admission.enter(context.class())?);
        let answer = work.await;
        context.take_place(None);
        answer
    }

    /// Admits anyone. The request is counted by address.
    pub(in crate::http) fn anyone(&self, context: &RequestContext) -> Result<(), ApiError> {
        if let Some(standing) = self.handles.limits.check_public(context.address())? {
            context.note(standing);
        }
        Ok(())
    }

    /// Admits a reader of the documentation. The request is counted by address in a quota of its own.
    pub(in crate::http) fn docs_reader(&self, context: &RequestContext) -> Result<(), ApiError> {
        let limits = &self.handles.limits;
        let counted = limits.check_denied(context.address()).and_then(|()| limits.check_docs(context.address()));
        counted.map(|standing| standing.into_iter().for_each(|standing| context.note(standing))).map_err(|limited| {
            context.note(limited.standing);
            limited.into()
        })
    }

    /// Authenticates a user with a live session. The request is not counted.
    pub(in crate::http) async fn authenticate(&self, context: &RequestContext) -> Result<Principal, ApiError> {
        let principal = self.handles.sessions.authenticate(context.bearer()?).await?;
        context.speaks_for(principal.account.id);
        Ok(principal)
    }

    /// Authenticates a user with a live session. The request is counted by account.
    pub(in crate::http) async fn user(&self, context: &RequestContext) -> Result<Principal, ApiError> {
        let principal = self.authenticate(context).await?;
        context.note(self.handles.limits.check_private(principal.account.id)?);
        Ok(principal)
    }

    /// Authenticates an administrator with a live session. A refusal is recorded in the audit log.
    pub(in crate::http) async fn admin(&self, context: &RequestContext) -> Result<Principal, ApiError> {
        let found = self.authenticate(context).await;
        if matches!(found, Err(ApiError::Unauthenticated { token_sent: true })) {
            self.handles.audit.denied(None, AuditRefusal::DeadToken, context.origin());
        }
        let principal = found?;
        if principal.account.role == Role::Admin {
            return Ok(principal);
        }
        self.handles.audit.denied(Some(&principal), AuditRefusal::AdminOnly, context.origin());
        Err(ApiError::AdminOnly)
    }

    /// Authenticates an administrator who sent the password or logged in recently enough (S77). Called once the body is there: while it
    /// arrived, the session may have ended and the role may have changed (S37, S38).
    pub(in crate::http) async fn proven_admin(
        &self,
        context: &RequestContext,
        event: AuditEvent,
        typed: Option<Secret>,
    ) -> Result<Principal, ApiError> {
        let current = current_password(typed)?;
        let admin = self.admin(context).await?;
        Ok(self.handles.users.prove(&admin, event, current, context.origin()).await?)
    }

    /// Returns why an administrator's change was refused, if the session ended or lost its role during the change.
    pub(in crate::http) async fn revoked_admin(&self, context: &RequestContext) -> ApiError {
        self.admin(context).await.err().unwrap_or(ApiError::Unauthenticated { token_sent: true })
    }

    /// What an administrator gets whose request was not carried out.
    pub(in crate::http) async fn not_done(&self, context: &RequestContext, error: ActingError) -> ApiError {
        match error {
            ActingError::Revoked => self.revoked_admin(context).await,
            ActingError::Unavailable(unavailable) => unavailable.into(),
        }
    }

    /// The service that showed its token in `X-Service-Token`, if it is a good one.
    pub(in crate::http) async fn service_of(&self, context: &RequestContext) -> Result<Option<Arc<Service>>, ApiError> {
        match context.service_token() {
            Some(secret) => Ok(self.handles.services.find(secret).await?),
            None => Ok(None),
        }
    }

    /// Authenticates a service with this scope, by `X-Service-Token`. Others get 404 and are counted by address, so that secrets
    /// cannot be guessed at full speed (S22).
    pub(in crate::http) async fn a_service(
        &self,
        context: &RequestContext,
        scope: ServiceScope,
    ) -> Result<Arc<Service>, ApiError> {
        let Some(service) = self.service_of(context).await? else { return Err(self.hidden(context).await) };
        self.must_have(&service, scope, context)?;
        Ok(service)
    }

    /// Authenticates a service with this scope that may send its token in one of several ways. Others get 401 and are counted by
    /// address.
    pub(in crate::http) async fn service(
        &self,
        context: &RequestContext,
        scope: ServiceScope,
    ) -> Result<Asking, ApiError> {
        let (token, name) = match context.service_credential()? {
            ServiceCredential::None => return Err(self.unknown_service(context, false, false).await),
            ServiceCredential::Unreadable { basic } => return Err(self.unknown_service(context, basic, true).await),
            ServiceCredential::Token(token) => (token, None),
            ServiceCredential::Named { name, token } => (token, Some(name)),
        };
        let digest = SecretDigest::of(&token);
        let found = self.handles.services.find_digest(&digest).await?;
        let is_called = |service: &Arc<Service>| name.as_deref().is_none_or(|name| service.name().as_str() == name);
        let Some(service) = found.filter(is_called) else {
            return Err(self.unknown_service(context, name.is_some(), true).await);
        };
        self.must_have(&service, scope, context)?;
        Ok(Asking { service, digest })
    }

    /// Whether a service is still valid and has the scope.
    pub(in crate::http) async fn still_may(&self, digest: &SecretDigest, scope: ServiceScope) -> bool {
        let found = self.handles.services.find_digest(digest).await;
        found.is_ok_and(|service| service.is_some_and(|service| service.may(scope)))
    }

    /// Fails if the service lacks the scope. The refusal is recorded in the audit log.
    pub(in crate::http) fn must_have(
        &self,
        service: &Service,
        scope: ServiceScope,
        context: &RequestContext,
    ) -> Result<(), ApiError> {
        if service.may(scope) {
            return Ok(());
        }
        self.handles.audit.service_denied(service.name(), context.origin());
        // A bearer token beside `X-Service-Token` belongs to a user, so the scope is not missing from it.
        let bearer = !context.claims_to_be_a_service() && context.bearer().is_ok();
        Err(ApiError::ScopeMissing { bearer })
    }

    /// What somebody gets who showed no good service token where one is asked for. A wrong one is put on record.
    pub(in crate::http) async fn unknown_service(&self, context: &RequestContext, basic: bool, sent: bool) -> ApiError {
        if sent {
            self.handles.audit.denied(None, AuditRefusal::WrongServiceToken, context.origin());
        }
        self.counted(context).await.err().unwrap_or(ApiError::ServiceUnauthenticated { basic, sent })
    }

    /// Counts a client that is no service by its address.
    async fn counted(&self, context: &RequestContext) -> Result<(), ApiError> {
        self.anyone(context)?;
        Ok(self.handles.limits.count_failure(ProtectedResource::ServiceToken, context.address()).await??)
    }

    /// Authenticates an administrator with a live session, or a service with this scope. A service may send its token in
    /// `X-Service-Token` or as bearer, because Prometheus can only do the latter. Others get 404.
    pub(in crate::http) async fn admin_or_hidden_service(
        &self,
        context: &RequestContext,
        scope: ServiceScope,
    ) -> Result<(), ApiError> {
        if let Some(service) = self.service_of(context).await? {
            return self.must_have(&service, scope, context);
        }
        if !context.claims_to_be_a_service()
            && let Ok(bearer) = context.bearer()
            && let Some(service) = self.handles.services.find(bearer.as_bytes()).await?
        {
            return self.must_have(&service, scope, context);
        }
        // A wrong service token is counted whatever else comes along, so that no bearer makes guesses free (S22).
        let is_wrong = context.claims_to_be_a_service();
        let wrong = if is_wrong { Some(self.hidden(context).await) } else { None };
        let is_admin = match self.authenticate(context).await {
            Ok(principal) if principal.account.role == Role::Admin => true,
            Ok(principal) => {
                self.handles.audit.denied(Some(&principal), AuditRefusal::AdminOnly, context.origin());
                false
            }
            Err(unavailable @ ApiError::Unavailable(_)) => return Err(unavailable),
            Err(_) => false,
        };
        match (is_admin, wrong) {
            (true, _) => Ok(()),
            (false, Some(counted)) => Err(counted),
            (false, None) => Err(self.hidden(context).await),
        }
    }

    /// What somebody gets who may not know of a route. A wrong service token is put on record.
    pub(in crate::http) async fn hidden(&self, context: &RequestContext) -> ApiError {
        if context.claims_to_be_a_service() {
            self.handles.audit.denied(None, AuditRefusal::WrongServiceToken, context.origin());
        }
        self.counted(context).await.err().unwrap_or(ApiError::NotFound)
    }
}

/// A service that makes a request, and the hash of the secret that it sent.
pub(in crate::http) struct Asking {
    pub(in crate::http) service: Arc<Service>,
    pub(in crate::http) digest: SecretDigest,
}

impl From<Unavailable> for ApiError {
    fn from(unavailable: Unavailable) -> Self {
        Self::Unavailable(unavailable.retry_after)
    }
}

impl From<Limited> for ApiError {
    fn from(limited: Limited) -> Self {
        Self::Limited(limited)
    }
}

impl From<AuthenticateError> for ApiError {
    fn from(error: AuthenticateError) -> Self {
        match error {
            AuthenticateError::Dead => Self::Unauthenticated { token_sent: true },
            AuthenticateError::Unavailable(unavailable) => unavailable.into(),
        }
    }
}
