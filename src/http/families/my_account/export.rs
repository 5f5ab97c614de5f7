//! `POST /my_account/export`: all that is stored about the caller's account (GDPR, articles 15 and 20).

use std::net::IpAddr;

use doorward_actors::store::{OpenLink, PersonalData, UsedToken};
use doorward_actors::{
    Account, AuditActorFilter, AuditActorKind, AuditFilter, AuditOrder, AuditPage, AuditQuery, AuditRecord, Email,
    Principal, QueuedMail, ReservedEmail, Secret, Session, Timestamp,
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use warp::reply::Response;

use crate::http::Api;
use crate::http::closed_sets;
use crate::http::edge::extract::{RequestContext, json_reply};
use crate::http::error::ApiError;
use crate::http::shown::event::Event;
use crate::http::shown::mail::Mail;
use crate::http::shown::session::SessionObject;
use crate::http::wire::{WireLocale, WireRole, current_password};

/// The most events of each of the two lists. At 600 bytes each at worst, both lists together stay under a megabyte.
const EVENTS: usize = 500;
/// The most records that are examined for each list: some 40 ms of work.
const SCAN: usize = 10_000;

/// Proof for the export: the password, unless the login is recent enough.
#[derive(Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct MyAccountExportRequest {
    /// The caller's current password.
    #[schema(value_type = Option<String>, format = Password)]
    current_password: Option<Secret>,
}

/// All that is stored about an account, except hashes and secrets.
#[derive(Serialize, ToSchema)]
struct MyAccountExport<'a> {
    account: ExportedAccount<'a>,
    /// The live sessions, as in the list of sessions.
    sessions: Vec<SessionObject<'a>>,
    /// The networks from which somebody logged in to the account.
    networks: Vec<KnownNetwork>,
    /// The links in mails that were not used yet, without their tokens.
    links: Vec<Link>,
    /// The last used link of each kind.
    used_links: Vec<UsedLink>,
    /// The mails that wait to be sent.
    mails: Vec<WaitingMail<'a>>,
    /// The newest events of the account, as in its list of events. The first of them is this export.
    events: Vec<Event>,
    /// The value of `cursor` for the rest, at `/my_account/events`; null if this is all.
    events_next: Option<String>,
    /// What the account did as an administrator, the newest first, except to itself.
    administration: Vec<Event>,
    /// The value of `cursor` for the rest, at `/audit/` with `actor`; null if this is all.
    administration_next: Option<String>,
}

/// The account itself.
#[derive(Serialize, ToSchema)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
struct ExportedAccount<'a> {
    #[schema(minimum = 1)]
    id: u64,
    nickname: &'a str,
    #[schema(format = Email)]
    email: &'a str,
    email_verified: bool,
    /// The new address, until it is confirmed by mail.
    #[schema(format = Email)]
    pending_email: Option<&'a str>,
    /// The old address, while the change can be undone.
    #[schema(format = Email)]
    reserved_email: Option<&'a str>,
    /// Until when the change can be undone. RFC 3339, UTC.
    #[schema(format = DateTime)]
    reserved_until: Option<String>,
    customer_account: &'a str,
    role: WireRole,
    /// Whether an administrator locked it.
    lock: bool,
    /// The language of its mails.
    locale: WireLocale,
    /// Who made it.
    #[schema(value_type = closed_sets::AccountOrigin)]
    origin: &'static str,
    has_password: bool,
    has_passphrase: bool,
    /// Whether its password was on the list of breached ones when it was last used.
    password_compromised: bool,
    /// RFC 3339, UTC.
    #[schema(format = DateTime)]
    created_at: String,
    /// The last activity in a session, ended ones included. RFC 3339, UTC.
    #[schema(format = DateTime)]
    last_active_at: Option<String>,
}

/// A network from which somebody logged in.
#[derive(Serialize, ToSchema)]
struct KnownNetwork {
    /// An IPv4 address, or the first address of an IPv6 network.
    address: String,
    /// RFC 3339, UTC.
    #[schema(format = DateTime)]
    last_login_at: String,
}

/// A link in a mail that was not used yet.
#[derive(Serialize, ToSchema)]
struct Link {
    #[schema(value_type = closed_sets::LinkPurpose)]
    purpose: &'static str,
    /// RFC 3339, UTC.
    #[schema(format = DateTime)]
    issued_at: String,
    /// RFC 3339, UTC.
    #[schema(format = DateTime)]
    expires_at: String,
}

/// A link in a mail that was used.
#[derive(Serialize, ToSchema)]
struct UsedLink {
    #[schema(value_type = closed_sets::LinkPurpose)]
    purpose: &'static str,
    /// RFC 3339, UTC.
    #[schema(format = DateTime)]
    used_at: String,
}

/// A mail that waits to be sent, and the new address that it names. It may tell of an administrator's act, so it does not say from where.
#[derive(Serialize, ToSchema)]
struct WaitingMail<'a> {
    #[serde(flatten)]
    mail: Mail<'a>,
    /// The new address that it names.
    #[schema(format = Email)]
    new_address: Option<&'a str>,
}

