//! Queries of the audit log.

use doorward_actors::{AuditActorFilter, AuditEvent, AuditFilter, AuditOrder, AuditOutcome, AuditQuery};

use crate::subject::Subject;
use crate::{at, id};

/// A query of each kind.
pub(crate) fn filters() -> Vec<AuditFilter> {
    let none = AuditFilter::default;
    vec![
        none(),
        AuditFilter { subject: Some(id(1)), ..none() },
        AuditFilter { subject: Some(id(2)), from: Some(at(10)), to: Some(at(40)), ..none() },
        AuditFilter { subject: Some(id(99)), ..none() },
        AuditFilter { actor: AuditActorFilter::parse("system"), event: Some(AuditEvent::AccountUpdated), ..none() },
        AuditFilter { event: Some(AuditEvent::Login), ..none() },
        AuditFilter { from: Some(at(DAYS_3)), outcome: Some(AuditOutcome::Success), ..none() },
        AuditFilter { to: Some(at(-DAYS_3)), ..none() },
    ]
}

/// So far from all records that a search does not look at all of them.
pub(crate) const DAYS_3: i64 = 3 * 24 * 60 * 60 * 1000;

/// Returns all pages of a query.
pub(crate) async fn walk(
    store: &dyn Subject,
    filter: &AuditFilter,
    order: AuditOrder,
    limit: usize,
    scan: usize,
) -> String {
    let (mut pages, mut after) = (Vec::new(), None);
    loop {
        let query = AuditQuery { filter: filter.clone(), order, after, limit, scan };
        let page = store.audit_page(query).await.unwrap();
        pages.push(without_hashes(&format!("{page:?}")));
        if !page.more {
            return pages.concat();
        }
        assert_ne!(page.last, after, "a page that leads nowhere");
        after = page.last;
    }
}

/// Removes the hashes from the text of records. Only the store on disk has them.
pub(crate) fn without_hashes(shown: &str) -> String {
    let mut pieces = shown.split("AuditHash([");
    let mut plain = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        plain.push_str(piece.split_once("])").map_or(piece, |(_, rest)| rest));
    }
    plain
}
