//! Links of mails that were used, for the families whose pages they open.

use doorward_actors::{Secret, TokenPurpose, UsedLink};
use warp::reply::Response;

use crate::http::error::ApiError;
use crate::http::{Api, pages};

/// Answers a link that is no longer valid, with a page that says what it did if it was used.
pub(super) async fn opened_again(api: &Api, token: &Secret, purposes: &[TokenPurpose]) -> Result<Response, ApiError> {
    let link = used_link(api, token, purposes).await?;
    Ok(pages::used(link.locale, &link))
}

/// Returns what a used link did. The error is the same for a link that was never used and for a link of another page.
pub(super) async fn used_link(api: &Api, token: &Secret, purposes: &[TokenPurpose]) -> Result<UsedLink, ApiError> {
    let link = api.handles.users.used_link(token.expose()).await?;
    link.filter(|link| purposes.contains(&link.purpose)).ok_or(ApiError::BAD_TOKEN)
}
