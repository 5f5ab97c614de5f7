//! Sessions that go on by their refresh tokens.

use std::time::Duration;

use super::UserHandle;
use super::message::Request;
use crate::ask::Unavailable;
use crate::domain::account::{Account, AccountId};
use crate::domain::secret::Secret;
use crate::domain::session::Origin;
use crate::rate_limiter::Limited;
use crate::session::Principal;

/// A session that goes on.
#[derive(Debug, Clone)]
pub struct Refreshed {
    /// Whose.
    pub account: Account,
    /// The next bearer token.
    pub access_token: Secret,
    /// How long it is good for.
    pub expires_in: Duration,
    /// With what the one after it is got. The refresh token that was shown is used up.
    pub refresh_token: Secret,
}

/// Why a refresh token was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefreshError {
    /// It was never issued, was replaced, or its session or account is over: the same to whoever asks.
    Dead,
    /// There were too many failed attempts before it; whether this one would have succeeded was not looked at.
    Limited(Limited),
    /// It could not be found out just now.
    Unavailable(Unavailable),
}

impl UserHandle {
    /// Exchanges a refresh token for the next access token and the next refresh token; a use of the session.
    pub async fn refresh(&self, token: Secret, origin: Origin) -> Result<Refreshed, RefreshError> {
        self.ask(origin, |reply| Request::Refresh { token, reply }).await?
    }

    /// Whose account a refresh token belongs to, if it was issued to a session that is still stored; whether that lives, and
    /// whether the token was replaced, is not looked at.
    pub async fn owner_of_refresh(&self, token: Secret, origin: Origin) -> Result<Option<AccountId>, Unavailable> {
        self.ask(origin, |reply| Request::OwnerOfRefresh { token, reply }).await?
    }

    /// Whom a refresh token speaks for when its session is to be ended, whether it was replaced or not. No use of the session.
    pub async fn holder_of_refresh(&self, token: Secret, origin: Origin) -> Result<Principal, RefreshError> {
        self.ask(origin, |reply| Request::HolderOfRefresh { token, reply }).await?
    }

    /// The same for somebody who said who they are already: nothing is counted against their address. `None` if the token is
    /// not good.
    pub async fn look_at_refresh(&self, token: Secret, origin: Origin) -> Result<Option<Principal>, Unavailable> {
        self.ask(origin, |reply| Request::LookAtRefresh { token, reply }).await?
    }
}
