//! Uses of refresh tokens as steps of the model, mostly of existing sessions and of tokens that were valid once.

use std::net::IpAddr;
use std::time::Duration;

use doorward_actors::store::{Effects, RefreshUse, ShardOf};
use doorward_actors::testing::RefreshChain;
use doorward_actors::{AccountId, AuditRecord, MailKind, Origin, SessionId};
use proptest::prelude::*;

use crate::model::answer;
use crate::subject::Subject;
use crate::{at, id, mail, sign_in};

/// The number of refresh tokens of a session.
pub(crate) const CHAIN: usize = 5;
/// Some uses are closer together than this.
const GRACE: Duration = Duration::from_hours(20);

/// A use of a refresh token.
#[derive(Debug, Clone)]
pub(crate) struct Use {
    whose: Whose,
    shows: Shown,
    now: i64,
}

/// The session of a presented token.
#[derive(Debug, Clone, Copy)]
enum Whose {
    /// Any session, which may not exist.
    Any(u64, u8),
    /// One of the existing sessions.
    Stored(usize),
}

/// The presented token.
#[derive(Debug, Clone, Copy)]
enum Shown {
    /// The token with this number, independent of the current one.
    Number(usize),
    /// The token that is this much older than the current one.
    Behind(usize),
}

pub(crate) fn step() -> impl Strategy<Value = Use> {
    let one = (1_u64..6, 1_u8..5).prop_map(|(account, name)| Whose::Any(account, name));
    let whose = prop_oneof![1 => one, 3 => (0_usize..4).prop_map(Whose::Stored)];
    let shows = prop_oneof![1 => (0..CHAIN).prop_map(Shown::Number), 3 => (0_usize..3).prop_map(Shown::Behind)];
    (whose, shows, 0_i64..100).prop_map(|(whose, shows, now)| Use { whose, shows, now })
}

async fn find(store: &dyn Subject, whose: Whose) -> (AccountId, SessionId) {
    match whose {
        Whose::Any(account, name) => (id(account), SessionId::from_bytes([name; 16])),
        Whose::Stored(n) => {
            let mut stored = store.sessions(ShardOf { index: 0, of: 1 }).await.unwrap();
            stored.sort_by_key(|session| (session.account, session.id));
            let found = stored.get(n % stored.len().max(1));
            found.map_or((id(1), SessionId::from_bytes([1; 16])), |session| (session.account, session.id))
        }
    }
}

pub(crate) async fn run(store: &dyn Subject, used: &Use, audit: AuditRecord) -> String {
    let Use { whose, shows, now } = *used;
    let (account, session) = find(store, whose).await;
    let family = store.refresh_family(account, session).await.unwrap();
    let present = family.map_or(0, |family| usize::try_from(family.generation).unwrap());
    let generation = match shows {
        Shown::Number(number) => number,
        Shown::Behind(behind) => present.saturating_sub(behind).min(CHAIN - 1),
    };
    let (proof, successor) = RefreshChain::begin(account, session, CHAIN).presented(generation);
    let on_reuse = Effects { mails: vec![mail(MailKind::RefreshReused, now)], ..audit.into() };
    // From one of a few networks, or without an address.
    let from = (now % 4 > 0).then(|| IpAddr::from([192, 0, 2, u8::try_from(now % 4).unwrap()]));
    let origin = Origin { address: from, ..Origin::default() };
    // Times are hours, so that some notices fall within the pause after another and some after it.
    let now = at(now * 3_600_000);
    let used = RefreshUse { proof, successor, now, grace: GRACE, origin, sign_in: from.map(sign_in), on_reuse };
    let answer = answer(store.rotate_refresh(used).await);
    let family = store.refresh_family(account, session).await.unwrap();
    format!("{answer}, left: {:?}", family.map(|family| (family.generation, family.current, family.replaced_at)))
}
