//! What commits changed, in their order, for those who keep something of the store in memory.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

use super::engine::{Fault, Rows};
use super::layout::{self, Touched};
use super::reads;

/// How many commits are kept for readers that are behind. One that is further behind reads the store anew.
const KEPT_COMMITS: usize = 4096;

/// What one commit changed.
pub type Touches = Arc<[Touched]>;

/// The commits of this process's engine, numbered without gaps from the first that it saw.
#[derive(Debug)]
pub struct Feed {
    commits: Mutex<Commits>,
    /// The number of the last commit that began, to look at without a lock.
    last: AtomicU64,
    /// The number of the last commit that is durable.
    settled: AtomicU64,
    audit_head: watch::Sender<u64>,
    revocation_head: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Commits {
    /// The number of the last one.
    last: u64,
    /// What the newest ones changed, the oldest first.
    newest: VecDeque<Touches>,
}

/// A commit that began.
#[derive(Debug)]
pub struct Begun {
    number: u64,
    heads: layout::Heads,
}

/// A reader is so far behind that commits are no longer kept which it has not read: it must forget what it knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Behind {
    /// The position from which it may go on then.
    pub position: u64,
}

impl Feed {
    /// A feed that begins now, over these rows.
    pub fn over(rows: &dyn Rows) -> Result<Self, Fault> {
        Ok(Self::new(
            reads::counter(rows, layout::LAST_AUDIT_SEQUENCE)?,
            reads::counter(rows, layout::LAST_REVOCATION)?,
        ))
    }

    /// A feed that begins now, over logs that end with these numbers.
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

    /// Tells of a commit by the rows that it is about to write; `None` removes one. Called in the order of the commits, before any
    /// reader can see what this one writes.
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

    /// Tells that a commit is durable. What it wrote is what readers see.
    pub fn finish(&self, Begun { number, heads }: Begun) {
        self.settled.fetch_max(number, Ordering::AcqRel);
        for (head, told) in [(heads.audit, &self.audit_head), (heads.revocations, &self.revocation_head)] {
            if let Some(last) = head {
                told.send_if_modified(|head| std::mem::replace(head, last) != last);
            }
        }
    }

    /// The number of the last commit that began. Until it has [settled](Self::settled), one reader may see what was before it and
    /// another what it wrote.
    #[must_use]
    pub fn position(&self) -> u64 {
        self.last.load(Ordering::Acquire)
    }

    /// The number of the last commit that is durable. What is read after this is not of before that commit.
    #[must_use]
    pub fn settled(&self) -> u64 {
        self.settled.load(Ordering::Acquire)
    }

    /// What the commits after this one changed, with the number of the last of them.
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

    /// The number of the newest durable audit record, as it grows. 0 when there never was one.
    #[must_use]
    pub fn audit_head(&self) -> watch::Receiver<u64> {
        self.audit_head.subscribe()
    }

    /// The number of the newest durable revocation, as it grows. 0 when there never was one.
    #[must_use]
    pub fn revocation_head(&self) -> watch::Receiver<u64> {
        self.revocation_head.subscribe()
    }

    fn lock(&self) -> MutexGuard<'_, Commits> {
        self.commits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
