//! The exchange of refresh tokens.

use std::time::Duration;

use super::UserHandle;
use crate::ask::Unavailable;
use crate::domain::account::{Account, AccountId};
use crate::domain::secret::Secret;
use crate::domain::session::Origin;
use crate::rate_limiter::Limited;
use crate::session::Principal;

/// The outcome of an exchange.
#[derive(Debug, Clone)]
pub struct Refreshed {
    /// The account of the session.
    pub account: Account,
    /// The next access token.
    pub access_token: Secret,
    /// How long the access token is valid.
    pub expires_in: Duration,
    /// The next refresh token. The presented one has been replaced.
    pub refresh_token: Secret,
}

/// Why a refresh token was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefreshError {
    /// It was never issued or was replaced, or its session or account has ended. The client is not told which.
    Dead,
    /// There were too many failed attempts before this one, which was therefore not checked.
    Limited(Limited),
    /// It could not be checked now; the client may try again.
    Unavailable(Unavailable),
}

impl UserHandle {
    /// Exchanges a refresh token for the next access token and the next refresh token. Counts as a use of the session.
    pub async fn refresh(&self, token: Secret, origin: Origin) -> Result<Refreshed, RefreshError> {
        self.ask(move |flows| async move { flows.refresh(token, origin).await }).await?
    }

    /// Returns the account of a refresh token, if the token was issued to a session that is still stored.
    /// Does not check whether the session is alive or the token was replaced.
    pub async fn owner_of_refresh(&self, token: Secret) -> Result<Option<AccountId>, Unavailable> {
        self.ask(move |flows| async move { flows.owner_of_refresh(token).await }).await?
    }

    /// Returns the principal of a refresh token in order to end its session, even if the token was replaced.
    /// Does not count as a use of the session.
    pub async fn holder_of_refresh(&self, token: Secret, origin: Origin) -> Result<Principal, RefreshError> {
        self.ask(move |flows| async move { flows.holder_of_refresh(token, origin).await }).await?
    }

    /// Returns the same for a client that has already authenticated, so nothing is counted against its address.
    /// `None` if the token is not valid.
    pub async fn look_at_refresh(&self, token: Secret) -> Result<Option<Principal>, Unavailable> {
        self.ask(move |flows| async move { flows.look_at_refresh(token).await }).await?
    }
}
