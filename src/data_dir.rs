//! The contents of a data directory besides the database: secrets, signing keys, and their permissions.

pub mod key_files;
pub(crate) mod owner;
pub(crate) mod permissions;
pub mod secrets;
