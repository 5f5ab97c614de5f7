//! From the layout a data directory was written in to the one this version uses.

use super::staging::{Fault, Staging};
use super::{OpenError, changes, keys};

/// The layout this version writes.
pub(super) const CURRENT: u32 = 6;

/// One step: from the layout with this number to the one with the next. What it leaves unwritten is one batch with the new
/// number. A step over many records may write in groups before, if it can go on with what a kill left.
pub(super) type Migration = (u32, fn(&mut Staging<'_>) -> Result<(), Fault>);

/// Every step there is, in order. A released step is never changed, only followed.
pub(super) const STEPS: &[Migration] = &[
    (1, accounts_of_two_versions),
    (2, accounts_of_three_versions),
    (3, a_chained_audit_log),
    (4, sessions_of_two_versions),
    (5, records_of_newer_versions),
];

/// Layout 2 has tokens, mails and known addresses, of which there are none yet, and accounts of a second version. Those of
/// the first stay as they are until they change; only a program that knows no other must no longer open the directory.
#[expect(clippy::unnecessary_wraps, reason = "a step may fail")]
fn accounts_of_two_versions(_: &mut Staging<'_>) -> Result<(), Fault> {
    Ok(())
}

/// Layout 3 has accounts of a third version, which say whether the password is known to be compromised, and audit records that no
/// older program can read. Accounts of older versions stay as they are until they change.
#[expect(clippy::unnecessary_wraps, reason = "a step may fail")]
fn accounts_of_three_versions(_: &mut Staging<'_>) -> Result<(), Fault> {
    Ok(())
}

/// Layout 4 has audit records that carry the hash of the one before, and an index of them by subject.
fn a_chained_audit_log(staging: &mut Staging<'_>) -> Result<(), Fault> {
    changes::chain_unchained(staging)
}

/// Layout 5 has sessions of a second version, which can be labelled and remembered, and their refresh tokens. Those of the first
/// stay as they are until they change, and end with their access token; only a program that knows no other must no longer
/// open the directory.
#[expect(clippy::unnecessary_wraps, reason = "a step may fail")]
fn sessions_of_two_versions(_: &mut Staging<'_>) -> Result<(), Fault> {
    Ok(())
}

/// Layout 6 has sessions of a third version, which say when their owner last proved who they are and was last told of an unknown
/// network; accounts of a fourth version, which may be without password or passphrase; one-time tokens of a second, of
/// which an account may have several; mails of a second, whose links live from when they are handed over; and counts of mails.
/// Records of older versions stay as they are until they change; only a program that knows no other must no longer open the
/// directory.
#[expect(clippy::unnecessary_wraps, reason = "a step may fail")]
fn records_of_newer_versions(_: &mut Staging<'_>) -> Result<(), Fault> {
    Ok(())
}

/// Brings a tree to the layout `current`. A kill leaves it before or after a step, or where the step goes on. The caller
/// flushes.
pub(super) fn run(tree: &sled::Tree, current: u32, steps: &[Migration]) -> Result<(), OpenError> {
    let Some(stored) = tree.get(keys::FORMAT_VERSION)? else {
        // A kill between the first open and this write leaves an empty tree, which is as good as a new one.
        if tree.iter().next().transpose()?.is_some() {
            return Err(OpenError::Corrupt("it has records but no layout version".to_owned()));
        }
        tree.insert(keys::FORMAT_VERSION, &current.to_be_bytes())?;
        return Ok(());
    };
    let mut version = known_version(&stored, current)?;
    while version < current {
        let Some((_, step)) = steps.iter().find(|(from, _)| *from == version) else {
            return Err(OpenError::Corrupt(format!("no way leads from its layout version {version} to {current}")));
        };
        tracing::info!(from = version, "migrating the data directory");
        version += 1;
        let mut staging = Staging::new(tree);
        step(&mut staging)?;
        staging.put_raw(keys::FORMAT_VERSION, version.to_be_bytes().to_vec());
        staging.keep();
        if let Some(batch) = staging.into_batch() {
            tree.apply_batch(batch)?;
        }
    }
    Ok(())
}

/// Fails unless a tree is of the layout that this program writes.
pub(super) fn must_be_current(tree: &sled::Tree) -> Result<(), OpenError> {
    let stored = tree.get(keys::FORMAT_VERSION)?;
    let stored = stored.ok_or_else(|| OpenError::Corrupt("it has no layout version".to_owned()))?;
    let found = known_version(&stored, CURRENT)?;
    if found == CURRENT { Ok(()) } else { Err(OpenError::Older { found, known: CURRENT }) }
}

/// Reads a layout version that is at most `current`.
fn known_version(stored: &[u8], current: u32) -> Result<u32, OpenError> {
    let stored: [u8; 4] =
        stored.try_into().map_err(|_| OpenError::Corrupt("its layout version is not four bytes".to_owned()))?;
    let version = u32::from_be_bytes(stored);
    if version > current { Err(OpenError::Newer { found: version, known: current }) } else { Ok(version) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> (tempfile::TempDir, sled::Db) {
        let dir = tempfile::tempdir().unwrap();
        let db = sled::open(dir.path()).unwrap();
        (dir, db)
    }

    fn rename(staging: &mut Staging<'_>) -> Result<(), Fault> {
        for (key, value) in staging.scan(b"old.")? {
            staging.remove(&key);
            staging.put_raw(&[b"new.", &key[4..]].concat(), value);
        }
        Ok(())
    }

    fn double(staging: &mut Staging<'_>) -> Result<(), Fault> {
        for (key, value) in staging.scan(b"new.")? {
            staging.put_raw(&key, value.repeat(2));
        }
        Ok(())
    }

    fn fail(staging: &mut Staging<'_>) -> Result<(), Fault> {
        staging.put_raw(b"half", b"done".to_vec());
        Err(sled::Error::Unsupported("a test".to_owned()).into())
    }

    #[test]
    fn steps_run_in_order_once_each() {
        let (_dir, db) = tree();
        run(&db, 1, &[]).unwrap();
        db.insert(b"old.a", b"x").unwrap();
        let steps: &[Migration] = &[(1, rename), (2, double)];
        for _ in 0..2 {
            run(&db, 3, steps).unwrap();
            assert_eq!(db.get(b"new.a").unwrap().unwrap(), b"xx");
            assert!(db.get(b"old.a").unwrap().is_none());
            assert_eq!(db.get(keys::FORMAT_VERSION).unwrap().unwrap(), &[0, 0, 0, 3]);
        }
    }

    #[test]
    fn a_step_that_fails_leaves_the_layout_before_it() {
        let (_dir, db) = tree();
        run(&db, 1, &[]).unwrap();
        db.insert(b"old.a", b"x").unwrap();
        run(&db, 3, &[(1, rename), (2, fail)]).unwrap_err();
        assert_eq!(db.get(keys::FORMAT_VERSION).unwrap().unwrap(), &[0, 0, 0, 2]);
        assert!(db.get(b"new.a").unwrap().is_some());
        assert!(db.get(b"half").unwrap().is_none());
    }

    #[test]
    fn a_newer_an_unknown_and_a_missing_layout_are_refused() {
        let (_dir, db) = tree();
        db.insert(b"some", b"record").unwrap();
        assert!(matches!(run(&db, 1, &[]), Err(OpenError::Corrupt(_))));
        db.insert(keys::FORMAT_VERSION, &7_u32.to_be_bytes()).unwrap();
        assert!(matches!(run(&db, 1, &[]), Err(OpenError::Newer { found: 7, known: 1 })));
        assert!(matches!(run(&db, 8, &[]), Err(OpenError::Corrupt(_))));
        db.insert(keys::FORMAT_VERSION, &[1]).unwrap();
        assert!(matches!(run(&db, 1, &[]), Err(OpenError::Corrupt(_))));
    }
}