/// Export all that is stored about my account
///
/// Needs `current_password` or a login within the last few minutes. The answer has no hashes and no secrets. Each list of events has
/// at most 500, and a cursor that leads to the rest.
#[utoipa::path(post, path = "/my_account/export", operation_id = "export_my_account", tag = "Account",
    request_body = Option<MyAccountExportRequest>, responses(
    (status = 200, description = "All that is stored", body = MyAccountExport<'_>),
    (status = 403, description = "Re-authentication needed (RFC 9470)"),
))]
pub(in crate::http) async fn export(api: &Api, context: &RequestContext) -> Result<Response, ApiError> {
    api.user(context).await?;
    let typed: MyAccountExportRequest = context.optional_json().await?.unwrap_or_default();
    // Checked again but not counted again: while the body arrived, the session may have ended (S37, S38).
    let principal = api.authenticate(context).await?;
    let current = current_password(typed.current_password)?;
    let exported = api.handles.users.export_own(&principal, current, context.origin()).await?;
    let data = exported.ok_or(ApiError::Unauthenticated { token_sent: true })?;
    let sessions = api.handles.sessions.list(&data.account).await?;
    let owner = data.account.id;
    let about = AuditFilter { subject: Some(owner), ..AuditFilter::default() };
    let as_admin = AuditActorFilter::One(AuditActorKind::Admin(owner));
    let by = AuditFilter { actor: Some(as_admin), ..AuditFilter::default() };
    let (events, administration) = (newest(api, about).await?, newest(api, by).await?);
    Ok(json_reply(&shown(&principal, &data, &sessions, &events, &administration)))
}

async fn newest(api: &Api, filter: AuditFilter) -> Result<AuditPage, ApiError> {
    let query = AuditQuery { filter, order: AuditOrder::NewestFirst, after: None, limit: EVENTS, scan: SCAN };
    Ok(api.handles.audit.page(query).await?)
}

fn shown<'a>(
    principal: &Principal,
    data: &'a PersonalData,
    sessions: &'a [Session],
    events: &AuditPage,
    administration: &AuditPage,
) -> MyAccountExport<'a> {
    let owner = data.account.id;
    let last_use = sessions.iter().map(|session| session.last_active_at).max();
    let of_owner = |(sequence, record): &(u64, AuditRecord)| Event::for_owner(*sequence, record, owner);
    // What administrators did to their own account is among its events.
    let of_others = administration.entries.iter().filter(|(_, record)| record.subject != Some(owner));
    MyAccountExport {
        account: account(&data.account, data.last_active_at.max(last_use)),
        sessions: sessions.iter().map(|session| SessionObject::of(session, principal.session)).collect(),
        networks: data.networks.iter().map(network).collect(),
        links: data.links.iter().map(link).collect(),
        used_links: data.used_links.iter().map(used_link).collect(),
        mails: data.mails.iter().map(mail).collect(),
        events: events.entries.iter().map(of_owner).collect(),
        events_next: next(events),
        administration: of_others.map(of_owner).collect(),
        administration_next: next(administration),
    }
}

fn account(account: &Account, last_active_at: Option<Timestamp>) -> ExportedAccount<'_> {
    let reserved = account.reserved_email.as_ref();
    ExportedAccount {
        id: account.id.get(),
        nickname: account.nickname.as_str(),
        email: account.email.as_str(),
        email_verified: account.email_verified,
        pending_email: account.pending_email.as_ref().map(Email::as_str),
        reserved_email: reserved.map(|ReservedEmail { email, .. }| email.as_str()),
        reserved_until: reserved.map(|ReservedEmail { until, .. }| until.to_rfc3339()),
        customer_account: account.customer_account.as_str(),
        role: account.role.into(),
        lock: account.locked,
        locale: account.locale.into(),
        origin: account.origin.as_str(),
        has_password: account.password_hash.is_some(),
        has_passphrase: account.passphrase_hash.is_some(),
        password_compromised: account.password_compromised,
        created_at: account.created_at.to_rfc3339(),
        last_active_at: last_active_at.map(Timestamp::to_rfc3339),
    }
}

fn network((address, at): &(IpAddr, Timestamp)) -> KnownNetwork {
    KnownNetwork { address: address.to_string(), last_login_at: at.to_rfc3339() }
}

fn link(link: &OpenLink) -> Link {
    Link {
        purpose: link.purpose.as_str(),
        issued_at: link.issued_at.to_rfc3339(),
        expires_at: link.expires_at.to_rfc3339(),
    }
}

fn used_link(used: &UsedToken) -> UsedLink {
    UsedLink { purpose: used.purpose.as_str(), used_at: used.at.to_rfc3339() }
}

fn mail(queued: &QueuedMail) -> WaitingMail<'_> {
    WaitingMail { mail: Mail::for_owner(queued), new_address: queued.mail.new_address.as_ref().map(Email::as_str) }
}

fn next(page: &AuditPage) -> Option<String> {
    page.last.filter(|_| page.more).map(|last| last.to_string())
}
