//! The view of a rule: typed records instead of bytes.

use std::ops::Bound;

use super::codec::{self, Record};
use super::engine::{Fault, Row, Rows, View};
use super::reads;

/// Why a change was not made.
#[derive(Debug)]
pub(crate) enum Abort<R> {
    /// A rule refused it.
    Refused(R),
    /// The change could not be evaluated.
    Fault(Fault),
}

impl<R, F: Into<Fault>> From<F> for Abort<R> {
    fn from(fault: F) -> Self {
        Self::Fault(fault.into())
    }
}

/// The rows that a change reads and writes.
pub(crate) struct Transaction<'a> {
    view: &'a mut dyn View,
    /// The maximum size of the audit log, in bytes. Each change that exceeds it removes the oldest records.
    audit_max_bytes: u64,
}

impl<'a> Transaction<'a> {
    /// Creates a transaction over a view.
    pub(crate) fn new(view: &'a mut dyn View, audit_max_bytes: u64) -> Self {
        Self { view, audit_max_bytes }
    }

    /// Returns the maximum size of the audit log, in bytes.
    pub(crate) fn audit_max_bytes(&self) -> u64 {
        self.audit_max_bytes
    }

    /// Returns the rows for reading.
    pub(crate) fn rows(&self) -> &dyn Rows {
        self.view.as_rows()
    }

    /// Returns the bytes under a key.
    pub(crate) fn get_raw(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Fault> {
        self.view.get_raw(key)
    }

    /// Returns the record under a key.
    pub(crate) fn get<R: Record>(&self, key: &[u8]) -> Result<Option<R>, Fault> {
        reads::get(self.rows(), key)
    }

    /// Returns a counter. 0 until it is first written.
    pub(crate) fn counter(&self, key: &[u8]) -> Result<u64, Fault> {
        reads::counter(self.rows(), key)
    }

    /// Returns whether there is a record under a key.
    pub(crate) fn has(&self, key: &[u8]) -> Result<bool, Fault> {
        self.view.has(key)
    }

    /// Returns the rows whose keys begin with `prefix`, in the order of their keys.
    pub(crate) fn scan(&self, prefix: &[u8]) -> Result<Vec<Row>, Fault> {
        reads::walk_prefix(self.rows(), prefix).collect()
    }

    /// Returns at most `limit` keys from `first` up to, but not including, `end`.
    pub(crate) fn keys(&self, first: &[u8], end: &[u8], limit: usize) -> Result<Vec<Vec<u8>>, Fault> {
        let rows = self.view.range_raw(Bound::Included(first), Bound::Excluded(end), limit)?;
        Ok(rows.into_iter().map(|(key, _)| key).collect())
    }

    /// Puts bytes under a key.
    pub(crate) fn put_raw(&mut self, key: &[u8], value: Vec<u8>) {
        self.view.put_raw(key, value);
    }

    /// Puts a record under a key.
    pub(crate) fn put<R: Record>(&mut self, key: &[u8], record: &R) -> Result<(), Fault> {
        let value = codec::encode(record)?;
        self.put_raw(key, value);
        Ok(())
    }

    /// Removes the value under a key, if there is one.
    pub(crate) fn remove(&mut self, key: &[u8]) {
        self.view.remove(key);
    }
}
