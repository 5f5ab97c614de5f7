//! Who may go on: admission, limits, authentication and authorisation, in this order, after the path and before the
//! body.

use doorward_actors::{AuditRefusal, AuthenticateError, Guarded, HashLane, Limited, Principal, Role, Unavailable};
use warp::reply::{Reply as _, Response};

use super::Api;
use super::error::ApiError;
use super::extract::RequestContext;
use super::routes::Class;

impl Api {
    /// Does the work of a request within the bound of its class.
    pub(super) async fn admit(
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

    /// The error, with the time that the hashing threads need for what waits now, if that is why the client is to come back.
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

    /// Anyone, counted by address.
    pub(super) fn anyone(&self, context: &RequestContext) -> Result<(), ApiError> {
        if let Some(standing) = self.handles.limits.check_public(context.address())? {
            context.note(standing);
        }
        Ok(())
    }

    /// A user with a live session, not counted.
    pub(super) async fn authenticate(&self, context: &RequestContext) -> Result<Principal, ApiError> {
        let principal = self.handles.sessions.authenticate(context.bearer()?).await?;
        context.speaks_for(principal.account.id);
        Ok(principal)
    }

    /// A user with a live session, counted by account.
    pub(super) async fn user(&self, context: &RequestContext) -> Result<Principal, ApiError> {
        let principal = self.authenticate(context).await?;
        context.note(self.handles.limits.check_private(principal.account.id)?);
        Ok(principal)
    }

    /// An administrator with a live session. Who is kept out is put on record.
    pub(super) async fn admin(&self, context: &RequestContext) -> Result<Principal, ApiError> {
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

    /// Why an administrator's change was not made, whose session ended or lost its role while it was being made.
    pub(super) async fn revoked_admin(&self, context: &RequestContext) -> ApiError {
        self.admin(context).await.err().unwrap_or(ApiError::Unauthenticated { token_sent: true })
    }

    /// A service. To anyone else the route is not there, and asking for it counts by address, so that secrets are not
    /// guessed at full speed (S22).
    pub(super) fn a_service(&self, context: &RequestContext) -> Result<(), ApiError> {
        if context.is_service(&self.service_token) {
            return Ok(());
        }
        Err(self.hidden(context))
    }

    /// What somebody gets who may not know of a route. A wrong service token is put on record.
    pub(super) fn hidden(&self, context: &RequestContext) -> ApiError {
        if context.claims_to_be_a_service() {
            self.handles.audit.denied(None, AuditRefusal::WrongServiceToken, context.origin());
        }
        let counted = self
            .anyone(context)
            .and_then(|()| Ok(self.handles.limits.count_failure(Guarded::ServiceToken, context.address())?));
        counted.err().unwrap_or(ApiError::NotFound)
    }
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
