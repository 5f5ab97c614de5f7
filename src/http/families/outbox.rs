//! `/outbox`: the mails that wait to be sent, and the dead letters. The content of a mail and the token of its link are
//! never shown (S24).

use doorward_actors::MailId;
use serde::Serialize;
use utoipa::ToSchema;
use warp::reply::Response;

use crate::http::Api;
use crate::http::edge::extract::{RequestContext, json_reply, mail_id, no_content};
use crate::http::error::{ApiError, FieldError};
use crate::http::form;
use crate::http::routes::{Access, Class, RouteInfo};
use crate::http::shown::mail::Mail;
use crate::http::wire::Message;

/// How many mails a page has if the request does not say.
const DEFAULT_LIMIT: usize = 100;
/// The most mails of a page: with 300 bytes of reason each, the body stays under a megabyte.
const MAX_LIMIT: usize = 1000;

/// A page of mails, ordered by number.
#[derive(Serialize, ToSchema)]
struct Outbox<'a> {
    mails: Vec<Mail<'a>>,
    /// The value of `cursor` for the next page; null on the last one.
    next: Option<String>,
}

pub(in crate::http) fn routes() -> Vec<RouteInfo> {
    vec![
        RouteInfo::new(__path_list, Access::Admin, Class::Admin, |api, context| Box::pin(list(api, context))),
        RouteInfo::new(__path_retry, Access::Admin, Class::Admin, |api, context| Box::pin(retry(api, context))),
        RouteInfo::new(__path_delete, Access::Admin, Class::Admin, |api, context| Box::pin(delete(api, context))),
    ]
}

/// List the mails that have not been sent yet
#[utoipa::path(get, path = "/outbox/", operation_id = "list_mails", tag = "Administration",
    params(
    ("limit" = Option<u64>, Query, minimum = 1, maximum = 1000, description = "How many to return (100), 1 to 1,000"),
    ("cursor" = Option<String>, Query, pattern = "^[1-9][0-9]{0,17}$", description = "`next` of the page before"),
), responses(
    (status = 200, description = "The mails", body = Outbox<'_>),
    (status = 422, description = "`limit` or `cursor` is not possible"),
))]
async fn list(api: &Api, context: &RequestContext) -> Result<Response, ApiError> {
    api.admin(context).await?;
    let (after, limit) = page(context.query())?;
    // One more than asked for shows whether there is another page.
    let mut mails = api.handles.mailer.list(after, limit + 1).await?;
    let more = mails.len() > limit;
    mails.truncate(limit);
    let next = mails.last().filter(|_| more).map(|last| last.id.to_string());
    Ok(json_reply(&Outbox { mails: mails.iter().map(Mail::of).collect(), next }))
}

/// Try a mail again at once
///
/// Its attempts are counted from zero, so a dead mail is tried again.
#[utoipa::path(post, path = "/outbox/{id}/retry", operation_id = "retry_mail", tag = "Administration",
    params(
    ("id" = i64, Path, description = "The number of the mail"),
), responses(
    (status = 200, description = "It is queued", body = Message),
    (status = 404, description = "No such mail; it may have been sent"),
    (status = 422, description = "The id is not an integer"),
))]
async fn retry(api: &Api, context: &RequestContext) -> Result<Response, ApiError> {
    let id = context.param("id");
    let admin = api.admin(context).await?;
    let id = mail_id(id)?;
    match api.handles.mailer.retry(&admin, id, context.origin()).await {
        Ok(true) => Ok(json_reply(&Message::new(format!("Mail {id} will be tried again now")))),
        Ok(false) => Err(ApiError::UnknownMail(id.to_string())),
        Err(error) => Err(api.not_done(context, error).await),
    }
}

/// Delete a mail without sending it
#[utoipa::path(delete, path = "/outbox/{id}", operation_id = "delete_mail", tag = "Administration",
    params(
    ("id" = i64, Path, description = "The number of the mail"),
), responses(
    (status = 204, description = "It is gone"),
    (status = 404, description = "No such mail; it may have been sent"),
    (status = 422, description = "The id is not an integer"),
))]
async fn delete(api: &Api, context: &RequestContext) -> Result<Response, ApiError> {
    let id = context.param("id");
    let admin = api.admin(context).await?;
    let id = mail_id(id)?;
    match api.handles.mailer.delete(&admin, id, context.origin()).await {
        Ok(true) => Ok(no_content()),
        Ok(false) => Err(ApiError::UnknownMail(id.to_string())),
        Err(error) => Err(api.not_done(context, error).await),
    }
}

/// Reads `cursor` and `limit`. Ignores other parameters. Clients must treat a cursor as opaque; it is the number of the last
/// mail of the previous page.
fn page(query: Option<&str>) -> Result<(Option<MailId>, usize), ApiError> {
    let fields = form::parse(query.unwrap_or_default().as_bytes())?;
    let mut errors = Vec::new();
    let after = fields.get("cursor").and_then(|cursor| {
        let after = cursor.parse().ok().and_then(MailId::new);
        if after.is_none() {
            errors.push(FieldError::new("?cursor", "This is no cursor of this list"));
        }
        after
    });
    let limit = fields.get("limit").map_or(Ok(DEFAULT_LIMIT), |limit| limit.parse()).unwrap_or_default();
    if !(1..=MAX_LIMIT).contains(&limit) {
        errors.push(FieldError::new("?limit", "This must be an integer from 1 to 1000"));
    }
    if errors.is_empty() { Ok((after, limit)) } else { Err(ApiError::Invalid(errors)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_its_bounds() {
        let read = |query: &str| page(Some(query)).ok();
        assert_eq!(page(None).unwrap(), (None, 100));
        assert_eq!(read("cursor=7&limit=1000&x=y"), Some((MailId::new(7), 1000)));
        for bad in [
            "limit=0",
            "limit=1001",
            "limit=x",
            "limit=-1",
            "limit",
            "cursor=",
            "cursor=0",
            "cursor=x",
            "cursor=-1",
            "limit=1&limit=2",
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
    }
}
