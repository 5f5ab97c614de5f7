//! The storage engines that keep the rows of the store.

pub mod sled;
