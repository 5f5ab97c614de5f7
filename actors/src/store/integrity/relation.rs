//! Checks that two kinds of rows fit each other, in memory that does not grow with the rows.

use aws_lc_rs::digest::{Context, SHA256};

/// Entries that must occur as often on one side as on the other, such as the addresses of the accounts and the index of addresses.
///
/// Each entry counts as a number that depends on a random salt. The numbers of one side are added and those of the other subtracted.
/// The sum is zero if the sides are equal, and otherwise zero only by chance: nobody who does not know the salt can choose entries
/// that cancel out.
#[derive(Debug, Default)]
pub(super) struct Relation {
    sum: [u128; 2],
}

impl Relation {
    /// Counts an entry of the one side.
    pub(super) fn add(&mut self, salt: &[u8; 32], parts: &[&[u8]]) {
        for (sum, number) in self.sum.iter_mut().zip(numbers(salt, parts)) {
            *sum = sum.wrapping_add(number);
        }
    }

    /// Counts an entry of the other side.
    pub(super) fn subtract(&mut self, salt: &[u8; 32], parts: &[&[u8]]) {
        for (sum, number) in self.sum.iter_mut().zip(numbers(salt, parts)) {
            *sum = sum.wrapping_sub(number);
        }
    }

    /// Returns whether both sides have the same entries.
    pub(super) fn fits(&self) -> bool {
        self.sum == [0, 0]
    }
}

fn numbers(salt: &[u8; 32], parts: &[&[u8]]) -> [u128; 2] {
    let mut digest = Context::new(&SHA256);
    digest.update(salt);
    for part in parts {
        digest.update(&(part.len() as u64).to_be_bytes());
        digest.update(part);
    }
    let digest = digest.finish();
    let (first, rest) = digest.as_ref().split_at(16);
    // A SHA-256 digest has 32 bytes.
    [first, rest].map(|half| half.iter().fold(0, |number, byte| number << 8 | u128::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_sides_fit_in_any_order_and_others_do_not() {
        let salt = [5; 32];
        let entries: [&[&[u8]]; 3] = [&[b"a", b"1"], &[b"b", b"2"], &[b"a", b"1"]];
        let mut relation = Relation::default();
        for entry in entries {
            relation.add(&salt, entry);
        }
        relation.subtract(&salt, entries[1]);
        relation.subtract(&salt, entries[0]);
        assert!(!relation.fits(), "one is missing");
        relation.subtract(&salt, &[b"a1"]);
        assert!(!relation.fits(), "parts have their bounds");
        relation.add(&salt, &[b"a1"]);
        relation.subtract(&salt, entries[2]);
        assert!(relation.fits());
    }
}
