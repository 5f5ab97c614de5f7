//! What the store keeps about one account, for its owner.

use std::net::IpAddr;

use super::{ActingRefusal, Store, StoreError, StoreFailure, UsedToken, reads, rules};
use crate::domain::account::{Account, AccountId};
use crate::domain::audit::AuditRecord;
use crate::domain::one_time::TokenPurpose;
use crate::domain::outbox::QueuedMail;
use crate::domain::session::Acting;
use crate::domain::time::Timestamp;

/// What the store keeps about an account beside its sessions and its audit records.
#[derive(Debug, Clone)]
pub struct PersonalData {
    /// The account.
    pub account: Account,
    /// The last activity of its ended sessions.
    pub last_active_at: Option<Timestamp>,
    /// The networks from which it was logged in to, each with the time of the last login. At most 32.
    pub networks: Vec<(IpAddr, Timestamp)>,
    /// The one-time tokens that it has.
    pub links: Vec<OpenLink>,
    /// The last used one-time token of each purpose.
    pub used_links: Vec<UsedToken>,
    /// The mails that wait to be sent and go away with the account.
    pub mails: Vec<QueuedMail>,
}

/// A one-time token without the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenLink {
    /// What it is for.
    pub purpose: TokenPurpose,
    /// When it was issued.
    pub issued_at: Timestamp,
    /// When it expires. It may have expired.
    pub expires_at: Timestamp,
}

impl Store {
    /// Returns what is kept about an account. Skips mails that cannot be read.
    pub async fn personal_data(&self, account: AccountId) -> Result<Option<PersonalData>, StoreFailure> {
        self.ask(move |rows| reads::personal::data(rows, account)).await
    }

    /// Appends an audit record durably, if its session may act.
    pub async fn append_audit_as(&self, acting: Acting, audit: AuditRecord) -> Result<(), StoreError<ActingRefusal>> {
        self.change(move |tx| rules::append_audit_as(tx, acting, &audit)).await
    }
}
