//! What is kept about one account.

use super::super::codec;
use super::super::engine::{Fault, Rows};
use super::super::layout;
use super::super::personal::{OpenLink, PersonalData};
use super::super::requests::{StoredToken, UsedToken};
use super::{get, readable, walk_prefix};
use crate::domain::account::{Account, AccountId};
use crate::domain::one_time::TokenHash;
use crate::domain::outbox::{MailId, QueuedMail};

pub(crate) fn data(rows: &dyn Rows, id: AccountId) -> Result<Option<PersonalData>, Fault> {
    let Some(account) = get::<Account>(rows, &layout::account(id))? else { return Ok(None) };
    let (mut networks, mut links, mut used_links, mut mails) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for row in walk_prefix(rows, &layout::all_known(id)) {
        let (key, at) = row?;
        if let Some(from) = layout::address_of_known(&key) {
            networks.push((from, codec::decode(&at)?));
        }
    }
    for prefix in [layout::tokens_of(id), layout::undos_of(id)] {
        for row in walk_prefix(rows, &prefix) {
            let hash = codec::decode::<TokenHash>(&row?.1)?;
            // It may have been used between the two look-ups.
            if let Some(StoredToken { token, .. }) = get(rows, &layout::token(&hash))? {
                links.push(OpenLink {
                    purpose: token.purpose,
                    issued_at: token.issued_at,
                    expires_at: token.expires_at,
                });
            }
        }
    }
    for row in walk_prefix(rows, &layout::used_tokens_of(id)) {
        let hash = codec::decode::<TokenHash>(&row?.1)?;
        used_links.extend(get::<UsedToken>(rows, &layout::used_token(&hash))?);
    }
    for row in walk_prefix(rows, &layout::mails_of(id)) {
        let mail = codec::decode::<MailId>(&row?.1)?;
        mails.extend(readable(get::<QueuedMail>(rows, &layout::mail(mail)))?.flatten());
    }
    let last_active_at = get(rows, &layout::activity(id))?;
    Ok(Some(PersonalData { account, last_active_at, networks, links, used_links, mails }))
}
