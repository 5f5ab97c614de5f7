//! The storage engines that keep the rows of the store.

pub mod dry_run;
pub mod sled;
