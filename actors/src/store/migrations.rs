//! Migrations from the layout in which rows were written to the layout of this version.
//!
//! | layout | what is new                                                                                                  |
//! | ------ | ------------------------------------------------------------------------------------------------------------ |
//! | 2      | tokens, mails and addresses of sign-ins; accounts of a second version                                        |
//! | 3      | accounts of a third version, which say whether the password is known to be compromised; audit records to match |
//! | 4      | audit records carry the hash of the one before, and have an index by subject                                 |
//! | 5      | sessions of a second version, which can be labelled and remembered, and their refresh tokens                 |
//! | 6      | newer versions of sessions, accounts, one-time tokens and mails; counts of mails                             |
//!
//! Records of older versions stay as they are until they change, so most layouts need no work.
//! The layout number alone keeps older programs from opening rows that they cannot read.

use super::engine::{Fault, View};
use super::transaction::Transaction;
use super::{layout, rules};

/// The layout that this version writes.
pub const CURRENT: u32 = 6;

/// The progress after a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// The rows have the current layout.
    Done,
    /// The caller commits what was written and calls again. A kill between two calls does no harm.
    More,
}

/// Why rows cannot be migrated to the current layout.
#[derive(Debug, thiserror::Error)]
pub enum MigrationError {
    /// A newer version of this program wrote them.
    #[error("layout {0} is newer than {CURRENT}")]
    Newer(u32),
    /// This program did not write them.
    #[error("{0}")]
    Corrupt(&'static str),
    /// They could not be read or written.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// A bounded part of the work from one layout to the next.
type Step = fn(&mut Transaction<'_>) -> Result<Progress, Fault>;

/// The layouts that need work before the next one, with that work. A released step is never changed.
const STEPS: &[(u32, Step)] =
    &[(3, |tx| Ok(if rules::chain_unchained(tx)? { Progress::More } else { Progress::Done }))];

/// Returns the layout of the rows. `None` if there are none yet.
pub fn layout_of(view: &dyn super::engine::Rows) -> Result<Option<u32>, MigrationError> {
    let Some(stored) = view.get_raw(layout::FORMAT_VERSION)? else {
        // A kill between the first open and the first write leaves an empty store, which counts as new.
        let (from, to) = (std::ops::Bound::Unbounded, std::ops::Bound::Unbounded);
        let is_empty = view.range_raw(from, to, 1)?.is_empty();
        return if is_empty { Ok(None) } else { Err(MigrationError::Corrupt("it has records but no layout version")) };
    };
    let stored: [u8; 4] =
        stored.try_into().map_err(|_| MigrationError::Corrupt("its layout version is not four bytes"))?;
    match u32::from_be_bytes(stored) {
        0 => Err(MigrationError::Corrupt("its layout version is zero")),
        found if found > CURRENT => Err(MigrationError::Newer(found)),
        found => Ok(Some(found)),
    }
}

/// Makes one step towards the current layout. The caller commits what it wrote and calls it again until it returns
/// [`Done`](Progress::Done).
pub fn step(view: &mut dyn View) -> Result<Progress, MigrationError> {
    run(view, STEPS)
}

fn run(view: &mut dyn View, steps: &[(u32, Step)]) -> Result<Progress, MigrationError> {
    let mut next = CURRENT;
    match layout_of(view.as_rows())? {
        Some(CURRENT) => return Ok(Progress::Done),
        Some(found) => {
            tracing::info!(from = found, "migrating the data directory");
            if let Some((_, step)) = steps.iter().find(|(from, _)| *from == found)
                && step(&mut Transaction::new(view, u64::MAX))? == Progress::More
            {
                return Ok(Progress::More);
            }
            next = found + 1;
        }
        None => {}
    }
    view.put_raw(layout::FORMAT_VERSION, next.to_be_bytes().to_vec());
    Ok(if next == CURRENT { Progress::Done } else { Progress::More })
}

#[cfg(test)]
mod tests {
    use super::super::engine::Rows as _;
    use super::super::engine::memory::MemoryRows;
    use super::super::overlay::Overlay;
    use super::*;

    /// Runs steps until they are done, each in a commit of its own. Returns the number of commits.
    fn migrate(rows: &mut MemoryRows, steps: &[(u32, Step)]) -> Result<usize, MigrationError> {
        for commits in 1.. {
            let mut overlay = Overlay::new(rows);
            let progress = run(&mut overlay, steps)?;
            overlay.keep();
            for (key, value) in overlay.into_writes() {
                match value {
                    Some(value) => rows.insert(key, value),
                    None => rows.remove(&key),
                };
            }
            if progress == Progress::Done {
                return Ok(commits);
            }
        }
        unreachable!("the loop has no end")
    }

    fn of_layout(version: u32) -> MemoryRows {
        [(layout::FORMAT_VERSION.to_vec(), version.to_be_bytes().to_vec())].into()
    }

    /// Doubles one value, then asks to be called again.
    fn double_one(tx: &mut Transaction<'_>) -> Result<Progress, Fault> {
        let old = tx.scan(b"old.")?;
        let Some((key, value)) = old.first() else { return Ok(Progress::Done) };
        tx.remove(key);
        tx.put_raw(&[b"new.", &key[4..]].concat(), value.repeat(2));
        Ok(if old.len() > 1 { Progress::More } else { Progress::Done })
    }

    fn fail(tx: &mut Transaction<'_>) -> Result<Progress, Fault> {
        tx.put_raw(b"half", b"done".to_vec());
        Err(Fault::Engine("a test".to_owned()))
    }

    #[test]
    fn each_step_runs_until_it_is_done_and_once() {
        let mut rows = of_layout(CURRENT - 2);
        rows.insert(b"old.a".to_vec(), b"x".to_vec());
        rows.insert(b"old.b".to_vec(), b"y".to_vec());
        let steps: &[(u32, Step)] = &[(CURRENT - 2, double_one)];
        assert_eq!(migrate(&mut rows, steps).unwrap(), 3);
        assert_eq!(migrate(&mut rows, steps).unwrap(), 1);
        assert_eq!(rows.get_raw(b"new.a").unwrap().unwrap(), b"xx");
        assert_eq!(rows.get_raw(b"new.b").unwrap().unwrap(), b"yy");
        assert_eq!(layout_of(&rows).unwrap(), Some(CURRENT));
    }

    #[test]
    fn a_step_that_fails_leaves_the_layout_before_it() {
        let mut rows = of_layout(CURRENT - 2);
        migrate(&mut rows, &[(CURRENT - 1, fail)]).unwrap_err();
        assert_eq!(layout_of(&rows).unwrap(), Some(CURRENT - 1));
        assert!(!rows.has(b"half").unwrap());
    }

    #[test]
    fn a_newer_and_a_missing_layout_are_refused() {
        assert!(
            matches!(migrate(&mut of_layout(CURRENT + 1), &[]), Err(MigrationError::Newer(found)) if found == CURRENT + 1)
        );
        assert!(matches!(migrate(&mut of_layout(0), &[]), Err(MigrationError::Corrupt(_))));
        let mut rows = MemoryRows::from([(b"some".to_vec(), b"record".to_vec())]);
        assert!(matches!(migrate(&mut rows, &[]), Err(MigrationError::Corrupt(_))));
        rows.insert(layout::FORMAT_VERSION.to_vec(), vec![1]);
        assert!(matches!(migrate(&mut rows, &[]), Err(MigrationError::Corrupt(_))));
        let mut none = MemoryRows::new();
        assert_eq!(migrate(&mut none, &[]).unwrap(), 1);
        assert_eq!(layout_of(&none).unwrap(), Some(CURRENT));
    }
}
