//! The feed: what commits changed, in their order, for caches of the store.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::engine::{Fault, Rows};
use super::layout::{self, Touched};
use super::reads;

/// The number of commits kept for readers that are behind. A reader that is further behind reads the store anew.
const KEPT_COMMITS: usize = 4096;

/// The rows that one commit changed.
pub type Touches = Arc<[Touched]>;

/// The commits of this process's engine, numbered without gaps from the first that it made or saw.
#[derive(Debug)]
pub struct Feed {
    commits: Mutex<Commits>,
    /// The number of the last commit that began, readable without a lock.
    last: AtomicU64,
    /// The number of the last durable commit.
    settled: AtomicU64,
    audit_head: watch::Sender<u64>,
    revocation_head: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Commits {
    /// The number of the last commit.
    last: u64,
    /// The changes of the newest commits, the oldest first.
    newest: VecDeque<Touches>,
}

/// A commit that has begun.
#[derive(Debug)]
pub struct Begun {
    number: u64,
    heads: layout::Heads,
}

/// A reader is too far behind: the feed no longer has commits that it has not read. It must discard what it knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Behind {
    /// The position at which it may then continue.
    pub position: u64,
}

impl Feed {
    /// Creates a feed that begins now, over these rows.
    pub fn over(rows: &dyn Rows) -> Result<Self, Fault> {
        Ok(Self::new(
            reads::counter(rows, layout::LAST_AUDIT_SEQUENCE)?,
            reads::counter(rows, layout::LAST_REVOCATION)?,
        ))
    }

    /// Creates a feed that begins now, over logs that end with these numbers.
    #[must_use]
    pub(crate) fn new(audit_head: u64, revocation_head: u64) -> Self {
        Self {
            commits: Mutex::default(),
            last: AtomicU64::new(0),
            settled: AtomicU64::new(0),
            audit_head: watch::Sender::new(audit_head),
            revocation_head: watch::Sender::new(revocation_head),
        }
    }

    /// Announces a commit by the rows that it is about to write. `None` removes a row.
    /// Called in the order of the commits, before any reader can see what the commit writes.
    #[must_use]
    pub fn begin<'a>(&self, rows: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>) -> Begun {
        let (mut touched, mut heads) = (Vec::new(), layout::Heads::default());
        for (key, value) in rows {
            touched.extend(layout::touched(key));
            heads.note(key, value);
        }
        touched.sort_unstable();
        touched.dedup();
        let mut commits = self.lock();
        commits.last += 1;
        if commits.newest.len() == KEPT_COMMITS {
            commits.newest.pop_front();
        }
        commits.newest.push_back(touched.into());
        self.last.store(commits.last, Ordering::Release);
        Begun { number: commits.last, heads }
    }

    /// Announces that a commit is durable and visible to readers.
    pub fn finish(&self, Begun { number, heads }: Begun) {
        self.settled.fetch_max(number, Ordering::AcqRel);
        for (head, told) in [(heads.audit, &self.audit_head), (heads.revocations, &self.revocation_head)] {
            if let Some(last) = head {
                told.send_if_modified(|head| std::mem::replace(head, last) != last);
            }
        }
    }

    /// Returns the number of the last commit that began. Until it has [settled](Self::settled),
    /// one reader may see the rows before it and another the rows after it.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.last.load(Ordering::Acquire)
    }

    /// Returns the number of the last durable commit. What is read after this call is not older than that commit.
    #[must_use]
    pub fn settled(&self) -> u64 {
        self.settled.load(Ordering::Acquire)
    }

    /// Returns the changes of the commits after this one, with the number of the last of them.
    ///
    /// # Errors
    /// [`Behind`] if some of them are no longer kept.
    pub fn after(&self, position: u64) -> Result<(u64, Vec<Touches>), Behind> {
        let commits = self.lock();
        let missed = commits.last.saturating_sub(position);
        match usize::try_from(missed).ok().and_then(|missed| commits.newest.len().checked_sub(missed)) {
            Some(first) => Ok((commits.last, commits.newest.range(first..).cloned().collect())),
            None => Err(Behind { position: commits.last }),
        }
    }

    /// Returns a watch on the number of the newest durable audit record. 0 if there never was one.
    #[must_use]
    pub fn audit_head(&self) -> watch::Receiver<u64> {
        self.audit_head.subscribe()
    }

    /// Returns a watch on the number of the newest durable revocation. 0 if there never was one.
    #[must_use]
    pub fn revocation_head(&self) -> watch::Receiver<u64> {
        self.revocation_head.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, Commits> {
        self.commits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
