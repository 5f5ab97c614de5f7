//! A live session as the interface shows it.

use doorward_actors::{Session, SessionId, SessionLabel};
use serde::Serialize;
use utoipa::ToSchema;

/// A live session.
#[derive(Serialize, ToSchema)]
pub(in crate::http) struct SessionObject<'a> {
    /// The id for the other routes. It is not a credential.
    id: String,
    /// The name that its owner gave it; null if none.
    label: Option<&'a str>,
    /// When the login opened it, RFC 3339, UTC.
    #[schema(format = DateTime)]
    created_at: String,
    /// When it was last used, RFC 3339, UTC.
    #[schema(format = DateTime)]
    last_active_at: String,
    /// The address that the login came from.
    address: Option<String>,
    /// The `User-Agent` of the client at the login.
    user_agent: Option<&'a str>,
    /// Whether the request was made in this session.
    current: bool,
}

impl<'a> SessionObject<'a> {
    pub(in crate::http) fn of(session: &'a Session, current: SessionId) -> Self {
        Self {
            id: session.id.to_string(),
            label: session.label.as_ref().map(SessionLabel::as_str),
            created_at: session.created_at.to_rfc3339(),
            last_active_at: session.last_active_at.to_rfc3339(),
            address: session.address.map(|address| address.to_string()),
            user_agent: session.user_agent.as_deref(),
            current: session.id == current,
        }
    }
}
